"""W7: bytes on disk an activity, with a small payload.

`python -m benchmarks.size`
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from belugawf import new_executor
from benchmarks.measuring import folder, show
from benchmarks.throughput import WORKFLOWS, sequence

ACTIVITIES = 10_000


async def fill(db: Path) -> None:
    executor = new_executor("default", db=db, workflows=WORKFLOWS, durability="normal")
    async with executor:
        for number in range(ACTIVITIES // 100):
            handle = await executor.execute(sequence, id=f"run-{number}", input=100)
            await handle.result()


def main() -> None:
    with folder() as root:
        db = root / "state.db"
        asyncio.run(fill(db))
        connection = sqlite3.connect(db)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        show("W7 on disk, an activity", pages * page / ACTIVITIES, "bytes")
        query = "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 4"
        try:
            tables = connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            tables = []  # this SQLite was built without dbstat
        for name, size in tables:
            show(f"of it in {name}", size / ACTIVITIES, "bytes")
        connection.close()


if __name__ == "__main__":
    main()
