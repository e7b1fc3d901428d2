"""The values that callers see: runs, their parts, and the outcomes of requests.

Instants are nanoseconds since 1970 (UTC), payloads are plain JSON values (dict, list, str, int,
float, bool, None).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import field, fields
from typing import Any, Literal, TypedDict

from belugawf.model.durations import Duration, format_instant
from belugawf.model.errors import BelugaError, Failure
from belugawf.model.values import frozen

OPEN = "running"
STATUSES = (
    *("running", "completed", "failed", "cancelled", "terminated", "timed_out"),
    "continued_as_new",
)
# What ended so can be taken up again.
REOPENED = ("failed", "timed_out", "cancelled")
# What an open run is doing: see `RunInfo`.
STATES = ("working", "due", "waiting", "parked")


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
    duration's text of a timer. `until` is `None` if nothing bounds the wait. For activities:
    `attempt` (from 1) of `max_attempts` (0: without limit), `state` "running" or "retrying" (then
    `until` is when the next attempt starts), `error` the last failure, `id` the one it was given
    (`None`: its number). For signals: `prompt`, `expected` (the payload's type, for people),
    `answered` if a signal for it was sent and not read yet.
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
    answered: bool | None = None
    id: str | None = None
    seq: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As in CLI.md's `waiting_for`: kind, name, since, until, attempt, and what is known."""
        extras = ("max_attempts", "state", "error", "prompt", "expected", "answered", "id")
        unknown = {name for name in extras if getattr(self, name) is None}
        return _as_json(self, without={"seq", *unknown})


@frozen(kw_only=True)
class Owner:
    """The process that drives a run. `alive` says what the kernel says now."""

    pid: int
    host: str
    since: int
    alive: bool = True
    frozen: bool = False

    def to_json(self) -> dict[str, Any]:
        return _as_json(self)


@frozen()
class Driver:
    """Who moves a run on: "us" (this executor), the "process" that holds it, a "worker" that
    claims it when there is something to do, or "nobody", and `why` not.

    `owner` is that process or worker; `None` if any worker may be it.
    """

    kind: Literal["us", "process", "worker", "nobody"]
    owner: Owner | None = None
    why: BelugaError | None = None


@frozen(kw_only=True)
class Problem:
    """Why a run cannot be moved on now; it is not part of its history.

    `code` as in errors (`code_error`, `nondeterminism`, `workflow_load` ...), `hint` what to do,
    `exit_code` what `resume` answers, `traceback` the author's if their code has raised, `new`
    whether this executor is the first to see it.
    """

    code: str
    message: str
    hint: str | None = None
    exit_code: int = 13
    traceback: str | None = None
    new: bool = field(default=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        data = {"code": self.code, "message": self.message, "hint": self.hint}
        return data if self.traceback is None else {**data, "traceback": self.traceback}


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


@frozen(kw_only=True)
class RunInfo:
    """A run as everybody may see it; `to_json` is `belugawf.run/1` of CLI.md.

    `state` is what an open run is doing: "working" (a live process drives it), "due" (it can move,
    and nobody drives it), "waiting" (for a signal, a timer, a retry), "parked" (its `problem` keeps
    it from moving). `None` if it has ended.
    `unattended` says that the run is ready to move and no worker claims it, if the provider
    needs workers. It is in the JSON only if it is set.
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
    state: str | None = None

    @property
    def open(self) -> bool:
        """Whether the run has not ended."""
        return self.status == OPEN

    def to_json(self) -> dict[str, Any]:
        without = {"cancel_requested"} if self.unattended else {"cancel_requested", "unattended"}
        data = {"schema": "belugawf.run/1", **_as_json(self, without=without)}
        data["waiting_for"] = [wait.to_json() for wait in self.waiting_for]
        data["labels"] = dict(self.labels)
        if self.error is not None:
            names = ("type", "message", "activity", "traceback")
            data["error"] = {name: getattr(self.error, name) for name in names}
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

    def to_json(self) -> dict[str, Any]:
        return _as_json(self)


@frozen(kw_only=True)
class Summary:
    """`status` without a run: runs per status, open waits for signals, the next moment due.

    `states` counts the open runs by what they do, as far as the provider knows; `due_since` is the
    moment since which a run can move and nobody drives it.
    `waits` are the longest waiting ones, of `waits_total`; `attention` open runs with a problem, of
    `attention_total` (`None`: these are all).
    """

    counts: Mapping[str, int]
    waits: Sequence[OpenWait]
    waits_total: int
    next_due_at: int | None
    attention: Sequence[RunInfo]
    attention_total: int | None = None
    states: Mapping[str, int] = field(default_factory=dict)
    due_since: int | None = None


@frozen(kw_only=True)
class BulkResult:
    """What became of a change to many runs: the run ids of those that it reached, in their order,
    and why others refused it; how many are `left` as they were, after an interrupt."""

    done: Sequence[RunId]
    refused: Mapping[RunId, BelugaError]
    left: int = 0


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


class RunFilters(TypedDict, total=False):
    """Which runs `list` finds; `None` is any.

    `state`: open runs that do that, see `RunInfo`. `since`, `until`: started within that time, and
    longer ago than that.
    """

    status: str | None
    state: str | None
    workflow: str | None
    labels: Mapping[str, str] | None
    since: Duration | None
    until: Duration | None


@frozen(kw_only=True)
class LogLine:
    """What a run's code has logged. `level` is the name, as "WARNING".

    `activity`, `attempt` and `seq` (the activity's number) are `None` for the workflow itself.
    What is kept later has a greater `position`. `message` has the traceback, if one was logged.
    """

    workflow_id: str
    run_id: RunId
    position: int
    time: int
    level: str
    logger: str
    activity: str | None
    attempt: int | None
    seq: int | None
    message: str

    def to_json(self) -> dict[str, Any]:
        rest = _as_json(self, without={"position", "time", "seq"})
        return {"time": format_instant(self.time), **rest}


class LogFilters(TypedDict, total=False):
    """Which lines of a run `logs` finds: of that level and above, of activities of that name, after
    that position, the newest `limit`; `None` is any."""

    level: str | None
    activity: str | None
    after: int | None
    limit: int | None


@frozen(kw_only=True)
class NewRun:
    """A run to be recorded."""

    run_id: str
    workflow_id: str
    workflow: str
    input: str | None
    timeout_ns: int | None
    labels: Mapping[str, str]
    python: str
    belugawf: str


@frozen(kw_only=True)
class Delivery:
    """What became of a signal: on disk, for `run`. `duplicate`: its key was seen before.

    `driven_by` is the live process that goes on with the run, `None` if this executor does.
    """

    run: RunInfo
    duplicate: bool = False
    driven_by: Owner | None = None


# Fields that hold instants.
_INSTANTS = frozenset({"since", "until", "created_at", "updated_at", "closed_at", "deadline"})


def _as_json(value: Any, *, without: Container[str] = ()) -> dict[str, Any]:
    """A value's fields in their order, by their names; instants as texts."""
    data = {}
    for name in (f.name for f in fields(value) if f.name not in without):
        part = getattr(value, name)
        if name in _INSTANTS and part is not None:
            part = format_instant(part)
        data[name] = part.to_json() if hasattr(part, "to_json") else part
    return data
