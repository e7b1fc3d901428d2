"""How the engine sleeps until a moment by the wall clock, and others until a run has settled."""

from __future__ import annotations

import asyncio

from belugawf.host.clock import Clock
from belugawf.model.durations import SECOND_NS


class Sleeper:
    """The sleep of one task, on the loop that it runs on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._awake = False
        self._sleep: asyncio.Future[None] | None = None
        self._alarm: tuple[int, asyncio.TimerHandle] | None = None

    def wake(self) -> None:
        """End the sleep, or the next one before it begins."""
        self._awake = True
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    def woken(self) -> None:
        """Whoever was woken looks now: the next sleep is a sleep again."""
        self._awake = False

    async def until(self, at: int) -> None:
        """Until then (nanoseconds since 1970), or somebody wakes us; perhaps earlier.

        An alarm that was set for an earlier moment stays set: setting one at each of thousands of
        turns a second would cost more than the turns.
        """
        loop = asyncio.get_running_loop()
        delay = at - self._clock.now()
        if self._awake or delay <= 0:
            await asyncio.sleep(0)
            return
        if self._alarm is None or at < self._alarm[0]:
            if self._alarm is not None:
                self._alarm[1].cancel()
            self._alarm = at, loop.call_later(delay / SECOND_NS, self._ring)
        self._sleep = loop.create_future()
        try:
            await self._sleep
        finally:
            self._sleep = None

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
