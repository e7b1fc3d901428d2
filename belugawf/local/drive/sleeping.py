"""When the engine ticks next, by the wall clock; and how others wait until a run has settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

from belugawf.host.clock import Clock
from belugawf.model.durations import SECOND_NS


class Pacer:
    """Calls `tick` when somebody wakes it, or a moment has come; never while a tick goes on.

    A tick goes on from its call until `rest`. All calls on the loop that it was made on.
    """

    def __init__(self, clock: Clock, tick: Callable[[], None], context: Context) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._tick = tick
        self._context = context
        self._ticking = False
        self._woken = False
        self._soon: asyncio.Handle | None = None
        self._alarm: tuple[int, asyncio.TimerHandle] | None = None

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


class Waiters:
    """Those who wait for one run each."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    async def wait(self, run: int, timeout_s: float) -> None:
        """Until `release` is called for that run, or the time is up."""
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

    def release(self, run: int) -> None:
        """That run has come to what is waited for."""
        for waiter in self._waiting.pop(run, ()):
            _end(waiter)

    def release_all(self) -> None:
        """Nothing will come any more."""
        for run in list(self._waiting):
            self.release(run)


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
