"""Comparing what a run's code asks for with what its history says it asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from belugawf.model import codec, commands as c, events as e
from belugawf.model.errors import NondeterminismError
from belugawf.model.history import PYTHON_VERSION, RECORDED_AS, describe
from belugawf.model.shell import command_line
from belugawf.model.values import frozen

_OPENING = (
    *(c.ScheduleActivity, c.StartTimer, c.StartWait),
    *(e.ActivityScheduled, e.TimerStarted, e.WaitStarted),
)


@frozen()
class Matcher:
    """Compares for one run: `python` is the version that it started on, `location` its code."""

    python: str
    location: str
    workflow_id: str

    def match(
        self,
        commands: Sequence[c.Command],
        recorded: Sequence[e.Event],
        fact: e.Event,
        *,
        lenient: bool,
    ) -> list[c.Command]:
        """Compare one fact's commands with their records; returns those without a record.

        Raises `NondeterminismError` if they differ, and unless `lenient` if one has none.
        """
        # Nearly always it asks in the same order.
        if len(commands) == len(recorded) and all(map(_same, commands, recorded)):
            return []
        asked = {_key(command): command for command in commands}
        for event in recorded:
            command = asked.pop(_key(event), None)
            if command is None or not _same(command, event):
                raise self._differs(event, command or next(iter(asked.values()), None))
        left = list(asked.values())
        if left and not lenient:
            position = (recorded[-1].position if recorded else fact.position) + 1
            asked_for = describe(left[0])
            raise self.mismatch(position, "nothing more", asked_for, left[0], fact.position)
        return left

    def _differs(self, event: e.Event, command: c.Command | None) -> NondeterminismError:
        requested = "nothing" if command is None else describe(command)
        recorded = describe(event)
        if command is not None and requested == recorded:
            requested += _other_payload(command, event)
        return self.mismatch(event.position, recorded, requested, command, event.position)

    def mismatch(
        self,
        position: int,
        recorded: str,
        requested: str,
        command: c.Command | None = None,
        back_to: int | None = None,
    ) -> NondeterminismError:
        """The error that says so; `command` is what asks for it.

        From event `back_to` on the code as it is now can do what it asks for.
        """
        now_on = PYTHON_VERSION
        instead = "or start a new run"
        if back_to is not None:
            options = ("--from", str(back_to))
            retry = command_line("retry", self.workflow_id, options=options)
            instead = f"start a new run, or do again what it did from there on: {retry}"
        likely = (
            "the workflow's code was changed while this run was open: put the old code back, "
            f"{instead}; if it was not changed, it depends on something that is not recorded "
            "(the clock, random, the order of a set)"
        )
        if self.python and self.python != now_on:
            likely = f"it started on Python {self.python} and this is {now_on}; or {likely}"
        return NondeterminismError(
            position=position,
            recorded=recorded,
            requested=requested,
            location=getattr(command, "location", None) or self.location,
            cause=likely,
        )


def _other_payload(command: c.Command, event: e.Event) -> str:
    """What differs between a command and its record that look alike."""
    if isinstance(command, c.ScheduleActivity) and isinstance(event, e.ActivityScheduled):
        return other_arguments(command.arguments, event.payload, command.types)
    if isinstance(command, c.CompleteWorkflow) and isinstance(event, e.WorkflowCompleted):
        found = codec.difference(command.result, event.payload, "result", command.type)
        return f" that differs: {found}"
    return " of another number"


def other_arguments(asked: str, recorded: str, types: tuple[Any, ...]) -> str:
    """The first argument of an activity that differs: where, what it was, and what it is."""
    found = codec.difference(asked, recorded, "arguments", codec.of_arguments(types))
    return f" with other arguments: {found}" if found else " of another number"


def _key(asked: c.Command | e.Event) -> tuple[int, bool]:
    """Which record a command is compared with: each number is opened once and closed once."""
    return getattr(asked, "seq", 0), isinstance(asked, _OPENING)


def _same(command: c.Command, event: e.Event) -> bool:
    """Whether the event is the record of that command."""
    if type(event) is not RECORDED_AS[type(command)]:
        return False
    if getattr(event, "seq", 0) != getattr(command, "seq", 0):
        return False
    if isinstance(command, c.ScheduleActivity) and isinstance(event, e.ActivityScheduled):
        types = codec.of_arguments(command.types)
        return command.name == event.name and codec.same(command.arguments, event.payload, types)
    if isinstance(command, c.StartWait) and isinstance(event, e.WaitStarted):
        return command.name == event.name
    if isinstance(command, c.CompleteWorkflow) and isinstance(event, e.WorkflowCompleted):
        return codec.same(command.result, event.payload, command.type)
    return True
