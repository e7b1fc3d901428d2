"""SQLite's log: nothing is written outside of the write lock; and what doctor says of it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from belugawf import Signal, WorkflowContext, activity, new_executor, workflow
from belugawf.local.file import checkup
from belugawf.local.file.checkup import check_place, has_wal_fault
from belugawf.local.file.database import Database
from belugawf.probe import WARN

# What ends a transaction that writes, or moves the log into the database.
_WRITES = re.compile(
    r"\s*(INSERT|UPDATE|DELETE|REPLACE|CREATE|DROP|ALTER|COMMIT|END|VACUUM|REINDEX|ANALYZE"
    r"|PRAGMA (wal_checkpoint|journal_mode ?=|user_version ?=|application_id ?=|optimize))",
    re.IGNORECASE,
)


@activity
async def note() -> int:
    activity.heartbeat({"n": 1})
    await asyncio.sleep(0)
    return 1


@workflow
async def noting(ctx: WorkflowContext) -> int:
    await ctx.sleep("1ms")
    await ctx.wait_for_signal("go")
    return await ctx.execute_activity(note)


async def test_writing_is_under_the_lock(  # FINDINGS L17
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that two executors do from the creation of the file on, VACUUM included."""
    seen: list[str] = []
    outside: list[str] = []
    connect = Database._connect

    def connected(self: Database) -> sqlite3.Connection:
        connection = connect(self)

        def trace(statement: str) -> None:
            if _WRITES.match(statement):
                seen.append(statement)
                if not self.lock._held:
                    outside.append(statement)

        connection.set_trace_callback(trace)
        return connection

    monkeypatch.setattr(Database, "_connect", connected)
    db = tmp_path / "state.db"
    for _ in range(2):
        async with (
            new_executor(db=db, workflows=[noting]) as executor,
            new_executor(db=db, workflows=[noting]) as other,
        ):
            runs = [await executor.execute(noting) for _ in range(4)]
            for run in runs[:2]:
                await other.signal(run.id, Signal("go"))
                assert await run.result() == 1
            await other.cancel(runs[2].id)
            await other.terminate(runs[3].id)
            await executor.execute(noting, detach=True)
            await other.resume()
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # as another tool may leave it
    async with new_executor(db=db, workflows=[noting]) as executor:
        await executor.prune(older_than=0, vacuum=True)
    kinds = {statement.split()[0].upper() for statement in seen}
    assert {"INSERT", "UPDATE", "DELETE", "COMMIT", "VACUUM", "PRAGMA", "CREATE"} <= kinds
    assert outside == []


@pytest.mark.parametrize(
    ("version", "fault"),
    [
        ((3, 37, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 9), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_which_sqlite_has_the_fault(  # FINDINGS L17
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], fault: bool
) -> None:
    """Doctor warns of it, and only of it."""
    assert has_wal_fault(version) == fault
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    found = [f for f in check_place(tmp_path / "state.db") if f.check == "sqlite"]
    assert [f.state for f in found] == ([WARN] if fault else [])


async def test_a_reader_that_was_forgotten(  # FINDINGS L17
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log grows while somebody reads the database as it was; doctor names it and its size."""
    monkeypatch.setattr(checkup, "_LARGE_LOG_BYTES", 400_000)
    db = tmp_path / "state.db"
    async with new_executor(db=db, workflows=[noting]) as executor:
        assert not [f for f in check_place(db) if f.check == "log"]
        with closing(sqlite3.connect(db, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM runs").fetchone()
            for _ in range(20):
                await executor.execute(noting, detach=True, labels={"long": "x" * 40_000})
            (found,) = [f for f in check_place(db) if f.check == "log"]
        assert found.state == WARN
        assert f"{db}-wal" in found.message
    assert not [f for f in check_place(db) if f.check == "log"]
