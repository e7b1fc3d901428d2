"""The seam between callers and providers: what every executor can do, and how one is made.

Callers (the CLI, user programs) see `DurableExecutor`, `WorkflowHandle` and the values below;
the providers implement them. Instants are nanoseconds since 1970 (UTC), payloads are plain JSON
values (dict, list, str, int, float, bool, None).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from belugawf.model.durations import Duration, format_instant
from belugawf.model.errors import ConfigurationError, Failure, UnavailableError
from belugawf.model.events import Event
from belugawf.model.messages import UNSET as UNSET
from belugawf.model.messages import Signal as Signal
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from belugawf.authoring.loader import Catalog
    from belugawf.blocking import BlockingExecutor

IfExists: TypeAlias = Literal["fail", "skip", "replace"]

OPEN = "running"
STATUSES = (
    "running",
    "completed",
    "failed",
    "cancelled",
    "terminated",
    "timed_out",
    "continued_as_new",
)


class RunId(str):
    """The id of one run. An executor never takes it for a workflow id that reads the same."""

    __slots__ = ()


class TypedRun(str):
    """A run as people name it on the command line; it may also be a unique prefix of an id."""

    __slots__ = ()


@frozen(kw_only=True)
class Waiting:
    """One thing that a run waits for.

    `kind` is signal, timer, activity or child; `name` the signal's or activity's name, the
    duration's text of a timer. `until` is `None` where nothing bounds the wait. For activities:
    `attempt` (from 1) of `max_attempts` (0: without limit), `state` "running" or "retrying" (then
    `until` is when the next attempt starts), `error` the last failure. For signals: `prompt`,
    `expected` (the payload's type, for people).
    """

    kind: str
    name: str
    since: int
    until: int | None = None
    attempt: int | None = None
    max_attempts: int | None = None
    state: str | None = None
    error: str | None = None
    prompt: str | None = None
    expected: str | None = None
    seq: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As in CLI.md's `waiting_for`: kind, name, since, until, attempt, and what is known."""
        data: dict[str, Any] = {
            "kind": self.kind,
            "name": self.name,
            "since": format_instant(self.since),
            "until": _instant(self.until),
            "attempt": self.attempt,
        }
        extras = ("max_attempts", "state", "error", "prompt", "expected")
        data.update((k, v) for k in extras if (v := getattr(self, k)) is not None)
        return data


@frozen(kw_only=True)
class Owner:
    """The process that drives a run. `alive` says what the kernel says now."""

    pid: int
    host: str
    since: int
    alive: bool = True
    frozen: bool = False

    def to_json(self) -> dict[str, Any]:
        data = {"pid": self.pid, "host": self.host, "since": format_instant(self.since)}
        return {**data, "alive": self.alive, "frozen": self.frozen}


@frozen(kw_only=True)
class Problem:
    """Why a run cannot be moved on now; it is not part of its history.

    `code` as in errors (`nondeterminism`, `workflow_load`, `workflow_blocked` ...), `hint` what
    to do, `exit_code` what `resume` answers, `new` whether this executor is the first to see it.
    """

    code: str
    message: str
    hint: str | None = None
    exit_code: int = 13
    new: bool = field(default=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


@frozen(kw_only=True)
class ActivityState:
    """One activity of a run, for the live view: `state` is scheduled, running, retrying,
    completed, failed, timed_out, cancelled. `since` is when it was scheduled, `until` when the next
    attempt starts (retrying) or the end (closed), `error` the last failure."""

    seq: int
    activity_id: str
    name: str
    state: str
    attempt: int
    max_attempts: int
    since: int
    until: int | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "id": self.activity_id,
            "name": self.name,
            "state": self.state,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "since": format_instant(self.since),
            "until": _instant(self.until),
            "error": self.error,
        }


@frozen(kw_only=True)
class RunInfo:
    """A run as everybody may see it; `to_json` is `belugawf.run/1` of CLI.md.

    `unattended` says that the run is ready to move and no worker takes it, where the provider
    needs workers; it is in the JSON only then.
    """

    workflow_id: str
    run_id: RunId
    workflow: str
    status: str
    input: Any
    result: Any
    error: Failure | None
    waiting_for: tuple[Waiting, ...]
    problem: Problem | None
    created_at: int
    updated_at: int
    closed_at: int | None
    deadline: int | None
    owner: Owner | None
    provider: str
    labels: Mapping[str, str]
    parent: str | None
    progress: Any
    history_length: int
    cancel_requested: bool = False
    unattended: str | None = None

    @property
    def open(self) -> bool:
        """Whether the run has not ended."""
        return self.status == OPEN

    def to_json(self) -> dict[str, Any]:
        error = None
        if self.error is not None:
            error = {
                "type": self.error.type,
                "message": self.error.message,
                "activity": self.error.activity,
                "traceback": self.error.traceback,
            }
        data: dict[str, Any] = {
            "schema": "belugawf.run/1",
            "workflow_id": self.workflow_id,
            "run_id": self.run_id,
            "workflow": self.workflow,
            "status": self.status,
            "input": self.input,
            "result": self.result,
            "error": error,
            "waiting_for": [w.to_json() for w in self.waiting_for],
            "problem": self.problem.to_json() if self.problem else None,
            "created_at": format_instant(self.created_at),
            "updated_at": format_instant(self.updated_at),
            "closed_at": _instant(self.closed_at),
            "deadline": _instant(self.deadline),
            "owner": self.owner.to_json() if self.owner else None,
            "provider": self.provider,
            "labels": dict(self.labels),
            "parent": self.parent,
            "progress": self.progress,
            "history_length": self.history_length,
        }
        if self.unattended is not None:
            data["unattended"] = self.unattended
        return data


@frozen(kw_only=True)
class OpenWait:
    """An open wait for a signal, as `waiting` lists it."""

    workflow_id: str
    run_id: RunId
    workflow: str
    signal: str
    since: int
    until: int | None
    prompt: str | None
    expected: str | None


@frozen(kw_only=True)
class Summary:
    """`status` without a run: runs per status, open waits for signals, the next moment due.

    `waits` are the longest waiting ones, of `waits_total`; `attention` open runs with a problem.
    """

    counts: Mapping[str, int]
    waits: Sequence[OpenWait]
    waits_total: int
    next_due_at: int | None
    attention: Sequence[RunInfo]


@frozen(kw_only=True)
class Pruned:
    """What `prune` has deleted, or with `dry_run` would delete; and the file's size, in bytes.

    `free_bytes` of it are free: new runs use them before the file grows.
    """

    runs: int
    events: int
    dry_run: bool
    file_bytes: int
    free_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "belugawf.prune/1",
            "pruned": self.runs,
            "events": self.events,
            "dry_run": self.dry_run,
            "file_bytes": self.file_bytes,
            "free_bytes": self.free_bytes,
        }


