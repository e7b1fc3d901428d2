"""A commit whose outcome is unknown, and a disk that fails at the wrong moment, strand no run.

Each of these was found by the simulator (tests/simulation).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from belugawf import RetryPolicy, UnavailableError, WorkflowContext, activity, workflow
from belugawf.local.drive import ticking
from belugawf.local.executor import LocalExecutor
from belugawf.local.store.rows import Start, Turn
from belugawf.model import events as e

RUNNING: list[int] = []


@activity
async def counted() -> int:
    RUNNING.append(1)
    await asyncio.sleep(0.2)
    return len(RUNNING)


@workflow
async def one_step(ctx: WorkflowContext) -> int:
    return int(await ctx.execute_activity(counted))


@workflow
async def asking(ctx: WorkflowContext) -> int:
    await ctx.sleep(0.05)
    await ctx.wait_for_signal("go")
    return int(await ctx.execute_activity(counted))


@activity(retry=RetryPolicy(max_attempts=2, initial_delay=0.01))
async def twice() -> int:
    if activity.info().attempt == 1:
        activity.heartbeat("half")
        raise ConnectionError
    return len(activity.info().heartbeat_details)


@workflow
async def trying_twice(ctx: WorkflowContext) -> int:
    return int(await ctx.execute_activity(twice))


@activity(at_most_once=True)
async def once() -> int:
    return await counted()


@workflow
async def trying_once(ctx: WorkflowContext) -> int:
    return int(await ctx.execute_activity(once))


STOPPED: list[int] = []


@activity
async def endless(number: int) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        STOPPED.append(number)
        raise


@workflow
async def changing_its_mind(ctx: WorkflowContext) -> None:
    unwanted, wanted = ctx.start_activity(endless, 1), ctx.start_activity(endless, 2)
    await ctx.sleep(0.05)
    unwanted.cancel()
    await wanted


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the disk refused, work goes on at once."""
    monkeypatch.setattr(ticking, "_FIRST_PAUSE_S", 0.01)
    RUNNING.clear()
    STOPPED.clear()


def open_executor(tmp_path: Path) -> LocalExecutor:
    workflows = [one_step, asking, trying_twice, trying_once, changing_its_mind]
    return LocalExecutor(tmp_path / "state.db", workflows)


