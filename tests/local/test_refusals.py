"""A turn that cannot be taken: what has ended is kept, and what is in flight ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from belugawf import ApplicationError, RetryPolicy, WorkflowContext, activity, workflow
from belugawf.authoring.runtime import SignalWait
from belugawf.local.executor import LocalExecutor
from belugawf.local.file.database import WouldBlockError
from belugawf.model import events as e
from belugawf.model.errors import ActivityError, BelugaError

CALLS: list[str] = []
GATE = threading.Event()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing was called yet."""
    CALLS.clear()
    GATE.clear()
    yield
    GATE.set()


@activity
async def pay() -> str:
    CALLS.append("pay")
    return "paid"


@activity
async def fail() -> str:
    CALLS.append("fail")
    raise ApplicationError("no money", non_retryable=True)


@activity
async def hang() -> str:
    CALLS.append("hang")
    await asyncio.sleep(3600)
    return "never"


@activity
async def flaky() -> str:
    CALLS.append("flaky")
    if len(CALLS) == 1:
        raise ApplicationError("not yet")
    return "at last"


@activity
def hold_on() -> str:
    CALLS.append("hold on")
    GATE.wait()
    return "held"


@workflow
async def holds_on(ctx: WorkflowContext) -> str:
    return await ctx.execute_activity(hold_on)


