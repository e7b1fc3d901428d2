"""`frozen` and `mutable` give what dataclasses with slots give: each law is shown on both."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, ClassVar

import pytest

from belugawf.model.values import frozen, mutable


class _Bodies:
    """The same fields for both decorators."""

    kind: ClassVar[str] = "point"


def _point(decorate: Callable[[Any], Any]) -> Any:
    class Point(_Bodies):
        x: int
        y: int = 2
        tags: list[str] = field(default_factory=list)
        secret: str = field(default="s", repr=False)
        seen: int = field(default=0, compare=False)

    return decorate(Point)


def _often(made: Any) -> Any:
    """The class, with an `__init__` that was compiled, as it has many instances."""
    for number in range(9):
        made(x=number)
    return made


_MADE = {
    "frozen": lambda make, **options: make(frozen(**options)),
    "frozen, compiled": lambda make, **options: _often(make(frozen(**options))),
    "dataclass": lambda make, **options: make(dataclass(frozen=True, slots=True, **options)),
    "mutable": lambda make: make(mutable()),
    "mutable, compiled": lambda make: _often(make(mutable())),
    "dataclass that changes": lambda make: make(dataclass(eq=False, slots=True)),
}
_FROZEN, _MUTABLE = list(_MADE)[:3], list(_MADE)[3:]


@pytest.fixture
def point(request: pytest.FixtureRequest) -> Any:
    """A class of its own for each test: the first instances are made another way than the rest."""
    made = _MADE[request.param](_point)
    made.__qualname__ = "Point"
    return made


@pytest.fixture
def point_by_name(request: pytest.FixtureRequest) -> Any:
    return _MADE[request.param](_point, kw_only=True)


both = pytest.mark.parametrize("point", _FROZEN, indirect=True)
both_by_name = pytest.mark.parametrize("point_by_name", _FROZEN, indirect=True)


@both
def test_fields_and_defaults(point: Any) -> None:
    """Arguments by place and by name; defaults, those that are made anew among them."""
    one = point(1)
    assert (one.x, one.y, one.tags, one.secret, one.seen) == (1, 2, [], "s", 0)
    assert (point(1, 5).y, point(x=1, y=6).y, point(1, tags=["a"]).tags) == (5, 6, ["a"])
    assert point(1).tags is not one.tags
    assert point.kind == "point"


@both
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((1, 2, [], "s", 0, 6), {})]
)
def test_wrong_arguments(point: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Missing, double, unknown and too many arguments."""
    with pytest.raises(TypeError, match="__init__"):
        point(*args, **kwargs)


@both_by_name
def test_by_name_only(point_by_name: Any) -> None:
    """With `kw_only` nothing goes by place."""
    assert point_by_name(x=1).x == 1
    with pytest.raises(TypeError, match="positional"):
        point_by_name(1)


def test_many_instances_are_made_quickly() -> None:
    """By an `__init__` of their class, whose parameters are its fields."""
    parameters = inspect.signature(_often(_point(frozen()))).parameters
    assert list(parameters) == ["x", "y", "tags", "secret", "seen"]


@both
def test_frozen(point: Any) -> None:
    """No attribute can be set, changed or deleted, and there is no dict."""
    one = point(1)
    for name in ("x", "tags"):
        with pytest.raises(FrozenInstanceError):
            setattr(one, name, 2)
        with pytest.raises(FrozenInstanceError):
            delattr(one, name)
    assert one == point(1)
    assert "x" in point.__slots__


@both
def test_equality_and_hash(point: Any) -> None:
    """By the compared fields, between instances of the same class only."""
    assert point(1, seen=1) == point(1, seen=2)
    assert point(1, secret="a") != point(1, secret="b")
    assert point(1) != (1, 2, [], "s")
    assert hash(point(1, tags=())) == hash(point(1, tags=(), seen=9))
    with pytest.raises(TypeError, match="unhashable"):
        hash(point(1))


@both
def test_repr(point: Any) -> None:
    """What a person reads names the class and the fields, without those that are kept out."""
    assert repr(point(1)) == f"{point.__qualname__}(x=1, y=2, tags=[], seen=0)"


