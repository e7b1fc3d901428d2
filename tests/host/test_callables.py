"""Whatever can be called can be an activity, on the loop, in a thread, and in a process of its own.

Guards FINDINGS A9, A10.
"""

from __future__ import annotations

import asyncio
import functools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from belugawf import (
    RetryPolicy,
    WorkflowContext,
    WorkflowFailedError,
    activity,
    new_executor,
    workflow,
)
from belugawf.authoring.activity import mark_of
from belugawf.authoring.loader import Catalog
from tests.host import callables
from tests.host.callables import HERE, ISOLATED, METHODS

UNMARKED = {
    "a partial": functools.partial(callables.sums, 1),
    "a partial of async": functools.partial(callables.sums_async, other=1),
    "an object": callables.Adding(1),
    "an object with async": callables.AddingLater(1),
    "a bound method": callables.Adding(1).__call__,
    "a builtin": (1).__add__,
}
ALL = [
    (sort, name, function)
    for sort, made in (
        ("here", HERE),
        ("isolated", ISOLATED),
        ("method", METHODS),
        ("unmarked", UNMARKED),
    )
    for name, function in made.items()
]


@workflow
async def calls(ctx: WorkflowContext) -> list[Any]:
    """Adds one to 1, in all sorts of ways; or says how that failed."""
    started = [ctx.start_activity(function, 1) for _, _, function in ALL]
    ended = await asyncio.gather(*started, return_exceptions=True)
    return [str(end) if isinstance(end, BaseException) else end for end in ended]


@workflow
async def resumes(ctx: WorkflowContext) -> object:
    retry = RetryPolicy(2, initial_delay=0.01)
    return await ctx.execute_activity(callables.beats, 1, retry=retry)


def closure() -> Callable[[int], int]:
    @activity(isolation="process")
    def inner(number: int) -> int:
        return number

    return inner


@workflow
async def cannot(ctx: WorkflowContext) -> None:
    retry = RetryPolicy(5, initial_delay=0.01)
    await ctx.execute_activity(closure(), 1, retry=retry)


async def test_whatever_can_be_called(tmp_path: Path) -> None:
    """It gives its result: the awaited one, if that is what it returns."""
    options = {"db": tmp_path / "s.db", "workflows": [calls, resumes, cannot]}
    async with asyncio.timeout(60), new_executor("default", **options) as executor:
        handle = await executor.execute(calls)
        results = await handle.result()
        assert [(*what[:2], result) for what, result in zip(ALL, results, strict=True)] == [
            (*what[:2], 2) for what in ALL
        ]

        # What an attempt reports goes to the next as JSON has it.
        reported = {"at": "2026-01-01T12:00:00+00:00", "price": "1.50", "of": [1, [2]]}
        assert await (await executor.execute(resumes)).result() == reported

        handle = await executor.execute(cannot)
        with pytest.raises(WorkflowFailedError, match=r"inner.* once.* isn't at the top"):
            await handle.result()


def test_by_name() -> None:
    """A catalog knows them too, and where they are defined."""

    @workflow
    async def nothing(ctx: WorkflowContext) -> None: ...

    nothing.__globals__.update(here_0=HERE["cached"], here_1=HERE["a partial"])
    catalog = Catalog.from_functions([nothing])
    for name in ("cached", "a partial"):
        mark = vars(HERE[name])["__belugawf_activity__"]
        assert catalog.activity(mark.name) is HERE[name]
    assert mark_of(UNMARKED["a partial"]).name == "sums"
    assert mark_of(UNMARKED["an object"]).name == "Adding"


MODULES = {
    "__init__": "from .helper import helped, working",
    "other": "NUMBER = 40",
    "helper": """
        from belugawf import WorkflowContext, activity, workflow
        from .other import NUMBER


        @activity(isolation="process")
        def helped(number: int) -> int:
            return number + NUMBER


        @workflow
        async def working(ctx: WorkflowContext, number: int) -> int:
            return await ctx.execute_activity(helped, number)
    """,
}


@pytest.mark.parametrize("package", ["mine", "json"])
async def test_packages_with_relative_imports(package: str, tmp_path: Path) -> None:
    """Also one whose name another module has."""
    folder = tmp_path / f"workflows-{package}"
    (folder / package).mkdir(parents=True)
    for name, source in MODULES.items():
        (folder / package / f"{name}.py").write_text(textwrap.dedent(source))
    async with new_executor("default", db=tmp_path / "s.db", workflows=folder) as executor:
        assert await (await executor.execute("working", input=2)).result() == 42
