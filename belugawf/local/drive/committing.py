"""From turns to what they come to: one transaction, and only then their effects."""

from __future__ import annotations

from collections.abc import Sequence

from belugawf.host import test_hooks
from belugawf.host.attempts import AttemptRunner
from belugawf.host.clock import Clock
from belugawf.local.drive.deciding import Decider
from belugawf.local.drive.demand import Demand, Stop
from belugawf.local.drive.hooks import TurnHooks
from belugawf.local.drive.problems import Refused, unwritable
from belugawf.local.drive.run import Exit, Phase, SlotPhase
from belugawf.local.drive.starts import Starts
from belugawf.local.drive.table import RunTable
from belugawf.local.drive.ticking import Notifier
from belugawf.local.drive.turns import OwnedTurn
from belugawf.local.file.writer import Writer
from belugawf.local.store.rows import AppendOutcome, RunRow
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.errors import BelugaError

# What leaves an activity that can be started, now or later.
_STARTABLE = (e.ActivityScheduled, e.AttemptFailed, e.AttemptInterrupted)
# What ends one, whether its attempt has ended or not.
_ENDS = (
    e.ActivityCompleted,
    e.ActivityFailed,
    e.ActivityTimedOut,
    e.ActivityCancelRequested,
)


class Committer:
    """Writes the turns of one engine's runs, and its starts; and acts on what was written."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        owner: str,
        clock: Clock,
        *,
        table: RunTable,
        decider: Decider,
        demand: Demand,
        starts: Starts,
        attempts: AttemptRunner,
        hooks: TurnHooks,
        notifier: Notifier,
    ) -> None:
        self._store = store
        self._writer = writer
        self._owner = owner
        self._clock = clock
        self._table = table
        self._decider = decider
        self._demand = demand
        self._starts = starts
        self._attempts = attempts
        self._hooks = hooks
        self._notifier = notifier

    async def commit(self, built: Sequence[OwnedTurn], refused: Refused) -> None:
        """Write these turns, and the runs that are to start; what cannot be is `refused` too."""
        turns = []
        for turn in built:
            self._decider.finish(turn, stopping=self._demand.stop > Stop.NO)
            if turn.is_empty:
                self._consume(turn)
                self._table.queue.queue(turn.owned, turn.now)
            else:
                turns.append(turn)
        starts = self._starts.wanted()
        if not turns and not starts:
            return
        new = [asked.start for asked in starts]
        try:
            started = await self._writer.write(
                lambda: self._store.commit(turns, self._owner, new), size=len(turns) + len(new)
            )
        except Exception as error:
            for turn in turns:
                self._decider.forget(turn)
            for asked in starts:
                asked.answer(error)
            raise
        finally:
            self._starts.drop(starts)
        for turn in turns:
            trouble = self._settle(turn)
            if trouble is not None:
                refused[turn.run] = trouble, turn.owned.length
        for asked, one in zip(starts, started, strict=True):
            if not isinstance(one, Exception) and one[1] is not None:
                self._adopt(one[0], one[1], asked.idle_wait_ns)
            asked.answer(one)
        self._notifier.notify()

    def _adopt(self, row: RunRow, started: e.WorkflowStarted, idle_wait_ns: int) -> None:
        """Drive a run that was created as ours."""
        self._demand.own.name(row.key, idle_wait_ns)
        run = self._table.add(row, self._clock.now(), interrupted=None)
        self._table.cache.begin(run, started)
        self._hooks.hook("on_workflow_start", row)

    def _settle(self, turn: OwnedTurn) -> BelugaError | None:
        """Act on what became of the turn; returns why the run cannot go on, if it cannot."""
        match turn.outcome:
            case AppendOutcome.COMMITTED | AppendOutcome.RELEASED:
                self._act(turn)
            case AppendOutcome.FENCED:
                self._table.retire(turn.owned, Exit.LOST)
            case AppendOutcome.OVERTAKEN:
                self._decider.forget(turn)
            case AppendOutcome.UNWRITABLE:
                self._decider.forget(turn)
                return unwritable(turn.owned.row, turn.reason)
        return None

    def _act(self, turn: OwnedTurn) -> None:
        run, state = turn.owned, turn.owned.state
        assert state is not None
        run.commit(turn.length + len(turn.events), turn.due_at)
        test_hooks.step("before effects")
        self._hooks.turn(run.row, state.replayer, turn.events)
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
        self._table.queue.queue(run, self._clock.now())
        if turn.release:
            run.receive()
            self._table.ready.mark(run)
        self._table.cache.trim(run)

    def _consume(self, turn: OwnedTurn) -> None:
        """The turn has come true: its run may rest, and the ends in it are used."""
        run = turn.owned
        if turn.pins and not run.has_mail:
            run.move(Phase.PINNED)
        for slot in turn.consumed:
            if slot.phase is SlotPhase.ENDED:  # and it was on record already
                slot.move(SlotPhase.WAITING if run.is_open(slot.seq) else SlotPhase.GONE)
