"""Describing a failure: what comes out is bounded, and it comes out whatever the exception does."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from belugawf.authoring.failures import describe_failure
from belugawf.host.calling import requested_retry_delay
from belugawf.model.codec import encode
from belugawf.model.errors import ActivityError, ApplicationError, Failure

# Bytes, as JSON: one message, and one traceback.
MOST = 72_000


def described(error: BaseException) -> Failure:
    """The failure, which can be written and read."""
    began = time.monotonic()
    failure = describe_failure(error)
    assert time.monotonic() - began < 2
    text = encode(failure.to_json())
    assert len(text.encode()) < MOST
    assert Failure.from_json(json.loads(text)) == failure
    return failure


def raised(raising: Callable[[], Any]) -> BaseException:
    """What it raises, with its traceback."""
    try:
        raising()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def chain(length: int, *, explicit: bool) -> BaseException:
    """A retry that was written as recursion, without the recursion."""
    error: BaseException = ValueError("the first")
    for number in range(length):
        following = ValueError(f"number {number}")
        if explicit:
            following.__cause__ = error
        else:
            following.__context__ = error
        error = following
    return error


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("length", [20, 951, 1_000, 50_000])
def test_long_chains(length: int, explicit: bool) -> None:
    """Both ends of a chain are kept, and how many are left out is said."""  # FINDINGS B1, A4
    failure = described(chain(length, explicit=explicit))
    assert failure.message == f"number {length - 1}"
    assert failure.traceback is not None
    assert failure.traceback.startswith("ValueError: the first\n")
    assert failure.traceback.endswith(f"ValueError: number {length - 1}")
    assert f"[... {length + 1 - 16:,} exceptions left out ...]" in failure.traceback


def test_a_chain_that_bites_its_tail() -> None:
    """A cycle of causes is followed once."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert described(first).traceback == (
        "ValueError: second\n\nThe above exception was the direct cause of the following "
        "exception:\n\nValueError: first"
    )


@pytest.mark.parametrize("depth", [4, 951, 5_000])
def test_deep_groups(depth: int) -> None:
    """The first exception within is named, however deep it is."""  # FINDINGS B1
    error: Exception = KeyError("innermost")
    for _ in range(depth):
        error = ExceptionGroup("group", [error])
    failure = described(error)
    assert failure.type == "ExceptionGroup"
    assert failure.message.endswith("KeyError: 'innermost'")


def test_wide_groups_and_their_chains() -> None:
    """Groups of groups of chains come to a bounded text."""  # FINDINGS B1
    error: Exception = ExceptionGroup("many", [ValueError("x" * 5_000) for _ in range(100)])
    for _ in range(4):
        error = ExceptionGroup("more", [error] * 100)
    assert "left out" in str(described(error).traceback)


def test_long_tracebacks() -> None:
    """Both ends of a deep recursion are kept."""

    def down(left: int) -> None:
        if not left:
            raise ValueError("bottom")
        down(left - 1)
        down(left - 1)  # another line, so that Python does not fold them

    failure = described(raised(lambda: down(800)))
    assert failure.traceback is not None
    assert "in raised" in failure.traceback
    assert 'raise ValueError("bottom")' in failure.traceback
    assert "left out" in failure.traceback


@pytest.mark.parametrize("filling", ["b", "é", "\U0001f600", "\0", '"', "\udc80", "b\n", "b\udc80"])
def test_long_messages(filling: str) -> None:
    """A message is cut to what fits as JSON, and says so; a group's, and a traceback's, too."""
    # FINDINGS A3
    text = "a" + filling * 1_000_000 + "c"
    for error in (
        ValueError(text),
        ExceptionGroup(text, [ValueError(text) for _ in range(15)]),
        chained([ValueError(text) for _ in range(50)]),
        ApplicationError(text, type=text),
    ):
        failure = described(raised(lambda error=error: _raise(error)))
        assert failure.message.startswith("a" + filling.encode(errors="backslashreplace").decode())
        assert "characters left out" in failure.message
        assert len(encode(failure.message).encode()) < 10_100
        assert len(encode(failure.type).encode()) < 300
        assert len(encode(failure.traceback).encode()) < 60_100
    # All that fits is kept.
    assert len(encode(described(ValueError(text)).message).encode()) > 9_000


def test_a_message_that_fits_is_not_cut() -> None:
    """However it is written."""
    for text in ("b" * 10_000, "é" * 5_000, "\n" * 5_000):
        assert described(ValueError(text)).message == text


def chained(errors: list[Exception]) -> Exception:
    for one, other in itertools.pairwise(errors):
        one.__cause__ = other
    return errors[0]


def test_it_reads_as_python_writes_it() -> None:
    """Frames with their lines, causes, notes, groups and their members."""

    def failing() -> None:
        try:
            raise ExceptionGroup("both", [KeyError("a"), OSError("b")])
        except* OSError as error:
            error.add_note("a note")
            raise RuntimeError("late") from error

    text = str(described(raised(failing)).traceback)
    assert f'File "{__file__}"' in text
    assert 'raise RuntimeError("late") from error' in text
    assert "a note" in text
    assert "  | OSError: b" in text
    assert "The above exception was the direct cause" in text


# -- misbehaviour --------------------------------------------------------------------------------

ODD: dict[str, Callable[[], BaseException]] = {}
NAUGHTY: tuple[type[BaseException], ...] = (
    ValueError,
    RecursionError,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    StopIteration,
)


def odd(make: Callable[[], BaseException]) -> Callable[[], BaseException]:
    ODD[make.__name__] = make
    return make


