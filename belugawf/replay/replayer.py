"""History in, commands out: one run's code on a deterministic loop.

A `Replayer` is made for one run and lives as long as the run is in memory::

    replayer = Replayer(definition, started, ...)
    replayer.replay(history)            # get the state back; each command must match
    commands = replayer.apply(fact)     # something happened: what does the code ask for now?
    replayer.evict()                    # let it go, without a word to the code

`apply` sets the loop's time to the fact's, hands the fact to whoever waits for it, runs the loop
until nothing is ready, and returns what the code asked for meanwhile. It reads no clock and does
no I/O. `replay` does just the same for every recorded fact, and compares what is asked for with
what was recorded before the next fact.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import Context
from datetime import timedelta
from typing import Any

from belugawf.authoring.activity import ActivityMark
from belugawf.authoring.context import (
    ActivityRequest,
    SignalWait,
    WorkflowContext,
    WorkflowInfo,
)
from belugawf.authoring.failures import describe_failure, is_a
from belugawf.authoring.signals import BufferedSignal, SignalBuffer
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.model import codec, commands as c, events as e
from belugawf.model.durations import SECOND_NS, ns_datetime
from belugawf.model.errors import (
    Failure,
    NondeterminismError,
    QueryNotFoundError,
    TurnError,
    failure_error,
)
from belugawf.model.history import (
    RECORDED_AS,
    describe_command,
    describe_event,
    is_fact,
    is_recorded_command,
    python_version,
)
from belugawf.model.policy import ActivityDefaults, ActivityOptions
from belugawf.replay.calling import Condition, answer, input_of, only_reads, unhandled_record
from belugawf.replay.locating import user_location
from belugawf.replay.loop import DeterministicLoop, DurableTimer
from belugawf.replay.numbering import CountedFuture

# A workflow has a few activities; marks that are made anew for each call fill this.
_MOST_OPTIONS = 64
_ENDINGS = (c.CompleteWorkflow, c.FailWorkflow, c.CancelWorkflow)


class _Result(CountedFuture):
    """What an activity will return; `seq` is the activity's number."""

    seq: int


