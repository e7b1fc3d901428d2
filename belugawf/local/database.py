"""Opening the database file, its transactions, and its errors in a person's words.

Only SQLite opens the file: a plain `open().close()` anywhere in the process would drop SQLite's
own locks on it. Writers queue on a kernel file lock before `BEGIN IMMEDIATE`, because SQLite's
busy handler starves them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from belugawf.host import knobs
from belugawf.local.filesystem import (
    check_location,
    private_umask,
    real_path,
    state_folder,
)
from belugawf.local.writelock import WriteLock
from belugawf.model.errors import BelugaError, BusyError, UnavailableError

SCHEMA_VERSION = 1
# "bwfw" in ASCII: tells `file` and us whose database this is.
APPLICATION_ID = 0x62776677

# Room for the pages of a large worker's commits; SQLite's own default is 2 MiB.
_CACHE_KIB = 8_192


class Database:
    """One SQLite file: a connection for writing and one for reading. Not shared by threads,
    except that `write` may be called from any one thread at a time."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["full", "normal"] = "full",
        create: bool = True,
        memory: bool = False,
    ) -> None:
        """Open the file, or create it with `create`.

        Raises `UnavailableError` where that is not possible: read-only, full, newer, no database.
        """
        self.path = path if memory else real_path(path)
        self.durability = durability
        self._reader: sqlite3.Connection | None = None
        if not memory:
            check_location(self.path, create=create)
            if not create and not self.path.exists():
                raise UnavailableError(
                    f"there is no database at {self.path}", hint="start a run: belugawf run"
                )
        self.folder = state_folder(self.path)
        self.lock = WriteLock(self.folder / "write.lock")
        with self._translated():
            with private_umask():
                self._writer = self._connect()
            self._prepare()

    def close(self) -> None:
        """Close both connections; the file stays."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self.lock.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the only write lock; committed at the end, or rolled back.

        Raises `BusyError` naming the holder after 30 s, `UnavailableError` for what the disk says.
        """
        with self.lock.held(knobs.BUSY_TIMEOUT_S), self._translated():
            connection = self._writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                knobs.step("before commit")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        knobs.step("after commit")

    @property
    def read(self) -> sqlite3.Connection:
        """The connection for questions; it never waits for writers."""
        if self._reader is None:
            with self._translated():
                self._reader = self._connect()
                self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of everything, for questions that take several statements."""
        with self._translated():
            connection = self.read
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def sizes(self) -> tuple[int, int]:
        """How many bytes the file has, and how many of them are free for what comes."""
        with self.reading() as db:
            page, pages, free = (
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_size", "page_count", "freelist_count")
            )
        return page * pages, page * free

    def vacuum(self) -> None:
        """Write the file anew without its free space; other writers wait for all that time.

        Raises as `write`; then the file is as it was.
        """
        with self.lock.held(knobs.BUSY_TIMEOUT_S), self._translated():
            self._writer.execute("VACUUM")
            # What was written anew is in the log first; from there it replaces the file.
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=knobs.BUSY_TIMEOUT_S
        )
        connection.execute(f"PRAGMA busy_timeout = {int(knobs.BUSY_TIMEOUT_S * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {self.durability.upper()}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if knobs.MAX_PAGES:
            connection.execute(f"PRAGMA max_page_count = {knobs.MAX_PAGES}")
        return connection

    def _prepare(self) -> None:
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        if version > SCHEMA_VERSION:
            raise UnavailableError(
                f"{self.path} was written by a newer belugawf (schema {version}, "
                f"this one knows {SCHEMA_VERSION})",
                hint="upgrade: pip install --upgrade belugawf",
            )
        self._refuse_strangers()
        # Imported before the lock is taken: it takes longer than any transaction, and others wait.
        from belugawf.local.migrations import migrate

        with self.lock.held(knobs.BUSY_TIMEOUT_S):
            self._migrate(migrate)

    def _refuse_strangers(self) -> None:
        identity = self._writer.execute("PRAGMA application_id").fetchone()[0]
        tables = self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables and identity != APPLICATION_ID:
            raise UnavailableError(
                f"{self.path} is a database of another program",
                hint="choose another file with --db",
            )

    def _migrate(self, migrate: Callable[[sqlite3.Connection], None]) -> None:
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        if self._writer.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            migrate(self._writer)
            self._writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> BelugaError:
        name = getattr(error, "sqlite_errorname", "") or ""
        text = str(error)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or "is locked" in text:
            return BusyError(
                f"the database {self.path} is locked by another program",
                hint="end its transaction (a sqlite3 shell, a backup?), then try again",
            )
        for prefix, what, hint in _DISK_ERRORS:
            if name.startswith(prefix) or (not name and prefix in text):
                return UnavailableError(what.format(path=self.path, error=text), hint=hint)
        return UnavailableError(
            f"the database {self.path} refused: {text}", hint="look at it: belugawf doctor"
        )


_DISK_ERRORS = (
    ("SQLITE_READONLY", "the database {path} is read-only", "check its owner and its mode"),
    (
        "SQLITE_FULL",
        "the disk of {path} is full",
        "free some space: everything acknowledged so far is safe",
    ),
    (
        "SQLITE_IOERR",
        "the disk of {path} reports an error: {error}",
        "check the disk, then: belugawf doctor",
    ),
    ("SQLITE_NOTADB", "{path} is no SQLite database", "choose another file with --db"),
    (
        "SQLITE_CORRUPT",
        "the database {path} is damaged: {error}",
        "restore a copy, or save what can be read: sqlite3 FILE .recover",
    ),
    (
        "SQLITE_CANTOPEN",
        "the database {path} cannot be opened: {error}",
        "check that its folder exists and can be written",
    ),
    ("SQLITE_PERM", "no permission to open {path}", "check its owner and its mode"),
)
