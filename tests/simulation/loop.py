"""The event loop of one simulated process: real asyncio tasks on virtual time.

It runs nothing by itself. The world asks it for one callback at a time, first in first out as
asyncio promises; which process comes next is the world's choice.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from belugawf.replay.numbering import CountedTask

if TYPE_CHECKING:
    from tests.simulation.world import Process


class SimLoop(asyncio.AbstractEventLoop):
    """What asyncio and belugawf use of a loop, and no more."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._readers: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._created = 0
        self.tasks: list[CountedTask] = []

    # -- what the world calls --------------------------------------------------------------------

    def is_ripe(self, now: float) -> bool:
        """Whether a callback can run by now."""
        while self._timers and self._timers[0][0] <= now:
            self._ready.append(heapq.heappop(self._timers)[2])
        while self._ready and self._ready[0].cancelled():
            self._ready.popleft()
        return bool(self._ready)

    def next_timer(self) -> float | None:
        """When the next timer is due, in seconds of virtual time."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def run_one(self) -> None:
        """Run the callback that is ready first."""
        self._ready.popleft()._run()

    def readable(self, fd: int) -> None:
        """Something can be read from that descriptor."""
        if fd in self._readers:
            callback, args = self._readers[fd]
            self.call_soon(callback, *args)

    # -- what asyncio and belugawf call ----------------------------------------------------------

    def time(self) -> float:
        return self._process.world.seconds()

    def next_number(self) -> int:
        """A hash for tasks, so that sets of them have an order that a seed repeats."""
        self._created += 1
        return self._created

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self.next_number(), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> CountedTask:
        task = CountedTask(coro, loop=self, name=name, context=context)  # type: ignore[arg-type]
        self.tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """There are no threads: a job is done in one piece, a little later."""
        future = self.create_future()

        def job() -> None:
            try:
                result = func(*args)
            except Exception as error:
                self.call_soon(_settle, future, None, error)
            else:
                self.call_soon(_settle, future, result, None)

        self._process.world.later_in_thread(self._process, job)
        return future

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        self._readers[fd] = (callback, args)

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._process.world.unhandled(self._process, context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
