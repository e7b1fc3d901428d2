"""What makes it quick, as counts of what is done: transactions, reads, threads."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from belugawf import (
    AlreadyExistsError,
    UnavailableError,
    WorkflowContext,
    activity,
    workflow,
)
from belugawf.local.drive import processing
from belugawf.local.drive.cache import pieces
from belugawf.local.executor import LocalExecutor
from belugawf.local.store.rows import Start, Started, Turn
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.durations import SECOND_NS


@activity
async def step(number: int) -> int:
    return number


@workflow
async def sequence(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.execute_activity(step, number)
    return count


@workflow
async def fan_out(ctx: WorkflowContext, count: int) -> int:
    await asyncio.gather(*(ctx.execute_activity(step, number) for number in range(count)))
    return count


@workflow
async def hearing(ctx: WorkflowContext, count: int) -> int:
    for _ in range(count):
        await ctx.wait_for_signal("go")
    return count


WORKFLOWS = [sequence, fan_out, hearing]


def open_executor(tmp_path: Path) -> LocalExecutor:
    return LocalExecutor(tmp_path / "state.db", WORKFLOWS)


class Commits:
    """Counts the commits of an executor's engine, and notes the threads that made them."""

    def __init__(self, executor: LocalExecutor) -> None:
        self.count = 0
        self.threads: set[int] = set()
        self.fail: list[UnavailableError] = []
        self._commit = executor._store.commit
        executor._store.commit = self  # type: ignore[assignment]

    def __call__(
        self, turns: Sequence[Turn], owner: str, starts: Sequence[Start], **o: Any
    ) -> Sequence[Started]:
        if self.fail:
            raise self.fail.pop()
        committed = self._commit(turns, owner, starts, **o)
        self.count += 1
        self.threads.add(threading.get_ident())
        return committed


async def test_a_step_is_one_commit(tmp_path: Path) -> None:
    """The end of one activity and the start of the next are on disk together."""
    async with open_executor(tmp_path) as executor:
        commits = Commits(executor)
        handle = await executor.execute(sequence, input=20)
        assert await handle.result() == 20
        # The start with its first turn, and one for each activity's end.
        assert commits.count == 21


async def test_what_ends_together_is_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ends of a fan-out that are there at a tick, and all runs started at once."""
    monkeypatch.setattr(processing, "_BIRTHS_S", 60)  # however busy the machine is
    async with open_executor(tmp_path) as executor:
        commits = Commits(executor)
        handle = await executor.execute(fan_out, input=50)
        await handle.result()
        assert commits.count <= 5
        before = commits.count
        handles = await asyncio.gather(*(executor.execute(sequence, input=1) for _ in range(100)))
        for handle in handles:
            await handle.result()
        assert commits.count - before <= 12


async def test_a_quick_disk_needs_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small commits are made on the loop; beside another writer they are made off it."""
    monkeypatch.setattr("belugawf.local.file.writer._QUICK_S", 60)  # however busy the machine is
    async with open_executor(tmp_path) as executor:
        commits = Commits(executor)
        handle = await executor.execute(sequence, input=5)
        await handle.result()
        assert threading.get_ident() in commits.threads
        commits.threads.clear()
        executor._store.database.lock.acquire()
        starting = asyncio.create_task(executor.execute(sequence, input=1))
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)  # the loop goes on, though the writer has to wait
        assert not starting.done()
        executor._store.database.lock.release()
        await (await starting).result()
        assert commits.threads - {threading.get_ident()}


async def test_another_programs_transaction_does_not_stop_the_loop(tmp_path: Path) -> None:
    """A sqlite3 shell that holds the database makes commits wait, and nothing else."""
    async with open_executor(tmp_path) as executor:
        await (await executor.execute(sequence, input=1)).result()
        shell = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        shell.execute("BEGIN IMMEDIATE")
        starting = asyncio.create_task(executor.execute(sequence, input=3))
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not starting.done()
        shell.execute("COMMIT")
        shell.close()
        assert await (await starting).result() == 3


