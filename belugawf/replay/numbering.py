"""Tasks and futures that hash to a creation number, and the loop that gives out these numbers.

asyncio keeps tasks and futures in sets, whose order follows their hashes, which are addresses. On a
`NumberingLoop` they are counted instead, whoever makes them: the loop, `gather`, or code that calls
`asyncio.Task` or `asyncio.Future` itself. `asyncio.as_completed` starts its coroutines in the order
of a set: its code is replaced by one that turns them into tasks in the order given.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from abc import ABCMeta
from asyncio import events
from collections.abc import Coroutine, Iterable
from contextvars import Context
from types import FunctionType
from typing import Any, NoReturn, TypeVar, cast

from belugawf.authoring.failures import describe_failure, in_one_line, is_a, own_attribute
from belugawf.model.errors import RunEvicted, WorkflowCodeError
from belugawf.replay.locating import location

F = TypeVar("F", bound="CountedFuture")

# A loop that swallows RunEvicted at every call, without awaiting, would spin for ever. After so
# many, calls go through, unheard: its next await stands still, and it is left there.
MAX_REFUSALS = 10_000


def _refuse(name: str) -> Any:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        self.check()
        raise WorkflowCodeError(
            f"workflow code cannot use loop.{name}{location()}",
            hint="do it in an activity: its result is recorded, and replay gives it back",
        )

    return refuse


def outside_of_turn() -> WorkflowCodeError:
    """Why nothing can be asked for."""
    return WorkflowCodeError(
        "workflow code asks for something outside of its turn",
        hint="queries only read; and do not wait or ask for anything in __del__, nor in "
        "the finally of what Python's garbage collector closes",
    )


class NumberingLoop(asyncio.AbstractEventLoop):
    """A loop for workflow code: it numbers what it creates, and refuses to touch the world.

    `open`: the run's own code is at work, in its turn, and may ask for something.
    `unhandled` is what plain asyncio would log: a message each, and a traceback or "".
    """

    runs_workflow_code = True
    evicting = False
    open = True
    unhandled: list[tuple[str, str]]
    _created = 0
    _refusals = 0

    def __init__(self) -> None:
        self.unhandled = []
        self._unasked: dict[int, weakref.ref[asyncio.Task[Any]]] = {}

    def log(self, record: logging.LogRecord) -> None:
        """Code that runs here has logged this, by any logger."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise `RunEvicted` once the run is let go, `WorkflowCodeError` outside of a turn."""
        if self.open:
            return
        if not self.evicting:
            raise outside_of_turn()
        if self._refusals < MAX_REFUSALS:
            self._refusals += 1
            raise RunEvicted

    def set_open(self, open: bool) -> bool:
        """From now on code may ask for something, or not; returns whether it might before."""
        before, self.open = self.open, open
        return before

    def next_number(self) -> int:
        """The creation number of the next task or future."""
        if not self.open:
            self.check()
        self._created += 1
        return self._created

    def new_future(self, kind: type[F]) -> F:
        """A future of a counted kind."""
        if not self.open:
            self.check()
        self._created += 1
        future = kind(loop=self)
        future._number = self._created
        return future

    def create_future(self) -> asyncio.Future[Any]:
        return self.new_future(CountedFuture)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Remember what plain asyncio would log, as text: an error would keep objects alive."""
        if self.evicting:
            return
        message = str(context.get("message") or "exception in a background task")
        source = context.get("future") or context.get("task")
        if isinstance(source, asyncio.Task):
            message += f" (task {source.get_name()!r})"
        error = context.get("exception")
        traceback = ""
        if error is not None and self.open:
            traceback = describe_failure(error).traceback or ""
        elif error is not None:
            # The collector found it, anywhere. Showing lines parses them, and Python 3.11 must not
            # parse while it is parsing.
            traceback = in_one_line(error)
        self.unhandled.append((message, traceback))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def note_done(self, task: asyncio.Task[Any]) -> None:
        """It has ended, and we forget it; somebody may still ask for its exception."""
        if task._log_traceback:
            number, unasked = hash(task), self._unasked
            unasked[number] = weakref.ref(task, lambda _: unasked.pop(number, None))

    def end(self) -> None:
        """The run has ended: errors of its tasks that nobody has asked for go to `unhandled`."""
        for reference in list(self._unasked.values()):
            task: Any = reference()
            if task is not None and task._log_traceback:
                self.call_exception_handler(
                    {
                        "message": "Task exception was never retrieved",
                        "exception": task.exception(),
                        "future": task,
                    }
                )
        self._unasked.clear()


# What would touch the world, or is the driver's.
_REFUSED = """
    run_in_executor set_default_executor call_soon_threadsafe run_forever run_until_complete
    stop close getaddrinfo getnameinfo create_connection create_server create_unix_connection
    create_unix_server create_datagram_endpoint connect_accepted_socket start_tls sendfile
    connect_read_pipe connect_write_pipe subprocess_exec subprocess_shell add_reader
    remove_reader add_writer remove_writer sock_recv sock_recv_into sock_recvfrom
    sock_recvfrom_into sock_sendall sock_sendto sock_connect sock_accept sock_sendfile
    add_signal_handler remove_signal_handler set_task_factory set_exception_handler set_debug
    shutdown_default_executor
