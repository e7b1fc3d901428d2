"""Whatever is encoded is read as an equal value, or refused with the path to it. No third outcome.

Types are generated with their values: classes of every sort that hints can name, nested in each
other, some of which cannot be kept.
"""

from __future__ import annotations

import itertools
import types
import typing
import uuid
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

import pydantic
import pytest
import typing_extensions
from hypothesis import HealthCheck, given, settings, strategies as st

from belugawf.model import codec
from belugawf.model.errors import PayloadEncodeError, PayloadTypeError

T = TypeVar("T")
U = TypeVar("U")
counter = itertools.count()

# A type hint, and values of it.
Typed: TypeAlias = tuple[Any, st.SearchStrategy[Any]]


class Colour(Enum):
    RED = "red"
    ONE = 1
    PAIR = (1, 2)


class Twins(Enum):
    """Two members with one JSON."""

    TUPLE = (1, 2)
    LIST = [1, 2]  # noqa: RUF012


class Word(StrEnum):
    YES = "yes"


class Level(IntEnum):
    LOW = 1


class Right(Flag):
    READ = 1
    WRITE = 2


UserId = NewType("UserId", int)

# In none of them an hour comes twice.
ZONES = [UTC, timezone(timedelta(minutes=-90)), ZoneInfo("Etc/GMT+3")]

