"""Whether replayed code asks for what the history records, told as the local provider tells it.

The server's SDK compares too, but not arguments, and its words are those of its own machinery. So a
run that is replayed is compared here first, one workflow task after the other: what the code asked
for in it, in order, with the events that record it. Those carry the number of the event that
completed the task, which is one more than the length of the history that the task was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any

from temporalio.api.history.v1 import HistoryEvent
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from belugawf.model import codec
from belugawf.model.errors import NondeterminismError, PayloadTypeError
from belugawf.model.values import frozen
from belugawf.replay.matching import other_arguments
from belugawf.temporal.histories import translated
from belugawf.temporal.payloads import join, waits_in

_CAUSE = (
    "the workflow's code was changed while this run was open: put the old code back, or start a "
    "new run; if it was not changed, it depends on something that is not recorded (the clock, "
    "random, the order of a set)"
)


@frozen()
class Step:
    """One command, as the code asked for it or as an event records it.

    `types` are what an activity's arguments are read by, if they are more than plain values.
    `kind` is "activity", "timer" and so on, `seq` the SDK's number of what it concerns. `location`
    is "file:line" of the code, `position` that of the event among those that people see.
    """

    kind: str
    name: str = ""
    arguments: str = ""
    seq: int = 0
    location: str | None = None
    event_id: int = 0
    types: tuple[Any, ...] = ()

    @property
    def text(self) -> str:
        """In a person's words."""
        words = {
            "activity": f"activity {self.name!r}",
            "timer": f"a timer of {self.name}",
            "wait": f"a wait for signal {self.name}" if self.name else "the end of a wait",
            "memo": "a change of the memo",
            "cancel_timer": "cancelling a timer",
            "cancel_activity": "cancelling an activity",
            "completed": "the workflow's end with a result",
            "failed": "the workflow's end with an error",
            "cancelled": "the workflow's end as cancelled",
        }
        return words.get(self.kind, self.kind)

    def records(self, asked: Step) -> bool:
        """Whether it may be the record of what the code asks for."""
        if self.kind != asked.kind:
            return False
        if self.kind != "activity":
            return True
        types = codec.of_arguments(asked.types)
        return self.name == asked.name and codec.same(asked.arguments, self.arguments, types)


class Matcher:
    """Compares one run's commands with its history, as it is replayed.

    `places` are where the code asks for the commands of this turn, with their types; `fallback` is
    where the workflow stands.
    """

    def __init__(self, history: Sequence[HistoryEvent], fallback: str) -> None:
        self.places: list[tuple[str | None, tuple[Any, ...]]] = []
        self._history = history
        self._fallback = fallback
        self._recorded: dict[int, list[Step]] = {}
        for event in history:
            if event.HasField("workflow_task_completed_event_attributes"):
                self._recorded.setdefault(event.event_id, [])
            step = _recorded(event)
            if step is not None:
                task, made = step
                self._recorded.setdefault(task, []).append(made)
        self._asked: list[Step] = []
        self._length = 0
        # Which event records the n-th timer or activity, and which one ends it.
        self._events: dict[tuple[str, int], int] = {}
        self._ends = dict(_endings(history))

    def covers(self, length: int) -> bool:
        """Whether a task that was given a history of that length is in the history."""
        return length + 1 in self._recorded

    def take(self, length: int, commands: Iterable[WorkflowCommand]) -> None:
        """Take the commands of a turn. Raises `NondeterminismError`."""
        asked = zip(commands, chain(self.places, repeat((None, ()))), strict=False)
        steps = [_asked(command, *place) for command, place in asked]
        self.check(length, [step for step in steps if step is not None])

    def check(self, length: int, asked: Sequence[Step]) -> None:
        """The same, with the commands as steps."""
        if length != self._length:
            self._finish()
            self._asked, self._length = [], length
        self._asked.extend(asked)
        self._compare()
        # If an activity is cancelled, the SDK lets the code run once more in the same task.
        if not any(step.kind == "cancel_activity" for step in asked):
            self._finish()

    def _compare(self) -> None:
        recorded = self._recorded.get(self._length + 1, [])
        asked = self._sent()
        for one, other in zip(recorded, asked, strict=False):
            if not one.records(other):
                raise self._differs(one, other)
            self._events[(other.kind, other.seq)] = one.event_id
        if len(asked) > len(recorded):
            raise self._differs(None, asked[len(recorded)])

    def _sent(self) -> list[Step]:
        """What of the steps reached the server, in its order.

        It never sees what was begun and cancelled in one task, nor a cancellation of what had ended
        when the task was given: the code just had not been told. An end comes last.
        """
        kept: list[Step] = []
        for step in self._asked:
            cancelled = _opening(step)
            if cancelled is not None:
                same = [s for s in kept if (s.kind, s.seq) == cancelled]
                if same:
                    kept.remove(same[0])
                    continue
                if self._ends.get(self._events.get(cancelled, 0), 1 << 62) <= self._length:
                    continue
            kept.append(step)
        return sorted(kept, key=lambda step: step.kind in _ENDINGS.values())

    def _finish(self) -> None:
        """Nothing more comes in this task: what is recorded must have been asked for."""
        recorded = self._recorded.get(self._length + 1, [])
        asked = self._sent()
        if len(asked) < len(recorded):
            raise self._differs(recorded[len(asked)], None)

    def _differs(self, recorded: Step | None, asked: Step | None) -> NondeterminismError:
        event_id = self._length + 1 if recorded is None else recorded.event_id
        before = [event for event in self._history if event.event_id <= event_id]
        requested = "nothing" if asked is None else asked.text
        expected = "nothing more" if recorded is None else recorded.text
        if recorded and asked and asked.kind == "activity" and requested == expected:
            requested += other_arguments(asked.arguments, recorded.arguments, asked.types)
        return NondeterminismError(
            position=len(translated(before)) + (recorded is None),
            recorded=expected,
            requested=requested,
            location=(None if asked is None else asked.location) or self._fallback,
            cause=_CAUSE,
        )


