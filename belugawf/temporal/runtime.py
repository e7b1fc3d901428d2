"""Workflow code on Temporal: the one `WorkflowContext` over `temporalio.workflow`.

A turn here is what the SDK calls an activation: it hands over what happened, lets the code run
until nothing is ready, and takes the commands. The SDK's own event loop runs the code; `_Instance`
makes it as deterministic as ours is (tasks and futures whose hash is a number) and lets runs go
from memory without running their code, as `replay.loop` does.

When a run comes to rest, what it waits for stands in its memo, for those who look from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, ContextVar
from typing import Any, TypeVarTuple, Unpack
from weakref import WeakSet

import temporalio.worker
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.bridge.proto.workflow_activation import RemoveFromCache, WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.common import Priority, RawValue
from temporalio.common import RetryPolicy as TemporalRetryPolicy
from temporalio.worker import (
    ExecuteActivityInput,
    HandleSignalInput,
    StartActivityInput,
    UnsandboxedWorkflowRunner,
    WorkflowInstance,
    WorkflowInstanceDetails,
)
from temporalio.worker._workflow import _InterruptDeadlockError
from temporalio.worker._workflow_instance import (
    _TimerHandle,
    _WorkflowBeingEvictedError,
    _WorkflowInstanceImpl,
)

from belugawf.authoring.context import (
    ActivityRequest,
    SignalWait,
    WorkflowContext,
    WorkflowInfo,
)
from belugawf.authoring.failures import describe_failure
from belugawf.authoring.signals import BufferedSignal, SignalBuffer
from belugawf.host import forbidding
from belugawf.model import codec
from belugawf.model.durations import duration_ns, format_instant
from belugawf.model.errors import (
    NondeterminismError,
    PayloadTypeError,
    QueryNotFoundError,
    RunEvicted,
    TurnError,
    WorkflowLoadError,
    WorkflowNotFoundError,
)
from belugawf.model.policy import ActivityOptions
from belugawf.replay.loop import (
    MAX_REFUSALS,
    CountedFuture,
    CountedTask,
    NumberingLoop,
    kept_generators,
    unwind,
    user_location,
)
from belugawf.replay.replayer import InputMismatchError
from belugawf.temporal.environment import Environment, eviction_problem, problem_of
from belugawf.temporal.matching import Matcher, asked_for
from belugawf.temporal.payloads import (
    PROGRESS_MEMO,
    WAITS_MEMO,
    RecordedFailure,
    activity_error,
    header,
    one,
    raw,
    read_header,
    sent_at,
    split,
    to_text,
)
from belugawf.temporal.scheduling import import_path, limits_on_server, options_header

_Ts = TypeVarTuple("_Ts")

logger = logging.getLogger("belugawf.temporal")

# What the SDK's dynamic handlers are not handed themselves.
headers_of_message: ContextVar[Any] = ContextVar("belugawf_headers")


class UnknownActivityError(TurnError):
    """The code names an activity that this worker does not have."""

    code = "activity_not_found"


class MissingWorkflowError(TurnError):
    """The run's workflow is not in this worker's modules, or does not import."""

    code = "workflow_load"
    exit_code = 14


# What is thrown into code that is not to run on.
_UNWINDING = (RunEvicted, GeneratorExit, _WorkflowBeingEvictedError, _InterruptDeadlockError)


class TemporalRuntime:
    """One run in memory. Implements `Runtime` for its context."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._environment = instance.environment
        self.payload_limit = self._environment.options.payload_limit
        info = workflow.info()
        deadline = None
        if info.execution_timeout is not None:
            deadline = info.workflow_start_time + info.execution_timeout
        self.info = WorkflowInfo(
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            workflow=info.workflow_type,
            started_at=info.start_time,
            deadline=deadline,
            parent=None if info.parent is None else info.parent.run_id,
        )
        self._signals = SignalBuffer()
        self._keys: set[str] = set()
        self._queries: dict[str, Callable[..., Any]] = {}
        self._handles: dict[asyncio.Future[str], workflow.ActivityHandle[Any]] = {}
        self._activities = 0
        self._ids: set[str] = set()
        self._tokens = 0
        self._waits: dict[int, dict[str, Any]] = {}
        self._published: list[dict[str, Any]] = []
        self.wait_location: str | None = None
        self._progress: str | float | None = None
        self._logs: list[logging.LogRecord] = []

    # -- the run's life --------------------------------------------------------------------------

    async def run(self, text: str | None) -> RawValue:
        """Run the workflow's code; its exceptions fail the run, ours only the turn."""
        try:
            definition = self._environment.catalog.workflow(self.info.workflow)
        except (WorkflowNotFoundError, WorkflowLoadError) as error:
            message = f"run {self.info.workflow_id!r} cannot go on: {error.message}"
            raise MissingWorkflowError(message, hint=error.hint) from None
        try:
            arguments = definition.arguments(text)
        except Exception as error:
            raise InputMismatchError(
                f"the input does not fit workflow {self.info.workflow!r}: {error}",
                hint="put the parameters back as they were when the run started",
            ) from None
        context = WorkflowContext(self, self._signals, self._queries)
        try:
            result = await definition.function(context, **arguments)
            return raw(codec.encode(result, what="result", limit=self.payload_limit))
        except (TurnError, workflow.NondeterminismError):
            raise
        except asyncio.CancelledError:
            self._instance.cancelled()
            raise
        except _UNWINDING:
            raise
        except BaseException as error:
            # Whatever leaves the code fails the run; even what would end a process.
            raise RecordedFailure(describe_failure(error)) from None

    def receive(self, name: str, payloads: Sequence[Payload], data: dict[str, Any]) -> None:
        """A signal arrived; `data` is what its sender wrote beside it, if it was one of ours."""
        key = data.get("key")
        if key is not None and key in self._keys:
            return
        if key is not None:
            self._keys.add(key)
        try:
            text = one(payloads) or "null"
        except PayloadTypeError as error:
            # Not ours to read; the wait tells by its type, and the run goes on.
            text = codec.encode({"unreadable": error.found})
        moment = sent_at(data)
        self._signals.deliver(
            BufferedSignal(name, text, self.now() if moment is None else moment, data.get("sender"))
        )
        if not self.is_replaying():
            self.tell("on_signal", signal=name)

    def query(self, name: str, text: str | None) -> RawValue:
        """The answer of the code's query. Raises `QueryNotFoundError`."""
        function = self._queries.get(name)
        if function is None:
            names = ", ".join(sorted(self._queries)) or "none of its own"
            # Only the message comes back to who asks.
            raise QueryNotFoundError(
                f"workflow {self.info.workflow!r} has no query {name!r}; "
                f"it has status, result, waiting, and {names}"
            )
        args = [] if text is None else codec.decode(text, list[Any], what="arguments")
        return raw(codec.encode(function(*args), what=f"query {name}", limit=self.payload_limit))

    def came_to_rest(self) -> dict[str, Any]:
        """A turn was taken: emit its log lines; returns what the memo is to say newly."""
        for record in self._logs:
            target = logging.getLogger(record.name)
            try:
                if target.isEnabledFor(record.levelno):
                    target.handle(record)
            except Exception:
                logger.exception("a log handler failed")
        self._logs.clear()
        news: dict[str, Any] = {}
        waits = list(self._waits.values())
        if waits != self._published:
            self._published = waits
            news[WAITS_MEMO] = waits or None
        if self._progress is not None:
            news[PROGRESS_MEMO], self._progress = self._progress, None
        return news

    def tell(self, hook: str, **details: Any) -> None:
        """Tell the hooks of this worker."""
        info = self.info
        about = {
            "workflow_id": info.workflow_id,
            "run_id": info.run_id,
            "workflow": info.workflow,
        }
        self._environment.tell(hook, {**about, **details})

    # -- Runtime: what the context calls ---------------------------------------------------------

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked this run to stop."""
        return workflow.cancellation_reason() is not None

    def schedule_activity(self, request: ActivityRequest) -> asyncio.Future[str]:
        self._instance.check()
        options = request.mark.options(self._environment.options.defaults)
        name = request.mark.name
        self._know(name, request.function)
        result: asyncio.Future[str] = self._instance.create_future()
        if self._instance.evicting:
            return result
        self._instance.location = request.location
        max_crashes = self._environment.options.max_crashes
        said = {
            **options_header(options, max_crashes),
            "id": request.activity_id,
            "function": None if request.function is None else import_path(request.function),
        }
        handle = self._instance.start_activity(
            name, request.arguments, self._unique(request.activity_id), options, said
        )
        self._handles[result] = handle

        def ended(task: asyncio.Task[Any]) -> None:
            self._handles.pop(result, None)
            error = None if task.cancelled() else task.exception()
            if result.done():
                return
            if task.cancelled():
                result.cancel()
            elif error is None:
                result.set_result(to_text(task.result().payload))
            else:
                result.set_exception(activity_error(error, name, options))

        handle.add_done_callback(ended)
        return result

    def _unique(self, wished: str | None) -> str:
        """An id that the run has not used yet: the server refuses one that is open already."""
        self._activities += 1
        chosen, more = wished or str(self._activities), 1
        while chosen in self._ids:
            more += 1
            chosen = f"{wished or self._activities}#{more}"
        self._ids.add(chosen)
        return chosen

    def _know(self, name: str, function: Callable[..., Any] | None) -> None:
        if function is not None:
            self._environment.catalog.check_activity(name)
            self._environment.functions[name] = function
        elif self._environment.activity(name) is None and not self.is_replaying():
            raise self._instance.refuse(
                UnknownActivityError(
                    f"workflow {self.info.workflow!r} asks for activity {name!r}, which no module "
                    "defines",
                    hint="define it with @activity, or pass the function instead of its name",
                )
            )

    def cancel_activity(self, result: asyncio.Future[str]) -> None:
        self._instance.check()
        handle = self._handles.get(result)
        if handle is not None:
            handle.cancel()

    def begin_wait(self, wait: SignalWait) -> int:
        self._instance.check()
        self._tokens += 1
        now = self.now()
        until = None if wait.timeout is None else format_instant(now + duration_ns(wait.timeout))
        self.wait_location = wait.location
        self._waits[self._tokens] = {
            "seq": self._tokens,
            "signal": wait.name,
            "since": format_instant(now),
            "until": until,
            "prompt": wait.prompt,
            "expected": wait.expected,
            "schema": wait.schema,
        }
        return self._tokens

    def end_wait(self, token: int, outcome: str) -> None:
        self._instance.check()
        self._waits.pop(token, None)

    def wait_condition(self, predicate: Callable[[], bool]) -> asyncio.Future[None]:
        self._instance.check()
        future: asyncio.Future[None] = self._instance.create_future()

        def over() -> bool:
            if future.done():
                return True
            try:
                if not predicate():
                    return False
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(None)
            return True

        if not self._instance.evicting:
            self._instance.create_task(workflow.wait_condition(over))
        return future

    def new_future(self) -> asyncio.Future[Any]:
        return self._instance.create_future()

    def now(self) -> int:
        self._instance.check()
        return workflow.time_ns() // 1000 * 1000

    def random(self, purpose: str) -> random.Random:
        return workflow.random()

    def is_replaying(self) -> bool:
        return workflow.unsafe.is_replaying()

    def emit_log(self, record: logging.LogRecord) -> None:
        if not self.is_replaying() and not self._instance.evicting:
            self._logs.append(record)

    def publish_progress(self, progress: str | float) -> None:
        self._instance.check()
        self._progress = progress


@workflow.defn(dynamic=True)
class DurableRun:
    """Every workflow of a worker, whatever its name."""

    def __init__(self) -> None:
        instance = asyncio.get_running_loop()
        assert isinstance(instance, Instance)
        self.runtime = TemporalRuntime(instance)

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> RawValue:
        """Run the code of the workflow that has the run's name."""
        return await self.runtime.run(one([arg.payload for arg in args]))

    @workflow.signal(dynamic=True)
    def receive(self, name: str, args: Sequence[RawValue]) -> None:
        """Buffer a signal of any name."""
        data = read_header(headers_of_message.get())
        self.runtime.receive(name, [arg.payload for arg in args], data)

    @workflow.query(dynamic=True)
    def ask(self, name: str, args: Sequence[RawValue]) -> RawValue:
        """Answer a query of the workflow's own."""
        return self.runtime.query(name, one([arg.payload for arg in args]))


