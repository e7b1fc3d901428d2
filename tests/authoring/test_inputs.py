"""Inputs: as people type them, as callers pass them, as they are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest

from belugawf import PayloadTooLargeError, PayloadTypeError, UsageError, WorkflowContext, workflow
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.model.messages import UNSET


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Order:
    item: str
    count: int = 1


def takes(annotation: Any) -> WorkflowDefinition:
    """A workflow of one parameter with that annotation."""

    async def code(ctx: WorkflowContext, value) -> None: ...  # type: ignore[no-untyped-def]

    if annotation is not None:
        code.__annotations__["value"] = annotation
    return WorkflowDefinition(workflow(code))


@workflow
async def several(
    ctx: WorkflowContext, topic: str, size: int = 3, colours: list[Colour] | None = None
) -> None: ...


@workflow
async def nothing(ctx: WorkflowContext) -> None: ...


# -- --input, one parameter ----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["whales", "5", "null", "true", '"quoted"', "", "[1", " x "])
def test_a_text_is_taken_as_typed(text: str) -> None:
    """For `str` no character is touched."""
    assert takes(str).parse_input(text) == text


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "5", 5),
        (float, "5", 5),
        (bool, "true", True),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Order, '{"item": "x"}', {"item": "x"}),
        (str | None, "null", None),
        (str | None, "whales", "whales"),
        (str | None, "5", "5"),
        (int | str, "5", 5),
        (int | str, "whales", "whales"),
        (Any, "[1]", [1]),
        (Any, "whales", "whales"),
        (None, "5", 5),
        (None, "whales", "whales"),
        # What isn't valid JSON and fits as a text: dates, ids, choices.
        (date, "2026-01-31", "2026-01-31"),
        (date, '"2026-01-31"', "2026-01-31"),
        (UUID, "12345678-1234-5678-1234-567812345678", "12345678-1234-5678-1234-567812345678"),
        (Colour, "red", "red"),
        (Literal["a", "b"], "a", "a"),
        (Decimal, "1.50", None),
    ],
    ids=str,
)
def test_other_types_are_json_else_text(annotation: Any, text: str, value: Any) -> None:
    """JSON where it fits, else the text itself where that fits; it can be encoded then."""
    definition = takes(annotation)
    parsed = definition.parse_input(text)
    if annotation is Decimal:
        assert definition.arguments(definition.encode_input(parsed)) == {"value": Decimal("1.50")}
    else:
        assert parsed == value
        definition.encode_input(parsed)


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (int, "five", "int"),
        (int, "5.5", "int"),
        (int, "true", "int"),
        (bool, "1", "bool"),
        (bool, "yes", "bool"),
        (list[int], '[1, "2"]', "int"),
        (Order, '{"item": 5}', "str"),
        (Order, '{"thing": 5}', "item"),
        (Colour, "green", "Colour"),
        (date, "yesterday", "date"),
    ],
    ids=str,
)
def test_what_fits_in_no_way(annotation: Any, text: str, expected: str) -> None:
    """Refused with the expected type."""
    with pytest.raises(UsageError) as caught:
        takes(annotation).parse_input(text)
    assert expected in str(caught.value)
    assert str(caught.value).startswith("input")


@pytest.mark.parametrize(
    ("annotation", "text", "where"),
    [
        (Order, '{"item": "x"', "column 13"),
        (Order, "{'item': 'x'}", "column 2"),
        (list[int], " [1, 2,]", "column 8"),
        (dict[str, float], '{"a": NaN}', "column 7"),
    ],
    ids=str,
)
def test_broken_json_is_called_so(annotation: Any, text: str, where: str) -> None:
    """What was meant as an object or a list is called no text: its flaw and its place are named."""
    with pytest.raises(UsageError, match="input isn't valid JSON") as caught:
        takes(annotation).parse_input(text)
    assert where in str(caught.value)
    assert takes(str | None).parse_input(text) == text


# -- --input, none and several -------------------------------------------------------------------


def test_several_parameters_are_an_object() -> None:
    """A JSON object by parameter name, each checked."""
    definition = WorkflowDefinition(several)
    assert definition.parse_input('{"topic": "x", "size": 4}') == {"topic": "x", "size": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"topic": "x", "siez": 4}', "workflow 'several' has no parameter 'siez'"),
        ('{"topic": "x", "size": "4"}', "input.size: expected int"),
        ('{"topic": "x", "colours": ["red", "gren"]}', "input.colours"),
    ],
)
def test_an_object_that_does_not_fit(text: str, message: str) -> None:
    """The path leads to what does not fit; unknown and missing names are named."""
    with pytest.raises(UsageError) as caught:
        WorkflowDefinition(several).parse_input(text)
    assert str(caught.value).startswith(message)


def test_no_parameters() -> None:
    """None is no input; anything else is refused."""
    definition = WorkflowDefinition(nothing)
    assert definition.encode_input(UNSET) is None
    assert definition.encode_input(None) is None
    assert definition.arguments(None) == {}
    with pytest.raises(UsageError, match="takes no input"):
        definition.encode_input(5)
    with pytest.raises(UsageError, match="takes no input"):
        definition.parse_input("5")


# -- --arg name=value ----------------------------------------------------------------------------


def test_arguments_one_by_one() -> None:
    """Each by the rule of its own parameter."""
    definition = WorkflowDefinition(several)
    parsed = definition.parse_arguments({"topic": "5", "size": "5", "colours": '["red"]'})
    assert parsed == {"topic": "5", "size": 5, "colours": ["red"]}
    assert definition.arguments(definition.encode_input(parsed)) == {
        "topic": "5",
        "size": 5,
        "colours": [Colour.RED],
    }


def test_the_argument_of_the_only_parameter() -> None:
    """One parameter: its value is the input itself; none given is no input."""
    assert takes(int).parse_arguments({"value": "5"}) == 5

    @workflow
    async def code(ctx: WorkflowContext, value: int = 5) -> None: ...

    assert WorkflowDefinition(code).parse_arguments({}) is UNSET


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"topc": "x"}, "workflow 'several' has no parameter 'topc'"),
        ({"size": "4"}, "workflow 'several' needs topic"),
        ({"topic": "x", "size": "four"}, "size: expected int"),
    ],
)
def test_arguments_that_do_not_fit(pairs: dict[str, str], message: str) -> None:
    """Unknown, missing and wrong ones are named."""
    with pytest.raises(UsageError) as caught:
        WorkflowDefinition(several).parse_arguments(pairs)
    assert str(caught.value).startswith(message)


# -- input= --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (str, "whales", '"whales"'),
        (Order, Order("x", 2), '{"item":"x","count":2}'),
        (Order, {"item": "x"}, '{"item":"x"}'),
        (Colour, Colour.RED, '"red"'),
        (date, date(2026, 1, 31), '"2026-01-31"'),
        (dict[str, int], {"value": 1}, '{"value":1}'),
        (Any, None, "null"),
    ],
    ids=str,
)
def test_values_are_encoded(annotation: Any, value: Any, text: str) -> None:
    """With one parameter the input is the value itself, also where that is a mapping."""
    assert takes(annotation).encode_input(value) == text


def test_values_come_back_as_they_went() -> None:
    """What was recorded is decoded by the annotation."""
    definition = takes(Order)
    assert definition.arguments(definition.encode_input(Order("x", 2))) == {"value": Order("x", 2)}


@pytest.mark.parametrize(("annotation", "value"), [(str, 5), (int, "5"), (bool, 1), (str, None)])
def test_values_of_the_wrong_type(annotation: Any, value: Any) -> None:
    """Refused before anything is started."""
    with pytest.raises(PayloadTypeError, match="input: expected"):
        takes(annotation).encode_input(value)


def test_no_input_where_one_is_needed() -> None:
    """It says what is missing and how to give it; defaults are enough."""
    with pytest.raises(UsageError, match="workflow 'several' needs topic") as caught:
        WorkflowDefinition(several).encode_input(UNSET)
    assert caught.value.hint is not None
    assert "--input" in caught.value.hint
    with pytest.raises(UsageError, match="needs topic"):
        WorkflowDefinition(several).arguments(None)

    @workflow
    async def code(ctx: WorkflowContext, value: int = 5) -> None: ...

    assert WorkflowDefinition(code).encode_input(UNSET) is None


def test_input_limit() -> None:
    """An input over the limit is refused with its size."""
    with pytest.raises(PayloadTooLargeError, match="input is 12 bytes"):
        takes(str).encode_input("x" * 10, limit=5)
