"""The payload codec: what it writes it reads back, what does not fit it names, values it hides."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)

import pydantic
import pytest
from hypothesis import given, strategies as st

from belugawf.model import codec
from belugawf.model.errors import (
    PayloadEncodeError,
    PayloadTooLargeError,
    PayloadTypeError,
    UsageError,
)

if TYPE_CHECKING:
    from nowhere import Session  # type: ignore[import-not-found]

SECRET = "hunter2-hunter2"
T = TypeVar("T")
UserId = NewType("UserId", int)


class Colour(Enum):
    RED = "red"
    ONE = 1


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Right(Flag):
    READ = 1
    WRITE = 2


class Odd(Enum):
    PAIR = (1, 2)


class Name(str):
    """A text of its own kind."""


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Options(TypedDict, total=False):
    depth: Required[int]
    tags: list[str]


class Other(TypedDict):
    name: str
    size: NotRequired[int]


@dataclass
class Approval:
    ok: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


@dataclass(kw_only=True)
class Order:
    id: uuid.UUID
    at: datetime
    items: dict[str, Approval]
    total: Decimal
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.size = len(self.items)


@dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = field(default_factory=list)


@dataclass
class Positive:
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError(f"{self.amount} is negative")


@dataclass
class Unresolved:
    fine: int
    session: Session


@dataclass
class WithInit:
    scale: InitVar[int]
    size: int


class Model(pydantic.BaseModel):
    ok: bool
    when: datetime | None = None
    user_name: str = pydantic.Field(default="", alias="userName")
    inner: list[Inner] = []


class Inner(pydantic.BaseModel):
    n: int = pydantic.Field(gt=0)
    code: str = ""

    @pydantic.field_validator("code")
    @classmethod
    def no_secret(cls, value: str) -> str:
        if value == SECRET:
            raise ValueError(f"{value} is secret")
        return value


# -- encode --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (12, "12"),
        (1.5, "1.5"),
        ("Größe 😀", '"Größe 😀"'),
        ([1, (2, 3)], "[1,[2,3]]"),
        ({"a": {"b": None}}, '{"a":{"b":null}}'),
        ({1: "x", Colour.ONE.name: 2}, '{"1":"x","ONE":2}'),
        ({Colour.RED: 1, date(2025, 1, 2): 2}, '{"red":1,"2025-01-02":2}'),
        ({uuid.UUID(int=7): 1}, '{"00000000-0000-0000-0000-000000000007":1}'),
        (Approval(True, "n"), '{"ok":true,"note":"n"}'),
        (Colour.RED, '"red"'),
        ([Level.LOW, Word.YES, Name("n")], '[1,"yes","n"]'),
        (Odd.PAIR, "[1,2]"),
        (datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), '"2025-01-02T03:04:05+00:00"'),
        (datetime(2025, 1, 2, 3), '"2025-01-02T03:00:00"'),
        (date(2025, 1, 2), '"2025-01-02"'),
        (time(3, 4), '"03:04:00"'),
        (timedelta(hours=2, minutes=30), '"2h30m"'),
        (Decimal("12.50"), '"12.50"'),
        (b"\x00\xff", '"AP8="'),
        (PurePosixPath("a/b"), '"a/b"'),
        ({3, 1, 2}, "[1,2,3]"),
        (frozenset({"b", "a"}), '["a","b"]'),
        (Point(1, 2.5), "[1,2.5]"),
        (OrderedDict(a=1), '{"a":1}'),
        (
            Model(ok=True, userName="u"),
            '{"ok":true,"when":null,"userName":"u","inner":[]}',
        ),
        ({"m": Inner(n=1)}, '{"m":{"n":1,"code":""}}'),
    ],
)
def test_encode(value: Any, text: str) -> None:
    """Each supported type has one compact JSON text."""
    assert codec.encode(value) == text


class Plain:
    pass


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def _circle() -> Any:
    value: dict[str, Any] = {"a": []}
    value["a"].append(value)
    return value


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"items": [1, 2, 3, Plain()]}, "value.items[3]", "a Plain has no JSON form"),
        (Approval(True, Plain()), "value.note", "a Plain has"),  # type: ignore[arg-type]
        ({"two words": Plain()}, 'value["two words"]', "a Plain has"),
        ({1: object()}, 'value["1"]', "an object has"),
        (Approval, "value", "a type has"),
        ([float("nan")], "value[0]", "not finite"),
        ({"x": float("inf")}, "value.x", "not finite"),
        (Decimal("NaN"), "value", "not finite"),
        (["\ud800"], "value[0]", "surrogate"),
        ({"a": {"\udfff": 1}}, "value.a", "surrogate"),
        ([10**4300], "value[0]", "4,300 digits"),
        ([timedelta(seconds=-1)], "value[0]", "negative"),
        ({1.5: 1}, "value", "a float cannot be a key"),
        ({True: 1}, "value", "a bool cannot be a key"),
        ({None: 1}, "value", "a NoneType cannot be a key"),
        ({(1, 2): 1}, "value", "a tuple cannot be a key"),
        ({1: "a", "1": "b"}, 'value["1"]', "same text"),
        (_circle(), "value.a[0]", "contains itself"),
        (_deep(201), "value", "deeper than 200"),
        (_deep(100_000), "value", "deeper than 200"),
    ],
)
def test_encode_refuses(value: Any, path: str, reason: str) -> None:
    """What has no JSON form is refused with the path to it and its type."""
    with pytest.raises(PayloadEncodeError) as caught:
        codec.encode(value)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_encode_names_the_root() -> None:
    """`what` is the root of the path."""
    with pytest.raises(PayloadEncodeError, match=r"^input\.x: "):
        codec.encode({"x": Plain()}, what="input")


def test_encode_coroutine() -> None:
    """A coroutine in a payload is nearly always a forgotten await, and the message says so."""

    async def work() -> None: ...

    coroutine = work()
    with pytest.raises(PayloadEncodeError, match="await is missing"):
        codec.encode([coroutine])
    coroutine.close()


def test_encode_failing_model() -> None:
    """An error in a model's own serializer is a refusal, without the error's text."""

    class Failing(pydantic.BaseModel):
        def model_dump(self, **_: Any) -> Any:
            raise RuntimeError(SECRET)

    with pytest.raises(PayloadEncodeError, match="RuntimeError in model_dump") as caught:
        codec.encode([Failing()])
    assert SECRET not in str(caught.value)


def test_encode_shared_values() -> None:
    """A value that stands in two places is no circle."""
    shared = Approval(True)
    assert codec.encode([shared, shared]).count("true") == 2


def test_encode_deepest() -> None:
    """200 levels are allowed in plain data and in data that is not plain."""
    assert codec.parse_json(codec.encode(_deep(200))) == _deep(200)
    assert codec.encode([_deep(199), {1}])


def test_encode_field_never_set() -> None:
    """A dataclass with a field that was never set is named, not an AttributeError."""
    value = object.__new__(Tree)
    with pytest.raises(PayloadEncodeError, match=r"value\.value: the field was never set"):
        codec.encode(value)


@pytest.mark.parametrize("value", ["x" * 9, "ä" * 5, {"k": "abcd"}, {Word.YES: "ab"}])
def test_encode_limit(value: Any) -> None:
    """The limit counts bytes of UTF-8, and is itself allowed."""
    size = len(codec.encode(value).encode())
    assert codec.encode(value, limit=size)
    with pytest.raises(PayloadTooLargeError, match=r"arguments is .* bytes") as caught:
        codec.encode(value, what="arguments", limit=size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)


def test_set_order_does_not_depend_on_the_process() -> None:
    """A set of texts is written in the same order whatever the hash seed is."""
    script = "from belugawf.model.codec import encode; print(encode({'a','b','c','dd','ee',1}))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


JSON_DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=2), inner),
    max_leaves=12,
)


@given(JSON_DATA)
def test_plain_data_comes_back(data: Any) -> None:
    """Plain JSON data is written, and read back the same by both readers."""
    text = codec.encode(data)
    assert codec.decode(text) == data
    assert codec.encode(codec.parse_json(text)) == text


OFFSETS = st.none() | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (datetime, st.datetimes(timezones=OFFSETS)),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas(timedelta(0), timedelta(days=36_525))),
    (uuid.UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (bytes, st.binary()),
    (Path, st.text("ab/.", min_size=1).map(Path)),
    (Colour, st.sampled_from(Colour)),
    (Right, st.sampled_from([Right.READ, Right.READ | Right.WRITE, Right(0)])),
    (Odd, st.just(Odd.PAIR)),
    (Point, st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False))),
    (set[int], st.sets(st.integers())),
    (frozenset[date], st.frozensets(st.dates())),
    (dict[int, list[uuid.UUID]], st.dictionaries(st.integers(), st.lists(st.uuids(), max_size=2))),
    (dict[date, bool], st.dictionaries(st.dates(), st.booleans())),
    (tuple[int, ...], st.lists(st.integers()).map(tuple)),
    (tuple[str, Colour], st.tuples(st.text("ab"), st.sampled_from(Colour))),
    (int | str | None, st.one_of(st.none(), st.integers(), st.text("12"))),
    (Tree, st.recursive(
        st.builds(Tree, st.integers()),
        lambda inner: st.builds(Tree, st.integers(), st.lists(inner, max_size=3)),
        max_leaves=5,
    )),
    (Box[date], st.builds(Box, st.dates(), st.lists(st.dates(), max_size=2))),
    (Order, st.builds(
        Order,
        id=st.uuids(),
        at=st.datetimes(),
        items=st.dictionaries(st.text("ab"), st.builds(Approval, st.booleans(), st.text("x"))),
        total=st.decimals(allow_nan=False, allow_infinity=False),
    )),
    (Model, st.builds(Model, ok=st.booleans(), when=st.none() | st.datetimes())),
]  # fmt: skip


@given(st.data())
def test_typed_values_come_back(data: st.DataObject) -> None:
    """A value, written and converted by its own type, is the same value of the same type."""
    annotation, values = data.draw(st.sampled_from(TYPED))
    value = data.draw(values)
    back = codec.decode(codec.encode(value), annotation)
    assert back == value
    assert type(back) is type(value)


# -- parse_json ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("", 1, 1, "expecting value"),
        ("yes", 1, 1, "expecting value"),
        ("[1,\n 2 3]", 2, 4, "delimiter"),
        ('{"a": 1 "b": 2}', 1, 9, "delimiter"),
        ("[1] [2]", 1, 5, "extra data"),
        ("NaN", 1, 1, "no NaN"),
        ('["NaN",\n -Infinity]', 2, 2, "no NaN"),
        ('{"a": 1,\n "b": {"a": 2},\n "a": 3}', 3, 2, "already"),
        ('[{"a": "x", "b": "a", "c": "x"}, {"a": 1, "\\u0061": 2}]', 1, 43, "already"),
        ('["\\ud83d\\ude00", "\\ud800"]', 1, 18, "surrogate"),
        ('["\ud800"]', 1, 2, "surrogate"),
        ("[1" + "0" * 4300 + "]", 1, 2, "4,300 digits"),
        ("[12, 1e999]", 1, 6, "too large"),
        ("[" * 201 + "]" * 201, 1, 201, "deeper than 200"),
        ("[" * 100_000, 1, 201, "deeper than 200"),
        ('{"a":' * 201 + "1" + "}" * 201, 1, 1001, "deeper than 200"),
        ("\ufeff1", 1, 1, ""),
    ],
)
def test_parse_json_refuses(text: str, line: int, column: int, reason: str) -> None:
    """What isn't valid JSON is refused with its line and column, and a hint."""
    with pytest.raises(UsageError) as caught:
        codec.parse_json(text, what="payload")
    message = caught.value.message
    assert message.startswith("payload isn't valid JSON: ")
    assert message.endswith(f"(line {line}, column {column})")
    assert reason in message
    assert caught.value.hint


