"""What the workflow's code does outside of its main task: conditions, queries, its input, errors.

Whatever it raises belongs to whoever waits or asks. `CodeInterrupted` ends the turn in any case: if
a condition or the input's types raise it, at once.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from belugawf.authoring.failures import describe_failure, in_one_line, wrong_in
from belugawf.authoring.runtime import WorkflowInfo
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.model import codec
from belugawf.model.errors import (
    BelugaError,
    CodeError,
    CodeInterrupted,
    QueryFailedError,
    QueryNotFoundError,
    TurnError,
)
from belugawf.model.shell import command_line

QUERY_HINT = "look at the function given to ctx.set_query"


class InputMismatchError(TurnError):
    """The recorded input no longer fits the workflow's parameters."""

    code = "input_mismatch"


class Condition:
    """A predicate that somebody waits for, called in the context of whoever does."""

    def __init__(self, predicate: Callable[[], bool]) -> None:
        self._predicate = predicate
        self._context = copy_context()

    def settle(self, waiter: asyncio.Future[None]) -> bool:
        """Wake the waiter if the condition holds, or raises; whether it is over."""
        try:
            if not self._context.run(self._predicate):
                return False
        except StopIteration as error:
            # As in a coroutine: a future could not hand it on either.
            stopped = RuntimeError("coroutine raised StopIteration")
            stopped.__cause__ = error
            waiter.set_exception(stopped)
        except CodeInterrupted:
            raise
        except BaseException as error:
            waiter.set_exception(error)
        else:
            waiter.set_result(None)
        return True


def answer(name: str, function: Callable[..., Any], args: Sequence[Any], limit: int) -> str:
    """The JSON text that a workflow's query answers, at most `limit` bytes of it.

    Raises `QueryFailedError` whatever the function raises.
    """
    try:
        value = copy_context().run(function, *args)
        return codec.encode(value, what=f"query {name}", limit=limit)
    except BaseException as error:
        failure = describe_failure(error)
        raise QueryFailedError(
            f"query {name!r} raised {failure.type}: {failure.message}", hint=QUERY_HINT
        ) from error


def only_reads() -> QueryNotFoundError:
    """The error for a query that asks its context for more."""
    return QueryNotFoundError("a query only reads: it cannot ask the run to do something")


def input_of(definition: WorkflowDefinition, payload: str | None, workflow: str) -> dict[str, Any]:
    """The arguments of that workflow from its recorded input. Raises `InputMismatchError`."""
    try:
        return definition.arguments(payload)
    except CodeInterrupted:
        raise
    except BaseException as error:  # the code of the user's types takes part
        reason = str(error) if isinstance(error, BelugaError) else in_one_line(error)
        raise InputMismatchError(
            f"the recorded input no longer fits workflow {workflow!r}: {reason}",
            hint="put the parameters back as they were when the run started",
        ) from None


def wrong_code(
    error: BaseException, info: WorkflowInfo, what_to_do: str = "mend it"
) -> CodeError | None:
    """The error of a run whose code has raised that, if it says that the code is wrong."""
    wrong = wrong_in(error)
    if wrong is None:
        return None
    told = describe_failure(wrong)
    last = re.findall(_FRAME, told.traceback or "", re.MULTILINE)[-1:]
    where = "".join(f" ({file}:{line})" for file, line in last)
    said = f"{told.type}: {told.message.removesuffix(where)}{where}"
    return CodeError(
        f"the code of workflow {info.workflow!r} raised {said}",
        traceback=describe_failure(error).traceback,
        hint=f"{what_to_do}; then the run goes on from where it is: "
        + command_line("resume", info.workflow_id),
    )


# A line of a traceback that names a place.
_FRAME = r'^\s*File "(.+)", line (\d+)'


def unhandled_record(
    info: WorkflowInfo, location: str, message: str, traceback: str
) -> logging.LogRecord:
    """The log line of an error in the background that nobody has asked for."""
    record = log_record(info, location, logging.ERROR, message)
    record.exc_text = traceback or None
    return record


def log_record(info: WorkflowInfo, location: str, level: int, message: str) -> logging.LogRecord:
    """A log line of ours about a run's code."""
    name = f"belugawf.workflow.{info.workflow}"
    text = f"{info.workflow_id}: {message}"
    return logging.LogRecord(name, level, location, 0, text, None, None)