def _naughty(raising: type[BaseException], *names: str) -> BaseException:
    """An exception whose attributes of these names raise."""

    def fail(self: Any, *args: Any) -> Any:
        raise raising

    members = {
        n: fail if n.startswith("__") and n != "__notes__" else property(fail) for n in names
    }
    return type("Naughty", (Exception,), members)()


for _raising in NAUGHTY:
    for _names in (
        ("__str__", "__repr__", "__format__"),
        ("type", "non_retryable", "retry_after", "cause", "activity", "attempts"),
        ("__notes__",),
        ("__getattribute__",),
        ("__getattr__", "__dir__", "__hash__", "__eq__", "__bool__", "__len__"),
    ):
        ODD[f"{_raising.__name__} in {_names[0]}"] = lambda r=_raising, n=_names: _naughty(r, *n)


@odd
def a_metaclass() -> BaseException:
    class Meta(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise SystemExit

        def __getattribute__(cls, name: str) -> Any:
            raise KeyboardInterrupt

        def __instancecheck__(cls, instance: Any) -> bool:
            raise SystemExit

    class Odd(Exception, metaclass=Meta):
        pass

    return type.__call__(Odd)


@odd
def its_class_is_a_property() -> BaseException:
    class Odd(Exception):
        @property
        def __class__(self) -> Any:
            raise SystemExit

        @__class__.setter
        def __class__(self, value: Any) -> None: ...

    return Odd("odd")


@odd
def no_init() -> BaseException:
    class Odd(ActivityError):
        def __init__(self) -> None:
            pass

    return Odd()


@odd
def odd_cause() -> BaseException:
    class Odd(ActivityError):
        def __init__(self) -> None:
            self.cause = ApplicationError("x", type=5, traceback=[1])  # type: ignore[arg-type]
            self.activity, self.attempts = object(), 10**6000  # type: ignore[assignment]

    return Odd()


@odd
def an_application_error_without_init() -> BaseException:
    class Odd(ApplicationError):
        def __init__(self) -> None:
            pass

    return Odd()


@odd
def odd_syntax_error() -> BaseException:
    error = SyntaxError("odd")
    error.lineno, error.offset = "x", object()  # type: ignore[assignment]
    error.filename, error.text = 5, [1]  # type: ignore[assignment]
    return error


@odd
def odd_notes() -> BaseException:
    error = ValueError("odd")
    error.__notes__ = [5, "\ud800", "x" * 10**6, object()] * 100
    return error


@odd
def odd_strings() -> BaseException:
    class Text(str):
        def encode(self, *args: Any) -> Any:
            raise SystemExit

        def __len__(self) -> int:
            raise SystemExit

        def __getitem__(self, *args: Any) -> Any:
            raise SystemExit

    class Odd(ApplicationError):
        def __str__(self) -> str:
            return Text("odd\ud800" * 10**5)

    error = Odd("x")
    error.type = Text("odd")
    return error


@odd
def no_text_at_all() -> BaseException:
    class Odd(Exception):
        def __str__(self) -> str:
            return None  # type: ignore[return-value]

    Odd.__name__ = Odd.__qualname__ = "O" * 10**5
    Odd.__module__ = 5  # type: ignore[assignment]
    return Odd()


@odd
def its_text_recurses() -> BaseException:
    class Odd(Exception):
        def __str__(self) -> str:
            return str(self)

    return Odd()


@odd
def an_odd_group() -> BaseException:
    class Odd(ExceptionGroup[Exception]):
        @property
        def exceptions(self) -> Any:
            raise KeyboardInterrupt

    return Odd("odd", [ValueError("in it")])


@pytest.mark.parametrize("name", ODD)
def test_whatever_it_does(name: str) -> None:
    """A failure of that type comes out."""  # FINDINGS B1
    error = ODD[name]()
    expected = type.__dict__["__name__"].__get__(type(error))
    if isinstance(type.__dict__["__name__"].__get__(type(error)), str) and len(expected) < 200:
        assert described(error).type in (expected, "odd", "ApplicationError")
    assert described(raised(lambda: _raise(error))).traceback


def _raise(error: BaseException) -> None:
    raise error


def test_only_ours_say_what_we_mean() -> None:
    """Only an ApplicationError's attributes count: libraries have such names."""
    # FINDINGS A6
    foreign = ValueError("x")
    vars(foreign).update(type="invalid_request", non_retryable=True, retry_after=3600)
    failure = described(foreign)
    assert (failure.type, failure.non_retryable) == ("ValueError", False)
    assert requested_retry_delay(foreign) is None
    group = ExceptionGroup("g", [foreign])
    assert (described(group).non_retryable, requested_retry_delay(group)) == (False, None)
    failure = described(ApplicationError("x", type="Mine", non_retryable=True))
    assert (failure.type, failure.non_retryable) == ("Mine", True)


def test_wishes_in_groups() -> None:
    """One that must not be tried again is enough; of several delays the longest counts."""

    # FINDINGS A7
    def group(*delays: Any) -> BaseException:
        errors = [ApplicationError("x", retry_after=delay) for delay in delays]
        return ExceptionGroup("g", [ValueError(), ExceptionGroup("h", [*errors, OSError()])])

    assert requested_retry_delay(group("1m", "1h", 5)) == "1h"
    assert requested_retry_delay(group(None, "soon", 5)) == "5s"
    assert requested_retry_delay(group(None, "soon")) is None
    assert not described(group("1m")).non_retryable
    final = ApplicationError("x", non_retryable=True)
    assert described(ExceptionGroup("g", [group(1), final])).non_retryable  # type: ignore[list-item]


def test_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if our own code breaks, a failure comes out."""
    monkeypatch.setattr("belugawf.authoring.failures._chain", None)
    assert described(KeyError("x")) == Failure("KeyError", "the exception could not be described")