@pytest.mark.parametrize("text", [f'"{SECRET}', f'{{"{SECRET}": 1, "{SECRET}": 2}}', SECRET])
def test_parse_json_hides_content(text: str) -> None:
    """No part of the text stands in a message."""
    with pytest.raises(UsageError) as caught:
        codec.parse_json(text)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("9" * 4300, int("9" * 4300)),
        ('"\\ud83d\\ude00 NaN"', "😀 NaN"),
        ('[{"a": 1}, {"a": 1}]', [{"a": 1}, {"a": 1}]),
        ("[" * 200 + "]" * 200, json.loads("[" * 200 + "]" * 200)),
        ("[" + "[]," * 300 + "[]]", [[]] * 301),
        (' {"a" : [ 1 , 2.5e3 ] } ', {"a": [1, 2500.0]}),
    ],
)
def test_parse_json_accepts(text: str, data: Any) -> None:
    """What is JSON and within the limits passes."""
    assert codec.parse_json(text) == data


@given(st.text(st.sampled_from('[]{}",:\\ud8 01eE.-+NaIfinty\n'), max_size=30))
def test_parse_json_never_fails_otherwise(text: str) -> None:
    """Whatever the text is: data that can be encoded again, or a UsageError."""
    try:
        data = codec.parse_json(text)
    except UsageError:
        return
    assert codec.same(codec.encode(data), text)


