"""What user code does in one attempt, hook or task reaches no other, and not the process.

Guards FINDINGS A4, B1, B2, B5 and B12.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from belugawf import Hooks, RetryPolicy, WorkflowContext, activity, workflow
from belugawf.executor.blocking import BlockingExecutor
from belugawf.host import hooks as hooks_module
from belugawf.host.attempt import AttemptSpec
from belugawf.host.attempts import AttemptRunner
from belugawf.host.clock import SystemClock
from belugawf.host.loops import hidden_task, run_until_done
from belugawf.host.threads import DaemonPool
from belugawf.local.executor import LocalExecutor
from belugawf.model.durations import SECOND_NS
from belugawf.model.outcomes import Outcome
from belugawf.model.policy import ActivityOptions
from tests.conformance.harness import PROVIDERS, Project, wait_for


class UnspeakableError(Exception):
    """Whose text, cause and attributes raise what nobody expects."""

    def __str__(self) -> str:
        raise SystemExit("in __str__")

    def __getattribute__(self, name: str) -> Any:
        raise GeneratorExit(name)


def deep_chain() -> BaseException:
    error = ValueError("the first")
    for number in range(5_000):
        later = ValueError(str(number))
        later.__cause__ = error
        error = later
    return error


BAD: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": lambda: StopIteration(1),
    "StopAsyncIteration": StopAsyncIteration,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "unspeakable": UnspeakableError,
    "deep": deep_chain,
    "group": lambda: BaseExceptionGroup("all", [KeyboardInterrupt(), SystemExit()]),
    "surrogate": lambda: type("Bad\udcff", (Exception,), {})("\udcff"),
}


def spec(function: Callable[..., Any], seq: int = 1, **options: Any) -> AttemptSpec:
    """The first attempt of an activity without arguments."""
    return AttemptSpec(
        run=1,
        seq=seq,
        workflow_id="w",
        run_id="r",
        activity_id=str(seq),
        name="activity",
        function=function,
        arguments="[]",
        options=ActivityOptions(**options),
        attempt=1,
        expires_at=None,
    )


class Ended:
    """A runner, and the outcomes that it has delivered."""

    def __init__(self, **options: Any) -> None:
        self.outcomes: list[Outcome] = []
        self.runner = AttemptRunner(
            self.outcomes.append, SystemClock(), threads=2, payload_limit=1_000_000, **options
        )

    def start(self, function: Callable[..., Any], seq: int = 1, **options: Any) -> None:
        self.runner.start(spec(function, seq, **options))

    async def next(self, count: int = 1) -> list[str]:
        """The statuses, once there are so many."""
        async with asyncio.timeout(20):
            while len(self.outcomes) < count:
                await asyncio.sleep(0.001)
        # Nothing comes twice.
        await asyncio.sleep(0.01)
        return [outcome.status for outcome in self.outcomes]


def raising(name: str, kind: str) -> Callable[..., Any]:
    make = BAD[name]

    async def on_loop() -> None:
        raise make()

    def in_thread() -> None:
        raise make()

    return on_loop if kind == "loop" else in_thread


@pytest.fixture
def handled_sigint() -> Any:
    """As on the command line: SIGINT is the loop's, so KeyboardInterrupt is never a signal."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    yield
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


@pytest.mark.parametrize("kind", ["loop", "thread"])
@pytest.mark.parametrize("name", BAD)
async def test_whatever_is_raised_is_one_outcome(name: str, kind: str) -> None:
    """One failure is delivered, however odd the exception; the next attempt runs as ever."""
    import signal

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    ended = Ended()
    for seq in range(3):  # more than there are threads
        ended.start(raising(name, kind), seq)
    assert await ended.next(3) == ["failed"] * 3
    ended.start(threading.active_count, 4)
    assert (await ended.next(4))[3] == "completed"
    assert ended.outcomes[0].payload
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    await ended.runner.close()


