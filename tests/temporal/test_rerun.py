"""`rerun` on both providers: the same workflow with the same input, anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from belugawf import AlreadyExistsError, UsageError, WorkflowContext, new_executor, workflow


@workflow(timeout="3h")
async def greeting(ctx: WorkflowContext, name: str, times: int = 1, more: str | None = "x") -> str:
    await ctx.wait_for_signal("go")
    return f"{more} " * times + name


@workflow
async def single(ctx: WorkflowContext, value: int | None = 5) -> int | None:
    return value


async def test_anew(either: dict[str, Any]) -> None:
    """Input, labels and time as the first had them; open or ended; ID-2, ID-3 ..."""
    async with new_executor(**either, workflows=[greeting]) as executor, asyncio.timeout(60):
        given = {"name": "ada", "times": 2, "more": None}
        first = await executor.execute(
            greeting, id="g-7", input=given, timeout="1h", labels={"team": "red"}
        )
        second = await executor.rerun("g-7")
        assert second.id == "g-7-2"
        await first.terminate()
        third = await executor.rerun("g-7-2")
        assert third.id == "g-7-3"
        info = await third.describe()
        assert (info.input, info.labels, info.workflow) == (given, {"team": "red"}, "greeting")
        assert info.deadline is not None
        # The server has deadlines in milliseconds.
        assert round((info.deadline - info.created_at) / 1e9, 2) == 3600
        await third.signal("go")
        assert await third.result() == "None None ada"

        other = await executor.rerun(
            first.run_id, id="mine", input={"name": "bob"}, timeout="2h", detach=True
        )
        info = await other.describe()
        assert (other.id, info.input) == ("mine", {"name": "bob"})
        assert info.deadline is not None
        assert round((info.deadline - info.created_at) / 1e9, 2) == 7200
        with pytest.raises(AlreadyExistsError):
            await executor.rerun("mine", id="g-7")


@pytest.mark.parametrize("given", [None, 3], ids=["null", "value"])
async def test_an_input_is_passed_as_it_was_recorded(
    either: dict[str, Any], given: int | None
) -> None:
    """None that was given is not the default."""
    async with new_executor(**either, workflows=[single]) as executor, asyncio.timeout(60):
        await (await executor.execute(single, id="s", input=given)).result()
        assert await (await executor.rerun("s")).result() == given
        await (await executor.execute(single, id="d")).result()
        assert await (await executor.rerun("d")).result() == 5


async def test_two_at_once(either: dict[str, Any]) -> None:
    """Each gets an id of its own."""
    async with new_executor(**either, workflows=[single]) as executor, asyncio.timeout(60):
        await (await executor.execute(single, id="s")).result()
        again = await asyncio.gather(*(executor.rerun("s") for _ in range(4)))
        assert sorted(handle.id for handle in again) == ["s-2", "s-3", "s-4", "s-5"]


async def test_an_input_that_no_longer_fits(either: dict[str, Any]) -> None:
    """It is told, with what to type, and nothing is started."""

    async def changed(ctx: WorkflowContext, value: dict[str, int]) -> None:
        """As the workflow is now."""

    async with new_executor(**either, workflows=[single]) as executor, asyncio.timeout(60):
        await (await executor.execute(single, id="s", input=3)).result()
    now = workflow(name="single")(changed)
    async with new_executor(**either, workflows=[now]) as executor, asyncio.timeout(60):
        with pytest.raises(UsageError, match="no longer fits its workflow: input: exp") as raised:
            await executor.rerun("s")
        assert raised.value.hint is not None and "belugawf rerun s --input" in raised.value.hint
        assert len(await executor.list()) == 1
        await (await executor.rerun("s", input={"a": 1})).result()
