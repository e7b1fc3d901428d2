"""The lane for writing: nothing waits for a lock on the event loop, and ticks are no tasks."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from belugawf import ApplicationError, BelugaError, WorkflowContext, activity, workflow
from belugawf.local.drive.table import RunTable
from belugawf.local.executor import LocalExecutor
from belugawf.local.file.database import Database
from belugawf.local.file.wakeup import WakeSocket
from belugawf.local.file.writer import Writer
from belugawf.model.errors import BusyError, UnavailableError

HELD_S = 0.6
# A stall of the loop is as long as the lock is held; a busy machine's hiccup is not.
STALL_S = HELD_S * 0.6

GATE = threading.Event()
# Its thread has begun: one that has not cannot keep anything.
STUCK = threading.Event()


@activity
async def beat() -> None:
    for number in range(20):
        activity.heartbeat(number)
        await asyncio.sleep(0.02)


@activity
async def fail() -> None:
    raise ApplicationError("no", non_retryable=True)


@activity
def stuck() -> None:
    STUCK.set()
    GATE.wait(30)


@workflow
async def beating(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(beat, heartbeat_timeout="1h")


@workflow
async def napping(ctx: WorkflowContext) -> None:
    for _ in range(3):
        await ctx.sleep(0.05)


@workflow
async def asking(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("go")
    await ctx.execute_activity("nobody_has_this")


@workflow
async def ending(ctx: WorkflowContext) -> None:
    beside = ctx.start_activity(stuck)
    await ctx.wait_for_signal("go")
    beside.cancel()


WORKFLOWS = [beating, napping, asking, ending]


@contextmanager
def lock_held(executor: LocalExecutor, seconds: float) -> Iterator[None]:
    """Another process's write: the kernel's lock is taken by a descriptor that we do not share."""
    fd = os.open(executor._store.database.folder / "write.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    timer = threading.Timer(seconds, os.close, [fd])
    timer.start()
    yield
    timer.join()


@asynccontextmanager
async def loop_watched() -> AsyncIterator[None]:
    """Fail where the loop did not run for as long as a lock is held."""
    longest = 0.0

    async def look() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    task = asyncio.create_task(look())
    yield
    await asyncio.sleep(0.01)
    task.cancel()
    assert longest < STALL_S


async def execute(executor: LocalExecutor) -> None:
    await executor.execute(napping, id="new")


async def detach(executor: LocalExecutor) -> None:
    await executor.execute(napping, id="new", detach=True)


async def signal(executor: LocalExecutor) -> None:
    await executor.signal("asking", "go", drive=False)


async def refusal(executor: LocalExecutor) -> None:
    await executor.signal("asking", "go")
    await eventually_async(lambda: problem_of(executor, "asking"))


async def cancel(executor: LocalExecutor) -> None:
    await executor.cancel("asking", drive=False)


async def terminate(executor: LocalExecutor) -> None:
    await executor.terminate("asking")


async def resume(executor: LocalExecutor) -> None:
    await executor.resume(patience=0)


async def heartbeats(executor: LocalExecutor) -> None:
    await (await executor.execute(beating, id="new")).result()


async def timers(executor: LocalExecutor) -> None:
    await (await executor.execute(napping, id="new")).result()


async def work(executor: LocalExecutor) -> None:
    working = asyncio.create_task(executor.work())
    await asyncio.sleep(HELD_S * 1.2)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def problem_of(executor: LocalExecutor, run: str) -> bool:
    return (await executor.describe(run)).problem is not None


async def eventually_async(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "act",
    [execute, detach, signal, refusal, cancel, terminate, resume, heartbeats, timers, work],
)
async def test_nothing_waits_for_the_lock_on_the_loop(
    tmp_path: Path, act: Callable[[LocalExecutor], Awaitable[Any]]
) -> None:
    """Whatever writes goes off the loop when somebody else is writing, and is done after that."""
    # FINDINGS E2
    async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as executor:
        await executor.execute(asking, id="asking")
        await executor.execute(napping, id="lying", detach=True)
        await executor.wait("asking", until="waiting")
        async with loop_watched():
            with lock_held(executor, HELD_S):
                await act(executor)


async def test_leaving_waits_off_the_loop(tmp_path: Path) -> None:
    """Also what is written when an executor is left."""
    # FINDINGS E2
    async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as executor:
        await executor.execute(napping, id="one")
        async with loop_watched():
            with lock_held(executor, HELD_S):
                await executor.__aexit__(None, None, None)
        await executor.__aenter__()


@activity
async def cancelling_everything() -> None:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()


@workflow
async def rude(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(cancelling_everything)
    return "went on"


async def test_cancelling_all_tasks_does_not_reach_the_engine(tmp_path: Path) -> None:
    """The engine is no task: it goes on, and so do later runs."""
    # FINDINGS B2
    async with LocalExecutor(tmp_path / "state.db", [rude, napping]) as executor:
        for number in range(3):
            id = f"{number}"
            try:
                await executor.execute(rude, id=id)
            except asyncio.CancelledError:  # this task is one of all, too
                uncancel()
            async with asyncio.timeout(20):
                while (await describe_again(executor, id)).open:
                    await sleep_again(0.01)
            assert (await executor.describe(id)).result == "went on"


async def describe_again(executor: LocalExecutor, run: str) -> Any:
    while True:
        try:
            return await executor.describe(run)
        except asyncio.CancelledError:
            uncancel()


async def sleep_again(seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        uncancel()


def uncancel() -> None:
    """The test's own task was cancelled too."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


