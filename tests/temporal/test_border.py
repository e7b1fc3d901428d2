"""The border on Temporal: user code reaches neither the worker nor another run (DESIGN 7a).

What code raises comes out as on one file; so most of these run on both providers and compare.
"""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import gc
import logging
import signal
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar
from pathlib import Path
from typing import Any

import pytest
from temporalio.worker._workflow import _WorkflowWorker

from belugawf import (
    ActivityError,
    Hooks,
    RetryPolicy,
    WorkflowContext,
    activity,
    new_executor,
    workflow,
)
from belugawf.executor import DurableExecutor, RunInfo
from belugawf.host import guard
from belugawf.host.border import interrupts
from belugawf.model import events as e
from belugawf.model.endings import RunParkedError
from belugawf.model.errors import QueryFailedError
from belugawf.temporal import environment
from tests.conformance.harness import PROVIDERS, Project, with_env
from tests.devserver import DevServer, new_namespace
from tests.host.test_attempt_border import RUDE
from tests.temporal.both import LONGEST_S, Both

RAISED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("x"),
    "StopIteration": lambda: StopIteration(5),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
}
# What plain asyncio only logs where a bare callback raises it.
LOGGED = {"ValueError", "StopIteration", "GeneratorExit", "CancelledError"}

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


def throw(name: str) -> Any:
    raise RAISED[name]()


# -- what workflow code raises -------------------------------------------------------------------


@activity
async def step(number: int) -> int:
    return number


@workflow
async def raises(ctx: WorkflowContext, name: str) -> None:
    await ctx.execute_activity(step, 1)
    throw(name)


@workflow
async def condition_raises(ctx: WorkflowContext, name: str) -> None:
    armed: list[int] = []
    wait = asyncio.create_task(ctx.wait_until(lambda: armed and throw(name)))
    armed.append(await ctx.execute_activity(step, 1))
    await wait


@workflow
async def callback_raises(ctx: WorkflowContext, name: str) -> str:
    asyncio.get_running_loop().call_soon(throw, name)
    await asyncio.sleep(0.01)
    return "went on"


@workflow
async def timer_raises(ctx: WorkflowContext, name: str) -> str:
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, throw, name)
    await asyncio.sleep(0.03)
    return "went on"


@workflow
async def callback_raises_at_the_end(ctx: WorkflowContext, name: str) -> str:
    await ctx.execute_activity(step, 1)
    asyncio.get_running_loop().call_soon(throw, name)
    return "went on"


@workflow
async def takes_turns(ctx: WorkflowContext) -> list[str]:
    """A lock, as one might write it."""
    log: list[str] = []
    busy = [True]

    async def enter(number: int) -> None:
        await ctx.wait_until(lambda: not busy)
        busy.append(True)
        log.append(f"in {number}")
        await asyncio.sleep(0.01)
        log.append(f"out {number}")
        busy.clear()

    tasks = [asyncio.create_task(enter(number)) for number in range(3)]
    await asyncio.sleep(0.01)
    busy.clear()
    await asyncio.gather(*tasks)
    return log


@workflow
async def is_asked(ctx: WorkflowContext) -> str:
    ctx.set_query("raises", throw)
    ctx.set_query("sets progress", lambda: ctx.set_progress("asked"))
    ctx.set_query("begins a task", lambda: asyncio.get_running_loop().call_soon(print))
    ctx.set_query("number", lambda: 7)
    await ctx.wait_for_signal("go")
    return "done"


@activity
async def raises_too(name: str) -> None:
    throw(name)


@workflow
async def activity_raises(ctx: WorkflowContext, name: str) -> Any:
    await ctx.execute_activity(raises_too, name)


BY_NAME = [
    raises,
    condition_raises,
    callback_raises,
    timer_raises,
    callback_raises_at_the_end,
    activity_raises,
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, temporal_server: DevServer) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("border")
    both = Both(folder / "state.db", temporal_server, [*BY_NAME, *OTHERS])
    yield both
    both.close()