async def test_a_run_on_the_shelf_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal to a run that waits costs no read of its history."""
    async with open_executor(tmp_path) as executor:
        handle = await executor.execute(hearing, id="one", input=5)
        await executor.wait("one", until="signal:go")
        reads: list[int] = []

        def counted(store: Store, run: int, length: int) -> Iterator[list[e.Event]]:
            reads.append(run)
            return pieces(store, run, length)

        monkeypatch.setattr("belugawf.local.drive.cache.pieces", counted)
        for _ in range(5):
            await executor.signal("one", "go")
        assert await handle.result() == 5
        assert reads == []


async def test_a_start_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Whoever starts a run on a full disk hears of it, and no run is there."""
    async with open_executor(tmp_path) as executor:
        Commits(executor).fail.append(UnavailableError("the disk is full"))
        with pytest.raises(UnavailableError, match="full"):
            await executor.execute(sequence, id="one", input=1)
    async with open_executor(tmp_path) as executor:
        assert await executor.list() == []


async def test_starts_of_one_commit_are_refused_one_by_one(tmp_path: Path) -> None:
    """Of several starts with one id the first counts; the others of that commit go on."""

    async def start(executor: LocalExecutor, name: str) -> object:
        try:
            return await (await executor.execute(sequence, id=name, input=1)).result()
        except AlreadyExistsError as error:
            return error.exit_code

    async with open_executor(tmp_path) as executor:
        names = ["a", "b", "a", "c", "b"]
        answers = await asyncio.gather(*(start(executor, name) for name in names))
        assert answers == [1, 1, 9, 1, 9]


async def test_leaving_answers_who_is_starting(tmp_path: Path) -> None:
    """A start that the executor's end has overtaken raises, or its run is there; it never hangs."""

    async def start(executor: LocalExecutor) -> bool:
        await executor.execute(hearing, id="one", input=1)
        return True

    async with open_executor(tmp_path) as executor:
        await (await executor.execute(sequence, input=1)).result()
        starting = asyncio.create_task(start(executor))
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        (answer,) = await asyncio.gather(starting, return_exceptions=True)
    async with open_executor(tmp_path) as executor:
        found = [info.workflow_id for info in await executor.list()]
        assert ("one" in found) == (answer is True)


def test_ticks_look_only_at_runs_that_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fifty runs at work, the steps of one ask nothing of the others."""
    from belugawf.local.drive.run import OwnedRun

    asked: list[int] = []
    is_ready: Callable[[OwnedRun, int], bool] = OwnedRun.is_ready

    def counting(run: OwnedRun, now: int) -> bool:
        asked.append(run.key)
        return is_ready(run, now)

    async def main() -> None:
        async with LocalExecutor(tmp_path / "state.db", [*WORKFLOWS, working]) as executor:
            for number in range(50):
                await executor.execute(working, id=f"busy-{number}")
            handle = await executor.execute(sequence, input=10)
            await executor.wait(handle.run_id, until="rest")
            monkeypatch.setattr(OwnedRun, "is_ready", counting)
            handle = await executor.execute(sequence, id="one", input=30)
            await handle.result()
            monkeypatch.undo()
            RELEASE.set()

    RELEASE.clear()
    asyncio.run(main())
    assert len(asked) < 200


RELEASE = threading.Event()


@activity
async def busy() -> None:
    while not RELEASE.is_set():
        await asyncio.sleep(0.01)


@workflow
async def working(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(busy)


async def test_a_wanted_look_is_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is claimed in several looks does not wait for the clock between them, nor in the end."""
    monkeypatch.setattr("belugawf.local.drive.polling.POLL_INTERVAL_NS", 3600 * SECOND_NS)
    monkeypatch.setattr("belugawf.local.drive.demand.CLAIM_AT_ONCE", 1)
    async with open_executor(tmp_path) as executor:
        for number in range(3):
            await executor.execute(hearing, id=f"run-{number}", input=1, detach=True)
        async with asyncio.timeout(30):
            assert len(await executor.resume()) == 3
