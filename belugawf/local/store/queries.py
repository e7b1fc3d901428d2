"""Reading runs from the database: `Store` without its writing.

A query for many runs goes through an index, newest or oldest first, and ends at its limit, so it
costs the same with ten runs and with a million. tests/local/test_query_plans.py checks the plan of
each statement. Only counts read a whole index, and nothing else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice, zip_longest
from typing import Any, Unpack

from belugawf.executor import RunId, TypedRun
from belugawf.executor.info import LogFilters, LogLine
from belugawf.local.file.database import Database
from belugawf.local.store.damage import or_else
from belugawf.local.store.histories import (
    LENGTH,
    Connection,
    events_of,
    latest_events,
    open_work,
    sound_history,
)
from belugawf.local.store.loglines import lines_of
from belugawf.local.store.probe import AWAITED_SIGNALS
from belugawf.local.store.rows import Message, OwnerRow, RunRow, WaitRow
from belugawf.local.store.selecting import UNANSWERED, Filters, count_states, due_since, select
from belugawf.model import events as e
from belugawf.model.durations import from_micros, to_micros
from belugawf.model.errors import RunNotFoundError
from belugawf.model.history import OpenWork
from belugawf.model.levels import level_name

RUN_COLUMNS = (
    "r.key, r.run_id, r.workflow_id, r.chain_id, r.parent_run_id, r.workflow, r.status, r.begun, "
    "r.labels, r.input, r.result, r.error, l.owner, l.problem, l.progress, "
    f"{LENGTH.format('r.key')}, r.created_at, "
    "(SELECT time FROM events WHERE run = r.key ORDER BY position DESC LIMIT 1), "
    "r.closed_at, r.deadline, r.due_at, l.owned_since, r.named_keys"
)
_RUNS = f"SELECT {RUN_COLUMNS} FROM runs r LEFT JOIN live l ON l.run = r.key"

# Which of the runs that can move are looked for; each ends at its limit without sorting.
_WANTED = """r.status = 'running'
    AND r.key NOT IN (SELECT value FROM json_each(:skipped))
    AND (:workflow IS NULL OR r.workflow = :workflow)
    AND (l.owner IS NULL OR l.owner NOT IN (SELECT value FROM json_each(:owners)))"""
_DUE = f"""SELECT {RUN_COLUMNS} FROM runs r INDEXED BY runs_due LEFT JOIN live l ON l.run = r.key
    WHERE r.due_at <= :now AND {_WANTED} ORDER BY r.due_at, r.key LIMIT :limit"""
_WITH_MESSAGE = f"""SELECT {RUN_COLUMNS}
    FROM inbox i CROSS JOIN runs r ON r.key = i.run LEFT JOIN live l ON l.run = r.key
    WHERE NOT EXISTS (SELECT 1 FROM inbox e WHERE e.run = i.run AND e.id < i.id) AND {_WANTED}
    ORDER BY i.id LIMIT :limit"""
_MOVABLE_AMONG = f"""SELECT {RUN_COLUMNS}
    FROM json_each(:chosen) c CROSS JOIN runs r ON r.key = c.value LEFT JOIN live l ON l.run = r.key
    WHERE (r.due_at <= :now OR EXISTS (SELECT 1 FROM inbox i WHERE i.run = r.key)) AND {_WANTED}
    ORDER BY r.due_at, r.key LIMIT :limit"""


class Queries:
    """See the module's docstring. Methods raise what `Database` raises."""

    database: Database

    # -- what can move ---------------------------------------------------------------------------

    def candidates(
        self,
        *,
        now: int,
        limit: int,
        excluding: Iterable[int] = (),
        among: Iterable[int] | None = None,
        workflow: str | None = None,
        owners: Iterable[str] = (),
    ) -> list[RunRow]:
        """Open runs that can move: due by `now`, or with a message; oldest first.

        `among`: only these runs, `workflow`: only runs of it; `None`: all. Runs of `owners` are
        left out, so that what they hold does not use up the limit.
        """
        skipped = set(excluding)
        values = {
            "now": to_micros(now),
            "limit": limit,
            "skipped": json.dumps(list(skipped)),
            "workflow": workflow,
            "owners": json.dumps(list(owners)),
        }
        with self.database.reading() as db:
            if among is not None:
                values["chosen"] = json.dumps([run for run in among if run not in skipped])
                return [RunRow.of(row) for row in db.execute(_MOVABLE_AMONG, values)]
            rows = [db.execute(query, values).fetchall() for query in (_WITH_MESSAGE, _DUE)]
        # In turn, so that neither many messages nor many timers keep the others waiting.
        both = {row[0]: row for pair in zip_longest(*rows) for row in pair if row is not None}
        return [RunRow.of(row) for row in islice(both.values(), limit)]

    def next_due(self, after: int) -> int | None:
        """The next moment after `after` at which any open run is due."""
        with self.database.reading() as db:
            row = db.execute(
                "SELECT min(due_at) FROM runs INDEXED BY runs_due "
                "WHERE status = 'running' AND due_at > ?",
                (to_micros(after),),
            ).fetchone()
            return from_micros(row[0])

    def mail(self, runs: Iterable[int]) -> set[int]:
        """Those of the runs that have unread messages."""
        if not self._all("SELECT 1 FROM inbox LIMIT 1"):
            return set()
        rows = self._all(
            "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM inbox WHERE run = value)",
            json.dumps(list(runs)),
        )
        return {row[0] for row in rows}

    def ended(self, runs: Iterable[int]) -> list[int]:
        """Those of the runs that are not open any more; what was pruned is not."""
        asked = list(runs)
        rows = self._all(
            "SELECT key FROM runs WHERE +status = 'running' "
            "AND key IN (SELECT value FROM json_each(?))",
            json.dumps(asked),
        )
        is_open = {row[0] for row in rows}
        return [run for run in asked if run not in is_open]

    def lengths(self, runs: Iterable[int]) -> list[tuple[int, int, int | None]]:
        """The keys of those of the runs that are stored, how long their histories are now, and
        their deadlines.
        """
        asked = json.dumps(list(runs))
        which = "WHERE key IN (SELECT value FROM json_each(?))"
        rows = self._all(f"SELECT key, {LENGTH.format('key')}, deadline FROM runs {which}", asked)
        return [(key, length, or_else(None, from_micros, end)) for key, length, end in rows]

    # -- runs and waits --------------------------------------------------------------------------

    def by_key(self, run: int) -> RunRow:
        """The run of that key. Raises `RunNotFoundError` if it was pruned meanwhile."""
        with self.database.reading() as db:
            return self._by_key(db, run)

    def by_keys(self, runs: Iterable[int]) -> list[RunRow]:
        """The runs of these keys, in order of their keys, without those that were pruned."""
        tail = "WHERE r.key IN (SELECT value FROM json_each(?)) ORDER BY r.key"
        with self.database.reading() as db:
            return self._rows(db, tail, (json.dumps(list(runs)),))

    def find(self, text: str) -> list[RunRow]:
        """The runs that a text may mean, see `DurableExecutor`: one, several candidates, or none.

        Of several runs of one workflow id the latest counts.
        """
        with self.database.reading() as db:
            if text == "@latest":
                return self._rows(db, "ORDER BY r.key DESC LIMIT 1")
            by_run = self._rows(db, "WHERE r.run_id = ?", (text,))
            if isinstance(text, RunId):
                return by_run
            latest = self._latest(db, text)
            by_id = [] if latest is None else [latest]
            if not isinstance(text, TypedRun):
                return by_id or by_run
            exact = {row.key: row for row in [*by_id, *by_run]}
            if exact or len(text) < 4:
                return list(exact.values())
            end = text + "\U0010ffff"
            by_id = self._rows(
                db,
                "WHERE r.key IN (SELECT max(key) FROM runs WHERE workflow_id >= ? "
                "AND workflow_id < ? GROUP BY workflow_id LIMIT 20)",
                (text, end),
            )
            by_run = self._rows(db, "WHERE r.run_id >= ? AND r.run_id < ? LIMIT 20", (text, end))
            return list({row.key: row for row in [*by_id, *by_run]}.values())

    def recent_ids(self, limit: int = 1000) -> list[str]:
        """The workflow ids of the newest runs."""
        rows = self._all("SELECT workflow_id FROM runs ORDER BY key DESC LIMIT ?", limit)
        return list(dict.fromkeys(row[0] for row in rows))

    def runs(self, *, limit: int | None = None, **filters: Unpack[Filters]) -> list[RunRow]:
        """Runs, newest first."""
        with self.database.reading() as db:
            found = select(db, **filters)
            rows = db.execute(
                f"SELECT {RUN_COLUMNS} FROM {found.source} LEFT JOIN live l ON l.run = r.key "
                f"WHERE {found.where} ORDER BY {found.key} DESC LIMIT ?",
                (*found.values, -1 if limit is None else limit),
            )
            return [RunRow.of(row) for row in rows]

    def run_ids(self, filters: Filters) -> list[RunId]:
        """The run ids of all of them, newest first."""
        with self.database.reading() as db:
            found = select(db, **filters)
            rows = db.execute(
                f"SELECT r.run_id FROM {found.source} WHERE {found.where} "
                f"ORDER BY {found.key} DESC",
                found.values,
            )
            return [RunId(row[0]) for row in rows]

    def count_runs(self, *, limit: int, **filters: Unpack[Filters]) -> int:
        """How many runs `runs` would find; `limit` if there are more."""
        with self.database.reading() as db:
            found = select(db, **filters)
            (count,) = db.execute(
                f"SELECT count(*) FROM (SELECT 1 FROM {found.source} WHERE {found.where} LIMIT ?)",
                (*found.values, limit),
            ).fetchone()
            return int(count)

    def counts(self) -> dict[str, int]:
        """How many runs there are of each status."""
        return dict(self._all("SELECT status, count(*) FROM runs GROUP BY status"))

    def due_since(self, now: int, living: Sequence[str]) -> int | None:
        """See `selecting.due_since`."""
        with self.database.reading() as db:
            return due_since(db, now, living)

    def states(self, now: int, living: Sequence[str]) -> dict[str, int]:
        """See `count_states`."""
        with self.database.reading() as db:
            return count_states(db, now, living)

    def waits(
        self,
        signal: str | None = None,
        run: int | None = None,
        since: int | None = None,
        limit: int | None = None,
    ) -> list[WaitRow]:
        """Waits for signals that have no answer yet, longest waiting first; `limit=None`: all."""
        clauses: list[str] = [UNANSWERED]
        values: list[Any] = []
        # Of both, the run: many runs wait for the same signal.
        for clause, value in (
            ("w.signal = ?" if run is None else "+w.signal = ?", signal),
            ("w.run = ?", run),
            ("w.since >= ?", to_micros(since)),
        ):
            if value is not None:
                clauses.append(clause)
                values.append(value)
        with self.database.reading() as db:
            return self._waits(db, " AND ".join(clauses), values, limit)

    def count_waits(self) -> int:
        """How many waits for signals have no answer yet."""
        # Only runs with messages can have an answer.
        answered = (
            "SELECT count(*) FROM waits w WHERE w.run IN (SELECT run FROM inbox) "
            f"AND NOT {UNANSWERED}"
        )
        return int(self._all(f"SELECT (SELECT count(*) FROM waits) - ({answered})")[0][0])

    def unread_ends(self, run: int) -> set[int]:
        """The numbers of the activities whose ends the run has not taken in: it is parked."""
        asked = "SELECT name FROM inbox WHERE run = ? AND kind = 'attempt'"
        return {int(name) for (name,) in self._all(asked, run)}

    def unread_signals(self, run: int) -> Counter[str]:
        """How many signals of each name the run has not read yet."""
        rows = self._all("SELECT name FROM inbox WHERE run = ? AND kind = 'signal'", run)
        return Counter(row[0] for row in rows)

    def runs_awaiting(self, signal: str, limit: int) -> list[RunRow]:
        """Runs that wait for that signal and have no answer yet, the longest waiting ones.

        In order of their keys.
        """
        with self.database.reading() as db:
            return self._rows(
                db,
                "WHERE r.key IN (SELECT DISTINCT run FROM waits w INDEXED BY waits_by_signal "
                f"WHERE signal = ? AND {UNANSWERED} LIMIT ?) ORDER BY r.key",
                (signal, limit),
            )

    def awaited_signals(self, limit: int = 50) -> list[str]:
        """The names of the signals that open runs wait for, in order."""
        return [row[0] for row in self._all(AWAITED_SIGNALS, limit)]

    def history(self, run: int, after: int = 0, limit: int | None = None) -> list[e.Event]:
        """See `events_of`. Raises `DamagedError`."""
        with self.database.reading() as db:
            return events_of(db, run, after, limit)

    def counting_history(self, run: int, after: int, limit: int) -> list[e.Event]:
        """See `events_of`: what counts of the run's history. Raises `DamagedError`."""
        with self.database.reading() as db:
            return events_of(db, run, after, limit, counting=True)

    def sound_history(self, run: int) -> list[e.Event]:
        """The run's whole history, each event as we have written it, else `DamagedError`."""
        with self.database.reading() as db:
            return sound_history(db, run)

    def latest_events(self, run: int, count: int) -> list[e.Event]:
        """See `histories.latest_events`. Raises `DamagedError`."""
        with self.database.reading() as db:
            return latest_events(db, run, count)

    def open_work(
        self, run: int, before: tuple[OpenWork, int] | None = None
    ) -> tuple[OpenWork, int]:
        """See `histories.open_work`. Raises `DamagedError`."""
        with self.database.reading() as db:
            return open_work(db, run, before)

    def logs(self, run: RunRow, **filters: Unpack[LogFilters]) -> list[LogLine]:
        """What the run has logged, oldest first."""
        with self.database.reading() as db:
            rows = lines_of(db, run.key, **filters)
        return [
            LogLine(
                workflow_id=run.workflow_id,
                run_id=RunId(run.run_id),
                position=id,
                time=or_else(0, from_micros, time) or 0,
                level=level_name(level),
                logger=logger,
                activity=activity,
                attempt=attempt,
                seq=seq,
                message=message,
            )
            for id, time, level, logger, seq, activity, attempt, message in rows
        ]

    def heartbeat(self, run: int, seq: int) -> Any:
        """What the last attempt of an activity reported; `None` if it did not."""
        rows = self._all("SELECT details FROM heartbeats WHERE run = ? AND seq = ?", run, seq)
        return or_else(None, json.loads, rows[0][0]) if rows else None

    def owners(self) -> list[OwnerRow]:
        """Everybody who registered, dead or alive."""
        return [OwnerRow.of(row) for row in self._all("SELECT * FROM owners")]

    def owner(self, owner_id: str | None) -> OwnerRow | None:
        """One of them; `None` if it is not known."""
        with self.database.reading() as db:
            return self._owner(db, owner_id)

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.database.reading() as db:
            return db.execute(sql, values).fetchall()

    # -- within a transaction --------------------------------------------------------------------

    def _rows(self, db: Connection, tail: str, values: Sequence[Any] = ()) -> list[RunRow]:
        return [RunRow.of(row) for row in db.execute(f"{_RUNS} {tail}", tuple(values))]

    def _by_key(self, db: Connection, run: int) -> RunRow:
        rows = self._rows(db, "WHERE r.key = ?", (run,))
        if not rows:
            raise RunNotFoundError(
                "the run was pruned meanwhile", hint="see what there is: belugawf list"
            )
        return rows[0]

    def by_run_id(self, db: Connection, run: RunId) -> RunRow:
        """The run of that run id, within a transaction. Raises `RunNotFoundError`."""
        rows = self._rows(db, "WHERE r.run_id = ?", (run,))
        if not rows:
            raise RunNotFoundError(
                f"there is no run {run!r}", hint="see what there is: belugawf list"
            )
        return rows[0]

    def _latest(self, db: Connection, workflow_id: str) -> RunRow | None:
        rows = self._rows(db, "WHERE r.workflow_id = ? ORDER BY r.key DESC LIMIT 1", (workflow_id,))
        return rows[0] if rows else None

    def _waits(
        self, db: Connection, where: str, values: Sequence[Any], limit: int | None = None
    ) -> list[WaitRow]:
        rows = db.execute(
            "SELECT w.run, r.workflow_id, r.run_id, r.workflow, w.signal, w.since, w.until, "
            "w.prompt, w.expected, w.schema FROM waits w CROSS JOIN runs r ON r.key = w.run "
            f"WHERE {where} ORDER BY w.since, w.run, w.seq LIMIT ?",
            (*values, -1 if limit is None else limit),
        )
        return [WaitRow.of(row) for row in rows]

    def _owner(self, db: Connection, owner_id: str | None) -> OwnerRow | None:
        if owner_id is None:
            return None
        row = db.execute("SELECT * FROM owners WHERE id = ?", (owner_id,)).fetchone()
        return None if row is None else OwnerRow.of(row)

    def _inbox(self, db: Connection, runs: Sequence[int]) -> list[Message]:
        rows = db.execute(
            "SELECT id, run, kind, name, payload, sender, message_key, sent_at FROM inbox "
            "WHERE run IN (SELECT value FROM json_each(?)) ORDER BY id",
            (json.dumps(list(runs)),),
        )
        return [Message.of(row) for row in rows]
