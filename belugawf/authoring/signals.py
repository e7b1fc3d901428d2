"""The buffer of signals: first in, first out, from the start of the run.

A waiter takes its signal when it *runs*, not when the signal arrives. So a wait that is cancelled
or times out at that very moment leaves the signal in the buffer and passes its wake-up on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from belugawf.model.values import frozen


@frozen()
class BufferedSignal:
    """A signal as it arrived: `payload` is JSON text, `sent_at` nanoseconds since 1970."""

    name: str
    payload: str
    sent_at: int
    sender: str | None


class _Queue:
    """The signals of one name. A waiter that was woken keeps its place until it has run."""

    def __init__(self) -> None:
        self.items: deque[BufferedSignal] = deque()
        self.waiters: deque[asyncio.Future[None]] = deque()
        self.woken = 0

    @property
    def is_empty(self) -> bool:
        return not (self.items or self.waiters or self.woken)

    def wake_next(self) -> None:
        while self.waiters and len(self.items) > self.woken:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self.woken += 1


class SignalBuffer:
    """All signals that no code has taken yet."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def deliver(self, signal: BufferedSignal) -> None:
        """A signal arrived: keep it, and wake whoever has waited longest for its name."""
        queue = self._queue(signal.name)
        queue.items.append(signal)
        queue.wake_next()

    async def take(
        self, name: str, new_waiter: Callable[[], asyncio.Future[None]]
    ) -> BufferedSignal:
        """The next signal of that name, waiting for it on a future of `new_waiter`."""
        queue = self._queue(name)
        try:
            if len(queue.items) <= queue.woken or queue.waiters:
                await self._wait(queue, new_waiter())
            return queue.items.popleft()
        finally:
            # A run may wait for a thousand names, one after the other.
            if queue.is_empty and self._queues.get(name) is queue:
                del self._queues[name]

    async def _wait(self, queue: _Queue, waiter: asyncio.Future[None]) -> None:
        queue.waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            self._leave(queue, waiter)
            raise
        queue.woken -= 1

    def _leave(self, queue: _Queue, waiter: asyncio.Future[None]) -> None:
        if waiter in queue.waiters:
            queue.waiters.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            queue.woken -= 1
            queue.wake_next()

    def _queue(self, name: str) -> _Queue:
        return self._queues.setdefault(name, _Queue())
