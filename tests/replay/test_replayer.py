"""Facts in, commands out: what a run asks for, and that its history must match."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from typing import Any

import pytest

from belugawf import (
    ActivityError,
    ActivityInterruptedError,
    ActivityTimeoutError,
    NondeterminismError,
    UsageError,
    WorkflowContext,
    workflow,
)
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.model import events as e
from belugawf.model.errors import QueryNotFoundError, WorkflowBlockedError
from belugawf.replay.replayer import Replayer
from tests.replay.conftest import line_of, recorded_code
from tests.replay.driving import Run, briefs

# -- commands ------------------------------------------------------------------------------------


def test_one_of_everything() -> None:
    """Each fact leads to its commands, numbered as they are asked for."""

    async def code(ctx: WorkflowContext, topic: str) -> str:
        found = await ctx.execute_activity("search", topic)
        await ctx.sleep("1h")
        approval = await ctx.wait_for_signal("approval", timeout="1d")
        return f"{found} {approval.payload} {approval.sender}"

    run = Run(code, "whales")
    assert briefs(run.commands) == [("activity", 1, "search", "whales")]
    assert briefs(run.complete(1, "found")) == [("timer", 2, 3600.0)]
    assert briefs(run.fire()) == [("wait", 3, "approval"), ("timer", 4, 86400.0)]
    assert briefs(run.signal("approval", True, "Ada")) == [
        ("cancel timer", 4),
        ("end wait", 3, "received"),
        ("complete", "found True Ada"),
    ]
    assert run.closed
    assert run.replay() == []


def test_fan_out_is_one_turn() -> None:
    """gather schedules all at once; answers come in any order."""

    async def code(ctx: WorkflowContext) -> list[int]:
        return list(await asyncio.gather(*(ctx.execute_activity("double", n) for n in range(3))))

    run = Run(code)
    assert briefs(run.commands) == [("activity", n + 1, "double", n) for n in range(3)]
    assert run.complete(3, 4) == []
    assert run.complete(1, 0) == []
    assert briefs(run.complete(2, 2)) == [("complete", [0, 2, 4])]
    assert run.replay() == []


def test_activity_failure_has_its_type() -> None:
    """A failed activity raises what kind of failure it was, with its cause."""
    kinds = {
        "application": ActivityError,
        "timeout": ActivityTimeoutError,
        "interrupted": ActivityInterruptedError,
    }

    async def code(ctx: WorkflowContext) -> list[Any]:
        try:
            await ctx.execute_activity("risky")
        except ActivityError as error:
            assert isinstance(error.__cause__, type(None))
            return [type(error).__name__, error.activity, error.attempts, error.cause.type]
        return []

    for kind, expected in kinds.items():
        run = Run(code)
        run.fail(1, kind=kind)
        assert run.result == [expected.__name__, "risky", 1, "ValueError"]
        assert run.replay() == []


def test_an_uncaught_activity_error_fails_the_run() -> None:
    """It names the activity and its tries, and what it raised."""

    async def code(ctx: WorkflowContext) -> None:
        await ctx.execute_activity("risky")

    run = Run(code)
    run.fail(1, "no route")
    assert run.error.type == "ActivityError"
    assert run.error.activity == "risky"
    assert run.error.message == (
        "activity 'risky' failed after it was tried once: ValueError: no route"
    )
    assert run.replay() == []


def test_timeout_around_an_activity_cancels_it() -> None:
    """Nobody waits for it any more: the engine is told so."""

    async def code(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(5):
                await ctx.execute_activity("slow")
        except TimeoutError:
            return "late"
        return "in time"

    run = Run(code)
    assert briefs(run.commands) == [("timer", 1, 5.0), ("activity", 2, "slow")]
    assert briefs(run.fire()) == [("cancel activity", 2), ("complete", "late")]
    assert run.replay() == []


def test_started_activities_run_beside() -> None:
    """start_activity gives a task; its place in the code is the caller's."""

    async def code(ctx: WorkflowContext) -> str:
        task = ctx.start_activity("slow")  # here
        await ctx.sleep(1)
        return str(await task)

    run = Run(code)
    assert briefs(run.commands) == [("timer", 1, 1.0), ("activity", 2, "slow")]
    location = run.commands[1].location  # type: ignore[union-attr]
    assert location == line_of(code, "# here")
    run.complete(2, "done")
    run.fire()
    assert run.result == "done"