@pytest.mark.parametrize("text", ["NaN", "nonsense", "[" * 100_000])
def test_decode_refuses_what_is_no_json(text: str) -> None:
    """A recorded text that is broken is a UsageError as well, not a Python error."""
    with pytest.raises(UsageError, match="result isn't valid JSON"):
        codec.decode(text, what="result")


# -- convert -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "annotation", "value"),
    [
        (3, float, 3.0),
        (None, None, None),
        (None, Optional[int], None),  # noqa: UP045
        (1, Union[str, int], 1),  # noqa: UP007
        ("1", int | str, "1"),
        (True, int | bool, True),
        (3, float | int, 3),
        ("2025-01-02", date | str, "2025-01-02"),
        ("2025-01-02", date | None, date(2025, 1, 2)),
        ({"x": 1}, Any, {"x": 1}),
        ({"x": 1}, object, {"x": 1}),
        ([1], T, [1]),
        (1, Annotated[int, "a comment", []], 1),
        (1, UserId, 1),
        ("a", Literal["a", 1], "a"),
        (1, Literal["a", 1], 1),
        ("red", Literal[Colour.RED], Colour.RED),
        (1, Colour, Colour.ONE),
        (1, Level, Level.LOW),
        ("yes", Word, Word.YES),
        ([1, 2], Odd, Odd.PAIR),
        ("n", Name, Name("n")),
        ([1, 2], list, [1, 2]),
        ([1, 2], tuple, (1, 2)),
        ([], tuple[()], ()),
        ([1, 2], Sequence[int], [1, 2]),
        ([1, 2], Iterable[int], [1, 2]),
        ({"a": 1}, Mapping[str, int], {"a": 1}),
        ({"1": 2}, dict[int, int], {1: 2}),
        ({"1": 2, "a": 3}, dict[int | str, int], {1: 2, "a": 3}),
        ({"1": 0, "red": 1}, dict[Colour, int], {Colour.ONE: 0, Colour.RED: 1}),
        ({"2025-01-02": 1}, dict[date, int], {date(2025, 1, 2): 1}),
        ([1], Point, Point(1)),
        ({"ok": True}, Approval, Approval(True)),
        ({"depth": 1}, Options, {"depth": 1}),
        ({"name": "n"}, Other, {"name": "n"}),
        ({"content": 1, "more": ["x"]}, Box, Box(1, ["x"])),
        ({"content": 1, "more": [2]}, Box[int], Box(1, [2])),
        ("2025-01-02T03:04:05Z", datetime, datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ({"ok": True, "when": "2025-01-02T03:04:05Z"}, Model,
         Model(ok=True, when=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC))),
    ],
)  # fmt: skip
def test_convert(data: Any, annotation: Any, value: Any) -> None:
    """JSON data becomes the value of its type."""
    converted = codec.convert(data, annotation)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("data", "annotation", "path", "expected", "found"),
    [
        (1, bool, "value", "bool", "a number"),
        ("yes", bool, "value", "bool", "a text"),
        (True, int, "value", "int", "true/false (a boolean)"),
        (3.0, int, "value", "int", "a number with a decimal point"),
        (True, float, "value", "float", "true/false (a boolean)"),
        (10**400, float, "value", "float", "a number that is too large"),
        (1, str, "value", "str", "a number"),
        (None, str, "value", "str", "null"),
        (0, None, "value", "None", "a number"),
        ({}, str, "value", "str", "an object"),
        ([], dict[str, int], "value", "dict[str, int]", "a list"),
        (True, Literal[1], "value", "1", "true/false (a boolean)"),
        (1.0, Literal[1], "value", "1", "a number with a decimal point"),
        (True, Colour, "value", 'Colour ("red" | 1)', "true/false (a boolean)"),
        ("blue", Colour, "value", 'Colour ("red" | 1)', "another text"),
        ([1, "2"], list[int], "value[1]", "int", "a text"),
        ({"a": [{"b": 1}]}, dict[str, list[dict[str, str]]], "value.a[0].b", "str", "a number"),
        ([1, 2, 3], tuple[int, int], "value", "tuple[int, int]", "a list of 3 items"),
        ([[1]], set[Any], "value", "set", "a list with items that no set can hold"),
        ({"x": 1}, dict[int, int], "value.x", "a whole number as key", "another text"),
        ({"1": 1, "01": 2}, dict[int, int], 'value["01"]', "a whole number as key", "another text"),
        ({"ok": 1}, Approval, "value.ok", "bool", "a number"),
        ({"ok": 1}, Approval | None, "value.ok", "bool", "a number"),
        (1, Approval | None, "value", "Approval {ok: bool, note?: str} | None", "a number"),
        ({"note": ""}, Approval, "value", "Approval {ok: bool, note?: str}",
         'an object without "ok"'),
        ({"ok": True, "nota": ""}, Approval, "value", "Approval {ok: bool, note?: str}",
         'an object with the unknown key "nota"'),
        ({"tags": []}, Options, "value", "Options {depth: int, tags?: list[str]}",
         'an object without "depth"'),
        ({"name": "n", "x": 1}, Other, "value", "Other {name: str, size?: int}",
         'an object with the unknown key "x"'),
        ({"amount": -1}, Positive, "value", "Positive {amount: int}",
         "a value that Positive refuses with a ValueError"),
        ({"content": "x"}, Box[int], "value.content", "int", "a text"),
        ({"ok": "yes"}, Model, "value.ok", "a valid boolean", "a text"),
        ({}, Model, "value.ok", "a value", "nothing"),
        ({"ok": True, "inner": [{"n": 0}]}, Model, "value.inner[0].n", "greater than 0",
         "a number"),
        ([{"n": 1, "code": SECRET}], list[Inner], "value[0].code",
         "what Inner accepts (value_error)", "a text"),
        ({"fine": 1, "session": 1}, Unresolved, "value.session",
         "Session (a type hint that cannot be resolved)", "a number"),
        ({"fine": "x"}, Unresolved, "value.fine", "int", "a text"),
        ({}, Plain, "value", "Plain (a type that JSON data cannot become)", "an object"),
        (1, "Nowhere", "value", "Nowhere (a type hint that cannot be resolved)", "a number"),
        ({"size": 1}, WithInit, "value", "WithInit {size: int}",
         "a value that WithInit refuses with a TypeError"),
    ],
)  # fmt: skip
def test_convert_refuses(data: Any, annotation: Any, path: str, expected: str, found: str) -> None:
    """What does not fit is named with its path, what was expected, and a word for what it is."""
    with pytest.raises(PayloadTypeError) as caught:
        codec.convert(data, annotation)
    assert (caught.value.path, caught.value.expected, caught.value.found) == (path, expected, found)


