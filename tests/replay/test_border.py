"""What user code, and what Python runs beside it, cannot do to a run: the loop's part of it."""

from __future__ import annotations

import asyncio
import decimal
import gc
import logging
import sys
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from belugawf import WorkflowContext, activity
from belugawf.model import commands as c, events as e
from belugawf.model.durations import SECOND_NS, ns_datetime
from belugawf.model.errors import (
    QueryFailedError,
    RunEvicted,
    WorkflowBlockedError,
    WorkflowCodeError,
)
from belugawf.replay.loop import MAX_CALLBACKS
from tests.replay.driving import Clock, Run, briefs


@pytest.fixture
def clock() -> Clock:
    return Clock()


# -- conditions ----------------------------------------------------------------------------------


def _raising(error: BaseException) -> Callable[[], bool]:
    def predicate() -> bool:
        if armed:
            raise error
        return False

    armed: list[int] = []
    predicate.arm = lambda: armed.append(1)  # type: ignore[attr-defined]
    return predicate


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (ValueError("x"), ("fail", "ValueError", "x")),
        (StopIteration(5), ("fail", "RuntimeError", "coroutine raised StopIteration")),
        (SystemExit(3), ("fail", "SystemExit", "3")),
        (KeyboardInterrupt(), ("fail", "KeyboardInterrupt", "")),
        (GeneratorExit(), ("fail", "GeneratorExit", "")),
        (asyncio.CancelledError(), ("fail", "CancelledError", "")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("late", [True, False])
def test_what_a_condition_raises(error: BaseException, ending: Any, late: bool) -> None:
    """It is raised where the code waits, as if it had called the condition itself."""  # E5, B2
    predicate = _raising(error)

    async def code(ctx: WorkflowContext) -> None:
        if not late:
            predicate.arm()  # type: ignore[attr-defined]
        wait = asyncio.create_task(ctx.wait_until(predicate))
        await ctx.wait_for_signal("go")
        predicate.arm()  # type: ignore[attr-defined]
        await wait

    run = Run(code)
    if not run.closed:
        run.signal("go")
    assert briefs(run.commands)[-1] == ending


def test_conditions_see_the_context_of_their_waiter() -> None:
    """A context variable has in a condition the value that it has where the code waits."""
    variable: ContextVar[str] = ContextVar("variable", default="outside")
    seen: list[str] = []

    async def code(ctx: WorkflowContext) -> str:
        def holds() -> bool:
            seen.append(variable.get())
            return len(seen) > 3

        variable.set("inside")
        await ctx.wait_until(holds)
        return "done"

    run = Run(code)
    while not run.closed:
        run.signal("go")
    assert run.result == "done"
    assert seen == ["inside"] * 4


@pytest.mark.parametrize("end", ["signal", "cancel"])
def test_ten_thousand_conditions(end: str) -> None:
    """They come true together, or are cancelled together, in one turn."""  # FINDINGS B7
    state: list[int] = []

    async def code(ctx: WorkflowContext) -> int:
        async def one() -> None:
            await ctx.wait_until(lambda: bool(state))

        state.clear()
        waits = asyncio.gather(*(one() for _ in range(10_000)))
        await ctx.wait_for_signal("go")
        state.append(1)
        return len(await waits)

    run = Run(code)
    began = time.process_time()
    if end == "signal":
        run.signal("go")
        assert run.result == 10_000
    else:
        run.cancel()
        assert briefs(run.commands)[-1] == ("cancelled",)
    assert time.process_time() - began < 1
    run.replay()


# -- what would end a program --------------------------------------------------------------------


ENDING = [SystemExit, KeyboardInterrupt, GeneratorExit]


@pytest.mark.parametrize("error", ENDING)
def test_what_would_end_a_program_fails_the_run(error: type[BaseException]) -> None:
    """From the workflow itself, and from a task that it awaits."""  # FINDINGS B3

    async def itself(ctx: WorkflowContext) -> None:
        await asyncio.sleep(0)
        raise error("it")

    async def awaited(ctx: WorkflowContext) -> None:
        async def task() -> None:
            raise error("it")

        await asyncio.gather(task(), ctx.wait_for_signal("go"))

    for code in (itself, awaited):
        run = Run(code)
        assert briefs(run.commands)[-1] == ("fail", error.__name__, "it")
        run.replay()
        run.replayer.evict()


@pytest.mark.parametrize("error", ENDING)
def test_tasks_keep_what_they_raise(error: type[BaseException]) -> None:
    """Nobody awaits it: it is logged, and the run goes on."""

    async def code(ctx: WorkflowContext) -> str:
        async def task() -> None:
            raise error("it")

        asyncio.create_task(task())  # noqa: RUF006 - nobody asks for it
        await ctx.wait_for_signal("go")
        return "done"

    run = Run(code)
    [record] = run.replayer.take_logs()
    assert f"{error.__name__}: it" in str(record.exc_text)
    run.signal("go")
    assert run.result == "done"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_a_bare_callback_raises(error: type[BaseException]) -> None:
    """Nobody can ask for it: it ends the run, as it would a program."""

    async def code(ctx: WorkflowContext) -> None:
        def called() -> None:
            raise error("it")

        asyncio.get_running_loop().call_soon(called)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await ctx.execute_activity("never")

    run = Run(code)
    assert briefs(run.commands) == [("fail", error.__name__, "it")]
    run.replay()


def test_ordinary_errors_of_callbacks_are_logged() -> None:
    """As plain asyncio does; the run goes on."""

    async def code(ctx: WorkflowContext) -> str:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await ctx.wait_for_signal("go")
        return "done"

    run = Run(code)
    [record] = run.replayer.take_logs()
    assert "ZeroDivisionError" in str(record.exc_text)
    run.signal("go")
    assert run.result == "done"


# -- queries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError, StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit, RunEvicted),
        *(asyncio.CancelledError, WorkflowBlockedError),
    ],
)
def test_what_a_query_raises(error: type[BaseException]) -> None:
    """It is its caller's answer, and the run goes on."""  # FINDINGS E5

    async def code(ctx: WorkflowContext) -> str:
        def query() -> None:
            raise error("it")

        ctx.set_query("odd", query)
        await ctx.wait_for_signal("go")
        return "done"

    run = Run(code)
    with pytest.raises(QueryFailedError, match=f"query 'odd' raised {error.__name__}: it"):
        run.replayer.query("odd", [])
    run.signal("go")
    assert run.result == "done"


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        ("activity", "a query only reads"),
        ("progress", "a query only reads"),
        ("timer", "outside of its turn"),
        ("task", "outside of its turn"),
    ],
)
def test_a_query_asks_for_nothing(kind: str, refusal: str) -> None:
    """What a query asks for is refused, and shifts no number."""

    async def code(ctx: WorkflowContext) -> None:
        def query() -> None:
            loop = asyncio.get_running_loop()
            match kind:
                case "activity":
                    ctx.execute_activity("x").send(None)
                case "timer":
                    loop.call_later(5, print)
                case "progress":
                    ctx.set_progress("x")
                case "task":
                    loop.create_task(asyncio.sleep(5))  # noqa: RUF006

        ctx.set_query("odd", query)
        await ctx.wait_for_signal("go")
        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))

    run = Run(code)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(QueryFailedError, match=refusal):
            run.replayer.query("odd", [])
    run.signal("go")
    run.replay()
    assert briefs(run.commands)[-2:] == [("timer", 2, 1.0), ("timer", 3, 2.0)]


