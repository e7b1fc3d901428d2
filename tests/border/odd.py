"""What user code may do that an engine would rather not meet.

Each entry of `ODD` is called wherever user code runs. `RAISED` says which type leaves those that
raise; all others return something, do something to what runs beside them, or do not end.
"""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from belugawf import ActivityError
from belugawf.model.errors import CodeInterrupted, RunEvicted

# What nobody else must see that some code has set.
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")

# An endless loop ends here all the same, so that a border that does not end it shows: in seconds
# of the thread.
LONGEST_S = 0.6


class Outsider(BaseException):
    """None of Python's ordinary ones."""


class Unspeakable(Exception):
    """Whose text, class, cause and attributes raise what nobody expects."""

    def __str__(self) -> str:
        raise SystemExit("in __str__")

    __repr__ = __str__

    def __getattribute__(self, name: str) -> Any:
        raise GeneratorExit(name)


class _Nameless(type):
    @property
    def __name__(cls) -> str:
        raise KeyboardInterrupt("in __name__")


class UnspeakableInterrupt(KeyboardInterrupt):
    """The same, for those who look for it."""

    __str__ = __repr__ = Unspeakable.__str__
    __getattribute__ = Unspeakable.__getattribute__


class Anonymous(Exception, metaclass=_Nameless):
    """Whose class has no name."""


class Half(ActivityError):
    """Which never was an ActivityError."""

    def __init__(self) -> None:
        pass


class Equal(Exception):
    """Which compares and hashes as it likes."""

    def __eq__(self, other: object) -> bool:
        raise SystemExit("in __eq__")

    def __hash__(self) -> int:
        raise SystemExit("in __hash__")