@both
def test_what_dataclasses_does_with_it(point: Any) -> None:
    """`is_dataclass`, `replace`, `asdict`, `match`, copies."""
    one = point(1, 5)
    assert dataclasses.replace(one, y=7) == point(1, 7)
    assert dataclasses.asdict(one) == {"x": 1, "y": 5, "tags": [], "secret": "s", "seen": 0}
    match one:
        case point(x, y=5):
            assert x == 1
        case _:
            pytest.fail("no match")
    assert copy.copy(one) == one
    assert copy.deepcopy(one) == one
    assert dataclasses.is_dataclass(one)


@both
def test_pickling(point: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values cross processes, to one that has not made an instance yet, too."""
    monkeypatch.setattr(sys.modules[__name__], point.__qualname__, point, raising=False)
    one = point(1, tags=["a"])
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(one, protocol)) == one


def test_methods_of_its_own_are_kept() -> None:
    """What the class body defines goes before what all values share; it stays frozen."""

    @frozen()
    class Named:
        name: str

        def __init__(self, name: str) -> None:
            object.__setattr__(self, "name", name.upper())

        def __repr__(self) -> str:
            return "mine"

    assert (Named("a").name, repr(Named("a"))) == ("A", "mine")
    with pytest.raises(FrozenInstanceError):
        Named("a").other = 1  # type: ignore[attr-defined]


def test_a_subclass_has_all_fields_and_an_init_of_its_own() -> None:
    """Whichever of the two is made first, each gets its own fields."""

    @frozen(kw_only=True)
    class Base:
        x: int

    @frozen(kw_only=True)
    class Derived(Base):
        y: int = 0

    assert Derived(x=1, y=2).y == 2
    assert Base(x=1).x == 1
    assert Derived(x=1) != Base(x=1)
    with pytest.raises(TypeError, match="y"):
        Base(x=1, y=2)  # type: ignore[call-arg]
    assert list(inspect.signature(Base).parameters) == ["x"]
    assert (Derived.__slots__, Derived.__match_args__) == (("y",), ())
    assert [f.name for f in dataclasses.fields(Derived)] == ["x", "y"]


# -- values that change --------------------------------------------------------------------------


def _work(decorate: Callable[[Any], Any]) -> Any:
    class Work:
        kind: ClassVar[str] = "work"
        x: int
        done: list[int] = field(default_factory=list)
        limit: int = 3
        name: str = field(init=False)

        def __post_init__(self) -> None:
            self.name = f"work {self.x}"

    return decorate(Work)


@pytest.fixture
def work(request: pytest.FixtureRequest) -> Any:
    return _MADE[request.param](_work)


mutables = pytest.mark.parametrize("work", _MUTABLE, indirect=True)


@mutables
def test_mutable(work: Any) -> None:
    """Fields change, others cannot be added; what `__post_init__` makes is no argument."""
    one = work(1, limit=2)
    one.limit += 1
    one.done.append(5)
    assert (one.x, one.done, one.limit, one.name) == (1, [5], 3, "work 1")
    assert work(1).done == []
    with pytest.raises(AttributeError):
        one.other = 1
    assert not hasattr(one, "__dict__")
    assert not hasattr(one, "__weakref__")
    with pytest.raises(TypeError, match="name"):
        work(1, name="mine")
    assert work.__match_args__ == ("x", "done", "limit")
    assert repr(one) == f"{work.__qualname__}(x=1, done=[5], limit=3, name='work 1')"
    assert dataclasses.replace(one, x=2).name == "work 2"


@mutables
def test_mutable_equals_itself_only(work: Any) -> None:
    """It stands in sets and is found there again, whatever has changed."""
    one, other = work(1), work(1)
    known = {one}
    one.limit = 9
    assert one in known
    assert one != other


@pytest.mark.parametrize("decorate", [mutable(), dataclass(eq=False, slots=True)])
def test_mutable_subclass(decorate: Callable[[Any], Any]) -> None:
    """Its fields come after those of its base, whose default it may change; so do a dataclass's."""

    class More(_work(decorate)):  # type: ignore[misc]
        more: int = 0
        limit: int = 7

    made = decorate(More)
    one = made(1, [], 2, "x")
    assert (one.limit, one.more, one.name, made(1).limit) == (2, "x", "work 1", 7)
    assert made.__slots__ == ("more",)
    assert made.__qualname__ == "test_mutable_subclass.<locals>.More"

    @dataclass
    class Theirs(made):  # type: ignore[misc,valid-type]
        own: int = 0

    assert (Theirs(1, own=4).limit, Theirs(1, own=4).own) == (7, 4)
