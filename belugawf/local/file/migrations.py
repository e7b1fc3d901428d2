"""How a database comes to today's schema, step by step, through sqlite-utils.

Imported only when a file is new or older: it costs more than everything else that `status` needs.

A new file gets today's schema at once. A next schema needs one more function below, which leaves a
file alone that has it already, and SCHEMA_VERSION one more. All steps that a file lacks are one
transaction under the write lock, together with its version: whoever is killed leaves the old schema
or the new one, and of two processes that open it at once one migrates. Before that, a copy of the
old file is kept beside it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path

import sqlite_utils
from sqlite_utils import Migrations

from belugawf.host import test_hooks
from belugawf.local.file import ownership
from belugawf.local.file.filesystem import private_umask, state_folder
from belugawf.model import events as e
from belugawf.model.durations import MICROSECOND_NS, parse_instant
from belugawf.model.errors import BusyError
from belugawf.model.history import OpenWork
from belugawf.model.soundness import UNREADABLE

migrations = Migrations("belugawf")
logger = logging.getLogger("belugawf")
# Histories of so many events are long.
_LONG = 256
# What the tables of the schema before are called meanwhile.
_OLD = "belugawf_old_"
# Read here, where nobody waits for the write lock.
_SCHEMA = files("belugawf.local.file").joinpath("schema.sql").read_text()


@migrations()
def m001_initial(db: sqlite_utils.Database) -> None:
    """Runs, events, inbox, waits; what is live; the views for people."""
    for statement in _statements(_SCHEMA):
        db.execute(statement)


@migrations()
def m002_integer_times(db: sqlite_utils.Database) -> None:
    """Times become integers, and those of a fact and of its attempt columns; payloads stand last.

    What a person has added to the tables (columns, indexes, triggers) is made again, or it is said
    that it could not be.
    """
    if "history_length" not in db["runs"].columns_dict:
        return
    connection = db.conn
    connection.create_function("micros", 1, _micros, deterministic=True)
    columns = {table: _columns(connection, table) for table in _COPIES}
    added = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema "
        "WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    ).fetchall()
    for kind, name, table, _ in added:
        if table in _COPIES:
            connection.execute(f"DROP {kind} {_quoted(name)}")
    for view in ("runs_view", "waiting_view", "events_view", "activities_view"):
        connection.execute(f"DROP VIEW IF EXISTS {view}")
    for table in _COPIES:
        connection.execute(f"ALTER TABLE {table} RENAME TO {_OLD}{table}")
    for statement in _statements(_SCHEMA):
        connection.execute(statement)
    for table, copies in _COPIES.items():
        # What a person has added stays; what we had and have no longer is not theirs.
        ours = {*_columns(connection, table), "history_length", "updated_at"}
        theirs = [name for name in columns[table] if name not in ours]
        for name in theirs:
            _make_again(connection, table, f"column {name}", columns[table][name])
        kept = _as_they_are(*(_quoted(n) for n in theirs if n in _columns(connection, table)))
        names, values = zip(*copies, *kept, strict=True)
        connection.execute(
            f"INSERT INTO {table} ({', '.join(names)}) "
            f"SELECT {', '.join(values)} FROM {_OLD}{table}"
        )
    _tell_open_work(connection)
    for table in _COPIES:
        # A key that was given once is never given again.
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        connection.execute(
            "UPDATE sqlite_sequence SET name = ? WHERE name = ?", (table, f"{_OLD}{table}")
        )
        connection.execute(f"DROP TABLE {_OLD}{table}")
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    for kind, name, table, sql in added:
        if table in _COPIES and name not in there:
            _make_again(connection, table, f"{kind} {name}", sql)


@migrations()
def m003_logs_and_retries(db: sqlite_utils.Database) -> None:
    """What runs log; what `retry` has undone; the views show both."""
    if "skipped" in db["runs"].columns_dict:
        return
    db.execute("ALTER TABLE runs ADD COLUMN skipped TEXT")
    # What is at work for runs of before has been told its key.
    db.execute("ALTER TABLE runs ADD COLUMN named_keys INTEGER NOT NULL DEFAULT 0")
    for statement in _statements(_SCHEMA):
        made = _MADE.search(statement)
        if made is not None and made["name"] in _NEW_IN_3:
            db.execute(statement)
        elif made is not None and made["kind"] == "VIEW":
            db.execute(f"DROP VIEW IF EXISTS {made['name']}")
            db.execute(statement)


# What a statement of the schema makes.
_MADE = re.compile(r"^CREATE (?P<kind>TABLE|INDEX|VIEW) (?P<name>\w+)", re.MULTILINE)
_NEW_IN_3 = {"logs", "logs_by_run", "logs_view"}


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """The table's columns, each with the statement that adds it to another."""
    rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return {
        name: f"ALTER TABLE {table} ADD COLUMN {_quoted(name)} {kind}"
        + (" NOT NULL" if needed else "")
        + ("" if default is None else f" DEFAULT {default}")
        for _, name, kind, needed, default, _ in rows
    }