def test_places_are_the_workflows() -> None:
    """Every command names the line of workflow code that asks, in helpers too."""

    async def helper(ctx: WorkflowContext) -> None:
        await ctx.execute_activity("one")  # activity

    async def code(ctx: WorkflowContext) -> None:
        await helper(ctx)
        await asyncio.sleep(5)  # timer
        async for _ in ctx.signals("go"):  # wait
            break

    run = Run(code)
    [command] = run.commands
    assert command.location == line_of(helper, "# activity")  # type: ignore[union-attr]
    [command] = run.complete(1)
    assert command.location == line_of(code, "# timer")  # type: ignore[union-attr]
    [command] = run.fire()
    assert command.location == line_of(code, "# wait")  # type: ignore[union-attr]


def test_deterministic_values() -> None:
    """random, uuid4 and now are the same on replay, and differ between runs."""

    async def code(ctx: WorkflowContext) -> list[Any]:
        values: list[Any] = [ctx.random.random(), str(ctx.uuid4()), ctx.now().isoformat()]
        await ctx.sleep(10)
        return [*values, ctx.random.random(), str(ctx.uuid4()), ctx.now().isoformat()]

    run = Run(code)
    run.fire()
    assert run.replay() == []
    other = Run(code, run_id="run-2")
    other.fire()
    assert all(
        (mine == theirs) is (n % 3 == 2)
        for n, (mine, theirs) in enumerate(zip(run.result, other.result, strict=True))
    )
    assert run.result[2].endswith("+00:00")


def test_now_is_the_last_facts_time() -> None:
    """Both clocks show the time of the fact, all through the turn."""

    async def code(ctx: WorkflowContext) -> float:
        before = ctx.now()
        await ctx.sleep(90)
        assert asyncio.get_running_loop().time() == ctx.now().timestamp()
        return (ctx.now() - before).total_seconds()

    run = Run(code)
    run.fire()
    assert run.result == 90.0


# -- cancelling ----------------------------------------------------------------------------------


def test_cancel_is_thrown_once() -> None:
    """The first request cancels; a second one is recorded and does not hurt the cleanup."""

    async def code(ctx: WorkflowContext) -> None:
        try:
            await ctx.execute_activity("work")
        finally:
            assert ctx.cancel_requested
            await ctx.execute_activity("clean up")

    run = Run(code)
    assert briefs(run.cancel()) == [("cancel activity", 1), ("activity", 2, "clean up")]
    assert run.cancel() == []
    assert briefs(run.complete(2)) == [("cancelled",)]
    assert run.replay() == []


def test_cancel_swallowed_completes() -> None:
    """Code that catches the cancellation and returns has completed."""

    async def code(ctx: WorkflowContext) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await ctx.wait_for_signal("go", timeout="1h")
        return "tidy"

    run = Run(code)
    assert briefs(run.cancel()) == [
        ("cancel timer", 2),
        ("end wait", 1, "cancelled"),
        ("complete", "tidy"),
    ]
    assert run.replay() == []


