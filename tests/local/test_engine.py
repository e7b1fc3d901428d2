"""The engine on bad days: what one run does, a failed commit or a call beside it harms no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from belugawf import (
    ActivityInterruptedError,
    RetryPolicy,
    UnavailableError,
    WorkflowContext,
    WorkflowFailedError,
    activity,
    workflow,
)
from belugawf.local.engine import Engine
from belugawf.local.executor import LocalExecutor
from belugawf.local.options import EngineOptions
from belugawf.local.rows import Turn, Verdict
from belugawf.local.turns import DrivenRun
from belugawf.model import events as e
from belugawf.model.errors import WorkflowBlockedError

GATE = asyncio.Event()


@activity
async def nothing() -> None: ...


@activity
async def gated() -> None:
    await GATE.wait()


@activity(at_most_once=True)
async def endless() -> None:
    await asyncio.Event().wait()


@workflow
async def unwritable(ctx: WorkflowContext, what: str) -> None:
    match what:
        case "prompt":
            await ctx.wait_for_signal("go", prompt="\ud800")
        case "id":
            await ctx.execute_activity(nothing, id="\ud800")
        case _:
            await asyncio.sleep(1e12)


@workflow
async def patient(ctx: WorkflowContext) -> str:
    signal = await ctx.wait_for_signal("go")
    return str(signal.payload)


@workflow
async def giving_up(ctx: WorkflowContext) -> None:
    lasting = ctx.start_activity(endless)
    unwanted = ctx.start_activity(gated)
    await ctx.wait_for_signal("give up")
    unwanted.cancel()
    await ctx.wait_for_signal("end")
    lasting.cancel()


@activity(retry=RetryPolicy(max_attempts=2, initial_delay=0))
async def failing() -> None:
    raise ConnectionError


@workflow
async def changing_its_mind(ctx: WorkflowContext) -> str:
    trying = ctx.start_activity(failing)
    await ctx.wait_for_signal("stop trying")
    trying.cancel()
    await ctx.execute_activity(nothing)
    return "went on"


@workflow
async def trying_twice(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(failing, retry=RetryPolicy(max_attempts=2, initial_delay=0.2))


CALLS: list[int] = []
BLOCKING: list[bool] = []


@activity(at_most_once=True)
async def counted() -> None:
    CALLS.append(activity.info().attempt)
    await asyncio.Event().wait()


@workflow
async def blocked_once(ctx: WorkflowContext) -> str:
    calling = ctx.start_activity(counted)
    await ctx.wait_for_signal("block")
    while BLOCKING:
        await asyncio.sleep(0)
    try:
        await calling
    except ActivityInterruptedError:
        return "interrupted"
    return "done"


@workflow
async def talking(ctx: WorkflowContext) -> str:
    ctx.logger.warning("hello")
    signal = await ctx.wait_for_signal("go")
    return str(signal.payload)


def open_executor(
    tmp_path: Path, *workflows: Callable[..., object], **options: object
) -> LocalExecutor:
    return LocalExecutor(tmp_path / "state.db", workflows, **options)  # type: ignore[arg-type]


def engine_of(executor: LocalExecutor) -> Engine:
    assert executor._engine is not None
    return executor._engine


@pytest.mark.parametrize("what", ["prompt", "id", "moment"])
async def test_a_turn_that_cannot_be_written_is_its_runs_problem_alone(
    tmp_path: Path, what: str
) -> None:
    """What no row can hold (half a surrogate pair, year 33658) marks its run; others go on."""
    async with open_executor(tmp_path, unwritable, patient) as executor:
        await executor.execute(patient, id="good")
        await executor.execute(unwritable, id="bad", input=what)
        await executor.signal("good", "go", "fine")
        assert await executor.handle("good").result() == "fine"
        await executor.wait("bad", until="rest")
        problem = (await executor.describe("bad")).problem
        assert problem is not None and problem.code == "unwritable"


async def test_an_outcome_that_nobody_wants_is_used_up(tmp_path: Path) -> None:
    """An activity that ends while its cancellation is committed keeps no engine busy."""
    global GATE
    GATE = asyncio.Event()
    async with open_executor(tmp_path, giving_up) as executor:
        handle = await executor.execute(giving_up, id="one")
        await executor.wait("one", until="signal:give up")
        loop, commit = asyncio.get_running_loop(), executor._store.commit

        def slow_commit(turns: Sequence[Turn], owner: str) -> list[Verdict]:
            if any(isinstance(ev, e.ActivityCancelRequested) for t in turns for ev in t.events):
                loop.call_soon_threadsafe(GATE.set)
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop).result()
            return commit(turns, owner)

        executor._store.commit = slow_commit  # type: ignore[method-assign]
        await executor.signal("one", "give up")
        await executor.wait("one", until="signal:end")
        engine = engine_of(executor)
        async with asyncio.timeout(5):
            while any(run.outcomes for run in engine._runs.values()):
                await engine.changed(0.1)
        await executor.signal("one", "end")
        await handle.result()


async def test_a_start_that_is_no_longer_wanted_takes_no_room(tmp_path: Path) -> None:
    """A retry that is cancelled between its turn in the queue and its start blocks nothing."""
    options = EngineOptions(concurrency=1)
    async with open_executor(tmp_path, changing_its_mind, options=options) as executor:
        handle = await executor.execute(changing_its_mind, id="one")
        engine = engine_of(executor)
        start = engine._starter.start

        def start_and_tell(runs: Mapping[int, DrivenRun]) -> None:
            start(runs)
            for run in runs.values():
                if run.to_begin and not executor._store.mail():
                    executor._store.send(run.key, "signal", name="stop trying", payload="null")
                    engine.look()

        engine._starter.start = start_and_tell  # type: ignore[method-assign]
        async with asyncio.timeout(5):
            assert await handle.result() == "went on"


async def test_at_most_once_also_where_its_run_was_refused(tmp_path: Path) -> None:
    """A run that gets a problem while such an activity runs does not call it a second time."""
    CALLS.clear()
    BLOCKING.append(True)
    async with open_executor(tmp_path, blocked_once) as executor:
        await executor.execute(blocked_once, id="one")
        await executor.wait("one", until="signal:block")
        async with asyncio.timeout(5):
            while not CALLS:
                await engine_of(executor).changed(0.1)
        await executor.signal("one", "block")
        with pytest.raises(WorkflowBlockedError):
            await executor.handle("one").result()
    BLOCKING.clear()
    async with open_executor(tmp_path, blocked_once) as executor:
        async with asyncio.timeout(5):
            assert await executor.handle("one").result() == "interrupted"
    assert CALLS == [1]


async def test_a_log_handler_that_raises_stops_no_run(tmp_path: Path) -> None:
    """What a handler of the user's raises is logged; the turn stays committed and goes on."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no room")

    handler = Broken()
    logging.getLogger("belugawf.workflow").addHandler(handler)
    try:
        async with open_executor(tmp_path, talking) as executor:
            handle = await executor.execute(talking, id="one")
            await executor.wait("one", until="signal:go")
            await executor.signal("one", "go", "on")
            assert await handle.result() == "on"
    finally:
        logging.getLogger("belugawf.workflow").removeHandler(handler)


async def test_a_commit_of_unknown_outcome_counts_no_failure_twice(tmp_path: Path) -> None:
    """A commit that is reported as failed and is on disk: its failed attempt is known there."""
    async with open_executor(tmp_path, trying_twice) as executor:
        await executor.execute(trying_twice, id="one")
        engine, commit = engine_of(executor), executor._store.commit
        engine._persistent = True

        def uncertain(turns: Sequence[Turn], owner: str) -> list[Verdict]:
            verdicts = commit(turns, owner)
            if any(isinstance(ev, e.AttemptFailed) for t in turns for ev in t.events):
                executor._store.commit = commit  # type: ignore[method-assign]
                raise UnavailableError("the disk does not say whether it wrote")
            return verdicts

        executor._store.commit = uncertain  # type: ignore[method-assign]
        with pytest.raises(WorkflowFailedError):
            await executor.handle("one").result()
        history = await executor.history("one")
        failures = [ev.attempt for ev in history if isinstance(ev, e.AttemptFailed)]
        assert failures == [1]