async def test_a_task_that_somebody_else_cancels_was_interrupted() -> None:
    """Three times; then it is the activity's failure. Also before it has begun to run."""
    ended = Ended()

    async def sleeping() -> None:
        await asyncio.sleep(60)

    for count in range(1, 5):
        ended.start(sleeping)
        if count % 2:
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        statuses = await ended.next(count)
    assert statuses == ["interrupted"] * 3 + ["failed"]
    # What was counted is forgotten with the failure.
    ended.start(sleeping)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    assert (await ended.next(5))[4] == "interrupted"


async def test_cancelled_by_itself_is_a_failure() -> None:
    """A CancelledError that nobody has asked for is an exception like others."""
    ended = Ended()

    async def cancelled() -> None:
        raise asyncio.CancelledError

    ended.start(cancelled)
    assert await ended.next() == ["failed"]


async def test_after_a_signal_a_failure_was_an_interruption() -> None:
    """Not for what may run only once, and a success stays one."""
    ended = Ended()
    gate = threading.Event()

    def failing() -> None:
        gate.wait(10)
        raise ValueError

    def succeeding() -> int:
        return 1

    ended.start(failing)
    ended.start(failing, 2, at_most_once=True)
    ended.runner.interrupt()
    gate.set()
    await ended.next(2)
    ended.start(succeeding, 3)
    await ended.next(3)
    assert {o.seq: o.status for o in ended.outcomes} == {
        1: "interrupted",
        2: "failed",
        3: "completed",
    }


@pytest.mark.parametrize(("signalled", "status"), [(False, "failed"), (True, "interrupted")])
async def test_a_failure_that_waits_for_a_signal_can_be_cut(
    monkeypatch: pytest.MonkeyPatch, signalled: bool, status: str
) -> None:
    """Cut in that moment it is over once, as it ended, and no thread seems to be left."""
    monkeypatch.setattr("belugawf.host.attempts._has_had_children", lambda: True)
    monkeypatch.setattr("belugawf.host.attempts._SIGNAL_S", 0.2)
    ended = Ended()

    def failing() -> None:
        raise ValueError

    ended.start(failing)
    await asyncio.sleep(0.1)
    assert ended.runner.count == 1
    if signalled:
        ended.runner.interrupt()
    ended.runner.cut()
    await asyncio.sleep(0.3)
    assert [outcome.status for outcome in ended.outcomes] == [status]
    assert not ended.runner.at_work(1)


async def test_threads_that_still_work_are_known() -> None:
    """Until they end, by the runs that they work for."""
    # FINDINGS E14
    late: list[int] = []
    ended = Ended(on_orphan_ended=late.append)
    gate = threading.Event()
    ended.start(lambda: gate.wait(10) and None)
    ended.start(lambda: gate.wait(10) and None, 2)
    await asyncio.sleep(0.05)
    ended.runner.cancel_run(1)
    assert ended.runner.is_ending(1)
    assert ended.runner.at_work(1)
    gate.set()
    async with asyncio.timeout(10):
        while ended.runner.at_work(1):
            await asyncio.sleep(0.01)
    assert not ended.runner.is_ending(1)
    assert late == [1, 1]
    assert ended.outcomes == []


async def test_limits_count_from_when_there_is_a_thread() -> None:
    """What queues has none; who looks at limits is woken as it begins."""
    begun = asyncio.Event()
    ended = Ended(on_begun=begun.set)
    first, last = threading.Event(), threading.Event()
    for seq in (1, 2):
        ended.start(lambda: first.wait(10) and None, seq)
    ended.start(lambda: last.wait(10) and None, 3, timeout=timedelta(milliseconds=1))
    await asyncio.sleep(0.05)
    assert ended.runner.next_limit() is None
    first.set()
    async with asyncio.timeout(10):
        await begun.wait()
        while (ended.runner.next_limit() or 0) > SystemClock().now():
            await asyncio.sleep(0.001)
    ended.runner.expire(SystemClock().now())
    last.set()
    await ended.next(3)
    statuses = {outcome.seq: outcome.status for outcome in ended.outcomes}
    assert statuses == {1: "completed", 2: "completed", 3: "timed_out"}