class Rude(logging.Handler):
    """A handler of the user's."""

    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit("no room")


@pytest.fixture(params=["no handler", "a rude one"])
def handled(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the engine logs meets the user's handlers."""
    logger, handler = logging.getLogger("belugawf.engine"), Rude()
    if request.param == "a rude one":
        logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("handled")
async def test_a_worker_outlives_a_disk_that_is_full_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, waits, and goes on: whoever handles what it says."""
    # FINDINGS B2
    monkeypatch.setattr("belugawf.local.drive.ticking._FIRST_PAUSE_S", 0.01)
    async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as executor, asyncio.timeout(20):
        engine = await executor._driving.begun()
        engine.ticker._pause_s = 0.01
        working = asyncio.create_task(executor.work())
        while not engine.demand.persistent:
            await asyncio.sleep(0)
        poll, failures = engine.poller.poll, iter([True, True])

        async def full(table: RunTable, now: int) -> None:
            if next(failures, False):
                raise UnavailableError("the disk is full")
            await poll(table, now)

        engine.poller.poll = full  # type: ignore[method-assign]
        engine.poller.poll_soon()
        handle = await executor.execute(napping, id="one")
        await handle.result()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


@pytest.mark.usefixtures("handled")
async def test_an_engine_that_has_ended_is_told_to_everybody(tmp_path: Path) -> None:
    """Whoever waits, and whoever comes later, gets the reason; nobody waits in vain."""
    # FINDINGS B2
    async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as executor, asyncio.timeout(20):
        handle = await executor.execute(asking, id="one")
        working = asyncio.create_task(executor.work())
        await asyncio.sleep(0.05)
        engine = await executor._driving.begun()

        def broken(now: int) -> bool:
            raise SystemExit("somebody has broken it")

        engine.poller.is_due = broken  # type: ignore[method-assign]
        engine.poller.poll_soon()
        with pytest.raises(BelugaError, match="somebody has broken it"):
            await working
        for again in (
            handle.result(),
            executor.resume("one"),
            executor.work(),
            executor.execute(asking, id="two"),
            executor.signal("one", "go"),
        ):
            with pytest.raises(BelugaError, match="somebody has broken it"):
                await again


async def test_a_run_that_ends_stays_ours_while_a_thread_works_for_it(tmp_path: Path) -> None:
    """Its row of `live` goes when the thread has ended, so that nothing can start beside it."""
    # FINDINGS E14
    GATE.clear()
    STUCK.clear()
    async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as executor:
        handle = await executor.execute(ending, id="one")
        await executor.wait("one", until="signal:go")
        await eventually_async(is_stuck)
        await executor.signal("one", "go")
        await handle.result()
        assert owners(executor) == [executor._driving.own_id]
        GATE.set()
        await eventually_async(lambda: is_free(executor))


@pytest.mark.parametrize("ended_by", ["its code", "terminate"])
async def test_who_leaves_with_such_a_thread_is_no_suspect(tmp_path: Path, ended_by: str) -> None:
    """The process has said goodbye, and keeps its lock until it ends."""
    # FINDINGS E14
    GATE.clear()
    STUCK.clear()
    async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as executor:
        handle = await executor.execute(ending, id="one")
        await executor.wait("one", until="signal:go")
        await eventually_async(is_stuck)
        if ended_by == "terminate":
            await executor.terminate("one")
        else:
            await executor.signal("one", "go")
            await handle.result()
        owner = executor._driving.own_id
    try:
        async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as other:
            assert owners(other) == [owner]
            (row,) = [row for row in other._store.owners() if row.id == owner]
            assert (row.role, row.workflows) == ("left", frozenset())
            assert (await other.describe("one")).owner is None
    finally:
        GATE.set()


def owners(executor: LocalExecutor) -> list[str | None]:
    with executor._store.database.reading() as db:
        return [row[0] for row in db.execute("SELECT owner FROM live")]


async def is_stuck() -> bool:
    return STUCK.is_set()


async def is_free(executor: LocalExecutor) -> bool:
    return owners(executor) == []


async def test_a_writer_that_waits_in_vain_is_told_by_whom(tmp_path: Path) -> None:
    """After its time the caller gets the holder's name, and the loop has run all the while."""
    async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as executor:
        await executor.execute(asking, id="one", detach=True)
        database = executor._store.database
        database.lock.acquire()
        acquire = database.lock.acquire
        database.lock.acquire = lambda timeout: acquire(0.1)  # type: ignore[method-assign]
        try:
            with pytest.raises(BusyError, match="process"):
                await executor.signal("one", "go", drive=False)
        finally:
            database.lock.acquire = acquire  # type: ignore[method-assign]
            database.lock.release()
        await executor.signal("one", "go", drive=False)
        assert executor._store.mail([1]) == {1}


@pytest.mark.parametrize("short_of", ["files", "threads"])
async def test_no_thread_to_write_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_of: str
) -> None:
    """Where the system has no file or thread left, that is said as such; nothing is written then.

    Also not later, by a thread that could be started after all.
    """

    def refused(*_: object, **__: object) -> None:
        if short_of == "files":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        raise RuntimeError("can't start new thread")

    done: list[str] = []
    database = Database(tmp_path / "state.db")
    writer = Writer(database)
    writer._usual_s = 1  # a disk that is so slow that everything goes to the thread
    with monkeypatch.context() as patched:
        place = "_adjust_thread_count" if short_of == "threads" else "__init__"
        patched.setattr(ThreadPoolExecutor, place, refused)
        with pytest.raises(UnavailableError, match=r"files|no thread left") as refusal:
            await writer.write(lambda: done.append("refused"))
    assert "ulimit" in str(refusal.value.hint)
    await writer.write(lambda: done.append("later"))
    writer.close()
    database.close()
    assert done == ["later"]


