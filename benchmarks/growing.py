"""Large databases made quickly: rows of real runs are multiplied, column by column as they are.

What a column means is asked of the schema where that is possible, so that other schemas will do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

COUNTING = """WITH RECURSIVE new (i) AS (
    SELECT :first WHERE :first <= :last UNION ALL SELECT i + 1 FROM new WHERE i < :last)"""


@contextmanager
def growing(db: Path) -> Iterator[sqlite3.Connection]:
    """A connection that fills a database quickly, in one transaction."""
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def multiply_run(db: Path, workflow_id: str, first: int, last: int) -> None:
    """Copies of a run, `run-000001` for 1: each with all that it has in any table."""
    with growing(db) as connection:
        (key,) = connection.execute(
            "SELECT key FROM runs WHERE workflow_id = ?", (workflow_id,)
        ).fetchone()
        (newest,) = connection.execute("SELECT max(key) FROM runs").fetchone()
        values = {"key": key, "first": first, "last": last, "base": newest + 1 - first}
        # A run id keeps its length.
        run_id = "printf('%08x', i) || substr(run_id, 9)"
        changed = {
            "key": ":base + i",
            "run_id": run_id,
            "chain_id": run_id,
            "workflow_id": "printf('run-%06d', i)",
        }
        _copy(connection, "runs", "key = :key", changed, values)
        for table in _tables_of_runs(connection):
            changed = {"run": ":base + i", "id": "NULL"}
            _copy(connection, table, "run = :key", changed, values)


def multiply_step(db: Path, workflow_id: str, events: int) -> None:
    """More of the same steps in a run's history, until it has at least so many events.

    The events between its first two commands of an activity are repeated, what comes after them
    moves back.
    """
    with growing(db) as connection:
        (run,) = connection.execute(
            "SELECT key FROM runs WHERE workflow_id = ?", (workflow_id,)
        ).fetchone()
        (start, seq), (end, next_seq) = connection.execute(
            "SELECT position, seq FROM events WHERE run = ? AND type = 'ActivityScheduled' "
            "ORDER BY position LIMIT 2",
            (run,),
        ).fetchall()
        (length,) = connection.execute(
            "SELECT max(position) FROM events WHERE run = ?", (run,)
        ).fetchone()
        width, step = end - start, next_seq - seq
        copies = max(0, -(-(events - length) // width))
        values = {
            "run": run, "start": start, "end": end, "first": 1, "last": copies,
            "width": width, "step": step,
        }  # fmt: skip
        # Far away first, as no two may be in one place meanwhile.
        for shift in (events * 2, copies * width - events * 2):
            connection.execute(
                "UPDATE events SET position = position + ? WHERE run = ? AND position >= ?",
                (shift, run, end),
            )
        moved = {"run": run, "end": end, "more": copies * step, "seq": next_seq}
        connection.execute(
            "UPDATE events SET seq = seq + :more WHERE run = :run AND position >= :end "
            "AND seq >= :seq",
            moved,
        )
        connection.execute(
            "UPDATE waits SET seq = seq + :more WHERE run = :run AND seq >= :seq", moved
        )
        changed = {"position": "position + :width * i", "seq": "seq + :step * i"}
        where = "run = :run AND position >= :start AND position < :end"
        _copy(connection, "events", where, changed, values)
        # May be lost; what it says is of the run as it was.
        connection.execute("DELETE FROM live WHERE run = ?", (run,))
        if "history_length" in _columns(connection, "runs"):
            connection.execute(
                "UPDATE runs SET history_length = ? WHERE key = ?", (length + copies * width, run)
            )


def _tables_of_runs(connection: sqlite3.Connection) -> list[str]:
    """The tables whose rows belong to a run."""
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return [
        table
        for (table,) in tables
        if any(row[2] == "runs" for row in connection.execute(f"PRAGMA foreign_key_list({table})"))
    ]


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _copy(
    connection: sqlite3.Connection,
    table: str,
    where: str,
    changed: Mapping[str, str],
    values: Mapping[str, int],
) -> None:
    """Insert the rows once more for each number, in the order of the numbers."""
    columns = _columns(connection, table)
    chosen = ", ".join(changed.get(column, f"old.{column}") for column in columns)
    # A cross join keeps its order: all rows of one number, then those of the next.
    connection.execute(
        f"{COUNTING} INSERT INTO {table} ({', '.join(columns)}) "
        f"SELECT {chosen} FROM new CROSS JOIN (SELECT * FROM {table} WHERE {where}) old",
        values,
    )