@frozen(kw_only=True)
class Delivery:
    """What became of a signal: on disk, for `run`. `duplicate`: its key was seen before.

    `driven_by` is the live process that goes on with the run, `None` where this executor does.
    """

    run: RunInfo
    duplicate: bool = False
    driven_by: Owner | None = None


@runtime_checkable
class WorkflowHandle(Protocol):
    """One run, from the outside."""

    @property
    def id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    async def status(self) -> str: ...
    async def describe(self) -> RunInfo: ...
    async def result(self) -> Any: ...
    async def signal(self, signal: Signal | str, payload: Any = None) -> Delivery: ...
    async def query(self, name: str, *args: Any) -> Any: ...
    async def cancel(self, reason: str | None = None) -> RunInfo: ...
    async def terminate(self, reason: str | None = None) -> RunInfo: ...


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
        ...

    @property
    def catalog(self) -> Catalog:
        """The workflow modules; the first use imports them."""
        ...

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
        Raises `UsageError` where it does not fit, `WorkflowNotFoundError`, `AlreadyExistsError`.
        """
        ...

    async def signal(
        self, run: str | None, signal: Signal | str, *, drive: bool = True
    ) -> Delivery:
        """Deliver durably; drive the run unless a live process holds it or `drive` is off.

        `run=None` takes the one open run that waits for it. Raises `RunEndedError`,
        `PayloadTypeError` (the wait declared another type), `SignalNotAwaitedError`.
        """
        ...

    async def query(self, run: str, name: str, *args: Any) -> Any:
        """The answer of the run's query `name`; raises `QueryNotFoundError`. Changes nothing."""
        ...

    async def cancel(
        self, run: str, reason: str | None = None, *, drive: bool = True
    ) -> RunInfo: ...

    async def terminate(self, run: str, reason: str | None = None) -> RunInfo: ...

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
        ...

    async def work(self, *, concurrency: int | None = None, grace: Duration | None = None) -> None:
        """Stay and drive everything, until `interrupt` or cancellation."""
        ...

    def drives(self, run: str) -> bool:
        """Whether this executor drives the run now, or is about to."""
        ...

    def interrupt(self) -> None:
        """First call: start nothing more and drain. Second call: cut attempts in flight."""
        ...

    def handle(self, run: str) -> WorkflowHandle: ...

    async def describe(self, run: str) -> RunInfo: ...

    async def activities(self, run: str) -> Sequence[ActivityState]:
        """The run's activities in the order they were scheduled, for live views."""
        ...

    async def list(
        self,
        *,
        status: str | None = None,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: Duration | None = None,
        limit: int | None = 20,
    ) -> Sequence[RunInfo]:
        """Newest first; `limit=None` is all of them."""
        ...

    async def waiting(
        self, *, signal: str | None = None, limit: int | None = None
    ) -> Sequence[OpenWait]:
        """Open waits for signals (for that one), longest waiting first; `limit=None`: all."""
        ...

    async def summary(self) -> Summary: ...

    async def prune(
        self,
        *,
        older_than: Duration,
        status: str | None = None,
        workflow: str | None = None,
        dry_run: bool = False,
        vacuum: bool = False,
    ) -> Pruned:
        """Delete the runs that ended longer ago than that, with their histories; never an open one.

        `status`, `workflow`: only those. `dry_run` only counts them. `vacuum` gives the free space
        back to the disk afterwards, which rewrites the file: raises `BusyError` while another
        process is at work on it. Raises `UsageError` where the provider deletes runs itself.
        """
        ...

    async def history(self, run: str, *, after: int | None = None) -> Sequence[Event]:
        """The events; with `after` those whose position is greater, and will stay so.

        Where a provider knows of failed attempts before they have a place in the history, they
        come last, and only without `after`.
        """
        ...

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
        ...


