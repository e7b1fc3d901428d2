"""What every executor can do: callers (the CLI, user programs) see it, providers implement it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, Unpack, runtime_checkable

from belugawf.executor.info import (
    ActivityState,
    BulkResult,
    Delivery,
    Driver,
    LogFilters,
    LogLine,
    OpenWait,
    Owner,
    Pruned,
    RunFilters,
    RunId,
    RunInfo,
    Summary,
)
from belugawf.model.durations import Duration
from belugawf.model.events import Event
from belugawf.model.messages import UNSET, Signal

if TYPE_CHECKING:
    from belugawf.authoring.loader import Catalog
    from belugawf.executor.blocking import BlockingExecutor
    from belugawf.executor.handle import WorkflowHandle

IfExists: TypeAlias = Literal["fail", "skip", "replace"]


@runtime_checkable
class DurableExecutor(Protocol):
    """A caller's door to a provider. Use as `async with`; entering changes no run.

    `run` is a workflow id (its latest run), a run id, or "@latest". If a workflow id reads like the
    run id of another run, a text means the former, and a `RunId`, as every handle and `RunInfo`
    has it, the latter. A `TypedRun` may be a unique prefix of either id, of 4 characters or more.
    Unknown: `RunNotFoundError`; several: `AmbiguousRunError`.
    """

    provider: str

    async def __aenter__(self) -> DurableExecutor: ...
    async def __aexit__(self, *exc: object) -> None: ...

    def sync(self) -> BlockingExecutor:
        """The same executor for scripts without asyncio; use as `with`."""

    @property
    def catalog(self) -> Catalog:
        """The workflow modules; the first use imports them."""

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
    ) -> WorkflowHandle:
        """Record a run durably and (unless `detach`) start driving it in the background.

        `input` is the value of the one parameter besides `ctx`, or a mapping by parameter name.
        Raises `UsageError` if it does not fit, `WorkflowNotFoundError`, `AlreadyExistsError`.
        """

    async def rerun(
        self,
        run: str,
        *,
        id: str | None = None,
        input: Any = UNSET,
        timeout: Duration | None = None,
        detach: bool = False,
    ) -> WorkflowHandle:
        """Start the workflow of a run anew, whether that has ended or not, as `execute` does.

        Labels and, unless given, input and time are those of that run. The id is ID-2, ID-3 ...,
        the first that is free, unless given. Raises `UsageError` if the recorded input no longer
        fits the workflow.
        """

    async def signal(
        self, run: str | None, signal: Signal | str, *, drive: bool = True
    ) -> Delivery:
        """Deliver durably; drive the run unless a live process holds it or `drive` is off.

        `run=None` takes the one open run that waits for it. Raises `RunEndedError`,
        `PayloadTypeError` (the wait declared another type), `SignalNotAwaitedError`.
        """

    async def query(self, run: str, name: str, *args: Any) -> Any:
        """The answer of the run's query `name`; raises `QueryNotFoundError`. Changes nothing."""

    async def cancel(
        self, run: str, reason: str | None = None, *, by: str | None = None, drive: bool = True
    ) -> RunInfo:
        """Ask the run to stop and clean up. `by` is who asks, kept in the history by `default`."""

    async def terminate(
        self, run: str, reason: str | None = None, *, by: str | None = None
    ) -> RunInfo:
        """End the run at once, without its code; `by` as for `cancel`."""

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
        """Take up a run again that failed, timed out, was cancelled or is parked.

        What had completed is not done again: it goes on from what ended it, or from the event
        `from_position` of its history on, with no deadline but `timeout` from now. Signals, and
        ends of activities that were open there, are kept. What was asked for after that point and
        has completed would be forgotten: without `discard` or `from_position` this raises
        `RefusedError`, as for other runs; `BusyError` while something still works for it.
        """

    async def cancel_many(
        self, runs: Sequence[str], reason: str | None = None, *, by: str | None = None
    ) -> BulkResult:
        """`cancel` these runs, by their run ids, as `select` has them; drives none of them.

        Others write meanwhile: it takes transactions of a few milliseconds. After `interrupt` it
        returns what it has done. A run that has ended stops no other.
        """

    async def terminate_many(
        self, runs: Sequence[str], reason: str | None = None, *, by: str | None = None
    ) -> BulkResult:
        """`terminate` these runs; see `cancel_many`."""

    async def signal_many(self, runs: Sequence[str], signal: Signal) -> BulkResult:
        """Deliver a signal to each of these runs; see `cancel_many`."""

    async def retry_many(
        self, runs: Sequence[str], reason: str | None = None, *, by: str | None = None
    ) -> BulkResult:
        """`retry` these runs, one after the other; see `cancel_many`."""

    async def resume(
        self,
        id: str | Sequence[str] | None = None,
        *,
        max_time: Duration | None = None,
        grace: Duration | None = None,
        workflow: str | None = None,
        patience: Duration = 5,
        dry_run: bool = False,
    ) -> Sequence[RunInfo]:
        """Drive everything due (or the runs named) until each ended or rests, then return them.

        A run rests when it waits for a signal, or for a moment further away than `patience`.
        After `max_time` nothing new starts; attempts in flight end, within `grace`.
        """

    async def work(self, *, concurrency: int | None = None, grace: Duration | None = None) -> None:
        """Stay and drive everything, until `interrupt` or cancellation."""

    async def workers(self, workflow: str | None = None) -> Sequence[Owner]:
        """The live processes that stay and drive everything (of that workflow, if it is known)."""

    async def driver_of(self, run: str) -> Driver:
        """Who moves the run on, as things are now; imports no workflow."""

    def in_flight(self) -> int:
        """How many attempts of activities are running in this process."""

    def interrupt(self) -> None:
        """First call: start nothing more and drain. Second call: cut attempts in flight."""

    def handle(self, run: str) -> WorkflowHandle: ...

    async def describe(self, run: str) -> RunInfo: ...

    async def result_of(self, run: str) -> Any:
        """See `WorkflowHandle.result`."""

    async def activities(self, run: str) -> Sequence[ActivityState]:
        """The run's activities in the order they were scheduled, for live views.

        Of a long history the latest, and all that are open.
        """

    async def list(
        self, *, limit: int | None = 20, **filters: Unpack[RunFilters]
    ) -> Sequence[RunInfo]:
        """Newest first; `limit=None` is all of them."""

    async def count(self, *, limit: int, **filters: Unpack[RunFilters]) -> int:
        """How many runs `list` would find; `limit` if there are more."""

    async def select(
        self, *, awaiting: str | None = None, **filters: Unpack[RunFilters]
    ) -> Sequence[RunId]:
        """The run ids of all that `list` would find, newest first, without reading the runs.

        `awaiting`: only those that wait for that signal, and have no answer yet.
        """

    async def waiting(
        self,
        *,
        signal: str | None = None,
        since: Duration | None = None,
        limit: int | None = None,
    ) -> Sequence[OpenWait]:
        """Open waits for signals (for that one), longest waiting first; `limit=None`: all.

        With `since` only those that began within that time.

        A wait for which a signal was sent is not among them, as far as a provider knows.
        """

    async def summary(self) -> Summary: ...

    async def attention(self) -> Sequence[RunInfo]:
        """Open runs with a problem, as `summary` has them, without counting what else there is."""

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
        """Delete the runs that ended longer ago than that, with their histories; never an open one.

        `status`, `workflow` ...: only those, see `RunFilters`. `dry_run` only counts them. `vacuum`
        gives the free space back to the disk afterwards, which rewrites the file: raises
        `BusyError` while another process is at work on it. Raises `UsageError` if the provider
        deletes runs itself.
        """

    async def history(self, run: str, *, after: int | None = None) -> Sequence[Event]:
        """The events; with `after` those whose position is greater, and will stay so.

        If a provider knows of failed attempts before they have a place in the history, they
        come last, and only without `after`.
        """

    async def logs(self, run: str, **filters: Unpack[LogFilters]) -> Sequence[LogLine]:
        """What the run's code has logged, oldest first: its workflow's and its activities' lines.

        Each run keeps its newest lines only, for a while (`keep_logs`, `keep_logs_for`). Raises
        `RefusedError` if the provider keeps none.
        """

    async def wait(
        self,
        run: str,
        *,
        until: str = "done",
        max_wait: Duration | None = None,
        patience: Duration = 60,
    ) -> RunInfo:
        """Until the run is "done", "waiting" (for a signal), at "signal:NAME", or at "rest".

        At rest means ended, with a problem, or waiting for a signal or a moment further away than
        `patience`. Returns early after `interrupt`. Raises `WaitExpiredError` after `max_wait`.
        """
