"""Opening the database file, its transactions, and its errors in a person's words.

Only SQLite opens the file: a plain `open().close()` anywhere in the process would drop SQLite's
own locks on it. Writers queue on a kernel file lock before `BEGIN IMMEDIATE`, because SQLite's
busy handler starves them.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from belugawf.host import test_hooks
from belugawf.local.file.filesystem import (
    check_location,
    private_umask,
    real_path,
    state_folder,
    sync_folders,
)
from belugawf.local.file.places import Places
from belugawf.local.file.version import APPLICATION_ID, SCHEMA_VERSION
from belugawf.local.file.writelock import WriteLock
from belugawf.model.errors import (
    BelugaError,
    BusyError,
    DamagedError,
    UnavailableError,
    UsageError,
)

T = TypeVar("T")

# Room for the pages of a large worker's commits; SQLite's own default is 2 MiB.
_CACHE_KIB = 8_192
# How long a program that has the file open in another journal mode is waited for, in seconds.
_RESTORE_S = 0.5
# How often a writer looks whether a program that does not know our lock has ended, in seconds.
_RETRY_S = 0.01


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

        Raises `UnavailableError` if that is not possible: read-only, full, newer, no database.
        """
        self.path = path if memory else real_path(path)
        self.durability = durability
        # How many writing transactions have ended, well or not.
        self.commits = 0
        self._reader: sqlite3.Connection | None = None
        self.of_thread = _OfThread()
        self._memory = memory
        if not memory:
            check_location(self.path, create=create)
            if not create and not self.path.exists():
                raise UnavailableError(
                    f"there is no database at {self.path}", hint="start a run: belugawf run"
                )
        with self._translated():
            with private_umask():
                self.writer = self._connect()
            try:
                self._open()
            except BaseException:
                self.writer.close()
                raise

    def _open(self) -> None:
        version = self._refuse_others()
        # Not before: beside another program's file there is nothing for us to make.
        self.folder = state_folder(self.path)
        self.lock = WriteLock(self.folder / "write.lock")
        if not self._memory:
            self.places.keep(self.path, "the database")
        if version != SCHEMA_VERSION:
            # Imported before the lock is taken: it takes longer than any transaction, and others
            # wait.
            from belugawf.local.file.migrations import migrate

            with self.lock.held(test_hooks.BUSY_TIMEOUT_S):
                if self._refuse_others() != SCHEMA_VERSION:  # nobody was faster
                    if not self._memory:
                        # Before the version below says that the database is complete, and so before
                        # anything in it is acknowledged, by whichever process.
                        sync_folders(self.path)
                    self._switch_to_wal(test_hooks.BUSY_TIMEOUT_S)
                    migrate(
                        self.writer,
                        None if self._memory else self.path,
                        version=SCHEMA_VERSION,
                        application_id=APPLICATION_ID,
                    )
        elif not self._memory:
            self._restore_wal()
        # From here on `_Write` waits, unless nothing may.
        self.writer.execute("PRAGMA busy_timeout = 0")

    def close(self) -> None:
        """Close both connections; the file stays."""
        for connection in (self._reader, self.writer):
            if connection is not None:
                connection.close()
        self.lock.close()

    @cached_property
    def places(self) -> Places:
        """The files in use, compared before transactions: see `Places`."""
        return Places()

    def write(self) -> _Write:
        """A transaction that holds the only write lock; committed at the end, or rolled back.

        Raises `BusyError` naming the holder after 30 s, `UnavailableError` for what the disk says,
        `DisplacedError` if the database or a lock is no longer where it was; within
        `without_blocking`, `WouldBlockError` at once if somebody else is writing.
        """
        return _Write(self, self.of_thread.blocking)

    def without_blocking(self, work: Callable[[], T]) -> T:
        """Call `work`, in which `write` never waits for a lock; returns what it returns."""
        self.of_thread.blocking = False
        try:
            return work()
        finally:
            self.of_thread.blocking = True

    @property
    def read(self) -> sqlite3.Connection:
        """The connection for questions; it never waits for writers."""
        if self._reader is None:
            with self._translated():
                self._reader = self._connect()
                self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    def reading(self) -> _Read:
        """One consistent view of everything, for questions that take several statements."""
        return _Read(self)

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
        with self.lock.held(test_hooks.BUSY_TIMEOUT_S), self._translated():
            self.writer.execute("VACUUM")
            # What was written anew is in the log first; from there it replaces the file.
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            isolation_level=None,
            check_same_thread=False,
            timeout=test_hooks.BUSY_TIMEOUT_S,
        )
        connection.execute(f"PRAGMA busy_timeout = {int(test_hooks.BUSY_TIMEOUT_S * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {self.durability.upper()}")
        # On macOS a plain sync leaves the data in the drive's cache. Elsewhere this says nothing.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if test_hooks.MAX_PAGES:
            connection.execute(f"PRAGMA max_page_count = {test_hooks.MAX_PAGES}")
        return connection

    def _refuse_others(self) -> int:
        """The file's schema version: 0 if it is empty. Raises for a newer or foreign one."""
        version: int = self.writer.execute("PRAGMA user_version").fetchone()[0]
        identity = self.writer.execute("PRAGMA application_id").fetchone()[0]
        if (version, identity) == (SCHEMA_VERSION, APPLICATION_ID):
            return version
        # Another process may create the database between two of these looks. It commits tables and
        # identity together: whoever has seen the tables sees the identity too if he looks after.
        tables = self.writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        identity = self.writer.execute("PRAGMA application_id").fetchone()[0]
        if tables and identity != APPLICATION_ID:
            raise UnavailableError(
                f"{self.path} is a database of another program",
                hint="choose another file: --db, in Python db=",
            )
        if version > SCHEMA_VERSION:
            raise UnavailableError(
                f"{self.path} was written by a newer belugawf (schema {version}, "
                f"this one knows {SCHEMA_VERSION})",
                hint="upgrade: pip install --upgrade belugawf",
            )
        return version

    def _restore_wal(self) -> None:
        """Back to WAL, if another tool or a restored copy has left another journal mode: then
        readers and writers would keep each other out, and commits fail.

        A program that has the file open prevents that. It is not waited for long, as reading works
        all the same; the next process tries again, and `doctor` says it.
        """
        if self.writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        self.writer.execute(f"PRAGMA busy_timeout = {int(_RESTORE_S * 1000)}")
        with self.lock.held(test_hooks.BUSY_TIMEOUT_S), suppress(BusyError), self._translated():
            self._switch_to_wal(_RESTORE_S)

    def _switch_to_wal(self, patience_s: float) -> None:
        """SQLite waits for readers here, and not for who recovers the file after a death."""
        end = time.monotonic() + patience_s
        while True:
            try:
                self.writer.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= end:
                    raise
                time.sleep(_RETRY_S)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeError) as error:
            raise self.translated(error) from error

    def translated(self, error: sqlite3.Error | UnicodeError) -> BelugaError:
        """What the error means, for the person at the keyboard."""
        return self.explain(error) if isinstance(error, sqlite3.Error) else self.explain_text(error)

    def explain(self, error: sqlite3.Error) -> BelugaError:
        """What SQLite's error means, for the person at the keyboard."""
        name = getattr(error, "sqlite_errorname", "") or ""
        text = str(error)
        if _is_busy(error):
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

    def explain_text(self, error: UnicodeError) -> BelugaError:
        """What could not be encoded came from outside; what could not be decoded, from the file.

        Also SQLite's own messages quote names of a damaged schema as they are.
        """
        if isinstance(error, UnicodeEncodeError):
            return UsageError(
                f"this is no text: the character at {error.start} is half of one, or a byte",
                hint="type names and texts in UTF-8",
            )
        return DamagedError(
            f"the database {self.path} is damaged: it holds bytes that are no text",
            hint="restore a copy, or save what can be read: sqlite3 FILE .recover",
        )


