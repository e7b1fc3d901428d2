"""What one process wishes at the same time, and what a resume that is over leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from belugawf import (
    ActivityTimeoutError,
    RunParkedError,
    UnavailableError,
    WorkflowContext,
    activity,
    workflow,
)
from belugawf.executor.options import EngineOptions
from belugawf.local.drive import demand
from belugawf.local.drive.demand import Stop
from belugawf.local.drive.engine import Engine
from belugawf.local.executor import LocalExecutor
from belugawf.local.file.database import WouldBlockError
from belugawf.local.store.rows import RunRow, Start, Started, Turn
from belugawf.model import events as e
from belugawf.model.errors import BelugaError
from belugawf.model.outcomes import Outcome

BLOCKING: list[bool] = []
STARTED: list[str] = []
THREAD_MAY_END = threading.Event()
GATE = asyncio.Event()


class AtWork:
    """How many attempts are at work now, and how many were at most."""

    now = most = calls = 0

    def __enter__(self) -> None:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *exc: object) -> None:
        self.now -= 1


AT_WORK = AtWork()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is at work, and in the end nothing hangs."""
    global AT_WORK, GATE
    AT_WORK, GATE = AtWork(), asyncio.Event()
    BLOCKING.clear()
    STARTED.clear()
    THREAD_MAY_END.clear()
    yield
    THREAD_MAY_END.set()


def let_end() -> None:
    """What is at work may end."""
    GATE.set()
    THREAD_MAY_END.set()


@activity
async def quick(name: str = "") -> None:
    STARTED.append(name)


@activity
def in_thread() -> None:
    with AT_WORK:
        THREAD_MAY_END.wait()


@activity
async def on_loop() -> None:
    with AT_WORK:
        try:
            await GATE.wait()
        finally:
            await GATE.wait()  # it cleans up, and that takes its time


@activity
async def endless() -> None:
    with AT_WORK:
        await asyncio.Event().wait()


WORK: dict[str, Callable[..., object]] = {
    "thread": in_thread,
    "loop": on_loop,
    "endless": endless,
}