async def test_a_timeout_is_told_once_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt of an isolated activity does not begin beside what is left of this one."""
    # FINDINGS A2
    told, gone = threading.Event(), threading.Event()

    class Slow:
        def run(self, task: str, keep: Any) -> Any:
            gone.wait(10)
            return iter(())

        def end(self) -> None:
            told.set()

    monkeypatch.setattr("belugawf.host.launcher.IsolatedChild", Slow)
    ended = Ended()
    ended.start(plain, isolation="process", timeout=timedelta(milliseconds=1))
    await asyncio.sleep(0.05)
    ended.runner.expire(SystemClock().now())
    assert told.wait(10)
    ended.runner.expire(SystemClock().now())
    await asyncio.sleep(0.05)
    assert ended.outcomes == []
    assert ended.runner.count == 1
    gone.set()
    assert await ended.next() == ["timed_out"]


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_each_attempt_begins_in_a_copy_of_one_context(kind: str) -> None:
    """Neither what the engine nor what an earlier attempt has set is seen."""
    base = contextvars.Context()
    base.run(VARIABLE.set, "base")
    VARIABLE.set("the engine's")

    def seen() -> str:
        before = VARIABLE.get()
        VARIABLE.set("the attempt's")
        return before

    async def seen_on_loop() -> str:
        return seen()

    for context, expected in ((base, "base"), (None, "unset")):
        ended = Ended(context=context)
        for seq in range(2):
            ended.start(seen_on_loop if kind == "loop" else seen, seq)
        await ended.next(2)
        assert [outcome.payload for outcome in ended.outcomes] == [f'"{expected}"'] * 2
    assert VARIABLE.get() == "the engine's"


def test_a_thread_of_the_pool_survives_its_job(caplog: pytest.LogCaptureFixture) -> None:
    """Even a job that raises, which none should, takes no thread from the pool."""
    pool, done = DaemonPool(1), threading.Event()

    def raising_job() -> None:
        raise SystemExit

    pool.submit(raising_job)
    pool.submit(done.set)
    assert done.wait(10)
    pool.close()


# -- hooks and log handlers ------------------------------------------------------------------------


def test_a_logger_may_be_the_users_too(caplog: pytest.LogCaptureFixture) -> None:
    """Of a class that was set for all loggers: what it raises is logged as a handler's."""
    # FINDINGS B2

    class Rude(logging.Logger):
        def isEnabledFor(self, level: int) -> bool:
            raise SystemExit("not even asked")

    logging.setLoggerClass(Rude)
    try:
        name = logging.getLogger("tests.rude").name
    finally:
        logging.setLoggerClass(logging.Logger)
    record = logging.LogRecord(name, logging.WARNING, "", 0, "hello", None, None)
    hooks_module.emit(logging.getLogger("belugawf.engine"), [record])
    assert "a log handler failed" in caplog.text


@activity
def plain() -> int:
    return 1


