"""How a database comes to today's schema, step by step, through sqlite-utils.

Imported only when a file is new or older: it costs more than everything else that `status` needs.

A next schema needs one more function below, and SCHEMA_VERSION one more. All steps that a file
lacks are one transaction under the write lock, together with its version: whoever is killed leaves
the old schema or the new one, and of two processes that open it at once one migrates. Before that,
a copy of the old file is kept beside it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import sqlite_utils
from sqlite_utils import Migrations

from belugawf.host import test_hooks
from belugawf.local.file import ownership
from belugawf.local.file.filesystem import private_umask, state_folder
from belugawf.model.errors import BusyError

migrations = Migrations("belugawf")
# Read here, where nobody waits for the write lock.
_SCHEMA = files("belugawf.local.file").joinpath("schema.sql").read_text()


@migrations()
def m001_initial(db: sqlite_utils.Database) -> None:
    """Runs, events, inbox, waits; what is live; the views for people."""
    for statement in _statements(_SCHEMA):
        db.execute(statement)


def migrate(
    connection: sqlite3.Connection, path: Path | None, *, version: int, application_id: int
) -> None:
    """Bring the database to schema `version`. The caller holds the write lock.

    `path` is its file, `None` in memory. Raises `BusyError` if a live process still works with
    the older schema, and what SQLite raises; the database is then as it was.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found < version:
            if found and path is not None:
                _require_alone(connection, path)
                keep_copy(path, found)
                test_hooks.step("copy kept")
            # Plugins of sqlite-utils are somebody else's code, and finding them takes longest.
            migrations.apply(sqlite_utils.Database(connection, execute_plugins=False))
            connection.execute(f"PRAGMA application_id = {application_id}")
            connection.execute(f"PRAGMA user_version = {version}")
            assert connection.in_transaction, "a migration has committed"
        test_hooks.step("before migrated")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def copy_name(path: Path, version: int) -> Path:
    """Where the copy of a database of that schema is kept."""
    return path.with_name(f"{path.name}.schema-{version}.backup")


def keep_copy(path: Path, version: int) -> None:
    """Copy the database as it was last committed; under its name there is a whole copy, or none."""
    copy = copy_name(path, version)
    part = copy.with_name(copy.name + ".part")
    part.unlink(missing_ok=True)
    with (
        private_umask(),
        closing(sqlite3.connect(path, isolation_level=None)) as source,
        closing(sqlite3.connect(part, isolation_level=None)) as target,
    ):
        source.backup(target)
        # One file that can be copied and opened anywhere, on the disk before it has its name.
        target.execute("PRAGMA journal_mode = DELETE")
    _sync(part)
    part.replace(copy)
    _sync(copy.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_alone(connection: sqlite3.Connection, path: Path) -> None:
    """A process that was started before the upgrade would write rows of the old schema."""
    folder = state_folder(path)
    for owner, pid in connection.execute("SELECT id, pid FROM owners"):
        if ownership.is_alive(folder, owner):
            raise BusyError(
                f"process {pid} still works on {path} with an older belugawf, "
                "and this one must change the database first",
                hint=f"end it (kill {pid}), then try again",
            )


def _statements(script: str) -> list[str]:
    """The script's statements one by one: `executescript` would commit first."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current.strip())
            current = ""
    return statements