@workflow
async def simple(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(quick)
    return "done"


@workflow
async def asking(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("go")


@workflow
async def two_things(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(in_thread)
    await ctx.execute_activity(quick, "two")


@activity(at_most_once=True)
async def only_once() -> None:
    STARTED.append("once")


@workflow
async def paying(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(only_once)


@workflow
async def napping(ctx: WorkflowContext) -> None:
    await ctx.sleep(2)


@workflow
async def working(ctx: WorkflowContext, where: str) -> None:
    await ctx.execute_activity(WORK[where])


@workflow
async def going_wrong(ctx: WorkflowContext) -> None:
    first = ctx.start_activity(on_loop)
    second = ctx.start_activity(quick, "second")
    third = ctx.start_activity(quick, "third")
    await second
    while BLOCKING:
        await asyncio.sleep(0)
    await asyncio.gather(first, third)


@workflow
async def lingering(ctx: WorkflowContext) -> None:
    with contextlib.suppress(ActivityTimeoutError):
        await ctx.execute_activity(in_thread, timeout=0.05)
    await ctx.wait_for_signal("go")


@workflow
async def blocking(ctx: WorkflowContext, where: str) -> str:
    at_work = ctx.start_activity(WORK[where])
    await ctx.wait_for_signal("go")
    while BLOCKING:
        await asyncio.sleep(0)
    await at_work
    return "went well"


def open_executor(tmp_path: Path, **options: object) -> LocalExecutor:
    workflows = [
        simple,
        asking,
        two_things,
        paying,
        napping,
        working,
        going_wrong,
        lingering,
        blocking,
    ]
    return LocalExecutor(tmp_path / "state.db", workflows, **options)  # type: ignore[arg-type]


def engine_of(executor: LocalExecutor) -> Engine:
    assert executor._engine is not None
    return executor._engine


async def is_at_work() -> None:
    while not AT_WORK.now:
        await asyncio.sleep(0.01)


async def rests_here(executor: LocalExecutor) -> None:
    """Until the only run is kept for a thread alone."""
    while not all(run.rests for run in engine_of(executor).table.runs.values()):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("named", [True, False])
async def test_a_resume_beside_a_claim_that_takes_long_drives_what_it_was_asked_for(
    tmp_path: Path, named: bool
) -> None:
    """Neither the claim that was under way nor the end of another resume takes back its wish."""
    async with open_executor(tmp_path) as executor, asyncio.timeout(20):
        await executor.execute(asking, id="a", detach=True)
        await executor.execute(simple, id="b", detach=True)
        claim, loop = executor._store.claim, asyncio.get_running_loop()
        claiming, may_claim = asyncio.Event(), threading.Event()

        def slow(runs: Mapping[int, str | None], owner: str) -> list[RunRow]:
            if asyncio._get_running_loop() is not None:
                raise WouldBlockError  # so that it is made off the loop
            loop.call_soon_threadsafe(claiming.set)
            may_claim.wait(10)
            return claim(runs, owner)

        executor._store.claim = slow  # type: ignore[method-assign]
        first = asyncio.create_task(executor.resume("a"))
        await claiming.wait()
        second = asyncio.create_task(executor.resume("b" if named else None))
        await asyncio.sleep(0.05)
        may_claim.set()
        await asyncio.gather(first, second)
        assert (await executor.describe("b")).status == "completed"


async def test_a_resume_beside_a_commit_that_lets_its_run_go_sleeps_as_long_as_it_was_told(
    tmp_path: Path,
) -> None:
    """The patience that comes while the run is let go counts all the same."""
    async with open_executor(tmp_path) as executor, asyncio.timeout(20):
        await executor.execute(napping, id="one", detach=True)
        commit, loop = executor._store.commit, asyncio.get_running_loop()
        releasing, may_commit = asyncio.Event(), threading.Event()

        def slow(
            turns: Sequence[Turn], owner: str, starts: Sequence[Start], **o: Any
        ) -> Sequence[Started]:
            if asyncio._get_running_loop() is not None:
                raise WouldBlockError
            if any(turn.release for turn in turns):
                loop.call_soon_threadsafe(releasing.set)
                may_commit.wait(10)
            return commit(turns, owner, starts, **o)

        executor._store.commit = slow  # type: ignore[method-assign]
        first = asyncio.create_task(executor.resume("one", patience=0))
        await releasing.wait()
        second = asyncio.create_task(executor.resume("one", patience=10))
        await asyncio.sleep(0.05)
        may_commit.set()
        await first
        assert [info.status for info in await second] == ["completed"]


async def test_going_on_after_a_stop_starts_nothing_of_a_refused_run(tmp_path: Path) -> None:
    """It is kept only until what is at work for it has ended."""
    BLOCKING.append(True)
    options = EngineOptions(concurrency=2)
    async with open_executor(tmp_path, options=options) as executor, asyncio.timeout(20):
        await executor.execute(going_wrong, id="one")
        while (await executor.describe("one")).problem is None:
            await asyncio.sleep(0.01)
        engine = engine_of(executor)
        assert engine.table.runs
        async with engine.request((), 0) as request:
            engine.stop(request, Stop.DRAIN)
        await asyncio.sleep(0.1)
        assert STARTED == ["second"]
        let_end()
        with pytest.raises(RunParkedError):
            await executor.handle("one").result()


async def test_a_refused_run_is_kept_while_something_is_at_work_for_it(tmp_path: Path) -> None:
    """Its activity ends, and is not executed again when the code is put right."""
    # FINDINGS E12, E13
    BLOCKING.append(True)
    async with (
        open_executor(tmp_path, options=EngineOptions(concurrency=2)) as executor,
        open_executor(tmp_path) as other,
        asyncio.timeout(20),
    ):
        await other.execute(going_wrong, id="one", detach=True)
        resuming = asyncio.create_task(executor.resume("one"))
        while (await other.describe("one")).problem is None:
            await asyncio.sleep(0.01)
        BLOCKING.clear()
        await other.resume("one")
        assert (AT_WORK.now, AT_WORK.calls, resuming.done()) == (1, 1, False)
        let_end()
        await resuming
        assert (await other.describe("one")).owner is None
        await other.resume("one")
        assert (AT_WORK.calls, (await other.describe("one")).status) == (1, "completed")


@pytest.mark.parametrize("where", ["thread", "loop"])
async def test_a_resume_that_is_over_starts_nothing_again_of_what_it_has_cut(
    tmp_path: Path, where: str
) -> None:
    """What cannot be stopped keeps its run here; it is let go when that ends, not driven on."""
    async with (
        open_executor(tmp_path) as executor,
        open_executor(tmp_path) as other,
        asyncio.timeout(20),
    ):
        await other.execute(working, id="one", input=where, detach=True)
        resuming = asyncio.create_task(executor.resume(max_time=0.2, grace=0.1))
        await is_at_work()
        await resuming
        await other.resume("one")
        await asyncio.sleep(0.1)
        assert (AT_WORK.now, AT_WORK.calls) == (1, 1)
        let_end()
        while (await other.describe("one")).owner is not None:
            await asyncio.sleep(0.01)
        await other.resume("one")
        assert (AT_WORK.most, (await other.describe("one")).status) == (1, "completed")


@pytest.mark.parametrize("after", [False, True])
async def test_runs_that_could_not_be_let_go_are_let_go_later(tmp_path: Path, after: bool) -> None:
    """Also where they are let go on disk and it is not known; and the executor can be used on."""
    async with (
        open_executor(tmp_path) as executor,
        open_executor(tmp_path) as other,
        asyncio.timeout(20),
    ):
        await other.execute(working, id="one", input="endless", detach=True)
        abandon, failures = executor._store.abandon, iter([True])

        def failing(runs: Sequence[int], owner: str, ends: Sequence[Outcome]) -> None:
            fails = next(failures, False)
            if after or not fails:
                abandon(runs, owner, ends)
            if fails:
                raise UnavailableError("the disk reports an error")

        executor._store.abandon = failing  # type: ignore[method-assign]
        with pytest.raises(UnavailableError):
            await executor.resume(max_time=0.2, grace=0.1)
        while (await other.describe("one")).owner is not None:
            await asyncio.sleep(0.01)
        await executor.execute(simple, id="two", detach=True)
        await executor.resume("two")
        assert (await executor.describe("two")).status == "completed"
        assert AT_WORK.calls == 1


@pytest.mark.parametrize("where", ["thread", "loop"])
async def test_a_refused_run_is_kept_until_nothing_is_at_work_for_it(
    tmp_path: Path, where: str
) -> None:
    """Who takes it up with mended code uses what its activity returned: it runs once."""
    BLOCKING.append(True)
    async with (
        open_executor(tmp_path) as executor,
        open_executor(tmp_path) as other,
        asyncio.timeout(60),
    ):
        await executor.execute(blocking, id="one", input=where)
        await is_at_work()
        await executor.signal("one", "go")
        while (await executor.describe("one")).problem is None:
            await asyncio.sleep(0.01)
        BLOCKING.clear()
        await other.resume("one", patience=0)
        assert (AT_WORK.now, AT_WORK.calls) == (1, 1)
        info = await other.describe("one")
        assert info.problem is not None and info.owner is not None

        let_end()
        while (await other.describe("one")).owner is not None:
            await engine_of(executor).changed(0.01)
        await other.resume("one")
        assert await other.handle("one").result() == "went well"
    assert (AT_WORK.calls, AT_WORK.most) == (1, 1)


async def test_a_resume_of_a_run_that_is_kept_for_a_thread_drives_it(tmp_path: Path) -> None:
    """It rests as long as nothing comes; then it is awaited as any other."""
    async with open_executor(tmp_path) as executor, asyncio.timeout(20):
        await executor.execute(lingering, id="one")
        await executor.wait("one", until="signal:go")
        await rests_here(executor)
        commit = executor._store.commit

        def slow_commit(
            turns: Sequence[Turn], owner: str, starts: Sequence[Start], **o: Any
        ) -> Sequence[Started]:
            if asyncio._get_running_loop() is not None:
                raise WouldBlockError  # so that it is made off the loop, which goes on meanwhile
            time.sleep(0.2)
            return commit(turns, owner, starts, **o)

        executor._store.commit = slow_commit  # type: ignore[method-assign]
        executor._store.send(1, "signal", name="go", payload="null")
        infos = await executor.resume("one")
        assert [info.status for info in infos] == ["completed"]
        let_end()


async def test_a_run_that_is_kept_for_a_thread_is_at_rest(tmp_path: Path) -> None:
    """Nobody waits for what hangs and cannot be stopped."""
    async with open_executor(tmp_path) as executor, asyncio.timeout(20):
        await executor.execute(lingering, id="one")
        await executor.wait("one", until="signal:go")
        await rests_here(executor)
        info = await executor.wait("one", until="rest")
        assert info.open and not THREAD_MAY_END.is_set()
        let_end()


@pytest.mark.parametrize("how", ["ends", "is cancelled"])
async def test_a_resume_whose_time_is_up_starts_nothing_more_though_another_is_over(
    tmp_path: Path, how: str
) -> None:
    """Each lets only itself go on: what the other has stopped stays so."""
    async with open_executor(tmp_path) as executor, asyncio.timeout(20):
        await executor.execute(two_things, id="limited", detach=True)
        await executor.execute(working, id="other", input="loop", detach=True)
        other = asyncio.create_task(executor.resume("other"))
        limited = asyncio.create_task(executor.resume("limited", max_time="0.2s"))
        while AT_WORK.now < 2:
            await asyncio.sleep(0.01)
        while not engine_of(executor).demand.stopped:
            await asyncio.sleep(0.01)
        if how == "ends":
            GATE.set()
        else:
            other.cancel()
        await asyncio.wait([other])
        let_end()
        await limited
        assert STARTED == []


async def test_of_two_that_work_one_goes_on_alone(tmp_path: Path) -> None:
    """The end of one does not end what the other drives, nor how both are known to others."""
    async with open_executor(tmp_path) as executor, asyncio.timeout(20):
        first = asyncio.create_task(executor.work())
        second = asyncio.create_task(executor.work())
        while (engine := executor._engine) is None or len(engine.demand._requests) < 3:
            await asyncio.sleep(0.01)
        while [owner.role for owner in executor._store.owners()] != ["worker"]:
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.wait([first])
        assert [owner.role for owner in executor._store.owners()] == ["worker"]
        handle = await executor.execute(simple, id="one", detach=True)
        while (await handle.describe()).open:
            await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.wait([second])
        assert [owner.role for owner in executor._store.owners()] == ["guest"]


async def test_what_is_on_record_as_started_starts_though_a_signal_ends_the_process(
    tmp_path: Path,
) -> None:
    """On a slow disk the signal comes while the start is written: it is drained as any other."""
    async with open_executor(tmp_path) as executor, asyncio.timeout(20):
        commit, loop = executor._store.commit, asyncio.get_running_loop()
        recording, may_commit = asyncio.Event(), threading.Event()

        def slow(
            turns: Sequence[Turn], owner: str, starts: Sequence[Start], **o: Any
        ) -> Sequence[Started]:
            if any(isinstance(ev, e.AttemptStarted) for t in turns for ev in t.events):
                if asyncio._get_running_loop() is not None:
                    raise WouldBlockError
                loop.call_soon_threadsafe(recording.set)
                may_commit.wait(10)
            return commit(turns, owner, starts, **o)

        executor._store.commit = slow  # type: ignore[method-assign]
        await executor.execute(paying, id="one", detach=True)
        working = asyncio.create_task(executor.work())
        await recording.wait()
        executor.interrupt()
        await asyncio.sleep(0.05)
        assert not working.done()
        may_commit.set()
        await working
        assert STARTED == ["once"]
        types = [type(event) for event in await executor.history("one")]
        assert e.ActivityCompleted in types and e.AttemptInterrupted not in types


@pytest.mark.parametrize("loop_goes_on", [True, False])
def test_what_is_kept_for_a_thread_is_free_when_that_has_ended(
    tmp_path: Path, loop_goes_on: bool
) -> None:
    """A program that has left its executor lives on, perhaps without an event loop."""

    async def begin() -> None:
        async with open_executor(tmp_path) as executor:
            await executor.execute(lingering, id="one")
            await executor.wait("one", until="signal:go")

    async def end() -> None:
        async with open_executor(tmp_path) as executor, asyncio.timeout(20):
            owner = (await executor.describe("one")).owner
            assert owner is not None and owner.alive
            THREAD_MAY_END.set()
            await executor.signal("one", "go")
            while (await executor.describe("one")).open:
                await executor.resume("one")
                await asyncio.sleep(0.01)
            assert await executor.handle("one").result() is None
            history = await executor.history("one")
            assert not any(isinstance(event, e.AttemptInterrupted) for event in history)

    async def both() -> None:
        await begin()
        await end()

    if loop_goes_on:
        asyncio.run(both())
    else:
        asyncio.run(begin())
        asyncio.run(end())


async def test_a_fault_while_runs_are_let_go_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits for the end of a resume that came to its limit does not wait for ever."""

    async def broken(runs: object) -> None:
        raise RuntimeError("broken")

    async with open_executor(tmp_path) as executor, asyncio.timeout(20):
        await executor.execute(working, id="one", input="loop", detach=True)
        engine = await executor._driving.begun()
        engine.table.leave = broken  # type: ignore[method-assign]
        with pytest.raises(BelugaError, match="broken"):
            await executor.resume("one", max_time=0.1, grace=0)
    assert "a bug in belugawf" in caplog.text


async def test_a_worker_that_cannot_say_so_begins_nothing(tmp_path: Path) -> None:
    """If the disk refuses that it is a worker, it ends, and no activity has begun for it."""
    async with open_executor(tmp_path) as executor, asyncio.timeout(20):
        await executor.execute(simple, id="one", detach=True)
        await executor._driving.begun()
        here = executor._driving.presence
        assert here is not None

        def refused(role: str, workflows: object) -> None:
            if asyncio._get_running_loop() is not None:
                raise WouldBlockError  # so that it is made off the loop, which goes on meanwhile
            raise UnavailableError("the disk is full")

        here.announce = refused  # type: ignore[method-assign]
        with pytest.raises(UnavailableError, match="the disk is full"):
            await executor.work()
        for _ in range(30):
            await asyncio.sleep(0.01)
        assert STARTED == []
        here.announce = lambda role, workflows: None  # type: ignore[method-assign]


async def test_a_resume_drives_more_than_one_look_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done when a look has found less than it had room for, and nothing is left."""
    monkeypatch.setattr(demand, "CLAIM_AT_ONCE", 3)
    async with open_executor(tmp_path) as executor:
        for number in range(10):
            await executor.execute(simple, id=f"{number}", detach=True)
        infos = await executor.resume()
        assert [info.status for info in infos] == ["completed"] * 10
