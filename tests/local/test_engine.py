"""The engine on bad days: what one run does, a failed commit or a call beside it harms no other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from belugawf import (
    ActivityInterruptedError,
    ActivityTimeoutError,
    RetryPolicy,
    SignalTimeoutError,
    UnavailableError,
    WorkflowContext,
    WorkflowFailedError,
    activity,
    workflow,
)
from belugawf.authoring.activity import ActivityMark
from belugawf.authoring.runtime import SignalWait
from belugawf.executor.options import EngineOptions
from belugawf.host.clock import SystemClock
from belugawf.local import driving
from belugawf.local.drive.demand import Request, Stop
from belugawf.local.drive.engine import Engine
from belugawf.local.drive.run import SlotPhase
from belugawf.local.executor import LocalExecutor
from belugawf.local.file.database import WouldBlockError
from belugawf.local.store.rows import Start, Started, Turn
from belugawf.model import events as e
from belugawf.model.durations import SECOND_NS

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
            rest: Any = {"timeout": None, "expected": None, "schema": None, "location": ""}
            ctx._runtime.begin_wait(SignalWait(name="go", prompt="\ud800", **rest))
        case "id":
            mark = ActivityMark(name="nothing")
            ctx._runtime.schedule_activity(mark, None, "[]", (), "\ud800", "")
    await ctx.wait_for_signal("go")


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
async def changing_its_mind_earlier(ctx: WorkflowContext) -> None:
    lasting = ctx.start_activity(never_ending)
    unwanted = ctx.start_activity(never_ending)
    await asyncio.sleep(0)  # so that they are scheduled first
    with contextlib.suppress(ActivityTimeoutError):
        await ctx.execute_activity(never_ending, total_timeout=0.05)
    unwanted.cancel()
    await ctx.wait_for_signal("end")
    lasting.cancel()


@workflow
async def trying_twice(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(failing, retry=RetryPolicy(max_attempts=2, initial_delay=0.2))


@activity
def deaf() -> None:
    THREAD_MAY_END.wait()


@workflow
async def not_waiting(ctx: WorkflowContext) -> None:
    with contextlib.suppress(ActivityTimeoutError):
        await ctx.execute_activity(deaf, timeout=0.05)
    await ctx.wait_for_signal("go")


@workflow
async def napping(ctx: WorkflowContext, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "slept"


@workflow
async def changed(ctx: WorkflowContext) -> None:
    if not BLOCKING:
        await ctx.sleep(3600)
    await ctx.wait_for_signal("go")


THREAD_MAY_END = threading.Event()


@workflow
async def reminding(ctx: WorkflowContext) -> str:
    asking = asyncio.ensure_future(ctx.wait_for_signal("approval", timeout=1))
    await ctx.sleep(0.1)
    await ctx.execute_activity(gated)  # the reminder
    try:
        return str((await asking).payload)
    except SignalTimeoutError:
        await ctx.execute_activity(nothing)  # the end would be decided again with the signal
        return "nobody answered"


@activity
async def never_ending() -> None:
    await asyncio.Event().wait()


@workflow
async def reminding_in_vain(ctx: WorkflowContext) -> str:
    async def remind() -> None:
        await ctx.sleep(0.05)
        await ctx.execute_activity(never_ending)

    reminder = asyncio.ensure_future(remind())
    try:
        await ctx.wait_for_signal("approval", timeout=0.1)
    except SignalTimeoutError:
        reminder.cancel()
    return "nobody answered"


@workflow
async def working(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(never_ending)


CALLS: list[int] = []
BLOCKING: list[bool] = []


@activity(at_most_once=True)
async def counted() -> None:
    CALLS.append(activity.info().attempt)
    while BLOCKING:
        await asyncio.sleep(0.01)


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


@pytest.mark.parametrize("what", ["prompt", "id"])
async def test_a_turn_that_cannot_be_written_is_its_runs_problem_alone(
    tmp_path: Path, what: str
) -> None:
    """What no row can hold, if it comes past all checks, marks its run; others go on."""
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

        def slow_commit(
            turns: Sequence[Turn], owner: str, starts: Sequence[Start], **o: Any
        ) -> Sequence[Started]:
            if asyncio._get_running_loop() is not None:
                raise WouldBlockError  # so that it is made off the loop
            if any(isinstance(ev, e.ActivityCancelRequested) for t in turns for ev in t.events):
                loop.call_soon_threadsafe(GATE.set)
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop).result()
            return commit(turns, owner, starts, **o)

        executor._store.commit = slow_commit  # type: ignore[method-assign]
        await executor.signal("one", "give up")
        await executor.wait("one", until="signal:end")
        engine = engine_of(executor)
        async with asyncio.timeout(60):
            while any(run.by_phase[SlotPhase.ENDED] for run in engine.table.runs.values()):
                await engine.changed(0.1)
        await executor.signal("one", "end")
        await handle.result()


async def test_a_start_that_is_no_longer_wanted_takes_no_room(tmp_path: Path) -> None:
    """A retry that is cancelled between its turn in the queue and its start blocks nothing."""
    options = EngineOptions(concurrency=1)
    async with open_executor(tmp_path, changing_its_mind, options=options) as executor:
        handle = await executor.execute(changing_its_mind, id="one")
        engine = engine_of(executor)
        start = engine._queue.start

        def start_and_tell(now: int) -> None:
            start(now)
            for run in engine.table.runs.values():
                if run.by_phase[SlotPhase.RECORDING] and not executor._store.mail([run.key]):
                    executor._store.send(run.key, "signal", name="stop trying", payload="null")
                    engine.poller.poll_soon()

        engine._queue.start = start_and_tell  # type: ignore[method-assign]
        async with asyncio.timeout(60):
            assert await handle.result() == "went on"


async def test_what_nobody_waits_for_queues_no_longer(tmp_path: Path) -> None:
    """Neither what was cancelled before there was room for it, nor what has timed out."""
    # FINDINGS B13
    options = EngineOptions(concurrency=1)
    async with open_executor(tmp_path, changing_its_mind_earlier, options=options) as executor:
        handle = await executor.execute(changing_its_mind_earlier, id="one")
        await executor.wait("one", until="signal:end")
        queues = engine_of(executor)._queue._queues.values()
        queued = [slot for queue in queues for slot in queue]
        await executor.signal("one", "end")
        await handle.result()
    assert queued == []


async def test_at_most_once_also_where_its_run_was_refused(tmp_path: Path) -> None:
    """A run that gets a problem while such an activity runs neither cuts nor repeats it."""
    # FINDINGS E13
    CALLS.clear()
    BLOCKING.append(True)
    async with open_executor(tmp_path, blocked_once) as executor:
        await executor.execute(blocked_once, id="one")
        await executor.wait("one", until="signal:block")
        async with asyncio.timeout(60):
            while not CALLS:
                await engine_of(executor).changed(0.1)
        await executor.signal("one", "block")
        async with asyncio.timeout(60):
            while (await executor.describe("one")).problem is None:
                await engine_of(executor).changed(0.1)
        BLOCKING.clear()
    async with open_executor(tmp_path, blocked_once) as executor:
        async with asyncio.timeout(60):
            assert await executor.handle("one").result() == "done"
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
        engine, store = engine_of(executor), executor._store
        commit = store.commit
        engine.demand.add(Request(persistent=True))

        def uncertain(
            turns: Sequence[Turn], owner: str, starts: Sequence[Start], **o: Any
        ) -> Sequence[Started]:
            verdicts = commit(turns, owner, starts, **o)
            if any(isinstance(ev, e.AttemptFailed) for t in turns for ev in t.events):
                store.commit = commit  # type: ignore[method-assign]
                raise UnavailableError("the disk does not say whether it wrote")
            return verdicts

        store.commit = uncertain  # type: ignore[method-assign]
        with pytest.raises(WorkflowFailedError):
            await executor.handle("one").result()
        history = await executor.history("one")
        kinds = e.AttemptFailed | e.ActivityFailed
        assert [ev.attempt for ev in history if isinstance(ev, kinds)] == [1, 2]


async def test_a_resume_beside_a_worker_leaves_it_working(tmp_path: Path) -> None:
    """In one executor, `resume` returns and the worker goes on; once cancelled it stops."""
    async with open_executor(tmp_path, napping) as executor:
        worker = asyncio.create_task(executor.work())
        await executor.execute(napping, id="a", input=0, detach=True)
        await executor.resume("a")
        await executor.resume()
        await executor.execute(napping, id="b", input=0, detach=True)
        assert (await executor.wait("b", max_wait=20)).status == "completed"
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        handle = await executor.execute(napping, id="c", input=0, detach=True)
        row = executor._resolve(handle.run_id).key
        assert engine_of(executor).table.standing(row) is None


async def test_a_resume_of_one_workflow_hides_no_other_later(tmp_path: Path) -> None:
    """After `resume(workflow=...)` runs of other workflows are found when they are due."""
    async with open_executor(tmp_path, napping, patient) as executor:
        await executor.resume(workflow="patient")
        handle = await executor.execute(napping, id="one", input=0.3)
        engine = engine_of(executor)
        engine.demand.own.named[1] = engine.table.runs[1].idle_wait_ns = 0
        async with asyncio.timeout(60):
            assert await handle.result() == "slept"


async def test_a_run_stays_ours_while_its_thread_works(tmp_path: Path) -> None:
    """`resume` returns beside a thread that cannot be stopped, and does not give its run away."""
    THREAD_MAY_END.clear()
    async with open_executor(tmp_path, not_waiting) as executor:
        handle = await executor.execute(not_waiting, id="one", detach=True)
        await executor.resume("one")
        assert executor._store.by_key(executor._resolve(handle.run_id).key).owner is not None
        THREAD_MAY_END.set()
        async with asyncio.timeout(60):
            while executor._store.by_key(executor._resolve(handle.run_id).key).owner is not None:
                await engine_of(executor).changed(0.1)


async def test_leaving_that_is_cancelled_leaves_no_task_behind(tmp_path: Path) -> None:
    """Whoever is cancelled while the executor drains leaves at once, and nothing ticks on."""
    executor = open_executor(tmp_path, giving_up)

    async def use() -> None:
        async with executor:
            await executor.execute(giving_up, id="one")
            await executor.wait("one", until="signal:give up")
            asyncio.get_running_loop().call_soon(left.set)

    left = asyncio.Event()
    before = asyncio.all_tasks()
    using = asyncio.create_task(use())
    async with asyncio.timeout(60):
        await left.wait()
    using.cancel()
    await asyncio.gather(using, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == before


async def test_a_problem_that_cannot_be_written_costs_no_other_run_its_turn(
    tmp_path: Path,
) -> None:
    """The disk refuses while a run is refused: the turns made beside it are made anew, once."""
    BLOCKING.append(True)
    async with open_executor(tmp_path, changed, patient) as executor:
        await executor.execute(changed, id="bad")
        await executor.execute(patient, id="good")
        await executor.wait("bad", until="waiting")
        await executor.wait("good", until="waiting")
    BLOCKING.clear()
    async with open_executor(tmp_path, changed, patient) as executor:
        refuse, failures = executor._store.refuse, iter([True, True])

        def full(*args: Any, **more: Any) -> set[int]:
            if next(failures, False):
                raise UnavailableError("the disk is full")
            return refuse(*args, **more)

        executor._store.refuse = full  # type: ignore[method-assign]
        for name in ("good", "bad"):
            await executor.signal(name, "go", "fine", drive=False)
        worker = asyncio.create_task(executor.work())
        async with asyncio.timeout(60):
            assert (await executor.wait("good")).status == "completed"
            while (await executor.describe("bad")).problem is None:
                await engine_of(executor).changed(0.1)
        worker.cancel()
        assert executor._store.by_key(1).owner is None


async def test_a_timer_that_was_held_does_not_overtake_an_unread_signal(tmp_path: Path) -> None:
    """An approval sent while a late reminder ran counts, though nothing told us of it."""
    global GATE
    GATE = asyncio.Event()
    async with open_executor(tmp_path, reminding) as executor:
        await executor.execute(reminding, id="one", detach=True)
        await executor.resume("one", patience=0)
    await asyncio.sleep(1.05)  # both timers are overdue when the run is picked up again
    async with open_executor(tmp_path, reminding) as executor:
        handle = executor.handle("one")
        result = asyncio.create_task(handle.result())
        async with asyncio.timeout(60):
            while not executor.in_flight():
                await asyncio.sleep(0.01)
        engine_of(executor).poller.is_due = lambda now: False  # type: ignore[method-assign]
        executor._store.send(
            executor._resolve(handle.run_id).key, "signal", name="approval", payload="true"
        )
        GATE.set()
        assert await result == "True"


async def test_a_worker_may_be_cancelled_just_before_leaving(tmp_path: Path) -> None:
    """A worker's task that has not yet heard of its end when the executor is left, ends as told."""
    executor = await open_executor(tmp_path, patient).__aenter__()
    worker = asyncio.create_task(executor.work())
    await asyncio.sleep(0)
    drives = executor._driving
    presence = drives.presence
    await executor.__aexit__()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert presence is not None and drives.presence is None