@pytest.mark.parametrize(
    ("annotation", "texts"),
    [
        (datetime, ["2025-01-02", "20250102T030405", "2025-13-01T00:00", "now", ""]),
        (date, ["2025-01-02T00:00", "20250102", "2025-02-30", "2025-W01-1"]),
        (time, ["25:00", "3", "noon"]),
        (timedelta, ["90", "1:30", "-1s", "soon"]),
        (uuid.UUID, ["{123e4567-e89b-12d3-a456-426614174000}", "123e4567", "urn:uuid:x"]),
        (Decimal, ["NaN", "1_000", " 1", "Infinity", "1e", "one"]),
        (bytes, ["abc", "****", "ä"]),
    ],
)
def test_convert_texts_that_are_no_such_value(annotation: Any, texts: list[str]) -> None:
    """A text of another form is refused, with an example and without the text itself."""
    for text in texts:
        with pytest.raises(PayloadTypeError, match=f"expected {annotation.__name__}, .* such as"):
            codec.convert(text, annotation)


def test_convert_says_the_nearest_key() -> None:
    """An unknown key comes with the key that was probably meant."""
    with pytest.raises(PayloadTypeError) as caught:
        codec.convert({"ok": True, "nots": ""}, Approval)
    assert caught.value.hint == 'did you mean "note"?'