# -- the collector -------------------------------------------------------------------------------


class Closing:
    """Asks its run, or whatever loop runs, for something when the collector closes it."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.ask = ask
        self.myself = self

    def __del__(self) -> None:
        self.ask()


@pytest.fixture
def unraised(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What finalisers raise."""
    gc.collect()  # what other tests have dropped is theirs
    raised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: raised.append(type(info.exc_value)))
    return raised


@pytest.mark.parametrize("explicit", [True, False])
def test_the_collector_in_another_runs_turn(unraised: list[Any], explicit: bool) -> None:
    """It closes code of another run: nothing is recorded, in neither of the two."""  # B4
    asked: list[str] = []

    async def dropped(ctx: WorkflowContext) -> None:
        async def never() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                asked.append("finally")
                asyncio.create_task(asyncio.sleep(5))  # noqa: RUF006
                ctx.start_activity("x")

        coroutine = never()
        coroutine.send(None)
        holder: dict[str, Any] = {"coroutine": coroutine}
        holder["itself"] = holder
        del coroutine, holder
        Closing(lambda: (asked.append("del"), asyncio.get_running_loop().call_later(5, print)))
        Closing(lambda: (asked.append("del"), ctx.start_activity("x")))
        await ctx.wait_for_signal("go")

    async def collecting(ctx: WorkflowContext) -> None:
        await ctx.wait_for_signal("go")
        if explicit:
            gc.collect()
        else:
            made: list[Any] = []
            while len(asked) < 3:
                made.append([made])
        assert asyncio.get_running_loop().runs_workflow_code  # type: ignore[attr-defined]
        await asyncio.sleep(7)

    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = Run(collecting)
            run = Run(dropped)
            gc.enable()
            commands = other.signal("go")
    finally:
        gc.enable()
    assert sorted(asked) == ["del", "del", "finally"]
    assert briefs(commands) == [("end wait", 1, "received"), ("timer", 2, 7.0)]
    assert set(unraised) <= {RuntimeError, WorkflowCodeError}
    assert len(unraised) == 3
    assert briefs(run.signal("go")) == [("end wait", 1, "received"), ("complete", None)]