def failing_once(method: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """The method, which once says that the disk has failed: before or after it has done it."""
    failures = iter([True])

    def call(*args: Any, **options: Any) -> Any:
        if next(failures, False):
            if after:
                method(*args, **options)
            raise UnavailableError("the disk reports an error")
        return method(*args, **options)

    return call


async def ended(executor: LocalExecutor, *ids: str) -> None:
    """Wait until these runs have ended, as a worker drives them; raises TimeoutError."""
    working = asyncio.create_task(executor.work())
    async with asyncio.timeout(60):
        for name in ids:
            await executor.wait(name, until="done")
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_claim_that_seemed_to_fail_is_found_again(tmp_path: Path) -> None:
    """The run is ours on disk, and we do not know it: nobody else may take it, so we do."""
    async with open_executor(tmp_path) as executor:
        await executor.execute("one_step", id="one", detach=True)
        store = executor._store
        store.claim = failing_once(store.claim, after=True)  # type: ignore[method-assign]
        await ended(executor, "one")
    assert RUNNING == [1]


async def test_a_dead_owner_who_cannot_be_forgotten_strands_no_run(tmp_path: Path) -> None:
    """All runs of the dead one are claimed by one commit; all of them are driven."""
    async with open_executor(tmp_path) as executor:
        for name in ("one", "two"):
            await executor.execute("one_step", id=name, detach=True)
        store = executor._store
        with store.database.write() as db:
            db.execute("UPDATE live SET owner = ?", ("0" * 32,))
        store.forget_dead = failing_once(store.forget_dead, after=False)  # type: ignore[method-assign]
        await ended(executor, "one", "two")


async def test_a_run_let_go_unknowingly_is_not_driven_by_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that let it go seemed to fail: what somebody else began is not begun here."""
    monkeypatch.setattr(ticking, "_FIRST_PAUSE_S", 0.1)  # time for the other
    async with open_executor(tmp_path) as first, open_executor(tmp_path) as second:
        store = first._store
        commit = store.commit

        def uncertain(turns: Sequence[Turn], owner: str, starts: Sequence[Start], **o: Any) -> Any:
            committed = commit(turns, owner, starts, **o)
            if any(turn.release for turn in turns):
                store.commit = commit  # type: ignore[method-assign]
                taken.set()
                raise UnavailableError("the disk does not say whether it wrote")
            return committed

        taken = asyncio.Event()
        store.commit = uncertain  # type: ignore[method-assign]
        working = asyncio.create_task(first.work())
        await first.execute("asking", id="one", detach=True)
        await taken.wait()
        second._store.send(1, "signal", name="go", payload="null")  # and nobody is woken
        async with asyncio.timeout(60):
            await second.resume("one")
            assert (await second.wait("one", until="done")).result == 1
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert RUNNING == [1]


async def test_an_attempt_on_record_begins_also_where_questions_fail(tmp_path: Path) -> None:
    """What the last attempt reported is asked before the next one's start is on record."""
    async with open_executor(tmp_path) as executor:
        await executor.execute("trying_twice", id="one", detach=True)
        store = executor._store
        store.heartbeat = failing_once(store.heartbeat, after=False)  # type: ignore[method-assign]
        await ended(executor, "one")
        assert (await executor.describe("one")).result == len("half")


@pytest.mark.parametrize("question", ["by_key", "history"])
async def test_a_question_that_fails_is_no_problem_of_the_run(
    tmp_path: Path, question: str
) -> None:
    """The disk's errors pause the worker, which then goes on with the run that it read."""
    async with open_executor(tmp_path) as executor, open_executor(tmp_path) as other:
        await other.execute("one_step", id="one", detach=True)
        store = executor._store
        setattr(store, question, failing_once(getattr(store, question), after=False))
        working = asyncio.create_task(executor.work())
        async with asyncio.timeout(60):
            while (info := await other.describe("one")).open:
                assert info.problem is None
                await asyncio.sleep(0.01)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert RUNNING == [1]


async def test_what_an_attempt_reported_is_saved_when_the_disk_is_back(tmp_path: Path) -> None:
    """The next attempt gets it, though it could not be saved at first."""
    async with open_executor(tmp_path) as executor:
        await executor.execute("trying_twice", id="one", detach=True)
        store = executor._store
        store.save_heartbeats = failing_once(  # type: ignore[method-assign]
            store.save_heartbeats, after=False
        )
        await ended(executor, "one")
        assert (await executor.describe("one")).result == len("half")


def doubt_commit_of(executor: LocalExecutor, kind: type[e.Event]) -> Iterator[bool]:
    """The first commit of such an event is made, and seems to fail; that is used up then."""
    store = executor._store
    commit, failures = store.commit, iter([True])

    def uncertain(turns: Sequence[Turn], owner: str, starts: Sequence[Start], **o: Any) -> Any:
        committed = commit(turns, owner, starts, **o)
        events = [event for turn in turns for event in turn.events]
        if any(isinstance(x, kind) for x in events) and next(failures, False):
            raise UnavailableError("the disk does not say whether it wrote")
        return committed

    store.commit = uncertain  # type: ignore[method-assign]
    return failures


@pytest.mark.parametrize("name", ["trying_once", "trying_twice"])
async def test_a_start_that_is_found_on_record_happens(tmp_path: Path, name: str) -> None:
    """The commit of its AttemptStarted seemed to fail: it is ours, so it begins, noted once."""
    async with open_executor(tmp_path) as executor:
        await executor.execute(name, id="one", detach=True)
        failures = doubt_commit_of(executor, e.AttemptStarted)
        await ended(executor, "one")
        assert not [*failures]
        assert (await executor.describe("one")).status == "completed"
        kinds = [type(event).__name__ for event in await executor.history("one")]
    assert kinds.count("AttemptStarted") == 1
    assert "AttemptInterrupted" not in kinds


async def test_what_was_cancelled_by_a_doubtful_commit_is_stopped(tmp_path: Path) -> None:
    """The disk says that nobody waits for that activity: it is told, when its run is read again."""
    async with open_executor(tmp_path) as executor:
        await executor.execute("changing_its_mind", id="one", detach=True)
        failures = doubt_commit_of(executor, e.ActivityCancelRequested)
        working = asyncio.create_task(executor.work())
        try:
            async with asyncio.timeout(20):
                while not STOPPED:
                    await asyncio.sleep(0.01)
            assert (STOPPED, [*failures]) == ([1], [])
        finally:
            await executor.terminate("one")
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