def test_convert_hides_values() -> None:
    """Whatever is refused, for whatever type: the value stands in no message."""
    for annotation, _ in [*TYPED, (int, None), (Positive, None), (Inner, None)]:
        for data in (SECRET, [SECRET], {"n": SECRET, "code": SECRET}, {"v": [SECRET]}):
            try:
                codec.convert(data, annotation)
            except PayloadTypeError as error:
                assert SECRET not in str(error)
                assert SECRET not in str(error.hint)


def test_convert_order_of_unions() -> None:
    """Equal unions are kept apart: each takes its own first member."""
    data = {"depth": 1}

    @dataclass
    class Deep:
        depth: int

    assert codec.convert(data, Deep | Options) == Deep(1)
    assert codec.convert(data, Options | Deep) == {"depth": 1}


def test_convert_local_class_that_names_itself() -> None:
    """A class defined inside a function can name itself in its hints."""

    @dataclass
    class Node:
        next: Node | None = None

    assert codec.convert({"next": {"next": None}}, Node) == Node(Node(None))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is new in 3.12")
def test_convert_type_statement() -> None:
    """A named alias may stand in itself."""
    scope: dict[str, Any] = {}
    exec("type Nested = int | list[Nested]", scope)
    assert codec.convert([1, [2, [3]]], scope["Nested"]) == [1, [2, [3]]]
    assert codec.describe(scope["Nested"]) == "int | list[Nested]"
    with pytest.raises(PayloadTypeError, match=r"value\[1\]\[0\]: expected int"):
        codec.convert([1, ["x"]], scope["Nested"])


