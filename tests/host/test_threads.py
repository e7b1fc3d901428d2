"""Threads for plain functions, also where the system has none left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from belugawf import WorkflowContext, activity, workflow
from belugawf.host import attempts
from belugawf.host.threads import DaemonPool
from belugawf.local.executor import LocalExecutor


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether the next threads of activities start; after the last answer each does."""
    answers: list[bool] = []
    start = threading.Thread.start

    def maybe(thread: threading.Thread) -> None:
        if thread.name == "belugawf-activity" and answers and not answers.pop(0):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", maybe)
    yield answers


def test_a_job_waits_for_the_threads_there_are(scarce: list[bool]) -> None:
    """Where no second thread is to be had, the first does everything."""
    scarce += [True, False, False]
    pool = DaemonPool(4)
    ran: list[int] = []
    done = threading.Barrier(2)
    gate = threading.Event()

    def job(number: int) -> Callable[[], None]:
        def run() -> None:
            gate.wait(10)
            ran.append(number)
            if number == 2:
                done.wait(10)

        return run

    assert all(pool.submit(job(number)) for number in range(3))
    gate.set()
    done.wait(10)
    assert ran == [0, 1, 2]
    pool.close()


def test_a_job_waits_for_a_first_thread(scarce: list[bool]) -> None:
    """Without any thread the job is kept until there is one."""
    scarce += [False, False]
    pool = DaemonPool(4)
    ran = threading.Event()
    assert not pool.submit(ran.set)
    assert not pool.grow()
    assert pool.grow()
    assert ran.wait(10)
    pool.close()


@activity
def plain(number: int) -> int:
    return number


@workflow
async def many(ctx: WorkflowContext) -> int:
    return sum(await asyncio.gather(*(ctx.execute_activity(plain, n) for n in range(5))))


async def test_activities_wait_for_threads(
    tmp_path: Path, scarce: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activities that find no thread are executed as soon as there is one."""
    monkeypatch.setattr(attempts, "_NO_THREAD_S", 0.01)
    scarce += [False] * 12
    async with LocalExecutor(tmp_path / "state.db", [many]) as executor:
        handle = await executor.execute(many, id="m")
        async with asyncio.timeout(20):
            assert await handle.result() == 10