@workflow
async def waits_for_ada(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("ada")


@activity
async def pay_beside() -> None:
    while "slow" not in CALLS:
        await asyncio.sleep(0.001)
    CALLS.append("pay")


@activity
def slow() -> str:
    CALLS.append("slow")
    GATE.wait(60)
    return "slowly"


ENDS: dict[str, tuple[Callable[..., Any], dict[str, Any], str, int]] = {
    "completed": (pay, {}, "paid", 1),
    "failed": (fail, {}, "no money", 1),
    "timed out": (hang, {"timeout": 0.05}, "timeout of 50ms is over", 1),
    "once": (pay, {"at_most_once": True}, "paid", 1),
    "failed, tried again": (
        flaky,
        {"retry": RetryPolicy(max_attempts=2, initial_delay=0.01)},
        "at last",
        2,
    ),
}


def unchecked_wait(ctx: WorkflowContext, name: str, prompt: Any) -> None:
    """Ask for a wait with what the context itself would have refused."""
    ctx._runtime.begin_wait(
        SignalWait(name=name, timeout=None, prompt=prompt, expected=None, schema=None, location="")
    )


def workflows(end: str, refusal: str) -> Callable[..., Any]:
    """A workflow whose turn after that end is refused in that way; `None`: the sound one."""
    function, options, _, _ = ENDS[end]

    @workflow(name="flow")
    async def flow(ctx: WorkflowContext) -> str:
        try:
            result: str = await ctx.execute_activity(function, **options)
        except ActivityError as error:
            result = str(error.cause.message if error.cause else error)
        if refusal == "unknown activity":
            await ctx.execute_activity("nobody_has_this")
        elif refusal == "blocked":
            while True:
                await asyncio.sleep(0)
        elif refusal == "unwritable":
            unchecked_wait(ctx, "\ud800", None)
            await ctx.wait_for_signal("go")
        elif refusal == "no text":
            unchecked_wait(ctx, "go", date(2026, 1, 1))
            await ctx.wait_for_signal("go")
        return result

    return flow


def open_executor(path: Path, *flows: Callable[..., Any]) -> LocalExecutor:
    return LocalExecutor(path / "state.db", list(flows))


@pytest.mark.parametrize("refusal", ["unknown activity", "blocked", "unwritable", "no text"])
@pytest.mark.parametrize("end", ENDS)
async def test_what_has_ended_is_not_executed_again(tmp_path: Path, end: str, refusal: str) -> None:
    """However often the turn is refused: the end waits in the inbox until the code is fixed."""
    # FINDINGS E12, E3
    _, _, result, calls = ENDS[end]
    broken = workflows(end, refusal)
    async with open_executor(tmp_path, broken) as executor:
        handle = await executor.execute(broken, id="one", detach=True)
    for _ in range(4):
        async with open_executor(tmp_path, broken) as executor:
            (info,) = await executor.resume("one")
            assert info.status == "running"
            assert info.problem is not None
    assert len(CALLS) == calls
    async with open_executor(tmp_path, workflows(end, "")) as executor:
        (info,) = await executor.resume("one")
        assert (info.status, info.problem) == ("completed", None)
        assert info.result == result
        history = await executor.history(handle.id)
    assert len(CALLS) == calls
    assert [event.position for event in history] == list(range(1, len(history) + 1))


async def test_an_unwritable_row_is_one_runs_problem(tmp_path: Path) -> None:
    """The other runs of the same commit go on, and so does the executor."""
    # FINDINGS E3
    broken, sound = workflows("completed", "no text"), simple
    async with open_executor(tmp_path, broken, sound) as executor, asyncio.timeout(30):
        bad = await executor.execute(broken, id="bad")
        handles = [await executor.execute(sound, id=f"good {n}") for n in range(10)]
        assert [await handle.result() for handle in handles] == ["paid"] * 10
        with pytest.raises(BelugaError):
            await bad.result()
        assert (await executor.describe("bad")).problem is not None


@workflow
async def simple(ctx: WorkflowContext) -> str:
    result: str = await ctx.execute_activity(pay)
    return result


@workflow(name="forked")
async def forked_broken(ctx: WorkflowContext) -> list[str]:
    beside = ctx.start_activity(slow, at_most_once=True)
    await ctx.execute_activity(pay_beside)
    await ctx.execute_activity("nobody_has_this")
    return [await beside]


@workflow(name="forked")
async def forked(ctx: WorkflowContext) -> list[str]:
    beside = ctx.start_activity(slow, at_most_once=True)
    await ctx.execute_activity(pay_beside)
    return [await beside]


async def test_what_may_run_only_once_is_not_cut_by_a_refusal(tmp_path: Path) -> None:
    """It runs on beside the refused turn, keeps its run here, and its result is used later."""
    # FINDINGS E13
    async with open_executor(tmp_path, forked_broken) as executor, asyncio.timeout(30):
        await executor.execute(forked_broken, id="one", detach=True)
        resuming = asyncio.create_task(executor.resume("one"))
        while (await executor.describe("one")).problem is None:
            await asyncio.sleep(0.01)
        assert (await executor.describe("one")).owner is not None
        GATE.set()
        await resuming
        assert (await executor.describe("one")).owner is None
    async with open_executor(tmp_path, forked) as executor:
        (info,) = await executor.resume("one")
    assert (info.status, info.result) == ("completed", ["slowly"])
    assert sorted(CALLS) == ["pay", "slow"]


async def test_a_run_that_is_ended_keeps_what_was_not_read(tmp_path: Path) -> None:
    """Terminated over the end of an attempt in its inbox, which stands in the history before."""
    # FINDINGS E12
    broken = workflows("completed", "unknown activity")
    async with open_executor(tmp_path, broken) as executor:
        await executor.execute(broken, id="one", detach=True)
        await executor.resume("one")
        await executor.terminate("one")
        history = await executor.history("one")
    assert [type(event).__name__ for event in history[-2:]] == [
        "ActivityCompleted",
        "WorkflowTerminated",
    ]
    assert isinstance(history[-2], e.ActivityCompleted)
    assert history[-2].unread


@workflow(name="asking")
async def asking(ctx: WorkflowContext) -> list[Any]:
    return [(await ctx.wait_for_signal(name)).payload for name in ("a", "b")]


@workflow(name="asking")
async def asking_otherwise(ctx: WorkflowContext) -> list[Any]:
    return [(await ctx.wait_for_signal(name)).payload for name in ("x", "y")]


async def test_a_refusal_ends_when_somebody_else_has_moved_the_run_on(tmp_path: Path) -> None:
    """A worker with old code refused it; what comes after others took it up is looked at again."""
    # FINDINGS E1
    async with (
        open_executor(tmp_path, asking_otherwise) as old,
        open_executor(tmp_path) as sender,
        asyncio.timeout(30),
    ):
        async with open_executor(tmp_path, asking) as new:
            await new.execute(asking, id="one")
            await new.wait("one", until="signal:a")
        worker = asyncio.create_task(old.work())
        await sender.signal("one", "a", 1)
        while (await sender.describe("one")).problem is None:
            await asyncio.sleep(0.01)
        async with open_executor(tmp_path, asking) as new:
            (info,) = await new.resume("one")
        assert (info.problem, info.waiting_for[0].name) == (None, "b")
        await sender.signal("one", "b", 2)
        while (await sender.describe("one")).problem is None:
            await asyncio.sleep(0.01)
        # Those who refuse it are not relied on: a sender that has the code takes it up.
        async with open_executor(tmp_path, asking) as new:
            delivery = await new.signal("one", "c", 3)
            assert delivery.driven_by is None
            assert await new.handle("one").result() == [1, 2]
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_a_refusal_that_is_late_marks_no_run_that_was_moved_on(tmp_path: Path) -> None:
    """A worker without its module saw the run first, and comes to write when another drives it."""
    async with (
        LocalExecutor(tmp_path / "state.db", [waits_for_ada]) as other,
        LocalExecutor(tmp_path / "state.db", [holds_on]) as executor,
        asyncio.timeout(20),
    ):
        refuse, loop = other._store.refuse, asyncio.get_running_loop()
        refusing, may_refuse = asyncio.Event(), threading.Event()

        def slow(*args: Any, **more: Any) -> set[int]:
            if asyncio._get_running_loop() is not None:
                raise WouldBlockError  # so that it is made off the loop
            loop.call_soon_threadsafe(refusing.set)
            may_refuse.wait(10)
            return refuse(*args, **more)

        other._store.refuse = slow  # type: ignore[method-assign]
        handle = await executor.execute(holds_on, id="one", detach=True)
        resuming = asyncio.create_task(other.resume())
        await refusing.wait()
        working = asyncio.create_task(executor.resume("one"))
        while not CALLS:
            await asyncio.sleep(0.01)
        may_refuse.set()
        await resuming
        problem = (await handle.describe()).problem
        GATE.set()
        await working
        assert problem is None
        assert await handle.result() == "held"