def test_the_collector_in_its_own_turn(unraised: list[Any]) -> None:
    """What it closes cannot ask the context either, which needs no running loop."""  # B4

    async def code(ctx: WorkflowContext) -> None:
        Closing(lambda: ctx.execute_activity("x").send(None))
        Closing(lambda: ctx.set_progress("x"))
        gc.collect()
        await asyncio.sleep(7)

    run = Run(code)
    assert briefs(run.commands) == [("timer", 1, 7.0)]
    assert unraised == [WorkflowCodeError] * 2


def test_the_collector_beside_other_loops(unraised: list[Any]) -> None:
    """On an ordinary loop finalisers find it as ever."""
    found: list[Any] = []

    async def code() -> None:
        Closing(lambda: found.append(asyncio.get_running_loop()))
        gc.collect()
        assert found == [asyncio.get_running_loop()]

    asyncio.run(code())
    assert unraised == []


# -- generators ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["break", "return", "error", "cancel"])
def test_generators_that_are_left_early(way: str) -> None:
    """Their `finally` runs, in its run and in the same turn, and may wait."""  # FINDINGS E6

    async def numbers(ctx: WorkflowContext) -> AsyncIterator[int]:
        try:
            for number in range(3):
                yield number
                await asyncio.sleep(0)
        finally:
            await ctx.execute_activity("cleanup", way)

    async def use(ctx: WorkflowContext) -> None:
        async for number in numbers(ctx):
            if number == 1 and way == "break":
                break
            if number == 1 and way == "return":
                return
            if number == 1 and way == "error":
                raise ValueError("x")
            if number == 1 and way == "cancel":
                await ctx.wait_for_signal("never")

    async def code(ctx: WorkflowContext) -> str:
        task = asyncio.create_task(use(ctx))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        await ctx.wait_for_signal("go")
        return "done"

    run = Run(code)
    if way == "cancel":
        run.fire()
    [cleanup] = [event for event in run.history if isinstance(event, e.ActivityScheduled)]
    run.complete(cleanup.seq)
    if run.work.timers:
        run.fire()
    run.signal("go")
    assert run.result == "done"
    run.replay()
    run.replayer.evict()