def test_convert_deep_data() -> None:
    """Data nested beyond Python's recursion limit is refused, not a RecursionError."""
    data: dict[str, Any] = {"value": 1}
    for _ in range(100_000):
        data = {"value": 1, "children": [data]}
    with pytest.raises(PayloadTypeError, match="nested too deep"):
        codec.convert(data, Tree)
    while data.get("children"):  # let go of it level by level
        data = data["children"].pop()


def test_fields_that_init_does_not_take() -> None:
    """They come back as they were written, and need not be given."""  # FINDINGS C1
    order = Order(id=uuid.UUID(int=1), at=datetime(2025, 1, 1), items={}, total=Decimal(1))
    data = json.loads(codec.encode(order))
    assert data.pop("size") == 0
    assert codec.convert(data, Order) == order
    order.size = 7
    assert codec.convert(data | {"size": 7}, Order) == order


# -- describe, schema, check ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (bool, "bool"),
        (None, "None"),
        (str | None, "str | None"),
        (Any, "any value"),
        (list[int], "list[int]"),
        (list, "list"),
        (dict, "dict"),
        (dict[str, Any], "dict[str, any value]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple[int, str], "tuple[int, str]"),
        (Literal["a", 1], '"a" | 1'),
        (Colour, 'Colour ("red" | 1)'),
        (datetime, "datetime"),
        (Approval, "Approval {ok: bool, note?: str}"),
        (Tree, "Tree {value: int, children?: list[Tree]}"),
        (Point, "Point [x: int, y: float]"),
        (
            Model,
            "Model {ok: bool, when?: datetime | None, userName?: str, "
            "inner?: list[Inner {n: int, code?: str}]}",
        ),
        (Plain, "Plain (a type that JSON data cannot become)"),
    ],
)
def test_describe(annotation: Any, text: str) -> None:
    """Types are described in words that a person can answer to."""
    assert codec.describe(annotation) == text