@workflow
async def calling(ctx: WorkflowContext) -> int:
    ctx.logger.warning("called")
    return await ctx.execute_activity(plain, retry=RetryPolicy(max_attempts=2))


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("name", [name for name in BAD if name != "KeyboardInterrupt"])
async def test_a_hook_touches_no_run(
    tmp_path: Path, name: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises is logged, and what it sets in its context is seen by nobody."""

    seen = set()

    def plain_hook(event: Any) -> None:
        seen.add(VARIABLE.get())
        VARIABLE.set("the hook's")
        raise BAD[name]()

    async def async_hook(event: Any) -> None:
        plain_hook(event)

    hook: Any = async_hook if is_async else plain_hook
    hooks = Hooks(on_workflow_start=hook, on_activity_complete=hook, on_workflow_complete=hook)
    async with LocalExecutor(tmp_path / "state.db", [calling], hooks=[hooks]) as executor:
        async with asyncio.timeout(20):
            for number in range(2):
                assert await (await executor.execute(calling, id=f"c{number}")).result() == 1
    failed = [record for record in caplog.records if "hook on_" in record.getMessage()]
    assert len(failed) == 6
    assert seen == {"unset"}


@pytest.mark.parametrize("name", [name for name in BAD if name != "KeyboardInterrupt"])
async def test_a_log_handler_touches_no_run(tmp_path: Path, name: str) -> None:
    """What it raises ends no turn."""

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise BAD[name]()

    target = logging.getLogger("belugawf.workflow")
    handler = Raising()
    target.addHandler(handler)
    try:
        async with LocalExecutor(tmp_path / "state.db", [calling]) as executor:
            async with asyncio.timeout(20):
                assert await (await executor.execute(calling)).result() == 1
    finally:
        target.removeHandler(handler)


# -- the loop --------------------------------------------------------------------------------------


async def exits() -> None:
    raise SystemExit(3)


async def interrupts() -> None:
    raise KeyboardInterrupt


async def stops() -> None:
    asyncio.get_running_loop().stop()


async def cancels_all() -> None:
    for task in asyncio.all_tasks():
        task.cancel()


@pytest.mark.parametrize("rude", [exits, interrupts, stops, cancels_all])
def test_our_loop_goes_on(
    rude: Callable[[], Coroutine[Any, Any, None]], caplog: pytest.LogCaptureFixture
) -> None:
    """What a task does to the loop that it shares does not end the loop's main task."""
    import signal

    async def main() -> str:
        task = asyncio.ensure_future(rude())
        await asyncio.wait([task])
        await asyncio.sleep(0.01)
        return "ended by itself"

    loop = asyncio.new_event_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    assert run_until_done(loop, hidden_task(loop, main())) == "ended by itself"
    loop.remove_signal_handler(signal.SIGINT)
    loop.close()
    assert bool(caplog.records) == (rude is not cancels_all)


def test_what_the_main_task_raises_is_raised() -> None:
    """Its own SystemExit is the end."""
    loop = asyncio.new_event_loop()
    with pytest.raises(SystemExit):
        run_until_done(loop, hidden_task(loop, exits()))
    loop.close()


@activity
async def ends_the_loop() -> str:
    await asyncio.wait([asyncio.ensure_future(exits())])
    asyncio.get_running_loop().stop()
    return "ended"


@workflow
async def ending(ctx: WorkflowContext) -> str:
    return await ctx.execute_activity(ends_the_loop)


def test_the_loop_of_a_blocking_executor_goes_on(tmp_path: Path) -> None:
    """It is ours as well, and nobody would be told that its thread had ended."""
    with LocalExecutor(tmp_path / "state.db", [ending]).sync() as executor:
        assert executor.execute(ending).result() == "ended"


def test_the_loop_of_a_blocking_executor_survives_log_handlers() -> None:
    """What they raise at the line about it is not heard of: the thread goes on."""
    # FINDINGS B2

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit("no room")

    handler, loop, blocking = Broken(), asyncio.new_event_loop(), BlockingExecutor(None)
    loop.call_soon(sys.exit)
    loop.call_soon(blocking._ends.set)
    loop.call_soon(loop.stop)
    logging.getLogger("belugawf.engine").addHandler(handler)
    try:
        blocking._drive(loop)
    finally:
        logging.getLogger("belugawf.engine").removeHandler(handler)
        loop.close()


# -- the command line ------------------------------------------------------------------------------

RUDE = """
    import atexit

    FILE = open(ROOT / "kept", "w")
    atexit.register(note, "at exit")


    async def later(error):
        raise error


    @activity
    async def rude(how: str) -> str:
        note(how)
        if how == "all_tasks":
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(60)
        if how == "SystemExit in a task":
            await asyncio.wait([asyncio.ensure_future(later(SystemExit(3)))])
        if how == "KeyboardInterrupt in a task":
            await asyncio.wait([asyncio.ensure_future(later(KeyboardInterrupt()))])
        if how == "SystemExit":
            raise SystemExit(3)
        if how == "KeyboardInterrupt":
            raise KeyboardInterrupt
        if how == "stop":
            asyncio.get_running_loop().stop()
        return how


    @activity
    def rude_thread(how: str) -> str:
        raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[how]


    @activity
    def write() -> str:
        FILE.write("a line\\n")
        return "written"


    @workflow
    async def rudely(ctx: WorkflowContext) -> list:
        ended = []
        for how in ["SystemExit in a task", "KeyboardInterrupt in a task", "SystemExit",
                    "KeyboardInterrupt", "stop"]:
            try:
                ended.append(await ctx.execute_activity(rude, how))
            except ActivityError as error:
                ended.append(f"failed: {error.cause.type}")
        for how in ["SystemExit", "KeyboardInterrupt"]:
            try:
                await ctx.execute_activity(rude_thread, how)
            except ActivityError as error:
                ended.append(f"failed: {error.cause.type}")
        return ended


    @workflow
    async def cancelling(ctx: WorkflowContext) -> str:
        try:
            return await ctx.execute_activity(rude, "all_tasks")
        except ActivityError as error:
            return f"failed: {error.cause.type}"


    @workflow
    async def writing(ctx: WorkflowContext) -> str:
        await ctx.execute_activity(write)
        try:
            await ctx.wait_for_signal("never")
        finally:
            note("a suspended finally ran")


    @workflow
    async def innocent(ctx: WorkflowContext) -> str:
        return "innocent"
"""


@pytest.fixture
def project(tmp_path: Path) -> Any:
    """A project folder with rude workflows."""
    project = Project(tmp_path / "project", PROVIDERS["default"])
    project.write_module("rude", RUDE)
    yield project
    project.close()


def test_a_command_outlives_what_activities_raise(project: Project) -> None:
    """Each is that activity's failure, or nothing; the run and its command end as they should."""
    done = project.cli("run", "rudely", "--id", "r")
    assert project.result("r") == [
        "SystemExit in a task",
        "KeyboardInterrupt in a task",
        "failed: SystemExit",
        "failed: KeyboardInterrupt",
        "stop",
        "failed: SystemExit",
        "failed: KeyboardInterrupt",
    ]
    assert "SystemExit" in done.err


def test_a_process_that_ends_calls_atexit_and_writes_files(project: Project) -> None:
    """A line that a completed activity wrote is there; a suspended workflow does not run on."""
    project.cli("run", "writing", "--id", "w", "-d")
    project.cli("resume", "w")
    assert (project.root / "kept").read_text() == "a line\n"
    assert project.log() == ["at exit"] * 2  # of both processes
    wait_for(lambda: project.waits("w", "never"), "it waits")


def test_a_command_outlives_the_cancelling_of_all_tasks(project: Project) -> None:
    """The activity is interrupted and starts again, and fails the fourth time."""
    project.cli("run", "cancelling", "--id", "c", timeout=60)
    assert project.result("c") == "failed: CancelledError"
    assert project.count("all_tasks") == 4
    assert len(project.events("c", "AttemptInterrupted")) == 3


@pytest.mark.parametrize("listens", [True, False])
async def test_hooks_that_do_not_end_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    """Whoever leaves the executor waits for them a while, tells them, and goes."""
    monkeypatch.setattr(hooks_module, "_LONGEST_S", 0.05)
    monkeypatch.setattr(hooks_module, "_FAREWELL_S", 0.05)
    left = asyncio.Event()

    async def hook(event: Any) -> None:
        while not left.is_set():
            try:
                await left.wait()
            except asyncio.CancelledError:
                told.append(1)
                if listens:
                    raise

    told: list[int] = []
    hooks = Hooks(on_workflow_complete=hook)
    try:
        async with asyncio.timeout(20):
            async with LocalExecutor(tmp_path / "state.db", [calling], hooks=[hooks]) as executor:
                await (await executor.execute(calling)).result()
        assert told
    finally:
        left.set()  # else the test's own loop waits for it


async def test_hooks_that_end_are_waited_for(tmp_path: Path) -> None:
    """Whoever leaves the executor lets them end."""
    ended: list[int] = []

    async def hook(event: Any) -> None:
        await asyncio.sleep(0.2)
        ended.append(1)

    hooks = Hooks(on_workflow_complete=hook)
    async with LocalExecutor(tmp_path / "state.db", [calling], hooks=[hooks]) as executor:
        await (await executor.execute(calling)).result()
    assert ended == [1]


async def test_what_a_hook_returns_is_the_users(tmp_path: Path) -> None:
    """Also an object that raises when it is asked what it is."""

    class Unasked:
        @property
        def __class__(self) -> Any:
            raise SystemExit(3)

    hook: Any = lambda event: Unasked()  # noqa: E731
    hooks = Hooks(on_workflow_start=hook, on_workflow_complete=hook)
    async with LocalExecutor(tmp_path / "state.db", [calling], hooks=[hooks]) as executor:
        async with asyncio.timeout(20):
            assert await (await executor.execute(calling)).result() == 1


class SettableClock:
    """A clock whose hands tests move."""

    def __init__(self) -> None:
        self.time = 1_700_000_000 * SECOND_NS

    def now(self) -> int:
        return self.time


async def test_a_process_that_was_stopped_was_not_silent() -> None:
    """Nobody could report meanwhile: then each attempt has its whole heartbeat timeout again."""
    clock = SettableClock()
    outcomes: list[Outcome] = []
    runner = AttemptRunner(outcomes.append, clock, threads=2, payload_limit=1_000_000)

    async def silent() -> None:
        await asyncio.Event().wait()

    def look(seconds: float) -> None:
        """As the engine does: at the moment that it was told, which comes before that time."""
        end = clock.time + int(seconds * SECOND_NS)
        while (limit := runner.next_limit()) is not None and limit <= end:
            clock.time = max(limit, clock.time)
            runner.expire(clock.time)
        clock.time = end

    def stopped(seconds: float) -> None:
        clock.time += int(seconds * SECOND_NS)
        runner.expire(clock.time)

    runner.start(spec(silent, heartbeat_timeout=timedelta(seconds=10)))
    await asyncio.sleep(0)
    look(9)
    stopped(3_600)
    look(9)
    stopped(8)  # for less than the timeout
    look(9)
    assert outcomes == []
    look(2)
    assert [(outcome.status, outcome.limit) for outcome in outcomes] == [
        ("timed_out", "heartbeat_timeout")
    ]
    await runner.close()


STOPPED = """
import asyncio, sys, time
from pathlib import Path
from belugawf import activity, workflow, new_executor

@activity(heartbeat_timeout=5)
def beats():
    print("begun", flush=True)
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    activity.heartbeat()
    return activity.info().attempt

@workflow
async def beating(ctx):
    return await ctx.execute_activity(beats)

async def main():
    async with new_executor("default", db=Path(sys.argv[1]), workflows=[beating]) as executor:
        print(await (await executor.execute(beating)).result())

asyncio.run(main())
"""


def test_an_activity_survives_a_stop_of_its_process(tmp_path: Path) -> None:
    """SIGSTOP for longer than its heartbeat timeout: its first attempt completes."""
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED, tmp_path / "state.db"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    child.send_signal(signal.SIGSTOP)
    time.sleep(6)  # longer than its heartbeat timeout, by real clocks: it is stopped meanwhile
    child.send_signal(signal.SIGCONT)
    out, _ = child.communicate(timeout=30)
    assert out == "1\n"
