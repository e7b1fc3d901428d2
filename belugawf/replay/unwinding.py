"""Letting code go without running it on, and what becomes of the code that Python lets go.

Dropping a suspended coroutine would run its `finally` blocks, outside of its run. So `unwind`
throws `RunEvicted` into it while its loop is closed to it. And what Python's collector closes, at
any moment and inside any code, finds no loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import warnings
import weakref
from _thread import get_ident
from asyncio import events
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from belugawf.model.errors import CodeInterrupted, RunEvicted
from belugawf.replay.numbering import NumberingLoop

# How often a coroutine that swallows RunEvicted is told again.
_MAX_THROWS = 100


class Generators:
    """The async generators that a loop's code has begun.

    One that is left early (break, return, an error) is closed by a task, as asyncio does it, when
    its last reference goes: at the same place in each replay. What only Python's collector finds is
    found at any moment: it is kept, and does nothing more.
    """

    def __init__(self, loop: NumberingLoop) -> None:
        self._loop = weakref.ref(loop)
        self._begun: dict[int, weakref.ref[Any]] = {}
        self._kept: list[Any] = []
        self._count = 0

    def begin(self, generator: Any) -> None:
        """Python's hook: a generator starts."""
        self._count += 1
        number, begun = self._count, self._begun
        begun[number] = weakref.ref(generator, lambda _: begun.pop(number, None))

    def drop(self, generator: Any) -> None:
        """Python's hook: nobody has it any more, and it is not through."""
        loop, running = self._loop(), events._get_running_loop()
        if loop is not None and loop is running and loop.open and not loop.evicting:
            loop.call_soon(_close, loop, generator)  # asyncio takes the same two steps
        else:
            self._kept.append(generator)

    def take(self) -> list[Any]:
        """All that are not through; they are forgotten here."""
        alive = [generator for ref in self._begun.values() if (generator := ref()) is not None]
        alive += self._kept
        self._begun.clear()
        self._kept = []
        return alive


def _close(loop: NumberingLoop, generator: Any) -> None:
    loop.create_task(generator.aclose())


_interrupted_by_collector: tuple[NumberingLoop, bool] | None = None


def _around_collections(phase: str, info: dict[str, int]) -> None:
    """While Python's collector works, no loop is running: what it closes can ask for nothing.

    The current task does not tell: finalisers run inside it. Called for each collection, in the
    thread that makes it; there is never more than one.
    """
    global _interrupted_by_collector
    if phase == "start":
        running = events._get_running_loop()
        if isinstance(running, NumberingLoop):
            _interrupted_by_collector = (running, running.set_open(False))
            events._set_running_loop(None)
    elif _interrupted_by_collector is not None:
        loop, was_open = _interrupted_by_collector
        loop.set_open(was_open)
        _interrupted_by_collector = None
        events._set_running_loop(loop)


gc.callbacks.append(_around_collections)


@contextlib.contextmanager
def kept_generators(generators: Generators) -> Iterator[None]:
    """Async generators that start here are known to the list, and closed when they are dropped."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=generators.begin, finalizer=generators.drop)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)


def unwind(tasks: Iterable[asyncio.Task[Any]], generators: Generators | None = None) -> None:
    """Throw `RunEvicted` into every task that is not done, in this order, then into generators.

    Code that is let go makes coroutines in its `finally` which it cannot await any more: Python
    does not warn of these. Raises `CodeInterrupted` if somebody throws that in.
    """
    with _no_warnings_of_coroutines():
        for task in list(tasks):
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = task.get_coro()
                if coroutine is not None:
                    _unwind(coroutine, coroutine.throw)
        for generator in [] if generators is None else generators.take():
            _unwind(generator, _thrower(generator))


def _unwind(code: Any, throw: Callable[[BaseException], Any]) -> None:
    """Throw until the coroutine is finished; one that awaits again is told again."""
    for _ in range(_MAX_THROWS):
        try:
            throw(RunEvicted())
        except CodeInterrupted:
            raise
        except BaseException:
            return
    leave_standing(code)


def abandon(tasks: Iterable[asyncio.Task[Any]], generators: Generators) -> None:
    """Leave what cannot be unwound as it stands, for ever: not a line of it runs again."""
    for task in tasks:
        if not task.done():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            leave_standing(task.get_coro())
    for generator in generators.take():
        leave_standing(generator)


def leave_standing(code: Any) -> None:
    """Never free a coroutine that cannot be unwound: that would run its endless code once more,
    at the latest when Python ends."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))


def _thrower(generator: Any) -> Callable[[BaseException], Any]:
    return lambda error: generator.athrow(error).send(None)


@contextlib.contextmanager
def _no_warnings_of_coroutines() -> Iterator[None]:
    """In this thread Python warns of no coroutine that was never awaited.

    Only meanwhile: a function of ours in between would be taken for the place of every warning.
    """
    warn = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]
    thread = get_ident()

    def warn_elsewhere(coroutine: Any) -> None:
        if get_ident() != thread:
            warn(coroutine)

    warnings._warn_unawaited_coroutine = warn_elsewhere  # type: ignore[attr-defined]
    try:
        yield
    finally:
        warnings._warn_unawaited_coroutine = warn  # type: ignore[attr-defined]