async def outcomes(executor: DurableExecutor, function: Any) -> dict[str, Any]:
    """How a run ends for each thing raised; all of them at the same time."""
    handles = {
        name: await executor.execute(function, id=str(uuid.uuid4()), input=name) for name in RAISED
    }
    found = {}
    for name, handle in handles.items():
        info = await executor.wait(handle.run_id, max_wait=LONGEST_S)
        failed = info.error
        error = failed and (failed.type, failed.message, bool(failed.traceback))
        found[name] = (info.status, info.result, error)
    return found


@pytest.mark.parametrize("function", BY_NAME, ids=lambda function: function.__name__)
def test_what_code_raises_is_its_run_s(both: Both, function: Any) -> None:
    """It fails the run that raised it, is recorded, and ends neither loop nor worker."""
    # FINDINGS E5, B2, B3
    local, remote = (both.call(outcomes(x, function)) for x in both.executors.values())
    assert remote == local
    callback = function in (callback_raises, timer_raises, callback_raises_at_the_end)
    for name, (status, result, _) in local.items():
        goes_on = callback and name in LOGGED
        assert (status, result) == (("completed", "went on") if goes_on else ("failed", None))


def test_conditions_wake_one_at_a_time(both: Both) -> None:
    """Whoever is woken first may make it false for the others."""
    for executor in both.executors.values():
        log = both.call(finished(executor, takes_turns))
        assert log == ["in 0", "out 0", "in 1", "out 1", "in 2", "out 2"]


@workflow
async def counts_tasks(ctx: WorkflowContext) -> list[int]:
    counts = []

    async def waits() -> None:
        await ctx.wait_until(lambda: len(counts) == 2)

    waiting = asyncio.create_task(waits())
    working = asyncio.create_task(ctx.execute_activity(step, 1))
    for _ in range(2):
        await asyncio.sleep(0.001)
        counts.append(len(asyncio.all_tasks()) - (not working.done()))
    await asyncio.gather(waiting, working)
    return counts


held: list[asyncio.Task[Any]] = []


@workflow
async def keeps_a_task(ctx: WorkflowContext, name: str) -> None:
    async def fails() -> None:
        throw(name)

    held.append(asyncio.create_task(fails()))
    await ctx.execute_activity(step, 1)


OTHERS = [takes_turns, is_asked, counts_tasks, keeps_a_task]


def test_tasks_are_those_that_the_code_has_begun(both: Both) -> None:
    """So who cancels them all cancels none of ours."""
    for executor in both.executors.values():
        assert both.call(finished(executor, counts_tasks)) == [2, 2]


def test_a_task_that_is_never_asked_is_logged(both: Both, caplog: pytest.LogCaptureFixture) -> None:
    """When its run ends, if not before; whatever it has raised."""
    for executor in both.executors.values():
        for name in ("ValueError", "SystemExit", "KeyboardInterrupt"):
            caplog.clear()
            handle = both.call(executor.execute(keeps_a_task, id=str(uuid.uuid4()), input=name))
            info = both.call(executor.wait(handle.run_id, max_wait=LONGEST_S))
            both.call(finished(executor, takes_turns))  # what is logged comes after the commit
            assert info.status == "completed"
            [line] = [r for r in caplog.records if r.name.endswith("keeps_a_task")]
            assert "Task exception was never retrieved" in line.getMessage()
            assert name in str(line.exc_text)


def test_what_a_query_raises_is_its_caller_s(both: Both) -> None:
    """Whoever asks is told at once, in the same words; the run answers the next question."""
    # FINDINGS P13

    async def asked(executor: DurableExecutor) -> dict[str, Any]:
        handle = await executor.execute(is_asked, id=str(uuid.uuid4()))
        await executor.wait(handle.run_id, until="signal:go", max_wait=LONGEST_S)
        said: dict[str, Any] = {}
        for name in RAISED:
            with pytest.raises(QueryFailedError) as caught:
                await executor.query(handle.run_id, "raises", name)
            said[name] = (caught.value.message, caught.value.hint)
        for name in ("sets progress", "begins a task"):
            with pytest.raises(QueryFailedError) as caught:
                await executor.query(handle.run_id, name)
            said[name] = (caught.value.message, caught.value.hint)
        assert await executor.query(handle.run_id, "number") == 7
        await executor.signal(handle.run_id, "go")
        assert (await executor.wait(handle.run_id, max_wait=LONGEST_S)).status == "completed"
        return said

    local, remote = (both.call(asked(executor)) for executor in both.executors.values())
    assert remote == local
    assert remote["SystemExit"][0] == "query 'raises' raised SystemExit: 3"


