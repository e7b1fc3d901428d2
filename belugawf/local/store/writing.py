"""What is written of a run, within a transaction of the store's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from belugawf.executor.info import NewRun
from belugawf.local.store.damage import or_else
from belugawf.local.store.queries import EVENT_COLUMNS, Connection
from belugawf.local.store.rows import RunRow
from belugawf.model import events as e
from belugawf.model.codec import encode
from belugawf.model.durations import format_instant, parse_instant
from belugawf.model.history import STATUS_OF
from belugawf.model.outcomes import Outcome

# Of a row of `live`: its run is kept only because a thread still works for it.
HAS_ENDED = "(SELECT status FROM runs WHERE key = live.run) <> 'running'"


_NEW_RUN = """INSERT INTO runs (run_id, workflow_id, chain_id, workflow, input, labels, created_at,
        updated_at, deadline, due_at, history_length)
    VALUES (:run_id, :workflow_id, :chain_id, :workflow, :input, :labels, :created_at,
        :updated_at, :deadline, :due_at, :history_length)"""


def insert_run(db: Connection, new: NewRun, now: int) -> tuple[RunRow, e.WorkflowStarted]:
    """A new run, with its first event."""
    deadline = None if new.timeout_ns is None else now + new.timeout_ns
    text = format_instant(now)
    stored: dict[str, Any] = {
        "run_id": new.run_id,
        "workflow_id": new.workflow_id,
        "chain_id": new.run_id,
        "workflow": new.workflow,
        "input": new.input,
        "labels": json.dumps(dict(new.labels), ensure_ascii=False),
        "created_at": text,
        "updated_at": text,
        "deadline": None if deadline is None else format_instant(deadline),
        "due_at": text,
        "history_length": 1,
    }
    key = db.execute(_NEW_RUN, stored).lastrowid
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
    insert_events(db, key, [started])
    if new.labels:
        db.executemany(
            "INSERT INTO labels (name, value, run) VALUES (?,?,?)",
            [(name, value, key) for name, value in new.labels.items()],
        )
    owned_since = text if new.owner else None
    db.execute(
        "INSERT INTO live (run, owner, owned_since) VALUES (?,?,?)", (key, new.owner, owned_since)
    )
    row = RunRow(
        **stored,
        key=key,
        parent_run_id=None,
        status="running",
        result=None,
        error=None,
        closed_at=None,
        begun=0,
        owner=new.owner,
        owned_since=owned_since,
        problem=None,
        progress=None,
    )
    return row, started


def last_time(db: Connection, run: int) -> int:
    """The time of a run's last event; whoever edited it, a run can be ended all the same."""
    row = db.execute(
        "SELECT time FROM events WHERE run = ? ORDER BY position DESC LIMIT 1", (run,)
    ).fetchone()
    return or_else(0, lambda: parse_instant(row[0]))


def insert_events(db: Connection, run: int, events: Sequence[e.Event]) -> None:
    """Append to a history."""
    db.executemany(
        f"INSERT INTO events (run, {EVENT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",
        [(run, *e.to_row(event)) for event in events],
    )


def project_waits(db: Connection, run: int, events: Sequence[e.Event]) -> None:
    """Update the table of open waits."""
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


def close_run(db: Connection, run: int, closing: e.Event, length: int, *, keep: bool) -> None:
    """End a run with its last event, number `length`. `keep`: its owner keeps it."""
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


def keep_ends(db: Connection, ends: Sequence[Outcome], owner: str) -> None:
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


def mark_problem(
    db: Connection, run: int, problem: Mapping[str, Any], length: int, owner: str
) -> bool:
    """See `Store.refuse`. Returns whether the problem is new."""
    text = json.dumps(problem, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    old = db.execute("SELECT problem FROM live WHERE run = ?", (run,)).fetchone()
    if old is not None and old[0] == text:
        return False
    marked = db.execute(
        f"UPDATE live SET problem = ? WHERE run = ? AND NOT {HAS_ENDED} "
        "AND (owner = ? OR (SELECT history_length FROM runs WHERE key = live.run) = ?)",
        (text, run, owner, length),
    )
    return old is None or marked.rowcount > 0


def let_go(db: Connection, run: int, owner: str | None = None) -> None:
    """Release a run from that owner, by default from any."""
    db.execute(
        "UPDATE live SET owner = NULL, owned_since = NULL "
        "WHERE run = ? AND (? IS NULL OR owner = ?)",
        (run, owner, owner),
    )


def free_ended(db: Connection, runs: Iterable[int], owner: str) -> None:
    """Drop the owner's rows for those of the runs that have ended."""
    db.executemany(
        f"DELETE FROM live WHERE run = ? AND owner = ? AND {HAS_ENDED}",
        [(run, owner) for run in runs],
    )
