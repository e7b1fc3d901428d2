"""Runs, histories and inboxes in one SQLite file: the only place with SQL, beside `database`.

Three kinds of writers meet here. *Callers* start runs, send messages and terminate. The *owner* of
a run appends its turns. Whoever wants to *own* a run claims it. Each does what it does in one
transaction; a turn is guarded by the history's length, so that an owner who was overtaken
(terminated, replaced) finds out and lets go.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from belugawf.executor import IfExists
from belugawf.executor.info import NewRun
from belugawf.host.clock import Clock
from belugawf.local.file.database import Database
from belugawf.local.store.queries import EVENT_COLUMNS, Questions
from belugawf.local.store.rows import (
    Committed,
    Fate,
    Message,
    OwnerRow,
    RunRow,
    Start,
    Started,
    Turn,
    Verdict,
    WaitRow,
    unread,
)
from belugawf.model import events as e
from belugawf.model.codec import encode
from belugawf.model.durations import format_instant, parse_instant
from belugawf.model.errors import AlreadyExistsError, RunEndedError
from belugawf.model.history import STATUS_OF, OpenWork
from belugawf.model.outcomes import Outcome
from belugawf.model.shell import command_line

Connection: TypeAlias = sqlite3.Connection

# Of a row of `live`: its run is kept only because a thread still works for it.
_HAS_ENDED = "(SELECT status FROM runs WHERE key = live.run) <> 'running'"


class Store(Questions):
    """See the module's docstring. Methods raise what `Database` raises."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock

    # -- callers ---------------------------------------------------------------------------------

    def create(self, new: NewRun, if_exists: IfExists) -> tuple[RunRow, e.WorkflowStarted | None]:
        """Record a run; returns it, with its first event where it is a new one.

        `if_exists` is "fail" (raises `AlreadyExistsError`), "skip" (returns the one stored) or
        "replace" (terminates an open one).
        """
        with self.database.write() as db:
            return self._create(db, new, if_exists)

    def _create(
        self, db: Connection, new: NewRun, if_exists: IfExists
    ) -> tuple[RunRow, e.WorkflowStarted | None]:
        found = self._latest(db, new.workflow_id)
        if found is not None:
            if if_exists == "skip":
                return found, None
            if if_exists == "fail":
                raise AlreadyExistsError(
                    f"a run with id {new.workflow_id!r} exists already ({found.status})",
                    hint="choose another --id, or say --if-exists skip or replace",
                )
            if found.status == "running":
                self._terminate(db, found, "replaced by a new run", None)
        return self._insert_run(db, new)

    def _insert_run(self, db: Connection, new: NewRun) -> tuple[RunRow, e.WorkflowStarted]:
        now = self.clock.now()
        deadline = None if new.timeout_ns is None else now + new.timeout_ns
        text = format_instant(now)
        labels = json.dumps(dict(new.labels), ensure_ascii=False)
        key = db.execute(
            "INSERT INTO runs (run_id, workflow_id, chain_id, workflow, input, labels, created_at, "
            "updated_at, deadline, due_at, history_length) VALUES (?,?,?,?,?,?,?,?,?,?,1)",
            (
                new.run_id,
                new.workflow_id,
                new.run_id,
                new.workflow,
                new.input,
                labels,
                text,
                text,
                None if deadline is None else format_instant(deadline),
                text,
            ),
        ).lastrowid
        assert key is not None
        started = e.WorkflowStarted(
            position=1,
            time=now,
            name=new.workflow,
            payload=new.input,
            workflow_id=new.workflow_id,
            run_id=new.run_id,
            deadline=deadline,
            python=new.python,
            belugawf=new.belugawf,
        )
        self._insert_events(db, key, [started])
        if new.labels:
            db.executemany(
                "INSERT INTO labels (name, value, run) VALUES (?,?,?)",
                [(name, value, key) for name, value in new.labels.items()],
            )
        owned_since = text if new.owner else None
        db.execute(
            "INSERT INTO live (run, owner, owned_since) VALUES (?,?,?)",
            (key, new.owner, owned_since),
        )
        row = RunRow(
            key=key,
            run_id=new.run_id,
            workflow_id=new.workflow_id,
            chain_id=new.run_id,
            parent_run_id=None,
            workflow=new.workflow,
            status="running",
            input=new.input,
            result=None,
            error=None,
            labels=labels,
            created_at=text,
            updated_at=text,
            closed_at=None,
            deadline=None if deadline is None else format_instant(deadline),
            due_at=text,
            begun=0,
            history_length=1,
            owner=new.owner,
            owned_since=owned_since,
            problem=None,
            progress=None,
        )
        return row, started

    def send(
        self,
        run: int,
        kind: str,
        *,
        name: str | None = None,
        payload: str | None = None,
        sender: str | None = None,
        key: str | None = None,
        check: Callable[[Sequence[WaitRow]], None] | None = None,
    ) -> tuple[RunRow, OwnerRow | None, bool]:
        """Put a message into an open run's inbox, durably.

        Returns the run, its owner if it has one, and whether the key was seen before: then nothing
        is delivered, not even to a run that has ended since. `check` is called with the run's open
        waits for that signal, and may raise. Raises `RunEndedError`.
        """
        with self.database.write() as db:
            row = self._by_key(db, run)
            if key is not None and self._was_seen(db, row.chain_id, key):
                return row, self._owner(db, row.owner), True
            if row.status != "running":
                raise RunEndedError(
                    f"run {row.workflow_id!r} has ended: {row.status}",
                    hint=f"look at it: {command_line('status', row.workflow_id)}",
                )
            if check is not None:
                check(self._waits(db, "w.run = ? AND +w.signal = ?", (run, name)))
            sent_at = self._stamp(db, row)
            if key is not None:
                db.execute(
                    "INSERT INTO message_keys (chain_id, message_key, sent_at) VALUES (?,?,?)",
                    (row.chain_id, key, sent_at),
                )
            db.execute(
                "INSERT INTO inbox (run, kind, name, payload, sender, message_key, sent_at) "
                "VALUES (?,?,?,?,?,?,?)",
                (run, kind, name, payload, sender, key, sent_at),
            )
            return row, self._owner(db, row.owner), False

    def _stamp(self, db: Connection, row: RunRow) -> str:
        """When a message to the run is sent: never before the run's previous one."""
        last = db.execute("SELECT last_sent_at FROM runs WHERE key = ?", (row.key,)).fetchone()[0]
        sent_at = max(format_instant(self.clock.now()), last or "")
        db.execute("UPDATE runs SET last_sent_at = ? WHERE key = ?", (sent_at, row.key))
        return sent_at

    def _was_seen(self, db: Connection, chain_id: str, key: str) -> bool:
        found = db.execute(
            "SELECT 1 FROM message_keys WHERE chain_id = ? AND message_key = ?", (chain_id, key)
        )
        return found.fetchone() is not None

    def terminate(
        self, run: int, reason: str | None, sender: str | None
    ) -> tuple[RunRow, OwnerRow | None]:
        """End a run at once, whoever owns it; returns it as it is now, and who owned it.

        Raises `RunEndedError`.
        """
        with self.database.write() as db:
            row = self._by_key(db, run)
            if row.status != "running":
                raise RunEndedError(
                    f"run {row.workflow_id!r} has ended already: {row.status}",
                    hint=f"look at it: {command_line('status', row.workflow_id)}",
                )
            owner = self._owner(db, row.owner)
            self._terminate(db, row, reason, sender)
            return self._by_key(db, run), owner

    def _terminate(
        self, db: Connection, row: RunRow, reason: str | None, sender: str | None
    ) -> None:
        time = max(self.clock.now(), self._last_time(db, row.key))
        position = row.history_length
        events: list[e.Event] = []
        inbox = self._inbox(db, [row.key])
        ends = any(message.kind == "attempt" for message in inbox)
        work = OpenWork.of(self._events(db, row.key)) if ends else OpenWork()
        for message in inbox:
            note = unread(message, position + 1, time)
            if note is None or (message.kind == "attempt" and not work.is_open(note)):
                continue  # an end may be on record already: see `Outcome`
            work.fold(note)
            position += 1
            events.append(note)
        events.append(
            e.WorkflowTerminated(position=position + 1, time=time, reason=reason, sender=sender)
        )
        self._insert_events(db, row.key, events)
        # Its owner may have something at work for it, and frees it when that has ended.
        self._close(db, row.key, events[-1], position + 1, keep=row.owner is not None)

    # -- the owner of runs -----------------------------------------------------------------------

    def commit(
        self,
        turns: Sequence[Turn],
        owner: str,
        starts: Sequence[Start] = (),
    ) -> Committed:
        """Record new runs and append the turns of others, all in one transaction.

        What is refused of it leaves the rest as it is.
        """
        with suppress(_RefusedError), self.database.write() as db:
            return self._commit_all(db, turns, owner, starts)
        # Something was refused, which is rare: once more, each in a savepoint of its own.
        with self.database.write() as db:
            return Committed(
                verdicts=[self._commit_turn(db, turn, owner) for turn in turns],
                started=[self._commit_start(db, start) for start in starts],
            )

    def _commit_all(
        self, db: Connection, turns: Sequence[Turn], owner: str, starts: Sequence[Start]
    ) -> Committed:
        try:
            fates = [self._append(db, turn, owner) for turn in turns]
            started = [self._create(db, start.new, start.if_exists) for start in starts]
        except Exception as error:
            if _concerns_all(error):
                raise
            raise _RefusedError from error
        if not _WRITTEN.issuperset(fates):
            raise _RefusedError
        return Committed(verdicts=[_VERDICTS[fate] for fate in fates], started=started)

    def _commit_turn(self, db: Connection, turn: Turn, owner: str) -> Verdict:
        db.execute("SAVEPOINT one")
        try:
            fate = self._append(db, turn, owner)
        except Exception as error:
            # Not only SQLite's: whatever the code has put into a row that cannot be written (half
            # of a surrogate pair, a moment beyond year 9999, no text at all) is its own problem.
            if _concerns_all(error):
                raise
            db.execute("ROLLBACK TO one")
            db.execute("RELEASE one")
            return Verdict(Fate.UNWRITABLE, str(error))
        if fate not in _WRITTEN:
            db.execute("ROLLBACK TO one")
        db.execute("RELEASE one")
        return _VERDICTS[fate]

    def _commit_start(self, db: Connection, start: Start) -> Started:
        db.execute("SAVEPOINT one")
        try:
            started: Started = self._create(db, start.new, start.if_exists)
        except Exception as error:
            if _concerns_all(error):
                raise
            db.execute("ROLLBACK TO one")
            started = error
            if isinstance(error, sqlite3.Error):
                started = self.database.explain(error)
        db.execute("RELEASE one")
        return started

    def _append(self, db: Connection, turn: Turn, owner: str) -> Fate:
        found = db.execute(
            "SELECT l.owner, l.problem, (SELECT max(id) FROM inbox WHERE run = r.key) "
            "FROM runs r JOIN live l ON l.run = r.key "
            "WHERE r.key = ? AND r.history_length = ? AND r.status = 'running'",
            (turn.run, turn.length),
        ).fetchone()
        if found is None or found[0] != owner:
            return Fate.FENCED
        problem, newest = found[1:]
        newer = newest is not None and newest > turn.read_to
        if turn.closes and newer:
            return Fate.OVERTAKEN
        self._insert_events(db, turn.run, turn.events)
        if turn.read_to:
            db.execute("DELETE FROM inbox WHERE run = ? AND id <= ?", (turn.run, turn.read_to))
        length = turn.length + len(turn.events)
        if turn.closes:
            self._close(db, turn.run, turn.events[-1], length, keep=turn.keep)
            return Fate.RELEASED
        db.execute(
            "UPDATE runs SET history_length = ?, updated_at = coalesce(?, updated_at), due_at = ?, "
            "begun = 1 WHERE key = ?",
            (
                length,
                format_instant(turn.events[-1].time) if turn.events else None,
                None if turn.due_at is None else format_instant(turn.due_at),
                turn.run,
            ),
        )
        self._project_waits(db, turn.run, turn.events)
        if problem is not None or turn.progress is not None:
            # Who takes a turn has no problem any more.
            db.execute(
                "UPDATE live SET problem = NULL, progress = coalesce(?, progress) WHERE run = ?",
                (turn.progress, turn.run),
            )
        if turn.release and not newer:
            self._let_go(db, turn.run)
            return Fate.RELEASED
        return Fate.COMMITTED

    def release(self, runs: Sequence[int], owner: str) -> list[int]:
        """Let runs go that have no message waiting; returns those that were let go."""
        with self.database.write() as db:
            released = []
            for run in runs:
                if not db.execute("SELECT 1 FROM inbox WHERE run = ? LIMIT 1", (run,)).fetchone():
                    self._let_go(db, run, owner)
                    released.append(run)
            return released

    def abandon(self, runs: Sequence[int], owner: str, ends: Sequence[Outcome] = ()) -> None:
        """Let runs go whatever is waiting for them: this process will not drive them.

        `ends` are kept in their inboxes, as in `refuse`.
        """
        with self.database.write() as db:
            self._keep_ends(db, ends, owner)
            self._free_ended(db, runs, owner)
            for run in runs:
                self._let_go(db, run, owner)

    def _keep_ends(self, db: Connection, ends: Sequence[Outcome], owner: str) -> None:
        """Put the ends of attempts into the inboxes of runs that are ours: each once."""
        for end in ends:
            text = end.to_text()
            db.execute(
                "INSERT INTO inbox (run, kind, name, payload, sent_at) "
                "SELECT :run, 'attempt', :seq, :payload, :at "
                "WHERE EXISTS (SELECT 1 FROM runs r JOIN live l ON l.run = r.key "
                "WHERE r.key = :run AND +r.status = 'running' AND l.owner = :owner) "
                "AND NOT EXISTS (SELECT 1 FROM inbox WHERE run = :run AND payload = :payload)",
                {
                    "run": end.run,
                    "seq": str(end.seq),
                    "payload": text,
                    "at": format_instant(end.at),
                    "owner": owner,
                },
            )

    def _let_go(self, db: Connection, run: int, owner: str | None = None) -> None:
        db.execute(
            "UPDATE live SET owner = NULL, owned_since = NULL "
            "WHERE run = ? AND (? IS NULL OR owner = ?)",
            (run, owner, owner),
        )

    def free_ended(self, runs: Iterable[int], owner: str) -> None:
        """These runs, where they have ended, are not ours any more."""
        with self.database.write() as db:
            self._free_ended(db, runs, owner)

    def _free_ended(self, db: Connection, runs: Iterable[int], owner: str) -> None:
        db.executemany(
            f"DELETE FROM live WHERE run = ? AND owner = ? AND {_HAS_ENDED}",
            [(run, owner) for run in runs],
        )

    def refuse(
        self,
        problems: Mapping[int, tuple[Mapping[str, Any], int]],
        owner: str,
        *,
        keep: Collection[int] = (),
        ends: Sequence[Outcome] = (),
    ) -> set[int]:
        """Mark runs with their problems, and let those go that are ours, but for `keep`.

        Each problem is of a history of that length: a run that somebody else has moved on since has
        not got it. Ours may be longer, after a commit of which we have not heard.
        `ends` are the ends of attempts that could not be applied because of that: they go to the
        inboxes of their runs, so that whoever takes these up next applies them.
        Returns the runs whose problem is news.
        """
        news = set()
        with self.database.write() as db:
            self._keep_ends(db, ends, owner)
            for run, (problem, length) in problems.items():
                text = json.dumps(problem, ensure_ascii=False)
                text = text.encode("utf-8", "backslashreplace").decode()
                old = db.execute("SELECT problem FROM live WHERE run = ?", (run,)).fetchone()
                if old is None or old[0] != text:
                    marked = db.execute(
                        f"UPDATE live SET problem = ? WHERE run = ? AND NOT {_HAS_ENDED} "
                        "AND (owner = ? "
                        "OR (SELECT history_length FROM runs WHERE key = live.run) = ?)",
                        (text, run, owner, length),
                    )
                    if old is None or marked.rowcount:
                        news.add(run)
            free = [run for run in problems if run not in keep]
            self._free_ended(db, free, owner)
            for run in free:
                self._let_go(db, run, owner)
        return news

    def heartbeat(self, run: int, seq: int) -> Any:
        """What the last attempt of an activity reported; `None` where it did not."""
        with self.database.reading() as db:
            row = db.execute(
                "SELECT details FROM heartbeats WHERE run = ? AND seq = ?", (run, seq)
            ).fetchone()
        with suppress(ValueError, RecursionError):  # whoever edited it: it may be lost
            return None if row is None else json.loads(row[0])
        return None

    def save_heartbeats(self, beats: Sequence[tuple[int, int, str]]) -> None:
        """Keep what attempts reported: (run, seq, JSON) each; one row an activity."""
        at = format_instant(self.clock.now())
        with self.database.write() as db:
            db.executemany(
                "INSERT INTO heartbeats (run, seq, details, at) SELECT ?, ?, ?, ? "
                "WHERE EXISTS (SELECT 1 FROM runs WHERE key = ? AND +status = 'running') "
                "ON CONFLICT (run, seq) DO UPDATE SET details = excluded.details, at = excluded.at",
                [(run, seq, details, at, run) for run, seq, details in beats],
            )

    def read_inbox(self, runs: Sequence[int], *, locked: bool) -> tuple[list[Message], int]:
        """The messages of these runs in order, and the time.

        With `locked` they are read under the write lock: whatever is sent later is then stamped
        later than the time returned, so that timers due by then may be applied.
        """
        if not locked:
            with self.database.reading() as db:
                return self._inbox(db, runs), self.clock.now()
        with self.database.write() as db:
            return self._inbox(db, runs), self.clock.now()

    # -- ownership -------------------------------------------------------------------------------

    def register(self, owner: OwnerRow) -> None:
        """Say who we are. The caller holds the owner's file lock already."""
        with self.database.write() as db:
            db.execute(
                "INSERT INTO owners (id, pid, host, boot_id, since, socket, role, workflows) "
                "VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET "
                "role = excluded.role, workflows = excluded.workflows",
                (
                    owner.id,
                    owner.pid,
                    owner.host,
                    owner.boot_id,
                    owner.since,
                    owner.socket,
                    owner.role,
                    json.dumps(sorted(owner.workflows)),
                ),
            )

    def unregister(self, owner: str, keeping: Sequence[int] = ()) -> None:
        """Say goodbye: what we still own is let go, and none of it is suspect.

        With runs in `keeping` those stay ours, and so do we stay registered, as one who has left.
        """
        with self.database.write() as db:
            db.execute(
                "DELETE FROM live WHERE owner = ? "
                f"AND run NOT IN (SELECT value FROM json_each(?)) AND {_HAS_ENDED}",
                (owner, json.dumps(list(keeping))),
            )
            db.execute(
                "UPDATE live SET owner = NULL, owned_since = NULL WHERE owner = ? "
                "AND run NOT IN (SELECT value FROM json_each(?))",
                (owner, json.dumps(list(keeping))),
            )
            if keeping:
                db.execute(
                    "UPDATE owners SET role = 'left', socket = NULL, workflows = '[]' WHERE id = ?",
                    (owner,),
                )
            else:
                db.execute("DELETE FROM owners WHERE id = ?", (owner,))

    def owners(self) -> list[OwnerRow]:
        """Everybody who registered, dead or alive."""
        with self.database.reading() as db:
            return [OwnerRow.of(row) for row in db.execute("SELECT * FROM owners")]

    def owner(self, owner_id: str | None) -> OwnerRow | None:
        """One of them; `None` where it is not known."""
        with self.database.reading() as db:
            return self._owner(db, owner_id)

    def forget_dead(self, dead: Iterable[str]) -> None:
        """Drop the rows of dead owners that own nothing any more."""
        gone = list(dead)
        with self.database.write() as db:
            db.executemany(
                f"DELETE FROM live WHERE owner = ? AND {_HAS_ENDED}",
                [(owner,) for owner in gone],
            )
            db.executemany(
                "DELETE FROM owners WHERE id = ? "
                "AND NOT EXISTS (SELECT 1 FROM live WHERE owner = owners.id)",
                [(owner,) for owner in gone],
            )

    def claim(self, runs: Mapping[int, str | None], owner: str) -> list[RunRow]:
        """Take runs over from the owners given (`None`, or one known to be dead).

        Returns those that were still theirs, as they are now, with `owner` still the old one.
        """
        now = format_instant(self.clock.now())
        with self.database.write() as db:
            self.database.places.check(at_once=True)
            claimed = []
            for run, previous in runs.items():
                rows = self._rows(db, "WHERE r.key = ?", (run,))  # none: it was pruned
                if not rows or rows[0].status != "running" or rows[0].owner != previous:
                    continue
                db.execute(
                    "INSERT INTO live (run, owner, owned_since) VALUES (?,?,?) "
                    "ON CONFLICT (run) DO UPDATE SET owner = excluded.owner, "
                    "owned_since = excluded.owned_since",
                    (run, owner, now),
                )
                claimed += rows
            return claimed

    # -- helpers within a transaction ------------------------------------------------------------

    def _owner(self, db: Connection, owner_id: str | None) -> OwnerRow | None:
        if owner_id is None:
            return None
        row = db.execute("SELECT * FROM owners WHERE id = ?", (owner_id,)).fetchone()
        return None if row is None else OwnerRow.of(row)

    def _last_time(self, db: Connection, run: int) -> int:
        row = db.execute(
            "SELECT time FROM events WHERE run = ? ORDER BY position DESC LIMIT 1", (run,)
        ).fetchone()
        with suppress(ValueError, TypeError):
            return parse_instant(row[0])
        return 0  # whoever edited it: a run can be ended all the same

    def _inbox(self, db: Connection, runs: Sequence[int]) -> list[Message]:
        rows = db.execute(
            "SELECT id, run, kind, name, payload, sender, message_key, sent_at FROM inbox "
            "WHERE run IN (SELECT value FROM json_each(?)) ORDER BY id",
            (json.dumps(list(runs)),),
        )
        return [Message.of(row) for row in rows]

    def _insert_events(self, db: Connection, run: int, events: Sequence[e.Event]) -> None:
        db.executemany(
            f"INSERT INTO events (run, {EVENT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",
            [(run, *e.to_row(event)) for event in events],
        )

    def _project_waits(self, db: Connection, run: int, events: Sequence[e.Event]) -> None:
        for event in events:
            if isinstance(event, e.WaitStarted):
                db.execute(
                    "INSERT INTO waits (run, seq, signal, since, until, prompt, expected, schema) "
                    "VALUES (?,?,?,?,?,?,?,?)",
                    (
                        run,
                        event.seq,
                        event.name,
                        format_instant(event.time),
                        None if event.until is None else format_instant(event.until),
                        event.prompt,
                        event.expected,
                        event.schema,
                    ),
                )
            elif isinstance(event, e.WaitEnded):
                db.execute("DELETE FROM waits WHERE run = ? AND seq = ?", (run, event.seq))

    def _close(
        self, db: Connection, run: int, closing: e.Event, length: int, *, keep: bool
    ) -> None:
        result = closing.payload if isinstance(closing, e.WorkflowCompleted) else None
        error = closing.payload if isinstance(closing, e.WorkflowFailed) else None
        if isinstance(closing, e.WorkflowTerminated) and closing.reason:
            error = encode({"type": "Terminated", "message": closing.reason})
        time = format_instant(closing.time)
        db.execute(
            "UPDATE runs SET status = ?, result = ?, error = ?, updated_at = ?, closed_at = ?, "
            "due_at = NULL, begun = 1, history_length = ? WHERE key = ?",
            (STATUS_OF[type(closing)], result, error, time, time, length, run),
        )
        db.execute("DELETE FROM waits WHERE run = ?", (run,))
        db.execute("DELETE FROM inbox WHERE run = ?", (run,))
        if keep:
            db.execute("UPDATE live SET problem = NULL, progress = NULL WHERE run = ?", (run,))
        else:
            db.execute("DELETE FROM live WHERE run = ?", (run,))
        db.execute("DELETE FROM heartbeats WHERE run = ?", (run,))


_DISK_TROUBLE = (
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_CORRUPT",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_NOMEM",
    "SQLITE_NOTADB",
    "SQLITE_READONLY",
)


# What became of turns that are in the transaction.
_WRITTEN = frozenset({Fate.COMMITTED, Fate.RELEASED})
_VERDICTS = {fate: Verdict(fate) for fate in Fate}


class _RefusedError(Exception):
    """A turn or a new run is refused; the rest of the transaction is not."""


def _concerns_all(error: Exception) -> bool:
    """Whether an error is the disk's and not one row's: then nothing of the commit stands."""
    if not isinstance(error, sqlite3.Error):
        return False
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(_DISK_TROUBLE)
