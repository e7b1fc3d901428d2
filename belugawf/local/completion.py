"""Names for shell completion, read from the database; none where there is nothing to read."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from belugawf.local.peek import looking

_MOST = 200
# Of how many of the newest runs the ids are looked at, where more begin so than can be offered.
_NEWEST = 5_000

# From one name to the next through the index, instead of reading every wait for each.
AWAITED_SIGNALS = """WITH RECURSIVE names (name) AS (
        SELECT min(signal) FROM waits
        UNION ALL
        SELECT (SELECT min(signal) FROM waits WHERE signal > name) FROM names WHERE name IS NOT NULL
    ) SELECT name FROM names WHERE name IS NOT NULL LIMIT ?"""
_IDS = """WITH RECURSIVE ids (id) AS (
        SELECT min(workflow_id) FROM runs WHERE workflow_id >= :prefix AND workflow_id < :end
        UNION ALL
        SELECT (SELECT min(workflow_id) FROM runs WHERE workflow_id > id AND workflow_id < :end)
        FROM ids WHERE id IS NOT NULL
    ) SELECT id FROM ids WHERE id IS NOT NULL LIMIT :limit"""
_NEWEST_IDS = """SELECT DISTINCT workflow_id FROM (
        SELECT workflow_id FROM runs NOT INDEXED ORDER BY key DESC LIMIT :newest
    ) WHERE workflow_id >= :prefix AND workflow_id < :end LIMIT :limit"""


def run_ids(db: Path, prefix: str) -> list[str]:
    """Workflow ids that begin so, those of the newest runs first; 200 at most."""
    values = {
        "prefix": prefix,
        "end": prefix + "\U0010ffff",
        "limit": _MOST,
        "newest": _NEWEST,
    }
    newest = _names(db, _NEWEST_IDS, values)
    if len(newest) == _MOST:
        return newest
    return list(dict.fromkeys([*newest, *_names(db, _IDS, values)]))[:_MOST]


def awaited_signals(db: Path) -> list[str]:
    """The names of signals that open runs wait for."""
    return _names(db, AWAITED_SIGNALS, (_MOST,))


def _names(db: Path, query: str, values: Any) -> list[str]:
    if not db.exists():
        return []
    try:
        with looking(db) as connection:
            return [row[0] for row in connection.execute(query, values)]
    except (sqlite3.Error, UnicodeError):
        return []
