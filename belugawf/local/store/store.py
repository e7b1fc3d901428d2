"""Runs, histories and inboxes in one SQLite file: every transaction that writes to them.

*Callers* start runs, send messages and terminate. The *owner* of a run appends its turns. Whoever
wants to own a run claims it. Each method is one transaction. A turn is guarded by the length of the
history: an owner whose run was terminated or replaced finds out, and drops the run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from belugawf.executor import IfExists
from belugawf.executor.checks import parked_failure
from belugawf.executor.info import NewRun
from belugawf.host.clock import Clock
from belugawf.local.file.database import Database
from belugawf.local.store.appending import Appending, Known
from belugawf.local.store.damage import reading
from belugawf.local.store.histories import Connection, events_of
from belugawf.local.store.loglines import NewLines, insert_lines
from belugawf.local.store.owners import Owners
from belugawf.local.store.retries import Retries
from belugawf.local.store.rows import (
    AppendOutcome,
    Letter,
    Message,
    OwnerRow,
    RunRow,
    Start,
    Started,
    Turn,
    WaitRow,
    new_run,
    unread_notes,
)
from belugawf.local.store.writing import (
    close_runs,
    free_ended,
    insert_events,
    insert_runs,
    keep_ends,
    last_key,
    last_time,
    let_go,
    mark_problem,
)
from belugawf.model import events as e
from belugawf.model.codec import encode
from belugawf.model.durations import MICROSECOND_NS, to_micros
from belugawf.model.errors import AlreadyExistsError, DisplacedError, RunEndedError
from belugawf.model.history import OpenWork
from belugawf.model.outcomes import Outcome
from belugawf.model.shell import command_line

T = TypeVar("T")


class Store(Retries, Owners):
    """See the module's docstring. Methods raise what `Database` raises."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self._known = Known()

    # -- callers ---------------------------------------------------------------------------------

    def create(
        self, new: NewRun, if_exists: IfExists, owner: str | None = None
    ) -> tuple[RunRow, e.WorkflowStarted | None]:
        """Record a run, of that owner; returns it, with its first event if it is new.

        `if_exists` is "fail" (raises `AlreadyExistsError`), "skip" (returns the one stored) or
        "replace" (terminates an open one).
        """
        with self.database.write() as db:
            return self._create(db, new, if_exists, owner)

    def _create(
        self, db: Connection, new: NewRun, if_exists: IfExists, owner: str | None
    ) -> tuple[RunRow, e.WorkflowStarted | None]:
        found = self._latest(db, new.workflow_id)
        if found is not None:
            if if_exists == "skip":
                return found, None
            if if_exists == "fail":
                raise AlreadyExistsError(
                    f"a run with id {new.workflow_id!r} exists already ({found.status})",
                    hint="choose another id, or skip or replace that run: --if-exists, in Python "
                    "if_exists=",
                )
            if found.status == "running":
                self._terminate(db, found, "replaced by a new run", None)
        row, started = new_run(new, self.clock.now(), last_key(db) + 1, owner)
        insert_runs(db, [row])
        insert_events(db, [(row.key, started)])
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
    ) -> tuple[RunRow, bool]:
        """Put a message into an open run's inbox, durably.

        Returns the run, and whether the key was seen before: then nothing is delivered, not even to
        a run that has ended since. `check` is called with the run's open waits for that signal, and
        may raise. Raises `RunEndedError`.
        """
        letter = Letter(kind, name, payload, sender, key, check)
        with self.database.write() as db:
            row = self._by_key(db, run)
            return row, self.deliver(db, row, letter)

    def deliver(self, db: Connection, row: RunRow, letter: Letter) -> bool:
        """See `send`: whether the letter's key was seen before."""
        key = letter.key
        seen = "SELECT 1 FROM message_keys WHERE chain_id = ? AND message_key = ?"
        if key is not None and db.execute(seen, (row.chain_id, key)).fetchone():
            return True
        if row.status != "running":
            raise RunEndedError(
                f"run {row.workflow_id!r} has ended: {row.status}",
                hint=f"look at it: {command_line('status', row.workflow_id)}",
            )
        if letter.check is not None:
            waits = self._waits(db, "w.run = ? AND +w.signal = ?", (row.key, letter.name))
            with reading(lambda: row.workflow_id):  # the schemas in them
                letter.check(waits)
        sent_at = self._stamp(db, row)
        if key is not None:
            db.execute(
                "INSERT INTO message_keys (chain_id, message_key, sent_at) VALUES (?,?,?)",
                (row.chain_id, key, sent_at),
            )
        db.execute(
            "INSERT INTO inbox (run, kind, name, payload, sender, message_key, sent_at) "
            "VALUES (?,?,?,?,?,?,?)",
            (row.key, letter.kind, letter.name, letter.payload, letter.sender, key, sent_at),
        )
        return False

    def _stamp(self, db: Connection, row: RunRow) -> int:
        """When a message to the run is sent: never before the run's previous one."""
        last = db.execute("SELECT last_sent_at FROM runs WHERE key = ?", (row.key,)).fetchone()[0]
        sent_at: int = max(self.clock.now() // MICROSECOND_NS, last or 0)
        db.execute("UPDATE runs SET last_sent_at = ? WHERE key = ?", (sent_at, row.key))
        return sent_at

    def terminate(
        self, run: int, reason: str | None, sender: str | None
    ) -> tuple[RunRow, OwnerRow | None]:
        """End a run at once, whoever owns it; returns it as it is now, and who owned it.

        Raises `RunEndedError`.
        """
        with self.database.write() as db:
            row = self._by_key(db, run)
            owner = self._owner(db, row.owner)
            self.end(db, row, reason, sender)
            return self._by_key(db, run), owner

    def end(self, db: Connection, row: RunRow, reason: str | None, sender: str | None) -> None:
        """See `terminate`."""
        if row.status != "running":
            raise RunEndedError(
                f"run {row.workflow_id!r} has ended already: {row.status}",
                hint=f"look at it: {command_line('status', row.workflow_id)}",
            )
        self._terminate(db, row, reason, sender)

    def _terminate(
        self, db: Connection, row: RunRow, reason: str | None, sender: str | None
    ) -> None:
        self._end(db, row, partial(e.WorkflowTerminated, reason=reason, sender=sender))

    def _end(self, db: Connection, row: RunRow, closing: Callable[..., e.Event]) -> None:
        """End the run without its code; what came too late to be seen is kept as notes."""
        time = max(self.clock.now(), last_time(db, row.key))
        inbox = self._inbox(db, [row.key])
        ends = any(message.kind == "attempt" for message in inbox)
        work = OpenWork.of(events_of(db, row.key, counting=True)) if ends else OpenWork()
        notes = unread_notes(inbox, work, row.history_length, time)
        end = closing(position=row.history_length + len(notes) + 1, time=time)
        insert_events(db, [(row.key, event) for event in (*notes, end)])
        # Its owner may have something at work for it, and frees it when that has ended.
        close_runs(db, [(row.key, end, row.owner is not None)])

    # -- the owner of runs -----------------------------------------------------------------------

    def commit(
        self,
        turns: Sequence[Turn],
        owner: str,
        starts: Sequence[Start] = (),
        lines: NewLines | None = None,
    ) -> Sequence[Started]:
        """Record new runs and append turns, all in one transaction; and log lines with them.

        What is refused of it leaves the rest as it is. Each turn knows its outcome then; what
        became of the starts is returned.
        """
        try:
            with self.database.write() as db:
                appending = Appending(self._known, self.database, db, owner)
                started = self._commit_all(db, appending, owner, turns, starts)
                if lines is not None:
                    _alone(db, partial(insert_lines, db, lines))
            appending.committed()
            return started
        except _RefusedError:
            pass  # which is rare: once more, each in a savepoint of its own
        with self.database.write() as db:
            appending = Appending(self._known, self.database, db, owner)
            for turn in turns:
                error = _alone(db, partial(appending.append, [turn]))
                if isinstance(error, Exception):
                    turn.settle(AppendOutcome.UNWRITABLE, str(error))
            started = [
                _alone(db, partial(self._create, db, x.new, x.if_exists, owner)) for x in starts
            ]
            if lines is not None:
                _alone(db, partial(insert_lines, db, lines))
        return [self.database.explain(x) if isinstance(x, sqlite3.Error) else x for x in started]

    def _commit_all(
        self,
        db: Connection,
        appending: Appending,
        owner: str,
        turns: Sequence[Turn],
        starts: Sequence[Start],
    ) -> Sequence[Started]:
        try:
            if not appending.append(turns):
                raise _RefusedError
            started = []
            for start in starts:
                if start.if_exists == "replace":
                    appending.replaced()
                row, first = self._create(db, start.new, start.if_exists, owner)
                if first is not None:
                    appending.born(row.key)
                started.append((row, first))
            return started
        except _RefusedError:
            raise
        except Exception as error:
            if _concerns_all(error):
                raise
            raise _RefusedError from error

    def keep_lines(self, lines: NewLines) -> None:
        """Store log lines for which there was no transaction of turns."""
        with self.database.write() as db:
            insert_lines(db, lines)

    def abandon(self, runs: Sequence[int], owner: str, ends: Sequence[Outcome] = ()) -> None:
        """Release runs, even with unread messages: this process will not drive them.

        `ends` go to their inboxes, as in `refuse`.
        """
        with self.database.write() as db:
            keep_ends(db, ends, owner)
            free_ended(db, runs, owner)
            let_go(db, runs, owner)

    def free_ended(self, runs: Iterable[int], owner: str) -> None:
        """Drop our ownership of those of the runs that have ended."""
        with self.database.write() as db:
            free_ended(db, runs, owner)

    def refuse(
        self,
        problems: Mapping[int, tuple[Mapping[str, Any], int]],
        owner: str,
        *,
        keep: Collection[int] = (),
        ends: Sequence[Outcome] = (),
        is_free: Callable[[RunRow], bool],
    ) -> set[int]:
        """Record the problems of runs, and release those that are ours, except `keep`.

        Each problem comes with the length of the history that has it: if another process has
        appended to that since, the problem is not recorded. Our own history may be longer, after a
        commit of unknown outcome. `ends` are ends of attempts that could not be applied because of
        that: they go to the inboxes of their runs, and the next owner applies them.
        A run whose deadline has passed has no time left to be mended in, and is ended, if it
        `is_free`: nobody else who lives has claimed it meanwhile.
        Returns the runs whose problem is new.
        """
        news = set()
        with self.database.write() as db:
            keep_ends(db, ends, owner)
            for run, (problem, length) in problems.items():
                row = self._by_key(db, run)
                seen = row.owner == owner or (row.history_length == length and is_free(row))
                if (seen and self._is_out_of_time(db, row, problem)) or mark_problem(
                    db, run, problem, length, owner
                ):
                    news.add(run)
            free = [run for run in problems if run not in keep]
            free_ended(db, free, owner)
            let_go(db, free, owner)
        return news

    def _is_out_of_time(self, db: Connection, row: RunRow, problem: Mapping[str, Any]) -> bool:
        """Whether the run's deadline has passed: then it ends, and its error is the problem."""
        if row.status != "running" or row.deadline is None or row.deadline > self.clock.now():
            return False
        failure = parked_failure(problem["message"], problem.get("traceback"))
        told = encode(failure.to_json())
        self._end(db, row, partial(e.WorkflowTimedOut, at=row.deadline, payload=told))
        return True

    def save_heartbeats(self, beats: Sequence[tuple[int, int, str]]) -> None:
        """Save what attempts reported, as (run, seq, JSON): the last report of each activity."""
        at = to_micros(self.clock.now())
        with self.database.write() as db:
            db.executemany(
                "INSERT INTO heartbeats (run, seq, details, at) SELECT ?, ?, ?, ? "
                "WHERE EXISTS (SELECT 1 FROM runs WHERE key = ? AND +status = 'running') "
                "ON CONFLICT (run, seq) DO UPDATE SET details = excluded.details, at = excluded.at",
                [(run, seq, details, at, run) for run, seq, details in beats],
            )

    def read_inbox(self, runs: Sequence[int], *, locked: bool) -> tuple[list[Message], int]:
        """The messages of these runs in order, and the time.

        With `locked` they are read under the write lock. A message that is sent later then has a
        later stamp than the time returned, so timers that are due by that time may be applied.
        """
        if not locked:
            with self.database.reading() as db:
                return self._inbox(db, runs), self.clock.now()
        with self.database.write() as db:
            return self._inbox(db, runs), self.clock.now()


_DISK_TROUBLE = (
    *("SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_FULL", "SQLITE_IOERR"),
    *("SQLITE_NOMEM", "SQLITE_NOTADB", "SQLITE_READONLY"),
)


class _RefusedError(Exception):
    """A turn or a new run is refused; the rest of the transaction is not."""


def _alone(db: Connection, work: Callable[[], T]) -> T | Exception:
    """What `work` returns, in a savepoint of its own; or its error, with nothing written."""
    db.execute("SAVEPOINT one")
    try:
        result: T | Exception = work()
    except Exception as error:
        # Not only SQLite's: whatever the code has put into a row that cannot be written (half of a
        # surrogate pair, a moment beyond year 9999, no text at all) is its own problem.
        if _concerns_all(error):
            raise
        db.execute("ROLLBACK TO one")
        result = error
    db.execute("RELEASE one")
    return result


def _concerns_all(error: Exception) -> bool:
    """Whether an error is the disk's and not one row's: then nothing of the commit stands."""
    if isinstance(error, DisplacedError):
        return True
    if not isinstance(error, sqlite3.Error):
        return False
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(_DISK_TROUBLE)