def test_eviction_runs_no_generator_on(unraised: list[Any]) -> None:
    """What is in use when the run is let go is unwound, once, and asks for nothing."""  # E6
    ended: list[str] = []

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        except RunEvicted:
            ended.append(name)
            raise
        finally:
            await asyncio.sleep(5)

    async def code(ctx: WorkflowContext) -> None:
        held = numbers("held")
        await anext(held)
        async for _ in numbers("left"):
            break
        async for _ in numbers("used"):
            await ctx.wait_for_signal("go")

    run = Run(code)
    assert briefs(run.commands) == [("wait", 1, "go"), ("timer", 2, 5.0)]
    run.replayer.evict()
    gc.collect()
    assert sorted(ended) == ["held", "used"]
    assert unraised == []


def test_a_generator_that_only_the_collector_finds(unraised: list[Any]) -> None:
    """When that is, no replay can repeat: so it does nothing more."""
    ended: list[str] = []

    async def numbers() -> AsyncIterator[Any]:
        try:
            while True:
                yield 1
        finally:
            ended.append("finally")
            await asyncio.sleep(5)

    async def code(ctx: WorkflowContext) -> None:
        generator = numbers()
        await anext(generator)
        cycle: list[Any] = [generator]
        cycle.append(cycle)
        del generator, cycle
        gc.collect()
        await ctx.wait_for_signal("go")

    run = Run(code)
    assert briefs(run.commands) == [("wait", 1, "go")]
    assert ended == []
    run.replayer.evict()
    gc.collect()
    assert unraised == []


# -- background tasks ----------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [1, 16, 17, 100])
@pytest.mark.parametrize("when", ["dropped", "held to the end"])
def test_errors_of_background_tasks_are_logged(tasks: int, when: str) -> None:
    """Once each, at the latest when the run ends; not those that somebody asks for."""  # E6

    async def boom(number: int) -> None:
        raise ValueError(f"boom {number}")

    async def code(ctx: WorkflowContext) -> None:
        held = [asyncio.create_task(boom(number)) for number in range(tasks)]
        asked = asyncio.create_task(boom(1000))
        if when == "dropped":
            held.clear()
        await ctx.wait_for_signal("go")
        with pytest.raises(ValueError, match="boom 1000"):
            await asked

    run = Run(code)
    records = run.replayer.take_logs()
    assert len(records) == (tasks if when == "dropped" else 0)
    run.signal("go")
    gc.collect()  # a task that is dropped now must not report its error once more
    records += run.replayer.take_logs()
    assert {record.levelno for record in records} == {logging.ERROR}
    texts = [str(record.exc_text).splitlines()[-1] for record in records]
    assert sorted(texts) == sorted(f"ValueError: boom {number}" for number in range(tasks))
    assert "Task exception was never retrieved" in records[0].getMessage()
    run.replay()


@pytest.mark.parametrize("tasks", [1, 20, 100])
def test_errors_of_the_last_turn_are_logged(tasks: int) -> None:
    """Those of tasks that fail as the run ends, and that somebody still holds."""  # E6
    held: list[asyncio.Task[None]] = []

    async def code(ctx: WorkflowContext) -> None:
        async def boom(number: int) -> None:
            await go.wait()
            raise ValueError(f"boom {number}")

        go = asyncio.Event()
        held.extend(asyncio.create_task(boom(number)) for number in range(tasks))
        await ctx.wait_for_signal("go")
        go.set()
        await asyncio.sleep(0)

    run = Run(code)
    run.signal("go")
    assert run.closed
    texts = [str(record.exc_text).splitlines()[-1] for record in run.replayer.take_logs()]
    assert sorted(texts) == sorted(f"ValueError: boom {number}" for number in range(tasks))


# -- limits --------------------------------------------------------------------------------------


