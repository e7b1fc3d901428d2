"""The probe of the local provider: short looks for cron and the shell, and what `doctor` asks.

`sqlite3` and the checks cost more than `nothing_stored`, which every command asks: imported on use.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from belugawf.local.file.version import SCHEMA_VERSION
from belugawf.model.durations import to_micros
from belugawf.probe import Finding, Probe

if TYPE_CHECKING:
    from pathlib import Path

    from belugawf.probe import Place

_MOST = 200
# Of how many of the newest runs the ids are looked at, where more begin so than can be offered.
_NEWEST = 5_000

# An older file is to be migrated first; its times are texts.
_BUSY = f"""SELECT (SELECT user_version FROM pragma_user_version) <> {SCHEMA_VERSION}
    OR EXISTS (SELECT 1 FROM inbox) OR EXISTS (
        SELECT 1 FROM runs INDEXED BY runs_due WHERE status = 'running' AND due_at <= ?)"""
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

# An index knows the open runs by their ids; no second one has the same.
_OPEN_IDS = """SELECT workflow_id FROM runs INDEXED BY runs_open
    WHERE status = 'running' AND workflow_id >= :prefix AND workflow_id < :end LIMIT :limit"""
# Of each workflow a run that is open, if there is one: read by doctor alone.
_OPEN_WORKFLOWS = """SELECT DISTINCT workflow FROM runs INDEXED BY runs_by_status
    WHERE status = 'running' LIMIT ?"""


class LocalProbe(Probe):
    """See `Probe`."""

    def nothing_stored(self, settings: Place) -> bool:
        """Whether there is no database yet."""
        try:
            settings.db.stat()
        except FileNotFoundError:
            return True
        except OSError:
            pass  # a file in place of a folder, no permission: whoever opens it finds out why
        return False

    def nothing_due(self, settings: Place, now: int) -> bool:
        """Not if the database cannot be read, so that the caller finds out why."""
        if self.nothing_stored(settings):
            return True
        return _column(settings.db, _BUSY, (to_micros(now),)) == [0]

    def run_ids(self, settings: Place, prefix: str, *, only_open: bool = False) -> Iterable[str]:
        """200 at most."""
        values = {"prefix": prefix, "end": prefix + "\U0010ffff", "limit": _MOST}
        if only_open:
            return self._names(settings, _OPEN_IDS, values)
        newest = self._names(settings, _NEWEST_IDS, {**values, "newest": _NEWEST})
        if len(newest) == _MOST:
            return newest
        return list(dict.fromkeys([*newest, *self._names(settings, _IDS, values)]))[:_MOST]

    def open_workflows(self, settings: Place) -> Iterable[str]:
        """200 at most."""
        return self._names(settings, _OPEN_WORKFLOWS, (_MOST,))

    def awaited_signals(self, settings: Place) -> Iterable[str]:
        """200 at most."""
        return self._names(settings, AWAITED_SIGNALS, (_MOST,))

    def _names(self, settings: Place, query: str, values: Any) -> list[str]:
        return [] if self.nothing_stored(settings) else _column(settings.db, query, values) or []

    def system(self) -> Finding:
        """Python, SQLite and the operating system."""
        from belugawf.local.file.checkup import check_system

        return check_system()

    def checks(self, settings: Place) -> Iterable[Finding]:
        """The file system, the disk, the permissions and the file."""
        from belugawf.local.file.checkup import check_place

        return check_place(settings.db)

    def checks_in_use(self, settings: Place) -> Iterable[Finding]:
        """The journal mode."""
        from belugawf.local.file.checkup import check_journal

        return check_journal(settings.db)


def _column(db: Path, query: str, values: Any) -> list[Any] | None:
    """The first column of what an existing database answers; `None` if it cannot be read.

    Changes nothing, and waits half a second at most.
    """
    import sqlite3

    uri = f"{db.absolute().as_uri()}?mode=rw"
    try:
        with closing(
            sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0.5)
        ) as connection:
            connection.execute("PRAGMA query_only = ON")
            return [row[0] for row in connection.execute(query, values)]
    except (OSError, sqlite3.Error, UnicodeError):
        return None
