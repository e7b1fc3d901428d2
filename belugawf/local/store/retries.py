"""Taking up a run again that has ended or is parked: `Store` without the rest of its writing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from belugawf.executor.info import REOPENED
from belugawf.host.clock import Clock
from belugawf.local.store.histories import Connection, skipped_of, sound_history
from belugawf.local.store.queries import Queries
from belugawf.local.store.rows import OwnerRow, RunRow
from belugawf.local.store.writing import insert_events, last_time, project_waits
from belugawf.model import events as e
from belugawf.model.durations import to_micros
from belugawf.model.errors import BusyError, RefusedError
from belugawf.model.reopening import Reopening, plan
from belugawf.model.shell import command_line

_REOPEN = """UPDATE runs SET status = 'running', result = NULL, error = NULL, closed_at = NULL,
    deadline = ?, due_at = ?, begun = ?, skipped = ? WHERE key = ?"""
_NOBODYS = """INSERT INTO live (run) VALUES (?) ON CONFLICT (run) DO UPDATE SET owner = NULL,
    owned_since = NULL, problem = NULL, open_at = NULL, open_work = NULL"""
_MESSAGE = """INSERT INTO inbox (run, kind, name, payload, sender, message_key, sent_at)
    VALUES (?,?,?,?,?,?,?)"""
_NO_HEARTBEATS = """DELETE FROM heartbeats WHERE run = ?
    AND seq NOT IN (SELECT value FROM json_each(?))"""
_AGAIN = """INSERT INTO inbox (run, kind, name, payload, sender, message_key, sent_at)
    SELECT run, kind, name, payload, sender, message_key, sent_at FROM inbox
    WHERE run = ? AND id <= ? ORDER BY id"""


class Retries(Queries):
    """See the module's docstring. Methods raise what `Database` raises."""

    clock: Clock

    def reopen(
        self,
        run: int,
        position: int | None,
        *,
        timeout_ns: int | None,
        discard: bool,
        reason: str | None,
        sender: str | None,
        is_alive: Callable[[str], bool],
    ) -> RunRow:
        """Take up a run again that has ended or is parked: see `model.reopening`.

        Raises `RefusedError`, and `BusyError` while its last owner works for it.
        """
        with self.database.write() as db:
            row = self._by_key(db, run)
            latest = self._latest(db, row.workflow_id)
            if latest is not None and latest.key != run:
                raise _newer_run(row)
            owner = self._owner(db, row.owner)
            if owner is not None and is_alive(owner.id):
                raise _still_at_work(row, owner)
            if row.problem is None and row.status not in REOPENED:
                raise _not_reopened(row)
            inbox = self._inbox(db, [run])
            unread = [message.outcome() for message in inbox if message.kind == "attempt"]
            planned = plan(sound_history(db, run), run, position, unread)
            if position is None and not discard:
                _require_harmless(row, planned)
            now = max(self.clock.now(), last_time(db, run))
            event = e.RunReopened(
                position=row.history_length + 1,
                time=now,
                to=planned.to,
                attempts=planned.attempts,
                deadline=None if timeout_ns is None else now + timeout_ns,
                reason=reason,
                sender=sender,
            )
            _write(db, run, event, planned)
            return self._by_key(db, run)


def _write(db: Connection, run: int, event: e.RunReopened, planned: Reopening) -> None:
    """The run is open again, as it was after the event that `planned` names, and nobody's."""
    skipped = [(after, before) for after, before in skipped_of(db, run) if before <= event.to]
    if event.position > event.to + 1:
        skipped.append((event.to, event.position))
    insert_events(db, [(run, event)])
    values = (to_micros(event.deadline), to_micros(event.time), planned.code_started)
    db.execute(_REOPEN, (*values, json.dumps(skipped) if skipped else None, run))
    db.execute(_NOBODYS, (run,))
    db.execute("DELETE FROM waits WHERE run = ?", (run,))
    project_waits(db, [(run, wait) for wait in planned.work.waits.values()])
    db.execute("DELETE FROM inbox WHERE run = ? AND kind = 'attempt'", (run,))
    # What is asked for anew, in the place of something that does not count, has none.
    open_now = json.dumps([int(seq) for seq in planned.attempts])
    db.execute(_NO_HEARTBEATS, (run, open_now))
    (last,) = db.execute("SELECT max(id) FROM inbox WHERE run = ?", (run,)).fetchone()
    for signal in planned.signals:
        sent = (signal.payload, signal.sender, signal.key, to_micros(signal.at))
        db.execute(_MESSAGE, (run, "signal", signal.name, *sent))
    if planned.signals and last is not None:  # what was sent later comes after them
        db.execute(_AGAIN, (run, last))
        db.execute("DELETE FROM inbox WHERE run = ? AND id <= ?", (run, last))
    for end in planned.ends:
        told = (str(end.seq), end.to_text(), None, None, to_micros(end.at))
        db.execute(_MESSAGE, (run, "attempt", *told))


def _newer_run(row: RunRow) -> RefusedError:
    """There is a later run of its workflow id."""
    return RefusedError(
        f"run {row.run_id} is not the last one of {row.workflow_id!r}",
        hint=f"look at that one: {command_line('status', row.workflow_id)}",
    )


def _not_reopened(row: RunRow) -> RefusedError:
    """It goes on by itself, or has ended as it was to."""
    if row.status == "running":
        return RefusedError(
            f"run {row.workflow_id!r} has not ended, and nothing keeps it from going on",
            hint=f"drive it: {command_line('resume', row.workflow_id)}",
        )
    return RefusedError(
        f"run {row.workflow_id!r} {'was ' * (row.status == 'terminated')}{row.status}: there is "
        "nothing to take up again",
        hint=f"start it anew: {command_line('rerun', row.workflow_id)}",
    )


def _still_at_work(row: RunRow, owner: OwnerRow) -> BusyError:
    """Something of it that could not be stopped may still have effects."""
    return BusyError(
        f"process {owner.pid} still works for run {row.workflow_id!r}",
        hint=f"let it end, or end it: kill {owner.pid}",
    )


def _require_harmless(row: RunRow, planned: Reopening) -> None:
    """Raise `RefusedError` if work would be done twice, or left as it is, that nobody knows of."""
    if planned.forgotten:
        said = (
            f"run {row.workflow_id!r} has done more after event {planned.to}, where it would go "
            f"on: {_listed(planned.forgotten)}; its code would not know of that"
        )
    elif planned.doubtful:
        said = (
            f"run {row.workflow_id!r} has begun what is to be done at most once, and may have done "
            f"it: {_listed(planned.doubtful)}; that would begin again"
        )
    else:
        return
    raise RefusedError(
        said,
        hint="if that is right: --yes, in Python discard=True; or name another event: --from, in "
        f"Python from_position; {command_line('history', row.workflow_id)}",
    )


def _listed(activities: Sequence[e.ActivityScheduled]) -> str:
    names = [f"{one.name} (event {one.position})" for one in activities]
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if names[10:] else "")