class Replayer:
    """One run in memory. Implements `Runtime` for its context, `TimerDriver` for its loop.

    `applied` counts the facts applied so far, `position` is that of the last event which this state
    stands for, `functions` are the callables that the code passed for activities still open.
    """

    def __init__(
        self,
        definition: WorkflowDefinition,
        started: e.WorkflowStarted,
        *,
        defaults: ActivityDefaults | None = None,
        payload_limit: int = 2 * 1024 * 1024,
        context: Context | None = None,
    ) -> None:
        self._definition = definition
        self.started = started
        self._defaults = defaults or ActivityDefaults()
        self.payload_limit = payload_limit
        self.info = WorkflowInfo(
            workflow_id=started.workflow_id,
            run_id=started.run_id,
            workflow=started.name,
            started_at=ns_datetime(started.time),
            deadline=None if started.deadline is None else ns_datetime(started.deadline),
            parent=started.parent,
        )
        self._cancel_requested = False
        self.closed = False
        self.applied = 0
        self.position = 0
        self.functions: dict[int, Callable[..., Any]] = {}
        self.activity_names: dict[int, str] = {}
        # By identity, with the mark, so that no other one can have its number.
        self._options: dict[int, tuple[ActivityMark, ActivityOptions]] = {}
        self._progress: str | float | None = None
        self._now = started.time
        self._seq = 0
        self._loop = DeterministicLoop(self, context)
        self._signals = SignalBuffer()
        self._queries: dict[str, Callable[..., Any]] = {}
        self._commands: list[c.Command] = []
        self._timers: dict[int, DurableTimer] = {}
        self._results: dict[int, _Result] = {}
        self._conditions: OrderedDict[asyncio.Future[None], Condition] = OrderedDict()
        self._main: asyncio.Task[str] | None = None
        self._replaying = False
        self._read_only = False
        self._logs: list[logging.LogRecord] = []

    @property
    def asked(self) -> int:
        """How many activities, timers and waits the code has asked for so far."""
        return self._seq

    @property
    def interrupted(self) -> bool:
        """Whether the code has raised KeyboardInterrupt; what for, others may know."""
        return self._loop.interrupted

    # -- what an engine calls --------------------------------------------------------------------

    def apply(self, fact: e.Event) -> list[c.Command]:
        """Something happened: returns what the code asks for now, in the order it asks.

        A command that ends the run comes last, and `closed` is set. Raises `TurnError` where the
        turn cannot be taken; the replayer is then of no use any more.
        """
        return self._loop.within(self._apply, fact)

    def _apply(self, fact: e.Event) -> list[c.Command]:
        self.applied += 1
        self._now = fact.time
        self._loop.begin_turn(fact.time / SECOND_NS)
        self._take(fact)
        self._settle()
        commands, self._commands = self._commands, []
        ending = self._ending()
        if ending is not None:
            commands.append(ending)
            self.closed = True
        return commands

    def replay(self, history: Sequence[e.Event], *, partial: bool = False) -> list[c.Command]:
        """Apply a recorded history, comparing each command with its record.

        It may be handed over in pieces, each of which begins with a fact.
        Raises `NondeterminismError` where they differ. With `partial` the history may end in the
        middle of the last fact's commands: those not recorded are returned.
        """
        self._replaying = True
        try:
            pending = self._loop.within(self._replay, history, partial)
        finally:
            self._replaying = False
            self._logs.clear()
            self._loop.unhandled.clear()
            self._progress = None
        self.position = history[-1].position if history else 0
        return pending

    def _replay(self, history: Sequence[e.Event], partial: bool) -> list[c.Command]:
        fact: e.Event | None = None
        recorded: list[e.Event] = []
        for event in history:
            if is_fact(event):
                if fact is not None:
                    self._match(self._apply(fact), recorded, fact, lenient=False)
                fact, recorded = event, []
            elif is_recorded_command(event):
                recorded.append(event)
        if fact is None:
            return []
        return self._match(self._apply(fact), recorded, fact, lenient=partial)

    def take_progress(self) -> str | float | None:
        """What the code said of its progress since the last call; `None`: nothing."""
        progress, self._progress = self._progress, None
        return progress

    def take_logs(self) -> list[logging.LogRecord]:
        """What the code logged since the last call."""
        for message, traceback in self._loop.unhandled:
            self._logs.append(
                unhandled_record(self.info, self._definition.location, message, traceback)
            )
        self._loop.unhandled.clear()
        logs, self._logs = self._logs, []
        return logs

    def query(self, name: str, args: Sequence[Any]) -> str:
        """The JSON text that the code's query answers.

        Raises `QueryNotFoundError`, and `QueryFailedError` whatever the query itself raises.
        """
        function = self._queries.get(name)
        if function is None:
            names = ", ".join(sorted(self._queries)) or "none of its own"
            raise QueryNotFoundError(
                f"workflow {self.info.workflow!r} has no query {name!r}",
                hint=f"it has status, result, waiting, and {names}",
            )
        return self._loop.within(self._query, name, function, args)

    def _query(self, name: str, function: Callable[..., Any], args: Sequence[Any]) -> str:
        self._read_only, self._loop.open = True, False
        try:
            return answer(name, function, args, self.payload_limit)
        finally:
            self._read_only = False

    def evict(self) -> None:
        """Let the run go from memory. Its code unwinds, and nothing that it does is heard.

        Raises `CodeInterrupted` if that is thrown into it; `abandon` is what is left then.
        """
        self._loop.evict()
        self._forget()

    def abandon(self) -> None:
        """Let the run go without running a line of it: it stays in memory."""
        self._loop.abandon()
        self._forget()

    def _forget(self) -> None:
        self._commands.clear()
        self._logs.clear()
        self._loop.unhandled.clear()
        self._conditions.clear()

    # -- facts -----------------------------------------------------------------------------------

    def _take(self, fact: e.Event) -> None:
        match fact:
            case e.ActivityCompleted():  # first, because most facts are
                result = self._pop_result(fact)
                if not result.done():
                    result.set_result(fact.payload)
            case e.WorkflowStarted():
                self._start()
            case e.SignalReceived():
                self._signals.deliver(BufferedSignal(fact.name, fact.payload, fact.at, fact.sender))
            case e.CancelRequested():
                self._cancel()
            case e.TimerFired():
                timer = self._pop(self._timers, fact)
                if not timer.empty:
                    self._loop.rested()
                self._loop.fire(timer)
                return
            case e.ActivityFailed() | e.ActivityTimedOut():
                result = self._pop_result(fact)
                if not result.done():
                    failure = Failure.from_json(codec.parse_json(fact.payload))
                    result.set_exception(failure_error(failure))
            case _:
                raise AssertionError(f"{fact} is no fact")
        self._loop.rested()

    def _pop(self, answers: dict[int, Any], fact: Any) -> Any:
        if fact.seq not in answers:
            raise self._mismatch(fact.position, f"an answer to number {fact.seq}", "nothing", None)
        return answers.pop(fact.seq)

    def _pop_result(self, fact: Any) -> asyncio.Future[str]:
        result: _Result = self._pop(self._results, fact)
        self.functions.pop(fact.seq, None)
        if self._replaying:
            # Nobody is told of it any more, and a history may have a hundred thousand.
            self.activity_names.pop(fact.seq, None)
        return result

    def _start(self) -> None:
        arguments = input_of(self._definition, self.started.payload, self.info.workflow)
        context = WorkflowContext(self, self._signals, self._queries)
        self._main = self._loop.create_task(self._run(context, arguments), name="workflow")

    async def _run(self, context: WorkflowContext, arguments: dict[str, Any]) -> str:
        result = await self._definition.function(context, **arguments)
        return codec.encode(result, what="result", limit=self.payload_limit)

    def _cancel(self) -> None:
        first, self._cancel_requested = not self._cancel_requested, True
        if first and self._main is not None:
            self._main.cancel()

    # -- running ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Run until nothing is ready and no condition has come true."""
        self._loop.run_ready()
        while self._conditions and self._loop.exit is None and self._look_at_conditions():
            self._loop.run_ready()

    def _look_at_conditions(self) -> bool:
        """Wake whoever has waited longest of those whose condition holds: it may change that.

        Whether there is something to run now; a condition that does not hold may have seen to that.
        """
        over = []
        for future, condition in self._conditions.items():
            if future.done() or condition.settle(future):
                over.append(future)
            if self._loop.has_ready:
                break
        for future in over:
            del self._conditions[future]
        return self._loop.has_ready

    def _ending(self) -> c.Command | None:
        main = self._main
        if self.closed or main is None:
            return None
        ending: c.Command
        if self._loop.exit is not None:
            ending = c.FailWorkflow(failure=describe_failure(self._loop.exit))
        elif not main.done():
            return None
        elif main.cancelled() and self.cancel_requested:
            ending = c.CancelWorkflow()
        elif main.cancelled():
            ending = c.FailWorkflow(failure=describe_failure(_cancelled(main)))
        elif (error := main.exception()) is None:
            ending = c.CompleteWorkflow(result=main.result())
        elif is_a(error, TurnError):
            raise error
        else:
            ending = c.FailWorkflow(failure=describe_failure(error))
        self._loop.end()
        return ending

    # -- comparing -------------------------------------------------------------------------------

    def _match(
        self,
        commands: Sequence[c.Command],
        recorded: Sequence[e.Event],
        fact: e.Event,
        *,
        lenient: bool,
    ) -> list[c.Command]:
        """Compare one fact's commands with their records; returns those without a record."""
        if len(commands) == len(recorded) and all(map(_answers, recorded, commands)):
            return []
        asked = {_key(command): command for command in commands}
        for event in recorded:
            key = _recorded_key(event)
            command = asked.pop(key, None)
            if command is None:
                other = next(iter(asked.values()), None)
                raise self._differs(event, other)
            if not _same(command, event):
                raise self._differs(event, command)
        left = list(asked.values())
        if left and not lenient:
            position = (recorded[-1].position if recorded else fact.position) + 1
            raise self._mismatch(
                position, "nothing more", describe_command(left[0]), _location(left[0])
            )
        return left

    def _differs(self, event: e.Event, command: c.Command | None) -> NondeterminismError:
        requested = "nothing" if command is None else describe_command(command)
        recorded = describe_event(event)
        if command is not None and requested == recorded:
            requested += " with other arguments"
        return self._mismatch(event.position, recorded, requested, _location(command))

    def _mismatch(
        self, position: int, recorded: str, requested: str, location: str | None
    ) -> NondeterminismError:
        started_on = self.started.python
        now_on = python_version()
        likely = (
            "the workflow's code was changed while this run was open: put the old code back, or "
            "start a new run; if it was not changed, it depends on something that is not recorded "
            "(the clock, random, the order of a set)"
        )
        if started_on and started_on != now_on:
            likely = f"it started on Python {started_on} and this is {now_on}; or {likely}"
        return NondeterminismError(
            position=position,
            recorded=recorded,
            requested=requested,
            location=location or self._definition.location,
            cause=likely,
        )

    # -- Runtime: what the context calls ---------------------------------------------------------

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked the run to stop."""
        self._check_alive()
        return self._cancel_requested

    def schedule_activity(self, request: ActivityRequest) -> asyncio.Future[str]:
        seq = self._next_seq()
        self._commands.append(
            c.ScheduleActivity(
                seq=seq,
                name=request.mark.name,
                arguments=request.arguments,
                activity_id=request.activity_id or str(seq),
                options=self._options_of(request.mark),
                function=request.function,
                location=request.location,
            )
        )
        self.activity_names[seq] = request.mark.name
        if request.function is not None:
            self.functions[seq] = request.function
        result = _Result(loop=self._loop)
        result.seq = seq
        self._results[seq] = result
        return result

    def _options_of(self, mark: ActivityMark) -> ActivityOptions:
        """The mark's options: made once for an activity that is asked for again and again."""
        known = self._options.get(id(mark))
        if known is not None:
            return known[1]
        if len(self._options) >= _MOST_OPTIONS:
            self._options.clear()
        options = mark.options(self._defaults)
        self._options[id(mark)] = (mark, options)
        return options

    def cancel_activity(self, result: asyncio.Future[str]) -> None:
        assert isinstance(result, _Result)
        if not self._hears():
            return
        seq = result.seq
        if self._results.pop(seq, None) is not None:
            self.functions.pop(seq, None)
            self._commands.append(c.RequestActivityCancel(seq=seq, location=user_location(2)))

    def begin_wait(self, wait: SignalWait) -> int:
        seq = self._next_seq()
        self._commands.append(
            c.StartWait(
                seq=seq,
                name=wait.name,
                timeout=wait.timeout,
                prompt=wait.prompt,
                expected=wait.expected,
                schema=wait.schema,
                location=wait.location,
            )
        )
        return seq

    def end_wait(self, token: int, outcome: str) -> None:
        if self._hears():
            self._commands.append(c.EndWait(seq=token, outcome=outcome, location=user_location(2)))

    def wait_condition(self, predicate: Callable[[], bool]) -> asyncio.Future[None]:
        self._check()
        future: asyncio.Future[None] = self._loop.create_future()
        self._conditions[future] = Condition(predicate)
        return future

    def new_future(self) -> asyncio.Future[Any]:
        return self._loop.create_future()

    def call_at(self, moment: int, callback: Callable[..., object], *args: Any) -> Any:
        return self._loop.call_at_moment(moment, callback, *args)

    def now(self) -> int:
        self._check_alive()
        return self._now

    def random(self, purpose: str) -> random.Random:
        return random.Random(f"{self.info.run_id}:{purpose}")  # noqa: S311 - to be repeated

    def is_replaying(self) -> bool:
        return self._replaying

    def emit_log(self, record: logging.LogRecord) -> None:
        if self._loop.open and not self._replaying:
            self._logs.append(record)

    def publish_progress(self, progress: str | float) -> None:
        self._check()
        self._progress = progress

    # -- TimerDriver: what the loop calls --------------------------------------------------------

    def start_timer(self, timer: DurableTimer, delay: timedelta) -> None:
        timer.seq = self._next_seq()
        self._timers[timer.seq] = timer
        self._commands.append(
            c.StartTimer(seq=timer.seq, delay=delay, moment=timer.moment, location=user_location(2))
        )

    def cancel_timer(self, timer: DurableTimer) -> None:
        if self._timers.pop(timer.seq, None) is not None:
            self._commands.append(c.CancelTimer(seq=timer.seq, location=user_location(2)))

    def _next_seq(self) -> int:
        if self._read_only or not self._loop.open:
            self._check()
        self._seq += 1
        return self._seq

    def _hears(self) -> bool:
        """Whether the end of something counts. What the collector closes ends without a word."""
        if self._loop.evicting or self._read_only:
            self._check()
        return self._loop.open

    def _check(self) -> None:
        self._check_alive()
        if self._read_only:
            raise only_reads()

    def _check_alive(self) -> None:
        if not self._read_only:
            self._loop.check()


