"""What drives the core in these tests: a loop with a clock that jumps, and a run with a history."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from belugawf.authoring.workflow import WorkflowDefinition, workflow
from belugawf.model import codec, commands as c, events as e
from belugawf.model.durations import SECOND_NS, duration_ns
from belugawf.model.errors import Failure
from belugawf.model.history import OpenWork, record
from belugawf.replay.loop import DeterministicLoop, DurableTimer
from belugawf.replay.replayer import Replayer

# What tests have made, and dropped without letting it go: Python would run its code on.
in_memory: list[Clock | Run] = []


def let_all_go() -> None:
    """Unwind all of it."""
    while in_memory:
        one = in_memory.pop()
        (one.loop if isinstance(one, Clock) else one.replayer).evict()


EPOCH_NS = 1_700_000_000 * SECOND_NS


class Clock:
    """The driver of a bare loop: its time jumps to the next timer."""

    def __init__(self) -> None:
        in_memory.append(self)
        self.started: list[float] = []
        self.loop = DeterministicLoop(self)
        self.loop.begin_turn(0.0)
        self._waiting: list[tuple[float, int, DurableTimer]] = []

    @property
    def asked(self) -> int:
        return len(self.started)

    def create(self, code: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of it, which has not run yet."""
        return self.loop.within(self.loop.create_task, code)

    def start_timer(self, timer: DurableTimer, delay: timedelta) -> int:
        seq = len(self.started)
        self.started.append(delay.total_seconds())
        due = self.loop.time() + delay.total_seconds()
        self._waiting.append((due, seq, timer))
        return seq

    def cancel_timer(self, timer: DurableTimer) -> None:
        self._waiting = [entry for entry in self._waiting if entry[2] is not timer]

    def start(self, code: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it until nothing is ready."""
        task = self.create(code)
        self.run_ready()
        return task

    def run_ready(self) -> None:
        """Run until nothing is ready."""
        self.loop.within(self.loop.run_ready)

    def jump(self) -> bool:
        """To the next timer; whether there was one."""
        if not self._waiting:
            return False
        entry = min(self._waiting, key=lambda waiting: waiting[:2])
        self._waiting.remove(entry)
        due, _, timer = entry
        self.loop.begin_turn(max(due, self.loop.time()), after_timer=True)
        self.loop.fire(timer)
        self.run_ready()
        return True

    def run(self, code: Coroutine[Any, Any, Any]) -> Any:
        """Its result, with all its timers jumped over."""
        task = self.start(code)
        while not task.done():
            assert self.jump(), "it waits for something that never comes"
        return task.result()


class Run:
    """A run in memory: facts in, a history out. `commands` are those of the last fact.

    Wrong code fails it, so that a test sees the error, unless it is to `park`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *args: Any,
        run_id: str = "run-1",
        python: str = "",
        park: bool = False,
        **options: Any,
    ) -> None:
        in_memory.append(self)
        marked = hasattr(function, "__belugawf_workflow__")
        self.definition = WorkflowDefinition(function if marked else workflow(park=park)(function))
        self.options = options
        self.clock = EPOCH_NS
        self.work = OpenWork()
        self.history: list[e.Event] = []
        self.started = e.WorkflowStarted(
            position=1,
            time=self.clock,
            name=self.definition.name,
            workflow_id="w",
            run_id=run_id,
            python=python,
            payload=codec.encode(args[0]) if args else None,
        )
        self.replayer = self.fresh()
        self.commands = self.apply(self.started)

    # -- facts -----------------------------------------------------------------------------------

    def apply(self, fact: e.Event) -> list[c.Command]:
        """Append the fact, let the code run, append what it asks for."""
        self._append(fact)
        self.commands = self.replayer.apply(fact)
        for command in self.commands:
            self._append(record(command, self.next, self.clock, clock=self.clock))
        return self.commands

    def _append(self, event: e.Event) -> None:
        self.history.append(event)
        self.work.fold(event)

    @property
    def next(self) -> int:
        return len(self.history) + 1

    def _moment(self) -> dict[str, Any]:
        self.clock += SECOND_NS // 1000
        return {"position": self.next, "time": self.clock, "at": self.clock}

    def signal(self, name: str, payload: Any = None, sender: str | None = None) -> list[c.Command]:
        return self.apply(
            e.SignalReceived(
                **self._moment(), name=name, payload=codec.encode(payload), sender=sender
            )
        )

    def complete(self, seq: int, result: Any = None) -> list[c.Command]:
        return self.apply(
            e.ActivityCompleted(**self._moment(), seq=seq, payload=codec.encode(result))
        )

    def fail(
        self, seq: int, message: str = "boom", *, kind: str = "application"
    ) -> list[c.Command]:
        name = self.work.activities[seq].scheduled.name
        failure = Failure("ValueError", message, activity=name, attempts=1, kind=kind)
        payload = codec.encode(failure.to_json())
        return self.apply(e.ActivityFailed(**self._moment(), seq=seq, payload=payload))

    def fire(self, seq: int | None = None) -> list[c.Command]:
        """A timer is due: the given one, else the next; the clock jumps to it."""
        timers = self.work.timers
        if seq is None:
            seq = min(timers, key=lambda number: (timers[number].due_at, number))
        due_at = timers[seq].due_at
        self.clock = max(self.clock, due_at)
        return self.apply(e.TimerFired(position=self.next, time=self.clock, seq=seq, at=due_at))

    def cancel(self) -> list[c.Command]:
        return self.apply(e.CancelRequested(**self._moment()))

    # -- looking ---------------------------------------------------------------------------------

    def fresh(self) -> Replayer:
        """A replayer of the same code that knows nothing yet."""
        return Replayer(self.definition, self.started, **self.options)

    def replay(
        self,
        history: Sequence[e.Event] | None = None,
        *,
        partial: bool = False,
        code: Callable[..., Any] | None = None,
    ) -> list[c.Command]:
        """Replay a history (its own unless given), with other code if given."""
        definition = (
            self.definition
            if code is None
            else WorkflowDefinition(workflow(park=self.definition.parks)(code))
        )
        replayer = Replayer(definition, self.started, **self.options)
        try:
            return replayer.replay(self.history if history is None else history, partial=partial)
        finally:
            replayer.evict()

    @property
    def closed(self) -> bool:
        return self.replayer.closed

    @property
    def result(self) -> Any:
        """What it returned."""
        closing = self.history[-1]
        assert isinstance(closing, e.WorkflowCompleted), closing
        return json.loads(closing.payload)

    @property
    def error(self) -> Failure:
        """What it failed with."""
        closing = self.history[-1]
        assert isinstance(closing, e.WorkflowFailed), closing
        return Failure.from_json(json.loads(closing.payload))


def brief(command: c.Command) -> tuple[Any, ...]:
    """A command as a short tuple, to compare lists of them."""
    match command:
        case c.ScheduleActivity():
            return ("activity", command.seq, command.name, *json.loads(command.arguments))
        case c.RequestActivityCancel():
            return ("cancel activity", command.seq)
        case c.StartTimer():
            return ("timer", command.seq, duration_ns(command.delay) / SECOND_NS)
        case c.CancelTimer():
            return ("cancel timer", command.seq)
        case c.StartWait():
            return ("wait", command.seq, command.name)
        case c.EndWait():
            return ("end wait", command.seq, command.outcome)
        case c.CompleteWorkflow():
            return ("complete", json.loads(command.result))
        case c.FailWorkflow():
            return ("fail", command.failure.type, command.failure.message)
        case c.CancelWorkflow():
            return ("cancelled",)


def briefs(commands: Sequence[c.Command]) -> list[tuple[Any, ...]]:
    """Commands as short tuples."""
    return [brief(command) for command in commands]
