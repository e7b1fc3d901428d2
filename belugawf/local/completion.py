"""Names for shell completion, read from the database; none where there is nothing to read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from belugawf.local.peek import looking

_MOST = 200


def run_ids(db: Path, prefix: str) -> list[str]:
    """Workflow ids that begin so, newest first."""
    return _names(
        db,
        "SELECT workflow_id FROM runs WHERE workflow_id >= ? AND workflow_id < ? "
        "GROUP BY workflow_id ORDER BY max(key) DESC LIMIT ?",
        (prefix, prefix + "\U0010ffff", _MOST),
    )


def awaited_signals(db: Path) -> list[str]:
    """The names of signals that open runs wait for."""
    return _names(db, "SELECT DISTINCT signal FROM waits ORDER BY signal LIMIT ?", (_MOST,))


def _names(db: Path, query: str, values: tuple[object, ...]) -> list[str]:
    if not db.exists():
        return []
    try:
        with looking(db) as connection:
            return [row[0] for row in connection.execute(query, values)]
    except (sqlite3.Error, UnicodeError):
        return []
