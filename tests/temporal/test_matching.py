"""What the code asked for against what a history records, task by task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.history.v1 import HistoryEvent

from belugawf.model.errors import NondeterminismError
from belugawf.temporal.matching import Matcher, Step


class History:
    """A history made by hand: each method adds an event, and returns its number."""

    def __init__(self) -> None:
        self.events: list[HistoryEvent] = []
        started = self._add("workflow_execution_started")
        started.workflow_type.name = "made"
        started.workflow_id = "made"

    def _add(self, kind: str, **fields: Any) -> Any:
        event = HistoryEvent(event_id=len(self.events) + 1)
        attributes = getattr(event, f"{kind}_event_attributes")
        attributes.SetInParent()
        for name, value in fields.items():
            setattr(attributes, name, value)
        self.events.append(event)
        return attributes

    @property
    def length(self) -> int:
        return len(self.events)

    def task(self) -> int:
        """A workflow task; its number is what the commands of it carry."""
        self._add("workflow_task_completed")
        return self.length

    def timer(self, task: int, seconds: float = 3) -> int:
        added = self._add("timer_started", workflow_task_completed_event_id=task)
        added.start_to_fire_timeout.FromTimedelta(timedelta(seconds=seconds))
        return self.length

    def activity(self, task: int, name: str = "work") -> int:
        added = self._add("activity_task_scheduled", workflow_task_completed_event_id=task)
        added.activity_type.name = name
        return self.length

    def fired(self, timer: int) -> None:
        self._add("timer_fired", started_event_id=timer)

    def completed(self, activity: int) -> None:
        self._add("activity_task_completed", scheduled_event_id=activity)

    def ended(self, task: int) -> None:
        self._add("workflow_execution_completed", workflow_task_completed_event_id=task)


TIMER = Step("timer", "3 s", seq=1)
WORK = Step("activity", "work", "[]", seq=1)
CANCELS = [Step("cancel_timer", seq=1), Step("cancel_activity", seq=1)]


def begun() -> tuple[History, Matcher, int]:
    """A timer and an activity that have ended, and the length that the next task was given."""
    history = History()
    first = history.length
    task = history.task()
    timer, activity = history.timer(task), history.activity(task)
    history.fired(timer)
    history.completed(activity)
    given = history.length
    task = history.task()
    history.timer(task, 5)
    matcher = Matcher(history.events, "made.py:1")
    matcher.check(first, [TIMER, WORK])
    return history, matcher, given


def test_cancelling_what_has_ended_leaves_no_event() -> None:
    """The code was told of a signal first, and cancels what had ended in the same task."""
    _, matcher, given = begun()
    matcher.check(given, [*CANCELS, Step("timer", "5 s", seq=2)])
    matcher.check(given, [])


def test_begun_and_cancelled_in_one_task_leaves_no_event() -> None:
    """The server sees neither."""
    history = History()
    first = history.length
    task = history.task()
    history.timer(task)
    matcher = Matcher(history.events, "made.py:1")
    elided = [Step("timer", "9 s", seq=1), Step("activity", "x", "[]", seq=1)]
    matcher.check(first, [*elided, *CANCELS, Step("timer", "3 s", seq=2)])


def test_the_end_comes_last() -> None:
    """Other tasks may ask for something in the turn in which the workflow returns."""
    history = History()
    first = history.length
    task = history.task()
    history.activity(task)
    history.ended(task)
    Matcher(history.events, "").check(first, [Step("completed"), WORK])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([TIMER], "recorded activity 'work', but the code now asks for nothing"),
        ([WORK, TIMER], "recorded a timer of 3 s, but the code now asks for activity 'work'"),
        ([TIMER, Step("activity", "other", "[]")], "asks for activity 'other'"),
        ([TIMER, Step("activity", "work", "[1]")], "activity 'work' with other arguments"),
        ([TIMER, WORK, Step("timer", "1 s", seq=2)], "nothing more, but the code now asks for a"),
        ([TIMER, Step("completed")], "recorded activity 'work', but the code now asks for the w"),
    ],
)
def test_differences(asked: list[Step], words: str) -> None:
    """Less, more, other and otherwise ordered are found, and said in a person's words."""
    history = History()
    first = history.length
    task = history.task()
    history.timer(task)
    history.activity(task)
    history.task()
    with pytest.raises(NondeterminismError, match=words):
        Matcher(history.events, "made.py:1").check(first, asked)


def test_a_task_that_is_not_recorded_is_not_compared() -> None:
    """What is new is new."""
    history = History()
    assert not Matcher(history.events, "").covers(history.length)
    history.task()
    assert Matcher(history.events, "").covers(history.length - 1)
