"""When the engine ticks, and what becomes of it when a tick fails; how others wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from belugawf.host.border import Signalled, log
from belugawf.host.clock import Clock
from belugawf.model.durations import SECOND_NS
from belugawf.model.errors import (
    BelugaError,
    BusyError,
    DisplacedError,
    UnavailableError,
)
from belugawf.model.shortage import shortage

# How long a worker pauses after the disk refused, in seconds, doubling.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class Ticker:
    """Runs one tick after the other, until it is closed or one fails.

    `tick` is a tick's coroutine, `next_moment` when the next one is due at the latest, in
    nanoseconds since 1970. `retries`: whether to try again after the disk refused. `rested` is
    called after each tick: whoever wakes the ticker from there has called for the next one.
    `ended` is called once, when no tick comes any more.
    """

    def __init__(
        self,
        clock: Clock,
        tick: Callable[[], Coroutine[Any, Any, None]],
        *,
        next_moment: Callable[[], int],
        retries: Callable[[], bool],
        rested: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._tick = tick
        self._rested = rested
        self._next_moment = next_moment
        self._retries = retries
        self._on_end = ended
        # Nothing that user code sets in a context variable is seen in here.
        self._context = Context()
        self._pacer = Pacer(clock, self._begin, self._context)
        self.wake = self._pacer.wake
        self._ended: asyncio.Future[None] | None = None
        self._closing = False
        self._pause_s = _FIRST_PAUSE_S
        self.failure: BelugaError | None = None

    def start(self) -> bool:
        """Begin to tick; false if it does already."""
        if self._ended is not None:
            return False
        self._ended = asyncio.get_running_loop().create_future()
        self._pacer.start()
        return True

    @property
    def started(self) -> bool:
        """Whether it has begun."""
        return self._ended is not None

    def check(self) -> None:
        """Raise why it does not tick any more, if that is so."""
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        """End after the tick that goes on, and what it commits has taken effect."""
        if self._ended is not None:
            self._closing = True
            self.wake()
            await asyncio.shield(self._ended)

    def stop(self) -> None:
        """No tick comes any more."""
        self._closing = True
        self._pacer.stop()

    def _begin(self) -> None:
        if self._closing or self.failure is not None:
            self._end()
            return
        Steps(self._tick(), self._end_tick, self._context).step()

    def _end_tick(self, error: BaseException | None) -> None:
        """That tick is over; sleep until something is due, or somebody wakes us."""
        if self._closing:
            self._end()
        elif error is None:
            self._pause_s = _FIRST_PAUSE_S
            self._pacer.rest(self._next_moment())
            self._rested()
        elif isinstance(error, (UnavailableError, BusyError)):
            if isinstance(error, DisplacedError) or not self._retries():
                self._give_up(error)
                return
            log(logging.WARNING, "%s; trying again in %g s", error, self._pause_s)
            self._pacer.rest(self._clock.now() + int(self._pause_s * SECOND_NS))
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        elif isinstance(error, Signalled):
            # It has ended the import of modules. Whoever the loop tells of it next stops us.
            self._pacer.rest(self._clock.now() + SECOND_NS)
        elif isinstance(error, KeyboardInterrupt):
            self._give_up(BelugaError("Ctrl-C ended the engine; the runs are saved"))
            raise error  # the program's own way to end
        else:
            short = shortage(error)
            if short is None:
                log(logging.ERROR, "a bug in belugawf stopped the engine", error=error)
            bug = BelugaError(f"a bug in belugawf: {type(error).__name__}: {error}")
            self._give_up(short or bug)

    def _give_up(self, error: BelugaError) -> None:
        """Nothing is driven here any more; whoever waits, or comes, is told why."""
        self.failure = error
        self._end()

    def _end(self) -> None:
        self._pacer.stop()
        if self._ended is not None and not self._ended.done():
            self._on_end()
            self._ended.set_result(None)


class Steps:
    """Runs a coroutine in synchronous steps on the loop, and not as a task.

    A task could be cancelled by user code that cancels all tasks of the loop, and would be seen as
    the current one by what it calls. `ended` is told how it ended, `None` for well.
    """

    def __init__(
        self,
        work: Coroutine[Any, None, None],
        ended: Callable[[BaseException | None], None],
        context: Context,
    ) -> None:
        self._work = work
        self._ended = ended
        self._context = context

    def step(self, _: object = None) -> None:
        """Run on until it waits for a future, or to its end."""
        try:
            awaited = self._work.send(None)
        except StopIteration:
            self._ended(None)
        except BaseException as error:
            self._ended(error)
        else:
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(self.step, context=self._context)


class Pacer:
    """Calls `tick` when somebody wakes it, or a moment has come; never while a tick goes on.

    A tick goes on from its call until `rest`. All calls on the loop that it was made on.
    """

    def __init__(self, clock: Clock, tick: Callable[[], None], context: Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._tick = tick
        self._context = context
        self._ticking = True  # until it is started
        self._woken = False
        self._soon: asyncio.Handle | None = None
        self._alarm: tuple[int, asyncio.TimerHandle] | None = None

    def start(self) -> None:
        """Tick soon, and from now on."""
        self._ticking = False
        self.wake()

    def wake(self) -> None:
        """Tick soon; once more, if a tick goes on."""
        if self._ticking:
            self._woken = True
        elif self._soon is None:
            self._soon = self._loop.call_soon(self._begin, context=self._context)

    def rest(self, until: int) -> None:
        """The tick is over; the next one comes at that moment (nanoseconds since 1970) or earlier.

        An alarm that was set for an earlier moment stays set: setting one at each of thousands of
        turns a second would cost more than the turns.
        """
        self._ticking = False
        delay = until - self._clock.now()
        if self._woken or delay <= 0:
            self.wake()
        elif self._alarm is None or until < self._alarm[0]:
            if self._alarm is not None:
                self._alarm[1].cancel()
            timer = self._loop.call_later(delay / SECOND_NS, self._ring, context=self._context)
            self._alarm = until, timer

    def stop(self) -> None:
        """No tick comes any more."""
        self._ticking = True
        if self._soon is not None:
            self._soon.cancel()
        if self._alarm is not None:
            self._alarm[1].cancel()

    def _begin(self) -> None:
        self._soon = None
        self._ticking, self._woken = True, False
        self._tick()

    def _ring(self) -> None:
        self._alarm = None
        self.wake()


class Notifier:
    """Those who wait for one run each, or for any change."""

    def __init__(self) -> None:
        self._waiting: dict[int | None, list[asyncio.Future[None]]] = {}

    async def wait(self, run: int | None, timeout_s: float) -> None:
        """Until that run is not driven here any more (`None`: until anything changes).

        Or until the time is up.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(run, []).append(waiter)
        alarm = loop.call_later(timeout_s, _end, waiter)
        try:
            await waiter
        finally:
            alarm.cancel()
            waiting = self._waiting.get(run, [])
            if waiter in waiting:
                waiting.remove(waiter)
            if not waiting:
                self._waiting.pop(run, None)

    def notify(self, run: int | None = None) -> None:
        """Wake everyone who waits for this run, or for any change."""
        for waiter in self._waiting.pop(run, ()):
            _end(waiter)

    def notify_all(self) -> None:
        """Nothing will come any more."""
        for run in list(self._waiting):
            self.notify(run)


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
