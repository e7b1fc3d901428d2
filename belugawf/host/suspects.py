"""Suspects: activities that one more death of their process would end for good.

One kill of a worker must not make all that was in flight run one after the other. So an activity
that was open when its process died runs with others as before, until one more death would reach
`max_crashes`. Then it must be seen whose death it is, and nobody else is to wait for that. In a
worker of the command line it runs in a process of its own, beside the others. What no other process
finds runs alone: when there is nothing else to run, or when it has let others go first long enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from belugawf.host.calling import is_found_elsewhere
from belugawf.model.durations import SECOND_NS
from belugawf.model.policy import ActivityOptions

# How an attempt runs: with others; in a process of its own, beside them; or with nothing beside it.
Manner: TypeAlias = Literal["shared", "isolated", "alone"]

# How many suspects run in processes of their own at a time: each of them takes memory.
_ISOLATED_AT_ONCE = 16
# How long others go first, each time.
_OTHERS_FIRST_NS = 60 * SECOND_NS


def is_suspect(crashes: int, max_crashes: int) -> bool:
    """Whether one more death is the last that it may cause, after so many."""
    return crashes > 0 and 0 < max_crashes <= crashes + 1


def manner_of(
    function: Callable[..., Any], options: ActivityOptions, *, isolates: bool
) -> Literal["isolated", "alone"]:
    """How a suspect runs, in a worker that has (`isolates`) functions that others find too."""
    if options.isolation == "process" or (isolates and is_found_elsewhere(function)):
        return "isolated"
    return "alone"


class Order:
    """Which attempts go first, if there is room for so many at a time.

    At most `most_isolated` run in processes of their own; 0: whatever is by itself runs alone.
    """

    def __init__(self, room: int) -> None:
        self.most_isolated = min(_ISOLATED_AT_ONCE, room // 2)
        self._others_until: int | None = None

    def admit(
        self, manner: Manner, inside: Mapping[Manner, int], waiting: Mapping[Manner, int], now: int
    ) -> bool:
        """Whether one that waits to run in that manner may start at `now` (nanoseconds).

        `inside` and `waiting` are how many run and wait in each manner, that one among them.
        """
        if inside["alone"]:
            return False
        by_themselves, others = waiting["alone"], waiting["shared"]
        if self.most_isolated:
            others += waiting["isolated"]
        else:  # if there is room for one, whatever runs is alone
            by_themselves += waiting["isolated"]
            manner = "alone" if manner == "isolated" else manner
        if not by_themselves:
            self._others_until = None
        elif self._others_until is None:
            self._others_until = now + _OTHERS_FIRST_NS
        others_first = self._others_until is None or now < self._others_until
        if manner == "alone":
            if inside["shared"] or inside["isolated"] or (others and others_first):
                return False
            self._others_until = None
            return True
        if manner == "isolated":
            # Half of the room is for those who are no suspects.
            return others_first and inside["isolated"] < self.most_isolated
        return others_first
