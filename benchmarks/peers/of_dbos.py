"""DBOS, its system database in SQLite.

A workflow's start, each step's result and the end are a transaction each, in a thread. A step's
result is on disk before the workflow goes on. Async workflows and steps, as they were quicker than
plain ones, and `asyncio.gather` for steps in parallel, as its guide does.

DBOS leaves the journal as SQLite has it: a rollback journal, `synchronous = FULL`, which syncs four
times a commit (counted with strace, as for the others). The variant "wal" puts the file into WAL
before DBOS opens it, which stays; DBOS does not say to, but it may be done by whoever wants it
quick. `synchronous` is FULL there too, which is one sync a commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from dbos import DBOS

from benchmarks.peers.child import Workload, main


@DBOS.step()
async def step(number: int) -> int:
    return number


@DBOS.workflow()
async def sequence(count: int) -> int:
    for number in range(count):
        await step(number)
    return count


@DBOS.workflow()
async def parallel(count: int) -> int:
    await asyncio.gather(*(step(number) for number in range(count)))
    return count


async def timed(workload: Workload) -> float:
    function = parallel if workload.parallel else sequence
    await function(5)
    began = time.perf_counter()
    handles = await asyncio.gather(
        *(DBOS.start_workflow_async(function, workload.each) for _ in range(workload.runs))
    )
    await asyncio.gather(*(handle.get_result() for handle in handles))
    return time.perf_counter() - began


def measured(root: Path, workload: Workload) -> tuple[float, str]:
    database = root / "dbos.db"
    if workload.variant == "wal":
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{database}",
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    try:
        seconds = asyncio.run(timed(workload))
    finally:
        DBOS.destroy()
    with closing(sqlite3.connect(database)) as connection:
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    journals = {"wal": "WAL (not the default)", "delete": "rollback journal (default)"}
    return seconds, f"{journals[journal]}, synchronous FULL (default)"


if __name__ == "__main__":
    main(measured, ["dbos"])
