"""First steps of tasks that are taken at once, and not after a turn of the loop."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from belugawf import WorkflowContext, activity, workflow
from belugawf.host.loops import step_now
from belugawf.local.executor import LocalExecutor

variable: ContextVar[str] = ContextVar("variable", default="the loop's")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs one turn when it is told to, and has nothing to complain of."""
    loop = asyncio.new_event_loop()
    loop.set_debug(False)
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield loop
    assert not complaints
    loop.close()


def turn(loop: asyncio.AbstractEventLoop, *callbacks: Callable[[], object]) -> None:
    """One turn of the loop with these callbacks."""
    for callback in callbacks:
        loop.call_soon(callback)
    loop.call_soon(loop.stop)
    loop.run_forever()


class Making:
    """A callback that makes tasks and lets them take their first steps. `order`: what has run."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.then: Callable[[], object] = lambda: None

    def code(self, name: str) -> Coroutine[Any, Any, None]:
        return self._code(name)

    async def _code(self, name: str) -> None:
        assert asyncio.current_task() is self.tasks[self.names.index(name)]
        assert variable.get() == "the loop's"
        variable.set(name)
        self.order.append(name)
        await asyncio.sleep(0)
        assert variable.get() == name
        self.order.append(f"{name} again")

    def __call__(self) -> None:
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(self.code(name)) for name in self.names]
        self.then()
        step_now(self.tasks)
        assert asyncio.current_task() is None
        assert variable.get() == "the loop's"
        self.order.append("done")


def test_first_steps_are_taken_in_order(loop: asyncio.AbstractEventLoop) -> None:
    """Each as a step of its own task, in its own context, up to where it waits."""
    making = Making("a", "b")
    turn(loop, making)
    assert making.order == ["a", "b", "done"]
    turn(loop)
    assert making.order == ["a", "b", "done", "a again", "b again"]
    assert all(task.done() for task in making.tasks)


def test_the_loop_runs_what_it_has_counted(loop: asyncio.AbstractEventLoop) -> None:
    """Callbacks of the same turn, before and after, run as ever; then the next turn's."""
    making = Making("a", "b")
    turn(
        loop,
        lambda: making.order.append("before"),
        making,
        lambda: making.order.append("after"),
    )
    assert making.order == ["before", "a", "b", "done", "after"]
    turn(loop)
    assert making.order[5:] == ["a again", "b again"]


def test_nothing_overtakes_what_came_before_it(loop: asyncio.AbstractEventLoop) -> None:
    """If the loop has another callback behind, or between, the steps are the loop's."""
    making = Making("a", "b")
    making.then = lambda: loop.call_soon(making.order.append, "behind")
    turn(loop, making)
    assert making.order == ["done"]
    turn(loop)
    assert making.order == ["done", "a", "b", "behind"]


def test_no_steps_but_those_of_the_tasks_are_taken(loop: asyncio.AbstractEventLoop) -> None:
    """Tasks whose steps the loop has taken, or begun with, are left alone."""
    making = Making("a")
    turn(loop, making)
    turn(loop, lambda: step_now(making.tasks), lambda: step_now([]))
    assert making.order == ["a", "done", "a again"]

    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

        def __call__(self) -> None:
            making.order.append("odd")

    def behind_it() -> None:
        loop.call_soon(Odd())
        step_now(making.tasks)

    turn(loop, behind_it)
    turn(loop)
    assert making.order[3:] == ["odd"]


def test_a_loop_that_debugs_takes_them_itself(loop: asyncio.AbstractEventLoop) -> None:
    """It says which callbacks are slow."""
    loop.set_debug(True)
    making = Making("a")
    turn(loop, making)
    assert making.order == ["done"]
    turn(loop)
    turn(loop)
    assert making.order == ["done", "a", "a again"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_loop_ends_it(
    loop: asyncio.AbstractEventLoop, kind: type[BaseException]
) -> None:
    """It leaves the loop, not the callback; the steps behind it are taken after."""

    class Ending(Making):
        async def _code(self, name: str) -> None:
            if name == "b":
                raise kind("of b")
            await super()._code(name)

    making = Ending("a", "b", "c")
    loop.call_soon(making)
    with pytest.raises(kind, match="of b"):
        loop.run_forever()
    assert making.order[:2] == ["a", "done"]
    turn(loop)
    turn(loop)
    assert sorted(making.order[2:]) == ["a again", "c", "c again"]
    assert isinstance(making.tasks[1].exception(), kind)


def test_a_task_that_was_cancelled_does_not_begin(loop: asyncio.AbstractEventLoop) -> None:
    """Its code runs no line, as ever."""
    making = Making("a", "b")
    making.then = lambda: making.tasks[0].cancel()
    turn(loop, making)
    assert making.order == ["b", "done"]
    assert making.tasks[0].cancelled()


# -- in the engine -------------------------------------------------------------------------------


seen: list[tuple[bool, bool]] = []
executors: list[LocalExecutor] = []


@activity
async def looks(number: int) -> int:
    at_once = any(frame.name == "step_now" for frame in traceback.extract_stack())
    seen.append((at_once, executors[0]._engine.ticker._pacer._ticking))
    return number


@activity
async def starts(number: int) -> int:
    """Asks the engine that has started it for something, and waits for that."""
    handle = await executors[0].execute(looking, input=number)
    result: int = await handle.result()
    return result


@workflow
async def looking(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.execute_activity(looks, number)
    return count


@workflow
async def asking(ctx: WorkflowContext, count: int) -> int:
    result: int = await ctx.execute_activity(starts, count)
    return result


async def test_an_activity_runs_at_once_and_not_within_a_tick(tmp_path: Path) -> None:
    """Without a turn of the loop; the engine is at rest, and can be asked for anything."""
    seen.clear()
    async with LocalExecutor(tmp_path / "state.db", [looking, asking]) as executor:
        executors[:] = [executor]
        assert await (await executor.execute(asking, input=40)).result() == 40
    assert [ticking for _, ticking in seen] == [False] * 40
    # Whatever else wakes the engine at that moment comes first.
    assert sum(at_once for at_once, _ in seen) > 20
