"""The engine: the only place where the core meets the world.

The life of a tick, in synchronous steps on the real event loop:

1. *Look*: who sent what, what is due, what can be claimed (at least once a second, and whenever
   somebody wakes us).
2. *Decide*: for every run to which something happened, `TurnMaker` applies the facts one by one.
3. *Commit*: new runs and the turns of all others in one transaction.
4. *Act*: only now attempts are started and stopped, logs and hooks emitted, runs let go.
5. *Refuse*: runs whose turn cannot be taken get their problems. What is in flight for them ends,
   and its ends are kept in their inboxes for whoever takes them up next.

Whatever is written goes through one lane, `Writer`: on the loop while the disk is quick and nobody
else writes, else off it. Then the step ends, and the lane's answer begins the next one.

Memory is never ahead of the disk: where a commit fails, or somebody else has ended a run, what is
in memory of it is thrown away and read again. A run that rests is let go in its last turn's own
transaction; its replayed state is kept on a shelf for a while, and is good as long as the history
has not grown.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterable, Sequence

from belugawf.authoring.loader import Catalog
from belugawf.executor import Hooks, IfExists
from belugawf.executor.info import NewRun
from belugawf.executor.options import EngineOptions
from belugawf.host import test_hooks
from belugawf.host.attempts import AttemptRunner
from belugawf.host.border import log
from belugawf.host.clock import Clock
from belugawf.local.drive.agenda import Agenda
from belugawf.local.drive.claiming import Claims, Noted
from belugawf.local.drive.deciding import Decider
from belugawf.local.drive.exits import Exits
from belugawf.local.drive.memory import Memory
from belugawf.local.drive.presence import Presence
from belugawf.local.drive.problems import Refused, sort_out, unwritable
from belugawf.local.drive.run import EXITS, Exit, OwnedRun, Phase, SlotPhase
from belugawf.local.drive.sleeping import Pacer, Waiters
from belugawf.local.drive.starting import AttemptQueue
from belugawf.local.drive.starts import Starts
from belugawf.local.drive.steps import Steps
from belugawf.local.drive.telling import Teller
from belugawf.local.drive.turns import MadeTurn
from belugawf.local.file.writer import Writer
from belugawf.local.store.rows import (
    Fate,
    RunRow,
    Start,
    Turn,
    Verdict,
)
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.durations import SECOND_NS
from belugawf.model.errors import (
    BelugaError,
    BusyError,
    DisplacedError,
    UnavailableError,
    UsageError,
    shortage,
)
from belugawf.model.history import OpenActivity
from belugawf.model.outcomes import Outcome

# Nothing waits longer without a look at the wall clock and at the database: datagrams are hints,
# and a sleeping laptop stops the monotonic clock.
LOOK_EVERY_NS = SECOND_NS
# What those watch who wait for any change.
_ANYTHING = 0
# How long a worker pauses after the disk refused, in seconds, doubling.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


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
        self._presence = presence
        self._owner = presence.id
        self._catalog = catalog
        self._options = options
        self._clock = clock
        self._teller = Teller(hooks)
        self._attempts = AttemptRunner(
            self._take_outcome,
            clock,
            threads=options.threads,
            payload_limit=options.payload_limit,
            keep=presence.kept_descriptors,
            on_orphan_ended=self._reconsider,
            on_begun=self.wake,
            context=context,
        )
        self._queue = AttemptQueue(
            self._attempts, store, options, self._on_start, self._stir, isolates=own_process
        )
        self._memory = Memory(store, catalog, options, context)
        # Nothing that user code sets in a context variable is seen in here.
        self._context = contextvars.Context()
        self._pacer = Pacer(clock, self._begin_tick, self._context)
        self._claims = Claims(store, presence)
        self._runs: dict[int, OwnedRun] = {}
        self._agenda = Agenda(self._runs)
        self._starts = Starts()
        self.touched = Noted()
        self._stopped_by: set[object] = set()
        self._cutting = False
        self._closing = False
        self._looked_at = 0
        self._look_now = True
        self._next_due: int | None = None
        self._watching = Waiters()
        self._settling = Waiters()
        self._exits = Exits(
            store,
            writer,
            presence.id,
            self._runs,
            attempts=self._attempts,
            queue=self._queue,
            memory=self._memory,
            agenda=self._agenda,
            claims=self._claims,
            touched=self.touched,
            gone=self._gone,
            want=self.want,
        )
        self._decider = Decider(
            store,
            writer,
            presence.id,
            options,
            clock,
            memory=self._memory,
            agenda=self._agenda,
            exits=self._exits,
            queue=self._queue,
        )
        self._idle = False
        self._failure: BelugaError | None = None
        self._pausing: asyncio.Future[None] | None = None
        self._disk_pause_s = _FIRST_PAUSE_S
        self._ended: asyncio.Future[None] | None = None

    # -- what the executor asks ------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick, if it does not yet."""
        if self._ended is None:
            loop = asyncio.get_running_loop()
            self._ended = loop.create_future()
            loop.add_reader(self._presence.fileno(), self._on_datagram)
            self._pacer.wake()

    def want(self, run: int, idle_wait_ns: int) -> None:
        """Drive this run, and sleep through waits of up to `idle_wait_ns`."""
        self._exits.forget_refusal(run)
        self._claims.follow(run, idle_wait_ns)
        driven = self._runs.get(run)
        if driven is not None and driven.want(idle_wait_ns):
            self._stir(driven)
        else:
            self._claims.name(run, idle_wait_ns)
        self.look()

    async def create(self, new: NewRun, if_exists: IfExists, idle_wait_ns: int) -> RunRow:
        """Record a run of ours with the next commit, and drive it where it is a new one.

        Raises as `Store.create`, and what the disk says.
        """
        self.check()
        started = self._starts.ask(Start(new, if_exists), idle_wait_ns)
        self.wake()
        return await started

    def _adopt(self, row: RunRow, started: e.WorkflowStarted, idle_wait_ns: int) -> None:
        """Drive a run that was created as ours."""
        self._claims.follow(row.key, idle_wait_ns)
        self._memory.begin(self._add(row, idle_wait_ns, interrupted=None), started)
        self._teller.hook("on_workflow_start", row)

    def want_everything(
        self, idle_wait_ns: int, *, workflow: str | None = None, persistent: bool = False
    ) -> None:
        """Drive whatever can move from now on (only runs of `workflow`, if given).

        `persistent`: as a worker, until `stop_working`, also while the disk refuses.
        """
        self._exits.forget_refusals()
        self._claims.want_everything(idle_wait_ns, workflow, persistent)
        self.look()

    def stop_working(self) -> bool:
        """One worker fewer. Whether it was the last: then only what was asked for is claimed."""
        self._claims.workers -= 1
        return not self._claims.persistent

    def forget_wishes(self, runs: Iterable[int]) -> None:
        """A resume is over: these runs are not followed for it."""
        self._claims.forget(runs)

    def forget_everything(self, workflow: str | None) -> None:
        """A resume of everything, or of that workflow, is over."""
        self._claims.resumed(workflow)

    def look(self) -> None:
        """Something may have come from outside: look at the database with the next tick."""
        self._look_now = True
        self._idle = False
        self.wake()

    def wake(self) -> None:
        """Tick soon."""
        if self._ended is not None:
            self._pacer.wake()

    def _stir(self, run: OwnedRun) -> None:
        """Something has happened to that run: look whether it is ready, with the next tick."""
        self._agenda.add((run,))
        self.wake()

    @property
    def _stopping(self) -> bool:
        return bool(self._stopped_by)

    def stop_starting(self, who: object = None) -> None:
        """Claim nothing and start nothing; attempts in flight go on.

        Until everybody who has stopped it goes on; `None` never does.
        """
        self._stopped_by.add(who)
        self._queue.stop()
        self.wake()

    def interrupt(self) -> None:
        """A signal ends this process: what fails from now on was interrupted."""
        self._attempts.interrupt()
        self.stop_starting()

    def cut(self) -> None:
        """After a stop: interrupt the attempts in flight."""
        self._cutting = True
        self._attempts.cut()
        self.wake()

    def drives(self, run: int) -> bool:
        """Whether this process drives the run, or is about to."""
        driven = self._runs.get(run)
        return self._claims.is_named(run) or (driven is not None and not driven.rests)

    def holds(self, run: int) -> bool:
        """Whether the run is this process's now."""
        return run in self._runs

    def follows(self, run: int) -> bool:
        """Whether this process drives the run now, or will when it can move again."""
        return self._claims.follows(run) or run in self._runs

    def be_patient(self, run: int, idle_wait_ns: int) -> None:
        """Sleep through longer waits of a run that is driven here."""
        if self._claims.is_followed(run):
            self._claims.follow(run, idle_wait_ns)
        if run in self._runs:
            self._runs[run].extend_idle_wait(idle_wait_ns)

    @property
    def driven(self) -> tuple[int, ...]:
        """The runs that are this process's now."""
        return tuple(self._runs)

    def in_flight(self) -> int:
        """How many attempts are running."""
        return self._attempts.count

    def refusal(self, run: int) -> BelugaError | None:
        """Why this process does not drive that run; `None` where there is no reason."""
        return self._exits.refusal(run)

    def is_news(self, run: int) -> bool:
        """Whether this process was the first to see the run's problem."""
        return self._exits.is_news(run)

    @property
    def idle(self) -> bool:
        """Whether nothing is driven, and the last look found nothing to claim."""
        if self._failure is not None or not self._idle or self._claims.asked or self._starts:
            return False
        return all(run.rests for run in self._runs.values())

    @property
    def drained(self) -> bool:
        """Whether nothing is in flight and everything that ended is recorded."""
        if self._attempts.count:
            return False
        return not any(run.ended or run.recording for run in self._runs.values())

    async def changed(self, timeout_s: float) -> None:
        """Until something was committed, a run was let go or refused; or the time is up.

        Raises what the disk says, where the engine gave up.
        """
        self.check()
        await self._watching.wait(_ANYTHING, timeout_s)
        self.check()

    async def settled(self, run: int, timeout_s: float) -> None:
        """Until this process drives the run no longer; or the time is up.

        Raises what the disk says, where the engine gave up.
        """
        self.check()
        if run in self._runs:
            await self._settling.wait(run, timeout_s)
            self.check()

    def check(self) -> None:
        """Raise why nothing is driven here any more, if that is so."""
        if self._failure is not None:
            raise self._failure

    async def pause(self, who: object) -> None:
        """After a stop, once drained: let go what could not be started, and start again.

        Runs that are followed stay; others that something is at work for, until nothing is. While
        somebody else has stopped it too, that is theirs to do.
        """
        try:
            if self._stopped_by == {who}:
                self.check()
                if self._pausing is None:
                    self._pausing = asyncio.get_running_loop().create_future()
                self.wake()
                await asyncio.shield(self._pausing)
        finally:
            self.go_on(who)

    def go_on(self, who: object) -> None:
        """`who` wants things claimed and started again, after a stop."""
        if who in self._stopped_by:
            self._stopped_by.discard(who)
            self.look()

    def _start_again(self) -> None:
        """Nobody stops us any more. Not within a commit: what it writes is in memory already."""
        self._cutting = False
        self._queue.go_on()
        for run in self._runs.values():
            if run.phase is not Phase.LEAVING:
                self._queue.queue(run, self._clock.now())

    async def close(self) -> None:
        """Stop ticking, let all runs go, end everything that was started here.

        Attempts must have been drained or cut before; what is left is cancelled without a record.
        """
        self.stop_starting()
        try:
            await self._end_ticking()
            await self._attempts.close()
            await self._teller.close()
        except BaseException:
            # Whoever waited for this was cancelled: at once, then, and without a record.
            for key in self._runs:
                self._attempts.cancel_run(key)
            raise
        finally:
            self._closing = True
            if self._ended is not None:
                self._pacer.stop()
                asyncio.get_running_loop().remove_reader(self._presence.fileno())
            self._memory.close()

    async def _end_ticking(self) -> None:
        if self._ended is None:
            return
        while not self.drained and self._failure is None:
            self.wake()
            await self.changed(0.1)
        # What is being committed is also told of.
        self._closing = True
        self.wake()
        await asyncio.shield(self._ended)

    def lingering(self) -> list[int]:
        """The runs that stay ours, because something cannot be stopped that works for them."""
        return self._exits.lingering()

    def when_over(self, callback: Callable[[], None]) -> None:
        """After `close`: call that as soon as nothing is at work here any more, on any thread."""
        self._attempts.when_over(callback)

    def evict_all(self) -> None:
        """Unwind whatever is in memory; a process that ends right after may leave it."""
        self._memory.clear(self._runs.values())
        self._runs.clear()

    # -- the tick --------------------------------------------------------------------------------

    def _begin_tick(self) -> None:
        if self._closing or self._failure is not None:
            self._end()
            return
        Steps(self._tick(), self._end_tick, self._context).step()

    def _end_tick(self, error: BaseException | None) -> None:
        """That tick is over; sleep until something is due, or somebody wakes us."""
        if self._closing:
            self._end()
            return
        if error is None:
            self._disk_pause_s = _FIRST_PAUSE_S
            self._pacer.rest(self._next_moment())
            return
        if isinstance(error, (UnavailableError, BusyError)):
            may_get_better = not isinstance(error, DisplacedError)
            if may_get_better and self._claims.persistent and not self._stopping:
                log(logging.WARNING, "%s; trying again in %g s", error, self._disk_pause_s)
                self._pacer.rest(self._clock.now() + int(self._disk_pause_s * SECOND_NS))
                self._disk_pause_s = min(self._disk_pause_s * 2, _LONGEST_PAUSE_S)
                self._look_now, self._idle = True, False
                return
            self._give_up(error)
            return
        if isinstance(error, KeyboardInterrupt):
            self._give_up(BelugaError("Ctrl-C ended the engine; the runs are saved"))
            raise error  # the program's own way to end
        short = shortage(error)
        if short is None:
            log(logging.ERROR, "a bug in belugawf stopped the engine", error=error)
        bug = BelugaError(f"a bug in belugawf: {type(error).__name__}: {error}")
        self._give_up(short or bug)

    def _give_up(self, error: BelugaError) -> None:
        """Nothing is driven here any more; whoever waits, or comes, is told why."""
        self._failure = error
        self._starts.refuse(error)
        if self._pausing is not None and not self._pausing.done():
            self._pausing.set_exception(error)
        self._announce()
        self._settling.release_all()
        self._end()

    def _end(self) -> None:
        self._pacer.stop()
        self._starts.refuse(UsageError("the executor was left", hint="start runs inside it"))
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _tick(self) -> None:
        if self._pausing is not None:
            await self._pause()
        if self._queue.stopped and not self._stopping:
            self._start_again()
        if self._exits.ended_at_work:
            await self._exits.free_ended()
        now = self._clock.now()
        if self._must_look(now):
            await self._look(now)
        self._attempts.expire(now)
        ready = self._agenda.take(now)
        try:
            if any(run.ended for run in ready):
                # An attempt has ended: what it reported last is for the next one.
                await self._save_heartbeats()
            if ready or self._starts:
                await self._turn(ready, now)
        except BaseException:
            self._agenda.add(ready)
            raise
        self._queue.start(now)
        if self._cutting:
            self._attempts.cut()  # what was on record as started before that

    async def _turn(self, ready: Sequence[OwnedRun], now: int) -> None:
        held = [run for run in ready if run.phase is not Phase.LEAVING]
        made: list[MadeTurn] = []
        refused: Refused = {}
        if held:
            made, refused = await self._decider.decide(held, now)
        await self._commit(made, refused)
        if refused:
            await self._exits.refuse(refused)
        if len(held) < len(ready):
            leaving = [
                run for run in ready if run.phase is Phase.LEAVING and run.key not in refused
            ]
            await self._exits.leave(leaving)

    async def _pause(self) -> None:
        pausing, self._pausing = self._pausing, None
        assert pausing is not None
        try:
            if self._stopping:
                follows = self._claims.follows
                await self._exits.leave(
                    [run for key, run in self._runs.items() if not follows(key)]
                )
        except (UnavailableError, BusyError) as error:
            if not pausing.done():
                pausing.set_exception(error)
        if not pausing.done():
            pausing.set_result(None)

    async def _save_heartbeats(self) -> None:
        beats = self._attempts.take_heartbeats()
        if not beats:
            return
        try:
            await self._writer.write(lambda: self._store.save_heartbeats(beats))
        except BaseException:
            self._attempts.put_back_heartbeats(beats)
            raise

    def _must_look(self, now: int) -> bool:
        if self._look_now or not self._looked_at <= now < self._looked_at + LOOK_EVERY_NS:
            return True
        return self._next_due is not None and self._next_due <= now

    def _next_moment(self) -> int:
        """The next moment at which something is due."""
        # The clock may have been set back since that look.
        moments = [min(self._looked_at, self._clock.now()) + LOOK_EVERY_NS]
        limit = self._attempts.next_limit()
        if limit is not None:
            moments.append(limit)
        alarm = self._agenda.next_alarm()
        if alarm is not None:
            moments.append(alarm)
        if self._next_due is not None:
            moments.append(self._next_due)
        return 0 if self._agenda or self._look_now else min(moments)

    # -- looking ---------------------------------------------------------------------------------

    def _on_datagram(self) -> None:
        if self._presence.drain():
            self.look()

    async def _look(self, now: int) -> None:
        self._look_now = False
        self._looked_at = now
        if self._runs:
            for key in self._store.mail(self._runs):
                self._runs[key].receive()
                self._agenda.add((self._runs[key],))
            for key in self._store.ended(self._runs):
                self._exits.retire(self._runs[key], Exit.LOST)
        await self._save_heartbeats()
        self._next_due = None
        if not self._stopping:
            await self._claim(now)
            self._next_due = self._claims.next_due(now)

    async def _claim(self, now: int) -> None:
        refused_before = self._exits.still_refused()
        leaving = {key for key, run in self._runs.items() if run.phase is Phase.LEAVING}
        found = self._claims.look(now, self._runs.keys(), refused_before, leaving)
        free, refused = sort_out(found.rows, self._catalog)
        await self._exits.refuse(refused)
        if free:
            await self._take_over(free)
        self._claims.looked()
        # While the claim was being committed somebody may have wished for more.
        self._idle = not found.more and not found.full and not self._look_now
        self._look_now = self._look_now or found.more
        self._announce()

    async def _take_over(self, rows: Sequence[RunRow]) -> None:
        """Claim these runs, and drive those that were still to be had."""
        dead = {row.owner for row in rows if row.owner not in (None, self._owner)}
        # Asked before: once they are ours on disk, nothing may keep them from being driven.
        deaths = {owner: self._presence.how_it_died(owner) for owner in dead if owner}
        for row in rows:
            idle_wait_ns = self._claims.patience(row.key)
            self._add(row, idle_wait_ns, interrupted=deaths.get(row.owner or ""))
        owners = {row.key: row.owner for row in rows}
        # If we do not hear whether they are ours, the disk is asked before their next turns.
        claimed = await self._writer.write(
            lambda: self._store.claim(owners, self._owner), size=len(rows)
        )
        for key in owners.keys() - {row.key for row in claimed}:
            self._exits.retire(self._runs[key], Exit.LOST)
        if deaths:
            await self._writer.write(lambda: self._presence.forget(deaths))

    def _add(self, row: RunRow, idle_wait_ns: int, *, interrupted: str | None) -> OwnedRun:
        run = self._runs[row.key] = OwnedRun(
            row=row,
            claimed_at=self._clock.now(),
            idle_wait_ns=idle_wait_ns,
            interrupted=interrupted,
        )
        self._agenda.add((run,))
        self.touched.add(row.key)
        self._idle = False
        return run

    # -- committing ------------------------------------------------------------------------------

    async def _commit(self, made: Sequence[MadeTurn], refused: Refused) -> None:
        """Write these turns, and the runs that are to start; what cannot be is `refused` too."""
        pairs = []
        for m in made:
            turn = self._decider.written(m, stopping=self._stopping)
            if m.says_something(turn):
                pairs.append((m, turn))
                continue
            self._use_up(m)
            self._queue.queue(m.run, m.now)
        starts = self._starts.wanted()
        if not pairs and not starts:
            return
        turns, new = [turn for _, turn in pairs], [asked.start for asked in starts]
        try:
            committed = await self._writer.write(
                lambda: self._store.commit(turns, self._owner, new),
                size=len(turns) + len(new),
            )
        except Exception as error:
            for m, _ in pairs:
                self._decider.forget(m)
            for asked in starts:
                asked.answer(error)
            raise
        finally:
            self._starts.drop(starts)
        for (m, turn), verdict in zip(pairs, committed.verdicts, strict=True):
            trouble = self._settle(m, turn, verdict)
            if trouble is not None:
                refused[m.run.key] = trouble, m.run.length
        for asked, started in zip(starts, committed.started, strict=True):
            if not isinstance(started, Exception) and started[1] is not None:
                self._adopt(started[0], started[1], asked.idle_wait_ns)
            asked.answer(started)
        self._announce()

    def _settle(self, made: MadeTurn, turn: Turn, verdict: Verdict) -> BelugaError | None:
        """Act on what became of the turn; returns why the run cannot go on, if it cannot."""
        run = made.run
        match verdict.fate:
            case Fate.COMMITTED | Fate.RELEASED:
                self._act(made, turn, released=verdict.fate is Fate.RELEASED)
            case Fate.FENCED:
                self._exits.retire(run, Exit.LOST)
            case Fate.OVERTAKEN:
                self._decider.forget(made)
            case Fate.UNWRITABLE:
                self._decider.forget(made)
                return unwritable(run.row, verdict.reason)
        return None

    # -- acting ----------------------------------------------------------------------------------

    def _act(self, made: MadeTurn, turn: Turn, *, released: bool) -> None:
        run = made.run
        state = run.state
        assert state is not None
        run.commit(made.length + len(made.events), turn.due_at)
        test_hooks.step("before effects")
        self._teller.turn(run.row, state.replayer, made.events)
        for event in made.events:
            if isinstance(event, _STARTABLE):
                run.open(event.seq)
            elif isinstance(event, _ENDS) and (slot := run.slots.get(event.seq)) is not None:
                if slot.phase is SlotPhase.RUNNING:
                    self._attempts.cancel(run.key, event.seq)
                self._queue.close(slot)
        self._use_up(made)
        if released:
            if run.has_mail and not turn.closes:
                self._claims.name(run.key, run.idle_wait_ns)
            exit = Exit.CLOSED if turn.closes else Exit.RELEASED
            self._exits.retire(run, exit, kept=turn.keep)
            return
        for slot in made.begun:
            if slot.phase is SlotPhase.RECORDING:
                self._queue.launch(slot)
        self._queue.queue(run, self._clock.now())
        if turn.release:
            run.receive()
            self._agenda.add((run,))
        self._memory.turned(run)

    def _use_up(self, made: MadeTurn) -> None:
        """The turn has come true: so it rests, and what had ended is used."""
        run = made.run
        if made.rests and not run.has_mail:
            run.move(Phase.PINNED)
        for slot in made.used:
            if slot.phase is SlotPhase.ENDED:  # and it was on record already
                slot.move(SlotPhase.WAITING if run.is_open(slot.seq) else SlotPhase.GONE)

    # -- attempts --------------------------------------------------------------------------------

    def _gone(self, run: int, exit: Exit | None) -> None:
        """That run is not driven here any more; `exit` is `None` if it is LEAVING only."""
        if exit is not None:
            # A run that ended leaves nothing to find, unless the last look has not seen all.
            more = EXITS[exit].polls or (exit is Exit.CLOSED and not self._idle)
            self._look_now = self._look_now or more
        self._settling.release(run)
        self._announce()

    def _announce(self) -> None:
        self._watching.release(_ANYTHING)

    def _on_start(self, run: OwnedRun, activity: OpenActivity) -> None:
        name = activity.scheduled.name
        self._teller.hook("on_activity_start", run.row, activity=name, attempt=activity.attempt)

    def _take_outcome(self, outcome: Outcome) -> None:
        run = self._runs.get(outcome.run)
        slot = None if run is None else run.slots.get(outcome.seq)
        if run is not None and slot is not None and slot.phase is SlotPhase.RUNNING:
            slot.end(outcome)
            self._stir(run)

    def _reconsider(self, key: int) -> None:
        """What nobody waited for has ended at last: its run may be let go now."""
        run = self._runs.get(key)
        if run is not None:
            run.receive()
            self._stir(run)
        else:
            self.wake()


# What leaves an activity that can be started, now or later.
_STARTABLE = (e.ActivityScheduled, e.AttemptFailed, e.AttemptInterrupted)
# What ends one, whether its attempt has ended or not.
_ENDS = (
    e.ActivityCompleted,
    e.ActivityFailed,
    e.ActivityTimedOut,
    e.ActivityCancelRequested,
)