EXACT: list[Typed] = [
    (None, st.none()),
    (bool, st.booleans()),
    (int, st.integers()),
    (str, st.text(max_size=3)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (UserId, st.integers()),
    (date, st.dates()),
    (datetime, st.datetimes() | st.datetimes(timezones=st.sampled_from(ZONES))),
    (time, st.times() | st.times(timezones=st.just(timezone(timedelta(minutes=90))))),
    (timedelta, st.timedeltas(timedelta(0))),
    (uuid.UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (bytes, st.binary(max_size=4)),
    (PurePosixPath, st.sampled_from([PurePosixPath("a/b"), PurePosixPath("")])),
    (Colour, st.sampled_from(Colour)),
    (Word, st.sampled_from(Word)),
    (Level, st.sampled_from(Level)),
    (Right, st.sampled_from([Right.READ, Right.READ | Right.WRITE, Right(0)])),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
]
# Of these, some values cannot be kept.
ODD: list[Typed] = [
    (Twins, st.sampled_from(Twins)),
    (timedelta, st.timedeltas()),
    (float, st.floats()),
    (Decimal, st.decimals()),
    (time, st.times(timezones=st.timezones())),
]


@dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = field(default_factory=list)


@dataclass
class Pair(Generic[T, U]):
    first: T
    second: dict[str, U]


class Points(NamedTuple, Generic[T]):
    x: T
    rest: tuple[T, ...] = ()


class Options(typing.TypedDict, Generic[T], total=False):
    depth: typing.Required[T]
    tags: list[T]


@dataclass
class Adds:
    """Not made again of its fields: `extra` is added each time."""

    total: int
    extra: InitVar[int] = 0

    def __post_init__(self, extra: int) -> None:
        self.total += extra


@dataclass
class Needs:
    """Not made again of its fields: one argument is missing."""

    size: int
    scale: InitVar[int]
    area: int = field(init=False)

    def __post_init__(self, scale: int) -> None:
        self.area = self.size * scale


@dataclass
class Grows:
    """Each time that it is made it is one longer."""

    items: list[int]

    def __post_init__(self) -> None:
        self.items.append(0)


@dataclass(frozen=True)
class Numbered:
    """Fields that the class sets itself, each time another value."""

    name: str
    number: int = field(init=False, default_factory=lambda: next(counter))


@dataclass(frozen=True, slots=True)
class Positive:
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError("negative")


class Secret(pydantic.BaseModel):
    name: str
    key: pydantic.SecretStr


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    side: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class Json(pydantic.BaseModel):
    data: pydantic.Json[list[int]]


class TwoNames(pydantic.BaseModel):
    side: int = pydantic.Field(validation_alias="in", serialization_alias="out")


class Excluded(pydantic.BaseModel):
    side: int = pydantic.Field(default=0, exclude=True)


class Loose(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", populate_by_name=True)
    user_name: str = pydantic.Field(alias="userName")
    when: datetime | None = None
    sizes: set[int] = set()


CLASSES: list[Typed] = [
    (Adds, st.builds(Adds, st.integers(), st.integers(0, 1))),
    (Needs, st.builds(Needs, st.integers(), st.integers())),
    (Grows, st.builds(Grows, st.lists(st.integers(), max_size=1))),
    (Secret, st.builds(Secret, name=st.text(), key=st.text(max_size=1))),
    (TwoNames, st.builds(lambda n: TwoNames(**{"in": n}), st.integers())),
    (Excluded, st.builds(Excluded, side=st.integers(0, 1))),
]
KEPT_CLASSES: list[Typed] = [
    (Numbered, st.builds(Numbered, st.text("ab"))),
    (Positive, st.builds(Positive, st.integers(0))),
    (Computed, st.builds(Computed, side=st.integers())),
    (Json, st.builds(lambda n: Json(data=f"[{n}]"), st.integers())),
    (Loose, st.builds(Loose, userName=st.text("ab"), when=st.none() | st.datetimes())),
]
KEYS: list[Typed] = [
    (str, st.text("ab1")),
    (int, st.integers(0, 9)),
    (date, st.dates()),
    (Word, st.sampled_from(Word)),
    (uuid.UUID, st.uuids()),
]


def _list(item: Typed) -> Typed:
    return list[item[0]], st.lists(item[1], max_size=2)  # type: ignore[name-defined]


def _tuple(item: Typed) -> Typed:
    return tuple[item[0], ...], st.lists(item[1], max_size=2).map(tuple)  # type: ignore[name-defined]


def _annotated(item: Typed) -> Typed:
    return Annotated[item[0], "a note"], item[1]


def _box(item: Typed) -> Typed:
    return Box[item[0]], st.builds(Box, item[1], st.lists(item[1], max_size=1))  # type: ignore[name-defined]


def _fixed_box(item: Typed) -> Typed:
    fixed = types.new_class("FixedBox", (Box[item[0]],))  # type: ignore[name-defined]
    return fixed, st.builds(fixed, item[1])


def _fixed_pair(item: Typed) -> Typed:
    half = dataclass(types.new_class("Half", (Pair[int, T], Generic[T])))
    fixed = types.new_class("FixedPair", (half[item[0]],))  # type: ignore[index]
    seconds = st.dictionaries(st.text("ab"), item[1], max_size=2)
    return fixed, st.builds(fixed, st.integers(), seconds)


def _points(item: Typed) -> Typed:
    return Points[item[0]], st.builds(Points, item[1], st.tuples(item[1]))  # type: ignore[name-defined]


def _options(item: Typed) -> Typed:
    values = st.fixed_dictionaries(
        {"depth": item[1]}, optional={"tags": st.lists(item[1], max_size=1)}
    )
    return Options[item[0]], values  # type: ignore[name-defined]


def _other_typed_dict(item: Typed) -> Typed:
    made = typing_extensions.TypedDict(  # type: ignore[misc]  # noqa: UP013
        "made",
        {"a": typing_extensions.ReadOnly[item[0]], "b": typing_extensions.NotRequired[item[0]]},
    )
    return made, st.fixed_dictionaries({"a": item[1]}, optional={"b": item[1]})


def _record(item: Typed) -> Typed:
    made = make_dataclass(
        "Made",
        [
            ("given", item[0]),
            ("set", item[0] | None if isinstance(item[0], type) else Any, field(init=False)),
        ],
        kw_only=True,
    )

    def make(given: Any) -> Any:
        value = made(given=given)
        value.set = None
        return value

    return made, item[1].map(make)


def _model(item: Typed) -> Typed:
    # Older versions of pydantic take None for no annotation.
    hint = type(None) if item[0] is None else item[0]
    made: Any = pydantic.create_model(
        "Made", given=(hint, pydantic.Field(alias="theGiven")), rest=(list[item[0]], [])
    )

    def make(value: Any) -> Any:
        try:
            return made(theGiven=value)
        except pydantic.ValidationError:
            return made.model_construct(given=value, rest=[])

    return made, item[1].map(make)


MODELS = [_model(leaf) for leaf in EXACT + ODD]
WRAPPERS: list[Callable[[Typed], Typed]] = [
    *(_list, _tuple, _annotated, _box, _fixed_box, _fixed_pair, _points, _options),
    *(_other_typed_dict, _record),
]


@st.composite
def _typed(draw: st.DrawFn, leaves: list[Typed], unions: bool, levels: int = 3) -> Typed:
    wrappers = [*WRAPPERS, *([_union] if unions else []), _mapping, _ordered]
    found = draw(st.sampled_from(leaves))
    for _ in range(draw(st.integers(0, levels))):
        wrap = draw(st.sampled_from(wrappers))
        if wrap in (_union, _mapping, _ordered):
            found = wrap(found, draw(st.sampled_from(leaves if wrap is _union else KEYS)))
        else:
            found = wrap(found)
    return found


def _union(item: Typed, other: Typed) -> Typed:
    return typing.Union[item[0], other[0]], item[1] | other[1]  # noqa: UP007


def _mapping(item: Typed, key: Typed) -> Typed:
    return dict[key[0], item[0]], st.dictionaries(key[1], item[1], max_size=2)  # type: ignore[name-defined]


def _ordered(item: Typed, key: Typed) -> Typed:
    values = st.dictionaries(key[1], item[1], max_size=2)
    return OrderedDict[key[0], item[0]], values.map(OrderedDict)  # type: ignore[name-defined]


QUICK = settings(max_examples=250, suppress_health_check=list(HealthCheck), deadline=None)


@QUICK
@given(st.data())
def test_equal_or_refused(data: st.DataObject) -> None:
    """Whatever the type and the value, unions and classes that cannot be kept among them."""
    hint, values = data.draw(_typed(EXACT + ODD + CLASSES + KEPT_CLASSES + MODELS, True))
    value = data.draw(values)
    try:  # FINDINGS C1, C2, C4, E4
        text = codec.encode_as(value, hint)
    except PayloadEncodeError as error:
        assert error.path.startswith("value")
        return
    assert codec.decode(text, hint) == value


@QUICK
@given(st.data())
def test_what_can_be_kept_is(data: st.DataObject) -> None:
    """Nothing is refused of types that say what they hold."""
    hint, values = data.draw(_typed(EXACT + KEPT_CLASSES, False))
    value = data.draw(values)
    assert codec.decode(codec.encode(value), hint) == value
    assert codec.encode_as(value, hint) == codec.encode(value)


def test_a_moment_that_comes_twice() -> None:
    """It is equal to none in another zone, as Python has it; it is kept all the same."""
    moment = datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    back = codec.decode(codec.encode_as(moment, datetime), datetime)
    assert back.isoformat() == moment.isoformat()


@dataclass(eq=False)
class ByIdentity:
    when: date
    parts: list[ByIdentity] = field(default_factory=list)


class Plain(dict[str, int]):
    pass


@pytest.mark.parametrize(
    ("value", "hint", "path", "reason"),
    [
        (date(2025, 1, 2), str | date, "value", "a date would arrive as a str"),
        (["2025-01-02"], list[date] | list[str], "value", "a list would arrive as another one"),
        ({"a": [b"x"]}, dict[str, list[bytes | str]], "value.a[0]", "a bytes would arrive as"),
        ({1: 2}, dict[str, int], 'value["1"]', "an int would arrive as a str"),
        (Secret(name="a", key="b"), Any, "value.key", "does not read back what it writes"),
        (Excluded(side=1), Any, "value.side", "does not read back what it writes"),
        (Needs(1, 2), Any, "value", "cannot be made again of its fields (TypeError)"),
        ([Adds(1, 1), Grows([])], Any, "value[1].items", "changes it whenever it is made"),
        (Twins.LIST, Any, "value", "reads as another of its members"),
        (Decimal("1e9999999999"), Any, "value", "exponent of more than 9 digits"),
        (time(1, tzinfo=ZoneInfo("Europe/Berlin")), Any, "value", "zone depends on the date"),
        (Box(date(2025, 1, 2)), codec.Unresolved("Box"), "value", "hint 'Box' cannot be resolved"),
    ],
)
def test_what_is_refused(value: Any, hint: Any, path: str, reason: str) -> None:
    """With the path, and why."""
    with pytest.raises(PayloadEncodeError) as caught:
        codec.encode_as(value, hint)
    assert (caught.value.path, reason in caught.value.reason) == (path, True)


@pytest.mark.parametrize(
    ("value", "hint"), [(5, str), ([], dict), (Plain(a=1), Plain), (Box(1), Box[str]), ("x", date)]
)
def test_what_does_not_fit(value: Any, hint: Any) -> None:
    """A value that its reader's type does not take is refused when it is written."""
    with pytest.raises(PayloadTypeError):
        codec.encode_as(value, hint)


@pytest.mark.parametrize(
    ("value", "hint", "back"),
    [
        ({"content": "2025-01-02"}, Box[date], Box(date(2025, 1, 2))),
        ((1, 2), list[int], [1, 2]),
        ([1, 2], tuple[int, int], (1, 2)),
        ([1, 2], set[int], {1, 2}),
        ("red", Colour, Colour.RED),
        ("2025-01-02", date, date(2025, 1, 2)),
        ({"1": "2h"}, dict[int, timedelta], {1: timedelta(hours=2)}),
        (Counter(a=2), Counter[str], Counter(a=2)),
        (defaultdict(list, {1: [2]}), defaultdict[int, list[int]], {1: [2]}),
        ({"x": date(2025, 1, 2)}, dict[str, Any], {"x": "2025-01-02"}),
        (timedelta(days=50_000), timedelta, timedelta(days=50_000)),
    ],
)
def test_what_json_stands_for(value: Any, hint: Any, back: Any) -> None:
    """JSON data becomes what its reader's type says; where that says nothing, it stays as it is."""
    assert codec.decode(codec.encode_as(value, hint), hint) == back


def test_classes_without_equality() -> None:
    """They are compared field by field."""
    value = ByIdentity(date(2025, 1, 2), [ByIdentity(date(2025, 1, 3))])
    back = codec.decode(codec.encode_as(value, ByIdentity | None), ByIdentity | None)
    assert back.parts[0].when == date(2025, 1, 3)


def test_a_defaultdict_makes_what_it_holds() -> None:
    """What it makes for a missing key is its values' type."""
    back = codec.decode('{"a":[1]}', defaultdict[str, list[int]])
    assert back["b"] == []


def test_one_hint_does_not_take_the_others_with_it() -> None:
    """Of a class too, and of what it inherits."""

    @dataclass
    class Base:
        at: date
        gone: Nowhere = None  # type: ignore[name-defined]  # noqa: F821

    @dataclass
    class Derived(Base):
        n: int = 0

    with pytest.raises(PayloadTypeError, match="Nowhere"):
        codec.convert({"at": "2025-01-02", "gone": 1}, Derived)  # FINDINGS C3
    assert codec.convert({"at": "2025-01-02"}, Derived) == Derived(date(2025, 1, 2))


@pytest.mark.parametrize(
    ("data", "hint", "how"),
    [
        (12.5, Decimal, 'write it in quotes: "12.50"'),
        ({"price": 1}, dict[str, Decimal | None], 'write it in quotes: "12.50"'),
        ("12", int, "write a whole number, without quotes: 12"),
        (["yes"], list[bool], "write true or false, without quotes"),
        ("1.5", float | None, "write a number, without quotes: 12.5"),
        (5, str, 'write it in quotes: "text"'),
        ("[1]", list[int], "write a list, without quotes: [1, 2]"),
        ("x", Decimal, None),
    ],
)
def test_how_to_write_it(data: Any, hint: Any, how: str | None) -> None:
    """A number where a text is wanted, or a text where a number is: it says what to write."""
    with pytest.raises(PayloadTypeError) as caught:
        codec.convert(data, hint)  # FINDINGS C6
    assert caught.value.hint == how
    schema = codec.schema(hint)
    assert schema is not None
    with pytest.raises(PayloadTypeError) as checked:
        codec.check(data, schema)
    assert checked.value.hint == how
