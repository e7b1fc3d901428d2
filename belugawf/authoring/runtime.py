"""What a run's context stands on: the `Runtime` of each provider, and the run's own logger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from belugawf.authoring.activity import ActivityMark
from belugawf.authoring.failures import describe_failure, in_one_line
from belugawf.model.errors import CodeInterrupted
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from random import Random


@frozen()
class WorkflowInfo:
    """Which run this is. `deadline` and `parent` may be `None`; times are UTC."""

    workflow_id: str
    run_id: str
    workflow: str
    started_at: datetime
    deadline: datetime | None = None
    parent: str | None = None


@frozen(kw_only=True)
class SignalWait:
    """A wait for a signal, for those who look from outside."""

    name: str
    timeout: timedelta | None
    prompt: str | None
    expected: str | None
    schema: str | None
    location: str


class Runtime(Protocol):
    """What differs between the providers."""

    info: WorkflowInfo
    payload_limit: int

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked the run to stop."""
        ...

    def schedule_activity(
        self,
        mark: ActivityMark,
        function: Callable[..., Any] | None,
        arguments: str,
        types: tuple[Any, ...],
        activity_id: str | None,
        location: str,
    ) -> asyncio.Future[str]:
        """Schedule it; the future has the result's JSON text, or an `ActivityError`.

        `function` is the callable if one was passed, `arguments` is a JSON array, and
        `types` are what its items are read by; none if they are all plain.
        """
        ...

    def cancel_activity(self, result: asyncio.Future[str]) -> None:
        """Nobody waits for that activity any more."""
        ...

    def begin_wait(self, wait: SignalWait) -> int: ...

    def end_wait(self, token: int, outcome: str) -> None: ...

    def wait_condition(self, predicate: Callable[[], bool]) -> asyncio.Future[None]:
        """A future that is done once the predicate holds, looked at whenever code has run."""
        ...

    def new_future(self) -> asyncio.Future[Any]: ...

    def call_at(
        self, moment: int, callback: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        """Call it at a moment by the clock on the wall, in nanoseconds since 1970."""
        ...

    def now(self) -> int:
        """Deterministic time, nanoseconds since 1970."""
        ...

    def random(self, purpose: str) -> Random:
        """A generator that gives the same values whenever this run is replayed."""
        ...

    def is_replaying(self) -> bool: ...

    def emit_log(self, record: logging.LogRecord) -> None: ...

    def publish_progress(self, progress: str | float) -> None: ...


class WorkflowLogger(logging.Logger):
    """Records go to the runtime, which knows whether they were emitted before."""

    def __init__(self, runtime: Runtime) -> None:
        target = logging.getLogger("belugawf.workflow")
        super().__init__(f"{target.name}.{runtime.info.workflow}")
        self.parent = target
        self._runtime = runtime

    def handle(self, record: logging.LogRecord) -> None:
        emit_later(self._runtime, record)


def emit_later(runtime: Runtime, record: logging.LogRecord) -> None:
    """A run's code has logged this: it is emitted after the turn, and not again on replay."""
    if runtime.is_replaying():
        return
    _make_text(record)
    record.workflow_id = runtime.info.workflow_id
    record.run_id = runtime.info.run_id
    runtime.emit_log(record)


def unformatted(record: logging.LogRecord, error: BaseException) -> str:
    """What can be said of a record whose message cannot be made, for that reason."""
    text = record.msg if type(record.msg) is str else ""
    return f"{text} (it cannot be formatted: {in_one_line(error)})"


def _make_text(record: logging.LogRecord) -> None:
    """Format the record now: its arguments may have changed after the turn.

    It also keeps nothing alive: an error would, through its frames, but not when this is replayed.
    """
    try:
        text = record.getMessage()
    except CodeInterrupted:
        raise
    except BaseException as error:
        # Nothing goes on to the code that logs: on replay it would not, as nothing is formatted.
        text = unformatted(record, error)
    record.msg, record.args = text, None
    if record.exc_info:
        raised = record.exc_info[1]
        if raised is not None and not record.exc_text:  # which may be masked already
            record.exc_text = describe_failure(raised).traceback
        record.exc_info = None
