"""What this process drives, and who drives the rest: other processes, and workers.

The engine, and with it our presence as an owner, comes into being when there is something to drive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from belugawf.executor.base import (
    DEFAULT_IDLE_WAIT,
    RESUME_IDLE_WAIT,
    nanoseconds,
    seconds_until,
)
from belugawf.executor.checks import parked_error
from belugawf.executor.info import Driver, RunInfo
from belugawf.host.clock import Clock
from belugawf.local.drive.demand import Request, Stop
from belugawf.local.drive.presence import Presence, wake_owner
from belugawf.local.file import ownership
from belugawf.local.file.writer import Writer
from belugawf.local.store.rows import OwnerRow, RunRow
from belugawf.local.store.store import Store
from belugawf.local.view import Viewer
from belugawf.model.durations import Duration
from belugawf.model.endings import NotFinishedError
from belugawf.model.errors import BelugaError, RunEndedError, UsageError
from belugawf.model.shell import command_line

if TYPE_CHECKING:
    from belugawf.local.drive.engine import Engine
    from belugawf.local.drive.table import Standing

# How often a run that another process drives is looked at, in seconds.
_POLL_S = 0.05

# Kept from the garbage collector, which would close suspended coroutines: see `own_process`.
_LEFT_BEHIND: list[Engine] = []


class Driving:
    """From the opening of an executor to its end. `interrupts` counts the calls of `interrupt`."""

    def __init__(
        self, store: Store, clock: Clock, engine: Callable[[Store, Writer, Presence], Engine]
    ) -> None:
        self.store = store
        self._clock = clock
        self.viewer = Viewer(store, self.is_alive)
        self._make_engine = engine
        self.lane = Writer(store.database)
        self.presence: Presence | None = None
        self.engine: Engine | None = None
        self.interrupts = 0
        self._beginning = asyncio.Lock()
        self._leaving = ExitStack()
        self._closed = False

    async def begun(self) -> Engine:
        """The engine, made when there is something to drive. Raises why it ended, if it did."""
        if self.engine is None:
            async with self._beginning:
                await self._begin()
        assert self.engine is not None
        self.engine.ticker.check()
        return self.engine

    async def _begin(self) -> None:
        if self._closed:
            raise UsageError("the executor was left", hint="start runs inside it")
        if self.engine is None:
            # Imported only by who drives: looking and sending are to start fast.
            from belugawf.host.border import interrupts

            presence = Presence(self.store, self.store.database.folder, self._clock)
            await presence.register(self.lane)
            self.presence = presence
            self.engine = self._make_engine(self.store, self.lane, presence)
            self._leaving.enter_context(interrupts())
            self.engine.start()

    async def close(self, *, unwind: bool) -> None:
        """Let go of everything, and say goodbye. Without `unwind` memory is left as it is."""
        async with self._beginning:  # what says that we are here is not written any more after this
            engine, presence = self.engine, self.presence
            self.engine = self.presence = None
            self._closed = True
        keeping: list[int] = []
        try:
            if engine is not None:
                await engine.close()
        finally:
            if engine is not None:
                keeping = engine.table.lingering()
                if unwind:
                    engine.evict_all()
                else:
                    _LEFT_BEHIND.append(engine)
            try:
                if presence is not None:
                    await presence.close(self.lane, keeping)
            finally:
                if engine is not None and presence is not None and keeping:
                    engine.attempts.when_over(presence.free)
                self._leaving.close()
                self.lane.close()

    # -- for a while -----------------------------------------------------------------------------

    @asynccontextmanager
    async def resumed(
        self,
        named: Sequence[int],
        *,
        max_time: Duration | None,
        grace: Duration | None,
        workflow: str | None,
        patience: Duration,
    ) -> AsyncIterator[Collection[int]]:
        """Drive the runs named, or else everything due, to rest; the body sees which were driven.

        What could not be started, after a limit, is let go only after the body.
        """
        engine = await self.begun()

        def done() -> bool:
            if not named:
                return engine.idle
            return not any(engine.table.standing(run) == "driven" for run in named)

        async with engine.request(
            named or None, nanoseconds(patience), workflow=workflow
        ) as request:
            await self._drive_until(engine, request, done, max_time, grace)
            yield request.driven

    async def work(self, workflows: Collection[str], grace: Duration | None) -> None:
        """Stay and drive all runs of these workflows, until an interrupt."""
        engine, here = await self.begun(), self.presence
        assert here is not None
        idle_wait_ns = nanoseconds(RESUME_IDLE_WAIT)
        # Before anything is claimed: if the disk refuses this, nothing has begun.
        await self.lane.write(lambda: here.announce("worker", workflows))
        try:
            async with engine.request(None, idle_wait_ns, persistent=True) as request:
                await self._drive_until(engine, request, lambda: False, None, grace)
        finally:
            # If the executor was left meanwhile, there is nothing to say.
            if not engine.demand.persistent and self.presence is not None:
                await self.lane.write(lambda: here.announce("guest", ()))

    async def _drive_until(
        self,
        engine: Engine,
        request: Request,
        done: Callable[[], bool],
        max_time: Duration | None,
        grace: Duration | None,
    ) -> None:
        """Until it is done; or, stopped by its limit or by an interrupt for good, drained."""
        end = None if max_time is None else self._clock.now() + nanoseconds(max_time)
        cut_at: int | None = None
        stopped = False
        while not done():
            now = self._clock.now()
            if not stopped and (self.interrupts or (end is not None and now >= end)):
                stopped = True
                self._stop(engine, request, Stop.DRAIN)
                cut_at = None if grace is None else now + nanoseconds(grace)
            if stopped and (self.interrupts > 1 or (cut_at is not None and now >= cut_at)):
                self._stop(engine, request, Stop.CUT)
                cut_at = None  # once: what is cut is over as soon as it is recorded
            if stopped and engine.drained:
                return
            await engine.changed(seconds_until(now, end if not stopped else cut_at))

    def _stop(self, engine: Engine, request: Request, stop: Stop) -> None:
        if self.interrupts:
            engine.interrupt(stop)
        else:
            engine.stop(request, stop)

    def interrupt(self) -> None:
        """See `DurableExecutor.interrupt`."""
        self.interrupts += 1
        if self.engine is not None:
            self.engine.interrupt(Stop.DRAIN if self.interrupts == 1 else Stop.CUT)
            self.engine.poller.poll_soon()

    def in_flight(self) -> int:
        """How many attempts of activities are running in this process."""
        return 0 if self.engine is None else self.engine.attempts.count

    def now(self) -> int:
        """The time in nanoseconds."""
        return self._clock.now()

    def is_news(self, run: int) -> bool:
        """Whether this process was the first to see the run's problem."""
        refusal = None if self.engine is None else self.engine.table.refused.get(run)
        return refusal is not None and refusal.is_news

    @property
    def stopped(self) -> bool:
        """Whether an interrupt has come, and what was in flight is over."""
        return bool(self.interrupts) and (self.engine is None or self.engine.drained)

    async def pause(self, longest_s: float) -> None:
        """Until something may have changed."""
        if self.engine is not None and not self.engine.idle:
            await self.engine.changed(min(longest_s, 0.25))
        else:
            await asyncio.sleep(min(longest_s, _POLL_S))

    async def ended(self, row: RunRow, knows: Callable[[str], bool]) -> RunRow:
        """The run, once it has ended. Raises what keeps it from that.

        It is driven here where nobody does, if we know its workflow.
        """
        while row.status == "running":
            driver = self.driver(row)
            if driver.why is not None:
                refused = self.engine is not None and row.key in self.engine.table.refused
                if refused or not knows(row.workflow):
                    raise self._stuck(row, driver.why)
                (await self.begun()).want(row.key, nanoseconds(DEFAULT_IDLE_WAIT))
            if self.engine is not None and self.standing(row.key) in ("driven", "resting"):
                await self.engine.settled(row.key, 1.0)
            else:
                await self.pause(1.0)
            row = self.store.by_key(row.key)
        return row

    def _stuck(self, row: RunRow, why: BelugaError) -> BelugaError:
        """What is said of a run that nobody drives: why it is parked, if it is."""
        info = self.viewer.listed(self.store.by_key(row.key))
        return why if info.problem is None else parked_error(info)

    # -- who drives ------------------------------------------------------------------------------

    @property
    def own_id(self) -> str | None:
        """The owner id of this process, once it drives."""
        return None if self.presence is None else self.presence.id

    def is_alive(self, owner_id: str) -> bool:
        """Whether that owner's process lives."""
        if self.presence is not None:
            return self.presence.is_alive(owner_id)
        return ownership.is_alive(self.store.database.folder, owner_id)

    def is_free(self, row: RunRow) -> bool:
        """Whether nobody who lives holds the run."""
        return row.owner is None or not self.is_alive(row.owner)

    def wake(self, owner: OwnerRow | None) -> None:
        """Something was written that concerns that process, and us."""
        wake_owner(owner)
        if self.engine is not None:
            self.engine.poller.poll_soon()

    def living(self) -> list[str]:
        """The ids of the owners that live."""
        return [owner.id for owner in self.store.owners() if self.is_alive(owner.id)]

    def wake_all(self) -> None:
        """Something was written that may concern any process, and us."""
        for owner in self.store.owners():
            wake_owner(owner)
        self.wake(None)

    def standing(self, run: int) -> Standing | None:
        """What the run is to this process: see `RunTable.standing`."""
        return None if self.engine is None else self.engine.table.standing(run)

    def driver(self, row: RunRow) -> Driver:
        """See `DurableExecutor.driver_of`."""
        if row.status != "running":
            return Driver("nobody", why=RunEndedError(f"run {row.workflow_id!r} has ended"))
        ours = row.owner is not None and row.owner == self.own_id
        owner = None if ours else self.store.owner(row.owner)
        if owner is not None and self.is_alive(owner.id):
            return Driver("process", self.viewer.process(owner))
        # A run with a problem was refused, perhaps by those workers: they may not try again.
        workers = () if ours or row.problem is not None else self.workers(row.workflow)
        if workers:
            return Driver("worker", self.viewer.process(workers[0]))
        refusal = None if self.engine is None else self.engine.table.refused.get(row.key)
        # One that is refused and ours still has attempts in flight.
        if refusal is not None and not ours:
            return Driver("nobody", why=refusal.reason)
        if ours or self.standing(row.key) is not None:
            return Driver("us")
        return Driver("nobody", why=_nobody(row))

    def wake_driver(self, row: RunRow) -> Driver:
        """Wake who may move the run on, before anything else is asked; who does, as things are."""
        theirs = row.owner is None or row.owner != self.own_id
        if theirs and not wake_owner(self.store.owner(row.owner)):
            self.wake_workers(row.workflow)
        return self.driver(row)

    def workers(self, workflow: str | None) -> list[OwnerRow]:
        """The live workers, we not among them, that know the workflow (`None`: any)."""
        return [owner for owner in self._workers(workflow) if self.is_alive(owner.id)]

    def _workers(self, workflow: str | None) -> list[OwnerRow]:
        workers = [owner for owner in self.store.owners() if owner.role == "worker"]
        know_it = [x for x in workers if workflow is None or workflow in x.workflows]
        return [owner for owner in know_it if owner.id != self.own_id]

    def wake_workers(self, workflow: str) -> None:
        """Wake the workers that know the workflow; one that is dead is not told."""
        for worker in self._workers(workflow):
            wake_owner(worker)

    def goes_on(self, row: RunRow, info: RunInfo, patience: int) -> bool:
        """Whether the run will move within `patience` because somebody drives it."""
        engine, standing = self.engine, self.standing(row.key)
        if engine is not None and standing == "driven":
            engine.table.extend_idle_wait(row.key, patience)
            return True
        if info.problem is not None or self.interrupts:
            return False
        rests_here = standing == "resting"
        if not rests_here and not self.is_free(row):
            return True
        if not rests_here and self._has_work(row) and self.driver(row).kind == "worker":
            return True
        if engine is None or row.due_at is None or (row.owner is not None and not rests_here):
            return False
        if row.due_at > self._clock.now() + patience:
            return False
        engine.want(row.key, patience)
        return True

    def _has_work(self, row: RunRow) -> bool:
        """Whether there is something to do for the run, which nobody has come to yet."""
        due = row.due_at is not None and row.due_at <= self._clock.now()
        return due or row.key in self.store.mail([row.key])


def _nobody(row: RunRow) -> NotFinishedError:
    return NotFinishedError(
        f"run {row.workflow_id!r} has not ended, and nobody drives it",
        workflow_id=row.workflow_id,
        run_id=row.run_id,
        hint=f"{command_line('resume', row.workflow_id)}, or give this executor its workflow",
    )
