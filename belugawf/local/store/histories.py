"""Reading histories, within a transaction. Events that make no sense raise `DamagedError`.

What a run has open is stored now and then, by who drives it, with its place in the history: whoever
looks at the run reads on from there. So no look reads a long history.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

from belugawf.local.store.damage import reading
from belugawf.model import events as e
from belugawf.model.history import OpenWork
from belugawf.model.soundness import UNREADABLE, check_history

Connection: TypeAlias = sqlite3.Connection

EVENT_COLUMNS = "position, type, time, at, started_at, seq, name, data, payload"
# How many events a run has, whose key is in that column.
LENGTH = "coalesce((SELECT max(position) FROM events WHERE run = {}), 0)"
# What a run does is told without payloads, which may be large, but for the errors of activities.
_WITHOUT_PAYLOADS = EVENT_COLUMNS.replace(
    "payload",
    "CASE WHEN type IN ('AttemptFailed', 'ActivityFailed', 'ActivityTimedOut') THEN payload "
    "WHEN payload IS NOT NULL THEN '' END",
)
# What is read at one time: events, and bytes of their payloads.
_PIECE, _PIECE_BYTES = 1_000, 1_000_000


def events_of(
    db: Connection, run: int, after: int = 0, limit: int | None = None, *, counting: bool = False
) -> list[e.Event]:
    """The run's events after a position: all, or with `limit` the first few.

    Those are so many at most, and not more than about a megabyte. `counting`: without those that
    do not count, because the run was taken up again before them.
    """
    with reading(_name_of(db, run)):
        skipped = skipped_of(db, run) if counting else ()
        return _events_of(db, run, after, limit, EVENT_COLUMNS, skipped)


def skipped_of(db: Connection, run: int) -> Sequence[tuple[int, int]]:
    """What does not count of the run's history: what stands between two positions, each."""
    (text,) = db.execute("SELECT skipped FROM runs WHERE key = ?", (run,)).fetchone() or (None,)
    return [(after, before) for after, before in json.loads(text)] if text else ()


def _events_of(
    db: Connection,
    run: int,
    after: int,
    limit: int | None,
    columns: str,
    skipped: Sequence[tuple[int, int]],
) -> list[e.Event]:
    counts = "".join(f" AND NOT (position > {a:d} AND position < {b:d})" for a, b in skipped)
    rows = db.execute(
        f"SELECT {columns} FROM events WHERE run = ? AND position > ?{counts} "
        "ORDER BY position LIMIT ?",
        (run, after, -1 if limit is None else limit),
    )
    next_after = {first + 1: last for first, last in skipped}
    history: list[e.Event] = []
    size = 0
    position = after
    for row in rows:
        event = e.from_row(row)
        position = next_after.get(position + 1, position + 1)
        if event.position != position:
            raise ValueError(f"event {position} is missing")
        history.append(event)
        size += len(row[-1] or "")
        if limit is not None and size > _PIECE_BYTES:
            break
    rows.close()
    return history


def sound_history(db: Connection, run: int) -> list[e.Event]:
    """The run's whole history, if each event is as we have written it."""
    with reading(_name_of(db, run)):
        history = _events_of(db, run, 0, None, EVENT_COLUMNS, ())
        check_history(history)
        return history


def open_work(
    db: Connection, run: int, before: tuple[OpenWork, int] | None = None
) -> tuple[OpenWork, int]:
    """What the run's history leaves open now, and up to which position.

    `before` is what this has returned earlier; it is taken over.
    """
    with reading(_name_of(db, run)):
        skipped = skipped_of(db, run)
        if before is not None and any(first < before[1] < last for first, last in skipped):
            before = None  # it was taken up again since
        work, position = before or _open_before(db, run)
        while events := _events_of(db, run, position, _PIECE, _WITHOUT_PAYLOADS, skipped):
            for event in events:
                work.fold(event)
            position = events[-1].position
        return work, position


def latest_events(db: Connection, run: int, count: int) -> list[e.Event]:
    """The run's last so many events, without the payloads that are not errors."""
    with reading(_name_of(db, run)):
        length = db.execute(f"SELECT {LENGTH.format('?')}", (run,)).fetchone()[0]
        begin, skipped = max(0, length - count), skipped_of(db, run)
        for first, last in skipped:
            begin = last - 1 if first < begin < last else begin
        return _events_of(db, run, begin, None, _WITHOUT_PAYLOADS, skipped)


def _open_before(db: Connection, run: int) -> tuple[OpenWork, int]:
    """What was open when that was last stored, and up to which position."""
    asked = "SELECT open_at, open_work FROM live WHERE run = ? AND open_at IS NOT NULL"
    found = db.execute(asked, (run,)).fetchone()
    if found is None:
        return OpenWork(), 0
    position, text = found
    try:
        data = json.loads(text)
        rows = db.execute(
            f"SELECT {_WITHOUT_PAYLOADS} FROM events WHERE run = ? "
            "AND position IN (SELECT value FROM json_each(?)) ORDER BY position",
            (run, json.dumps(data["events"])),
        )
        return OpenWork.restore(data, [e.from_row(row) for row in rows]), position
    except UNREADABLE:
        return OpenWork(), 0  # it may be lost: the history says the same


def _name_of(db: Connection, run: int) -> Callable[[], str]:
    return lambda: str(
        db.execute("SELECT workflow_id FROM runs WHERE key = ?", (run,)).fetchone()[0]
    )