"""
for _name in _REFUSED.split():
    setattr(NumberingLoop, _name, _refuse(_name))


def task_of(handle: events.Handle) -> asyncio.Task[Any] | None:
    """The task whose step the callback is; `None` if it is a bare callback."""
    try:
        owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    except BaseException:  # a callable of the user's
        return None
    return owner if is_a(owner, asyncio.Task) else None


def is_kept(error: BaseException, handle: events.Handle, frames: int) -> bool:
    """What would end a program was raised in that handle: whether a task keeps it as its exception.

    Such a task has it for whoever awaits it; a bare callback belongs to nobody.
    """
    # Without so many frames of its loop, which hold the task that holds the error.
    left = own_attribute(error, "__traceback__")
    for _ in range(frames):
        left = left and left.tb_next
    BaseException.with_traceback(error, left)
    return task_of(handle) is not None


class _Counted:
    """Hashes to its creation number."""

    _number: int

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class CountedFuture(_Counted, asyncio.Future[Any]):
    """A future whose hash is its creation number, which its loop gives it."""


class CountedTask(_Counted, asyncio.Task[Any]):
    """A task whose hash is its creation number."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: NumberingLoop,
        name: str | None = None,
        context: Context | None = None,
    ) -> None:
        number = loop.next_number()
        # asyncio keeps every task of the process in one set of weak references, and a reference
        # keeps the hash that it was entered with. By number the first tasks of all runs would
        # collide there.
        self._number = object.__hash__(self)
        super().__init__(coro, loop=loop, name=name or f"task-{number}", context=context)
        self._number = number


def forget_callbacks(task: CountedTask) -> None:
    """A task that was unwound is not woken, and wakes nobody.

    Else it and what it waits for would hold each other, and with all that its code held they would
    be left to Python's collector.
    """
    for future in (task, task._fut_waiter):  # type: ignore[attr-defined]
        if issubclass(type(future), _Counted):
            for callback, _ in future._callbacks or ():
                future.remove_done_callback(callback)


class _CountedGathering(_Counted, asyncio.tasks._GatheringFuture):  # type: ignore[name-defined, misc]
    """What `asyncio.gather` returns; on a deterministic loop it hashes as other futures do."""

    def __init__(self, children: Any, *, loop: asyncio.AbstractEventLoop) -> None:
        if isinstance(loop, NumberingLoop):
            self._number = loop.next_number()
        else:
            self._number = object.__hash__(self)
        super().__init__(children, loop=loop)


asyncio.tasks._GatheringFuture = _CountedGathering  # type: ignore[attr-defined]


class _Direct(ABCMeta):
    """The class of `asyncio.Future` and `asyncio.Task`, which code may call itself.

    Where a deterministic loop runs, they make counted ones. For everybody else they make and
    recognise what they always did. ABCMeta, because classes that derive from a future and from
    something abstract have to have one metaclass.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        original = _ORIGINALS.get(cls)
        if original is None:
            return super().__call__(*args, **kwargs)
        loop = kwargs.get("loop")
        if loop is None:
            loop = events._get_running_loop()
        if not isinstance(loop, NumberingLoop):
            return original(*args, **kwargs)
        kwargs.pop("loop", None)
        make = loop.create_task if cls is asyncio.Task else loop.create_future
        return make(*args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        original = _ORIGINALS.get(cls)
        if original is None:
            return super().__instancecheck__(instance)
        return isinstance(instance, original)

    def __subclasscheck__(cls, subclass: type) -> bool:
        original = _ORIGINALS.get(cls)
        if original is None:
            return super().__subclasscheck__(subclass)
        return issubclass(subclass, original)


_ORIGINALS: dict[type, Any] = {}


def _made_directly(original: type) -> type:
    direct = _Direct(original.__name__, (original,), {"__module__": "asyncio", "__slots__": ()})
    direct.__qualname__, direct.__doc__ = original.__qualname__, original.__doc__
    _ORIGINALS[direct] = original
    return direct


asyncio.Future = _made_directly(asyncio.Future)  # type: ignore[assignment, misc]
asyncio.Task = _made_directly(asyncio.Task)  # type: ignore[assignment, misc]


def _copy(function: FunctionType) -> FunctionType:
    copied = FunctionType(function.__code__, function.__globals__, function.__name__)
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


_as_completed = _copy(cast(FunctionType, asyncio.as_completed))


def _ordered_as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    """`asyncio.as_completed`; on a deterministic loop its tasks start in the order given."""
    is_one = asyncio.isfuture(fs) or asyncio.iscoroutine(fs)
    if isinstance(events._get_running_loop(), NumberingLoop) and not is_one:
        fs = [asyncio.ensure_future(awaitable) for awaitable in dict.fromkeys(fs)]
    return _as_completed(fs, timeout=timeout)


def _new_as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    from belugawf.replay.numbering import _ordered_as_completed  # runs with asyncio's globals

    return _ordered_as_completed(fs, timeout=timeout)


# Its code is replaced and not the name, because modules may have imported the name before.
cast(FunctionType, asyncio.as_completed).__code__ = _new_as_completed.__code__
