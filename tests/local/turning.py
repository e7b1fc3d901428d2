"""Examples of turns: what has happened to a run before each, and the events that it appends.

Moments are in seconds since the run started. How a turn is made is known by `Held` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from belugawf import (
    WorkflowContext,
    workflow,
)
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.local.drive.run import OwnedRun, RunState, SlotPhase
from belugawf.local.drive.turns import TurnBuilder
from belugawf.local.store.rows import Message, RunRow
from belugawf.model import events as e
from belugawf.model.durations import SECOND_NS
from belugawf.model.errors import Failure
from belugawf.model.history import OpenWork, is_recorded_command
from belugawf.model.outcomes import Outcome
from belugawf.replay.replayer import Replayer

START_NS = 1_800_000_000 * SECOND_NS


def ns(seconds: float) -> int:
    return START_NS + int(seconds * SECOND_NS)


def seconds(moment: int | None) -> str:
    return "never" if moment is None else f"{(moment - START_NS) / SECOND_NS:g}"


# -- what happens --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signal:
    """Somebody has sent a signal at that moment."""

    at: float
    name: str = "go"
    payload: Any = None
    sound: bool = True


@dataclass(frozen=True)
class Cancel:
    """Somebody has asked at that moment for the run to be cancelled."""

    at: float


@dataclass(frozen=True)
class End:
    """An attempt has ended at that moment."""

    at: float
    seq: int
    status: str
    attempt: int = 1
    result: str = "null"
    failure: Failure | None = None
    limit: str = ""
    retry_after: timedelta | None = None


@dataclass(frozen=True)
class Kept:
    """That end could not be told when it came, and has waited in the inbox."""

    end: End


@dataclass(frozen=True)
class Begin:
    """There is room for an attempt whose start has to be noted first."""

    seq: int
    alone: bool = False


def completed(at: float, seq: int, result: Any = None, *, attempt: int = 1) -> End:
    return End(at, seq, "completed", attempt, json.dumps(result))


def failed(at: float, seq: int, error: str = "ValueError", attempt: int = 1, **more: Any) -> End:
    failure = Failure(error, "no", non_retryable=more.pop("non_retryable", False))
    return End(at, seq, "failed", attempt, failure=failure, **more)


def timed_out(at: float, seq: int, limit: str = "timeout", attempt: int = 1) -> End:
    failure = Failure("TimeoutError", "too long", kind="timeout")
    return End(at, seq, "timed_out", attempt, failure=failure, limit=limit)


def interrupted(at: float, seq: int, attempt: int = 1) -> End:
    return End(at, seq, "interrupted", attempt)


# -- what the turns of one run are ---------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """A turn at that moment, after all this has happened, and the events that it appends."""

    now: float
    happened: Sequence[Signal | Cancel | End | Kept | Begin] = ()
    appends: Sequence[str] = ()


@dataclass(frozen=True)
class PickUp:
    """Another process takes the run over: the last one has let it go, or has `died`."""

    now: float
    died: str | None = None


def brief(event: e.Event) -> str:
    """An event in a few words: its type, number, and what matters of the rest."""
    words = [type(event).__name__]
    if (seq := getattr(event, "seq", None)) is not None:
        words.append(str(seq))
    match event:
        case e.SignalReceived():
            words.append(event.name)
        case e.ActivityScheduled() if event.late:
            words.append("late")
        case e.ActivityCompleted():
            words += [f"#{event.attempt}"] if event.attempt > 1 else []
        case e.ActivityFailed():
            failure = json.loads(event.payload)
            words += [failure["type"], f"after {failure['attempts']}"]
        case e.ActivityTimedOut():
            words += [event.limit, f"at {seconds(event.at)}"]
        case e.AttemptStarted():
            words += [f"#{event.attempt}", *(["alone"] if event.alone else [])]
        case e.AttemptFailed():
            words += [f"#{event.attempt}", f"again at {seconds(event.retry_at)}"]
        case e.AttemptInterrupted():
            words += [f"#{event.attempt}", event.reason, f"crashes {event.crashes}"]
        case e.TimerStarted():
            words.append(f"until {seconds(event.due_at)}")
        case e.WaitStarted():
            words.append(event.name)
        case e.WaitEnded():
            words.append(event.outcome)
        case e.WorkflowCompleted():
            words.append(event.payload)
        case e.WorkflowFailed():
            words.append(json.loads(event.payload)["type"])
        case e.WorkflowTimedOut():
            words.append(f"at {seconds(event.at)}")
    if getattr(event, "unread", False):
        words.append("unread")
    return " ".join(words)


@dataclass
class Example:
    """The turns of a run of `code`; `deadline` is its timeout in seconds."""

    name: str
    code: Callable[..., Any]
    turns: Sequence[Turn | PickUp]
    deadline: float | None = None
    max_crashes: int = 3
    history: list[e.Event] = field(default_factory=list)
    messages: int = 0

    def play(self) -> None:
        """Take the turns, and compare each with what it is to append."""
        held = Held(self, picked_up_at=0, died=None)
        for turn in self.turns:
            if isinstance(turn, PickUp):
                held = Held(self, picked_up_at=turn.now, died=turn.died)
            else:
                events = held.take_turn(turn)
                self.history += events
                assert [brief(event) for event in events] == list(turn.appends), f"at {turn.now}"
        self._check_history()

    def _check_history(self) -> None:
        """Positions have no hole, time never goes back, and the code fits what was recorded."""
        assert [x.position for x in self.history] == [*range(1, len(self.history) + 1)]
        times = [x.time for x in self.history]
        assert times == sorted(times)
        if any(map(is_recorded_command, self.history)):  # else its code never ran
            replayer = new_replayer(self)
            replayer.replay(self.history)
            replayer.evict()


def new_replayer(example: Example) -> Replayer:
    started = example.history[0]
    assert isinstance(started, e.WorkflowStarted)

    @workflow(name="example")
    async def code(ctx: WorkflowContext) -> Any:
        return await example.code(ctx)

    return Replayer(WorkflowDefinition(code), started)


class Held:
    """A run in the hands of one process: the only place that knows how a turn is made."""

    def __init__(self, example: Example, *, picked_up_at: float, died: str | None) -> None:
        self._example = example
        deadline = None if example.deadline is None else ns(example.deadline)
        begun = bool(example.history)
        if not begun:
            started = e.WorkflowStarted(
                position=1,
                time=START_NS,
                name="example",
                workflow_id="w",
                run_id="r",
                deadline=deadline,
            )
            example.history.append(started)
        replayer = new_replayer(example)
        if begun:
            replayer.replay(example.history)
        self._run = OwnedRun(
            row=RunRow(
                **dict.fromkeys(("parent_run_id", "input", "result", "error", "closed_at")),
                **dict.fromkeys(("owned_since", "problem", "progress", "due_at")),
                **dict.fromkeys(("run_id", "chain_id", "workflow_id", "owner", "workflow"), "r"),
                **dict.fromkeys(("created_at", "updated_at"), START_NS),
                key=1,
                status="running",
                labels="{}",
                deadline=deadline,
                begun=begun,
                history_length=len(example.history),
            ),
            claimed_at=ns(picked_up_at),
            idle_wait_ns=0,
            interrupted=died,
        )
        length, last = len(example.history), example.history[-1].time
        work = OpenWork.of(example.history)
        replayer.functions.update(dict.fromkeys(work.activities, print))
        self._run.read(self._run.row, RunState(replayer, work, length, last, None, begun))
        self._run.open_all()

    def take_turn(self, turn: Turn) -> list[e.Event]:
        """The events of that turn, which is on disk with that."""
        run = self._run
        kinds = Signal | Cancel | Kept
        messages = [self._message(x) for x in turn.happened if isinstance(x, kinds)]
        for x in turn.happened:
            if isinstance(x, End):
                self._end(x)
            elif isinstance(x, Begin):
                slot = run.slots[x.seq]
                slot.manner = "alone" if x.alone else "shared"
                slot.move(SlotPhase.QUEUED)
                slot.move(SlotPhase.RECORDING)
        builder = TurnBuilder(run, messages, ns(turn.now), max_crashes=self._example.max_crashes)
        made = builder.build()
        assert run.state is not None
        run.commit(made.length + len(made.events), None)
        run.state.replayer.functions.update(dict.fromkeys(run.state.work.activities, print))
        for slot in list(run.slots.values()):
            if slot.phase is SlotPhase.ENDED or not run.is_open(slot.seq):
                slot.move(SlotPhase.WAITING if run.is_open(slot.seq) else SlotPhase.GONE)
        for seq in self._first_attempts(made.events):
            if run.is_open(seq):
                run.open(seq)
                run.slots[seq].move(SlotPhase.QUEUED)
                run.slots[seq].move(SlotPhase.RUNNING)
        for slot in made.begun:
            slot.move(SlotPhase.RUNNING)
        run.open_all()
        return made.events

    def _end(self, end: End) -> None:
        """An attempt has ended, if there is one in flight."""
        slot = self._run.slots.get(end.seq)
        if slot is None:
            return
        for phase in (SlotPhase.QUEUED, SlotPhase.RUNNING):
            if slot.phase not in (SlotPhase.RUNNING, SlotPhase.ENDED):
                slot.move(phase)
        slot.end(_outcome(end))

    def _first_attempts(self, events: Sequence[e.Event]) -> list[int]:
        """They start at once, without a note."""
        return [x.seq for x in events if isinstance(x, e.ActivityScheduled) and not x.at_most_once]

    def _message(self, happened: Signal | Cancel | Kept) -> Message:
        self._example.messages += 1
        number = self._example.messages
        match happened:
            case Signal():
                kind, name, payload = "signal", happened.name, json.dumps(happened.payload)
            case Cancel():
                kind, name, payload = "cancel", None, None
            case Kept():
                end = happened.end
                kind, name, payload = "attempt", str(end.seq), _outcome(end).to_text()
        at = happened.end.at if isinstance(happened, Kept) else happened.at
        sound = not isinstance(happened, Signal) or happened.sound
        return Message(number, 1, kind, name, payload, None, None, ns(at), sound)


def _outcome(end: End) -> Outcome:
    return Outcome(
        run=1,
        seq=end.seq,
        attempt=end.attempt,
        status=end.status,  # type: ignore[arg-type]
        at=ns(end.at),
        started_at=START_NS,
        result=end.result,
        failure=end.failure,
        limit=end.limit,
        retry_after=end.retry_after,
    )
