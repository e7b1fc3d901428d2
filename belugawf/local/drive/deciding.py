"""From what has happened to runs to what is written: their turns, or why these cannot be taken.

Nothing is written here, and nothing takes effect. A turn that does not come to be on disk is
forgotten (`forget`): what happened is kept, and the run is read again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from belugawf.executor.options import EngineOptions
from belugawf.host.border import log
from belugawf.host.clock import Clock
from belugawf.local.drive.problems import BugError, Refused, is_of_the_disk
from belugawf.local.drive.run import Exit, OwnedRun
from belugawf.local.drive.table import RunTable
from belugawf.local.drive.turns import OwnedTurn, TurnBuilder
from belugawf.local.file.writer import Writer
from belugawf.local.store.rows import Message
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.errors import BelugaError
from belugawf.model.shortage import shortage


class Decider:
    """Makes the turns of one engine's runs, which `table` holds."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        owner: str,
        options: EngineOptions,
        clock: Clock,
        table: RunTable,
    ) -> None:
        self._store = store
        self._writer = writer
        self._owner = owner
        self._options = options
        self._clock = clock
        self._table = table

    async def _read_messages(
        self, ready: Sequence[OwnedRun], now: int
    ) -> tuple[dict[int, list[Message]], int]:
        """The unread messages of these runs, and the time.

        If something is due by that time, they are read under the lock: see `Store.read_inbox`.
        """
        asked = [run.key for run in ready if run.has_mail]
        rows: Sequence[Message] = ()
        read_at = now
        if asked and not any(run.may_be_due(now) for run in ready):
            rows, read_at = self._store.read_inbox(asked, locked=False)
        if any(run.may_be_due(read_at) for run in ready):
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
                taken = self._take_turn(run, messages.get(run.key, []), now)
                if isinstance(taken, OwnedTurn):
                    turns.append(taken)
                elif taken is not None:
                    refused[run.key] = taken, run.length
        except BaseException:
            # The disk refuses: no turn that was made is written, so none may stay in memory.
            for turn in turns:
                self.forget(turn)
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
        turn = self._table.cache.watched(run.state.replayer, builder.build)
        scheduled = [event.seq for event in turn.events if type(event) is e.ActivityScheduled]
        self._table.cache.check_functions(run, scheduled)
        return turn

    def finish(self, turn: OwnedTurn, *, stopping: bool) -> None:
        """Settle what is written beside its events. While `stopping`, a run rests if it can."""
        run, state = turn.owned, turn.owned.state
        assert state is not None
        now = self._clock.now()
        moments = run.moments(now)
        due_at = state.due_now(now) if state.runnable() else min(moments, default=None)
        # What has fallen due since the turn was built is the next turn's, so `now` does not count.
        run.expect(min((moment for moment in moments if moment > turn.now), default=None))
        self._table.ready.schedule(run)
        rests = not state.runnable() and (
            stopping or due_at is None or due_at > now + run.idle_wait_ns
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

    def forget(self, turn: OwnedTurn) -> None:
        """The turn is not on disk: forget it, keep what happened, and read the run again."""
        self._table.set_back(turn.owned, turn.interrupted)
