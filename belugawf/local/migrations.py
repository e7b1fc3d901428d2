"""How a database comes to today's schema, step by step, through sqlite-utils.

Imported only when a file is new or older: it costs more than everything else that `status` needs.
"""

from __future__ import annotations

import sqlite3
from importlib.resources import files

import sqlite_utils
from sqlite_utils import Migrations

migrations = Migrations("belugawf")
# Read here, where nobody waits for the write lock.
_SCHEMA = files("belugawf.local").joinpath("schema.sql").read_text()


@migrations()
def m001_initial(db: sqlite_utils.Database) -> None:
    """Runs, events, inbox, waits; what is live; the views for people."""
    for statement in _statements(_SCHEMA):
        db.execute(statement)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to today's schema. The caller holds the write lock."""
    # Plugins of sqlite-utils are somebody else's code, and finding them takes longest of all.
    migrations.apply(sqlite_utils.Database(connection, execute_plugins=False))


def _statements(script: str) -> list[str]:
    """The script's statements one by one: `executescript` would commit first."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current.strip())
            current = ""
    return statements
