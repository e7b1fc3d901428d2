"""What a step costs, as counts that do not depend on the machine: calls, statements, pages.

Each limit is what it was when it was last lowered, and a little: whoever makes a step dearer hears
of it. Other Pythons call other functions: there the counts are only printed.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType

import pytest

from belugawf import WorkflowContext, activity, workflow
from belugawf.local.executor import LocalExecutor
from belugawf.model.durations import SECOND_NS

# Python calls a step in W1, an activity in W3, a run that starts and comes to wait.
CALLS_OF_A_STEP, CALLS_IN_PARALLEL, CALLS_OF_A_START = 256, 135, 404
STATEMENTS_OF_A_STEP, PAGES_OF_A_STEP = 4.05, 1.6
ROUNDS = 3
# Bytes before each page in SQLite's log.
FRAME_HEADER = 24

HERE_COUNTED = sys.implementation.name == "cpython" and sys.version_info[:2] == (3, 11)


@activity
async def step(number: int) -> int:
    return number


@workflow
async def sequence(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.execute_activity(step, number)
    return count


@workflow
async def parallel(ctx: WorkflowContext, count: int) -> int:
    await asyncio.gather(*(ctx.execute_activity(step, number) for number in range(count)))
    return count


@workflow
async def waiting(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("go")


Work = Callable[[LocalExecutor, int], Awaitable[None]]


async def in_sequence(executor: LocalExecutor, count: int) -> None:
    await (await executor.execute(sequence, input=count)).result()


async def in_parallel(executor: LocalExecutor, count: int) -> None:
    await (await executor.execute(parallel, input=count)).result()


async def starts(executor: LocalExecutor, count: int) -> None:
    for _ in range(count):
        await executor.execute(waiting, detach=True)
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


@pytest.fixture(autouse=True)
def without_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is done in one thread, however slow the disk is, and nothing each second."""
    monkeypatch.setattr("belugawf.local.file.writer._QUICK_S", 3600)
    monkeypatch.setattr("belugawf.local.drive.polling.POLL_INTERVAL_NS", 3600 * SECOND_NS)


async def counts_each(tmp_path: Path, work: Work, few: int, many: int) -> tuple[float, float]:
    """Calls and statements for one more step or run: the difference of many and few.

    The least of some rounds, as the engine shares its loop by the clock.
    """
    executor = LocalExecutor(
        tmp_path / "state.db", [sequence, parallel, waiting], durability="normal"
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


def within(name: str, count: float, limit: float) -> None:
    print(f"{name}: {count:.2f} (limit {limit})")
    if HERE_COUNTED:
        assert count <= limit, f"{name}: {count:.2f}"


async def test_calls_and_statements_of_a_step(tmp_path: Path) -> None:
    """W1: one activity after the other."""
    calls, statements = await counts_each(tmp_path, in_sequence, 100, 300)
    within("Python calls a step", calls, CALLS_OF_A_STEP)
    within("statements a step", statements, STATEMENTS_OF_A_STEP)


async def test_calls_of_an_activity_in_parallel(tmp_path: Path) -> None:
    """W3: all at once."""
    calls, _ = await counts_each(tmp_path, in_parallel, 100, 500)
    within("Python calls an activity in parallel", calls, CALLS_IN_PARALLEL)


async def test_calls_of_a_start(tmp_path: Path) -> None:
    """W6: a run that starts and waits for a signal."""
    calls, _ = await counts_each(tmp_path, starts, 100, 300)
    within("Python calls a start", calls, CALLS_OF_A_START)


async def test_pages_of_a_step(tmp_path: Path) -> None:
    """W1: what is written to the log for it, in pages."""
    database = tmp_path / "state.db"
    log = tmp_path / "state.db-wal"
    async with LocalExecutor(database, [sequence], durability="normal") as executor:
        executor._store.database.writer.execute("PRAGMA wal_autocheckpoint = 0")
        (page,) = executor._store.database.read.execute("PRAGMA page_size").fetchone()
        sizes = []
        for count in (10, 100, 300):
            await in_sequence(executor, count)
            sizes.append(log.stat().st_size)
    less, more = sizes[1] - sizes[0], sizes[2] - sizes[1]
    within("pages a step", (more - less) / (page + FRAME_HEADER) / 200, PAGES_OF_A_STEP)
