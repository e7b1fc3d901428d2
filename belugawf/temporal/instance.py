"""The SDK's run in memory, with our rules: how turns are taken, and runs let go.

`Instance` is the SDK's own, which is an event loop as well. It differs in this: tasks and futures
hash to a number; timers that are due already need no timer; what would touch the world raises our
error; a replay is compared with its history by us as well; the end of each turn publishes what the
run waits for; code is called through `host.border`; and letting a run go from memory unwinds it as
`replay.loop` does.

None of this is public in the SDK. tests/temporal pins each point.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Protocol, TypeVarTuple, Unpack
from weakref import WeakSet

from temporalio import workflow
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure as ProtoFailure
from temporalio.bridge.proto.workflow_activation import RemoveFromCache, WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import (
    StartActivityInput,
    UnsandboxedWorkflowRunner,
    WorkflowInstance,
    WorkflowInstanceDetails,
)
from temporalio.worker._workflow_instance import (
    _TimerHandle,
    _WorkflowInstanceImpl,
)

from belugawf.authoring.failures import describe_failure
from belugawf.model.errors import (
    BelugaError,
    CodeError,
    NondeterminismError,
    QueryFailedError,
    TurnError,
)
from belugawf.replay.calling import Condition, only_reads
from belugawf.replay.locating import user_location
from belugawf.replay.numbering import (
    CountedTask,
    NumberingLoop,
    is_kept,
    outside_of_turn,
)
from belugawf.replay.unwinding import Generators, abandon, kept_generators, unwind
from belugawf.temporal.environment import Environment, eviction_problem, problem_of
from belugawf.temporal.matching import Matcher
from belugawf.temporal.payloads import RecordedFailure

_Ts = TypeVarTuple("_Ts")


class Reporting(Protocol):
    """What an instance asks of the run's own code at the end of a turn."""

    wait_location: str | None

    def warn_of(self, pending: Sequence[asyncio.Task[Any]]) -> None: ...
    def came_to_rest(self) -> dict[str, Any]: ...
    def show_logs(self) -> None: ...
    def log(self, record: logging.LogRecord) -> None: ...

    def call_hooks(self, hook: str, **details: Any) -> None: ...


class _Callback(asyncio.Handle):
    """A task that raises SystemExit keeps it as its exception, for whoever awaits it."""

    def _run(self) -> None:
        try:
            super()._run()
        except (SystemExit, KeyboardInterrupt) as error:
            if not is_kept(error, self, frames=2):
                raise


# Reasons for letting a run go that say nothing of its code.
_HARMLESS = (
    RemoveFromCache.EvictionReason.CACHE_FULL,
    RemoveFromCache.EvictionReason.CACHE_MISS,
    RemoveFromCache.EvictionReason.LANG_REQUESTED,
    RemoveFromCache.EvictionReason.TASK_NOT_FOUND,
    RemoveFromCache.EvictionReason.UNHANDLED_COMMAND,
    RemoveFromCache.EvictionReason.WORKFLOW_EXECUTION_ENDING,
)