def test_cancel_then_error_fails() -> None:
    """An error out of the cleanup is a failure."""

    async def code(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("cannot clean up") from None

    run = Run(code)
    assert briefs(run.cancel())[-1] == ("fail", "ValueError", "cannot clean up")


def test_cancel_goes_down_the_tasks() -> None:
    """A TaskGroup's tasks are cancelled in order of creation."""

    async def code(ctx: WorkflowContext) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(ctx.execute_activity("work", number))

    run = Run(code)
    assert briefs(run.cancel()) == [
        *(("cancel activity", number) for number in (1, 2, 3, 4)),
        ("cancelled",),
    ]
    assert run.replay() == []


def test_shielded_runs_to_its_end() -> None:
    """A cancellation waits for what is shielded, and is raised then."""

    async def pay(ctx: WorkflowContext) -> None:
        await ctx.execute_activity("charge")
        await ctx.execute_activity("receipt")

    async def code(ctx: WorkflowContext) -> None:
        await ctx.shielded(pay(ctx))
        await ctx.execute_activity("never")

    run = Run(code)
    assert run.cancel() == []
    assert run.cancel() == []
    assert briefs(run.complete(1)) == [("activity", 2, "receipt")]
    assert briefs(run.complete(2)) == [("cancelled",)]
    assert run.replay() == []


def test_shielded_without_cancel() -> None:
    """It gives the result, and raises what is raised inside."""

    async def code(ctx: WorkflowContext) -> Any:
        value = await ctx.shielded(ctx.execute_activity("one"))
        try:
            await ctx.shielded(ctx.execute_activity("two"))
        except ActivityError as error:
            return [value, error.cause.message]

    run = Run(code)
    run.complete(1, 5)
    run.fail(2, "no")
    assert run.result == [5, "no"]


def test_shielded_error_after_cancel() -> None:
    """Where both happen the cancellation is raised: it came first."""

    async def code(ctx: WorkflowContext) -> None:
        await ctx.shielded(ctx.execute_activity("one"))

    run = Run(code)
    run.cancel()
    assert briefs(run.fail(1)) == [("cancelled",)]
    gc.collect()
    assert run.replayer.take_logs() == []


# -- time ----------------------------------------------------------------------------------------


def test_sleep_until() -> None:
    """Until a moment with a timezone; at once where it has passed."""

    async def code(ctx: WorkflowContext) -> str:
        from datetime import datetime, timedelta

        await ctx.sleep_until(ctx.now() - timedelta(days=1))
        await ctx.sleep_until(ctx.now() + timedelta(minutes=3))
        try:
            await ctx.sleep_until(datetime(2030, 1, 1))
        except UsageError as error:
            return str(error)
        return "taken"

    run = Run(code)
    assert briefs(run.commands) == [("timer", 1, 180.0)]
    run.fire()
    assert run.result.startswith(f"sleep_until needs a timezone-aware datetime ({__file__}:")


# -- queries -------------------------------------------------------------------------------------


async def asked(ctx: WorkflowContext) -> None:
    items: list[int] = []
    ctx.set_query("items", lambda: items)
    ctx.set_query("sum", lambda start=0: sum(items, start))
    ctx.set_query("greedy", lambda: ctx.set_progress("more"))
    ctx.set_query("sleepy", lambda: asyncio.get_running_loop())
    async for item in ctx.signals("item"):
        items.append(item.payload)


def test_queries() -> None:
    """They answer from the code's variables, with arguments, after replay too."""
    run = Run(asked)
    run.signal("item", 4)
    run.signal("item", 5)
    assert run.replayer.query("items", []) == "[4,5]"
    assert run.replayer.query("sum", [100]) == "109"
    again = run.fresh()
    again.replay(run.history)
    assert again.query("sum", []) == "9"


def test_queries_only_read() -> None:
    """One that asks the run to do something is refused, and nothing came of it."""
    run = Run(asked)
    with pytest.raises(QueryNotFoundError, match="a query only reads"):
        run.replayer.query("greedy", [])
    assert run.replayer.take_progress() is None
    assert briefs(run.signal("item", 1)) == [("end wait", 1, "received"), ("wait", 2, "item")]
    assert run.replay() == []


def test_unknown_query() -> None:
    """Its error lists the names there are."""
    with pytest.raises(QueryNotFoundError) as caught:
        Run(asked).replayer.query("itmes", [])
    assert caught.value.hint == "it has status, result, waiting, and greedy, items, sleepy, sum"


@pytest.mark.parametrize("name", ["status", "result", "waiting"])
def test_built_in_queries_stay(name: str) -> None:
    """They cannot be replaced."""

    async def code(ctx: WorkflowContext) -> None:
        ctx.set_query(name, lambda: None)

    assert Run(code).error.message.startswith(f"query {name!r} is built in ({__file__}:")


# -- logs and progress ---------------------------------------------------------------------------


async def talking(ctx: WorkflowContext) -> None:
    ctx.logger.info("replaying: %s", ctx.is_replaying)
    ctx.set_progress(0.5)
    await ctx.wait_for_signal("go")
    ctx.logger.warning("replaying: %s", ctx.is_replaying)
    await ctx.wait_for_signal("go")


def test_logs_are_silent_on_replay(caplog: pytest.LogCaptureFixture) -> None:
    """A line comes out once: when it happens, with the run's name on it."""
    caplog.set_level("INFO")
    run = Run(talking)
    [record] = run.replayer.take_logs()
    assert record.getMessage() == "replaying: False"
    assert record.workflow_id == "w"  # type: ignore[attr-defined]
    assert record.name == "belugawf.workflow.talking"
    assert run.replayer.take_progress() == 0.5
    assert run.replayer.take_progress() is None
    again = run.fresh()
    again.replay(run.history)
    assert again.take_logs() == []
    assert again.take_progress() is None
    run.replayer = again
    run.signal("go")
    assert [record.getMessage() for record in again.take_logs()] == ["replaying: False"]


def test_unretrieved_errors_are_logged_once() -> None:
    """What a forgotten task raised is logged as a warning when it happens, not on replay."""

    async def boom() -> None:
        raise ValueError("boom")

    async def code(ctx: WorkflowContext) -> None:
        for _ in range(100):
            asyncio.ensure_future(boom())  # noqa: RUF006 - forgotten
        async for _ in ctx.signals("go"):
            pass

    run = Run(code)
    run.signal("go")
    gc.collect()
    logs = run.replayer.take_logs()
    assert logs
    assert {record.levelname for record in logs} == {"ERROR"}
    again = run.fresh()
    again.replay(run.history)
    gc.collect()
    assert again.take_logs() == []


def test_logs_are_silent_on_eviction() -> None:
    """Code that logs on its way out is not heard, and no command is taken."""

    async def code(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep(60)
        finally:
            ctx.logger.warning("leaving")
            await ctx.execute_activity("clean up")

    run = Run(code)
    run.replayer.evict()
    assert run.replayer.take_logs() == []
    assert run.replayer._runtime.commands == []
    assert len(run.history) == 2


# -- failures ------------------------------------------------------------------------------------


def test_exception_group_names_its_first() -> None:
    """A failing TaskGroup says what it is that failed."""

    async def boom() -> None:
        raise ValueError("boom")

    async def code(ctx: WorkflowContext) -> None:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(boom())
            outer.create_task(boom())

    error = Run(code).error
    assert error.type == "ExceptionGroup"
    assert error.message == ("unhandled errors in a TaskGroup (2 sub-exceptions): ValueError: boom")
    assert error.traceback is not None
    assert "taskgroups.py" not in error.traceback


@pytest.mark.parametrize("code", [0, 3, "bye"])
def test_system_exit_fails_the_run(code: Any) -> None:
    """SystemExit in workflow code fails the run, as any exception does."""

    async def leaving(ctx: WorkflowContext) -> None:
        await ctx.sleep(1)
        sys.exit(code)

    run = Run(leaving)
    run.fire()
    assert (run.error.type, run.error.message) == ("SystemExit", str(code))
    assert run.replay() == []


def test_traceback_is_the_users() -> None:
    """It shows the workflow's own frames, and those of no machinery."""

    def helper() -> None:
        raise KeyError("missing")

    async def code(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.sleep(0))
        helper()

    text = Run(code).error.traceback
    assert text is not None
    assert text.count("File ") == 2
    assert "in code" in text
    assert "in helper" in text
    assert "belugawf/replay" not in text
    assert text.endswith("KeyError: 'missing'")


def test_a_result_without_json_fails_the_run() -> None:
    """With the path to the value and its type."""

    async def code(ctx: WorkflowContext) -> Any:
        return {"a": [1, object()]}

    error = Run(code).error
    assert error.type == "PayloadEncodeError"
    assert error.message.startswith("result.a[1]: ")
    assert "object" in error.message


def test_arguments_without_json_raise_where_they_stand() -> None:
    """The code sees the error at its call, and may go on."""

    async def code(ctx: WorkflowContext) -> str:
        try:
            await ctx.execute_activity("one", object())
        except TypeError as error:
            return str(error)
        return "taken"

    assert Run(code).result.startswith("one: argument 1: an object has no JSON form")


def test_payload_limit() -> None:
    """Results and arguments over the limit are refused, with their size."""

    async def code(ctx: WorkflowContext) -> str:
        try:
            await ctx.execute_activity("one", "x" * 100)
        except UsageError as error:
            ctx.logger.info(str(error))
        return "y" * 200

    error = Run(code, payload_limit=50).error
    assert error.type == "PayloadTooLargeError"
    assert error.message == "result is 202 bytes, over the limit of 50 bytes"


def test_odd_messages_can_be_recorded() -> None:
    """Halves of surrogate pairs are escaped; a text that cannot be made is said to be so."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def odd(ctx: WorkflowContext) -> None:
        raise ValueError("file \udce9")

    async def mute(ctx: WorkflowContext) -> None:
        raise Mute

    assert Run(odd).error.message == "file \\udce9"
    assert Run(mute).error.message == "its text cannot be made: RuntimeError"


def test_blocked_in_a_turn() -> None:
    """A turn that never ends raises; the run is not failed by it."""

    async def code(ctx: WorkflowContext) -> None:
        await ctx.wait_for_signal("go")
        while True:
            await asyncio.sleep(0)

    run = Run(code)
    with pytest.raises(WorkflowBlockedError, match="100,000 steps"):
        run.signal("go")
    assert not run.closed


def test_timers_of_no_length_are_limited_over_turns() -> None:
    """A run that starts one empty timer after the other is stopped, though each is a turn."""

    async def code(ctx: WorkflowContext) -> None:
        while True:
            await asyncio.sleep(4e-7)

    run = Run(code)
    with pytest.raises(WorkflowBlockedError, match="1,000 timers of no length"):
        for _ in range(1001):
            run.fire()


@pytest.mark.parametrize("between", ["an activity", "a signal", "a second"])
def test_timers_of_no_length_with_something_between_them_are_not_limited(between: str) -> None:
    """Whatever else happens, their count starts anew."""

    async def code(ctx: WorkflowContext) -> None:
        other = asyncio.create_task(wait(ctx))
        for number in range(1200):
            await asyncio.sleep(4e-7)  # the run's time, not ours: `run.fire` lets it pass
            if number == 600:
                await other

    async def wait(ctx: WorkflowContext) -> None:
        if between == "an activity":
            await ctx.execute_activity("work")
        elif between == "a signal":
            await ctx.wait_for_signal("go")
        else:
            await asyncio.sleep(1)  # this too

    run = Run(code)
    for number in range(1200):
        run.fire()
        if number == 600 and between == "an activity":
            run.complete(2)
        elif number == 600 and between == "a signal":
            run.signal("go")
        elif number == 600:
            run.fire()
    assert run.replayer.closed


def test_an_answer_nobody_waits_for() -> None:
    """A cancelled activity is no longer the replayer's: its end would be a mismatch."""

    async def code(ctx: WorkflowContext) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ctx.execute_activity("slow"), 5)
        await ctx.wait_for_signal("go")

    run = Run(code)
    run.fire()
    with pytest.raises(NondeterminismError):
        run.complete(2)


# -- the replayer itself -------------------------------------------------------------------------


def test_functions_are_those_of_open_activities() -> None:
    """The engine finds the callable that the code passed, while it is open."""

    def work() -> None: ...

    async def code(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.execute_activity(work), ctx.execute_activity("by name"))

    run = Run(code)
    assert run.replayer.functions == {1: work}
    run.complete(1)
    assert run.replayer.functions == {}


def test_a_replayed_state_stands_for_the_whole_history(recorded: Run) -> None:
    """All its facts are applied."""
    replayer = recorded.fresh()
    replayer.replay(recorded.history)
    assert replayer.closed
    assert replayer.applied == 5


def test_info() -> None:
    """What a run is told of itself."""
    definition = WorkflowDefinition(workflow(recorded_code))
    started = e.WorkflowStarted(
        position=1,
        time=1_700_000_000_000_000_000,
        name="recorded_code",
        workflow_id="w",
        run_id="r",
        deadline=1_700_000_060_000_000_000,
        parent="p",
    )
    info = Replayer(definition, started).info
    assert (info.workflow_id, info.run_id, info.workflow, info.parent) == (
        "w",
        "r",
        "recorded_code",
        "p",
    )
    assert info.started_at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert info.deadline is not None
    assert (info.deadline - info.started_at).total_seconds() == 60


def test_eviction_in_the_middle_of_everything(capfd: pytest.CaptureFixture[str]) -> None:
    """Tasks, groups, waits and shields are dropped without a word."""

    async def code(ctx: WorkflowContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.shielded(ctx.execute_activity("one")))
            group.create_task(ctx.wait_until(lambda: False, timeout=60))
            group.create_task(asyncio.wait_for(ctx.wait_for_signal("a"), 60))
            async for _ in ctx.signals("b"):
                pass

    run = Run(code)
    run.replayer.evict()
    del run
    gc.collect()
    assert capfd.readouterr() == ("", "")
