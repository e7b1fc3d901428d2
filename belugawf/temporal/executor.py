"""The `temporal` provider's executor: the callers' door to a Temporal server.

Entering connects and changes no run. Looking and sending need no worker here; the worker comes into
being when there is something to drive. Others may poll the same task queue at the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from belugawf.config import TemporalSettings
from belugawf.executor.arguments import checks_arguments
from belugawf.executor.base import RESUME_IDLE_WAIT, ExecutorBase, nanoseconds
from belugawf.executor.checks import TypedWait, check_payload, several_await
from belugawf.executor.handle import WorkflowHandle
from belugawf.executor.info import (
    ActivityState,
    Driver,
    LogFilters,
    LogLine,
    NewRun,
    OpenWait,
    Owner,
    Pruned,
    RunFilters,
    RunId,
    RunInfo,
    Summary,
)
from belugawf.executor.options import EngineOptions
from belugawf.executor.protocol import IfExists
from belugawf.executor.views import activity_states
from belugawf.host.border import mark_as_users
from belugawf.model import codec, events as e
from belugawf.model.durations import Duration, format_instant
from belugawf.model.errors import (
    AlreadyExistsError,
    RefusedError,
    SignalNotAwaitedError,
    UnavailableError,
    UsageError,
)
from belugawf.model.messages import Hooks, Signal
from belugawf.model.values import frozen
from belugawf.temporal.connection import UnreachableError
from belugawf.temporal.driving import Driving
from belugawf.temporal.listing import find, summary
from belugawf.temporal.passing import Passing
from belugawf.temporal.payloads import waits_in
from belugawf.temporal.resetting import reset, told
from belugawf.temporal.server import RunName, Server, ended, quoted
from belugawf.temporal.snapshots import Snapshot, open_waits, status_of

if TYPE_CHECKING:
    from belugawf.temporal.worker import TemporalWorker

# How often a run is looked at that is followed, in seconds: so often at most, and at least.
_SPACING_S = 0.05
_LOOK_S = 1.0
# How often it is asked who awaits a signal, in seconds.
_POLL_S = 0.1
_HANDED_OVER_S = 0.02
# What becomes visible late: how long a signal without a run is looked for, in seconds.
_VISIBLE_S = 2.0
# A `resume` without a name looks at so many of the open runs, newest first.
_LOOKED_AT = 1_000


@frozen()
class _Wait:
    """An open wait as `check_payload` needs it."""

    schema: str | None
    expected: str | None


@checks_arguments
class TemporalExecutor(ExecutorBase[RunName, Snapshot, Driving]):
    """`DurableExecutor` on a Temporal server; use as `async with`. See `ExecutorBase`.

    `drives`: what it starts and signals is driven by a worker of its own. Without, that is left to
    others, and only `resume` and `work` start a worker.
    """

    provider = "temporal"

    def __init__(
        self,
        settings: TemporalSettings,
        workflows: Path | Sequence[Callable[..., Any]] | None = None,
        *,
        options: EngineOptions,
        hooks: Sequence[Hooks] = (),
        passing: Passing | None = None,
        drives: bool = True,
        own_process: bool = False,
        context: Context | None = None,
    ) -> None:
        super().__init__(
            workflows, options=options, hooks=hooks, own_process=own_process, context=context
        )
        if isinstance(workflows, Path):
            self._context.run(mark_as_users)
        self.settings = settings
        self._passing = passing or Passing()
        self._drives = drives and workflows is not None

    def __repr__(self) -> str:
        return f"TemporalExecutor({self.settings.host!r}, {self.settings.task_queue!r})"

    async def __aenter__(self) -> TemporalExecutor:
        self._enter()
        server = await Server.connected(self.settings, self._passing)
        self._opened = Driving(server, self._make_worker)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if not self._may_leave():
            return
        await self._driving.close(unwind=not self._own_process)
        self._opened = None
        # The SDK's own threads are still busy with handing over the last answer. If the process
        # ends under them, Python kills it.
        await asyncio.sleep(_HANDED_OVER_S)

    @property
    def _server(self) -> Server:
        return self._driving.server

    async def _find(self, text: str) -> RunName:
        return await self._server.resolve(text)

    async def _read(self, run: RunName) -> Snapshot:
        return await self._driving.reader.read(run)

    async def _read_many(self, runs: Sequence[RunName]) -> Sequence[Snapshot]:
        return await self._driving.reader.read_many(runs)

    # -- driving ---------------------------------------------------------------------------------

    def _make_worker(self) -> TemporalWorker:
        from belugawf.temporal.worker import TemporalWorker

        return TemporalWorker(
            self._server,
            self.catalog,
            self._options,
            self._hooks,
            self._context,
            own_process=self._own_process,
        )

    async def _start(self, new: NewRun, if_exists: IfExists, detach: bool) -> tuple[str, str]:
        run = await self._server.start(new, replace=if_exists == "replace")
        if run is None and if_exists == "skip":
            existing = await self._find(new.workflow_id)
            return existing.workflow_id, existing.run_id
        if run is None:
            raise AlreadyExistsError(
                f"there is a run {new.workflow_id!r} already",
                hint="choose another id, or skip or replace that run: --if-exists, in Python "
                "if_exists=",
            )
        if self._drives and not detach:
            self._driving.begun()
        return run.workflow_id, run.run_id

    async def work(self, *, concurrency: int | None = None, grace: Duration | None = None) -> None:
        if concurrency is not None and self._driving.worker is None:
            self._options = self._options.with_concurrency(concurrency)
        await self._driving.work(grace)

    async def resume(
        self,
        id: str | Sequence[str] | None = None,
        *,
        max_time: Duration | None = None,
        grace: Duration | None = None,
        workflow: str | None = None,
        patience: Duration = RESUME_IDLE_WAIT,
        dry_run: bool = False,
    ) -> Sequence[RunInfo]:
        """See `DurableExecutor.resume`.

        A worker here takes what the task queue has, whichever run it belongs to: named runs only
        say how long it stays.
        """
        driving, idle_wait_ns = self._driving, nanoseconds(patience)
        named = [id] if isinstance(id, str) else list(id or ())
        runs = [await self._find(text) for text in named]
        if not named:
            runs = list(await self._open_runs(workflow))
        before = {snapshot.info.run_id: snapshot for snapshot in await self._read_many(runs)}
        moving = [
            k
            for k in before.values()
            if (k.info.open if named else k.goes_on(idle_wait_ns, ignoring_problem=True))
        ]
        if dry_run:
            return [snapshot.info for snapshot in moving]
        if named and not moving:
            return []
        end = None if max_time is None else time.monotonic_ns() + nanoseconds(max_time)
        runs = [snapshot.run for snapshot in moving]
        await self._driving.reader.until_at_rest(runs, bool(named), idle_wait_ns, end)
        late = end is not None and time.monotonic_ns() >= end
        if driving.interrupts or late or not self._drives:
            await driving.drain(grace)
        shown = runs if named else driving.touched()
        snapshots = await self._read_many(shown)
        return [snapshot.with_news(before.get(snapshot.info.run_id)) for snapshot in snapshots]

    async def _open_runs(self, workflow: str | None) -> Sequence[RunName]:
        query = "ExecutionStatus = 'Running'"
        if workflow is not None:
            query += f" AND WorkflowType = {quoted(workflow)}"
        return [RunName.of(info) async for info in self._server.list(query, limit=_LOOKED_AT)]

    # -- messages --------------------------------------------------------------------------------

    async def _send(self, run: RunName, message: Signal, payload: str) -> RunName | None:
        described = run.told or await self._server.describe(run)
        if message.key is not None:
            events = (await self._read(run)).events
            keys = [event.key for event in events if isinstance(event, e.SignalReceived)]
            if message.key in keys:
                return None
        if status_of(described.workflow_execution_info) != "running":
            raise ended(run)
        check_payload(message.name, payload, _typed_waits(described, message.name))
        beside = {
            "sender": message.sender,
            "key": message.key,
            "sent_at": format_instant(time.time_ns()),
        }
        await self._server.signal(run, message.name, payload, beside, message.key)
        return run

    async def _awaiting(self, signal: str) -> RunName:
        """The one open run that waits for this signal; what it says is visible a little late."""
        deadline = time.monotonic() + _VISIBLE_S
        while True:
            waits = await self.waiting()
            runs = {w.run_id: RunName(w.workflow_id, w.run_id) for w in waits if w.signal == signal}
            if len(runs) == 1:
                return next(iter(runs.values()))
            if runs:
                ids = [run.workflow_id for run in runs.values()]
                raise several_await(signal, ids, most=len(ids))
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_S)
        awaited = ", ".join(sorted({wait.signal for wait in waits}))
        hint = f"awaited are: {awaited}" if awaited else "no open run waits for a signal"
        raise SignalNotAwaitedError(f"no open run waits for signal {signal!r}", hint=hint)

    async def cancel(
        self, run: str, reason: str | None = None, *, by: str | None = None, drive: bool = True
    ) -> RunInfo:
        name = await self._find(run)
        if not (await self._read(name)).info.open:
            raise ended(name)
        await self._server.cancel(name, reason)
        await self._move_on(name, drive)
        return await self._listed(name)

    async def terminate(
        self, run: str, reason: str | None = None, *, by: str | None = None
    ) -> RunInfo:
        name = await self._find(run)
        await self._server.terminate(name, reason)
        return await self._listed(name)

    async def _move_on(self, run: RunName, drive: bool) -> Owner | None:
        if drive and self._drives:
            self._driving.begun()
        return None if self._driving.is_on else next(iter(await self.workers()), None)

    async def retry(
        self,
        run: str,
        *,
        from_position: int | None = None,
        timeout: Duration | None = None,
        discard: bool = False,
        reason: str | None = None,
        by: str | None = None,
        drive: bool = True,
    ) -> RunInfo:
        """See `DurableExecutor.retry`: the run id changes, and each of them finds the run."""
        if timeout is not None:
            raise _no_timeout()
        snapshot = await self._read(await self._find(run))
        name = await reset(self._server, snapshot, from_position, discard, told(reason, by))
        await self._move_on(name, drive)
        return await self._listed(name)

    # -- looking ---------------------------------------------------------------------------------

    async def _ask(self, run: RunName, query: str, args: Sequence[Any]) -> Any:
        if self._drives:
            self._driving.begun()
        elif not await self.workers():
            raise self._nobody()
        text = codec.encode(list(args), what="arguments", limit=self._options.payload_limit)
        try:
            return codec.decode(await self._server.query(run, query, text))
        except UnreachableError:
            raise self._nobody() from None

    def _nobody(self) -> UnavailableError:
        return UnavailableError(
            f"no worker answers on task queue {self.settings.task_queue!r}",
            hint="start one: belugawf worker",
        )

    def handle(self, run: str) -> WorkflowHandle:
        """A handle of the run with this workflow id or run id; it is looked for when used."""
        return WorkflowHandle(self, run, run)

    async def activities(self, run: str) -> Sequence[ActivityState]:
        return activity_states((await self._read(await self._find(run))).events)

    async def history(self, run: str, *, after: int | None = None) -> Sequence[e.Event]:
        name = await self._find(run)
        events = (await self._read(name)).events
        if after is None:
            return events
        return events[after : len(self._driving.reader.histories.of(name).events)]

    async def list(
        self, *, limit: int | None = 20, **filters: Unpack[RunFilters]
    ) -> Sequence[RunInfo]:
        runs = await find(self._server, self._driving.reader, limit, **filters)
        return [snapshot.info for snapshot in await self._read_many(runs)]

    async def count(self, *, limit: int, **filters: Unpack[RunFilters]) -> int:
        return len(await find(self._server, self._driving.reader, limit, **filters))

    async def select(
        self, *, awaiting: str | None = None, **filters: Unpack[RunFilters]
    ) -> Sequence[RunId]:
        reader = self._driving.reader
        runs = await find(self._server, reader, None, awaiting=awaiting, **filters)
        return [RunId(run.run_id) for run in runs]

    async def waiting(
        self,
        *,
        signal: str | None = None,
        since: Duration | None = None,
        limit: int | None = None,
    ) -> Sequence[OpenWait]:
        after = 0 if since is None else time.time_ns() - nanoseconds(since)
        waits = [
            wait
            async for info in self._server.list("ExecutionStatus = 'Running'")
            for wait in open_waits(info)
            if signal in (None, wait.signal) and wait.since >= after
        ]
        waits.sort(key=lambda wait: wait.since)
        return waits[:limit]

    async def summary(self) -> Summary:
        return await summary(self._server, self._driving.reader)

    async def attention(self) -> Sequence[RunInfo]:
        return (await self.summary()).attention

    async def prune(
        self,
        *,
        older_than: Duration,
        status: str | None = None,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: Duration | None = None,
        until: Duration | None = None,
        dry_run: bool = False,
        vacuum: bool = False,
    ) -> Pruned:
        """Raises `UsageError`: the server deletes ended runs itself."""
        raise UsageError(
            "a Temporal server deletes ended runs itself, after the retention of their namespace",
            hint="set that: temporal operator namespace update --retention 30d NAMESPACE",
        )

    async def logs(self, run: str, **filters: Unpack[LogFilters]) -> Sequence[LogLine]:
        """Raises `RefusedError`: the server keeps no lines."""
        raise _no_logs(await self._find(run))

    async def workers(self, workflow: str | None = None) -> Sequence[Owner]:
        """The processes that polled the task queue lately; what they drive is not known."""
        return await self._server.workers()

    # -- waiting ---------------------------------------------------------------------------------

    async def _at_rest(self, snapshot: Snapshot, idle_wait_ns: int) -> RunInfo | None:
        return None if snapshot.goes_on(idle_wait_ns) else snapshot.info

    async def _pause(self, snapshot: Snapshot, longest_s: float) -> None:
        # Where much happens, not every event needs a look.
        await self._driving.pause(min(longest_s, _SPACING_S))
        rest = min(longest_s, _LOOK_S) - _SPACING_S
        if rest > 0 and not self._driving.stopped:
            await self._driving.pause(rest, self._driving.reader.news(snapshot.run))

    async def _read_again(self, run: RunName, before: Snapshot) -> Snapshot:
        try:
            return await self._read(run)
        except UnreachableError:
            return before  # whoever waits goes on until a limit of their own

    async def _ended(self, run: RunName) -> RunInfo:
        snapshot = await self._read(run)
        while snapshot.info.open:
            driver = self._driving.driver_of(snapshot.settled)
            if driver.why is not None:
                raise driver.why
            await self._driving.reader.until_closed(run)
            snapshot = await self._read_again(run, snapshot)
        return snapshot.info

    async def _driver(self, run: RunName) -> Driver:
        return self._driving.driver_of((await self._read(run)).info)


def _no_timeout() -> UsageError:
    return UsageError(
        "timeout: a Temporal server takes no other one for a run that is taken up again",
        hint="leave it out: the run has once more the time that it began with",
    )


def _no_logs(run: RunName) -> RefusedError:
    return RefusedError(
        f"a Temporal server keeps no logs: what run {run.workflow_id!r} has logged is on the "
        "stderr of the workers that drove it",
        hint="look there, as with journalctl; to collect it: belugawf worker --log-format json",
    )


def _typed_waits(described: DescribeWorkflowExecutionResponse, signal: str) -> list[TypedWait]:
    waits = waits_in(described.workflow_execution_info.memo.fields) or {}
    return [
        _Wait(wait.get("schema"), wait.get("expected"))
        for wait in waits.values()
        if wait and wait["signal"] == signal
    ]
