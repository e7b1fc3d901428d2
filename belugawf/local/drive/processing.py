"""The turns of a tick: decided, committed in one transaction, and only then acted upon.

A turn that does not come to be on disk is forgotten: what happened is kept, and the run is read
again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from belugawf.executor.options import EngineOptions
from belugawf.host import test_hooks
from belugawf.host.attempts import AttemptRunner
from belugawf.host.border import log
from belugawf.host.clock import Clock
from belugawf.local.drive.demand import Asked, Demand, Starts, Stop
from belugawf.local.drive.hooks import TurnHooks
from belugawf.local.drive.problems import BugError, Refused, is_of_the_disk, unwritable
from belugawf.local.drive.reports import Reports
from belugawf.local.drive.run import Exit, OwnedRun, Phase, SlotPhase
from belugawf.local.drive.table import RunTable
from belugawf.local.drive.turns import OwnedTurn, TurnBuilder
from belugawf.local.file.writer import Writer
from belugawf.local.store.appending import WRITTEN
from belugawf.local.store.rows import AppendOutcome, Message, RunRow, new_run
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.errors import BelugaError
from belugawf.model.shortage import shortage

# What leaves an activity that can be started, now or later.
_STARTABLE = (e.ActivityScheduled, e.AttemptFailed, e.AttemptInterrupted)
# What ends one, whether its attempt has ended or not.
_ENDS = (
    e.ActivityCompleted,
    e.ActivityFailed,
    e.ActivityTimedOut,
    e.ActivityCancelRequested,
)

# A start, and its run's first turn, which are not on disk yet.
Birth: TypeAlias = tuple[Asked, OwnedTurn]
# First turns are decided for so long, in seconds; then those so far are committed.
_BIRTHS_S = 0.02


class TurnProcessor:
    """Takes the turns of one engine's runs, and its starts."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        owner: str,
        options: EngineOptions,
        clock: Clock,
        *,
        table: RunTable,
        demand: Demand,
        starts: Starts,
        attempts: AttemptRunner,
        hooks: TurnHooks,
        reports: Reports,
    ) -> None:
        self._store = store
        self._writer = writer
        self._owner = owner
        self._options = options
        self._clock = clock
        self._table = table
        self._demand = demand
        self._starts = starts
        self._attempts = attempts
        self._hooks = hooks
        self._reports = reports

    # -- deciding: nothing is written, and nothing takes effect ----------------------------------

    async def _read_messages(
        self, ready: Sequence[OwnedRun], now: int
    ) -> tuple[dict[int, list[Message]], int]:
        """The unread messages of these runs, and the time.

        If something is due by that time, they are read under the lock: see `Store.read_inbox`.
        """
        rows: Sequence[Message] = ()
        read_at = now
        due, asked = False, []
        for run in ready:
            due = due or run.may_be_due(now)
            if run.has_mail:
                asked.append(run.key)
        if asked and not due:
            rows, read_at = self._store.read_inbox(asked, locked=False)
            due = any(run.may_be_due(read_at) for run in ready)
        if due:
            keys = [run.key for run in ready]
            rows, read_at = await self._writer.write(
                lambda: self._store.read_inbox(keys, locked=True), size=len(keys)
            )
        messages: dict[int, list[Message]] = {}
        for row in rows:
            messages.setdefault(row.run, []).append(row)
        return messages, read_at

    async def decide(self, ready: Sequence[OwnedRun], now: int) -> tuple[list[OwnedTurn], Refused]:
        """The turns of these runs, and why some cannot be taken. Raises what the disk says."""
        messages, now = await self._read_messages(ready, now)
        turns: list[OwnedTurn] = []
        refused: Refused = {}
        try:
            for run in ready:
                known = run.state  # a turn that is refused leaves nothing in memory
                length = run.row.history_length if known is None else known.length
                taken = self._take_turn(run, messages.get(run.key, []), now)
                if isinstance(taken, OwnedTurn):
                    turns.append(taken)
                elif taken is not None:
                    refused[run.key] = taken, length
        except BaseException:
            # The disk refuses: no turn that was made is written, so none may stay in memory.
            for turn in turns:
                self._forget(turn)
            raise
        return turns, refused

    def _take_turn(
        self, run: OwnedRun, messages: Sequence[Message], now: int
    ) -> OwnedTurn | BelugaError | None:
        """The run's turn, or why it cannot be taken; `None` where it is not ours any more.

        Raises what the disk says.
        """
        interrupted = run.interrupted
        try:
            # Let go, or ended, by a commit that seemed to fail: what it has open is not ours.
            if run.state is None:
                if not self._table.cache.load(run, self._owner):
                    self._table.retire(run, Exit.LOST)
                    return None
                self._table.queue.reopen(run)
            return self._build(run, messages, now)
        except BelugaError as error:
            reason = error
        except Exception as error:
            short = shortage(error)
            if short is None:
                log(logging.ERROR, "a bug in belugawf: run %s", run.row.workflow_id, error=error)
            reason = short or BugError(f"a bug in belugawf: {error!r}")
        except BaseException:  # a person's Ctrl-C: what is in memory may be ahead of the history
            self._table.set_back(run, interrupted)
            raise
        if not is_of_the_disk(reason):
            self._hooks.hold_logs(run)
        self._table.set_back(run, interrupted)
        if is_of_the_disk(reason):
            raise reason
        return reason

    def _build(self, run: OwnedRun, messages: Sequence[Message], now: int) -> OwnedTurn:
        assert run.state is not None
        builder = TurnBuilder(
            run,
            messages,
            now,
            max_crashes=self._options.max_crashes,
            starting=not self._table.queue.stopped,
        )
        turn = self._table.cache.border.turn(run.state.replayer, builder.build)
        scheduled = [event.seq for event in turn.events if type(event) is e.ActivityScheduled]
        self._table.cache.check_functions(run, scheduled)
        return turn

    def _finish(self, turn: OwnedTurn, now: int) -> None:
        """Settle what is written beside its events. After a stop a run rests as soon as it can."""
        run, state = turn.owned, turn.owned.state
        assert state is not None
        moments, moves = run.moments(now), state.runnable()
        due_at = state.due_now(now) if moves else min(moments, default=None)
        # What has fallen due since the turn was built is the next turn's, so `now` does not count.
        later = [moment for moment in moments if moment > turn.now] if moments else ()
        run.expect(min(later, default=None))
        rests = not moves and (
            self._demand.stopped > Stop.NO or due_at is None or due_at > now + run.idle_wait_ns
        )
        # Also what this turn cancels: it is stopped after it, and may take its time.
        needed = (rests or state.work.closed) and self._table.is_needed(run)
        progress = state.replayer.take_progress()
        turn.finish(
            due_at=due_at,
            rests=rests,
            needed=needed,
            progress=None if progress is None else json.dumps(progress),
        )

    def _forget(self, turn: OwnedTurn) -> None:
        """The turn is not on disk: forget it, keep what happened, and read the run again."""
        self._table.set_back(turn.owned, turn.interrupted)

    # -- committing, and acting -------------------------------------------------------------------

    async def commit(self, built: Sequence[OwnedTurn], refused: Refused) -> bool:
        """Write these turns, and the runs that are to start; what cannot be is `refused` too.

        Returns whether there was anything to write.
        """
        turns = []
        now = self._clock.now()
        for turn in built:
            self._finish(turn, now)
            if turn.is_empty:
                self._consume(turn)
                self._table.queue.queue(turn.owned, turn.now)
            else:
                turns.append(turn)
        births, starts = self._bear(now) if self._starts else ([], [])
        if not turns and not starts and not births:
            return False
        new = [asked.start for asked in starts] if starts else []
        written = [*turns, *(turn for _, turn in births)] if births else turns
        lines = None
        if self._reports.waiting and not new and not births:
            lines = self._reports.take(now)
        try:
            started = await self._writer.write(
                lambda: self._store.commit(written, self._owner, new, lines=lines),
                size=len(written) + len(new),
            )
        except Exception as error:
            for turn in turns:
                self._forget(turn)
            if lines is not None:
                # They may be too many for a full disk: the next tick goes without them.
                self._reports.put_back(lines, now)
                return True
            self._undo(births)
            for asked in (*starts, *(asked for asked, _ in births)):
                asked.answer(error)
            raise
        for turn in turns:
            trouble = self._settle(turn)
            if trouble is not None:
                refused[turn.run] = trouble, turn.length
        for asked, one in zip(starts, started, strict=True):
            if not isinstance(one, Exception) and one[1] is not None:
                self._adopt(one[0], one[1], asked.idle_wait_ns)
            asked.answer(one)
        for asked, turn in births:
            self._settle_birth(asked, turn)
        return True

    def _adopt(self, row: RunRow, started: e.WorkflowStarted, idle_wait_ns: int) -> None:
        """Drive a run that was created as ours."""
        self._demand.own.name(row.key, idle_wait_ns)
        run = self._table.add(row, self._clock.now())
        self._table.cache.begin(run, started)
        self._hooks.hook("on_workflow_start", row)

    # -- births ----------------------------------------------------------------------------------

    def _bear(self, now: int) -> tuple[list[Birth], list[Asked]]:
        """The first turns of runs that are to start, as many as are quickly decided; and the starts
        that are recorded without.
        """
        births: list[Birth] = []
        starts: list[Asked] = []
        taken: list[Asked] = []
        end = time.perf_counter() + _BIRTHS_S
        try:
            for asked in self._starts.take():
                taken.append(asked)
                turn = self._first_turn(asked, now) if asked.at_once else None
                if turn is None:
                    starts.append(asked)
                else:
                    births.append((asked, turn))
                if time.perf_counter() > end:
                    break
        except BaseException:  # a person's Ctrl-C: they are told that nothing starts any more
            self._undo(births)
            for asked in taken:
                self._starts.appendleft(asked)
            raise
        return births, starts

    def _first_turn(self, asked: Asked, now: int) -> OwnedTurn | None:
        """The first turn of a run that is not on disk yet; `None` if it cannot be taken."""
        row, started = new_run(asked.start.new, now)
        run = OwnedRun(row=row, claimed_at=now, idle_wait_ns=asked.idle_wait_ns, interrupted=None)
        self._table.cache.begin(run, started, length=0)
        if run.state is None:
            return None
        try:
            turn = self._build(run, (), now)
            self._finish(turn, now)
        except Exception:
            self._table.cache.evict(run)  # it is said once the run is on disk
            return None
        except BaseException:
            self._table.cache.evict(run)
            raise
        return turn

    def _undo(self, births: Sequence[Birth]) -> None:
        for _, turn in births:
            self._table.cache.evict(turn.owned)

    def _settle_birth(self, asked: Asked, turn: OwnedTurn) -> None:
        """Drive the run that has begun; what was refused is recorded without its first turn."""
        if turn.outcome not in WRITTEN:
            self._table.cache.evict(turn.owned)
            self._starts.appendleft(replace(asked, at_once=False))
            return
        assert turn.born is not None
        run, row = turn.owned, turn.born
        run.name(row)
        self._demand.own.name(row.key, asked.idle_wait_ns)
        self._table.enter(run)
        self._hooks.hook("on_workflow_start", row)
        self._act(turn)
        asked.answer((row, None))

    # -- settling --------------------------------------------------------------------------------

    def _settle(self, turn: OwnedTurn) -> BelugaError | None:
        """Act on what became of the turn; returns why the run cannot go on, if it cannot."""
        match turn.outcome:
            case AppendOutcome.COMMITTED | AppendOutcome.RELEASED:
                self._act(turn)
            case AppendOutcome.FENCED:
                self._table.retire(turn.owned, Exit.LOST)
            case AppendOutcome.OVERTAKEN:
                self._forget(turn)
            case AppendOutcome.UNWRITABLE:
                self._forget(turn)
                return unwritable(turn.owned.row, turn.reason)
        return None

    def _act(self, turn: OwnedTurn) -> None:
        run, state = turn.owned, turn.owned.state
        assert state is not None
        run.commit(turn.length + len(turn.events), turn.due_at)
        test_hooks.step("before effects")
        self._hooks.turn(run, state.replayer, turn.events)
        for event in turn.events:
            if isinstance(event, _STARTABLE):
                run.open(event.seq)
            elif isinstance(event, _ENDS) and (slot := run.slots.get(event.seq)) is not None:
                if slot.phase is SlotPhase.RUNNING:
                    self._attempts.cancel(run.key, event.seq)
                self._table.queue.close(slot)
        self._consume(turn)
        if turn.outcome is AppendOutcome.RELEASED:
            if run.has_mail and not turn.closes:
                self._demand.see(run.key)
            exit = Exit.CLOSED if turn.closes else Exit.RELEASED
            self._table.retire(run, exit, kept=turn.keep)
            return
        for slot in turn.begun:
            if slot.phase is SlotPhase.RECORDING:
                self._table.queue.launch(slot)
        self._table.queue.queue(run, turn.now)
        if turn.release:
            run.receive()
            self._table.ready.mark(run)
        self._table.cache.trim(run)

    def _consume(self, turn: OwnedTurn) -> None:
        """The turn has come true: its run may rest, and the ends in it are used."""
        run = turn.owned
        self._table.ready.schedule(run)
        if turn.pins and not run.has_mail:
            run.move(Phase.PINNED)
        for slot in turn.consumed:
            if slot.phase is SlotPhase.ENDED:  # and it was on record already
                slot.move(SlotPhase.WAITING if run.is_open(slot.seq) else SlotPhase.GONE)
