"""The server as the executor asks it: runs by name, their histories, and messages to them."""

from __future__ import annotations

import difflib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Header, WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    SignalWorkflowExecutionRequest,
)
from temporalio.client import (
    Client,
    SignalWorkflowInput,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowHistoryEventFilterType,
    WorkflowQueryFailedError,
)
from temporalio.common import RawValue, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from belugawf.config import TemporalSettings
from belugawf.executor import Owner, RunId, TypedRun
from belugawf.executor.info import NewRun
from belugawf.model import codec
from belugawf.model.errors import (
    AmbiguousRunError,
    RunEndedError,
    RunNotFoundError,
)
from belugawf.model.shell import command_line
from belugawf.model.values import frozen
from belugawf.temporal.connection import (
    CALL_TIMEOUT,
    connect,
    owner_of,
    query_error,
    server_error,
)
from belugawf.temporal.encoding import Answer, decoded
from belugawf.temporal.headers import header
from belugawf.temporal.histories import instant
from belugawf.temporal.labels import SearchableLabels
from belugawf.temporal.passing import Passing, beside_of_start, delivery, set_to
from belugawf.temporal.payloads import LABELS_MEMO, raw, to_text

_SHORTEST_PREFIX = 4
_KNOWN = 10_000
# Our word for each status of the server's, and its own, as its queries take it.
STATUSES: dict[int, str] = {
    WorkflowExecutionStatus.RUNNING: "running",
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "cancelled",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.CONTINUED_AS_NEW: "continued_as_new",
    WorkflowExecutionStatus.TIMED_OUT: "timed_out",
}
QUERY_WORDS = {
    ours: WorkflowExecutionStatus(theirs).name.title().replace("_", "")
    for theirs, ours in STATUSES.items()
}
# Recent ids that a mistyped one is compared with.
_NEAR = 200
# The server answers a question for what comes next after some twenty seconds, if nothing comes.
_LONG_POLL = timedelta(seconds=30)
# A worker that polls is seen at least this often.
_POLLS_EVERY_S = 70
# What the server says of a run that it does not have, and of one that takes no message.
_NOT_THERE = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)
_NOT_TAKEN = (RPCStatusCode.NOT_FOUND, RPCStatusCode.ALREADY_EXISTS)


@frozen()
class RunName:
    """One run of one workflow id; `told` is what the server has said of it just now, if it has."""

    workflow_id: str
    run_id: str
    told: DescribeWorkflowExecutionResponse | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, info: WorkflowExecutionInfo) -> RunName:
        """The run that the server tells of."""
        return cls(info.execution.workflow_id, info.execution.run_id)

    @property
    def execution(self) -> WorkflowExecution:
        """As the server takes it."""
        return WorkflowExecution(workflow_id=self.workflow_id, run_id=self.run_id)


