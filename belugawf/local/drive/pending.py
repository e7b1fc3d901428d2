"""What has happened to a run and is not applied yet, in the order in which it happened.

Of one moment, messages come first, then ends of attempts, then timers, then the deadline.

Catching up. Timers that were overdue when the run was picked up, and its deadline, are held while
an activity is open that was scheduled meanwhile: a reminder that is sent late must not cost the run
the approval that came in time. They are held no longer than they would have taken themselves.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TypeAlias

from belugawf.local.drive.run import OwnedRun
from belugawf.local.store.rows import Message
from belugawf.model import events as e
from belugawf.model.durations import duration_ns
from belugawf.model.history import OpenWork
from belugawf.model.outcomes import Outcome

_MESSAGE, _ACTIVITY, _TIMER, _DEADLINE = range(4)

# `None` is the deadline.
PendingFact: TypeAlias = Message | Outcome | e.TimerStarted | None
_Entry: TypeAlias = tuple[int, int, int, int, PendingFact]


class PendingFacts:
    """The pending facts of one turn of `run`, whose time is `now`; `work` is what it has open."""

    def __init__(self, run: OwnedRun, work: OpenWork, now: int) -> None:
        self._run = run
        self._work = work
        self._now = now
        self._heap: list[_Entry] = []
        self._held: list[_Entry] = []
        self._pushed = 0
        if run.deadline is not None and run.deadline <= now:
            self._push(run.deadline, _DEADLINE, 0, None)

    def add(self, fact: Message | Outcome) -> None:
        """That was sent to the run, or an attempt of it has ended."""
        if isinstance(fact, Message):
            self._push(fact.sent_at, _MESSAGE, fact.id, fact)
        else:
            self._push(fact.at, _ACTIVITY, fact.seq, fact)

    def add_timer(self, timer: e.TimerStarted) -> None:
        """That timer, if it is due."""
        if timer.due_at <= self._now:
            self._push(timer.due_at, _TIMER, timer.seq, timer)

    def _push(self, at: int, rank: int, number: int, fact: PendingFact) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, rank, number, self._pushed, fact))

    def take(self) -> Iterator[PendingFact]:
        """The next fact, and the next, until none is left; not those that are held."""
        while True:
            if self._held and not self._work.late:
                for entry in self._held:
                    heapq.heappush(self._heap, entry)
                self._held.clear()
            if not self._heap:
                return
            entry = heapq.heappop(self._heap)
            if self._work.late and self._is_held(entry):
                self._held.append(entry)
            else:
                yield entry[-1]

    def left(self) -> list[PendingFact]:
        """What was not taken, in its order."""
        return [fact for *_, fact in sorted(self._heap, key=lambda entry: entry[:4])]

    def _is_held(self, entry: _Entry) -> bool:
        due_at, fact = entry[0], entry[-1]
        if isinstance(fact, (Message, Outcome)):
            return False
        if not self._run.is_late(due_at) or (
            fact is not None and fact.seq not in self._work.timers
        ):
            return False
        created_at = self._run.row.created_at
        started_at = created_at if fact is None else due_at - duration_ns(fact.delay)
        return self._now < self._run.held_until(due_at, started_at)
