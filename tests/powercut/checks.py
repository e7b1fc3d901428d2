"""What must hold of a database that a power cut has left, however it was cut.

A state is rebuilt in a folder and opened as belugawf opens it. What is then in its tables is a
*snapshot*; two with the same digest hold the same rows.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from belugawf.local.file.database import Database
from belugawf.model import events as e
from belugawf.model.codec import decode, encode
from belugawf.model.durations import to_micros
from belugawf.model.history import STATUS_OF, OpenWork, activity_id_of, effective
from tests.histories import status
from tests.powercut.record import Mark, State
from tests.powercut.workload import DATABASE

Row = Mapping[str, Any]


class Corrupt(Exception):
    """A database that does not open, or whose contents contradict each other."""


@dataclass(frozen=True)
class Snapshot:
    """The rows of every table, in order of their keys."""

    tables: Mapping[str, list[Row]]
    digest: str

    @cached_property
    def runs(self) -> dict[str, Row]:
        """Rows of `runs` by run id."""
        return {row["run_id"]: row for row in self.tables["runs"]}

    @cached_property
    def histories(self) -> dict[str, list[e.Event]]:
        """Events by run id."""
        ids = {row["key"]: run_id for run_id, row in self.runs.items()}
        found: dict[str, list[e.Event]] = {run_id: [] for run_id in self.runs}
        for row in self.tables["events"]:
            event = e.from_row(tuple(row.values())[1:])
            found[ids[row["run"]]].append(event)
        return found

    def latest(self, workflow_id: str) -> Row | None:
        """The row of the latest run with this id."""
        rows = [row for row in self.tables["runs"] if row["workflow_id"] == workflow_id]
        return rows[-1] if rows else None


def build(state: State, folder: Path) -> Path:
    """Put a state into a new folder; returns where its database is, or would be."""
    folder.mkdir()
    for name, content in state.items():
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
    return folder / DATABASE


def look(state: State, folder: Path) -> Snapshot:
    """Open a state in `folder`, which is made anew, and read it.

    Raises Corrupt.
    """
    shutil.rmtree(folder, ignore_errors=True)
    path = build(state, folder)
    try:
        database = Database(path)
        try:
            with database.reading() as connection:
                _check_integrity(connection)
                return read_snapshot(connection)
        finally:
            database.close()
    except Corrupt:
        raise
    except Exception as error:
        raise Corrupt(f"it does not open: {type(error).__name__}: {error}") from error


def _check_integrity(connection: sqlite3.Connection) -> None:
    for pragma in ("integrity_check", "foreign_key_check"):
        found = connection.execute(f"PRAGMA {pragma}").fetchall()
        if found not in ([], [("ok",)]):
            raise Corrupt(f"{pragma}: {found[:3]}")


def read_snapshot(connection: sqlite3.Connection) -> Snapshot:
    """What is in the tables."""
    tables: dict[str, list[Row]] = {}
    # When the schema came to be says nothing about runs, and differs where it had to come again.
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> '_sqlite_migrations'"
    )
    for (name,) in names.fetchall():
        cursor = connection.execute(f"SELECT * FROM {name}")
        columns = [column[0] for column in cursor.description]
        tables[name] = [dict(zip(columns, row, strict=True)) for row in cursor]
    digest = hashlib.blake2b(repr(sorted(tables.items())).encode()).hexdigest()
    return Snapshot(tables, digest)


# -- consistent in itself ------------------------------------------------------------------------


def check_consistent(snapshot: Snapshot) -> None:
    """Histories are legal, and everything that is derived from them agrees. Raises Corrupt."""
    try:
        _check_runs(snapshot)
    except Corrupt:
        raise
    except Exception as error:
        raise Corrupt(f"it makes no sense: {type(error).__name__}: {error}") from error


def _check_runs(snapshot: Snapshot) -> None:
    for run_id, row in snapshot.runs.items():
        history = snapshot.histories[run_id]
        work = _check_history(row, history)
        _check_projection(row, history)
        waits = {wait["seq"] for wait in snapshot.tables["waits"] if wait["run"] == row["key"]}
        _agree(row, "waits", waits, set(work.waits))
        if work.closed:
            # What can be taken up again keeps what its activities have reported.
            final = row["status"] in ("completed", "terminated")
            for table in ("inbox", "live", *(["heartbeats"] if final else [])):
                left = [found for found in snapshot.tables[table] if found["run"] == row["key"]]
                if table == "live":
                    # Its owner may have a thread that still works for it, or had when it died.
                    left = [found for found in left if not found["owner"] or found["problem"]]
                _agree(row, table, left, [])


# What an event ends, and where OpenWork keeps it.
_ENDS: dict[type[e.Event], str] = {
    e.ActivityCompleted: "activities",
    e.ActivityFailed: "activities",
    e.ActivityTimedOut: "activities",
    e.AttemptStarted: "activities",
    e.AttemptFailed: "activities",
    e.AttemptInterrupted: "activities",
    e.TimerFired: "timers",
    e.TimerCancelled: "timers",
    e.WaitEnded: "waits",
}


def _check_history(row: Row, history: list[e.Event]) -> OpenWork:
    positions = [event.position for event in history]
    _agree(row, "positions", positions, list(range(1, len(history) + 1)))
    _agree(row, "the first event", [type(event) for event in history[:1]], [e.WorkflowStarted])
    times = [event.time for event in history]
    _agree(row, "times", times, sorted(times))
    work = OpenWork()
    for index, event in enumerate(history):
        if isinstance(event, e.RunReopened):
            work = OpenWork.of(effective(history[: index + 1]))
            continue
        if work.closed:
            raise Corrupt(f"{row['workflow_id']}: {type(event).__name__} after its end")
        place = _ENDS.get(type(event))
        if place is not None and getattr(event, "seq", None) not in getattr(work, place):
            raise Corrupt(f"{row['workflow_id']}: {event!r} ends nothing that is open")
        work.fold(event)
    return work


def _check_projection(row: Row, history: list[e.Event]) -> None:
    started, last = history[0], history[-1]
    assert isinstance(started, e.WorkflowStarted)
    closes = type(last) in STATUS_OF
    result = last.payload if isinstance(last, e.WorkflowCompleted) else None
    told = isinstance(last, e.WorkflowFailed | e.WorkflowTimedOut)
    error = last.payload if told else None
    if isinstance(last, e.WorkflowTerminated) and last.reason:
        error = encode({"type": "Terminated", "message": last.reason})
    reopened = [event for event in history if isinstance(event, e.RunReopened)]
    deadline = reopened[-1].deadline if reopened else started.deadline
    expected = {
        "run_id": started.run_id,
        "workflow_id": started.workflow_id,
        "workflow": started.name,
        "input": started.payload,
        "status": status(history),
        "result": result,
        "error": error,
        "created_at": to_micros(started.time),
        "closed_at": to_micros(last.time) if closes else None,
        "deadline": to_micros(deadline),
    }
    _agree(row, "runs", {name: row[name] for name in expected}, expected)


def _agree(row: Row, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Corrupt(f"{row['workflow_id']}, {what}: {found!r}, and not {expected!r}")


# -- what was acknowledged -----------------------------------------------------------------------


def holds(mark: Mark, snapshot: Snapshot) -> bool:
    """Whether the database still has what the mark says was acknowledged."""
    facts = mark.facts
    if mark.kind in ("settling", "settled"):
        return True
    if "run_id" in facts:
        row = snapshot.runs.get(facts["run_id"])
    else:
        row = snapshot.latest(facts.get("workflow_id", ""))
    if row is None:
        return False
    history = snapshot.histories[row["run_id"]]
    match mark.kind:
        case "started":
            return True
        case "signalled":
            return (facts["name"], facts["payload"]) in _signals(row, history, snapshot)
        case "cancelled":
            unread = [m["kind"] for m in snapshot.tables["inbox"] if m["run"] == row["key"]]
            return "cancel" in unread or any(isinstance(x, e.CancelRequested) for x in history)
        case "terminated":
            return bool(row["status"] == "terminated")
        case "completed":
            return row["result"] is not None and decode(row["result"]) == facts["result"]
        case "begun":
            return _may_run(facts["activity_id"], facts["attempt"], history)
        case "told":
            ends = [event for event in history if isinstance(event, e.ActivityCompleted)]
            return len(ends) >= int(facts["completions"])
        case "seen":
            return len(history) >= int(facts["events"])
    raise ValueError(mark.kind)


def _signals(row: Row, history: list[e.Event], snapshot: Snapshot) -> list[tuple[str, Any]]:
    read = [(x.name, x.payload) for x in history if isinstance(x, e.SignalReceived)]
    unread = [
        (m["name"], m["payload"])
        for m in snapshot.tables["inbox"]
        if m["run"] == row["key"] and m["kind"] == "signal"
    ]
    return [(name, json.loads(payload or "null")) for name, payload in (*read, *unread)]


def _may_run(activity_id: str, attempt: int, history: list[e.Event]) -> bool:
    """Whether the history knows of the attempt: an effect comes after its commit."""
    if attempt == 1:
        scheduled = [x for x in history if isinstance(x, e.ActivityScheduled)]
        return any(activity_id_of(event) == activity_id for event in scheduled)
    started = [x for x in history if isinstance(x, e.AttemptStarted)]
    return any((str(x.seq), x.attempt) == (activity_id, attempt) for x in started)


def recorded_activities(snapshot: Snapshot) -> set[tuple[str, str]]:
    """Run id and activity id of every activity whose end is in a history."""
    return {
        (run_id, str(event.seq))
        for run_id, history in snapshot.histories.items()
        for event in history
        if isinstance(event, e.ActivityCompleted)
    }
