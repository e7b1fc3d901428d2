"""Retry policies: defaults, ranges, delays that grow, stay in bounds and never overflow."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from belugawf.model.durations import format_duration, parse_duration
from belugawf.model.errors import ApplicationError, UsageError
from belugawf.model.policy import (
    ONE_ATTEMPT,
    ActivityDefaults,
    ActivityOptions,
    RetryPolicy,
    is_named,
)

POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(0, 1000),
    initial_delay=st.floats(0, 1e6),
    backoff_coefficient=st.floats(1, 1000),
    max_delay=st.none() | st.floats(0, 1e9),
    jitter=st.floats(0, 1),
)


def test_defaults() -> None:
    """The defaults are those of the interface, and the longest delay is 100 first ones."""
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.initial_delay, policy.backoff_coefficient) == (
        3,
        timedelta(seconds=1),
        2.0,
    )
    assert (policy.max_delay, policy.jitter, policy.non_retryable) == (
        timedelta(seconds=100),
        0.0,
        (),
    )
    assert RetryPolicy(initial_delay="5s").max_delay == timedelta(seconds=500)
    assert RetryPolicy(initial_delay="5s", max_delay="1m").max_delay == timedelta(minutes=1)


def test_options_without_policy() -> None:
    """No policy at all is one attempt, and no limit is none."""
    options = ActivityOptions()
    assert options.retry == ONE_ATTEMPT
    assert options.retry.max_attempts == 1
    assert (options.timeout, options.total_timeout, options.heartbeat_timeout) == (None,) * 3
    assert ActivityDefaults().retry is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": -1},
        {"max_attempts": True},
        {"max_attempts": 2.0},
        {"max_attempts": "3"},
        {"initial_delay": -1},
        {"initial_delay": "soon"},
        {"max_delay": -1},
        {"backoff_coefficient": 0.9},
        {"backoff_coefficient": float("nan")},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": float("nan")},
        {"max_attempts": 2**63},
        {"backoff_coefficient": "2"},
        {"backoff_coefficient": float("inf")},
        {"backoff_coefficient": True},
        {"jitter": None},
        {"initial_delay": None},
        {"max_delay": object()},
    ],
)
def test_out_of_range(wrong: dict[str, Any]) -> None:
    """A value out of range is a usage error with a hint, when the policy is written."""
    with pytest.raises(UsageError) as caught:
        RetryPolicy(**wrong)
    assert caught.value.hint
    assert next(iter(wrong)) in caught.value.message  # FINDINGS E7


def test_what_is_written_can_be_read() -> None:
    """The longest delay is a duration, and no coefficient is too large."""
    policy = RetryPolicy(initial_delay="400d", backoff_coefficient=1e300)  # FINDINGS E4
    assert parse_duration(format_duration(policy.max_delay)) == policy.max_delay
    assert policy.delay_after(9) == policy.max_delay
    assert RetryPolicy(initial_delay=0, backoff_coefficient=1e300).delay_after(9) == timedelta(0)


def test_delays_grow_to_the_longest() -> None:
    """Each delay is the coefficient times the one before, up to max_delay."""
    policy = RetryPolicy(initial_delay="1s", backoff_coefficient=3, max_delay="20s")
    seconds = [policy.delay_after(n).total_seconds() for n in range(1, 6)]
    assert seconds == [1, 3, 9, 20, 20]


def test_jitter() -> None:
    """Jitter varies a delay in both directions; its middle is the delay itself."""
    policy = RetryPolicy(initial_delay="10s", jitter=0.5)
    assert policy.delay_after(1, 0.0) == timedelta(seconds=5)
    assert policy.delay_after(1, 0.5) == timedelta(seconds=10)
    assert policy.delay_after(1, 1.0) == timedelta(seconds=15)


@given(POLICIES, st.integers(1, 10**9), st.floats(0, 1))
def test_delays_stay_in_bounds(policy: RetryPolicy, failures: int, chance: float) -> None:
    """Whatever the policy, after however many failures: between nothing and max_delay."""
    assert timedelta(0) <= policy.delay_after(failures, chance) <= policy.max_delay


@given(POLICIES, st.integers(1, 200))
def test_delays_never_shrink(policy: RetryPolicy, failures: int) -> None:
    """Without jitter a later delay is never shorter."""
    assert policy.delay_after(failures) <= policy.delay_after(failures + 1)


@pytest.mark.parametrize(
    ("most", "failures", "allowed"), [(1, 1, False), (3, 2, True), (3, 3, False), (0, 10**6, True)]
)
def test_allows_another(most: int, failures: int, allowed: bool) -> None:
    """max_attempts counts failures; 0 is without limit."""
    assert RetryPolicy(max_attempts=most).allows_another(failures, "ValueError") is allowed


@pytest.mark.parametrize(
    "named", [["ValueError", "KeyError"], (ValueError, "KeyError"), [ValueError, KeyError]]
)
def test_non_retryable(named: Any) -> None:
    """Types are named by class or text; one of them ends the attempts."""
    policy = RetryPolicy(non_retryable=named)
    assert policy.non_retryable == ("ValueError", "KeyError")
    assert not policy.allows_another(1, "ValueError")
    assert policy.allows_another(1, "OSError")


class Own(ValueError):
    """Another class of that name is in `_namesake`."""


def _namesake() -> type[Exception]:
    class Own(Exception):
        pass

    return Own


@pytest.mark.parametrize(
    ("error", "named", "expected"),
    [
        (FileNotFoundError(), [OSError], True),
        (FileNotFoundError(), ["OSError"], True),
        (FileNotFoundError(), [PermissionError, "ValueError"], False),
        (Own(), [ValueError], True),
        (Own(), [Own], True),
        (Own(), ["Own"], True),
        (Own(), [f"{__name__}.Own"], True),
        (Own(), ["other.Own"], False),
        (_namesake()(), [Own], False),
        (_namesake()(), ["Own"], True),
        (json.JSONDecodeError("", "", 0), ["json.JSONDecodeError"], True),
        (json.JSONDecodeError("", "", 0), ["json.decoder.JSONDecodeError"], True),
        (ApplicationError("", type="Other"), [ApplicationError], True),
        (ExceptionGroup("", [KeyError(), ExceptionGroup("", [Own()])]), [ValueError], True),
        (ExceptionGroup("", [KeyError()]), [ValueError], False),
        (KeyboardInterrupt(), [Exception], False),
    ],
)
def test_is_named(error: BaseException, named: Any, expected: bool) -> None:
    """A class means itself and what derives from it; a name all classes that have it."""
    assert (
        is_named(error, RetryPolicy(non_retryable=named).non_retryable) is expected
    )  # FINDINGS A8


@pytest.mark.parametrize("wrong", [5, None, [5], [None], [int], {"a": 1}.values(), [b"x"], [""]])
def test_what_names_no_exception(wrong: Any) -> None:
    """It is refused, with its place."""
    with pytest.raises(UsageError, match="non_retryable") as caught:
        RetryPolicy(non_retryable=wrong)
    assert caught.value.hint


@pytest.mark.parametrize("named", ["ValueError", ValueError])
def test_one_non_retryable(named: Any) -> None:
    """A single name is a list of one, not its letters."""
    assert RetryPolicy(non_retryable=named).non_retryable == ("ValueError",)


def test_policies_are_values() -> None:
    """Equal policies are equal and hash alike, and none can be changed."""
    assert RetryPolicy(initial_delay="60s") == RetryPolicy(initial_delay="1m")
    assert hash(RetryPolicy(initial_delay=60)) == hash(RetryPolicy(initial_delay="1m"))
    with pytest.raises(AttributeError):
        RetryPolicy().jitter = 1.0  # type: ignore[misc]
