"""The engine: the only place where the core meets the world.

The life of a tick, in synchronous steps on the real event loop:

1. *Poll*: who sent what, what is due, what can be claimed (at least once a second, and whenever
   somebody wakes us).
2. *Decide*: for every run to which something happened, `TurnBuilder` applies the facts one by one.
3. *Commit*: new runs and the turns of all others in one transaction.
4. *Act*: only now attempts are started and stopped, logs and hooks emitted, runs let go.
5. *Refuse*: runs whose turn cannot be taken get their problems. What is in flight for them ends,
   and its ends are kept in their inboxes for whoever takes them up next.

Whatever is written goes through one lane, `Writer`: on the loop while the disk is quick and nobody
else writes, else off it. Then the step ends, and the lane's answer begins the next one.

Memory is never ahead of the disk: if a commit fails, or somebody else has ended a run, what is in
memory of it is thrown away and read again. A run that rests is let go in its last turn's own
transaction; its replayed state is cached for a while, and is good as long as the history has not
grown.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from belugawf.authoring.loader import Catalog
from belugawf.executor import Hooks, IfExists
from belugawf.executor.info import NewRun
from belugawf.executor.options import EngineOptions
from belugawf.host.attempts import AttemptRunner
from belugawf.host.border import Signalled
from belugawf.host.clock import Clock
from belugawf.local.drive.attempts import AttemptQueue
from belugawf.local.drive.cache import ReplayCache
from belugawf.local.drive.demand import Demand, Request, Starts, Stop
from belugawf.local.drive.hooks import TurnHooks
from belugawf.local.drive.polling import Poller
from belugawf.local.drive.presence import Presence
from belugawf.local.drive.problems import Refused
from belugawf.local.drive.processing import TurnProcessor
from belugawf.local.drive.reports import Reports
from belugawf.local.drive.run import Exit, OwnedRun, Phase, SlotPhase
from belugawf.local.drive.table import ReadyQueue, RunTable
from belugawf.local.drive.ticking import Notifier, Ticker
from belugawf.local.drive.turns import OwnedTurn
from belugawf.local.file.writer import Writer
from belugawf.local.store.rows import RunRow, Start
from belugawf.local.store.store import Store
from belugawf.model.errors import BusyError, UnavailableError, UsageError
from belugawf.model.outcomes import Outcome


class Engine:
    """Drives runs until it is closed. All methods are called on its event loop.

    Runs and attempts begin in copies of `context`, by default an empty one. `own_process`: what may
    take the process down runs in one of its own.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        presence: Presence,
        catalog: Callable[[], Catalog],
        options: EngineOptions,
        clock: Clock,
        hooks: Sequence[Hooks] = (),
        context: contextvars.Context | None = None,
        *,
        own_process: bool = False,
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._reports = Reports(store, writer, options)
        self._hooks = TurnHooks(hooks, self._reports.lines)
        self.ticker = Ticker(
            clock,
            self._tick,
            next_moment=self._next_moment,
            retries=lambda: self.demand.persistent and not self.demand.stopped,
            rested=lambda: self.attempts.step_now(self._queue.launched),
            ended=self._on_end,
        )
        self._wake = self.ticker.wake
        self.attempts = AttemptRunner(
            self._take_outcome,
            clock,
            threads=options.threads,
            payload_limit=options.payload_limit,
            keep=presence.kept_descriptors,
            on_orphan_ended=self._reconsider,
            on_begun=self._wake,
            context=context,
            lines=self._reports.lines,
        )
        self.demand = Demand(store, presence)
        self._starts = Starts()
        self._notifier = Notifier()
        self.poller = Poller(
            store, writer, presence, catalog, clock, demand=self.demand, wake=self._wake
        )
        runs: dict[int, OwnedRun] = {}
        ready = ReadyQueue(runs)
        self._queue = AttemptQueue(
            self.attempts,
            store,
            options,
            self._hooks.attempt_started if hooks else None,
            ready.mark,
            isolates=own_process,
        )
        self.table = RunTable(
            store,
            writer,
            presence.id,
            runs,
            ready=ready,
            queue=self._queue,
            attempts=self.attempts,
            cache=ReplayCache(store, catalog, options, context),
            demand=self.demand,
            left=self._on_exit,
        )
        self._processor = TurnProcessor(
            store,
            writer,
            presence.id,
            options,
            clock,
            table=self.table,
            demand=self.demand,
            starts=self._starts,
            attempts=self.attempts,
            hooks=self._hooks,
            reports=self._reports,
        )

    # -- what the executor asks ------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick, if it does not yet."""
        if self.ticker.start():
            self.poller.listen()
            self._reports.open()

    @asynccontextmanager
    async def request(
        self,
        named: Iterable[int] | None,
        idle_wait_ns: int,
        *,
        workflow: str | None = None,
        persistent: bool = False,
    ) -> AsyncIterator[Request]:
        """While this lasts, drive these runs; `None`: whatever can move (only of `workflow`).

        They sleep through waits of up to `idle_wait_ns`. `persistent`: as a worker. If it was
        stopped, what could not be started is let go in the end, and then others start again.
        """
        if named is None:
            request = Request(
                idle_wait_ns=idle_wait_ns,
                workflow=workflow,
                persistent=persistent,
                driven=set(self.table.runs),
            )
            self.table.forget_refusals()
        else:
            asked = dict.fromkeys(named, idle_wait_ns)
            request = Request(named=asked, driven=set(asked))
        self.demand.add(request)
        try:
            for run in request.named or ():
                self.table.want(run, idle_wait_ns)
            self.poller.poll_soon()
            yield request
            # While somebody else has stopped it too, that is theirs to do.
            if self.demand.is_stopped_by(request):
                self.ticker.check()
                released = self.demand.release(request)
                self._wake()
                await asyncio.shield(released)
        finally:
            self.demand.remove(request)
            if request.stopped:
                self.poller.poll_soon()

    def want(self, run: int, idle_wait_ns: int) -> None:
        """Drive this run from now on, and sleep through waits of up to `idle_wait_ns`."""
        self.demand.own.name(run, idle_wait_ns)
        self.table.want(run, idle_wait_ns)
        self.poller.poll_soon()

    async def create(self, new: NewRun, if_exists: IfExists, idle_wait_ns: int) -> RunRow:
        """Record a run of ours with the next commit, and drive it if it is a new one.

        Raises as `Store.create`, and what the disk says.
        """
        self.ticker.check()
        started = self._starts.ask(Start(new, if_exists), idle_wait_ns)
        self._wake()
        return await started

    def stop(self, request: Request, stop: Stop) -> None:
        """Claim and start nothing, whoever asks for it, until the request's scope has ended."""
        self.demand.stop(request, stop)
        self._queue.stop()
        if stop is Stop.CUT:
            self.attempts.cut()
        self._wake()

    def interrupt(self, stop: Stop) -> None:
        """A signal ends this process: what fails from now on was interrupted."""
        self.attempts.interrupt()
        self.stop(self.demand.own, stop)

    @property
    def idle(self) -> bool:
        """Whether nothing is driven, and the last poll found nothing to claim."""
        if self.ticker.failure is not None or not self.poller.idle:
            return False
        if self.demand.unseen or self._starts:
            return False
        return all(run.rests for run in self.table.runs.values())

    @property
    def drained(self) -> bool:
        """Whether nothing is in flight and everything that ended is recorded."""
        if self.attempts.count:
            return False
        runs, phases = self.table.runs.values(), (SlotPhase.ENDED, SlotPhase.RECORDING)
        return not any(run.by_phase[phase] for run in runs for phase in phases)

    async def changed(self, timeout_s: float) -> None:
        """Until something was committed, a run was let go or refused; or the time is up.

        Raises what the disk says, if the engine gave up.
        """
        self.ticker.check()
        await self._notifier.wait(None, timeout_s)
        self.ticker.check()

    async def settled(self, run: int, timeout_s: float) -> None:
        """Until this process drives the run no longer, or has come to it; or the time is up.

        Raises what the disk says, if the engine gave up.
        """
        self.ticker.check()
        await self._notifier.wait(run if run in self.table.runs else None, timeout_s)
        self.ticker.check()

    async def close(self) -> None:
        """Stop ticking, let all runs go, end everything that was started here.

        Attempts must have been drained or cut before; what is left is cancelled without a record.
        """
        self.stop(self.demand.own, Stop.DRAIN)
        try:
            while self.ticker.started and not self.drained and self.ticker.failure is None:
                self._wake()
                await self.changed(0.1)
            await self.ticker.close()
            await self.attempts.close()
            await self._hooks.close()
            await self._reports.flush()
        except BaseException:
            # Whoever waited for this was cancelled: at once, then, and without a record.
            for key in self.table.runs:
                self.attempts.cancel_run(key)
            raise
        finally:
            self.ticker.stop()
            if self.ticker.started:
                self.poller.close()
                self._reports.close()
            self.table.cache.close()

    def evict_all(self) -> None:
        """Unwind whatever is in memory; a process that ends right after may leave it."""
        self.table.cache.clear(self.table.runs.values())
        self.table.runs.clear()

    def _on_end(self) -> None:
        """No tick comes any more: whoever waits is told why."""
        failure = self.ticker.failure
        left = UsageError("the executor was left", hint="start runs inside it")
        self._starts.refuse(failure or left)
        for request in self.demand.to_release:
            request.released(failure or left)
        self._notifier.notify_all()

    # -- the tick --------------------------------------------------------------------------------

    async def _tick(self) -> None:
        try:
            if self.demand.to_release:
                await self._release()
            if self._queue.stopped and not self.demand.stopped:
                self._start_again()
            if self.table.ended_at_work:
                await self.table.free_ended()
            now = self._clock.now()
            if self.poller.is_due(now):
                await self._reports.save_heartbeats(self.attempts)
                await self._reports.save_late(now)
                await self.poller.poll(self.table, now)
                self._notifier.notify()
            self.attempts.expire(now)
            await self._take_turns(now)
        except Signalled:
            raise  # to poll soon would import the modules again before we are stopped
        except BaseException:
            self.poller.poll_soon()
            raise
        self._queue.start(now)
        if self.demand.stopped is Stop.CUT:
            self.attempts.cut()  # what was on record as started before that

    async def _release(self) -> None:
        """Let go what could not be started, for requests that were stopped."""
        while self.demand.to_release:
            request = self.demand.to_release[-1]
            is_kept = self.demand.kept(request)
            left = [run for key, run in self.table.runs.items() if not is_kept(key)]
            try:
                if self.demand.is_stopped_by(request):
                    await self.table.leave(left)
            except (UnavailableError, BusyError) as error:
                request.released(error)
            else:
                request.released(None)
            self.demand.to_release.remove(request)

    def _start_again(self) -> None:
        """Nobody stops us any more. Not within a commit: what it writes is in memory already."""
        self._queue.go_on()
        for run in self.table.runs.values():
            if run.phase is not Phase.LEAVING:
                self._queue.queue(run, self._clock.now())

    async def _take_turns(self, now: int) -> None:
        ready = self.table.ready.take(now)
        try:
            if self.attempts.reported and any(run.by_phase[SlotPhase.ENDED] for run in ready):
                # An attempt has ended: what it reported last is for the next one.
                await self._reports.save_heartbeats(self.attempts)
            held = [run for run in ready if run.phase is not Phase.LEAVING]
            turns: list[OwnedTurn] = []
            refused: Refused = {}
            if held:
                turns, refused = await self._processor.decide(held, now)
            if await self._processor.commit(turns, refused):
                self._notifier.notify()
            if refused:
                self._hooks.refused(await self.table.refuse(refused))
            if len(held) < len(ready):
                leaving = [run for run in ready if run.phase is Phase.LEAVING]
                await self.table.leave([run for run in leaving if run.key not in refused])
        except BaseException:
            for run in ready:
                self.table.ready.mark(run)
            raise

    def _next_moment(self) -> int:
        """The next moment at which something is due."""
        if self.table.ready or self._starts:
            return 0
        moment = self.poller.next_moment()
        for other in (self.attempts.next_limit(), self.table.ready.next_moment()):
            if other is not None:
                moment = min(moment, other)
        return moment

    # -- attempts --------------------------------------------------------------------------------

    def _on_exit(self, run: int, exit: Exit | None, due_at: int | None = None) -> None:
        """That run is not driven here any more; `exit` is `None` if it is LEAVING only."""
        if exit is not None:
            self.poller.on_exit(exit, due_at)
        self._notifier.notify(run)
        self._notifier.notify()

    def _take_outcome(self, outcome: Outcome) -> None:
        run = self.table.runs.get(outcome.run)
        slot = None if run is None else run.slots.get(outcome.seq)
        if run is not None and slot is not None and slot.phase is SlotPhase.RUNNING:
            slot.end(outcome)
            self.table.ready.mark(run)
            self._wake()

    def _reconsider(self, key: int) -> None:
        """What nobody waited for has ended at last: its run may be let go now."""
        run = self.table.runs.get(key)
        if run is not None:
            run.receive()
            self.table.ready.mark(run)
        self._wake()
