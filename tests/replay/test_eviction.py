"""Letting a run go: its code unwinds, and nothing that it does is heard."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from belugawf import WorkflowContext, activity
from belugawf.model.errors import RunEvicted
from tests.replay.driving import Clock, Run


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def after(delay: float, value: Any, log: list[Any] | None = None) -> Any:
    await asyncio.sleep(delay)
    if log is not None:
        log.append(value)
    return value


def let_go(clock: Clock) -> None:
    """Evict, and drop what is left."""
    clock.loop.evict()
    gc.collect()


@pytest.fixture
def silent(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Any:
    """Nothing is printed or logged, and nothing goes unraised, while the test runs."""
    gc.collect()  # what other tests have dropped is theirs
    unraised: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, unraised.append
    yield
    gc.collect()
    sys.unraisablehook = hook
    assert [item.exc_value for item in unraised] == []
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@pytest.mark.usefixtures("silent")
def test_eviction_goes_in_order_of_creation(clock: Clock) -> None:
    """Every task is unwound, oldest first, by RunEvicted."""
    log: list[tuple[int, str]] = []

    async def one(number: int) -> None:
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            log.append((number, type(error).__name__))
            raise

    async def code() -> None:
        await asyncio.gather(*(one(n) for n in range(20)))

    clock.start(code())
    let_go(clock)
    assert log == [(n, "RunEvicted") for n in range(20)]


@pytest.mark.usefixtures("silent")
def test_eviction_is_no_exception(clock: Clock) -> None:
    """`except Exception` does not see it."""
    log: list[str] = []

    async def code() -> None:
        try:
            await asyncio.sleep(60)
        except Exception:
            log.append("seen")

    clock.start(code())
    let_go(clock)
    assert log == []


@pytest.mark.usefixtures("silent")
def test_cleanup_is_not_heard(clock: Clock) -> None:
    """What `finally` asks of the loop raises again, starts no timer and no task."""
    log: list[str] = []

    async def never() -> None:
        log.append("ran")

    async def code() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                asyncio.create_task(never())  # noqa: RUF006 - it must not even start
            except BaseException as error:
                log.append(type(error).__name__)
            await asyncio.sleep(1)
            log.append("slept")

    clock.start(code())
    let_go(clock)
    assert log == ["RunEvicted"]
    assert clock.started == [60.0]


@pytest.mark.usefixtures("silent")
def test_cleanup_does_not_reach_the_real_loop() -> None:
    """Evicted from within a running loop, the code sees its own loop and not that one."""
    log: list[str] = []

    async def never() -> None:
        log.append("ran")

    async def code() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            log.append(type(asyncio.get_running_loop()).__name__)
            asyncio.create_task(never())  # noqa: RUF006 - it must not even start

    async def engine() -> None:
        clock = Clock()
        clock.start(code())
        me = asyncio.current_task()
        clock.loop.evict()
        assert asyncio.current_task() is me
        await asyncio.sleep(0.01)

    asyncio.run(engine())
    assert log == ["DeterministicLoop"]


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("times", [1, 5, 50])
def test_swallowing_is_told_again(clock: Clock, times: int) -> None:
    """Code that swallows it and awaits again is told again, until it is through."""
    log: list[int] = []

    async def code() -> None:
        event = asyncio.Event()
        for number in range(times):
            try:
                await event.wait()
            except BaseException:
                log.append(number)

    clock.start(code())
    let_go(clock)
    assert log == list(range(times))


STUBBORN = """
import asyncio
from tests.replay.driving import Clock

async def code():
    while True:
        try:
            await asyncio.sleep(60)
        except:
            pass