def _cancelled(task: asyncio.Task[Any]) -> BaseException:
    """The CancelledError that has left a task."""
    try:
        return task.exception() or asyncio.CancelledError()
    except asyncio.CancelledError as error:
        return error


_OPENING = (c.ScheduleActivity, c.StartTimer, c.StartWait)
_OPENED = tuple(RECORDED_AS[kind] for kind in _OPENING)


def _key(command: c.Command) -> tuple[int, bool]:
    """Which record a command is compared with: each number is opened once and closed once."""
    if isinstance(command, _ENDINGS):
        return (0, False)
    return (command.seq, isinstance(command, _OPENING))


def _recorded_key(event: e.Event) -> tuple[int, bool]:
    return (getattr(event, "seq", 0), isinstance(event, _OPENED))


def _answers(event: e.Event, command: c.Command) -> bool:
    """Whether it is the record of that command: nearly always, and then in the same order."""
    return getattr(event, "seq", 0) == getattr(command, "seq", 0) and _same(command, event)


def _same(command: c.Command, event: e.Event) -> bool:
    if type(event) is not RECORDED_AS[type(command)]:
        return False
    if isinstance(command, c.ScheduleActivity) and isinstance(event, e.ActivityScheduled):
        return command.name == event.name and codec.same(command.arguments, event.payload)
    if isinstance(command, c.StartWait) and isinstance(event, e.WaitStarted):
        return command.name == event.name
    if isinstance(command, c.CompleteWorkflow) and isinstance(event, e.WorkflowCompleted):
        return codec.same(command.result, event.payload)
    return True


def _location(command: c.Command | None) -> str | None:
    return getattr(command, "location", None)
