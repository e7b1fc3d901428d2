"""Whether there is anything to do: what an idle `resume` under cron asks, every minute."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from belugawf.local.peek import looking
from belugawf.model.durations import format_instant


def nothing_due(db: Path, now: int) -> bool:
    """Whether no open run can move at `now` (nanoseconds since 1970), as far as can be seen.

    A missing database is idle; one that cannot be read is not, so that the caller finds out why.
    """
    try:
        if not db.exists():
            return True
        with looking(db) as connection:
            busy = connection.execute(
                "SELECT EXISTS (SELECT 1 FROM inbox) OR EXISTS ("
                "SELECT 1 FROM runs INDEXED BY runs_due WHERE status = 'running' AND due_at <= ?)",
                (format_instant(now),),
            ).fetchone()[0]
    except (OSError, sqlite3.Error, UnicodeError):
        return False
    return not busy