async def test_a_reminder_that_hangs_holds_a_late_timeout_only_for_its_own_length(
    tmp_path: Path,
) -> None:
    """Nothing else happens to the run, and still its timeout comes."""
    async with open_executor(tmp_path, reminding_in_vain) as executor:
        await executor.execute(reminding_in_vain, id="one", detach=True)
        await executor.resume("one", patience=0)
    await asyncio.sleep(0.15)  # both timers are overdue when the run is picked up again
    async with open_executor(tmp_path, reminding_in_vain) as executor, asyncio.timeout(60):
        assert await executor.handle("one").result() == "nobody answered"


async def test_a_run_that_is_over_before_it_began_leaves_its_signals_unread(
    tmp_path: Path,
) -> None:
    """Its deadline passed before its first turn: no code has seen what was sent in time."""
    async with open_executor(tmp_path, patient) as executor:
        await executor.execute(patient, id="one", timeout=0.05, detach=True)
        await executor.signal("one", "go", drive=False)
        await asyncio.sleep(0.1)  # until the deadline has passed
        await executor.resume("one")
        _, signal, end = await executor.history("one")
        assert isinstance(signal, e.SignalReceived) and signal.unread
        assert isinstance(end, e.WorkflowTimedOut)


async def test_runs_of_a_busy_worker_hide_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many runs as one look claims are held by another; what is free is found all the same."""
    monkeypatch.setattr("belugawf.local.drive.demand.CLAIM_AT_ONCE", 2)
    async with (
        open_executor(tmp_path, working, napping) as busy,
        open_executor(tmp_path, working, napping) as free,
    ):
        for _ in range(3):
            await busy.execute(working)
        async with asyncio.timeout(60):
            while busy.in_flight() < 3:
                await asyncio.sleep(0.01)
        await free.execute(napping, id="one", input=0, detach=True)
        worker = asyncio.create_task(free.work())
        assert (await free.wait("one", max_wait=10)).status == "completed"
        worker.cancel()
        engine_of(busy).interrupt(Stop.CUT)


class SetBack:
    """A clock that can be set."""

    def __init__(self) -> None:
        self.offset_ns = 0

    def now(self) -> int:
        return SystemClock().now() + self.offset_ns


async def test_a_clock_set_back_during_a_turn_delays_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look and the rest after it: the next look is a second away, not an hour."""
    monkeypatch.setattr(driving, "wake_owner", lambda row: None)
    clock = SetBack()
    async with (
        open_executor(tmp_path, napping, clock=clock) as worker,
        open_executor(tmp_path, napping, clock=clock) as other,
    ):
        commit = worker._store.commit

        def set_back(
            turns: Sequence[Turn], owner: str, starts: Sequence[Start], **o: Any
        ) -> Sequence[Started]:
            clock.offset_ns = -3600 * SECOND_NS
            return commit(turns, owner, starts, **o)

        worker._store.commit = set_back  # type: ignore[method-assign]
        working = asyncio.create_task(worker.work())
        await other.execute(napping, id="first", input=0, detach=True)
        assert (await other.wait("first", max_wait=20)).status == "completed"
        await other.execute(napping, id="second", input=0, detach=True)
        async with asyncio.timeout(60):
            assert (await other.wait("second")).status == "completed"
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