clock = Clock()
clock.start(code())
clock.loop.evict()
print(clock.started[0])
"""


def test_swallowing_for_ever() -> None:
    """A bare except in an endless loop cannot be unwound: it is left standing, without a word,
    and keeps no process from ending."""
    done = subprocess.run(
        [sys.executable, "-c", STUBBORN], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("60.0\n", "")


@pytest.mark.usefixtures("silent")
def test_cleanup_that_makes_several_coroutines(clock: Clock) -> None:
    """Coroutines that `finally` makes and cannot await are not complained of."""

    async def code() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.gather(after(1, "a"), after(1, "b"), after(1, "c"))

    clock.start(code())
    let_go(clock)


def test_forgotten_await_is_still_warned_of(clock: Clock) -> None:
    """Outside of an eviction Python's warning stays."""

    async def code() -> None:
        after(1, "a")  # type: ignore[unused-coroutine]

    with pytest.warns(RuntimeWarning, match="never awaited"):
        clock.run(code())


@pytest.mark.usefixtures("silent")
def test_async_generators(clock: Clock) -> None:
    """Generators that are in use, or may be used again, are unwound too."""
    log: list[str] = []

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
                await asyncio.sleep(1)
        except RunEvicted:
            log.append(name)
            raise

    async def code() -> None:
        kept = numbers("left")
        await anext(kept)
        async for _ in numbers("dropped"):
            break
        async for _ in numbers("used"):
            pass

    clock.start(code())
    clock.jump()
    let_go(clock)
    assert sorted(log) == ["left", "used"]


@pytest.mark.usefixtures("silent")
def test_a_task_that_has_not_begun(clock: Clock) -> None:
    """A task that never ran is dropped without running."""
    log: list[str] = []

    async def never() -> None:
        log.append("ran")

    clock.create(never())
    let_go(clock)
    assert log == []


@pytest.mark.usefixtures("silent")
def test_failed_tasks_nobody_asked(clock: Clock) -> None:
    """An exception that nobody retrieved goes to `unhandled`, not to asyncio's logger."""

    async def boom() -> None:
        raise ValueError("boom")

    async def code() -> None:
        for _ in range(100):
            asyncio.ensure_future(boom())  # noqa: RUF006 - nobody asks what became of it
        await asyncio.sleep(1)
        await asyncio.sleep(1)

    clock.run(code())
    gc.collect()
    assert len(clock.loop.unhandled) == 100
    assert {text.splitlines()[-1] for _, text in clock.loop.unhandled} == {"ValueError: boom"}
    clock.loop.unhandled.clear()
    let_go(clock)
    assert clock.loop.unhandled == []


def test_after_eviction_nothing_works(clock: Clock) -> None:
    """A loop that was let go raises at every call."""
    clock.loop.evict()
    for call in (clock.loop.create_future, lambda: clock.loop.call_soon(print)):
        with pytest.raises(RunEvicted):
            call()


@activity
async def nothing() -> None: ...


async def waits(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("go", timeout="1h")


async def gathers(ctx: WorkflowContext) -> None:
    await asyncio.gather(ctx.wait_for_signal("a"), ctx.execute_activity(nothing), ctx.sleep(60))


async def has_tasks(ctx: WorkflowContext) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ctx.sleep(60))
        group.create_task(asyncio.wait({first}))
        group.create_task(asyncio.wait_for(first, 30))


async def generates(ctx: WorkflowContext) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        await ctx.sleep(60)

    async for _ in numbers():
        pass


async def looks(ctx: WorkflowContext) -> None:
    await ctx.wait_until(lambda: False, timeout=60)


@pytest.mark.parametrize("code", [waits, gathers, has_tasks, generates, looks])
def test_nothing_is_left_to_the_collector(code: Callable[[WorkflowContext], Any]) -> None:
    """What is let go is gone, with all that its code holds, and not when the collector likes."""
    run = Run(code)
    gc.collect()
    gc.disable()
    try:
        replayer = run.fresh()
        replayer.replay(run.history)
        loop = weakref.ref(replayer._loop)
        replayer.evict()
        del replayer
        assert loop() is None
    finally:
        gc.enable()
