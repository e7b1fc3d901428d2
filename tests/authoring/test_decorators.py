"""The decorators: they only mark, and refuse what can be no workflow and no activity."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest

from belugawf import RetryPolicy, UsageError, WorkflowContext, activity, workflow
from belugawf.authoring.activity import annotations_of, mark_of
from belugawf.authoring.failures import describe_failure
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.model import codec
from belugawf.model.errors import DurationError

# -- workflows -----------------------------------------------------------------------------------


@workflow
async def plain(ctx: WorkflowContext, topic: str, size: int = 3) -> str:
    """Does one thing.

    And explains it at length.
    """
    return f"{topic} {size}"


def test_a_workflow_stays_a_function() -> None:
    """It is the very function, callable with anything for a context."""
    assert asyncio.run(plain(None, "whales", size=4)) == "whales 4"  # type: ignore[arg-type]
    assert plain.__name__ == "plain"


def test_a_definition_describes_it() -> None:
    """Name, parameters, result, documentation and place can be read off."""
    definition = WorkflowDefinition(plain)
    assert (definition.name, definition.timeout) == ("plain", None)
    assert definition.doc == "Does one thing."
    assert definition.result_annotation is str
    assert definition.location.startswith(f"{__file__}:")
    shown = [(p.name, p.annotation_text, p.required, p.default_text) for p in definition.parameters]
    assert shown == [("topic", "str", True, None), ("size", "int", False, "3")]


def test_name_and_timeout() -> None:
    """Both can be given; the timeout is any duration."""

    @workflow(name="other", timeout="2h30m")
    async def code(ctx: WorkflowContext) -> None: ...

    definition = WorkflowDefinition(code)
    assert (definition.name, definition.timeout) == ("other", timedelta(hours=2, minutes=30))


def test_keyword_only_parameters() -> None:
    """Parameters after * are parameters as the others."""

    @workflow
    async def code(ctx: WorkflowContext, *, topic: str) -> str:
        return topic

    assert WorkflowDefinition(code).arguments('"whales"') == {"topic": "whales"}


TYPES = {2: int}


def test_annotations_that_do_not_resolve() -> None:
    """Each is resolved by itself; what cannot be is named, and its data comes as it is."""

    @workflow
    async def code(ctx: Missing, odd: TYPES[1], at: date, n: TYPES[2]) -> Gone: ...  # type: ignore  # noqa: F821, PGH003

    definition = WorkflowDefinition(code)  # FINDINGS C3
    assert [p.annotation_text for p in definition.parameters] == [
        "TYPES[1] (a type hint that cannot be resolved)",
        "date",
        "int",
    ]
    assert codec.describe(definition.result_annotation).startswith("Gone (a type hint")
    given = definition.arguments('{"odd": {"x": 1}, "at": "2025-01-02", "n": 3}')
    assert given == {"odd": {"x": 1}, "at": date(2025, 1, 2), "n": 3}


def no_async(ctx: WorkflowContext) -> None: ...


async def no_context() -> None: ...


async def only_keywords(*, ctx: WorkflowContext) -> None: ...


async def any_arguments(ctx: WorkflowContext, *topics: str) -> None: ...


async def any_keywords(ctx: WorkflowContext, **topics: str) -> None: ...


async def positional_only(ctx: WorkflowContext, topic: str, /) -> None: ...


async def generator(ctx: WorkflowContext) -> AsyncIterator[int]:
    yield 1


class Shape:
    async def __call__(self, ctx: WorkflowContext) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_async, "workflow 'no_async' must be an async def"),
        (generator, "workflow 'generator' must be an async def"),
        ("a name", "workflow 'a name' must be an async def"),
        (Shape, "workflow 'Shape' must be an async def"),
        (no_context, "workflow 'no_context' takes no context"),
        (only_keywords, "workflow 'only_keywords' takes no context"),
        (any_arguments, "workflow 'any_arguments' takes *args or **kwargs"),
        (any_keywords, "workflow 'any_keywords' takes *args or **kwargs"),
        (positional_only, "workflow 'positional_only' has positional-only parameters"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.__name__,
)
def test_what_is_no_workflow(function: Any, message: str) -> None:
    """Each bad shape is refused when it is decorated, with what to write."""
    with pytest.raises(UsageError) as caught:
        workflow(function)
    assert caught.value.message == message
    assert caught.value.hint


def test_context_may_be_positional_only() -> None:
    """A slash right after ctx does no harm."""

    @workflow
    async def code(ctx: WorkflowContext, /, topic: str) -> None: ...

    assert [p.name for p in WorkflowDefinition(code).parameters] == ["topic"]


def test_unmarked_functions_are_no_workflows() -> None:
    """A definition of a function without the decorator names it."""
    with pytest.raises(UsageError, match="'no_async' isn't a workflow"):
        WorkflowDefinition(no_async)


@pytest.mark.parametrize("timeout", ["soon", -1, "1:30", True])
def test_a_timeout_is_a_duration(timeout: Any) -> None:
    """What isn't a duration is refused at once, by both decorators."""
    with pytest.raises(DurationError):
        workflow(timeout=timeout)
    with pytest.raises(DurationError):
        activity(timeout=timeout)(no_async)


