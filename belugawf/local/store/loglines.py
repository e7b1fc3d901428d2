"""What runs have logged, in the table `logs`: kept for people, with bounds, and no run's truth.

A run keeps its newest lines. What is older than a time goes with whatever is stored next: the
oldest lines of the table have the smallest ids.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from belugawf.executor.info import LogFilters
from belugawf.local.store.histories import Connection
from belugawf.model.levels import level_number
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from belugawf.host.logs import Line

# So many old lines are deleted with each batch of new ones.
_MOST_OLD = 2_000


@frozen()
class NewLines:
    """Lines to be stored: of each run the newest `keep` stay, and none from before `since` (in
    microseconds, `None`: however old)."""

    lines: Sequence[Line]
    keep: int
    since: int | None


def insert_lines(db: Connection, new: NewLines) -> None:
    """Store these lines, as far as their runs are there, and drop what is beyond the bounds."""
    runs = dict.fromkeys(line[0] for line in new.lines)
    there = "SELECT key FROM runs WHERE key IN (SELECT value FROM json_each(?))"
    found = {key for (key,) in db.execute(there, (json.dumps(list(runs)),))}
    lines = new.lines if len(found) == len(runs) else [x for x in new.lines if x[0] in found]
    db.executemany(
        "INSERT INTO logs (run, time, level, logger, seq, activity, attempt, message) "
        "VALUES (?,?,?,?,?,?,?,?)",
        lines,
    )
    db.executemany(
        "DELETE FROM logs WHERE run = ?1 AND id <= "
        "(SELECT id FROM logs WHERE run = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        [(run, new.keep) for run in runs],
    )
    oldest = db.execute("SELECT time FROM logs ORDER BY id LIMIT 1").fetchone()
    if new.since is not None and oldest is not None and oldest[0] < new.since:
        db.execute(
            "DELETE FROM logs WHERE id IN (SELECT id FROM logs ORDER BY id LIMIT ?) AND time < ?",
            (_MOST_OLD, new.since),
        )


def lines_of(db: Connection, run: int, **filters: Unpack[LogFilters]) -> list[tuple[Any, ...]]:
    """The lines of a run, oldest first: id, time, level, logger, seq, activity, attempt, message.

    With `limit` the newest.
    """
    limit = filters.get("limit")
    rows = db.execute(
        "SELECT id, time, level, logger, seq, activity, attempt, message FROM logs "
        "WHERE run = ? AND id > ? AND level >= ? AND (?4 IS NULL OR activity = ?4) "
        "ORDER BY id DESC LIMIT ?5",
        (
            run,
            filters.get("after") or 0,
            level_number(filters.get("level") or "") or 0,
            filters.get("activity"),
            -1 if limit is None else limit,
        ),
    ).fetchall()
    return rows[::-1]