def test_what_could_be_started_can_be_cancelled() -> None:
    """50,001 activities in one gather, and their cancellation, are a turn each."""  # B7

    async def code(ctx: WorkflowContext) -> None:
        await asyncio.gather(*(ctx.execute_activity("x", n) for n in range(50_001)))

    run = Run(code)
    assert len(run.commands) == 50_001
    run.cancel()
    assert len(run.commands) == 50_002
    assert briefs(run.commands)[-1] == ("cancelled",)


def test_what_could_be_started_can_be_cancelled_in_the_same_turn() -> None:
    """Also where the code itself does both."""

    async def code(ctx: WorkflowContext) -> str:
        tasks = [ctx.start_activity("x", n) for n in range(50_001)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return "done"

    assert Run(code).result == "done"


@pytest.mark.parametrize(
    "spin",
    [
        "await asyncio.sleep(0)",
        "await asyncio.create_task(asyncio.sleep(0))",
        "f = loop.create_future(); loop.call_soon(f.set_result, 1); await f",
        "await asyncio.gather(*(asyncio.sleep(0) for _ in range(50)))",
    ],
)
def test_what_gets_nowhere_is_stopped(spin: str) -> None:
    """At the same step each time, however many tasks there are beside it."""
    source = f"""
async def code(ctx):
    loop = asyncio.get_running_loop()
    idle = [asyncio.create_task(asyncio.sleep(99)) for _ in range(1000)]
    await ctx.wait_for_signal("go")
    while True:
        steps.append(1)
        {spin}
"""
    counts = set()
    for _ in range(2):
        steps: list[int] = []
        names: dict[str, Any] = {"asyncio": asyncio, "steps": steps}
        exec(source, names)
        run = Run(names["code"])
        with pytest.raises(WorkflowBlockedError, match=f"{MAX_CALLBACKS:,} steps"):
            run.signal("go")
        run.replayer.evict()
        counts.add(len(steps))
    assert len(counts) == 1
    assert counts.pop() <= MAX_CALLBACKS


def test_each_fact_has_its_own_steps() -> None:
    """What gets nowhere is counted anew with each fact, however long the run has lived."""

    async def code(ctx: WorkflowContext) -> str:
        for _ in range(3):
            await ctx.wait_for_signal("go")
            for _ in range(MAX_CALLBACKS // 2):
                await asyncio.sleep(0)
        return "done"

    run = Run(code)
    for _ in range(3):
        run.signal("go")
    assert run.result == "done"


def test_short_sleeps_are_sleeps(clock: Clock) -> None:
    """1,500 of half a millisecond make time go on."""  # FINDINGS B7

    async def code(ctx: WorkflowContext) -> str:
        for _ in range(1_500):
            await asyncio.sleep(0.0005)
        return "done"

    run = Run(code)
    while not run.closed:
        run.fire()
    assert run.result == "done"


# -- asyncio's own names -------------------------------------------------------------------------


def test_futures_and_tasks_made_directly(clock: Clock) -> None:
    """They are numbered as those that the loop makes; elsewhere they are what they were."""  # B6

    async def nothing() -> None: ...

    async def code() -> list[Any]:
        loop = asyncio.get_running_loop()
        return [
            asyncio.Future(),
            asyncio.Future(loop=loop),
            asyncio.Task(nothing(), name="named"),
            asyncio.Task(nothing(), loop=loop),
        ]

    made = clock.run(code())
    again = Clock().run(code())
    assert [hash(one) for one in made] == [hash(one) for one in again]
    assert [hash(one) for one in made] == sorted(hash(one) for one in made)
    assert made[2].get_name() == "named"

    async def outside() -> None:
        for future in (asyncio.Future(), asyncio.get_running_loop().create_future()):
            assert isinstance(future, asyncio.Future)
            assert not hasattr(future, "_number")
        task = asyncio.Task(nothing())
        await task
        assert isinstance(task, asyncio.Task)
        assert isinstance(task, asyncio.Future)
        assert isinstance(asyncio.current_task(), asyncio.Task)
        assert not isinstance(5, asyncio.Future)
        assert issubclass(type(task), asyncio.Task)
        assert issubclass(asyncio.Task, asyncio.Future)

        class Own(asyncio.Future[int]):
            pass

        own = Own()
        assert isinstance(own, Own)
        assert isinstance(own, asyncio.Future)
        assert not isinstance(asyncio.Future(), Own)
        own.set_result(5)
        assert await own == 5

    asyncio.run(outside())


def test_direct_tasks_are_unwound(clock: Clock) -> None:
    """Letting a run go reaches them as well."""
    seen: list[str] = []

    async def waiting() -> None:
        try:
            await asyncio.Future()
        except RunEvicted:
            seen.append("evicted")
            raise

    async def code() -> None:
        await asyncio.Task(waiting())

    clock.start(code())
    clock.loop.evict()
    assert seen == ["evicted"]


def test_call_later_of_nothing_comes_after_what_is_ready(clock: Clock) -> None:
    """As in asyncio, whose timers are looked at when a round begins."""  # FINDINGS B6

    async def code() -> list[str]:
        log: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_later(0, log.append, "later")
        loop.call_at(loop.time() - 1, log.append, "earlier")
        loop.call_soon(log.append, "soon")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return log

    assert clock.run(code()) == ["soon", "earlier", "later"] == asyncio.run(code())


def test_waits_without_end(clock: Clock) -> None:
    """What is more than 100 years away never comes, and is no timer."""

    async def code() -> str:
        for delay in (float("inf"), 1e300, 3_155_760_001):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(delay), 5)
        with pytest.raises(ValueError, match="must be a number"):
            await asyncio.sleep(float("nan"))
        return "done"

    assert clock.run(code()) == "done"
    assert clock.started == [5.0] * 3


# -- contexts ------------------------------------------------------------------------------------


def test_contexts_do_not_leak() -> None:
    """What a run sets is seen by itself alone: not outside, nor by others, evicted or not."""  # B5
    variable: ContextVar[str] = ContextVar("variable", default="none")
    seen: list[tuple[str, int]] = []

    def set_in_query() -> str:
        found = variable.get()
        variable.set("query")
        return found

    async def code(ctx: WorkflowContext) -> None:
        seen.append((variable.get(), decimal.getcontext().prec))
        variable.set("workflow")
        decimal.getcontext().prec = 5
        ctx.set_query("set", set_in_query)
        try:
            await ctx.wait_until(lambda: bool(variable.set("condition")) and ctx.cancel_requested)
        finally:
            variable.set("eviction")
            decimal.getcontext().prec = 3

    precision = decimal.getcontext().prec
    variable.set("engine")
    for _ in range(2):
        run = Run(code)
        assert [run.replayer.query("set", []) for _ in range(2)] == ['"none"'] * 2
        run.signal("go")
        run.replayer.evict()
        assert (variable.get(), decimal.getcontext().prec) == ("engine", precision)
    assert seen == [("none", 28)] * 2


# -- logs ----------------------------------------------------------------------------------------


def test_log_lines_say_what_was() -> None:
    """They are made when the code logs, not after the commit."""  # FINDINGS B9

    class Odd:
        def __str__(self) -> str:
            raise ValueError("no text")

    async def code(ctx: WorkflowContext) -> None:
        items = [1, 2]
        ctx.logger.info("%s", items)
        items.clear()
        ctx.logger.info("%s", Odd())
        ctx.logger.info("%d", "no number")
        ctx.logger.info("no arguments %s")
        try:
            raise ValueError("it")
        except ValueError:
            ctx.logger.exception("failed")

    logging.getLogger("belugawf.workflow").setLevel(logging.DEBUG)
    try:
        run = Run(code)
    finally:
        logging.getLogger("belugawf.workflow").setLevel(logging.NOTSET)
    records = run.replayer.take_logs()
    assert [record.getMessage() for record in records] == [
        "[1, 2]",
        "%s (it cannot be formatted: ValueError: no text)",
        "%d (it cannot be formatted: TypeError: %d format: a real number is required, not str)",
        "no arguments %s",
        "failed",
    ]
    assert str(records[-1].exc_text).endswith("ValueError: it")


# -- time ----------------------------------------------------------------------------------------


def test_sleep_until_is_due_at_its_moment() -> None:
    """Not after the time that was left until then: the clock may be put back."""  # FINDINGS O5

    async def code(ctx: WorkflowContext) -> None:
        await ctx.wait_for_signal("go")
        await ctx.sleep_until(ns_datetime(run.started.time) + timedelta(hours=2))

    run = Run(code)
    moment = run.started.time + 7_200 * SECOND_NS
    run.signal("go")
    [asked] = [command for command in run.commands if isinstance(command, c.StartTimer)]
    assert asked.moment == moment
    assert run.work.timers[asked.seq].due_at == moment
    run.fire()
    assert run.closed
    run.replay()


# -- activities ----------------------------------------------------------------------------------


@activity
def pay(amount: int) -> int:
    return amount


@activity
async def charge(amount: int) -> int:
    return pay(amount)


@pytest.mark.parametrize("function", [pay, charge])
def test_activities_called_directly(function: Any) -> None:
    """They would not be recorded, and be executed at each replay."""  # FINDINGS E8

    async def code(ctx: WorkflowContext) -> None:
        function(5)

    run = Run(code)
    line = code.__code__.co_firstlineno + 1
    assert run.error.type == "WorkflowCodeError"
    assert run.error.message == (
        f"activity {function.__name__!r} is called directly in workflow code ({__file__}:{line})"
    )
    assert f"line {line}" in str(run.error.traceback)


def test_activities_called_elsewhere() -> None:
    """By tests, and by other activities."""
    assert pay(5) == 5
    assert asyncio.run(charge(5)) == 5


@pytest.mark.parametrize("text", ["x" * 3_000_000, "\U0001f600" * 300, "\udc80" * 3_000])
def test_progress_has_a_size(text: str) -> None:
    """It is cut, and can be written; what is short stays as it is."""
    # FINDINGS O6

    said = text

    async def code(ctx: WorkflowContext) -> None:
        ctx.set_progress(said)
        await ctx.wait_for_signal("go")

    shown = Run(code).replayer.take_progress()
    assert isinstance(shown, str)
    assert len(shown.encode()) < 1_100
    assert "characters left out" in shown
    said = "x" * 1_000
    assert Run(code).replayer.take_progress() == said


# -- warnings ------------------------------------------------------------------------------------


def test_a_missing_await_names_its_line() -> None:
    """Whoever forgets it: a workflow, or any other code of the process."""  # FINDINGS E10

    async def code(ctx: WorkflowContext) -> None:
        ctx.execute_activity("x")  # here

    async def outside() -> None:
        code(None)  # type: ignore[arg-type,unused-coroutine]  # here

    for run in (lambda: Run(code), lambda: asyncio.run(outside())):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
        [warning] = caught
        assert warning.filename == __file__
        assert "# here" in Path(__file__).read_text().splitlines()[warning.lineno - 1]


def test_closures_are_let_go() -> None:
    """An activity that is a closure dies with its run, and all that it closes over."""
    # FINDINGS B11
    kept: list[Any] = []

    class Large:
        pass

    async def code(ctx: WorkflowContext) -> None:
        large = Large()
        kept.append(weakref.ref(large))

        async def step(number: int) -> int:
            return id(large) + number

        assert await ctx.execute_activity(step, 1) == 5

    for _ in range(3):
        run = Run(code)
        run.complete(1, 5)
        assert run.closed
        run.replayer.evict()
    del run
    gc.collect()
    assert [reference() for reference in kept] == [None] * 3
