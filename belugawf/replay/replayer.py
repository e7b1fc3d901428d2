"""History in, commands out: one run's code on a deterministic loop.

A `Replayer` is made for one run and lives as long as the run is in memory::

    replayer = Replayer(definition, started, ...)
    replayer.replay(history)            # get the state back; each command must match
    commands = replayer.apply(fact)     # something happened: what does the code ask for now?
    replayer.evict()                    # let it go, without a word to the code

`apply` sets the loop's time to the fact's, hands the fact to whoever waits for it, runs the loop
until nothing is ready, and returns what the code asked for meanwhile (`replay.runtime`). It reads
no clock and does no I/O. `replay` does just the same for every recorded fact, and compares what is
asked for with what was recorded before the next fact (`replay.matching`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any

from belugawf.authoring.context import WorkflowContext
from belugawf.authoring.failures import describe_failure, is_a
from belugawf.authoring.runtime import WorkflowInfo
from belugawf.authoring.signals import BufferedSignal, SignalBuffer
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.model import codec, commands as c, events as e
from belugawf.model.durations import ns_datetime
from belugawf.model.errors import (
    CodeError,
    Failure,
    NondeterminismError,
    QueryNotFoundError,
    TurnError,
    failure_error,
)
from belugawf.model.history import is_fact, is_recorded_command
from belugawf.model.policy import ActivityDefaults
from belugawf.replay.calling import answer, input_of, unhandled_record, wrong_code
from belugawf.replay.matching import Matcher
from belugawf.replay.runtime import ReplayRuntime


class Replayer:
    """One run in memory.

    `applied` counts the facts applied so far, `functions` are the callables that its code has
    passed for activities that are still open.
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
        self.info = WorkflowInfo(
            workflow_id=started.workflow_id,
            run_id=started.run_id,
            workflow=started.name,
            started_at=ns_datetime(started.time),
            deadline=None if started.deadline is None else ns_datetime(started.deadline),
            parent=started.parent,
        )
        self.closed = False
        self.applied = 0
        self._runtime = ReplayRuntime(
            self.info, defaults or ActivityDefaults(), payload_limit, context
        )
        self._loop = self._runtime.loop
        self.functions = self._runtime.functions
        self._signals = SignalBuffer()
        self._queries: dict[str, Callable[..., Any]] = {}
        self._main: asyncio.Task[str] | None = None
        # Why the code has ended, if it is wrong: recorded only where it was before there was this.
        self._wrong: CodeError | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the code has raised KeyboardInterrupt; what for, others may know."""
        return self._loop.interrupted

    # -- what an engine calls --------------------------------------------------------------------

    def apply(self, fact: e.Event) -> list[c.Command]:
        """Something happened: returns what the code asks for now, in the order it asks.

        A command that ends the run comes last, and `closed` is set. Raises `TurnError` if the
        turn cannot be taken; the replayer is then of no use any more.
        """
        commands = self._loop.within(self._apply, fact)
        if self._wrong is not None:
            raise self._wrong
        return commands

    def _apply(self, fact: e.Event) -> list[c.Command]:
        self.applied += 1
        commands = self._runtime.begin_turn(fact.time, after_timer=type(fact) is e.TimerFired)
        self._apply_fact(fact)
        self._loop.run_ready()
        if self._runtime.conditions:
            self._runtime.check_conditions()
        main = self._main
        if main is not None and (main.done() or self._loop.exit is not None) and not self.closed:
            commands.append(self._ending(main))
            self.closed = True
        return commands

    def replay(self, history: Sequence[e.Event], *, partial: bool = False) -> list[c.Command]:
        """Apply a recorded history, comparing each command with its record.

        It may be handed over in pieces, each of which begins with a fact.
        Raises `NondeterminismError` if they differ. With `partial` the history may end in the
        middle of the last fact's commands: those not recorded are returned.
        """
        self._runtime.output.begin_replay()
        try:
            pending = self._loop.within(self._replay, history, partial)
        finally:
            self._runtime.output.end_replay()
            self._loop.unhandled.clear()
        return pending

    def _replay(self, history: Sequence[e.Event], partial: bool) -> list[c.Command]:
        matcher = self._matcher()
        fact: e.Event | None = None
        recorded: list[e.Event] = []
        for event in history:
            if is_fact(event):
                if fact is not None:
                    self._compare(matcher, fact, recorded, lenient=False)
                fact, recorded = event, []
            elif is_recorded_command(event):
                recorded.append(event)
        if fact is None:
            return []
        return self._compare(matcher, fact, recorded, lenient=partial)

    def _compare(
        self, matcher: Matcher, fact: e.Event, recorded: Sequence[e.Event], *, lenient: bool
    ) -> list[c.Command]:
        """Apply a recorded fact; the commands that have no record."""
        commands = self._apply(fact)
        try:
            left = matcher.match(commands, recorded, fact, lenient=lenient)
        except NondeterminismError as error:
            raise self._wrong or error from None
        if left and self._wrong is not None:
            raise self._wrong
        return left

    def _matcher(self) -> Matcher:
        return Matcher(self.started.python, self._definition.location, self.info.workflow_id)

    def take_progress(self) -> str | float | None:
        """The progress that the code has reported since the last call, if any."""
        output = self._runtime.output
        return None if output.progress is None else output.take_progress()

    def take_logs(self, *, refused: bool = False) -> list[logging.LogRecord]:
        """What the code logged since the last call, and errors that nobody has asked for.

        Of a turn that is `refused` the problem says the errors.
        """
        logs, unhandled = self._runtime.output.logs, self._loop.unhandled
        if refused:
            unhandled.clear()
        if not logs and not unhandled:
            return []
        where = self._definition.location
        taken = [*logs, *(unhandled_record(self.info, where, *error) for error in unhandled)]
        logs.clear()
        unhandled.clear()
        return taken

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
        question = partial(answer, name, function, args, self._runtime.payload_limit)
        return self._loop.within(self._runtime.read, question)

    def evict(self) -> None:
        """Let the run go from memory. Its code unwinds, and nothing that it does is heard.

        Raises `CodeInterrupted` if that is thrown into it; `abandon` is what is left then.
        """
        self._loop.evict()
        self._runtime.forget()

    def abandon(self) -> None:
        """Let the run go without running a line of it: it stays in memory."""
        self._loop.abandon()
        self._runtime.forget()

    # -- facts -----------------------------------------------------------------------------------

    def _apply_fact(self, fact: e.Event) -> None:
        match fact:
            case e.ActivityCompleted():  # first, because most facts are
                result = self._runtime.pop_result(fact.seq)
                if result is None:
                    raise self._unasked(fact)
                if not result.done():
                    result.set_result(fact.payload)
            case e.WorkflowStarted():
                self._start()
            case e.SignalReceived():
                self._signals.deliver(BufferedSignal(fact.name, fact.payload, fact.at, fact.sender))
            case e.CancelRequested():
                if self._runtime.request_cancel() and self._main is not None:
                    self._main.cancel()
            case e.TimerFired():
                timer = self._runtime.timers.pop(fact.seq, None)
                if timer is None:
                    raise self._unasked(fact)
                self._loop.fire(timer)
            case e.ActivityFailed() | e.ActivityTimedOut():
                result = self._runtime.pop_result(fact.seq)
                if result is None:
                    raise self._unasked(fact)
                if not result.done():
                    failure = Failure.from_json(codec.parse_json(fact.payload))
                    result.set_exception(failure_error(failure, fact.seq))
            case _:
                raise AssertionError(f"{fact} is no fact")

    def _unasked(self, fact: Any) -> NondeterminismError:
        """The error for an answer to what the code has not asked for."""
        recorded = f"an answer to number {fact.seq}"
        return self._matcher().mismatch(fact.position, recorded, "nothing")

    def _start(self) -> None:
        arguments = input_of(self._definition, self.started.payload, self.info.workflow)
        context = WorkflowContext(self._runtime, self._signals, self._queries)
        self._main = self._loop.create_task(self._run(context, arguments), name="workflow")

    async def _run(self, context: WorkflowContext, arguments: dict[str, Any]) -> str:
        result = await self._definition.function(context, **arguments)
        return self._definition.encode_result(result, limit=self._runtime.payload_limit)

    def _ending(self, main: asyncio.Task[str]) -> c.Command:
        ending: c.Command
        if self._loop.exit is not None:
            ending = c.FailWorkflow(failure=describe_failure(self._loop.exit))
        elif main.cancelled() and self._runtime.cancel_requested:
            ending = c.CancelWorkflow()
        elif main.cancelled():
            ending = c.FailWorkflow(failure=describe_failure(_cancelled(main)))
        elif (error := main.exception()) is None:
            result_type = self._definition.result_annotation
            ending = c.CompleteWorkflow(result=main.result(), type=result_type)
        elif is_a(error, TurnError):
            raise error
        else:
            ending = c.FailWorkflow(failure=describe_failure(error))
            if self._definition.parks:
                self._wrong = wrong_code(error, self.info)
        self._loop.end()
        # Whoever has it cancelled knows that it is not done, and a parked run goes on.
        if type(ending) is not c.CancelWorkflow and self._wrong is None:
            self._runtime.warn_of(self._loop.tasks, self._definition.location)
        return ending


def _cancelled(task: asyncio.Task[Any]) -> BaseException:
    """The CancelledError that has left a task."""
    try:
        return task.exception() or asyncio.CancelledError()
    except asyncio.CancelledError as error:
        return error
