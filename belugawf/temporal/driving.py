"""What this process drives: a worker, which comes into being when there is something to drive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from belugawf.executor.base import nanoseconds
from belugawf.executor.checks import parked_error
from belugawf.executor.info import Driver, RunInfo
from belugawf.host.border import interrupts
from belugawf.host.loops import hidden_task
from belugawf.model.durations import Duration
from belugawf.model.endings import NotFinishedError
from belugawf.temporal.server import RunName, Server, ended
from belugawf.temporal.snapshots import SnapshotReader

if TYPE_CHECKING:
    from belugawf.temporal.worker import TemporalWorker


class Driving:
    """From the opening of an executor to its end. `interrupts` counts the calls of `interrupt`."""

    def __init__(self, server: Server, worker: Callable[[], TemporalWorker]) -> None:
        self.server = server
        self.reader = SnapshotReader(server, self)
        self._make_worker = worker
        self.worker: TemporalWorker | None = None
        self.interrupts = 0
        self._interrupted = asyncio.Event()
        self._leaving = ExitStack()

    @property
    def is_on(self) -> bool:
        """Whether a worker of ours takes turns."""
        return self.worker is not None and not self.worker.done

    def begun(self) -> TemporalWorker:
        """The worker; a new one if the last one has stopped."""
        if self.worker is None or self.worker.done:
            self.worker = self._make_worker()
            self._leaving.enter_context(interrupts())
        return self.worker

    async def close(self, *, unwind: bool) -> None:
        """Let attempts in flight end. Without `unwind` memory is left as it is."""
        if self.worker is not None:
            await self.drain(None)
            await self.worker.close(unwind=unwind)
        self._leaving.close()
        self.reader.histories.close()
        self.worker = None

    async def work(self, grace: Duration | None) -> None:
        """Stay and drive everything, until an interrupt."""
        worker = self.begun()
        while not self.interrupts:
            await self.pause(1.0)
            worker.raise_if_broken()
        await self.drain(grace)

    async def drain(self, grace: Duration | None) -> None:
        """Let attempts in flight end; a second interrupt, or the end of `grace`, cuts them."""
        worker = self.worker
        assert worker is not None
        worker.stop()
        end = None if grace is None else time.monotonic_ns() + nanoseconds(grace)
        while not await worker.drained(0.1):
            if self.interrupts > 1 or (end is not None and time.monotonic_ns() >= end):
                worker.cut()

    def interrupt(self) -> None:
        self.interrupts += 1
        self._interrupted.set()
        if self.worker is not None:
            self.worker.stop()
            self.worker.interrupt()
            if self.interrupts > 1:
                self.worker.cut()

    @property
    def stopped(self) -> bool:
        """Whether an interrupt has come."""
        return bool(self.interrupts)

    def in_flight(self) -> int:
        """How many attempts of activities are running in this process."""
        return 0 if self.worker is None else self.worker.in_flight

    def now(self) -> int:
        """The time in nanoseconds."""
        return time.monotonic_ns()

    async def pause(self, longest_s: float, news: asyncio.Future[None] | None = None) -> None:
        """Until an interrupt or news, or so long."""
        interrupted = hidden_task(asyncio.get_running_loop(), self._interrupted.wait())
        awaited: list[asyncio.Future[Any]] = [interrupted, *([] if news is None else [news])]
        try:
            await asyncio.wait(awaited, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            interrupted.cancel()

    def touched(self) -> Sequence[RunName]:
        """The runs for which our worker has done something."""
        if self.worker is None:
            return ()
        found = self.worker.environment.touched
        return [RunName(id, run_id) for run_id, id in list(found.items())]

    def knows_trouble(self, run_id: str) -> bool:
        """Whether our worker could not take the last turn that it was given for that run."""
        return self.worker is not None and run_id in self.worker.environment.problems

    def has_touched(self, run_id: str) -> bool:
        """Whether it has for that one."""
        return self.worker is not None and run_id in self.worker.environment.touched

    def driver_of(self, info: RunInfo) -> Driver:
        """See `DurableExecutor.driver_of`."""
        if not info.open:
            return Driver("nobody", why=ended(RunName(info.workflow_id, info.run_id)))
        # A problem that was recorded before says nothing of the code as it is here now.
        known = self.has_touched(info.run_id)
        is_told = info.problem is not None and (known or not self.is_on)
        # An attempt in flight ends before the run counts as parked.
        if is_told and info.owner is None:
            return Driver("nobody", why=parked_error(info))
        if self.is_on:
            return Driver("us")
        if info.unattended is None:
            return Driver("worker" if info.owner is None else "process", info.owner)
        unattended = NotFinishedError(
            f"run {info.workflow_id!r} has not ended: {info.unattended}",
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            hint="start a worker: belugawf worker",
        )
        return Driver("nobody", why=unattended)