class _Callback(asyncio.Handle):
    """A task that raises SystemExit keeps it as its exception, and ends no worker."""

    def _run(self) -> None:
        with contextlib.suppress(SystemExit, KeyboardInterrupt):
            super()._run()


# Reasons for letting a run go that say nothing of its code.
_HARMLESS = (
    RemoveFromCache.EvictionReason.CACHE_FULL,
    RemoveFromCache.EvictionReason.CACHE_MISS,
    RemoveFromCache.EvictionReason.LANG_REQUESTED,
    RemoveFromCache.EvictionReason.TASK_NOT_FOUND,
    RemoveFromCache.EvictionReason.UNHANDLED_COMMAND,
    RemoveFromCache.EvictionReason.WORKFLOW_EXECUTION_ENDING,
)


class Instance(_WorkflowInstanceImpl, NumberingLoop):
    """The SDK's run in memory and event loop in one, with our rules for both."""

    # Where the code asks for the next command, if that is known better than by its stack.
    location: str | None = None

    def __init__(self, details: WorkflowInstanceDetails, environment: Environment) -> None:
        self.environment = environment
        self._in_order: dict[asyncio.Task[Any], None] = {}
        self._generators: list[Any] = []
        self._matcher: Matcher | None = None
        self._refusals = 0
        # Where the code asks for each command of this turn, while it is compared.
        self.locations: list[str | None] = []
        super().__init__(details)

    # -- a turn ----------------------------------------------------------------------------------

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        """Take a turn."""
        run_id = self._info.run_id
        self.locations.clear()
        created = self._created
        if act.is_replaying and any(job.HasField("initialize_workflow") for job in act.jobs):
            self._matcher = self._new_matcher()
        forbidding.begin()
        try:
            with kept_generators(self._generators):
                completion = super().activate(act)
        finally:
            forbidding.end()
        only_asked = all(job.HasField("query_workflow") for job in act.jobs)
        if only_asked:
            # A replay has no queries: what they create must not shift what it numbers.
            self._created = created
        if self._deleting or only_asked:
            return completion
        self.environment.active(self._info.workflow_id, run_id)
        run = self._object
        if isinstance(run, DurableRun) and completion.HasField("successful"):
            self._publish(run.runtime, act, completion)
            completion = self._compared(act, completion)
        problem = None
        if completion.HasField("failed"):
            problem = problem_of(completion.failed.failure, new=True)
        self.environment.note_problem(run_id, problem)
        return completion

    # -- comparing -------------------------------------------------------------------------------

    def _new_matcher(self) -> Matcher | None:
        """What the replay is compared with; the SDK compares alone where it cannot be had soon."""
        history = self.environment.history(self._info.workflow_id, self._info.run_id)
        if history is None:
            return None
        known = self.environment.catalog.workflows.get(self._info.workflow_type)
        return Matcher(history, "" if known is None else known.location)

    def _compared(
        self, act: WorkflowActivation, completion: WorkflowActivationCompletion
    ) -> WorkflowActivationCompletion:
        """The completion; one that fails the turn where the code differs from the history."""
        matcher = self._matcher
        if matcher is None or not matcher.covers(act.history_length):
            self._matcher = None
            return completion
        try:
            matcher.check(
                act.history_length, asked_for(completion.successful.commands, self.locations)
            )
        except NondeterminismError as error:
            refused = WorkflowActivationCompletion()
            self._workflow_context_failure_converter.to_failure(
                error, self._workflow_context_payload_converter, refused.failed.failure
            )
            refused.failed.force_cause = (
                WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
            )
            return refused
        return completion

    def _add_command(self) -> WorkflowCommand:
        command = super()._add_command()
        if self._matcher is not None:
            self.locations.append(self.location or user_location(2))
            self.location = None
        return command

    def _publish(
        self,
        runtime: TemporalRuntime,
        act: WorkflowActivation,
        completion: WorkflowActivationCompletion,
    ) -> None:
        news = runtime.came_to_rest()
        commands = completion.successful.commands
        ends = {str(command.WhichOneof("variant")) for command in commands} & _ENDS.keys()
        if news and not ends:
            self.location = runtime.wait_location
            self.workflow_upsert_memo(news)
        if act.is_replaying:
            return
        if any(job.HasField("initialize_workflow") for job in act.jobs):
            runtime.tell("on_workflow_start")
        for end in ends:
            runtime.tell(_ENDS[end])

    def refuse(self, error: TurnError) -> TurnError:
        """This turn cannot be taken, even if the code catches the error."""
        self._current_activation_error = error
        return error

    def cancelled(self) -> None:
        """CancelledError left the workflow: it ends as cancelled, whoever threw it."""
        if self._cancel_reason is None:
            self._cancel_reason = ""

    def start_activity(
        self,
        name: str,
        arguments: str,
        activity_id: str,
        options: ActivityOptions,
        said: Mapping[str, Any],
    ) -> workflow.ActivityHandle[Any]:
        """Schedule it on the server; what is `said` travels in a header."""
        self._assert_not_read_only("start activity")
        limits = limits_on_server(options)
        policy = options.retry
        return self._outbound.start_activity(
            StartActivityInput(
                activity=name,
                args=split(arguments),
                activity_id=activity_id,
                task_queue=None,
                schedule_to_close_timeout=limits.schedule_to_close,
                schedule_to_start_timeout=None,
                start_to_close_timeout=limits.start_to_close,
                heartbeat_timeout=limits.heartbeat,
                retry_policy=TemporalRetryPolicy(
                    initial_interval=limits.initial_interval,
                    backoff_coefficient=policy.backoff_coefficient,
                    maximum_interval=max(policy.max_delay, limits.initial_interval),
                    maximum_attempts=limits.attempts,
                    non_retryable_error_types=policy.non_retryable or None,
                ),
                cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
                headers=header(said),
                disable_eager_execution=self._disable_eager_activity_execution,
                versioning_intent=None,
                summary=None,
                priority=Priority.default,
                arg_types=None,
                ret_type=RawValue,
            )
        )

    # -- letting go ------------------------------------------------------------------------------

    @property
    def evicting(self) -> bool:  # type: ignore[override]
        """Whether the run is being let go from memory."""
        return self._deleting

    def check(self) -> None:
        """Raise `RunEvicted` once the run is let go; not for ever, as in `replay.loop`."""
        if self._deleting and self._refusals < MAX_REFUSALS:
            self._refusals += 1
            raise RunEvicted

    def _apply_remove_from_cache(self, job: RemoveFromCache) -> None:
        """Unwind the code as `replay.loop` does: the SDK would cancel it, and run its cleanup."""
        problem = self.environment.problems.get(self._info.run_id)
        if problem is None and job.reason not in _HARMLESS:
            problem = eviction_problem(job.message, new=True)
            self.environment.note_problem(self._info.run_id, problem)
            self.environment.active(self._info.workflow_id, self._info.run_id)
        self.let_go()

    def let_go(self) -> None:
        """Unwind the code; nothing that it does is heard."""
        if self._deleting:
            return
        self._deleting = True
        self._is_replaying = True
        asyncio._set_running_loop(self)
        try:
            unwind(self._in_order, self._generators)
        finally:
            asyncio._set_running_loop(None)
        self._in_order.clear()
        self._tasks.clear()
        self._generators.clear()
        self._ready.clear()

    # -- what asyncio calls ----------------------------------------------------------------------

    def _register_task(self, task: asyncio.Task[Any], *, name: str | None) -> None:
        super()._register_task(task, name=name)
        self._in_order[task] = None
        task.add_done_callback(lambda task: self._in_order.pop(task, None))

    def create_future(self) -> asyncio.Future[Any]:
        return CountedFuture(loop=self)

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
        if self._deleting:
            # It swallowed every refusal: its next await stands still.
            return asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        if delay <= 0:
            due = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
            self._ready.append(due)
            return due
        rounded = max(round(delay, 3), 0.001)
        return super().call_later(rounded, callback, *args, context=context)

    def is_closed(self) -> bool:
        return False

    async def shutdown_asyncgens(self) -> None:
        """Generators live as long as their run."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, _TimerHandle) and not self._deleting:
            super()._timer_handle_cancelled(handle)


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
        instance = Instance(det, self._environment)
        self.instances.add(instance)
        return instance


class Headers(temporalio.worker.Interceptor):
    """Hands the headers of signals and activities to our dynamic handlers."""

    def workflow_interceptor_class(
        self, input: temporalio.worker.WorkflowInterceptorClassInput
    ) -> type[temporalio.worker.WorkflowInboundInterceptor]:
        return _SignalHeaders

    def intercept_activity(
        self, next: temporalio.worker.ActivityInboundInterceptor
    ) -> temporalio.worker.ActivityInboundInterceptor:
        return _ActivityHeaders(next)


class _SignalHeaders(temporalio.worker.WorkflowInboundInterceptor):
    async def handle_signal(self, input: HandleSignalInput) -> None:
        headers_of_message.set(input.headers)
        await super().handle_signal(input)


class _ActivityHeaders(temporalio.worker.ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        headers_of_message.set(input.headers)
        return await super().execute_activity(input)