def _make_again(connection: sqlite3.Connection, table: str, what: str, sql: str) -> None:
    """Make what a person added, if the table can still be written with it; else say so."""
    connection.execute("SAVEPOINT again")
    try:
        connection.execute(sql)
        names = [_quoted(name) for name in _columns(connection, table)]
        # SQLite looks at a trigger's columns only when it is about to fire. Explaining is enough;
        # but what was explained with another schema is not looked at again.
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        for statement in (
            f"UPDATE {table} SET {', '.join(f'{name} = {name}' for name in names)}",
            f"INSERT INTO {table} SELECT * FROM {table}",
            f"DELETE FROM {table}",
        ):
            connection.execute(f"EXPLAIN {statement} -- {version}")
    except sqlite3.Error as error:
        connection.execute("ROLLBACK TO again")
        logger.warning(
            "the %s that was added to the table %s could not be kept: %s; it is in the copy of "
            "the database",
            *(what, table, error),
        )
    connection.execute("RELEASE again")


def _tell_open_work(connection: sqlite3.Connection) -> None:
    """Say of open runs with long histories what is open, as their owners do now and then."""
    runs = connection.execute(
        "SELECT run, max(position) FROM events WHERE run IN (SELECT run FROM live) GROUP BY run"
    ).fetchall()
    for run, length in runs:
        if length < _LONG:
            continue
        rows = connection.execute(
            "SELECT position, type, time, at, started_at, seq, name, data, payload FROM events "
            "WHERE run = ? ORDER BY position",
            (run,),
        )
        # If it cannot be read: whoever looks at the run itself says so.
        with suppress(*UNREADABLE, sqlite3.OperationalError):
            work = OpenWork.of(map(e.from_row, rows))
            told = json.dumps(work.to_json(), ensure_ascii=False)
            connection.execute(
                "UPDATE live SET open_at = ?, open_work = ? WHERE run = ?", (length, told, run)
            )


def _micros(text: bytes | None) -> int | None:
    """A time of the first schema; -1, which is none, for what a hand or a bad disk has left."""
    try:
        return None if text is None else parse_instant(text.decode()) // MICROSECOND_NS
    except ValueError:
        return -1


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _as_they_are(*names: str) -> list[tuple[str, str]]:
    return [(name, name) for name in names]


def _times(*names: str) -> list[tuple[str, str]]:
    return [(name, f"micros(CAST({name} AS BLOB))") for name in names]


def _moved(name: str) -> tuple[str, str]:
    """A time that stood among an event's other fields; what is not JSON is left as it is."""
    return (
        name,
        f"CASE WHEN json_valid(data) THEN micros(CAST(json_extract(data, '$.{name}') AS BLOB)) END",
    )


# The columns of each table, and what they are of the first schema's.
_COPIES: dict[str, list[tuple[str, str]]] = {
    "runs": [
        *_as_they_are("key", "run_id", "workflow_id", "chain_id", "parent_run_id", "parent_close"),
        *_as_they_are("workflow", "status", "input", "result", "error", "labels", "begun"),
        *_times("created_at", "closed_at", "deadline", "due_at", "last_sent_at"),
        ("named_keys", "0"),
    ],
    "events": [
        *_as_they_are("run", "position", "type", "seq", "name", "payload"),
        *_times("time"),
        *(_moved("at"), _moved("started_at")),
        (
            "data",
            "CASE WHEN json_valid(data) THEN "
            "nullif(json_remove(data, '$.at', '$.started_at'), '{}') ELSE data END",
        ),
    ],
    "waits": [
        *_as_they_are("run", "seq", "signal", "prompt", "expected", "schema"),
        *_times("since", "until"),
    ],
    "inbox": [
        *_as_they_are("id", "run", "kind", "name", "payload", "sender", "message_key"),
        *_times("sent_at"),
    ],
    "message_keys": [*_as_they_are("chain_id", "message_key"), *_times("sent_at")],
    "labels": _as_they_are("name", "value", "run"),
    "owners": [
        *_as_they_are("id", "pid", "host", "boot_id", "socket", "role", "workflows"),
        *_times("since"),
    ],
    "live": [
        *_as_they_are("run", "owner", "problem", "progress"),
        *_times("owned_since"),
    ],
    "heartbeats": [*_as_they_are("run", "seq", "details"), *_times("at")],
}


def migrate(
    connection: sqlite3.Connection, path: Path | None, *, version: int, application_id: int
) -> None:
    """Bring the database to schema `version`. The caller holds the write lock.

    `path` is its file, `None` in memory. Raises `BusyError` if a live process still works with
    the older schema, and what SQLite raises; the database is then as it was.
    """
    try:
        # Tables are made anew under their names: what refers to them, or follows a deletion, stays.
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA legacy_alter_table = ON")
        connection.execute("BEGIN IMMEDIATE")
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
    finally:
        connection.execute("PRAGMA legacy_alter_table = OFF")
        connection.execute("PRAGMA foreign_keys = ON")


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