def test_schema() -> None:
    """A schema is plain JSON; where nothing can be said, there is none."""
    assert codec.schema(Approval) == {
        "type": "object",
        "title": "Approval",
        "properties": {"ok": {"type": "boolean"}, "note": {"type": "string"}},
        "additionalProperties": False,
        "required": ["ok"],
    }
    assert codec.schema(int | None) == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert codec.schema(Literal["a"]) == {"const": "a"}
    for annotation in (Any, object, Model, Plain, str | Any):
        assert codec.schema(annotation) is None


CHECKED = [
    annotation for annotation, _ in TYPED if annotation not in (Model, Tree, Order, Path)
] + [
    bool, int, float, str, None, list, dict, Approval, Options, Other, list[Approval | None],
    dict[str, list[int]], Literal["a", 1, True], dict[Colour, int], dict[int | str, bool],
    Point | Approval | None, tuple[()], list[Box[int]],
]  # fmt: skip
ODD_DATA = st.recursive(
    st.sampled_from(
        [None, True, False, 0, 1, 1.0, 2.5, "", "a", "red", "1", "2025-01-02", "2h", "AP8=",
         "2025-01-02T03:04:05", "123e4567-e89b-12d3-a456-426614174000"]
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["ok", "note", "depth", "tags", "name", "content", "1", "red", "x"]),
        inner,
        max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(CHECKED), ODD_DATA)
def test_check_agrees_with_convert(annotation: Any, data: Any) -> None:
    """A schema, written and read, accepts exactly what the type itself accepts."""
    schema = codec.schema(annotation)
    assert schema is not None
    schema = json.loads(json.dumps(schema))
    assert _accepts(lambda: codec.check(data, schema)) == _accepts(
        lambda: codec.convert(data, annotation)
    )


def _accepts(call: Any) -> bool:
    try:
        call()
    except PayloadTypeError:
        return False
    return True


@pytest.mark.parametrize(
    ("annotation", "data", "message"),
    [
        (bool, "yes", "payload: expected bool, found a text"),
        (int, True, "payload: expected int, found true/false (a boolean)"),
        (Approval, {"ok": 1}, "payload.ok: expected bool, found a number"),
        (Approval, {}, 'payload: expected Approval, found an object without "ok"'),
        (Approval | None, 1, "payload: expected Approval | None, found a number"),
        (Literal["a", "b"], "c", 'payload: expected "a" | "b", found another text'),
        (
            Decimal,
            "x",
            'payload: expected Decimal, a text such as "12.50", found another text',
        ),
    ],
)
def test_check_messages(annotation: Any, data: Any, message: str) -> None:
    """`check` speaks as `convert` does."""
    schema = codec.schema(annotation)
    assert schema is not None
    with pytest.raises(PayloadTypeError) as caught:
        codec.check(data, schema)
    assert caught.value.message == message


# -- same ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ('{"a":1,"b":[1,2]}', '{ "b": [1, 2], "a": 1 }', True),
        ('"\\u00e4"', '"ä"', True),
        ("1", "true", False),
        ("1", "1.0", False),
        ("[1,2]", "[2,1]", False),
        ('{"a":null}', "{}", False),
        ("nonsense", "nonsense", True),
        ("nonsense", "1", False),
    ],
)
def test_same(a: str, b: str, expected: bool) -> None:
    """Two texts are the same if they mean the same; 1, 1.0 and true do not."""
    assert codec.same(a, b) is expected


@given(JSON_DATA)
def test_same_is_blind_to_layout(data: Any) -> None:
    """Indented and key-sorted, a text stays the same."""
    assert codec.same(codec.encode(data), json.dumps(data, indent=1, sort_keys=True))