@pytest.mark.parametrize("place", ["poller.poll", "_take_turns", "poller.is_due"])
async def test_a_shortage_is_no_bug(
    tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that has to end because the system is short of something says of what."""

    def short(*_: object) -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as executor, asyncio.timeout(20):
        await executor.execute(asking, id="one")
        *where, name = place.split(".")
        setattr(reduce(getattr, where, await executor._driving.begun()), name, short)
        with pytest.raises(UnavailableError, match="may not open more files"):
            await executor.resume("one")
    assert "bug" not in caplog.text


async def test_who_leaves_while_it_begins_leaves_nothing(tmp_path: Path) -> None:
    """Its row among the owners waits for the lock: that is written, and taken back."""
    executor = LocalExecutor(tmp_path / "state.db", WORKFLOWS)
    async with executor:
        with lock_held(executor, HELD_S):
            async with loop_watched():
                beginning = asyncio.create_task(executor.execute(napping, id="new"))
                while not executor._driving.lane._handed_over:
                    await asyncio.sleep(0)
                await executor.__aexit__(None, None, None)
        await beginning
        await executor.__aenter__()
        assert (await executor.describe("new")).owner is None
        assert executor._store.owners() == []
        folder = executor._store.database.folder
        assert not [*folder.glob("*.owner"), *folder.glob("*.sock")]


async def test_who_cannot_be_woken_leaves_no_lock_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try to drive would keep a descriptor open, where there are too few of them."""

    def refused(*_: object) -> object:
        raise UnavailableError("no more sockets")

    async with LocalExecutor(tmp_path / "state.db", WORKFLOWS) as executor:
        with monkeypatch.context() as patched:
            patched.setattr(WakeSocket, "bind", refused)
            with pytest.raises(UnavailableError):
                await executor.execute(asking, id="one")
        assert not list(executor._store.database.folder.glob("*.owner"))