def _opening(step: Step) -> tuple[str, int] | None:
    """What a step cancels; `None` if it cancels nothing."""
    kinds = {"cancel_timer": "timer", "cancel_activity": "activity"}
    kind = kinds.get(step.kind)
    return None if kind is None else (kind, step.seq)


def _endings(history: Iterable[HistoryEvent]) -> Iterator[tuple[int, int]]:
    """The event that began a timer or an activity, with the event that ended it."""
    for event in history:
        attributes = getattr(event, str(event.WhichOneof("attributes")))
        if event.HasField("timer_fired_event_attributes"):
            yield attributes.started_event_id, event.event_id
        elif event.WhichOneof("attributes") in _ACTIVITY_ENDS:
            yield attributes.scheduled_event_id, event.event_id


_ACTIVITY_ENDS = tuple(
    f"activity_task_{end}_event_attributes"
    for end in ("completed", "failed", "timed_out", "canceled")
)


def _asked(command: WorkflowCommand, location: str | None, types: tuple[Any, ...]) -> Step | None:
    kind = command.WhichOneof("variant")
    if kind == "schedule_activity":
        scheduled = command.schedule_activity
        return Step(
            "activity",
            scheduled.activity_type,
            _arguments(scheduled.arguments),
            scheduled.seq,
            location,
            types=types,
        )
    if kind == "start_timer":
        timer = command.start_timer
        return Step("timer", _length(timer.start_to_fire_timeout), "", timer.seq, location)
    if kind == "cancel_timer":
        return Step("cancel_timer", seq=command.cancel_timer.seq, location=location)
    if kind == "request_cancel_activity":
        seq = command.request_cancel_activity.seq
        return Step("cancel_activity", seq=seq, location=location)
    if kind == "modify_workflow_properties":
        memo = command.modify_workflow_properties.upserted_memo
        return Step(*_memo(memo.fields), location=location)
    plain = _ENDINGS.get(str(kind))
    return None if plain is None else Step(plain, location=location)


def _recorded(event: HistoryEvent) -> tuple[int, Step] | None:
    """What an event records, and the number of the task that asked for it."""
    attributes = getattr(event, str(event.WhichOneof("attributes")))
    task = getattr(attributes, "workflow_task_completed_event_id", 0)
    if not task:
        return None
    step: Step | None = None
    id = event.event_id
    if event.HasField("activity_task_scheduled_event_attributes"):
        arguments = _arguments(attributes.input.payloads)
        step = Step("activity", attributes.activity_type.name, arguments, event_id=id)
    elif event.HasField("timer_started_event_attributes"):
        step = Step("timer", _length(attributes.start_to_fire_timeout), event_id=id)
    elif event.HasField("timer_canceled_event_attributes"):
        step = Step("cancel_timer", event_id=id)
    elif event.HasField("activity_task_cancel_requested_event_attributes"):
        step = Step("cancel_activity", event_id=id)
    elif event.HasField("workflow_properties_modified_event_attributes"):
        step = Step(*_memo(attributes.upserted_memo.fields), event_id=id)
    else:
        kind = str(event.WhichOneof("attributes")).removesuffix("_event_attributes")
        plain = _RECORDED_ENDINGS.get(kind)
        step = None if plain is None else Step(plain, event_id=id)
    return None if step is None else (task, step)


_ENDINGS = {
    "complete_workflow_execution": "completed",
    "fail_workflow_execution": "failed",
    "cancel_workflow_execution": "cancelled",
}
_RECORDED_ENDINGS = {
    "workflow_execution_completed": "completed",
    "workflow_execution_failed": "failed",
    "workflow_execution_canceled": "cancelled",
}


def _memo(fields: Any) -> tuple[str, str]:
    waits = waits_in(fields)
    if waits is None:
        return "memo", ""
    return "wait", ", ".join(repr(wait["signal"]) for wait in waits.values() if wait)


def _length(duration: Any) -> str:
    return f"{duration.ToNanoseconds() / 1e9:g} s"


def _arguments(payloads: Sequence[Any]) -> str:
    try:
        return join(payloads)
    except PayloadTypeError:
        return "null"
