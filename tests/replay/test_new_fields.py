"""Classes that get new fields while runs are open: what had no such field has its default."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pydantic
import pytest

from belugawf import NondeterminismError, WorkflowContext, activity
from tests.replay.driving import Run


@dataclass
class Old:
    amount: int
    at: dt.date


@dataclass
class New:
    amount: int
    at: dt.date
    currency: str = "EUR"
    notes: list[str] = field(default_factory=list)
    parts: list[New] = field(default_factory=list)


@dataclass(frozen=True)
class Outer:
    old: Old


@dataclass(frozen=True)
class NewOuter:
    old: New
    late: bool = False


class OldPoint(NamedTuple):
    x: int


class NewPoint(NamedTuple):
    x: int
    y: int = 0


class OldModel(pydantic.BaseModel):
    x: int


class NewModel(pydantic.BaseModel):
    x: int
    y: dt.date | None = None


TODAY = dt.date(2025, 1, 2)


def takes(annotation: Any, *, name: str = "work") -> Callable[..., Any]:
    """An activity whose parameter has that annotation."""

    def work(value: Any, *more: Any) -> None: ...

    work.__annotations__["value"] = annotation
    return activity(name=name)(work)


def asks(function: Any, *args: Any) -> Callable[..., Any]:
    """A workflow that asks for it with these arguments."""

    async def code(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(function, *args)

    return code


@pytest.mark.parametrize(
    ("old", "new", "annotation"),
    [
        (Old(1, TODAY), New(1, TODAY), New),
        (Old(1, TODAY), New(1, TODAY), New | None),
        ([Old(1, TODAY)], [New(1, TODAY)], list[New]),
        ({"a": (Old(1, TODAY),)}, {"a": (New(1, TODAY),)}, dict[str, tuple[New, ...]]),
        (Outer(Old(1, TODAY)), NewOuter(New(1, TODAY)), NewOuter),
        (OldPoint(1), NewPoint(1), NewPoint),
        (OldModel(x=1), NewModel(x=1), NewModel),
        ({"m": OldModel(x=1)}, {"m": NewModel(x=1)}, dict[str, NewModel]),
    ],
)
@pytest.mark.parametrize("typed", [True, False])
def test_a_new_field_with_its_default(old: Any, new: Any, annotation: Any, typed: bool) -> None:
    """Whether the activity says what it takes, or is asked for by its name."""
    run = Run(asks("work", old, "x"))
    function = takes(annotation) if typed else "work"
    run.replay(code=asks(function, new, "x"))  # FINDINGS C5


def test_of_a_result() -> None:
    """What a workflow returns may have new fields too."""

    async def code(ctx: WorkflowContext) -> Any:
        return Old(1, TODAY)

    async def now(ctx: WorkflowContext) -> Any:
        return New(1, TODAY)

    now.__annotations__["return"] = New
    run = Run(code)
    run.replay(code=now)


@pytest.mark.parametrize(
    ("new", "difference"),
    [
        (New(1, TODAY, "USD"), """arguments[0].currency was {"currency": "EUR"} and is {"curr"""),
        (New(2, TODAY), 'arguments[0].amount was {"amount": 1} and is {"amount": 2}'),
        ({"amount": 1}, 'arguments[0].at was {"at": "2025-01-02"} and is absent'),
        (New(1, TODAY, parts=[New(1, TODAY)]), "arguments[0].parts[0] was absent and is {"),
    ],
)
def test_another_value_is_named(new: Any, difference: str) -> None:
    """With its path, what was recorded, and what it is now; cut, if it is long."""
    run = Run(asks("work", Old(1, TODAY)))
    with pytest.raises(NondeterminismError) as caught:
        run.replay(code=asks("work", new))  # FINDINGS C5
    assert f"activity 'work' with other arguments: {difference}" in caught.value.requested
    assert len(caught.value.requested) < 300