class Server:
    """Calls to the server. All raise `UnavailableError` if it does not answer."""

    def __init__(self, client: Client, settings: TemporalSettings, passing: Passing) -> None:
        self.client = client
        self.settings = settings
        self.passing = passing
        self._service = client.workflow_service
        self._ahead_ns: int | None = None
        # Runs that were met before: a new one is not visible to queries at once.
        self._known: dict[str, RunName] = {}
        self._labels = SearchableLabels(client)

    @classmethod
    async def connected(cls, settings: TemporalSettings, passing: Passing) -> Server:
        """Raises `UnavailableError` within seconds if nobody answers."""
        return cls(await connect(settings, passing), settings, passing)

    @property
    def _namespace(self) -> str:
        return self.settings.namespace

    @contextmanager
    def _errors(self, *known: RPCStatusCode) -> Iterator[None]:
        """The server's errors as ours; one of a `known` status is for the caller to understand."""
        try:
            yield
        except RPCError as error:
            if error.status in known:
                raise
            raise server_error(error, self.settings) from error

    async def _decoded(self, message: Answer) -> Answer:
        return await decoded(message, self.client.data_converter)

    def handle(self, run: RunName) -> WorkflowHandle[Any, Any]:
        """The SDK's own."""
        return self.client.get_workflow_handle(run.workflow_id, run_id=run.run_id)

    # -- finding runs ----------------------------------------------------------------------------

    async def resolve(self, text: str) -> RunName:
        """The run that a text means: see `DurableExecutor`."""
        if text == "@latest":
            for info in await self.newest(limit=1):
                return self._remember(RunName.of(info))
            raise RunNotFoundError("there is no run yet", hint="start one with: belugawf run")
        typed = isinstance(text, TypedRun)
        found = {} if isinstance(text, RunId) else await self._by_workflow_id(text)
        if not found or typed:
            found |= await self._by_run_id(text)
        if not found and typed and len(text) >= _SHORTEST_PREFIX:
            prefix = quoted(text)
            found = await self._matching(
                f"WorkflowId STARTS_WITH {prefix} OR RunId STARTS_WITH {prefix}"
            )
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise AmbiguousRunError(
                f"{text!r} may be {len(found)} runs: {', '.join(found)}",
                list(found),
                hint="type more of its name, or all of its run id",
            )
        recent = [info.execution.workflow_id async for info in self.list(limit=_NEAR)]
        raise _not_found(text, recent)

    async def _by_run_id(self, text: str) -> dict[str, RunName]:
        known = self._known.get(text)
        runs = [known] if known else (await self._matching(f"RunId = {quoted(text)}")).values()
        return {run.workflow_id: await self._taken_up(run) for run in runs}

    async def _taken_up(self, run: RunName) -> RunName:
        """The run that it goes on as, if it was reset."""
        while reset := (await self.describe(run)).workflow_extended_info.reset_run_id:
            run = self._remember(RunName(run.workflow_id, reset))
        return run

    async def _by_workflow_id(self, text: str) -> dict[str, RunName]:
        try:
            described = await self._describe(WorkflowExecution(workflow_id=text))
        except RPCError as error:
            if "amespace" in error.message:
                raise server_error(error, self.settings) from error
            return {}
        run = self._remember(RunName.of(described.workflow_execution_info))
        return {text: replace(run, told=described)}

    async def _matching(self, query: str) -> dict[str, RunName]:
        """The latest run of each workflow id that the query finds."""
        found: dict[str, RunName] = {}
        async for info in self.list(query, limit=20, ours=False):
            found.setdefault(info.execution.workflow_id, self._remember(RunName.of(info)))
        return found

    async def newest(
        self,
        query: str = "",
        *,
        limit: int | None,
        wanted: Callable[[WorkflowExecutionInfo], bool] = lambda info: True,
    ) -> Sequence[WorkflowExecutionInfo]:
        """The runs of our task queue that were started last, newest first.

        The server lists ended runs by their end. A run cannot have started after it ended: so once
        `limit` runs are known that started after the end of the next one, no other is newer.
        """
        both = f"({query}) AND " if query else ""
        found: list[WorkflowExecutionInfo] = []
        async for info in self.list(f"{both}ExecutionStatus = 'Running'"):
            if wanted(info):
                found.append(info)
            if limit is not None and len(found) >= limit:
                break
        async for info in self.list(f"{both}ExecutionStatus != 'Running'"):
            if limit is not None and len(found) >= limit:
                found = sorted(found, key=_started, reverse=True)[:limit]
                if _started(found[-1]) >= info.close_time.ToNanoseconds():
                    break
            if wanted(info):
                found.append(info)
        return sorted(found, key=_started, reverse=True)[:limit]

    async def list(
        self, query: str = "", *, limit: int | None = None, ours: bool = True
    ) -> AsyncIterator[WorkflowExecutionInfo]:
        """Runs, open ones first, then by their end; `ours` are those of our task queue."""
        if ours:
            queue = f"TaskQueue = {quoted(self.settings.task_queue)}"
            query = f"{queue} AND ({query})" if query else queue
        with self._errors():
            async for run in self.client.list_workflows(
                query, limit=limit, rpc_timeout=CALL_TIMEOUT
            ):
                yield await self._decoded(run.raw_info)

    async def counts(self) -> dict[str, int]:
        """How many runs of our task queue have each status, in our words."""
        query = f"TaskQueue = {quoted(self.settings.task_queue)} GROUP BY ExecutionStatus"
        with self._errors():
            counted = await self.client.count_workflows(query, rpc_timeout=CALL_TIMEOUT)
        words = {theirs: ours for ours, theirs in QUERY_WORDS.items()}
        found = {str(group.group_values[0]): group.count for group in counted.groups}
        return {words.get(word, word): count for word, count in found.items() if word}

    # -- one run ---------------------------------------------------------------------------------

    async def _describe(self, execution: WorkflowExecution) -> DescribeWorkflowExecutionResponse:
        request = DescribeWorkflowExecutionRequest(namespace=self._namespace, execution=execution)
        with self._errors(*_NOT_THERE):
            return await self._decoded(
                await self._service.describe_workflow_execution(
                    request, retry=True, timeout=CALL_TIMEOUT
                )
            )

    async def describe(self, run: RunName) -> DescribeWorkflowExecutionResponse:
        """The run as the server sees it now."""
        try:
            return await self._describe(run.execution)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise RunNotFoundError(
                    f"the server no longer has run {run.workflow_id!r}",
                    hint="its retention has passed: belugawf list",
                ) from None
            raise server_error(error, self.settings) from error

    async def next_events(self, run: RunName, token: bytes) -> tuple[Sequence[HistoryEvent], bytes]:
        """What comes after what was read with that token (at first none), once there is any.

        Empty if there is nothing for some twenty seconds.
        """
        pages = self.handle(run).fetch_history_events(
            next_page_token=token or None, wait_new_event=True, rpc_timeout=_LONG_POLL
        )
        with self._errors():
            await pages.fetch_next_page()
        events = [await self._decoded(event) for event in pages.current_page or ()]
        return events, pages.next_page_token or b""

    async def closed(self, run: RunName) -> None:
        """Until it has ended."""
        ends = self.handle(run).fetch_history_events(
            wait_new_event=True,
            event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT,
            skip_archival=True,
            rpc_timeout=_LONG_POLL,
        )
        with self._errors():
            async for _ in ends:
                return

    async def fetch_history(self, run: RunName) -> Sequence[HistoryEvent]:
        """The run's events as they are now."""
        events = self.handle(run).fetch_history_events(rpc_timeout=CALL_TIMEOUT)
        with self._errors():
            return [await self._decoded(event) async for event in events]

    # -- messages --------------------------------------------------------------------------------

    async def start(self, new: NewRun, *, replace: bool) -> RunName | None:
        """Start a run; `None` if one with that id is stored and is not to be replaced.

        Sending the same request again, as the SDK does after a lost answer, starts nothing more.
        """
        memo = {LABELS_MEMO: raw(codec.encode(new.labels))} if new.labels else None
        beside = header({"python": new.python, "belugawf": new.belugawf})
        lasts = None if new.timeout_ns is None else timedelta(microseconds=new.timeout_ns / 1_000)
        reuse, conflict = WorkflowIDReusePolicy, WorkflowIDConflictPolicy
        try:
            with self._errors(), set_to(beside_of_start, beside):
                handle = await self.client.start_workflow(
                    new.workflow,
                    args=[] if new.input is None else [raw(new.input)],
                    id=new.workflow_id,
                    task_queue=self.settings.task_queue,
                    id_reuse_policy=reuse.ALLOW_DUPLICATE if replace else reuse.REJECT_DUPLICATE,
                    id_conflict_policy=conflict.TERMINATE_EXISTING if replace else conflict.FAIL,
                    execution_timeout=lasts,
                    memo=memo,
                    search_attributes=await self._labels.attributes(new.labels),
                    rpc_timeout=CALL_TIMEOUT,
                )
        except WorkflowAlreadyStartedError:
            return None
        assert handle.result_run_id is not None
        return self._remember(RunName(new.workflow_id, handle.result_run_id))

    def _remember(self, run: RunName) -> RunName:
        if len(self._known) > _KNOWN:
            self._known.clear()
        self._known[run.run_id] = run
        return run

    async def signal(
        self,
        run: RunName,
        name: str,
        payload: str,
        beside: Mapping[str, Any],
        request_id: str | None,
    ) -> None:
        """Deliver a signal. Raises `RunEndedError`."""

        async def deliver(input: SignalWorkflowInput) -> None:
            request = SignalWorkflowExecutionRequest(
                namespace=self._namespace,
                workflow_execution=run.execution,
                signal_name=input.signal,
                input=await self.client.data_converter.encode_wrapper(input.args),
                identity=self.client.identity,
                request_id=request_id or "",
                header=Header(fields={**input.headers, **header(beside)}),
            )
            await self._service.signal_workflow_execution(request, retry=True, timeout=CALL_TIMEOUT)

        with self._ended(run), set_to(delivery, deliver):
            await self.handle(run).signal(name, raw(payload))

    async def cancel(self, run: RunName, reason: str | None) -> None:
        """Ask it to stop; asking again is no error. Raises `RunEndedError`."""
        with self._ended(run):
            await self.handle(run).cancel(reason=reason or "", rpc_timeout=CALL_TIMEOUT)

    async def terminate(self, run: RunName, reason: str | None) -> None:
        """End it at once. Raises `RunEndedError`."""
        with self._ended(run):
            await self.handle(run).terminate(reason=reason, rpc_timeout=CALL_TIMEOUT)

    async def query(self, run: RunName, name: str, arguments: str) -> str:
        """The answer of a worker. Raises `UnreachableError` if none answers."""
        try:
            with self._errors(RPCStatusCode.INVALID_ARGUMENT):
                answer = await self.handle(run).query(name, raw(arguments), result_type=RawValue)
        except (WorkflowQueryFailedError, RPCError) as error:
            raise query_error(error) from None
        return to_text(answer.payload)

    @contextmanager
    def _ended(self, run: RunName) -> Iterator[None]:
        try:
            with self._errors(*_NOT_TAKEN):
                yield
        except RPCError as error:
            if error.status is RPCStatusCode.ALREADY_EXISTS:
                return  # it was asked to stop before
            if "amespace" in error.message:
                raise server_error(error, self.settings) from error
            raise ended(run) from None

    # -- workers ---------------------------------------------------------------------------------

    def now(self) -> int:
        """The server's time in nanoseconds, as far as it is known."""
        return time.time_ns() + (self._ahead_ns or 0)

    async def compare_clocks(self) -> bool:
        """Have `now` know how far the server's clock is ahead, by when it saw this process poll.

        Only right after that has begun: a poll may take a minute. False: it did not yet.
        """
        if self._ahead_ns is None:
            described = await self._described_queue(TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
            for poller in described.pollers:
                if poller.identity == self.client.identity:
                    self._ahead_ns = poller.last_access_time.ToNanoseconds() - time.time_ns()
        return self._ahead_ns is not None

    async def workers(
        self,
        queue: str | None = None,
        kind: TaskQueueType.ValueType = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    ) -> Sequence[Owner]:
        """Who polled that task queue, by default ours for turns, within the last minute or so.

        That is a minute before the last one did: our own clock may be another.
        """
        described = await self._described_queue(kind, queue)
        seen = [(p.last_access_time.ToNanoseconds(), p) for p in described.pollers]
        latest = max((at for at, _ in seen), default=0)
        owners = [
            owner_of(poller.identity, instant(poller.last_access_time))
            for at, poller in seen
            if at >= latest - _POLLS_EVERY_S * 1e9
        ]
        return [owner for owner in owners if owner.alive]

    async def backlog(self, kind: TaskQueueType.ValueType, queue: str) -> tuple[int, float]:
        """How many tasks lie in that task queue, and for how long the first one, in seconds.

        The server looks every five seconds.
        """
        stats = (await self._described_queue(kind, queue)).stats
        age = stats.approximate_backlog_age.ToTimedelta()
        return stats.approximate_backlog_count, age.total_seconds()

    async def _described_queue(
        self, kind: TaskQueueType.ValueType, queue: str | None = None
    ) -> DescribeTaskQueueResponse:
        request = DescribeTaskQueueRequest(
            namespace=self._namespace,
            task_queue=TaskQueue(name=queue or self.settings.task_queue),
            task_queue_type=kind,
            report_stats=True,
        )
        with self._errors():
            return await self._service.describe_task_queue(
                request, retry=True, timeout=CALL_TIMEOUT
            )


def ended(run: RunName) -> RunEndedError:
    """A message to a run that has ended."""
    return RunEndedError(
        f"run {run.workflow_id!r} has ended and takes no more messages",
        hint=f"see how: {command_line('status', run.workflow_id)}",
    )


def _not_found(text: str, recent: Sequence[str]) -> RunNotFoundError:
    near = difflib.get_close_matches(text, recent, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see what there is: belugawf list"
    return RunNotFoundError(f"there is no run {text!r}", hint=hint)


def _started(info: WorkflowExecutionInfo) -> int:
    return info.start_time.ToNanoseconds()


def quoted(text: str) -> str:
    """A text in a query of the server's."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
