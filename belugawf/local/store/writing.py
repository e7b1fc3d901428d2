"""What is written of a run, within a transaction of the store's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from belugawf.local.store.histories import EVENT_COLUMNS, LENGTH, Connection
from belugawf.local.store.rows import RunRow
from belugawf.model import events as e
from belugawf.model.codec import encode
from belugawf.model.durations import MICROSECOND_NS, to_micros
from belugawf.model.history import STATUS_OF
from belugawf.model.outcomes import Outcome

# Of a row of `live`: its run is kept only because a thread still works for it.
HAS_ENDED = "(SELECT status FROM runs WHERE key = live.run) <> 'running'"


_NEW_RUN = """INSERT INTO runs (key, run_id, workflow_id, chain_id, workflow, input, labels,
    created_at, deadline, due_at, begun, named_keys) VALUES (?,?,?,?,?,?,?,?,?,?,?,1)"""
_LAST_KEY = "SELECT seq FROM sqlite_sequence WHERE name = 'runs'"


def last_key(db: Connection) -> int:
    """The highest key that a run has ever had."""
    found = db.execute(_LAST_KEY).fetchone()
    return 0 if found is None else int(found[0])


def insert_runs(db: Connection, rows: Sequence[RunRow]) -> None:
    """New runs, without their events."""
    db.executemany(
        _NEW_RUN,
        [
            (
                *(row.key, row.run_id, row.workflow_id, row.chain_id, row.workflow, row.input),
                *(row.labels, row.created_at // MICROSECOND_NS, to_micros(row.deadline)),
                *(to_micros(row.due_at), row.begun),
            )
            for row in rows
        ],
    )
    labels = [
        (name, value, row.key)
        for row in rows
        if row.labels != "{}"
        for name, value in json.loads(row.labels).items()
    ]
    if labels:
        db.executemany("INSERT INTO labels (name, value, run) VALUES (?,?,?)", labels)
    db.executemany(
        "INSERT INTO live (run, owner, owned_since) VALUES (?,?,?)",
        [(row.key, row.owner, to_micros(row.owned_since)) for row in rows],
    )


def last_time(db: Connection, run: int) -> int:
    """The time of a run's last event; whoever edited it, a run can be ended all the same."""
    row = db.execute(
        "SELECT time FROM events WHERE run = ? ORDER BY position DESC LIMIT 1", (run,)
    ).fetchone()
    return 0 if row is None else row[0] * MICROSECOND_NS


def insert_events(db: Connection, events: Iterable[tuple[int, e.Event]]) -> None:
    """Append to the histories of runs."""
    db.executemany(
        f"INSERT INTO events (run, {EVENT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",
        [(run, *e.ROW_WRITERS[type(event)](event)) for run, event in events],
    )


def project_waits(db: Connection, events: Iterable[tuple[int, e.Event]]) -> None:
    """Update the table of open waits."""
    began: dict[tuple[int, int], Sequence[Any]] = {}
    ended: list[tuple[int, int]] = []
    for run, event in events:
        if isinstance(event, e.WaitStarted):
            began[run, event.seq] = (
                run,
                event.seq,
                event.name,
                to_micros(event.time),
                to_micros(event.until),
                event.prompt,
                event.expected,
                event.schema,
            )
        elif isinstance(event, e.WaitEnded) and began.pop((run, event.seq), None) is None:
            ended.append((run, event.seq))
    if began:
        db.executemany(
            "INSERT INTO waits (run, seq, signal, since, until, prompt, expected, schema) "
            "VALUES (?,?,?,?,?,?,?,?)",
            began.values(),
        )
    if ended:
        db.executemany("DELETE FROM waits WHERE run = ? AND seq = ?", ended)


_REOPENED = (e.WorkflowFailed, e.WorkflowTimedOut, e.WorkflowCancelled)


def close_runs(db: Connection, closed: Sequence[tuple[int, e.Event, bool]]) -> None:
    """End runs, each with its last event. If the third is true its owner keeps it."""
    db.executemany(
        "UPDATE runs SET status = ?, result = ?, error = ?, closed_at = ?, due_at = NULL, "
        "begun = 1 WHERE key = ?",
        [_closed(run, closing) for run, closing, _ in closed],
    )
    keys = [(run,) for run, _, _ in closed]
    for table in ("waits", "inbox"):
        db.executemany(f"DELETE FROM {table} WHERE run = ?", keys)
    # A run that is taken up again goes on with what its activities have reported.
    over = [(run,) for run, closing, _ in closed if not isinstance(closing, _REOPENED)]
    db.executemany("DELETE FROM heartbeats WHERE run = ?", over)
    kept = [(run,) for run, _, keep in closed if keep]
    db.executemany("UPDATE live SET problem = NULL, progress = NULL WHERE run = ?", kept)
    freed = [(run,) for run, _, keep in closed if not keep]
    db.executemany("DELETE FROM live WHERE run = ?", freed)


def _closed(run: int, closing: e.Event) -> tuple[Any, ...]:
    result = closing.payload if isinstance(closing, e.WorkflowCompleted) else None
    failures = (e.WorkflowFailed, e.WorkflowTimedOut)
    error = closing.payload if isinstance(closing, failures) else None
    if isinstance(closing, e.WorkflowTerminated) and closing.reason:
        error = encode({"type": "Terminated", "message": closing.reason})
    return STATUS_OF[type(closing)], result, error, to_micros(closing.time), run


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
                "at": to_micros(end.at),
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
        f"AND (owner = ? OR {LENGTH.format('live.run')} = ?)",
        (text, run, owner, length),
    )
    return old is None or marked.rowcount > 0


def own(db: Connection, claimed: Sequence[tuple[int, str, int | None]]) -> None:
    """Runs are owned, each by an owner and since a moment in microseconds."""
    db.executemany(
        "INSERT INTO live (run, owner, owned_since) VALUES (?,?,?) ON CONFLICT (run) "
        "DO UPDATE SET owner = excluded.owner, owned_since = excluded.owned_since",
        claimed,
    )


def let_go(db: Connection, runs: Iterable[int], owner: str | None = None) -> None:
    """Release runs from that owner, by default from any."""
    db.executemany(
        "UPDATE live SET owner = NULL, owned_since = NULL "
        "WHERE run = ?1 AND (?2 IS NULL OR owner = ?2)",
        [(run, owner) for run in runs],
    )


def free_ended(db: Connection, runs: Iterable[int], owner: str) -> None:
    """Drop the owner's rows for those of the runs that have ended."""
    db.executemany(
        f"DELETE FROM live WHERE run = ? AND owner = ? AND {HAS_ENDED}",
        [(run, owner) for run in runs],
    )
