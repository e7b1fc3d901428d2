"""The engine: the only place where the core meets the world.

The life of a tick, on one task of the real event loop:

1. *Look*: who sent what, what is due, what can be claimed (at least once a second, and whenever
   somebody wakes us).
2. *Decide*: for every run to which something happened, `TurnMaker` applies the facts one by one.
3. *Commit*: new runs and the turns of all others in one transaction: on the loop while the disk
   is quick and nobody else writes, else off it.
4. *Act*: only now attempts are started and stopped, logs and hooks emitted, runs let go.

Memory is never ahead of the disk: where a commit fails, or somebody else has ended a run, what is
in memory of it is thrown away and read again. A run that rests is let go in its last turn's own
transaction; its replayed state is kept on a shelf for a while, and is good as long as the history
has not grown.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from belugawf.authoring.loader import Catalog
from belugawf.executor import Hooks, IfExists
from belugawf.host import knobs
from belugawf.host.attempts import AttemptRunner, Outcome
from belugawf.host.clock import Clock
from belugawf.local.agenda import Agenda
from belugawf.local.claiming import Claims, Noted
from belugawf.local.committing import Committer, Starts
from belugawf.local.damage import check_row
from belugawf.local.memory import Memory
from belugawf.local.options import EngineOptions
from belugawf.local.presence import Presence
from belugawf.local.problems import (
    BugError,
    is_of_the_disk,
    missing_workflow,
    problem_of,
    unwritable,
)
from belugawf.local.rows import (
    Fate,
    Message,
    NewRun,
    RunRow,
    Start,
    Turn,
    Verdict,
)
from belugawf.local.sleeping import Sleeper, Waiters
from belugawf.local.starting import Starter
from belugawf.local.store import Store
from belugawf.local.telling import Teller
from belugawf.local.turns import DrivenRun, MadeTurn, TurnMaker, read_messages
from belugawf.model import events as e
from belugawf.model.durations import SECOND_NS
from belugawf.model.errors import (
    BelugaError,
    BusyError,
    DamagedError,
    UnavailableError,
    UsageError,
    WorkflowLoadError,
    WorkflowNotFoundError,
)
from belugawf.model.history import OpenActivity, OpenWork

logger = logging.getLogger("belugawf.engine")

# Nothing waits longer without a look at the wall clock and at the database: datagrams are hints,
# and a sleeping laptop stops the monotonic clock.
LOOK_EVERY_NS = SECOND_NS
# What those watch who wait for any change.
_ANYTHING = 0
# How long a worker pauses after the disk refused, in seconds, doubling.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class Engine:
    """Drives runs until it is closed. All methods are called on its event loop."""

    def __init__(
        self,
        store: Store,
        presence: Presence,
        catalog: Callable[[], Catalog],
        options: EngineOptions,
        clock: Clock,
        hooks: Sequence[Hooks] = (),
    ) -> None:
        self._store = store
        self._presence = presence
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
        )
        self._starter = Starter(self._attempts, store, options, self._on_start, self._stir)
        self._committer = Committer(store, presence.id)
        self._memory = Memory(store, catalog, options)
        self._sleeper = Sleeper(clock)
        self._claims = Claims(store, presence)
        self._runs: dict[int, DrivenRun] = {}
        self._agenda = Agenda(self._runs)
        self._starts = Starts()
        self._refused: dict[int, BelugaError] = {}
        self._news: set[int] = set()
        self.touched = Noted()
        self._stopping = False
        self._closing = False
        self._looked_at = 0
        self._look_now = True
        self._next_due: int | None = None
        self._ticking = asyncio.Lock()
        self._watching = Waiters()
        self._settling = Waiters()
        self._idle = False
        self._failure: BelugaError | None = None
        self._task: asyncio.Task[None] | None = None

    # -- what the executor asks ------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick, if it does not yet."""
        if self._task is None:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._presence.fileno(), self._on_datagram)
            self._task = loop.create_task(self._run())

    def want(self, run: int, patience_ns: int) -> None:
        """Drive this run, and sleep through waits of up to `patience_ns`."""
        self._refused.pop(run, None)
        self._claims.follow(run, patience_ns)
        driven = self._runs.get(run)
        if driven is not None and not driven.leaving:
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
        self._check()
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
        self._refused.clear()
        self._claims.want_everything(patience_ns, workflow, persistent)
        self.look()

    def stop_working(self) -> None:
        """Be no worker any more: runs that nobody here asked for are claimed no longer."""
        self._claims.persistent = False

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
        self._sleeper.wake()

    def _stir(self, run: DrivenRun) -> None:
        """Something has happened to that run: look whether it is ready, with the next tick."""
        self._agenda.add((run,))
        self.wake()

    def stop_starting(self) -> None:
        """Claim nothing and start nothing any more; attempts in flight go on."""
        self._stopping = True
        self._starter.stop(self._runs)
        self.wake()

    def cut(self) -> None:
        """Interrupt the attempts in flight."""
        self.stop_starting()
        self._attempts.cut()

    def drives(self, run: int) -> bool:
        """Whether this process drives the run, or is about to."""
        driven = self._runs.get(run)
        return self._claims.is_named(run) or (driven is not None and not driven.resting)

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
        return self._refused.get(run)

    def is_news(self, run: int) -> bool:
        """Whether this process was the first to see the run's problem."""
        return run in self._news

    @property
    def idle(self) -> bool:
        """Whether nothing is driven, and the last look found nothing to claim."""
        if self._failure is not None or not self._idle or self._claims.asked or self._starts:
            return False
        return all(run.resting for run in self._runs.values())

    @property
    def drained(self) -> bool:
        """Whether nothing is in flight and everything that ended is recorded."""
        return not self._attempts.count and not any(r.outcomes for r in self._runs.values())

    async def changed(self, timeout_s: float) -> None:
        """Until something was committed, a run was let go or refused; or the time is up.

        Raises what the disk says, where the engine gave up.
        """
        self._check()
        await self._watching.wait(_ANYTHING, timeout_s)
        self._check()

    async def settled(self, run: int, timeout_s: float) -> None:
        """Until this process drives the run no longer; or the time is up.

        Raises what the disk says, where the engine gave up.
        """
        self._check()
        if run in self._runs:
            await self._settling.wait(run, timeout_s)
            self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def pause(self) -> None:
        """After a stop, once drained: let go what could not be started, and start again.

        Runs that are followed stay; others that something is at work for, until nothing is.
        """
        async with self._ticking:
            if not self._stopping:
                return
            try:
                self._leave([r for key, r in self._runs.items() if not self._claims.follows(key)])
            finally:
                self.go_on()

    def go_on(self) -> None:
        """Claim and start again, after a stop."""
        self._stopping = False
        self._starter.go_on()
        for run in self._runs.values():
            if not run.leaving:
                run.unstarted = dict.fromkeys(run.work.activities)
                self._starter.queue(run, self._clock.now())
        self.look()

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
            if self._task is not None:
                self._task.cancel()
                asyncio.get_running_loop().remove_reader(self._presence.fileno())
            self._committer.close()
            self._memory.close()

    async def _end_ticking(self) -> None:
        if self._task is None:
            return
        while not self.drained and self._failure is None:
            self.wake()
            await self.changed(0.1)
        # Not cancelled: a turn that is being committed is also told of.
        self._closing = True
        self.wake()
        await asyncio.wait([self._task])

    def evict_all(self) -> None:
        """Unwind whatever is in memory; a process that ends right after may leave it."""
        self._memory.clear(self._runs.values())
        self._runs.clear()

    # -- the tick --------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._tick_on()
        finally:
            self._starts.refuse(UsageError("the executor was left", hint="start runs inside it"))

    async def _tick_on(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._closing:
            try:
                async with self._ticking:
                    await self._tick()
                pause = _FIRST_PAUSE_S
            except (UnavailableError, BusyError) as error:
                if not self._claims.persistent or self._stopping:
                    self._give_up(error)
                    return
                logger.warning("%s; trying again in %g s", error, pause)
                await self._sleeper.until(self._clock.now() + int(pause * SECOND_NS))
                pause = min(pause * 2, _LONGEST_PAUSE_S)
                self.look()
            except Exception as error:
                logger.exception("a bug in belugawf stopped the engine")
                self._give_up(BelugaError(f"a bug in belugawf: {type(error).__name__}: {error}"))
                return
            await self._rest()

    def _give_up(self, error: BelugaError) -> None:
        self._failure = error
        self._starts.refuse(error)
        self._announce()
        self._settling.release_all()

    async def _tick(self) -> None:
        self._sleeper.woken()
        now = self._clock.now()
        if self._must_look(now):
            await self._look(now)
        self._attempts.expire(now)
        ready = self._agenda.take(now)
        try:
            if any(run.outcomes for run in ready):
                # An attempt has ended: what it reported last is for the next one.
                self._attempts.save_heartbeats(self._store.save_heartbeats)
            if ready or self._starts:
                await self._commit(self._decide(ready, now) if ready else [])
        except BaseException:
            self._agenda.add(ready)
            raise
        self._starter.start(self._runs)

    def _must_look(self, now: int) -> bool:
        if self._look_now or not self._looked_at <= now < self._looked_at + LOOK_EVERY_NS:
            return True
        return self._next_due is not None and self._next_due <= now

    async def _rest(self) -> None:
        """Sleep until the next moment at which something is due, or somebody wakes us."""
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
        if self._agenda or self._look_now:
            self.wake()
        await self._sleeper.until(min(moments))

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
                self._drop(self._runs[key])
        self._attempts.save_heartbeats(self._store.save_heartbeats)
        self._next_due = None
        if not self._stopping:
            await self._claim(now)
            self._next_due = self._claims.next_due(now)

    async def _claim(self, now: int) -> None:
        found = self._claims.look(now, self._runs.keys(), self._refused.keys())
        free = self._known(found.rows)
        if free:
            await self._take_over(free)
        self._claims.looked()
        # While the claim was being committed somebody may have wished for more.
        self._idle = not found.more and not found.full and not self._look_now
        self._look_now = self._look_now or found.more
        self._announce()

    def _known(self, rows: Sequence[RunRow]) -> dict[int, str | None]:
        """Those whose workflow we have, with their owners; the others are refused."""
        known: dict[int, str | None] = {}
        refused: dict[int, BelugaError] = {}
        for row in rows:
            try:
                check_row(row)
                self._catalog().workflow(row.workflow)
            except DamagedError as error:
                refused[row.key] = error
            except (WorkflowNotFoundError, WorkflowLoadError) as error:
                refused[row.key] = missing_workflow(row, error)
            else:
                known[row.key] = row.owner
        self._refuse(refused)
        return known

    async def _take_over(self, free: Mapping[int, str | None]) -> None:
        """Claim these runs, and drive those that were still to be had."""
        last = self._claims.last_owners(free)
        # Asked before: once they are ours on disk, nothing may keep them from being driven.
        deaths = {owner: self._presence.how_it_died(owner) for owner in last.values() if owner}
        self._claims.claiming(free)
        rows = await self._committer.claim(free)
        self._claims.claimed(free)
        for row in rows:
            owner = last[row.key]
            interrupted = None if owner is None else deaths[owner]
            self._add(row, self._claims.patience(row.key), interrupted=interrupted)
        self._presence.forget(deaths)

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

    # -- deciding --------------------------------------------------------------------------------

    def _decide(self, ready: Sequence[DrivenRun], now: int) -> list[MadeTurn]:
        messages, now = read_messages(ready, now, self._store.read_inbox)
        made: list[MadeTurn] = []
        refused: dict[int, BelugaError] = {}
        try:
            for run in ready:
                if run.leaving:
                    continue
                taken = self._take_turn(run, messages.get(run.key, []), now)
                if isinstance(taken, MadeTurn):
                    made.append(taken)
                elif taken is not None:
                    refused[run.key] = taken
            self._refuse(refused)
            self._leave([run for run in ready if run.leaving and run.key not in refused])
        except BaseException:
            # The disk refuses: no turn that was made is written, so none may stay in memory.
            for m in made:
                self._forget_turn(m)
            raise
        return made

    def _take_turn(
        self, run: DrivenRun, messages: Sequence[Message], now: int
    ) -> MadeTurn | BelugaError | None:
        """The run's turn, or why it cannot be taken; `None` where it is not ours any more.

        Raises what the disk says.
        """
        interrupted = run.interrupted
        try:
            # Let go, or ended, by a commit that seemed to fail: what it has open is not ours.
            if run.replayer is None and not self._memory.load(run, self._presence.id):
                self._drop(run)
                return None
            return self._make_turn(run, messages, now)
        except BelugaError as error:
            reason = error
        except Exception as error:
            logger.exception("a bug in belugawf: run %s", run.row.workflow_id)
            reason = BugError(f"a bug in belugawf: {error!r}")
        self._memory.evict(run)
        run.interrupted, run.dirty = interrupted, True
        self._agenda.add((run,))
        if is_of_the_disk(reason):
            raise reason
        return reason

    def _make_turn(self, run: DrivenRun, messages: Sequence[Message], now: int) -> MadeTurn:
        replayer = run.replayer
        assert replayer is not None
        maker = TurnMaker(run, messages, now, max_crashes=self._options.max_crashes)
        made = self._memory.watched(replayer, maker.make)
        scheduled = [event.seq for event in made.events if type(event) is e.ActivityScheduled]
        self._memory.check_functions(run, scheduled)
        return made

    # -- committing ------------------------------------------------------------------------------

    async def _commit(self, made: Sequence[MadeTurn]) -> None:
        pairs = []
        for m in made:
            turn = self._turn_of(m)
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
        try:
            committed = await self._committer.commit(
                [turn for _, turn in pairs], [asked.start for asked in starts]
            )
        except Exception as error:
            for m, _ in pairs:
                self._forget_turn(m)
            for asked in starts:
                asked.answer(error)
            raise
        finally:
            self._starts.drop(starts)
        trouble: BelugaError | None = None
        for (m, turn), verdict in zip(pairs, committed.verdicts, strict=True):
            try:
                self._settle(m, turn, verdict)
            except (UnavailableError, BusyError) as error:
                trouble = error  # of one run's problem: the turns of the others are on disk
        for asked, started in zip(starts, committed.started, strict=True):
            if not isinstance(started, Exception) and started[1] is not None:
                self._adopt(started[0], started[1], asked.patience_ns)
            asked.answer(started)
        self._announce()
        if trouble is not None:
            raise trouble

    def _turn_of(self, made: MadeTurn) -> Turn:
        run = made.run
        replayer = run.replayer
        assert replayer is not None
        now = self._clock.now()
        moments = run.moments(now)
        due_at = run.due_now(now) if run.runnable() else min(moments, default=None)
        # What has fallen due since the turn was made is the next turn's, so `now` does not count.
        run.next_at = min((moment for moment in moments if moment > made.now), default=None)
        self._agenda.set_alarm(run)
        rests = not run.runnable() and (
            self._stopping or due_at is None or due_at > now + run.patience_ns
        )
        lingers = self._attempts.lingers(run.key)
        # Not before it is on disk: whoever waits for the rest would look too early.
        run.resting, made.rests = False, rests and lingers
        said = replayer.take_progress()
        return Turn(
            run=run.key,
            length=made.length,
            events=made.events,
            read_to=made.read_to,
            due_at=due_at,
            release=rests and not lingers,
            progress=None if said is None else json.dumps(said),
        )

    def _settle(self, made: MadeTurn, turn: Turn, verdict: Verdict) -> None:
        run = made.run
        match verdict.fate:
            case Fate.COMMITTED | Fate.RELEASED:
                self._act(made, turn, released=verdict.fate is Fate.RELEASED)
            case Fate.FENCED:
                self._drop(run)
            case Fate.OVERTAKEN:
                self._forget_turn(made)
            case Fate.UNWRITABLE:
                self._forget_turn(made)
                self._refuse({run.key: unwritable(run.row, verdict.reason)})

    def _forget_turn(self, made: MadeTurn) -> None:
        """The turn is not on disk: forget it, keep what happened, and read the run again."""
        run = made.run
        self._memory.evict(run)
        run.interrupted = made.interrupted
        run.dirty = True
        self._agenda.add((run,))

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
        if released:
            if run.dirty and not turn.closes:
                self._claims.name(run.key, run.patience_ns)
            self._let_go(run, closed=turn.closes)
            return
        for seq in made.begun:
            run.to_begin.pop(seq, None)
            self._starter.launch(run, seq)
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

    def _let_go(self, run: DrivenRun, *, closed: bool) -> None:
        del self._runs[run.key]
        self._attempts.cancel_run(run.key)
        self._starter.forget(run.key)
        # A run that ended leaves nothing to find, unless the last look has not seen all.
        self._look_now = self._look_now or not closed or not self._idle
        if closed:
            self._claims.forget((run.key,))
        self._settling.release(run.key)
        if closed:
            self._memory.evict(run)
        else:
            self._memory.shelve(run)

    def _drop(self, run: DrivenRun) -> None:
        """Somebody else has ended it, or owns it: forget it."""
        self._attempts.cancel_run(run.key)
        self._runs.pop(run.key, None)
        self._starter.forget(run.key)
        self._memory.evict(run)
        self._settling.release(run.key)
        self._announce()

    def _refuse(self, reasons: Mapping[int, BelugaError]) -> None:
        """These runs cannot be moved on here: they get problems, and are let go untouched.

        Not before nothing is at work for them: who takes them up starts their activities anew.
        """
        if not reasons:
            return
        for key in reasons:
            self._attempts.cut(key)
        at_work = {key for key in reasons if self._attempts.at_work(key)}
        # Written first: a run that is still ours on disk must not be missing here.
        problems = {key: problem_of(reason) for key, reason in reasons.items()}
        self._news |= self._store.refuse(problems, self._presence.id, keep=at_work)
        self._refused.update(reasons)
        for key, reason in reasons.items():
            self.touched.add(key)
            run = self._runs.get(key)
            if run is not None:
                self._starter.forget(key)
                self._memory.evict(run)
                if key in at_work:
                    run.leave(reason)
                else:
                    del self._runs[key]
            self._settling.release(key)
        self._announce()

    def _leave(self, runs: Sequence[DrivenRun]) -> None:
        """These runs are not driven here any more: they are let go when nothing works for them."""
        for run in runs:
            self._attempts.cancel_run(run.key)
            self._starter.forget(run.key)
            run.leave(run.refused)
        free = [run for run in runs if not self._attempts.at_work(run.key)]
        if not free:
            return
        # Until it is known that they are let go, they are still to be.
        for run in free:
            run.dirty = True
        self._agenda.add(free)
        self._store.abandon([run.key for run in free], self._presence.id)
        for run in free:
            self._let_go(run, closed=False)
            if run.refused is not None:
                self._refused[run.key] = run.refused
        self._announce()

    # -- attempts --------------------------------------------------------------------------------

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

    def lingering(self) -> list[int]:
        """The runs that stay ours, because something cannot be stopped that works for them."""
        return [key for key in self._runs if self._attempts.at_work(key)]


# What leaves an activity that can be started, now or later.
_STARTABLE = (e.ActivityScheduled, e.AttemptFailed, e.AttemptInterrupted)