# -- activities ----------------------------------------------------------------------------------


def test_an_activity_stays_a_function() -> None:
    """Plain and async functions are called as they are."""

    @activity
    def double(number: int) -> int:
        return 2 * number

    @activity(name="other")
    async def triple(number: int) -> int:
        return 3 * number

    assert double(4) == 8
    assert asyncio.run(triple(4)) == 12
    assert (mark_of(double).name, mark_of(triple).name) == ("double", "other")


def test_an_activity_looks_as_it_was_written() -> None:
    """Its name, place, signature and kind are those of the function that was decorated."""

    def plain(number: int, *rest: str) -> int:
        raise ValueError("boom")

    async def waiting(number: int) -> int:
        return number

    for function in (plain, waiting):
        marked: Any = activity(function)
        assert inspect.signature(marked) == inspect.signature(function)
        assert marked.__qualname__ == function.__qualname__
        assert inspect.iscoroutinefunction(marked) == (function is waiting)
        assert asyncio.iscoroutinefunction(marked) == (function is waiting)
        for name in ("co_filename", "co_firstlineno"):
            assert getattr(marked.__code__, name) == getattr(function.__code__, name)
    known = annotations_of(activity(plain))
    assert (known.positional, known.rest, known.result) == ((int,), str, int)
    assert (known.names, known.least, known.most) == (("number",), 1, None)
    with pytest.raises(ValueError, match="boom") as caught:
        activity(plain)(1)
    shown = describe_failure(caught.value).traceback
    assert shown is not None
    assert shown.count("File ") == 2  # this test, and the function


def test_activity_options_are_kept() -> None:
    """What the decorator says is parsed once."""
    policy = RetryPolicy(max_attempts=5)

    @activity(retry=policy, timeout="10m", total_timeout=3600, heartbeat_timeout="30s")
    def work() -> None: ...

    mark = mark_of(work)
    assert mark.retry is policy
    assert mark.timeout == timedelta(minutes=10)
    assert mark.total_timeout == timedelta(hours=1)
    assert mark.heartbeat_timeout == timedelta(seconds=30)
    assert (mark.at_most_once, mark.isolation) == (False, "none")


def test_undecorated_functions_are_activities_too() -> None:
    """They go by their name, without limits."""
    mark = mark_of(no_async)
    assert (mark.name, mark.retry, mark.timeout) == ("no_async", None, None)


def yielding() -> Iterator[int]:
    yield 1


async def yielding_async() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("a name", "activity 'a name' isn't a function"),
        (5, "activity 5 isn't a function"),
        (Shape, "activity 'Shape' isn't a function"),
        (yielding, "activity 'yielding' is a generator, which has no result"),
        (yielding_async, "activity 'yielding_async' is a generator, which has no result"),
    ],
)
def test_what_is_no_activity(function: Any, message: str) -> None:
    """Each bad shape is refused when it is decorated, with what to write."""
    with pytest.raises(UsageError) as caught:
        activity(function)
    assert caught.value.message == message
    assert caught.value.hint


def test_a_partial_has_no_name() -> None:
    """What has no name of its own is refused."""
    with pytest.raises(UsageError, match="isn't a function"):
        activity(functools.partial(no_async))


def test_options_that_contradict() -> None:
    """at_most_once excludes a policy; isolation has two values."""
    with pytest.raises(UsageError, match="at_most_once and a retry policy"):
        activity(at_most_once=True, retry=RetryPolicy())
    with pytest.raises(UsageError, match="isolation of @activity is 'thread'"):
        activity(isolation="thread")  # type: ignore[call-overload]


@pytest.mark.parametrize("ask", [activity.info, activity.heartbeat, activity.cancelled])
def test_outside_of_an_activity(ask: Callable[[], Any]) -> None:
    """There is no attempt to ask about, and the error says where there is."""
    with pytest.raises(UsageError, match="no activity running here") as caught:
        ask()
    assert caught.value.hint