class WouldBlockError(Exception):
    """Another writer has the lock, and the caller must not wait for it."""


class _OfThread(threading.local):
    """Whether the writers of a thread wait for others."""

    blocking = True


class _Read:
    """One reading transaction, as a context manager. See `Database.reading`."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        database = self._database
        database.places.check()  # else who only looks would go on with an old file for ever
        try:
            self._connection = database.read
            self._connection.execute("BEGIN")
        except (sqlite3.Error, UnicodeError) as error:
            raise database.translated(error) from error
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except sqlite3.Error as failed:
            raise self._database.translated(failed) from failed
        if isinstance(error, (sqlite3.Error, UnicodeError)):
            raise self._database.translated(error) from error


class _Write:
    """One writing transaction, as a context manager. See `Database.write`."""

    __slots__ = ("_blocking", "_connection", "_database")

    def __init__(self, database: Database, blocking: bool) -> None:
        self._database = database
        self._connection = database.writer
        self._blocking = blocking

    def __enter__(self) -> sqlite3.Connection:
        lock = self._database.lock
        if self._blocking:
            lock.acquire(test_hooks.BUSY_TIMEOUT_S)
        elif not lock.try_acquire():
            raise WouldBlockError
        try:
            self._begin()
            self._database.places.check()
        except sqlite3.Error as error:
            lock.release()
            raise self._database.explain(error) from error
        except BaseException:
            self._roll_back()
            lock.release()
            raise
        return self._connection

    def _begin(self) -> None:
        """BEGIN IMMEDIATE. Only programs that do not know our lock can be in the way."""
        end: float | None = None
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                if not self._blocking:
                    raise WouldBlockError from None
                now = time.monotonic()
                end = now + test_hooks.BUSY_TIMEOUT_S if end is None else end
                if now >= end:
                    raise
                time.sleep(_RETRY_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        self._database.commits += 1
        try:
            if error is None:
                test_hooks.step("before commit")
                self._connection.execute("COMMIT")
            else:
                self._roll_back()
        except sqlite3.Error as failed:
            self._roll_back()
            raise self._database.explain(failed) from failed
        finally:
            self._database.lock.release()
        if isinstance(error, (sqlite3.Error, UnicodeError)):
            raise self._database.translated(error) from error
        if error is None:
            test_hooks.step("after commit")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _is_busy(error: sqlite3.Error) -> bool:
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or "is locked" in str(error)


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
    ("SQLITE_NOTADB", "{path} is no SQLite database", "choose another file: --db, in Python db="),
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