def _raising(make: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def code() -> NoReturn:
        raise make()

    return code


def _deep_chain() -> BaseException:
    error = ValueError("the first")
    for number in range(2_000):
        later = ValueError(str(number))
        later.__cause__ = error
        error = later
    return error


def _circle() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def _odd_syntax_error() -> BaseException:
    error = SyntaxError("it", ("<nowhere>", 1, 1, "text"))
    error.text, error.lineno, error.filename = 5, "seven", ["a"]  # type: ignore[assignment]
    error.offset = float("nan")  # type: ignore[assignment]
    return error


def _recurse() -> Any:
    return _recurse()


def spin() -> None:
    """An endless loop."""
    end = _deadline()
    while time.thread_time() < end:
        pass


def spin_and_swallow() -> None:
    """One that the first exceptions do not leave. What swallows them all, nothing can end."""
    end = _deadline()
    for _ in range(5):
        try:
            while time.thread_time() < end:
                pass
        except BaseException:
            pass
    while time.thread_time() < end:
        pass


def _nap() -> None:
    """Sleeps of no length, without end."""
    end = time.monotonic() + 4
    while time.monotonic() < end:
        time.sleep(0.01)


def _deadline() -> float:
    return time.thread_time() + LONGEST_S


def _collect_a_coroutine() -> None:
    """The collector closes a suspended coroutine, which asks the running loop for a timer."""

    async def suspended() -> None:
        try:
            await _Suspension()
        finally:
            asyncio.get_running_loop().call_later(60, int)

    coroutine = suspended()
    coroutine.send(None)
    circle: list[Any] = [coroutine]
    circle.append(circle)
    del coroutine, circle
    gc.collect()


class _Suspension:
    def __await__(self) -> Any:
        yield


def _cancel_all() -> None:
    for task in asyncio.all_tasks():
        task.cancel()


def _stop_the_loop() -> None:
    asyncio.get_running_loop().stop()


def _set_contexts() -> None:
    variable.set("odd")
    decimal.getcontext().prec = 3


class _Dying:
    def __del__(self) -> None:
        raise SystemExit("in __del__")


def _drop_what_raises() -> None:
    dying = _Dying()
    del dying


def _of_another_loop() -> Any:
    """What is awaited where that can be: a future of a loop that does not run."""
    return _ANOTHER_LOOP.create_future()


_ANOTHER_LOOP = asyncio.new_event_loop()


def _leave_a_task() -> None:
    """A task that raises SystemExit when nobody waits for it."""

    async def leave() -> None:
        raise SystemExit(3)

    asyncio.get_running_loop().create_task(leave())


def _loop_in_finally() -> Any:
    """A generator that is left early and does not end then."""

    async def endless() -> Any:
        try:
            yield 1
        finally:
            end = _deadline()
            while time.thread_time() < end:
                await asyncio.sleep(0)

    async def leave_early() -> None:
        async for _ in endless():
            break
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    return leave_early()


def _replace_pythons_hooks() -> None:
    """For unhandled exceptions, by functions that raise."""
    found = sys.excepthook, sys.unraisablehook, threading.excepthook

    def hook(*args: Any) -> NoReturn:
        raise SystemExit("in a hook of Python's")

    sys.excepthook = sys.unraisablehook = threading.excepthook = hook
    try:
        _drop_what_raises()
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook = found


def _exit_at_once() -> NoReturn:
    os._exit(7)


def _close_descriptors() -> None:
    for descriptor in range(3):
        os.close(descriptor)


class Unprintable:
    """A result that has no JSON form, and no text."""

    def __repr__(self) -> str:
        raise SystemExit("in __repr__")

    def __bool__(self) -> bool:
        raise KeyboardInterrupt("in __bool__")


# Those that something has to end.
ENDLESS = ("an endless loop", "an endless loop that swallows", "naps without end")
# The type that leaves each of those which raise.
RAISED: dict[str, str] = {}
ODD: dict[str, Callable[[], Any]] = {}

_RAISING: list[tuple[str, str, Callable[[], BaseException]]] = [
    ("ValueError", "ValueError", lambda: ValueError("it")),
    ("a BaseException of its own", "Outsider", lambda: Outsider("it")),
    ("KeyboardInterrupt", "KeyboardInterrupt", KeyboardInterrupt),
    ("SystemExit", "SystemExit", lambda: SystemExit(3)),
    ("GeneratorExit", "GeneratorExit", GeneratorExit),
    ("CancelledError", "CancelledError", asyncio.CancelledError),
    ("StopIteration", "StopIteration", lambda: StopIteration(1)),
    ("StopAsyncIteration", "StopAsyncIteration", StopAsyncIteration),
    ("MemoryError", "MemoryError", MemoryError),
    (
        "a group with SystemExit",
        "BaseExceptionGroup",
        lambda: BaseExceptionGroup("all", [SystemExit(3), KeyboardInterrupt()]),
    ),
    ("a chain of 2,000 causes", "ValueError", _deep_chain),
    ("a circle of causes", "ValueError", _circle),
    ("an exception that cannot be read", "Unspeakable", Unspeakable),
    ("a KeyboardInterrupt that cannot be read", "UnspeakableInterrupt", UnspeakableInterrupt),
    ("a class without a name", "Anonymous", Anonymous),
    ("an exception that cannot be compared", "Equal", Equal),
    ("half an ActivityError", "Half", Half),
    ("a SyntaxError with odd fields", "SyntaxError", _odd_syntax_error),
    ("a message of 3 MB", "ValueError", lambda: ValueError("x" * 3_000_000)),
    ("half of a surrogate pair", "ValueError", lambda: ValueError("\udcff")),
    ("our RunEvicted", "RunEvicted", RunEvicted),
    ("our CodeInterrupted", "CodeInterrupted", CodeInterrupted),
]
for _name, _type, _make in _RAISING:
    RAISED[_name], ODD[_name] = _type, _raising(_make)
RAISED["recursion without end"] = "RecursionError"
ODD |= {
    "recursion without end": _recurse,
    "an endless loop": spin,
    "an endless loop that swallows": spin_and_swallow,
    "naps without end": _nap,
    "a coroutine in the collector": _collect_a_coroutine,
    "cancelling all tasks": _cancel_all,
    "stopping the loop": _stop_the_loop,
    "setting contexts": _set_contexts,
    "raising in __del__": _drop_what_raises,
    "a future of another loop": _of_another_loop,
    "a task that raises SystemExit": _leave_a_task,
    "a generator that does not end": _loop_in_finally,
    "hooks of Python's that raise": _replace_pythons_hooks,
    "a result without a form": Unprintable,
    "os._exit": _exit_at_once,
    "closing its descriptors": _close_descriptors,
}
