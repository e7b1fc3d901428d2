"""What both providers do alike: they check what callers pass, and follow runs until they rest.

A provider implements how runs are found, started, sent to and read: the abstract methods. `RunT` is
how it names a run, `SnapshotT` a run as it was at one moment.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from belugawf import __version__
from belugawf.authoring.loader import Catalog, check_may_open
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.executor.arguments import checks_arguments
from belugawf.executor.checks import (
    checked_id,
    condition,
    fitting_input,
    outcome_error,
    parked_error,
)
from belugawf.executor.handle import WorkflowHandle
from belugawf.executor.home import Home, not_open
from belugawf.executor.info import BulkResult, Delivery, Driver, NewRun, Owner, RunId, RunInfo
from belugawf.executor.options import EngineOptions
from belugawf.executor.protocol import DurableExecutor, IfExists
from belugawf.model import codec
from belugawf.model.durations import SECOND_NS, Duration, duration_ns, parse_duration
from belugawf.model.endings import WaitExpiredError
from belugawf.model.errors import (
    AlreadyExistsError,
    AmbiguousRunError,
    BelugaError,
    NotFoundError,
    RefusedError,
    RunNotFoundError,
    UsageError,
)
from belugawf.model.history import PYTHON_VERSION
from belugawf.model.messages import UNSET, Hooks, Signal
from belugawf.model.shell import command_line

if TYPE_CHECKING:
    from belugawf.executor.blocking import BlockingExecutor

# How long a run that this executor has started or signalled is followed through its waits.
DEFAULT_IDLE_WAIT = 60.0
RESUME_IDLE_WAIT = 5.0
# So many ids are tried for a rerun.
_MOST_OF_ONE_ID = 1_000


class Snapshot(Protocol):
    """A run as it was at one moment."""

    @property
    def info(self) -> RunInfo: ...

    @property
    def recorded_input(self) -> str | None:
        """Its input as it was recorded, `None` if it was given none."""

    @property
    def timeout(self) -> timedelta | None:
        """The time that it was given from its start to its end."""


class Driving(Protocol):
    """What this process drives, from the opening of an executor to its end."""

    @property
    def stopped(self) -> bool:
        """Whether an interrupt has come, and what was in flight is over."""

    def interrupt(self) -> None: ...
    def in_flight(self) -> int: ...

    def now(self) -> int:
        """The time in nanoseconds, for limits on waiting."""

    async def pause(self, longest_s: float) -> None:
        """Until something may have changed, or so long."""


RunT = TypeVar("RunT")
SnapshotT = TypeVar("SnapshotT", bound=Snapshot)
DrivingT = TypeVar("DrivingT", bound=Driving)


@checks_arguments
class ExecutorBase(DurableExecutor, ABC, Generic[RunT, SnapshotT, DrivingT]):
    """The half of `DurableExecutor` that knows no provider.

    `own_process`: the process is the command line's, and ends by `os._exit` right after this
    executor was left. Then runs in memory are left as they are, and not even a `finally` block of
    theirs runs. And what may take the process down runs in one of its own (`host/suspects.py`).
    `context`: what runs and activities begin in a copy of; by default it is empty.
    """

    def __init__(
        self,
        workflows: Path | Sequence[Callable[..., Any]] | None,
        *,
        options: EngineOptions | None = None,
        hooks: Sequence[Hooks] = (),
        own_process: bool = False,
        context: Context | None = None,
    ) -> None:
        self._workflows = workflows
        self._options = options or EngineOptions()
        self._hooks = hooks
        self._own_process = own_process
        self._context = Context() if context is None else context
        self._opened: DrivingT | None = None
        self._home: Home | None = None

    @property
    def _driving(self) -> DrivingT:
        if self._opened is None or self._home is None:
            raise not_open()
        self._home.check()
        return self._opened

    def _enter(self) -> None:
        """It is about to be opened, here."""
        check_may_open()
        self._home = Home.here()

    def _may_leave(self) -> bool:
        """Whether there is something to close; not in a forked child, whose parent's it is.

        Raises `UsageError` on another event loop.
        """
        if self._opened is None or self._home is None or self._home.is_forked:
            self._opened = None
            return False
        self._home.check()
        return True

    def sync(self) -> BlockingExecutor:
        """This executor for scripts without asyncio; use as `with`."""
        from belugawf.executor.blocking import BlockingExecutor

        return BlockingExecutor(self)

    @cached_property
    def catalog(self) -> Catalog:
        """The workflow modules; the first use imports them."""
        if isinstance(self._workflows, Path):
            from belugawf.host.modules import import_folder

            # Runs and attempts begin in copies of the context in which their modules are imported.
            return import_folder(self._workflows, self._context, own_process=self._own_process)
        return Catalog.from_functions(self._workflows or ())

    def interrupt(self) -> None:
        if self._opened is not None:
            self._opened.interrupt()

    def in_flight(self) -> int:
        return 0 if self._opened is None else self._opened.in_flight()

    # -- what a provider adds --------------------------------------------------------------------

    @abstractmethod
    async def _find(self, text: str) -> RunT:
        """The run that a text means, see `DurableExecutor`."""

    @abstractmethod
    async def _awaiting(self, signal: str) -> RunT:
        """The one open run that waits for this signal."""

    @abstractmethod
    async def _start(self, new: NewRun, if_exists: IfExists, detach: bool) -> tuple[str, str]:
        """Record a run; its workflow id and run id, or those of the one that is to be kept."""

    @abstractmethod
    async def _send(self, run: RunT, message: Signal, payload: str) -> RunT | None:
        """Deliver a signal; the run as it was then, `None` if the message's key is known."""

    @abstractmethod
    async def _move_on(self, run: RunT, drive: bool) -> Owner | None:
        """Wake who drives the run, or drive it; the owner who drives it, `None` if we do."""

    @abstractmethod
    async def _ask(self, run: RunT, query: str, args: Sequence[Any]) -> Any:
        """The answer of the run's own query."""

    @abstractmethod
    async def _read(self, run: RunT) -> SnapshotT:
        """The run as it is now. Raises `DamagedError` if it cannot be read."""

    async def _listed(self, run: RunT) -> RunInfo:
        """The run as it is now; one that cannot be read has a problem."""
        return (await self._read(run)).info

    @abstractmethod
    async def _at_rest(self, snapshot: SnapshotT, idle_wait_ns: int) -> RunInfo | None:
        """The run, if nobody will move it within `idle_wait_ns`; else `None`.

        A run of ours may be made to move by that.
        """

    @abstractmethod
    async def _pause(self, snapshot: SnapshotT, longest_s: float) -> None:
        """Until something may have changed since that snapshot, or so long."""

    async def _read_again(self, run: RunT, before: SnapshotT) -> SnapshotT:
        """The run as it is now, or as it was before, if it cannot be read just now."""
        return await self._read(run)

    @abstractmethod
    async def _driver(self, run: RunT) -> Driver:
        """Who moves the run on."""

    @abstractmethod
    async def _ended(self, run: RunT) -> RunInfo:
        """The run, once it has ended. Raises what keeps it from that."""

    # -- starting and sending --------------------------------------------------------------------

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
        definition = self.catalog.definition(workflow)
        text = definition.encode_input(input, limit=self._options.payload_limit)
        limit = definition.timeout if timeout is None else parse_duration(timeout)
        new = self._new_run(definition, text, limit, labels or {})
        if id is not None:
            new = replace(new, workflow_id=checked_id(id))
        workflow_id, run_id = await self._start(new, if_exists, detach)
        return WorkflowHandle(self, workflow_id, RunId(run_id))

    async def rerun(
        self,
        run: str,
        *,
        id: str | None = None,
        input: Any = UNSET,
        timeout: Duration | None = None,
        detach: bool = False,
    ) -> WorkflowHandle:
        snapshot = await self._read(await self._find(run))
        first = snapshot.info
        definition = self.catalog.definition(first.workflow)
        if input is UNSET:
            text = fitting_input(definition, snapshot.recorded_input, first)
        else:
            text = definition.encode_input(input, limit=self._options.payload_limit)
        limit = snapshot.timeout if timeout is None else parse_duration(timeout)
        new = self._new_run(definition, text, limit or definition.timeout, first.labels)
        if id is not None:
            new = replace(new, workflow_id=checked_id(id))
            try:
                return await self._started(new, "fail", detach)
            except AlreadyExistsError as error:
                raise AlreadyExistsError(error.message, hint="choose another id") from None
        base = await self._first_id(first)
        for number in range(2, _MOST_OF_ONE_ID):
            named = replace(new, workflow_id=checked_id(f"{base}-{number}"))
            with suppress(AlreadyExistsError):
                return await self._started(named, "fail", detach)
        raise AlreadyExistsError(
            f"there are {base!r} to '{base}-{_MOST_OF_ONE_ID - 1}' already",
            hint=f"choose an id: {command_line('rerun', first.workflow_id)} --id ID",
        )

    async def _first_id(self, run: RunInfo) -> str:
        """The id of the run that it is a rerun of, by its own; else its own."""
        base, _, number = run.workflow_id.rpartition("-")
        if base and number.isdecimal() and number[0] != "0" and number != "1":
            with suppress(RunNotFoundError, AmbiguousRunError):
                first = await self.describe(base)
                if (first.workflow_id, first.workflow) == (base, run.workflow):
                    return base
        return run.workflow_id

    def _new_run(
        self,
        definition: WorkflowDefinition,
        text: str | None,
        limit: timedelta | None,
        labels: Mapping[str, str],
    ) -> NewRun:
        run_id = new_run_id()
        return NewRun(
            run_id=run_id,
            workflow_id=f"{definition.name}-{run_id[:8]}",
            workflow=definition.name,
            input=text,
            timeout_ns=None if limit is None else duration_ns(limit),
            labels=dict(labels),
            python=PYTHON_VERSION,
            belugawf=__version__,
        )

    async def _started(self, new: NewRun, if_exists: IfExists, detach: bool) -> WorkflowHandle:
        workflow_id, run_id = await self._start(new, if_exists, detach)
        return WorkflowHandle(self, workflow_id, RunId(run_id))

    async def signal(
        self, run: str | None, signal: Signal | str, payload: Any = None, *, drive: bool = True
    ) -> Delivery:
        message = Signal(signal, payload) if isinstance(signal, str) else signal
        found = await (self._awaiting(message.name) if run is None else self._find(run))
        text = codec.encode(message.payload, what="payload", limit=self._options.payload_limit)
        sent = await self._send(found, message, text)
        driven_by = None if sent is None else await self._move_on(sent, drive)
        info = await self._listed(found)
        return Delivery(run=info, duplicate=sent is None, driven_by=driven_by)

    async def cancel_many(
        self, runs: Sequence[str], reason: str | None = None, *, by: str | None = None
    ) -> BulkResult:
        return await self._each(runs, lambda run: self.cancel(run, reason, by=by, drive=False))

    async def terminate_many(
        self, runs: Sequence[str], reason: str | None = None, *, by: str | None = None
    ) -> BulkResult:
        return await self._each(runs, lambda run: self.terminate(run, reason, by=by))

    async def signal_many(self, runs: Sequence[str], signal: Signal) -> BulkResult:
        return await self._each(runs, lambda run: self.signal(run, signal, drive=False))

    async def retry_many(
        self, runs: Sequence[str], reason: str | None = None, *, by: str | None = None
    ) -> BulkResult:
        return await self._each(
            runs, lambda run: self.retry(run, reason=reason, by=by, drive=False)
        )

    async def _each(
        self, runs: Sequence[str], change: Callable[[RunId], Awaitable[object]]
    ) -> BulkResult:
        """One after the other, until an interrupt; those that refuse stop no other."""
        done: list[RunId] = []
        refused: dict[RunId, BelugaError] = {}
        for run in map(RunId, runs):
            if self._driving.stopped:
                break
            try:
                await change(run)
                done.append(run)
            except (NotFoundError, RefusedError, UsageError) as error:
                refused[run] = error
        return BulkResult(done=done, refused=refused, left=len(runs) - len(done) - len(refused))

    # -- looking ---------------------------------------------------------------------------------

    async def query(self, run: str, name: str, *args: Any) -> Any:
        from belugawf.authoring.context import BUILT_IN_QUERIES

        found = await self._find(run)
        if name not in BUILT_IN_QUERIES:
            return await self._ask(found, name, args)
        info = (await self._read(found)).info
        if name == "waiting":
            return [waiting.to_json() for waiting in info.waiting_for]
        return info.status if name == "status" else info.result

    async def describe(self, run: str) -> RunInfo:
        """The run as it is now."""
        return (await self._read(await self._find(run))).info

    async def driver_of(self, run: str) -> Driver:
        return await self._driver(await self._find(run))

    async def wait(
        self,
        run: str,
        *,
        until: str = "done",
        max_wait: Duration | None = None,
        patience: Duration = DEFAULT_IDLE_WAIT,
    ) -> RunInfo:
        reached = condition(until)
        found = await self._find(run)
        end = None if max_wait is None else self._driving.now() + nanoseconds(max_wait)
        snapshot = await self._read(found)
        while True:
            info = snapshot.info
            if reached(info) or not info.open:
                return info
            if until == "rest":
                rests = await self._at_rest(snapshot, nanoseconds(patience))
                if rests is not None:
                    return rests
            elif info.problem is not None and (await self._driver(found)).kind == "nobody":
                raise parked_error(info)
            if self._driving.stopped:
                return info
            now = self._driving.now()
            if end is not None and now >= end:
                driver = await self.driver_of(info.run_id)
                now_driven = "nobody drives it" if driver.kind == "nobody" else "it goes on"
                raise WaitExpiredError(
                    f"run {info.workflow_id!r} is not there yet; {now_driven}",
                    hint=f"look at it: {command_line('status', info.workflow_id)}",
                )
            await self._pause(snapshot, seconds_until(now, end))
            snapshot = await self._read_again(found, snapshot)

    async def result_of(self, run: str) -> Any:
        found = await self._find(run)
        info = await self._ended(found)
        if info.status != "completed":
            raise outcome_error(info)
        definition = self.catalog.workflows.get(info.workflow)
        text = codec.encode(info.result)
        return codec.decode(text) if definition is None else definition.decode_result(text)


def new_run_id() -> str:
    """A random UUID. `uuid.uuid4` is slower, and so is importing it."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def nanoseconds(duration: Duration) -> int:
    """A duration as callers pass it, in nanoseconds."""
    return duration_ns(parse_duration(duration))


def seconds_until(now: int, end: int | None) -> float:
    """How long is left until then, in seconds; 1 at most, so that the run is read again."""
    return 1.0 if end is None else max(0.0, min(1.0, (end - now) / SECOND_NS))
