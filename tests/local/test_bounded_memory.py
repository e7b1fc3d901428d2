"""What a process keeps in memory is bounded, however many runs wait or fall due at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from belugawf import WorkflowContext, activity, workflow
from belugawf.executor.options import EngineOptions
from belugawf.local.drive import cache, demand, table
from belugawf.local.drive.engine import Engine
from belugawf.local.executor import LocalExecutor

GATES: dict[str, asyncio.Event] = {}


@activity
async def gated(gate: str) -> str:
    await GATES[gate].wait()
    return gate


@workflow
async def working(ctx: WorkflowContext, gate: str) -> str:
    return await ctx.execute_activity(gated, gate)


@workflow
async def listening(ctx: WorkflowContext) -> list[int]:
    return [(await ctx.wait_for_signal("go")).payload for _ in range(3)]


async def engine_of(executor: LocalExecutor) -> Engine:
    return await executor._driving.begun()


async def until(condition: Callable[[], bool]) -> None:
    """Until it holds, which the engine brings about."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def replayed(engine: Engine) -> int:
    """How many of the driven runs are in memory with the state of their code."""
    return sum(run.state is not None for run in engine.table.runs.values())


async def test_runs_that_wait(tmp_path: Path) -> None:
    """None is driven; of the state of their code `cache_runs` of them, the last used."""
    options = EngineOptions(cache_runs=3)
    async with LocalExecutor(tmp_path / "state.db", [listening], options=options) as executor:
        engine = await engine_of(executor)

        async def rests(number: int) -> None:
            await executor.wait(f"run-{number}", until="rest")

        for number in range(6):
            await executor.execute(listening, id=f"run-{number}")
            await rests(number)
        first = executor._resolve("run-0").key
        assert engine.table.runs == {}
        assert list(engine.table.cache._cached) == [first + 3, first + 4, first + 5]
        dropped = engine.table.cache._cached[first + 4].replayer
        for number in (3, 0):
            await executor.signal(f"run-{number}", "go", 1)
            await rests(number)
        # The longest idle went: not the third, which was used since.
        assert list(engine.table.cache._cached) == [first + 5, first + 3, first]
        assert dropped._loop.evicting


async def test_a_run_in_memory_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What drives it has it in memory; what looks at it reads only what is open."""
    async with LocalExecutor(tmp_path / "state.db", [listening]) as executor:
        store = executor._store
        handle = await executor.execute(listening, id="one")
        await executor.wait("one", until="rest")
        monkeypatch.setattr(store, "history", None)
        for number in range(3):
            await executor.signal("one", "go", number)
            await executor.wait("one", until="rest")
        assert await handle.result() == [0, 1, 2]


async def test_runs_in_motion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker claims no more while it drives many; a run that is named is driven all the same."""
    monkeypatch.setattr(demand, "MOST_DRIVEN", 4)
    monkeypatch.setattr(demand, "CLAIM_AT_ONCE", 3)
    GATES.update(many=asyncio.Event(), named=asyncio.Event())
    async with LocalExecutor(tmp_path / "state.db", [working]) as executor:
        handles = [
            await executor.execute(working, id=f"run-{number}", input="many", detach=True)
            for number in range(10)
        ]
        engine = await engine_of(executor)
        most = 0

        def counted() -> bool:
            nonlocal most
            most = max(most, len(engine.table.runs))
            return most >= 4 and executor.in_flight() >= 4

        worker = asyncio.create_task(executor.work())
        await until(counted)
        assert most == 4
        named = await executor.execute(working, id="named", input="named")
        GATES["named"].set()
        assert await named.result() == "named"
        assert len(engine.table.runs) == 4
        GATES["many"].set()
        async with asyncio.timeout(60):
            for handle in handles:
                assert await handle.result() == "many"
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker


async def test_state_of_runs_in_motion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many driven, the code's state is dropped after a turn, and replayed for the next."""
    monkeypatch.setattr(cache, "MOST_REPLAYED", 2)
    GATES.update(many=asyncio.Event())
    async with LocalExecutor(tmp_path / "state.db", [working]) as executor:
        handles = [
            await executor.execute(working, id=f"run-{number}", input="many") for number in range(8)
        ]
        engine = await engine_of(executor)
        await until(lambda: executor.in_flight() == 8 and replayed(engine) <= 2)
        GATES["many"].set()
        async with asyncio.timeout(60):
            for handle in handles:
                assert await handle.result() == "many"


async def test_alarms_of_runs_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ended leaves no alarm for its deadline, which may be months away."""
    monkeypatch.setattr(table, "_MANY_MOMENTS", 10)
    GATES["open"] = asyncio.Event()
    GATES["open"].set()
    async with LocalExecutor(tmp_path / "state.db", [working]) as executor:
        for _ in range(100):
            handle = await executor.execute(working, input="open", timeout="90d")
            await handle.result()
        assert len((await engine_of(executor)).table.ready._moments) <= 10


async def test_runs_that_others_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has started them follows them, until they have ended: also elsewhere."""
    monkeypatch.setattr(demand, "MANY_NAMED", 5)
    async with (
        LocalExecutor(tmp_path / "state.db", [listening]) as executor,
        LocalExecutor(tmp_path / "state.db", [listening]) as other,
    ):
        for number in range(50):
            await executor.execute(listening, id=str(number))
            await other.terminate(str(number))
        engine = await engine_of(executor)
        engine.poller.poll_soon()
        await until(lambda: len(engine.demand.own.named or ()) <= 10)
