"""Counts what a step costs, in a process of its own: `python -m tests.local.counting FOLDER`.

What other tests have left in a process (threads, hooks, caches) would be counted too.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType

from belugawf import WorkflowContext, workflow
from belugawf.local.drive import polling, processing
from belugawf.local.executor import LocalExecutor
from belugawf.local.file import writer
from belugawf.model.durations import SECOND_NS
from tests.local.test_speed import fan_out, sequence

ROUNDS = 3
# Bytes before each page in SQLite's log.
FRAME_HEADER = 24


@workflow
async def waiting(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("go")


Work = Callable[[LocalExecutor, int], Awaitable[None]]


async def in_sequence(executor: LocalExecutor, count: int) -> None:
    await (await executor.execute(sequence, input=count)).result()


async def in_parallel(executor: LocalExecutor, count: int) -> None:
    await (await executor.execute(fan_out, input=count)).result()


async def starts(executor: LocalExecutor, count: int) -> None:
    await asyncio.gather(*(executor.execute(waiting) for _ in range(count)))
    await executor.resume()


class Counted:
    """What is called in this thread: functions of Python, and statements of SQLite."""

    calls = statements = 0

    def __enter__(self) -> Counted:
        gc.disable()  # its callbacks are others' functions, and come when they like
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        gc.enable()

    def _profile(self, frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            self.calls += 1
        elif event == "c_call" and arg.__name__ in ("execute", "executemany"):  # type: ignore[attr-defined]
            about = arg.__self__  # type: ignore[attr-defined]
            self.statements += isinstance(about, (sqlite3.Connection, sqlite3.Cursor))


def without_clock() -> None:
    """All is done in one thread, however slow the disk is, and nothing each second."""
    writer._QUICK_S = processing._BIRTHS_S = 3600
    polling.POLL_INTERVAL_NS = 3600 * SECOND_NS


async def counts_each(tmp_path: Path, work: Work, few: int, many: int) -> tuple[float, float]:
    """Calls and statements for one more step or run: the difference of many and few.

    The least of some rounds, as the engine shares its loop by the clock.
    """
    executor = LocalExecutor(
        tmp_path / "state.db", [sequence, fan_out, waiting], durability="normal"
    )
    async with executor:
        await work(executor, 10)  # what is done once
        found: dict[int, list[Counted]] = {few: [], many: []}
        for _ in range(ROUNDS):
            for count, rounds in found.items():
                with Counted() as counted:
                    await work(executor, count)
                rounds.append(counted)
    (calls, statements), (more_calls, more_statements) = (
        (min(c.calls for c in rounds), min(c.statements for c in rounds))
        for rounds in found.values()
    )
    return (more_calls - calls) / (many - few), (more_statements - statements) / (many - few)


async def pages_each(tmp_path: Path) -> float:
    """What is written to the log for one more step, in pages."""
    database = tmp_path / "pages.db"
    log = tmp_path / "pages.db-wal"
    async with LocalExecutor(database, [sequence], durability="normal") as executor:
        executor._store.database.writer.execute("PRAGMA wal_autocheckpoint = 0")
        (page,) = executor._store.database.read.execute("PRAGMA page_size").fetchone()
        sizes = []
        for count in (10, 100, 300):
            await in_sequence(executor, count)
            sizes.append(log.stat().st_size)
    less, more = sizes[1] - sizes[0], sizes[2] - sizes[1]
    return float((more - less) / (page + FRAME_HEADER) / 200)


async def main(folder: Path) -> None:
    without_clock()
    step, statements = await counts_each(folder, in_sequence, 100, 300)
    activity, _ = await counts_each(folder, in_parallel, 100, 500)
    start, _ = await counts_each(folder, starts, 100, 300)
    figures = {
        "Python calls a step": step,
        "statements a step": statements,
        "Python calls an activity in parallel": activity,
        "Python calls a start": start,
        "pages a step": await pages_each(folder),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
