"""Whether a database can live where it is to be, and whether it is sound; what `doctor` asks.

Files that are no sound database are looked into as well, which a store would not open.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from belugawf.local.file.filesystem import check_location
from belugawf.model.errors import BelugaError
from belugawf.model.shell import quoted
from belugawf.probe import FAIL, OK, WARN, Finding

# Under the first a day's histories may not fit; under the second SQLite cannot even checkpoint.
_LITTLE_SPACE_BYTES = 500_000_000
_NO_SPACE_BYTES = 20_000_000
# SQLite writes its log back at 4 MB; it grows beyond while a reader needs its beginning.
_LARGE_LOG_BYTES = 64_000_000
# The oldest SQLite with all that the store uses: RETURNING and STRICT tables.
_OLDEST_SQLITE = (3, 37, 0)


def check_place(database: Path) -> Iterator[Finding]:
    """What keeps a database from living there, and whether one that does is sound."""
    yield from _sqlite()
    yield _location(database)
    yield _disk_space(database)
    try:
        there = database.exists()
    except OSError as error:
        fix = "allow this user to enter its folder, or name another place: --db FILE"
        yield Finding("database", FAIL, f"{database} is out of reach: {error.strerror}", fix)
    else:
        yield _permissions(database, there)
        yield _database(database, there)
        yield from _log(database)


def check_journal(database: Path) -> Iterator[Finding]:
    """Whether readers and writers keep each other out, which opening the database puts right."""
    try:
        mode = _read_only(database, _journal_mode)
    except (sqlite3.Error, UnicodeDecodeError):
        return  # it does not exist yet, or cannot be read: that was said
    if mode != "wal":
        yield Finding(
            "journal",
            WARN,
            f"{database} is in journal mode {mode}: readers and writers keep each other out",
            "end the programs that have it open; the next command switches to WAL",
        )


def check_system() -> Finding:
    """Whether this Python, its SQLite and the operating system will do."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    versions = f"Python {python}, SQLite {sqlite3.sqlite_version}"
    if sys.platform == "win32":
        return Finding("system", FAIL, "Windows is not supported", "use Linux, macOS or WSL")
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(str(part) for part in _OLDEST_SQLITE)
        return Finding("system", FAIL, f"{versions} is too old", f"{oldest} or newer is needed")
    return Finding("system", OK, versions)


def _sqlite() -> Iterator[Finding]:
    """Whether this SQLite has the fault of WAL that https://sqlite.org/wal.html calls WAL-reset."""
    if has_wal_fault(sqlite3.sqlite_version_info):
        yield Finding(
            "sqlite",
            WARN,
            f"SQLite {sqlite3.sqlite_version} can damage a database if another program writes "
            "its log back (a checkpoint) at the same moment; belugawf alone never does so "
            "twice at once",
            "only read the database with other programs, or use a Python with SQLite 3.51.3",
        )


def has_wal_fault(version: tuple[int, int, int]) -> bool:
    """Two connections that checkpoint or write at once may damage a log; mended in three lines."""
    mended = {(3, 44): 6, (3, 50): 7}
    return version < (3, 51, 3) and version[2] < mended.get(version[:2], version[2] + 1)


def _log(database: Path) -> Iterator[Finding]:
    """The log beside the database, which is cut only while nobody reads its end."""
    log = Path(f"{os.path.realpath(database)}-wal")
    with suppress(OSError):
        size = log.stat().st_size
        if size > _LARGE_LOG_BYTES:
            yield Finding(
                "log",
                WARN,
                f"{log} has {size / 1e6:,.0f} MB: something reads the database for long",
                "end what reads it (a forgotten shell or viewer; lsof names it); the log is cut "
                "when the last process closes the database",
            )


def _nearest_folder(path: Path) -> Path:
    """The folder of the file, or the nearest one above it that exists."""
    folder = path.absolute().parent
    # Not `Path.is_dir`, which raises below a folder that may not be entered.
    while not os.path.isdir(folder) and folder != folder.parent:  # noqa: PTH112
        folder = folder.parent
    return folder


def _location(database: Path) -> Finding:
    try:
        check_location(database, create=False)
    except BelugaError as error:
        return Finding("file system", FAIL, error.message, error.hint, error.exit_code)
    return Finding("file system", OK, f"{_nearest_folder(database)} can hold a database")


def _disk_space(database: Path) -> Finding:
    folder = _nearest_folder(database)
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:.1f} GB free in {folder}"
    if free < _NO_SPACE_BYTES:
        return Finding("disk", FAIL, message, "make room, or move the database: --db FILE")
    if free < _LITTLE_SPACE_BYTES:
        return Finding("disk", WARN, message, "make room before histories fill it")
    return Finding("disk", OK, message)


def _permissions(database: Path, there: bool) -> Finding:
    if not there:
        return Finding("permissions", OK, "a new database is private to you")
    if not os.access(database, os.R_OK | os.W_OK):
        return Finding(
            "permissions",
            FAIL,
            f"{database} is not writable",
            f"chmod u+rw {quoted(str(database))}",
        )
    if database.stat().st_mode & 0o077:
        return Finding(
            "permissions", WARN, f"others may use {database}", f"chmod 600 {quoted(str(database))}"
        )
    return Finding("permissions", OK, f"{database} is private to you")


def _database(database: Path, there: bool) -> Finding:
    if not there:
        return Finding("database", OK, f"{database} does not exist yet")
    try:
        trouble = _read_only(database, _quick_check)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return Finding(
            "database",
            FAIL,
            f"{database} cannot be read: {error}",
            "restore it from a backup, or name another one: --db FILE",
        )
    if trouble is not None:
        return Finding(
            "database",
            FAIL,
            f"{database} is damaged: {trouble}",
            f"stop every worker, then: sqlite3 {quoted(str(database))} .recover",
        )
    return Finding("database", OK, f"{database} is sound")


def _journal_mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def _quick_check(connection: sqlite3.Connection) -> str | None:
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if answer == "ok" else str(answer)


def _read_only(database: Path, ask: Callable[[sqlite3.Connection], str | None]) -> str | None:
    # Only SQLite itself may open the file: closing a plain handle drops SQLite's locks.
    uri = database.absolute().as_uri() + "?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=5)
    try:
        return ask(connection)
    finally:
        connection.close()