class Instance(NumberingLoop, _WorkflowInstanceImpl):
    """The SDK's run in memory and event loop in one, with our rules for both.

    `_location` is where the code asks for the next command, if its stack does not tell; `_wrong`
    why the code has ended, if it is wrong: its failure counts only if it is recorded.
    """

    open = False
    # See `Evictable`: each turn is watched by itself, and none runs in the main thread.
    applied = 0
    interrupted = False

    def __init__(self, details: WorkflowInstanceDetails, environment: Environment) -> None:
        self.environment = environment
        self._in_order: dict[asyncio.Task[Any], None] = {}
        self._generators = Generators(self)
        self._matcher: Matcher | None = None
        self._location: str | None = None
        self._types: tuple[Any, ...] = ()
        self._wrong: CodeError | None = None
        NumberingLoop.__init__(self)
        # Tasks and callbacks copy the context in which they are made: that of their run.
        self._context = environment.border.new_context()
        _WorkflowInstanceImpl.__init__(self, details)

    def log(self, record: logging.LogRecord) -> None:
        if (runtime := getattr(self._object, "runtime", None)) is not None:
            runtime.log(record)

    # -- a turn ----------------------------------------------------------------------------------

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        """Take a turn. Raises nothing: the SDK would lose the run, or its worker."""
        if any(job.HasField("remove_from_cache") for job in act.jobs):
            self._removed(act.jobs[0].remove_from_cache)
            return WorkflowActivationCompletion(run_id=act.run_id)
        run_id = self._info.run_id
        created = self._created
        if self._matcher is not None:
            self._matcher.places.clear()
        if act.is_replaying and any(job.HasField("initialize_workflow") for job in act.jobs):
            self._matcher = self._new_matcher()
        only_asked = all(job.HasField("query_workflow") for job in act.jobs)
        border, turn = self.environment.border, partial(self._context.run, self._turn, act)
        try:
            completion = border.turn(self, turn)
        except BelugaError as error:
            completion = self._unanswered(act, error) if only_asked else self._refused(error)
        if only_asked:
            # A replay has no queries: what they create must not shift what it numbers.
            self._created = created
            return completion
        self.environment.active(self._info.workflow_id, run_id)
        runtime: Reporting | None = getattr(self._object, "runtime", None)
        if self._wrong is not None and not act.is_replaying:
            completion = self._refused(self._wrong)
        elif runtime is not None and completion.HasField("successful"):
            self._publish(runtime, act, completion)
            completion = self._compared(act, completion)
        problem = None
        if completion.HasField("failed"):
            problem = problem_of(completion.failed.failure, new=True)
            before = self.environment.problems.get(run_id)
            if runtime is not None and (before is None or before.code != problem.code):
                runtime.show_logs()  # once: it is tried again and again
        self.environment.note_problem(run_id, problem, act.is_replaying)
        return completion

    def _turn(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        with self._opened(), kept_generators(self._generators):
            completion = super().activate(act)
            ends = _ends_of(completion)
            if ends:
                self.end()
            runtime: Reporting | None = getattr(self._object, "runtime", None)
            if runtime is not None and ends - {"cancel_workflow_execution"}:
                runtime.warn_of(list(self._in_order))
            return completion

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        self.open = True
        try:
            yield
        finally:
            self.open = False

    def _run_once(self, **how: Any) -> None:
        try:
            super()._run_once(**how)
        except (SystemExit, KeyboardInterrupt) as error:
            # A bare callback raised it, which belongs to nobody: here a program would end.
            self._ready.clear()
            self._conditions.clear()
            commands = self._current_completion.successful.commands
            for index in reversed(range(len(commands))):
                if commands[index].WhichOneof("variant") in _ENDS:
                    del commands[index]
            self._set_workflow_failure(RecordedFailure(describe_failure(error)))

    def add_condition(self, condition: Condition, waiter: asyncio.Future[None]) -> None:
        """Have it looked at after whatever may change it. No task of ours waits for it: that would
        stand among those of the code."""
        self._conditions.append((lambda: condition.settle(waiter), waiter))

    def _check_condition(self, fn: Callable[[], bool], fut: asyncio.Future[Any]) -> bool:
        # One at a time, as on one file: whoever is woken may change what the next one waits for.
        if self._ready or not fn():
            return False
        if not fut.done():
            fut.set_result(True)
        return True

    def _refused(self, error: BelugaError) -> WorkflowActivationCompletion:
        """The completion that fails the turn."""
        refused = WorkflowActivationCompletion()
        self._write(error, refused.failed.failure)
        return refused

    def _write(self, error: BelugaError, failure: ProtoFailure) -> None:
        self._workflow_context_failure_converter.to_failure(
            error, self._workflow_context_payload_converter, failure
        )

    def _unanswered(
        self, act: WorkflowActivation, error: BelugaError
    ) -> WorkflowActivationCompletion:
        """The completion that tells whoever asked. A failed one would refuse the run's own turn too
        if the server has handed both out together."""
        self._ready.clear()
        self._read_only = False  # whatever was interrupted
        completion = WorkflowActivationCompletion()
        completion.successful.SetInParent()
        for job in act.jobs:
            answer = completion.successful.commands.add().respond_to_query
            answer.query_id = job.query_workflow.query_id
            self._write(QueryFailedError(error.message), answer.failed)
        return completion

    # -- comparing -------------------------------------------------------------------------------

    def _new_matcher(self) -> Matcher | None:
        """What the replay is compared with; the SDK compares alone if it cannot be had soon."""
        history = self.environment.history(self._info.workflow_id, self._info.run_id)
        if history is None:
            return None
        known = self.environment.catalog.workflows.get(self._info.workflow_type)
        return Matcher(history, "" if known is None else known.location)

    def _compared(
        self, act: WorkflowActivation, completion: WorkflowActivationCompletion
    ) -> WorkflowActivationCompletion:
        """The completion; one that fails the turn if the code differs from the history."""
        matcher = self._matcher
        if matcher is None or not matcher.covers(act.history_length):
            self._matcher = None
            return completion
        try:
            matcher.take(act.history_length, completion.successful.commands)
        except NondeterminismError as error:
            if self._wrong is not None:
                return self._refused(self._wrong)
            refused = self._refused(error)
            refused.failed.force_cause = (
                WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
            )
            return refused
        return completion

    def _add_command(self) -> WorkflowCommand:
        if not self.open:
            self.check()
        command = super()._add_command()
        if self._matcher is not None:
            self._matcher.places.append((self._location or user_location(2), self._types))
        self._location, self._types = None, ()
        return command

    def _publish(
        self, runtime: Reporting, act: WorkflowActivation, completion: WorkflowActivationCompletion
    ) -> None:
        news = runtime.came_to_rest()
        ends = _ends_of(completion)
        if news and not ends:
            self._location = runtime.wait_location
            with self._opened():
                self.workflow_upsert_memo(news)
        if act.is_replaying:
            return
        if any(job.HasField("initialize_workflow") for job in act.jobs):
            runtime.call_hooks("on_workflow_start")
        for end in ends:
            runtime.call_hooks(_ENDS[end])

    def refuse(self, error: TurnError) -> TurnError:
        """This turn cannot be taken, even if the code catches the error."""
        self._current_activation_error = error
        return error

    def park(self, wrong: CodeError | None) -> None:  # how its code has ended says so
        self._wrong = wrong

    def start_activity(
        self, asked: StartActivityInput, location: str | None, types: tuple[Any, ...]
    ) -> workflow.ActivityHandle[Any]:
        """Schedule it on the server; `location` is where the code asks for it.

        `types` are what its arguments are read by, if they are more than plain values.
        """
        self._location, self._types = location, types
        handle = self._outbound.start_activity(asked)
        asyncio._unregister_task(handle)  # it is none of the code's
        return handle

    def check_may_ask(self) -> None:
        """Raise if the code may ask for nothing: as `check`, or because a query only reads."""
        self.check()
        if self._read_only:
            raise only_reads()

    def _assert_not_read_only(
        self, action_attempted: str, *, allow_during_delete: bool = False
    ) -> None:
        if self._read_only:
            raise outside_of_turn()
        super()._assert_not_read_only(action_attempted, allow_during_delete=allow_during_delete)

    # -- letting go ------------------------------------------------------------------------------

    @property
    def evicting(self) -> bool:  # type: ignore[override]
        """Whether the run is being let go from memory."""
        return self._deleting

    def hears(self) -> bool:
        """Whether the end of something counts. What the collector closes ends without a word."""
        if self._deleting:
            self.check()
        return self.open

    def _removed(self, job: RemoveFromCache) -> None:
        """Unwind the code as `replay.loop` does: the SDK would cancel it, and run its cleanup."""
        problem = self.environment.problems.get(self._info.run_id)
        if problem is None and job.reason not in _HARMLESS:
            problem = eviction_problem(job.message, new=True)
            self.environment.note_problem(self._info.run_id, problem)
            self.environment.active(self._info.workflow_id, self._info.run_id)
        self.let_go()

    def let_go(self) -> None:
        """Let the run go from memory; nothing that its code does is heard."""
        if not self._deleting:
            self.environment.border.evict(self)

    def evict(self) -> None:
        """Unwind the code. Raises `CodeInterrupted` if that was thrown in."""
        self._forget()
        asyncio._set_running_loop(self)
        try:
            self._context.run(unwind, self._in_order, self._generators)
        finally:
            asyncio._set_running_loop(None)
        self._in_order.clear()

    def abandon(self) -> None:
        """Let the run go without running a line of it: it stays in memory."""
        self._forget()
        abandon(self._in_order, self._generators)
        self._in_order.clear()

    def _forget(self) -> None:
        self._deleting = self._is_replaying = True
        self.open = False
        self._tasks.clear()
        self._ready.clear()

    # -- what asyncio calls ----------------------------------------------------------------------

    def _register_task(self, task: asyncio.Task[Any], *, name: str | None) -> None:
        super()._register_task(task, name=name)
        self._in_order[task] = None
        task.add_done_callback(self._forget_task)

    def _forget_task(self, task: asyncio.Task[Any]) -> None:
        self._in_order.pop(task, None)
        self.note_done(task)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **_ignored: Any,
    ) -> asyncio.Task[Any]:
        if self._deleting:
            coro.close()
        task = CountedTask(coro, loop=self, name=name, context=context)
        self._register_task(task, name=name)
        return task

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        if not self.open:
            self.check()
        self._assert_not_read_only("schedule task", allow_during_delete=True)
        handle = _Callback(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """The server's timers have milliseconds; what is due already needs none."""
        self.check()
        if self._deleting or delay <= 0:
            due = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
            if not self._deleting:  # else it swallowed every refusal: its next await stands still
                self._ready.append(due)
            return due
        rounded = max(round(delay, 3), 0.001)
        return super().call_later(rounded, callback, *args, context=context)

    def is_closed(self) -> bool:
        return False

    async def shutdown_asyncgens(self) -> None:
        """Generators live as long as their run."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # Outside of a turn, only the collector cancels timers: nobody hears of it.
        if isinstance(handle, _TimerHandle) and self.open:
            super()._timer_handle_cancelled(handle)


def _ends_of(completion: WorkflowActivationCompletion) -> set[str]:
    """Which commands that end the run are in it."""
    commands = completion.successful.commands
    return {str(command.WhichOneof("variant")) for command in commands} & _ENDS.keys()


_ENDS = {
    "complete_workflow_execution": "on_workflow_complete",
    "fail_workflow_execution": "on_workflow_fail",
    "cancel_workflow_execution": "on_workflow_fail",
}


class Runner(UnsandboxedWorkflowRunner):
    """Makes our instances. No sandbox: modules are imported once, as on the local provider."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.instances: WeakSet[Instance] = WeakSet()

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = Instance(det, self._environment)  # type: ignore[abstract]
        self.instances.add(instance)
        return instance
