"""Threads for plain functions, also where the system has none left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from belugawf import WorkflowContext, activity, workflow
from belugawf.host import launcher
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
    monkeypatch.setattr(launcher, "_NO_THREAD_S", 0.01)
    scarce += [False] * 12
    async with LocalExecutor(tmp_path / "state.db", [many]) as executor:
        handle = await executor.execute(many, id="m")
        async with asyncio.timeout(20):
            assert await handle.result() == 10


class Counted:
    """Jobs of a tenth of a second, and how many ran at the same time at most."""

    def __init__(self) -> None:
        self.now = self.most = self.done = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.1)
        with self._lock:
            self.now -= 1
            self.done += 1


def test_a_job_that_was_given_up_and_ends_leaves_as_many_threads_as_before() -> None:
    """While it hangs another thread takes its place; after that there is one too many."""
    pool, gate, began = DaemonPool(1), threading.Event(), threading.Event()
    counted = Counted()

    def hanging() -> None:
        began.set()
        gate.wait(10)

    pool.submit(hanging)
    began.wait(10)
    pool.abandon(hanging)
    pool.submit(counted)
    gate.set()
    for _ in range(3):
        pool.submit(counted)
    while counted.done < 4:
        time.sleep(0.01)
    assert counted.most == 1
    pool.close()


def test_a_job_that_was_given_up_before_it_began_makes_no_thread() -> None:
    """It needs no room, so nothing takes its place."""
    pool, counted, given_up = DaemonPool(1), Counted(), Counted()
    pool.submit(counted)
    pool.submit(given_up)
    pool.abandon(given_up)
    pool.submit(counted)
    while counted.done < 2:
        time.sleep(0.01)
    assert counted.most == 1
    pool.close()


def test_what_waits_behind_a_job_that_hangs_goes_on_when_that_is_given_up() -> None:
    """Its place is taken at once, not by the next job that comes."""
    pool, gate, began, ran = DaemonPool(1), threading.Event(), threading.Event(), threading.Event()

    def hanging() -> None:
        began.set()
        gate.wait(10)

    pool.submit(hanging)
    began.wait(10)
    pool.submit(ran.set)
    pool.abandon(hanging)
    assert ran.wait(5)
    gate.set()
    pool.close()
