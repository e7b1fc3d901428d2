"""How fast ended runs are pruned, beside the raw limit; how long others wait; bytes a run.

`python -m benchmarks.pruning [COUNT]` (default 100,000, which takes two minutes)
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from pathlib import Path

from belugawf import WorkflowContext, activity, new_executor, workflow
from benchmarks.measuring import folder, show

COUNT = 100_000


@activity
async def step(number: int) -> int:
    return number


@workflow
async def short(ctx: WorkflowContext, number: int) -> int:
    return await ctx.execute_activity(step, number)


async def fill(db: Path, count: int) -> None:
    """So many completed runs of one activity each: five events."""
    async with new_executor("default", db=db, workflows=[short], durability="normal") as executor:
        for first in range(0, count, 1_000):
            for number in range(first, min(first + 1_000, count)):
                await executor.execute(short, id=f"run-{number:06}", input=number, detach=True)
            await executor.resume()


def size(db: Path) -> int:
    """Bytes of the file, with everything in it."""
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return db.stat().st_size


def raw_deletes(db: Path, count: int) -> float:
    """Runs a second of bare SQLite, all in one transaction that keeps everybody out."""
    copy = db.with_name("raw.db")
    source, connection = sqlite3.connect(db), sqlite3.connect(copy, isolation_level=None)
    source.backup(connection)
    source.close()
    connection.execute("PRAGMA foreign_keys = ON")
    began = time.perf_counter()
    connection.execute("DELETE FROM runs WHERE status <> 'running'")
    elapsed = time.perf_counter() - began
    connection.close()
    return count / elapsed


def worst_wait(db: Path, done: threading.Event, waits: list[float]) -> None:
    """Starts runs meanwhile, as other processes would; how long each start took."""

    async def start() -> None:
        async with new_executor("default", db=db, workflows=[short]) as executor:
            await executor.execute(short, input=1, detach=True)
            while not done.is_set():
                began = time.perf_counter()
                await executor.execute(short, input=1, detach=True)
                waits.append(time.perf_counter() - began)
                await asyncio.sleep(0.005)

    asyncio.run(start())


async def prune(db: Path, *, older_than: float = 0, vacuum: bool = False) -> tuple[int, float]:
    """How many runs, and in how many seconds."""
    async with new_executor("default", db=db) as executor:
        began = time.perf_counter()
        pruned = await executor.prune(older_than=older_than, vacuum=vacuum)
        return pruned.runs, time.perf_counter() - began


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with folder() as root:
        db = root / "state.db"
        asyncio.run(fill(db, count))
        full = size(db)
        show(f"{count:,} ended runs of 1 activity: on disk, each", full / count, "bytes")
        raw = raw_deletes(db, count)
        done, waits = threading.Event(), [0.0]
        beside = threading.Thread(target=worst_wait, args=(db, done, waits))
        beside.start()
        runs, elapsed = asyncio.run(prune(db))
        done.set()
        beside.join()
        show("raw: one statement, foreign keys", raw, "runs/s")
        show("prune", runs / elapsed, "runs/s")
        show("prune to raw", runs / elapsed / raw, "x")
        show("longest start of a run meanwhile", max(waits) * 1_000, "ms")
        _, elapsed = asyncio.run(prune(db, vacuum=True))
        show("prune --vacuum of what is left", elapsed * 1_000, "ms")
        show("the file, to what it was", size(db) / full, "x")


if __name__ == "__main__":
    main()
