"""Which attempts go first, when some must run by themselves."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import pytest

from belugawf.host.calling import is_found_elsewhere
from belugawf.host.suspects import Manner, Order, is_suspect, manner_of
from belugawf.model.durations import SECOND_NS
from belugawf.model.policy import ActivityOptions
from tests.host import odd_functions


@pytest.mark.parametrize(
    ("crashes", "max_crashes", "suspect"),
    [
        (0, 3, False),
        (1, 3, False),
        (2, 3, True),
        (1, 2, True),
        (1, 1, True),
        (0, 1, False),
        (9, 0, False),
    ],
)
def test_suspect_is_who_may_not_die_again(crashes: int, max_crashes: int, suspect: bool) -> None:
    """Never after no death of its own, and never where no number of deaths is too many."""
    assert is_suspect(crashes, max_crashes) is suspect


class Host:
    """A worker that starts whatever the order admits, in a list of what has started."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._order = Order(room)
        self.waiting: Counter[Manner] = Counter()
        self.inside: Counter[Manner] = Counter()

    def start(self, seconds: float) -> list[Manner]:
        """Those that start at that moment."""
        started: list[Manner] = []
        while (manner := self._next(int(seconds * SECOND_NS))) is not None:
            self.waiting[manner] -= 1
            self.inside[manner] += 1
            started.append(manner)
        return started

    def _next(self, now: int) -> Manner | None:
        manners: tuple[Manner, ...] = ("alone", "isolated", "shared")
        for manner in manners:
            if (
                self.waiting[manner]
                and self.inside.total() < self._room
                and self._order.admit(manner, self.inside, self.waiting, now)
            ):
                return manner
        return None


def test_alone_waits_until_nothing_else_is_there() -> None:
    """Neither queued nor running."""
    # FINDINGS B13
    host = Host(room=4)
    host.waiting.update(alone=2, shared=6)
    assert host.start(0) == ["shared"] * 4
    host.inside["shared"] = 2
    assert host.start(1) == ["shared"] * 2
    host.inside["shared"] = 0
    assert host.start(2) == ["alone"]
    host.waiting["shared"] = 1
    assert host.start(3) == []  # nothing runs beside it


def test_alone_goes_after_a_minute_and_others_before_the_next_one() -> None:
    """Suspects hold up others no longer than one of them runs, and are not held up for ever."""
    # FINDINGS B13
    host = Host(room=2)
    host.waiting.update(alone=2, shared=100)
    assert host.start(0) == ["shared"] * 2
    host.inside["shared"] = 1
    assert host.start(59) == ["shared"]
    host.inside["shared"] = 1
    assert host.start(60) == []  # what runs comes to its end, and nothing starts beside it
    host.inside["shared"] = 0
    assert host.start(61) == ["alone"]
    host.inside["alone"] = 0
    assert host.start(5000) == ["shared"] * 2
    host.inside["shared"] = 0
    assert host.start(5059) == ["shared"] * 2
    host.inside["shared"] = 0
    assert host.start(5060) == ["alone"]


def test_isolated_ones_leave_half_of_the_room() -> None:
    """To those who are no suspects, if there are any; and there are never very many."""
    # FINDINGS B13
    host = Host(room=8)
    host.waiting.update(isolated=10, shared=10)
    assert Counter(host.start(0)) == {"isolated": 4, "shared": 4}
    host = Host(room=1000)
    host.waiting.update(isolated=100, shared=1)
    assert Counter(host.start(0)) == {"isolated": 16, "shared": 1}
    host = Host(room=1)
    host.waiting.update(isolated=2, shared=1)
    assert host.start(0) == ["shared"]
    host.inside["shared"] = 0
    assert host.start(0) == ["isolated"]


@pytest.mark.parametrize("manner", ["isolated", "alone"])
def test_where_there_is_room_for_one_a_suspect_has_its_turn_too(manner: Manner) -> None:
    """However many others wait: they go first for a minute, and no longer."""
    # FINDINGS B13
    host = Host(room=1)
    host.waiting.update({manner: 2, "shared": 100})
    for second, started in ((0, "shared"), (59, "shared"), (60, manner), (61, "shared")):
        assert host.start(second) == [started]
        host.inside.clear()


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (odd_functions.plain, True),
        (odd_functions.Holder.method, True),
        (odd_functions.closure(), False),
        (odd_functions.unnamed, False),
        (odd_functions.hidden, False),
        (functools.partial(odd_functions.plain), False),
        (odd_functions.Holder().method, False),
        (odd_functions.Holder(), False),
        (len, True),
    ],
)
def test_what_another_process_finds(function: Callable[..., Any], found: bool) -> None:
    """A closure, or what another name now stands for, is not to be had there."""
    assert is_found_elsewhere(function) is found


@pytest.mark.parametrize(
    ("function", "isolation", "isolates", "manner"),
    [
        (odd_functions.plain, "none", True, "isolated"),
        (odd_functions.plain, "none", False, "alone"),
        (odd_functions.closure(), "none", True, "alone"),
        (odd_functions.plain, "process", False, "isolated"),
    ],
)
def test_how_a_suspect_runs(
    function: Callable[..., Any],
    isolation: Literal["none", "process"],
    isolates: bool,
    manner: str,
) -> None:
    """Alone only where no process of its own will do: in somebody else's program it may not."""
    assert manner_of(function, ActivityOptions(isolation=isolation), isolates=isolates) == manner
