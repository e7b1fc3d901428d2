"""The `temporal` provider's executor: the callers' door to a Temporal server.

Entering connects and changes no run. Looking and sending need no worker here; the worker comes into
being when there is something to drive. Others may poll the same task queue at the same time.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import Context
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import WorkflowQueryFailedError
from temporalio.common import RawValue
from temporalio.service import RPCError, RPCStatusCode

from belugawf import __version__
from belugawf.authoring.context import BUILT_IN_QUERIES
from belugawf.authoring.loader import Catalog
from belugawf.checks import (
    TypedWait,
    check_payload,
    checked_id,
    checked_labels,
    condition,
    outcome_error,
)
from belugawf.config import TemporalSettings
from belugawf.executor import (
    ActivityState,
    Delivery,
    Hooks,
    IfExists,
    OpenWait,
    Owner,
    Problem,
    Pruned,
    RunId,
    RunInfo,
    Summary,
)
from belugawf.handle import RunHandle
from belugawf.host.border import interrupts, is_interrupt, mark_as_users
from belugawf.host.loops import hidden_task
from belugawf.model import codec
from belugawf.model import events as e
from belugawf.model.durations import Duration, duration_ns, format_instant, parse_duration
from belugawf.model.errors import (
    AlreadyExistsError,
    AmbiguousRunError,
    NotFinishedError,
    SignalNotAwaitedError,
    TurnError,
    UnavailableError,
    UsageError,
    WaitExpiredError,
)
from belugawf.model.history import python_version
from belugawf.model.messages import UNSET, Signal
from belugawf.model.shell import command_line
from belugawf.model.values import frozen
from belugawf.temporal.connection import query_error, server_error
from belugawf.temporal.environment import WorkerOptions
from belugawf.temporal.histories import translated as translated_history
from belugawf.temporal.looking import (
    goes_on,
    is_untaken,
    labels_of,
    memo_of,
    open_waits,
    run_info,
)
from belugawf.temporal.payloads import LABELS_MEMO, WAITS_MEMO, raw, to_text
from belugawf.temporal.server import QUERY_WORDS, RunName, Server, ended, quoted
from belugawf.views import activity_states

if TYPE_CHECKING:
    from belugawf.blocking import BlockingExecutor
    from belugawf.temporal.worker import TemporalWorker

DEFAULT_PATIENCE = 60.0
RESUME_PATIENCE = 5.0
# How often a run is looked at that is followed, in seconds.
_POLL_S = 0.1
_HANDED_OVER_S = 0.02
# How many runs and waits a summary names.
_SHOWN = 20
# What becomes visible late: how long a signal without a run is looked for, in seconds.
_VISIBLE_S = 2.0
# A `resume` without a name looks at so many of the open runs, newest first.
_LOOKED_AT = 1_000
# A `resume` without a name ends after this silence of the task queue, in seconds.
_SILENCE_S = 1.0
# How long a `resume` waits for a turn that was refused before, in seconds.
_REFUSED_S = 30.0
# Calls to the server at the same time.
_AT_ONCE = 16


@frozen()
class _Look:
    """A run as it was at one moment; `recorded` is the problem that its history tells of."""

    run: RunName
    info: RunInfo
    described: DescribeWorkflowExecutionResponse
    events: Sequence[e.Event]
    recorded: Problem | None


@frozen()
class _Wait:
    """An open wait as `check_payload` needs it."""

    schema: str | None
    expected: str | None


class TemporalExecutor:
    """`DurableExecutor` on a Temporal server; use as `async with`.

    `drives`: what it starts and signals is driven by a worker of its own. Without, that is left to
    others, and only `resume` and `work` start a worker. `own_process`: the process is the
    command line's, as for `LocalExecutor`.
    `context`: what runs and activities begin in a copy of; by default it is empty.
    """

    provider = "temporal"

    def __init__(
        self,
        settings: TemporalSettings,
        workflows: Path | Sequence[Callable[..., Any]] | None = None,
        *,
        options: WorkerOptions,
        hooks: Sequence[Hooks] = (),
        drives: bool = True,
        own_process: bool = False,
        context: Context | None = None,
    ) -> None:
        self._context = Context() if context is None else context
        self._leaving = ExitStack()
        self._own_process = own_process
        self.settings = settings
        self._workflows = workflows
        self._options = options
        self._hooks = hooks
        self._drives = drives and workflows is not None
        self._connected: Server | None = None
        self._worker: TemporalWorker | None = None
        self._interrupts = 0
        self._interrupted = asyncio.Event()

    def __repr__(self) -> str:
        return f"TemporalExecutor({self.settings.host!r}, {self.settings.task_queue!r})"

    async def __aenter__(self) -> TemporalExecutor:
        self._connected = await Server.connected(self.settings)
        return self

    async def __aexit__(self, *exc: object) -> None:
        worker = self._worker
        if worker is not None:
            await self._drain(worker, None)
            await worker.close(unwind=not self._own_process)
        self._leaving.close()
        self._worker = self._connected = None
        # The SDK's own threads are still busy with handing over the last answer. If the process
        # ends under them, Python kills it.
        await asyncio.sleep(_HANDED_OVER_S)

    def sync(self) -> BlockingExecutor:
        """This executor for scripts without asyncio; use as `with`."""
        from belugawf.blocking import BlockingExecutor

        return BlockingExecutor(self)

    @cached_property
    def catalog(self) -> Catalog:
        """The workflow modules; the first use imports them."""
        if isinstance(self._workflows, Path):
            # Runs and attempts begin in copies of the context in which their modules are imported.
            self._context.run(mark_as_users)
            with interrupts():
                return self._context.run(Catalog.from_folder, self._workflows, is_interrupt)
        return Catalog.from_functions(self._workflows or ())

    @property
    def _server(self) -> Server:
        if self._connected is None:
            raise UsageError(
                "the executor is not open", hint="use it as: async with new_executor(...)"
            )
        return self._connected

    # -- starting --------------------------------------------------------------------------------

    async def execute(
        self,
        workflow: Callable[..., Any] | str,
        *,
        id: str | None = None,
        input: Any = UNSET,
        timeout: Duration | None = None,
        if_exists: IfExists = "fail",
        labels: Mapping[str, str] | None = None,
        detach: bool = False,
    ) -> RunHandle:
        """See `DurableExecutor.execute`."""
        definition = self.catalog.definition(workflow)
        limit = definition.timeout if timeout is None else parse_duration(timeout)
        if if_exists not in ("fail", "skip", "replace"):
            raise UsageError(f"if_exists is {if_exists!r}", hint="use fail, skip or replace")
        generated = f"{definition.name}-{str(uuid.uuid4())[:8]}"
        workflow_id = checked_id(id) if id is not None else generated
        text = definition.encode_input(input, limit=self._options.payload_limit)
        said = checked_labels(labels or {})
        run = await self._server.start(
            definition.name,
            workflow_id,
            text,
            timeout=limit,
            replace=if_exists == "replace",
            memo={LABELS_MEMO: codec.encode(said)} if said else {},
            beside={"python": python_version(), "belugawf": __version__},
        )
        if run is None and if_exists == "skip":
            existing = await self._server.resolve(workflow_id)
            return RunHandle(self, existing.workflow_id, RunId(existing.run_id))
        if run is None:
            raise AlreadyExistsError(
                f"there is a run {workflow_id!r} already",
                hint="choose another id, or pass --if-exists skip or replace",
            )
        if self._drives and not detach:
            self._driving()
        return RunHandle(self, run.workflow_id, RunId(run.run_id))

    # -- driving ---------------------------------------------------------------------------------

    def _driving(self) -> TemporalWorker:
        if self._worker is None or self._worker.done:
            # Imported only by who drives.
            from belugawf.temporal.worker import TemporalWorker

            self._worker = TemporalWorker(
                self._server,
                self.catalog,
                self._options,
                self._hooks,
                self._context,
                own_process=self._own_process,
            )
            self._leaving.enter_context(interrupts())
        return self._worker

    async def work(self, *, concurrency: int | None = None, grace: Duration | None = None) -> None:
        """See `DurableExecutor.work`."""
        if concurrency is not None and self._worker is None:
            if concurrency < 1:
                raise UsageError(f"concurrency is {concurrency}", hint="1 or more")
            self._options = replace(self._options, concurrency=concurrency)
        worker = self._driving()
        while not self._interrupts:
            await self._pause(1.0)
            worker.raise_if_broken()
        await self._drain(worker, grace)

    async def resume(
        self,
        id: str | Sequence[str] | None = None,
        *,
        max_time: Duration | None = None,
        grace: Duration | None = None,
        workflow: str | None = None,
        patience: Duration = RESUME_PATIENCE,
        dry_run: bool = False,
    ) -> Sequence[RunInfo]:
        """See `DurableExecutor.resume`.

        A worker here takes what the task queue has, whichever run it belongs to: named runs only
        say how long it stays.
        """
        named = [id] if isinstance(id, str) else list(id or ())
        runs = [await self._server.resolve(text) for text in named]
        if not named:
            runs = list(await self._open_runs(workflow))
        before = {look.info.run_id: look for look in await self._look_at(runs)}
        moving = [look for look in before.values() if self._goes_on(look, patience, anew=True)]
        if named:
            moving = [look for look in before.values() if look.info.open]
        if dry_run:
            return [look.info for look in moving]
        if named and not moving:
            return []
        worker = self._driving()
        end = None if max_time is None else time.monotonic() + _seconds(max_time)
        await self._until_at_rest(worker, [look.run for look in moving], bool(named), patience, end)
        late = end is not None and time.monotonic() >= end
        if self._interrupts or late or not self._drives:
            await self._drain(worker, grace)
        shown = [look.run for look in moving] if named else self._touched(worker)
        looks = await self._look_at(shown)
        return [self._with_news(look.info, before.get(look.info.run_id)) for look in looks]

    async def _open_runs(self, workflow: str | None) -> Sequence[RunName]:
        query = "ExecutionStatus = 'Running'"
        if workflow is not None:
            query += f" AND WorkflowType = {quoted(workflow)}"
        return [_name(info) async for info in self._server.list(query, limit=_LOOKED_AT)]

    def _touched(self, worker: TemporalWorker) -> Sequence[RunName]:
        environment = worker.environment
        return [RunName(id, run_id) for run_id, id in list(environment.touched.items())]

    async def _until_at_rest(
        self,
        worker: TemporalWorker,
        runs: Sequence[RunName],
        named: bool,
        patience: Duration,
        end: float | None,
    ) -> None:
        """Until each of these runs rests, or time is up, or somebody interrupts."""
        left = list(runs)
        began = time.monotonic()
        while not self._interrupts and (end is None or time.monotonic() < end):
            worker.raise_if_broken()
            # A problem that was recorded before is no word on the code as it is here now. But the
            # server may take its time before it hands out a refused turn again.
            waits = time.monotonic() - began < _REFUSED_S
            touched = worker.environment.touched
            looks = await self._look_at(left)
            left = [
                look.run
                for look in looks
                if self._goes_on(look, patience, anew=waits and look.run.run_id not in touched)
            ]
            if not named:
                known = {run.run_id for run in left}
                others = await self._look_at(
                    [run for run in self._touched(worker) if run.run_id not in known]
                )
                left += [look.run for look in others if self._goes_on(look, patience)]
            silent = time.monotonic() - worker.environment.active_at > _SILENCE_S
            if not left and (named or (silent and not worker.in_flight)):
                return
            pause = 0.2 if end is None else min(0.2, max(end - time.monotonic(), 0.01))
            await self._pause(pause)

    def _goes_on(self, look: _Look, patience: Duration, *, anew: bool = False) -> bool:
        """Whether it will move; `anew`: with code that may have been mended since it could not."""
        info = replace(look.info, problem=None) if anew else look.info
        longest = duration_ns(parse_duration(patience))
        return goes_on(info, look.described, time.time_ns(), longest)

    def _with_news(self, info: RunInfo, before: _Look | None) -> RunInfo:
        """The run with its problem marked as new, where it had no such problem before."""
        if info.problem is None:
            return info
        known = None if before is None else before.recorded
        new = known is None or known.code != info.problem.code
        return replace(info, problem=replace(info.problem, new=new))

    async def _drain(self, worker: TemporalWorker, grace: Duration | None) -> None:
        """Let attempts in flight end; a second interrupt, or the end of `grace`, cuts them."""
        worker.stop()
        end = None if grace is None else time.monotonic() + _seconds(grace)
        while not await worker.drained(0.1):
            if self._interrupts > 1 or (end is not None and time.monotonic() >= end):
                worker.cut()

    def drives(self, run: str) -> bool:
        """See `DurableExecutor.drives`."""
        return self._worker is not None and not self._worker.done

    def interrupt(self) -> None:
        """See `DurableExecutor.interrupt`."""
        self._interrupts += 1
        self._interrupted.set()
        if self._worker is not None:
            self._worker.stop()
            self._worker.interrupt()
            if self._interrupts > 1:
                self._worker.cut()

    def in_flight(self) -> int:
        """How many attempts of activities are running in this process."""
        return 0 if self._worker is None else self._worker.in_flight

    async def _pause(self, longest_s: float) -> None:
        try:
            async with asyncio.timeout(longest_s):
                await self._interrupted.wait()
        except TimeoutError:
            pass

    # -- messages --------------------------------------------------------------------------------

    async def signal(
        self,
        run: str | None,
        signal: Signal | str,
        payload: Any = None,
        *,
        drive: bool = True,
    ) -> Delivery:
        """See `DurableExecutor.signal`."""
        message = Signal(signal, payload) if isinstance(signal, str) else signal
        if not message.name:
            raise UsageError("a signal needs a name", hint="name what the run waits for")
        name = await (self._awaiting(message.name) if run is None else self._server.resolve(run))
        text = codec.encode(message.payload, what="payload", limit=self._options.payload_limit)
        look = await self._look(name)
        if message.key is not None and self._knows_key(look, message.key):
            return Delivery(run=look.info, duplicate=True)
        if not look.info.open:
            raise ended(name)
        check_payload(message.name, text, _typed_waits(look.described, message.name))
        beside = {
            "sender": message.sender,
            "key": message.key,
            "sent_at": format_instant(time.time_ns()),
        }
        await self._server.signal(name, message.name, text, beside, message.key)
        driven_by = await self._move_on(drive)
        return Delivery(run=(await self._look(name)).info, driven_by=driven_by)

    def _knows_key(self, look: _Look, key: str) -> bool:
        return any(
            isinstance(event, e.SignalReceived) and event.key == key for event in look.events
        )

    async def _awaiting(self, name: str) -> RunName:
        """The one open run that waits for this signal; what it says is visible a little late."""
        deadline = time.monotonic() + _VISIBLE_S
        while True:
            waits = await self.waiting()
            runs = {w.run_id: RunName(w.workflow_id, w.run_id) for w in waits if w.signal == name}
            if len(runs) == 1:
                return next(iter(runs.values()))
            if runs:
                ids = list(dict.fromkeys(run.workflow_id for run in runs.values()))
                raise AmbiguousRunError(
                    f"{len(runs)} runs wait for signal {name!r}: {', '.join(ids)}",
                    ids,
                    hint=f"say which: {command_line('signal', name)} RUN",
                )
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_S)
        awaited = ", ".join(sorted({wait.signal for wait in waits}))
        hint = f"awaited are: {awaited}" if awaited else "no open run waits for a signal"
        raise SignalNotAwaitedError(f"no open run waits for signal {name!r}", hint=hint)

    async def cancel(self, run: str, reason: str | None = None, *, drive: bool = True) -> RunInfo:
        """See `DurableExecutor.cancel`."""
        name = await self._server.resolve(run)
        if not (await self._look(name)).info.open:
            raise ended(name)
        await self._server.cancel(name, reason)
        await self._move_on(drive)
        return (await self._look(name)).info

    async def terminate(self, run: str, reason: str | None = None) -> RunInfo:
        """See `DurableExecutor.terminate`."""
        name = await self._server.resolve(run)
        await self._server.terminate(name, reason)
        return (await self._look(name)).info

    async def _move_on(self, drive: bool) -> Owner | None:
        """Somebody takes the turn: we, or a worker; who that is, if not we."""
        if drive and self._drives:
            self._driving()
        if self._worker is not None and not self._worker.done:
            return None
        return next(iter(await self._server.workers()), None)

    # -- questions -------------------------------------------------------------------------------

    async def query(self, run: str, name: str, *args: Any) -> Any:
        """See `DurableExecutor.query`."""
        found = await self._server.resolve(run)
        if name in BUILT_IN_QUERIES:
            info = (await self._look(found)).info
            if name == "status":
                return info.status
            if name == "result":
                return info.result
            return [waiting.to_json() for waiting in info.waiting_for]
        if self._drives:
            self._driving()
        elif not await self._server.workers():
            raise self._nobody()
        handle = self._server.client.get_workflow_handle(found.workflow_id, run_id=found.run_id)
        text = codec.encode(list(args), what="arguments", limit=self._options.payload_limit)
        try:
            answer = await handle.query(name, raw(text), result_type=RawValue)
        except WorkflowQueryFailedError as error:
            raise query_error(error) from None
        except RPCError as error:
            late = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
            if error.status in late:
                raise self._nobody() from None
            if error.status is RPCStatusCode.INVALID_ARGUMENT:
                raise query_error(error) from None
            raise server_error(error, self.settings) from error
        return codec.decode(to_text(answer.payload))

    def _nobody(self) -> UnavailableError:
        return UnavailableError(
            f"no worker answers on task queue {self.settings.task_queue!r}",
            hint="start one: belugawf worker",
        )

    def handle(self, run: str) -> RunHandle:
        """A handle of the run with this workflow id or run id; it is looked for when used."""
        return RunHandle(self, run, run)

    async def describe(self, run: str) -> RunInfo:
        """The run as it is now."""
        return (await self._look(await self._server.resolve(run))).info

    async def activities(self, run: str) -> Sequence[ActivityState]:
        """See `DurableExecutor.activities`."""
        look = await self._look(await self._server.resolve(run))
        return activity_states(look.events)

    async def history(self, run: str, *, after: int | None = None) -> Sequence[e.Event]:
        """See `DurableExecutor.history`."""
        name = await self._server.resolve(run)
        if after is None:
            return (await self._look(name)).events
        return translated_history(await self._server.fetch_history(name))[after:]

    async def list(
        self,
        *,
        status: str | None = None,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: Duration | None = None,
        limit: int | None = 20,
    ) -> Sequence[RunInfo]:
        """See `DurableExecutor.list`."""
        conditions = []
        if status is not None:
            conditions.append(f"ExecutionStatus = {quoted(QUERY_WORDS.get(status, status))}")
        if workflow is not None:
            conditions.append(f"WorkflowType = {quoted(workflow)}")
        if since is not None:
            moment = time.time_ns() - duration_ns(parse_duration(since))
            conditions.append(f"StartTime >= '{format_instant(moment)}'")
        said = (labels or {}).items()
        found = await self._server.newest(
            " AND ".join(conditions),
            limit=limit,
            wanted=lambda info: said <= labels_of(info).items(),
        )
        runs = [_name(info) for info in found]
        return [look.info for look in await self._look_at(runs)]

    async def waiting(
        self, *, signal: str | None = None, limit: int | None = None
    ) -> Sequence[OpenWait]:
        """See `DurableExecutor.waiting`."""
        waits = [
            wait
            async for info in self._server.list("ExecutionStatus = 'Running'")
            for wait in open_waits(info)
            if signal is None or wait.signal == signal
        ]
        waits.sort(key=lambda wait: wait.since)
        return waits[:limit]

    async def summary(self) -> Summary:
        """See `DurableExecutor.summary`."""
        waits: list[OpenWait] = []
        open_runs: list[RunName] = []
        async for info in self._server.list("ExecutionStatus = 'Running'"):
            waits.extend(open_waits(info))
            open_runs.append(_name(info))
        waits.sort(key=lambda wait: wait.since)
        looks = await self._look_at(open_runs[:_SHOWN])
        due = [w.until for k in looks for w in k.info.waiting_for if w.until is not None]
        return Summary(
            counts=await self._server.counts(),
            waits=waits[:_SHOWN],
            waits_total=len(waits),
            next_due_at=min(due, default=None),
            attention=[look.info for look in looks if look.info.problem is not None],
        )

    async def prune(
        self,
        *,
        older_than: Duration,
        status: str | None = None,
        workflow: str | None = None,
        dry_run: bool = False,
        vacuum: bool = False,
    ) -> Pruned:
        """Raises `UsageError`: the server deletes ended runs itself."""
        raise UsageError(
            "a Temporal server deletes ended runs itself, after the retention of their namespace",
            hint="set that: temporal operator namespace update --retention 30d NAMESPACE",
        )

    async def workers(self) -> Sequence[Owner]:
        """The processes that polled the task queue lately."""
        return await self._server.workers()

    # -- waiting ---------------------------------------------------------------------------------

    async def wait(
        self,
        run: str,
        *,
        until: str = "done",
        max_wait: Duration | None = None,
        patience: Duration = DEFAULT_PATIENCE,
    ) -> RunInfo:
        """See `DurableExecutor.wait`."""
        reached = condition(until)
        name = await self._server.resolve(run)
        end = None if max_wait is None else time.monotonic() + _seconds(max_wait)
        while True:
            look = await self._look(name)
            info = look.info
            if reached(info) or not info.open:
                return info
            if until == "rest" and not self._goes_on(look, patience):
                return info
            if self._interrupts:
                return info
            if end is not None and time.monotonic() >= end:
                raise WaitExpiredError(
                    f"run {info.workflow_id!r} is not there yet; it goes on",
                    hint=f"look at it: {command_line('status', info.workflow_id)}",
                )
            await self._pause(_POLL_S)

    async def result_of(self, run_id: str) -> Any:
        """See `RunHandle.result`."""
        name = await self._server.resolve(run_id)
        while True:
            look = await self._look(name)
            if not look.info.open:
                break
            self._require_driver(look.info)
            await asyncio.sleep(_POLL_S)
        if look.info.status != "completed":
            raise outcome_error(look.info)
        definition = self.catalog.workflows.get(look.info.workflow)
        annotation = Any if definition is None else definition.result_annotation
        return codec.decode(codec.encode(look.info.result), annotation, what="result")

    def _require_driver(self, info: RunInfo) -> None:
        """Raise where the run cannot end: nobody takes its turns, or its code does not fit."""
        # A problem that was recorded before says nothing of the code as it is here now.
        worker = self._worker
        ours = worker is not None and not worker.done
        known = worker is not None and info.run_id in worker.environment.touched
        if info.problem is not None and (known or not ours):
            raise TurnError(info.problem.message, hint=info.problem.hint)
        if info.unattended is not None:
            raise NotFinishedError(
                f"run {info.workflow_id!r} has not ended: {info.unattended}",
                workflow_id=info.workflow_id,
                run_id=info.run_id,
                hint="start a worker: belugawf worker",
            )

    # -- looking ---------------------------------------------------------------------------------

    async def _look(self, name: RunName) -> _Look:
        described = await self._server.describe(name)
        length = described.workflow_execution_info.history_length
        history = await self._server.history(name, length)
        info = run_info(described, history)
        recorded = info.problem
        if info.open:
            problem = self._problem(info, described)
            unattended = None if problem else await self._unattended(described)
            info = replace(info, problem=problem, unattended=unattended)
        events = translated_history(history, described.pending_activities)
        return _Look(name, info, described, events, recorded)

    async def _look_at(self, runs: Sequence[RunName]) -> Sequence[_Look]:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def look(run: RunName) -> _Look:
            async with gate:
                return await self._look(run)

        loop = asyncio.get_running_loop()
        return list(await asyncio.gather(*(hidden_task(loop, look(run)) for run in runs)))

    def _problem(
        self, info: RunInfo, described: DescribeWorkflowExecutionResponse
    ) -> Problem | None:
        """What keeps the run from moving: our own worker knows best, then the history."""
        worker = self._worker
        if worker is None or info.run_id not in worker.environment.touched:
            return info.problem
        if not described.HasField("pending_workflow_task"):
            return None  # the last turn was taken, wherever that was
        own = worker.environment.problems.get(info.run_id)
        if own is None and described.pending_workflow_task.attempt > 1:
            # We had nothing against the turn, and the server refused it.
            return info.problem
        return own

    async def _unattended(self, described: DescribeWorkflowExecutionResponse) -> str | None:
        """That no worker takes what the run has ready, if none does."""
        if self._worker is not None and not self._worker.done:
            return None
        if not is_untaken(described, polled=False):
            return None
        polled = bool(await self._server.workers())
        if not is_untaken(described, polled=polled):
            return None
        return f"no worker answers on task queue {self.settings.task_queue!r}"


def _name(info: WorkflowExecutionInfo) -> RunName:
    return RunName(info.execution.workflow_id, info.execution.run_id)


def _typed_waits(described: DescribeWorkflowExecutionResponse, signal: str) -> list[TypedWait]:
    waits = memo_of(described.workflow_execution_info, WAITS_MEMO) or ()
    return [
        _Wait(wait.get("schema"), wait.get("expected"))
        for wait in waits
        if wait["signal"] == signal
    ]


def _seconds(duration: Duration) -> float:
    return parse_duration(duration).total_seconds()
