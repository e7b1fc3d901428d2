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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from belugawf.authoring.loader import Catalog
from belugawf.executor import Hooks, IfExists
from belugawf.host import knobs
from belugawf.host.attempts import AttemptRunner
from belugawf.host.border import log
from belugawf.host.clock import Clock
from belugawf.local.agenda import Agenda
from belugawf.local.claiming import Claims, Noted
from belugawf.local.damage import check_row
from belugawf.local.deciding import Decider
from belugawf.local.exits import Exits, Refused
from belugawf.local.memory import Memory
from belugawf.local.options import EngineOptions
from belugawf.local.presence import Presence
from belugawf.local.problems import (
    missing_workflow,
    unwritable,
)
from belugawf.local.rows import (
    Fate,
    NewRun,
    RunRow,
    Start,
    Turn,
    Verdict,
)
from belugawf.local.sleeping import Pacer, Waiters
from belugawf.local.starting import Starter
from belugawf.local.starts import Starts
from belugawf.local.store import Store
from belugawf.local.telling import Teller
from belugawf.local.turns import DrivenRun, MadeTurn
from belugawf.local.writer import Steps, Writer
from belugawf.model import events as e
from belugawf.model.durations import SECOND_NS
from belugawf.model.errors import (
    BelugaError,
    BusyError,
    DamagedError,
    DisplacedError,
    UnavailableError,
    UsageError,
    WorkflowLoadError,
    WorkflowNotFoundError,
    shortage,
)
from belugawf.model.history import OpenActivity, OpenWork
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
            ended_late=self._reconsider,
            began=self.wake,
            context=context,
        )
        self._starter = Starter(
            self._attempts, store, options, self._on_start, self._stir, isolates=own_process
        )
        self._memory = Memory(store, catalog, options, context)
        # Nothing that user code sets in a context variable is seen in here.
        self._context = contextvars.Context()
        self._pacer = Pacer(clock, self._begin_tick, self._context)
        self._claims = Claims(store, presence)
        self._runs: dict[int, DrivenRun] = {}
        self._agenda = Agenda(self._runs)
        self._starts = Starts()
        self.touched = Noted()
        self._stopped_by: set[object] = set()
        self._cutting = False
        self._recording = 0
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
            starter=self._starter,
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

    def want(self, run: int, patience_ns: int) -> None:
        """Drive this run, and sleep through waits of up to `patience_ns`."""
        self._exits.forget_refusal(run)
        self._claims.follow(run, patience_ns)
        driven = self._runs.get(run)
        if driven is not None and (not driven.leaving or driven.refused is not None):
            # What was refused is tried again: what is in flight for it goes on meanwhile.
            driven.leaving, driven.refused = False, None
            driven.patience_ns = max(driven.patience_ns, patience_ns)
            driven.dirty, driven.resting = True, False
            self._stir(driven)
        else:
            self._claims.name(run, patience_ns)
        self.look()

    async def create(self, new: NewRun, if_exists: IfExists, patience_ns: int) -> RunRow:
        """Record a run of ours with the next commit, and drive it where it is a new one.

        Raises as `Store.create`, and what the disk says.
        """
        self.check()
        started = self._starts.ask(Start(new, if_exists), patience_ns)
        self.wake()
        return await started

    def _adopt(self, row: RunRow, started: e.WorkflowStarted, patience_ns: int) -> None:
        """Drive a run that was created as ours."""
        self._claims.follow(row.key, patience_ns)
        self._memory.begin(self._add(row, patience_ns, interrupted=None), started)
        self._teller.hook("on_workflow_start", row)

    def want_everything(
        self, patience_ns: int, *, workflow: str | None = None, persistent: bool = False
    ) -> None:
        """Drive whatever can move from now on (only runs of `workflow`, if given).

        `persistent`: as a worker, until `stop_working`, also while the disk refuses.
        """
        self._exits.forget_refusals()
        self._claims.want_everything(patience_ns, workflow, persistent)
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

    def _stir(self, run: DrivenRun) -> None:
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
        self._starter.stop(self._runs)
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
        return self._claims.is_named(run) or (driven is not None and not self._rests(driven))

    def _rests(self, run: DrivenRun) -> bool:
        """Whether nothing will happen to it here, but for what cannot be stopped."""
        return not run.launched and not run.outcomes if run.leaving else run.resting

    def holds(self, run: int) -> bool:
        """Whether the run is this process's now."""
        return run in self._runs

    def follows(self, run: int) -> bool:
        """Whether this process drives the run now, or will when it can move again."""
        return self._claims.follows(run) or run in self._runs

    def be_patient(self, run: int, patience_ns: int) -> None:
        """Sleep through longer waits of a run that is driven here."""
        if self._claims.is_followed(run):
            self._claims.follow(run, patience_ns)
        if run in self._runs:
            self._runs[run].patience_ns = max(self._runs[run].patience_ns, patience_ns)

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
        return all(self._rests(run) for run in self._runs.values())

    @property
    def drained(self) -> bool:
        """Whether nothing is in flight and everything that ended is recorded."""
        if self._attempts.count or self._recording:
            return False
        return not any(run.outcomes for run in self._runs.values())

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
        self._starter.go_on()
        for run in self._runs.values():
            if not run.leaving:
                run.unstarted = dict.fromkeys(run.work.activities)
                self._starter.queue(run, self._clock.now())

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
        if self._starter.stopped and not self._stopping:
            self._start_again()
        if self._exits.ended_at_work:
            await self._exits.free_ended()
        now = self._clock.now()
        if self._must_look(now):
            await self._look(now)
        self._attempts.expire(now)
        ready = self._agenda.take(now)
        try:
            if any(run.outcomes for run in ready):
                # An attempt has ended: what it reported last is for the next one.
                await self._save_heartbeats()
            if ready or self._starts:
                await self._turn(ready, now)
        except BaseException:
            self._agenda.add(ready)
            raise
        self._starter.start(self._runs, now)
        if self._cutting:
            self._attempts.cut()  # what was on record as started before that

    async def _turn(self, ready: Sequence[DrivenRun], now: int) -> None:
        held = [run for run in ready if not run.leaving]
        made: list[MadeTurn] = []
        refused: Refused = {}
        if held:
            made, refused = await self._decider.decide(held, now)
        await self._commit(made, refused)
        if refused:
            await self._exits.refuse(refused)
        if len(held) < len(ready):
            leaving = [run for run in ready if run.leaving and run.key not in refused]
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
                self._runs[key].dirty = True
                self._agenda.add((self._runs[key],))
            for key in self._store.ended(self._runs):
                self._exits.drop(self._runs[key])
        await self._save_heartbeats()
        self._next_due = None
        if not self._stopping:
            await self._claim(now)
            self._next_due = self._claims.next_due(now)

    async def _claim(self, now: int) -> None:
        refused_before = self._exits.still_refused()
        leaving = {key for key, run in self._runs.items() if run.leaving}
        found = self._claims.look(now, self._runs.keys(), refused_before, leaving)
        free, refused = self._known(found.rows)
        await self._exits.refuse(refused)
        if free:
            await self._take_over(free)
        self._claims.looked()
        # While the claim was being committed somebody may have wished for more.
        self._idle = not found.more and not found.full and not self._look_now
        self._look_now = self._look_now or found.more
        self._announce()

    def _known(self, rows: Sequence[RunRow]) -> tuple[dict[int, str | None], Refused]:
        """Those whose workflow we have, with their owners; and why not, for the others."""
        known: dict[int, str | None] = {}
        refused: Refused = {}
        for row in rows:
            try:
                check_row(row)
                self._catalog().workflow(row.workflow)
            except DamagedError as error:
                refused[row.key] = error, row.history_length
            except (WorkflowNotFoundError, WorkflowLoadError) as error:
                refused[row.key] = missing_workflow(row, error), row.history_length
            else:
                known[row.key] = row.owner
        return known, refused

    async def _take_over(self, free: Mapping[int, str | None]) -> None:
        """Claim these runs, and drive those that were still to be had."""
        last = self._claims.last_owners(free)
        # Asked before: once they are ours on disk, nothing may keep them from being driven.
        deaths = {owner: self._presence.how_it_died(owner) for owner in last.values() if owner}
        self._claims.claiming(free)
        rows = await self._writer.write(
            lambda: self._store.claim(free, self._owner), size=len(free)
        )
        self._claims.claimed(free)
        for row in rows:
            owner = last[row.key]
            interrupted = None if owner is None else deaths[owner]
            self._add(row, self._claims.patience(row.key), interrupted=interrupted)
        if deaths:
            await self._writer.write(lambda: self._presence.forget(deaths))

    def _add(self, row: RunRow, patience_ns: int, *, interrupted: str | None) -> DrivenRun:
        run = self._runs[row.key] = DrivenRun(
            row=row,
            history_length=0,
            last_time=0,
            work=OpenWork(),
            picked_up_at=self._clock.now(),
            patience_ns=patience_ns,
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
            # Whatever somebody wants of it while this is committed is for the next turn.
            m.run.dirty = False
            if m.says_something(turn):
                pairs.append((m, turn))
                continue
            self._use_up(m)
            self._starter.queue(m.run, m.now)
        starts = self._starts.wanted()
        if not pairs and not starts:
            return
        turns, new = [turn for _, turn in pairs], [asked.start for asked in starts]
        # Once these starts are on record they happen, whoever stops us meanwhile.
        self._recording = sum(len(m.begun) for m, _ in pairs)
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
            self._recording = 0
        for (m, turn), verdict in zip(pairs, committed.verdicts, strict=True):
            trouble = self._settle(m, turn, verdict)
            if trouble is not None:
                refused[m.run.key] = trouble, m.run.history_length
        for asked, started in zip(starts, committed.started, strict=True):
            if not isinstance(started, Exception) and started[1] is not None:
                self._adopt(started[0], started[1], asked.patience_ns)
            asked.answer(started)
        self._announce()

    def _settle(self, made: MadeTurn, turn: Turn, verdict: Verdict) -> BelugaError | None:
        """Act on what became of the turn; returns why the run cannot go on, if it cannot."""
        run = made.run
        match verdict.fate:
            case Fate.COMMITTED | Fate.RELEASED:
                self._act(made, turn, released=verdict.fate is Fate.RELEASED)
            case Fate.FENCED:
                self._exits.drop(run)
            case Fate.OVERTAKEN:
                self._decider.forget(made)
            case Fate.UNWRITABLE:
                self._decider.forget(made)
                return unwritable(run.row, verdict.reason)
        return None

    # -- acting ----------------------------------------------------------------------------------

    def _act(self, made: MadeTurn, turn: Turn, *, released: bool) -> None:
        run = made.run
        replayer = run.replayer
        assert replayer is not None
        run.history_length = made.length + len(made.events)
        run.stored_due_at = turn.due_at
        replayer.position = run.history_length
        self._use_up(made)
        knobs.step("before effects")
        if run.row.problem is not None:
            run.row = replace(run.row, problem=None)
        self._teller.turn(run.row, replayer, made.events)
        for event in made.events:
            if isinstance(event, _STARTABLE):
                run.unstarted[event.seq] = None
            elif isinstance(event, e.ActivityCancelRequested):
                self._attempts.cancel(run.key, event.seq)
                self._starter.ended(run.key, event.seq)
                run.launched.discard(event.seq)
            elif isinstance(event, e.ActivityTimedOut):  # perhaps before its attempt has started
                self._starter.ended(run.key, event.seq)
        if released:
            if run.dirty and not turn.closes:
                self._claims.name(run.key, run.patience_ns)
            self._exits.let_go(run, closed=turn.closes, kept=turn.keep)
            return
        for seq, beginning in made.begun.items():
            run.to_begin.pop(seq, None)
            self._starter.launch(run, seq, beginning)
        self._starter.queue(run, self._clock.now())
        if turn.release:
            run.dirty = True
            self._agenda.add((run,))
        self._memory.turned(run)

    def _use_up(self, made: MadeTurn) -> None:
        """The turn has come true: so it rests, its outcomes are used, as are starts in vain."""
        run = made.run
        run.resting = made.rests and not run.dirty
        del run.outcomes[: len(made.used)]
        run.launched.difference_update(outcome.seq for outcome in made.used)
        for seq in [seq for seq in run.to_begin if seq not in run.work.activities]:
            del run.to_begin[seq]
            self._starter.ended(run.key, seq)

    # -- attempts --------------------------------------------------------------------------------

    def _gone(self, run: int, closed: bool | None) -> None:
        """That run is not driven here any more; `closed` is `None` where it is still kept."""
        # A run that ended leaves nothing to find, unless the last look has not seen all.
        if closed is not None:
            self._look_now = self._look_now or not closed or not self._idle
        self._settling.release(run)
        self._announce()

    def _announce(self) -> None:
        self._watching.release(_ANYTHING)

    def _on_start(self, run: DrivenRun, activity: OpenActivity) -> None:
        name = activity.scheduled.name
        self._teller.hook("on_activity_start", run.row, activity=name, attempt=activity.attempt)

    def _take_outcome(self, outcome: Outcome) -> None:
        self._starter.ended(outcome.run, outcome.seq)
        run = self._runs.get(outcome.run)
        if run is not None:
            run.outcomes.append(outcome)
            self._stir(run)

    def _reconsider(self, key: int) -> None:
        """What nobody waited for has ended at last: its run may be let go now."""
        run = self._runs.get(key)
        if run is not None:
            run.dirty = True
            self._stir(run)
        else:
            self.wake()


# What leaves an activity that can be started, now or later.
_STARTABLE = (e.ActivityScheduled, e.AttemptFailed, e.AttemptInterrupted)
