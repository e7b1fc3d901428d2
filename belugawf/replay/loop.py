"""A deterministic asyncio event loop. It knows asyncio, and nothing of workflows.

Life of a callback: `call_soon` appends it to one FIFO; `run_ready` runs the FIFO until it is
empty. Time stands still meanwhile: `time()` is what its driver set. `call_later` and `call_at` ask
the driver for a durable timer, and `fire` runs its callback when the driver says that it is due.

Tasks and futures hash to a creation number (`replay.numbering`), so that asyncio's sets have an
order. Whatever would touch the world raises `WorkflowCodeError`.

Only the run's own code can ask for anything, and only in its turn: outside of `within` the loop is
not `open`. Letting a run go throws `RunEvicted` into its tasks (`replay.unwinding`), and each call
to this loop raises it too.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio import events, format_helpers
from collections import deque
from collections.abc import Callable
from contextvars import Context
from datetime import timedelta
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

from belugawf.authoring.failures import is_a
from belugawf.model.durations import SECOND_NS
from belugawf.model.errors import (
    CodeInterrupted,
    WorkflowBlockedError,
)
from belugawf.replay.locating import location, standing
from belugawf.replay.numbering import CountedTask, NumberingLoop, forget_callbacks, is_kept, task_of
from belugawf.replay.unwinding import Generators, abandon, unwind

# So many callbacks that get nowhere, without waiting for anything, are a loop that never ends. They
# get somewhere if at least one in twenty asks for something, or ends a task that was there before:
# so whatever could be started can be cancelled, however much it is.
MAX_CALLBACKS = 100_000
_LEAST_PROGRESS = MAX_CALLBACKS // 20
# Timers that are over at once, one after the other: a loop that waits for nothing. They have less
# than half a microsecond; every other one makes time go on.
MAX_EMPTY_TIMERS = 1_000
# What is further away never comes: no duration is longer.
_NEVER_S = 36_525 * 86_400.0
# So many tasks are looked at after each turn: whether they are done.
_FEW = 16


# From Python 3.12 on it is a function in C.
_current_task: Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None] = (
    asyncio.current_task if sys.version_info >= (3, 12) else asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]
)

T = TypeVar("T")
_Ts = TypeVarTuple("_Ts")


class TimerDriver(Protocol):
    """Who makes timers durable. `asked` counts what the code has asked for so far."""

    asked: int

    def start_timer(self, timer: DurableTimer, delay: timedelta) -> int: ...

    def cancel_timer(self, timer: DurableTimer) -> None: ...

    def log(self, record: logging.LogRecord) -> None: ...


class _Nobody:
    """Whom a loop asks that was let go: it would hold its driver, which holds it."""

    asked = 0

    def start_timer(self, timer: DurableTimer, delay: timedelta) -> int:
        return -1

    def cancel_timer(self, timer: DurableTimer) -> None: ...

    def log(self, record: logging.LogRecord) -> None: ...


_NOBODY = _Nobody()


class DurableTimer(asyncio.TimerHandle):
    """A timer that its driver keeps; `seq` is the driver's number for it, -1 if it needs none.

    `empty`: it has no length. `moment` is when it is due by the clock on the wall, in nanoseconds
    since 1970, where the code named one; else `None`.
    """

    __slots__ = ("empty", "moment", "seq")

    seq: int
    empty: bool
    moment: int | None


class _Tasks(dict[int, CountedTask]):
    """The tasks of a loop by their numbers, until they are done, and its generators.

    Plain asyncio does not keep them, and reports their errors. A few are looked at after each turn,
    many when they have doubled.
    """

    def __init__(self, loop: NumberingLoop) -> None:
        self._prune_at = _FEW
        self.generators = Generators(loop)

    def prune(self, note_done: Callable[[CountedTask], None]) -> None:
        """Drop those that are done, if it is time to look."""
        if len(self) <= _FEW or len(self) > self._prune_at:
            self.drop_done(note_done)

    def drop_done(self, note_done: Callable[[CountedTask], None]) -> None:
        """Drop those that are done, and tell of each."""
        done = [number for number, task in self.items() if task.done()]
        for number in done:
            task = self.pop(number)
            note_done(task)
            del task  # one that nobody holds is reported here, and may close generators
        self._prune_at = max(_FEW, 2 * len(self))

    def unwind(self) -> None:
        unwind(self.values(), self.generators)
        for task in self.values():
            forget_callbacks(task)
        self.clear()

    def abandon(self) -> None:
        abandon(self.values(), self.generators)
        self.clear()


class DeterministicLoop(NumberingLoop):
    """See the module's docstring. Not for use outside of a driver.

    `context` is the one in which the code runs, unless its tasks have their own. `exit` is what a
    bare callback raised that would end a program, SystemExit or KeyboardInterrupt: nothing runs
    after it. `interrupted`: some of the code, tasks included, has raised KeyboardInterrupt.
    """

    def __init__(self, driver: TimerDriver, context: Context | None = None) -> None:
        super().__init__()
        self._driver = driver
        self._context = Context() if context is None else context
        self._ready: deque[events.Handle] = deque()
        self._due: list[DurableTimer] = []
        self._tasks = _Tasks(self)
        self._empty_timers = 0
        self._refused: WorkflowBlockedError | None = None
        self.begin_turn(0.0)
        self.evicting = self.open = False
        self.interrupted = False
        self.exit: BaseException | None = None

    def log(self, record: logging.LogRecord) -> None:
        self._driver.log(record)

    # -- what the driver calls -------------------------------------------------------------------

    def begin_turn(self, seconds: float, *, after_timer: bool = False) -> None:
        """Set what `time()` returns, in seconds since 1970; callbacks are counted anew.

        So are empty timers, unless a timer has fired: `fire` knows which.
        """
        self._now = seconds
        if not after_timer:
            self._empty_timers = 0
        self._budget = MAX_CALLBACKS
        self._asked_before = self._driver.asked
        self._created_before = self._created

    def fire(self, timer: DurableTimer) -> None:
        """The timer is due: its callback runs with the next `run_ready`."""
        if not timer.empty:
            self._empty_timers = 0
        if not timer.cancelled():
            self._ready.append(timer)

    @property
    def has_ready(self) -> bool:
        """Whether there are callbacks to run now."""
        return bool(self._ready or self._due)

    def run_ready(self) -> None:
        """Run callbacks until none is ready.

        For whoever is `within` the loop. Raises `WorkflowBlockedError` after `MAX_CALLBACKS`
        callbacks that get nowhere, or `MAX_EMPTY_TIMERS` timers.
        """
        while (self._ready or self._due) and self.exit is None:
            self._run_callbacks()
            if len(self._tasks) > 1:  # one alone is the workflow's own: its end is looked at anyway
                self._tasks.prune(self.note_done)

    def within(self, work: Callable[[Unpack[_Ts]], T], *args: *_Ts) -> T:
        """What `work` returns, with this loop as the thread's running one, in its context.

        It is that also where the real loop runs us: a task of that one may be driving us, and
        Python allows one current task a thread.
        """
        outer = events._get_running_loop()
        if outer is self:
            return work(*args)
        outer_task = None if outer is None else _current_task(outer)
        if outer is not None and outer_task is not None:
            asyncio.tasks._leave_task(outer, outer_task)
        hooks = sys.get_asyncgen_hooks()
        generators = self._tasks.generators
        sys.set_asyncgen_hooks(firstiter=generators.begin, finalizer=generators.drop)
        events._set_running_loop(self)
        self.open = not self.evicting
        try:
            return self._context.run(work, *args)
        finally:
            # Here if at all: what follows is done as a whole. `suppress` would not be quick enough.
            try:  # noqa: SIM105
                _be_interrupted()
            except CodeInterrupted:
                pass
            self.open = False
            events._set_running_loop(outer)
            sys.set_asyncgen_hooks(*hooks)
            if outer is not None and outer_task is not None:
                asyncio.tasks._enter_task(outer, outer_task)

    def _run_callbacks(self) -> None:
        ready = self._ready
        while ready or self._due:
            if self._due:
                # As in asyncio, what is due comes after what is ready when a round begins.
                due = sorted(self._due, key=DurableTimer.when)
                ready.extend(due)
                self._due.clear()
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                try:
                    try:
                        # As `handle._run()` does it.
                        handle._context.run(handle._callback, *handle._args)  # type: ignore[attr-defined]
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        self._report(error, handle)
                except (SystemExit, KeyboardInterrupt) as error:
                    if self._ends_with(error, handle):
                        return
                self._budget -= 1
                if self._budget <= 0:
                    self._check_progress(handle)
                if self._refused is not None:
                    raise self._refused
                # An error keeps the frames that it passed, since Python 3.12 this one among them:
                # with the handle, its task would live on in a cycle, and be reported who knows
                # when.
                del handle

    def _report(self, error: BaseException, handle: events.Handle) -> None:
        """As asyncio says it of a callback that raises."""
        callback: Any = handle
        source = format_helpers._format_callback_source(callback._callback, callback._args)
        self.call_exception_handler(
            {"message": f"Exception in callback {source}", "exception": error}
        )

    def _ends_with(self, error: BaseException, handle: events.Handle) -> bool:
        """A program would end here. Whether the run does."""
        self.interrupted |= is_a(error, KeyboardInterrupt)
        if is_kept(error, handle, frames=1):
            return False
        self.exit = error
        self._ready.clear()
        self._due.clear()
        return True

    def _check_progress(self, handle: events.Handle) -> None:
        """So many callbacks have run: have they got anywhere?"""
        ended = sum(n <= self._created_before and task.done() for n, task in self._tasks.items())
        if self._driver.asked - self._asked_before + ended >= _LEAST_PROGRESS:
            self._tasks.drop_done(self.note_done)
            self.begin_turn(self._now, after_timer=True)  # empty timers count on
            return
        raise WorkflowBlockedError(
            f"the workflow ran {MAX_CALLBACKS:,} steps without waiting for anything"
            f"{self._busy_line(handle)}",
            hint="look for a loop that only awaits asyncio.sleep(0) or finished tasks",
        )

    def _busy_line(self, handle: events.Handle) -> str:
        """Where the task of a callback stands, else any task, as " (file:line)"."""
        task = task_of(handle)
        tasks = self._tasks.values() if task is None else [task, *self._tasks.values()]
        lines = [line for task in tasks if not task.done() and (line := standing(task))]
        return f" ({lines[0]})" if lines else ""

    def end(self) -> None:
        """The run has ended: errors of its tasks that nobody has asked for go to `unhandled`."""
        self._tasks.drop_done(self.note_done)
        super().end()

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that may not be done, in the order in which they were made."""
        return list(self._tasks.values())

    def evict(self) -> None:
        """Unwind every task without being heard; the loop is of no use after it.

        Raises `CodeInterrupted` if that was thrown in; what is left then can be abandoned.
        """
        self.evicting = True
        self._ready.clear()
        self._due.clear()
        self.within(self._tasks.unwind)
        self._ready.clear()
        self._due.clear()
        self._driver = _NOBODY

    def abandon(self) -> None:
        """Leave what cannot be unwound as it stands, for ever: not a line of it runs again."""
        self.evicting = True
        self._tasks.abandon()

    # -- what asyncio calls ----------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> events.Handle:
        if not self.open:
            self.check()
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self._call_at(DurableTimer(when, callback, args, self, context), None)

    def call_at_moment(
        self, moment: int, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts
    ) -> asyncio.TimerHandle:
        """As `call_at`, for a moment by the clock on the wall, in nanoseconds since 1970."""
        timer = DurableTimer(moment / SECOND_NS, callback, args, self, None)
        return self._call_at(timer, moment)

    def _call_at(self, timer: DurableTimer, moment: int | None) -> DurableTimer:
        if not self.open:
            self.check()
        delay = timer.when() - self._now
        timer.seq, timer.moment = -1, moment
        if delay <= 0:
            self._due.append(timer)
        elif delay <= _NEVER_S:
            duration = timedelta(seconds=delay)
            timer.empty = not duration
            self._count_empty(timer)
            timer.seq = self._driver.start_timer(timer, duration)
        elif delay != delay:  # it is not a number
            raise ValueError("a delay must be a number")
        return timer

    def _count_empty(self, timer: DurableTimer) -> None:
        self._empty_timers = self._empty_timers + 1 if timer.empty else 0
        if self._empty_timers > MAX_EMPTY_TIMERS:
            self._refused = WorkflowBlockedError(
                f"the workflow started {MAX_EMPTY_TIMERS:,} timers of no length in a row"
                f"{location()}",
                hint="wait for what you need with a signal, or sleep for a second or more",
            )

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # Outside of a turn, only the collector cancels timers: nobody hears of it.
        if self.open and isinstance(handle, DurableTimer) and handle.seq >= 0:
            self._driver.cancel_timer(handle)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **_ignored: Any,
    ) -> CountedTask:
        if self.evicting:
            coro.close()
        task = CountedTask(coro, loop=self, name=name, context=context)
        self._tasks[task._number] = task
        return task

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    # Asked for each task, future and callback: `bool()` is False, and runs no Python code.
    get_debug = staticmethod(bool)

    async def shutdown_asyncgens(self) -> None:
        """Generators live as long as their run."""


def _be_interrupted() -> None:
    """Python raises what was thrown into this thread where a function begins."""
