"""Why a run cannot be moved on: what its `problem` says, beside what replay finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from belugawf.authoring.loader import Catalog
from belugawf.local.store.damage import check_row
from belugawf.local.store.rows import RunRow
from belugawf.model.errors import (
    BelugaError,
    BusyError,
    CodeError,
    DamagedError,
    TurnError,
    UnavailableError,
    WorkflowLoadError,
    WorkflowNotFoundError,
)

# Runs whose turn cannot be taken: why, and how long their histories are.
Refused: TypeAlias = dict[int, tuple[BelugaError, int]]


class UnknownActivityError(TurnError):
    """The code names an activity that no module defines."""

    code = "activity_not_found"


class BugError(TurnError):
    """A turn failed in our own code."""

    code = "internal"
    exit_code = 1


class UnwritableError(TurnError):
    """The database refuses a run's rows."""

    code = "unwritable"


class MissingWorkflowError(TurnError):
    """The workflow of a stored run is not there, or does not import."""

    code = "workflow_load"
    exit_code = 14


def is_of_the_disk(error: BelugaError) -> bool:
    """Whether the disk refuses, or is busy: that is the fault of no run, and all have to wait.

    A damaged place in the file is the problem of the run that is stored there.
    """
    if isinstance(error, DamagedError) or not isinstance(error, (UnavailableError, BusyError)):
        return False
    name = getattr(error.__cause__, "sqlite_errorname", None) or ""
    return not name.startswith("SQLITE_CORRUPT")


def problem_of(error: BelugaError) -> Mapping[str, Any]:
    """The error as it is kept with its run."""
    data = {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
    traceback = error.traceback if isinstance(error, CodeError) else None
    return data if traceback is None else {**data, "traceback": traceback}


def unknown_activity(row: RunRow, name: str) -> UnknownActivityError:
    """The run's code asks for an activity of that name."""
    return UnknownActivityError(
        f"workflow {row.workflow!r} asks for activity {name!r}, which no module defines",
        hint="define it with @activity, or pass the function instead of its name",
    )


def unwritable(row: RunRow, reason: str | None) -> UnwritableError:
    """The database gave that reason."""
    return UnwritableError(
        f"the database refuses what run {row.workflow_id!r} wants to record: {reason}",
        hint="fix the workflow; or look for triggers and constraints that were added to the "
        "database",
    )


def missing_workflow(row: RunRow, error: BelugaError) -> MissingWorkflowError:
    """The catalog said so of the run's workflow."""
    return MissingWorkflowError(
        f"run {row.workflow_id!r} cannot go on: {error.message}", hint=error.hint
    )


def sort_out(
    rows: Sequence[RunRow], catalog: Callable[[], Catalog]
) -> tuple[list[RunRow], Refused]:
    """Those whose workflow we have; and why not, for the others."""
    known: list[RunRow] = []
    refused: Refused = {}
    for row in rows:
        try:
            check_row(row)
            catalog().workflow(row.workflow)
        except DamagedError as error:
            refused[row.key] = error, row.history_length
        except (WorkflowNotFoundError, WorkflowLoadError) as error:
            refused[row.key] = missing_workflow(row, error), row.history_length
        else:
            known.append(row)
    return known, refused