# -- one worker, without the other provider ------------------------------------------------------


@asynccontextmanager
async def executing(
    server: DevServer, workflows: Any, **options: Any
) -> AsyncIterator[DurableExecutor]:
    namespace = await asyncio.to_thread(new_namespace, server.address)
    executor = new_executor(
        "temporal", host=server.address, namespace=namespace, workflows=workflows, **options
    )
    async with executor:
        yield executor


async def finished(executor: DurableExecutor, function: Any, **options: Any) -> Any:
    """What a new run of that workflow returns."""
    handle = await executor.execute(function, id=str(uuid.uuid4()), **options)
    info = await executor.wait(handle.run_id, max_wait=LONGEST_S)
    assert info.status == "completed", info
    return info.result


async def eventually(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    """What `look` returns, once that is something."""
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        found = await look()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(what)


# -- contexts ------------------------------------------------------------------------------------


def seen() -> list[Any]:
    return [tenant.get(), decimal.getcontext().prec]


def change() -> bool:
    tenant.set("changed")
    decimal.getcontext().prec = 3
    return True


@activity
async def looks_and_changes() -> list[Any]:
    found = seen()
    change()
    return found


@workflow
async def changes(ctx: WorkflowContext) -> list[Any]:
    found = [seen(), await ctx.execute_activity(looks_and_changes)]
    change()
    await ctx.wait_until(change)
    try:
        await ctx.wait_for_signal("go")
    finally:
        at_the_end.append(tenant.get())
        change()
    return found


at_the_end: list[str] = []


async def test_contexts_do_not_leak(temporal_server: DevServer) -> None:
    """A run and an attempt begin in the base context, whatever others have set, and the caller."""
    # FINDINGS B5
    base = Context()
    base.run(tenant.set, "base")
    tenant.set("caller")
    at_the_end.clear()
    # Every run is let go after each turn: its `finally` runs in a thread that others use next.
    async with executing(temporal_server, [changes], context=base, cache_runs=0) as executor:
        for number in range(3):
            run = f"run-{number}"
            await executor.execute(changes, id=run)
            await executor.wait(run, until="signal:go", max_wait=LONGEST_S)
        for number in range(3):
            run = f"run-{number}"
            await executor.signal(run, "go")
            info = await executor.wait(run, max_wait=LONGEST_S)
            assert info.result == [["base", 28], ["base", 28]]
    # As it is let go, and as it ends.
    assert set(at_the_end) == {"base", "changed"}
    assert seen() == ["caller", 28]


# -- the collector -------------------------------------------------------------------------------


@workflow
async def leaves_garbage(ctx: WorkflowContext) -> str:
    async def cleans_up() -> None:
        try:
            await ctx.execute_activity(step, 1)
        finally:
            tried.append("cleanup")
            try:
                ctx.execute_activity(step, 2).send(None)
            except Exception as error:
                tried.append(type(error).__name__)
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                tried.append("no loop")
            await asyncio.sleep(5)

    coroutine = cleans_up()
    coroutine.send(None)
    circle: list[Any] = [coroutine]
    circle.append(circle)
    del coroutine, circle
    await ctx.wait_for_signal("go")
    return "left"


@workflow
async def collects(ctx: WorkflowContext) -> int:
    gc.collect()
    return await ctx.execute_activity(step, 3)


tried: list[str] = []


async def test_finalisers_record_nothing(temporal_server: DevServer) -> None:
    """What the collector closes within a turn asks for nothing, neither here nor in its own run."""
    # FINDINGS B4
    tried.clear()
    gc.disable()
    try:
        async with executing(temporal_server, [leaves_garbage, collects]) as executor:
            await executor.execute(leaves_garbage, id="garbage")
            await executor.wait("garbage", until="signal:go", max_wait=LONGEST_S)
            await executor.execute(collects, id="collects")
            info = await executor.wait("collects", max_wait=LONGEST_S)
            assert (info.status, info.result) == ("completed", 3)
            assert tried == ["cleanup", "WorkflowCodeError", "no loop"]
            events = await executor.history("collects")
            kinds = (e.ActivityScheduled, e.TimerStarted)
            assert len([x for x in events if isinstance(x, kinds)]) == 1
            await executor.signal("garbage", "go")
            assert (await executor.wait("garbage", max_wait=LONGEST_S)).status == "completed"
            events = await executor.history("garbage")
            assert len([x for x in events if isinstance(x, e.ActivityScheduled)]) == 1
    finally:
        gc.enable()


# -- it ends -------------------------------------------------------------------------------------


@pytest.fixture
def quick_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns may take half a second: the test server's workflow tasks end after two."""
    monkeypatch.setattr(guard, "LIMIT_S", 0.4)
    monkeypatch.setattr(guard, "_TICK_S", 0.05)


spins = True


@workflow
async def blocks(ctx: WorkflowContext) -> str:
    while spins:
        pass
    return "done"


@workflow
async def spins_when_let_go(ctx: WorkflowContext, forever: bool) -> str:
    try:
        await ctx.wait_for_signal("go")
    finally:
        let_go.append(forever)
        while forever or not ctx.cancel_requested:
            pass
    return "done"


let_go: list[bool] = []


@workflow
async def adds(ctx: WorkflowContext) -> int:
    return await ctx.execute_activity(step, 5)


@workflow
async def query_blocks(ctx: WorkflowContext) -> str:
    def forever() -> None:
        while True:
            pass

    ctx.set_query("forever", forever)
    await ctx.wait_for_signal("go")
    return "done"


async def test_what_blocks_is_ended(temporal_server: DevServer, quick_guard: None) -> None:
    """A loop without end is a problem of its run that names the line, and not its worker's."""
    global spins
    spins = True
    async with executing(temporal_server, [blocks, adds]) as executor:
        await executor.execute(blocks, id="blocks")

        async def problem() -> Any:
            return (await executor.describe("blocks")).problem

        found = await eventually(problem, "it is found to block")
        assert found.code == "workflow_blocked"
        assert f"{__file__}:" in found.message
        assert "in blocks" in found.message
        assert await finished(executor, adds) == 5
        with pytest.raises(RunParkedError, match="blocked the loop"):
            await executor.wait("blocks", max_wait=LONGEST_S)
        spins = False

        async def result() -> Any:
            return (await executor.describe("blocks")).result

        assert await eventually(result, "it goes on") == "done"


def test_the_sdk_s_own_limit_has_this_name() -> None:
    """The worker sets it: else the SDK, which names no line, would be first."""
    assert "_deadlock_timeout_seconds" in _WorkflowWorker.__init__.__code__.co_names


async def test_a_query_that_blocks_is_ended(temporal_server: DevServer, quick_guard: None) -> None:
    """Whoever asks is told, and the run goes on."""
    async with executing(temporal_server, [query_blocks]) as executor:
        await executor.execute(query_blocks, id="asked")
        await executor.wait("asked", until="signal:go", max_wait=LONGEST_S)
        begun = time.monotonic()
        with pytest.raises(QueryFailedError, match="blocked"):
            await executor.query("asked", "forever")
        assert time.monotonic() - begun < 8
        await executor.signal("asked", "go")
        assert (await executor.wait("asked", max_wait=LONGEST_S)).result == "done"


async def test_evictions_end(temporal_server: DevServer, quick_guard: None) -> None:
    """Code that spins as it is let go holds up no turn, and not the worker's end."""
    # FINDINGS B10
    let_go.clear()
    begun = time.monotonic()
    async with executing(temporal_server, [spins_when_let_go, adds], cache_runs=0) as executor:
        for forever in (False, True):
            run = f"forever-{forever}"
            await executor.execute(spins_when_let_go, id=run, input=forever)
            await executor.wait(run, until="signal:go", max_wait=LONGEST_S)
        assert await finished(executor, adds) == 5
    assert set(let_go) == {False, True}
    assert time.monotonic() - begun < 12  # the SDK would leave it spinning after 15


@workflow
async def raises_when_let_go(ctx: WorkflowContext) -> str:
    async def one(name: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            unwound[name] = type(error).__name__
            await end(name)
            raise

    async def end(name: str) -> None:
        if name in RAISED:
            throw(name)
        while name == "waits again":
            with contextlib.suppress(BaseException):
                await asyncio.sleep(5)
        with contextlib.suppress(BaseException):
            await ctx.execute_activity(step, 1)
        ctx.logger.error("it is let go")

    tasks = [asyncio.create_task(one(name)) for name in (*RAISED, "waits again", "asks")]
    await ctx.wait_for_signal("go")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return "done"


unwound: dict[str, str] = {}


async def test_what_code_raises_as_it_is_let_go(
    temporal_server: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    """All its tasks are unwound, none is heard, and neither run nor worker notices."""
    # FINDINGS B2, B3, B10
    unwound.clear()
    async with executing(temporal_server, [raises_when_let_go, adds], cache_runs=0) as executor:
        await executor.execute(raises_when_let_go, id="rude")
        await executor.wait("rude", until="signal:go", max_wait=LONGEST_S)
        assert await finished(executor, adds) == 5

        async def all_unwound() -> bool:
            return len(unwound) == len(RAISED) + 2

        await eventually(all_unwound, "it is let go")
        await executor.signal("rude", "go")
        assert (await executor.wait("rude", max_wait=LONGEST_S)).result == "done"
        history = await executor.history("rude")
    assert set(unwound.values()) == {"RunEvicted"}
    assert not [
        event for event in history if isinstance(event, e.TimerStarted | e.ActivityScheduled)
    ]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# -- activities, hooks, log handlers -------------------------------------------------------------


@activity
async def cancels_everything() -> int:
    attempts.append(activity.info().attempt)
    for task in asyncio.all_tasks():
        if len(attempts) == 1 or task is not asyncio.current_task():
            task.cancel()
    await asyncio.sleep(0)
    return len(attempts)


@workflow
async def is_cancelled_with_everything(ctx: WorkflowContext) -> int:
    return await ctx.execute_activity(cancels_everything)


attempts: list[int] = []


def test_an_activity_that_cancels_all_tasks(worker_elsewhere: Any) -> None:
    """The worker goes on; the attempt that cancelled itself was interrupted, and starts again."""
    # FINDINGS B2, P13
    attempts.clear()
    executor, call = worker_elsewhere
    call(executor.execute(is_cancelled_with_everything, id="cancels"))

    def info() -> RunInfo | None:
        try:
            found: RunInfo = call(executor.describe("cancels"))
        except asyncio.CancelledError:  # that of this look; any other one ends the worker
            return None
        return found

    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        found = info()
        if found is not None and not found.open:
            break
        time.sleep(0.1)
    assert found is not None
    assert (found.status, found.result) == ("completed", 2)
    assert call(finished(executor, adds)) == 5


@pytest.fixture
def worker_elsewhere(temporal_server: DevServer) -> Iterator[Any]:
    """An executor with its worker on a loop in a thread, none of whose tasks are the test's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(work: Any) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result(LONGEST_S)
        except BaseException as error:
            if type(error).__name__ == "CancelledError":
                raise asyncio.CancelledError from None
            raise

    executor = new_executor(
        "temporal",
        host=temporal_server.address,
        namespace=new_namespace(temporal_server.address),
        workflows=[is_cancelled_with_everything, adds],
    )
    call(executor.__aenter__())
    yield executor, call
    call(executor.__aexit__(None, None, None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_worker_of_the_command_line_outlives_it_all(
    tmp_path: Path, temporal_server: DevServer, temporal_namespace: str
) -> None:
    """Cancelled tasks, stopped loops, SystemExit: each is an activity's, and the worker drains."""
    # FINDINGS B2, B3, P13
    provider = with_env(
        PROVIDERS["temporal"],
        BELUGAWF_TEMPORAL_HOST=temporal_server.address,
        BELUGAWF_TEMPORAL_NAMESPACE=temporal_namespace,
    )
    project = Project(tmp_path / "project", provider)
    try:
        project.write_module("rude", RUDE)
        worker = project.start("worker")
        project.cli("run", "cancelling", "--id", "c", "-d")
        project.cli("run", "rudely", "--id", "r", "-d")
        for run, result in (("c", "failed: CancelledError"), ("r", RUDELY)):
            project.cli("wait", run)
            assert project.result(run) == result
        assert project.count("all_tasks") == 4
        worker.send(signal.SIGTERM)
        worker.wait(check=143)
    finally:
        project.close()


RUDELY = [
    "SystemExit in a task",
    "KeyboardInterrupt in a task",
    "failed: SystemExit",
    "failed: KeyboardInterrupt",
    "stop",
    "failed: SystemExit",
    "failed: KeyboardInterrupt",
]


@workflow
async def fails_twice(ctx: WorkflowContext) -> list[str]:
    found = []
    for name in ("KeyboardInterrupt", "SystemExit"):
        try:
            await ctx.execute_activity(raises_too, name)
        except ActivityError as error:
            found.append(error.cause.type)
    return found


async def test_what_an_activity_raises_in_the_main_thread(temporal_server: DevServer) -> None:
    """It fails its attempt, and is no Ctrl-C."""
    # FINDINGS B3
    async with executing(temporal_server, [fails_twice]) as executor:
        assert await finished(executor, fails_twice) == ["KeyboardInterrupt", "SystemExit"]


@pytest.mark.parametrize("name", RAISED)
def test_a_module_that_raises_is_no_activity(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that looks for an activity's function may have to import a module."""
    module = tmp_path / f"module_{name}.py"
    module.write_text(f"import asyncio\nfrom asyncio import CancelledError\nraise {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with interrupts():
        assert environment._imported(f"module_{name}:work") is None


@workflow
async def logs(ctx: WorkflowContext) -> int:
    ctx.logger.error("a line")
    number: int = await ctx.execute_activity(flaky, retry=RetryPolicy(2, initial_delay=0.01))
    ctx.logger.error("another line")
    return number


@activity
async def flaky() -> int:
    if activity.info().attempt == 1:
        raise ConnectionError("no line")
    return activity.info().attempt


class Raising(logging.Handler):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.raises = name
        self.records: list[logging.LogRecord] = []

    def handle(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        throw(self.raises)
        return True


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "CancelledError"])
async def test_hooks_and_log_handlers_that_raise(temporal_server: DevServer, name: str) -> None:
    """Whatever they raise touches neither their run nor the worker."""
    # FINDINGS B2
    told: list[str] = []

    def sync(event: Mapping[str, Any]) -> None:
        told.append("sync")
        throw(name)

    async def later(event: Mapping[str, Any]) -> None:
        told.append("async")
        throw(name)

    hooks = Hooks(
        on_workflow_start=sync,
        on_activity_start=later,
        on_retry=sync,
        on_activity_complete=later,
        on_workflow_complete=sync,
    )
    handler = Raising(name)
    log = logging.getLogger("belugawf.workflow.logs")
    log.addHandler(handler)
    try:
        async with executing(temporal_server, [logs], hooks=hooks) as executor:
            assert await finished(executor, logs) == 2
            assert await finished(executor, logs) == 2
    finally:
        log.removeHandler(handler)
    assert len(handler.records) == 4
    assert (told.count("sync"), told.count("async")) == (6, 6)
