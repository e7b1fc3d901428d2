"""What both providers check of what callers pass, and how an ended run is raised."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Protocol

from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.executor.info import OPEN, STATUSES, RunInfo
from belugawf.model import checking, codec
from belugawf.model.endings import (
    RunParkedError,
    WorkflowCancelledError,
    WorkflowFailedError,
    WorkflowTerminatedError,
    WorkflowTimedOutError,
)
from belugawf.model.errors import (
    AmbiguousRunError,
    BelugaError,
    Failure,
    PayloadTypeError,
    UsageError,
)
from belugawf.model.shell import command_line

# As on Temporal.
_LONGEST_ID = 1_000


class TypedWait(Protocol):
    """An open wait for a signal: its type's JSON schema and its name for people, `None` is any."""

    @property
    def schema(self) -> str | None: ...
    @property
    def expected(self) -> str | None: ...


def check_payload(signal: str, text: str, waits: Sequence[TypedWait]) -> None:
    """Raise `PayloadTypeError` if no open wait for the signal could take this payload."""
    problem: PayloadTypeError | None = None
    for wait in waits:
        if wait.schema is None:
            return
        try:
            codec.check(json.loads(text), json.loads(wait.schema), path="payload")
            return
        except PayloadTypeError as error:
            problem = error
    if problem is not None:
        expected = waits[0].expected or problem.expected
        raise PayloadTypeError(
            problem.path,
            problem.expected,
            problem.found,
            hint=f"signal {signal!r} is awaited as {expected}; nothing was sent",
        )


def several_await(signal: str, ids: Sequence[str], *, most: int) -> AmbiguousRunError:
    """A signal without a run that these runs, by their workflow ids, wait for; names `most`."""
    count, more = (f"more than {most}", " and others") if len(ids) > most else (str(len(ids)), "")
    shown = list(dict.fromkeys(ids[:most]))
    return AmbiguousRunError(
        f"{count} runs wait for signal {signal!r}: {', '.join(shown)}{more}",
        shown,
        hint=f"say which: {command_line('signal', signal)} RUN",
    )


def condition(until: str) -> Callable[[RunInfo], bool]:
    if until == "done":
        return lambda info: not info.open
    if until == "rest":
        return lambda info: False
    if until == "waiting":
        return lambda info: any(w.kind == "signal" for w in info.waiting_for)
    name = until.removeprefix("signal:")
    if name and name != until:
        return lambda info: any(w.kind == "signal" and w.name == name for w in info.waiting_for)
    raise UsageError(
        f"cannot wait for {until!r} (until)", hint="wait for done, waiting, or signal:NAME"
    )


def checked_id(text: str) -> str:
    if not text.strip():
        raise UsageError("a workflow id cannot be empty", hint="leave it out, and get one")
    if text.startswith("@"):
        raise UsageError(f"a workflow id cannot begin with '@': {text!r}", hint="leave the '@' out")
    if len(text.encode("utf-8", "surrogatepass")) > _LONGEST_ID:
        raise UsageError(
            f"a workflow id is at most {_LONGEST_ID} bytes long", hint="choose a shorter one"
        )
    checking.text("a workflow id", text)
    return str(text)  # not a RunId, even if it was given one


def fitting_input(definition: WorkflowDefinition, recorded: str | None, run: RunInfo) -> str | None:
    """The input that was recorded for the run. Raises `UsageError` if it no longer fits."""
    try:
        definition.arguments(recorded)
    except UsageError as error:
        rerun = command_line("rerun", run.workflow_id)
        raise UsageError(
            f"the input of run {run.workflow_id!r} no longer fits its workflow: {error.message}",
            hint=f"give another: {rerun} --input VALUE, or --arg key=value; in Python input=",
        ) from None
    return recorded


def outcome_error(info: RunInfo) -> BelugaError:
    """The exception that says how a run ended which did not complete."""
    kinds = {
        "failed": WorkflowFailedError,
        "cancelled": WorkflowCancelledError,
        "terminated": WorkflowTerminatedError,
        "timed_out": WorkflowTimedOutError,
    }
    words = info.status.replace("_", " ")
    message = f"run {info.workflow_id!r} {'was ' if words.endswith('ed') else ''}{words}"
    if info.status in ("failed", "timed_out"):
        message = f"run {info.workflow_id!r} {words}"
    if info.error is not None:
        message += f": {info.error.type}: {info.error.message}"
    return kinds[info.status](
        message, workflow_id=info.workflow_id, run_id=info.run_id, failure=info.error
    )


def parked_error(info: RunInfo) -> RunParkedError:
    """The exception that says why a run cannot go on, which has a problem."""
    problem = info.problem
    assert problem is not None
    return RunParkedError(
        f"run {info.workflow_id!r} is parked: {problem.message}",
        workflow_id=info.workflow_id,
        run_id=info.run_id,
        problem=problem.code,
        traceback=problem.traceback,
        hint=problem.hint,
        exit_code=problem.exit_code,
    )


def parked_failure(message: str, traceback: str | None) -> Failure:
    """The error of a run that was parked when its time was over, for that reason."""
    return Failure(
        RunParkedError.__name__,
        f"it was parked when its time was over: {message}",
        traceback=traceback,
    )


def ended_status(status: str | None) -> str | None:
    """The status, if it is one of ended runs. Raises `UsageError`."""
    if status is None or (status in STATUSES and status != OPEN):
        return status
    what = "an open run is never pruned" if status == OPEN else f"there is no status {status!r}"
    raise UsageError(what, hint=f"use one of {', '.join(s for s in STATUSES if s != OPEN)}")