Middleware: TypeAlias = Callable[[DurableExecutor], DurableExecutor]


@frozen(kw_only=True)
class Hooks:
    """Callables told of what was committed, each at most once; `None` is not told.

    Each gets one `RunInfo`-like mapping: workflow_id, run_id, workflow, and `activity`, `attempt`,
    `signal`, `error` where they apply. They run on the engine's loop; an exception in one is
    logged and does not touch the run. Coroutine functions are awaited in the background.
    """

    on_workflow_start: Hook | None = None
    on_workflow_complete: Hook | None = None
    on_workflow_fail: Hook | None = None
    on_activity_start: Hook | None = None
    on_activity_complete: Hook | None = None
    on_signal: Hook | None = None
    on_retry: Hook | None = None


Hook: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None] | None]


def _instant(instant: int | None) -> str | None:
    return None if instant is None else format_instant(instant)


Factory: TypeAlias = Callable[..., DurableExecutor]

_FACTORIES: dict[str, Factory] = {}
_BUILT_IN = {
    "default": "belugawf.local.factory:make_executor",
    "temporal": "belugawf.temporal.factory:make_executor",
}
_ENTRY_POINTS = "belugawf.providers"


def register_provider(name: str, factory: Factory) -> None:
    """Make `new_executor(name, ...)` call `factory(...)` with the same keyword arguments."""
    _FACTORIES[name] = factory


def list_providers() -> list[str]:
    """The names that `new_executor` takes, in order."""
    from importlib.metadata import entry_points

    found = {point.name for point in entry_points(group=_ENTRY_POINTS)}
    return sorted({*_BUILT_IN, *_FACTORIES, *found})


def new_executor(
    provider: str = "default",
    *,
    hooks: Hooks | Sequence[Hooks] | None = None,
    middleware: Middleware | Sequence[Middleware] = (),
    **options: Any,
) -> DurableExecutor:
    """An executor of that provider; imports the provider only now. Use it as `async with`.

    `default` takes `db` (a path), `workflows` (a folder, or the functions themselves), `settings`
    (of `belugawf.config`), `durability`, `concurrency`, `threads`, `max_crashes`, `payload_limit`.
    Each middleware is called with the executor and returns the one to use. Raises
    `ConfigurationError` for a provider or an option that does not exist.
    """
    factory = _factory(provider)
    chosen = (hooks,) if isinstance(hooks, Hooks) else tuple(hooks or ())
    executor = factory(hooks=chosen, **options)
    for wrap in (middleware,) if callable(middleware) else tuple(middleware):
        executor = wrap(executor)
    return executor


def _factory(provider: str) -> Factory:
    if provider in _FACTORIES:
        return _FACTORIES[provider]
    if provider in _BUILT_IN:
        return _load(_BUILT_IN[provider], provider)
    from importlib.metadata import entry_points

    for point in entry_points(group=_ENTRY_POINTS, name=provider):
        loaded: Factory = point.load()
        return loaded
    raise ConfigurationError(
        f"there is no provider {provider!r}", hint=f"there are: {', '.join(list_providers())}"
    )


def _load(target: str, provider: str) -> Factory:
    module, _, name = target.partition(":")
    try:
        loaded: Factory = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise UnavailableError(
            f"provider {provider!r} is not part of this version of belugawf",
            hint="use provider: default",
        ) from None
    return loaded
