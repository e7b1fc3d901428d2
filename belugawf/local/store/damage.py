"""Stored data that is not as it was written: said with the run's name, and never guessed at.

SQLite finds damage to its own structure. What a hand has edited, or a flipped bit within a text, is
found here, when it cannot be read. One such run hides no other: lists show it with a problem.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

from belugawf.executor import OPEN, Problem, RunId, RunInfo
from belugawf.model.durations import END_NS
from belugawf.model.errors import BelugaError, DamagedError, DurationError
from belugawf.model.soundness import UNREADABLE

if TYPE_CHECKING:
    from belugawf.local.store.rows import RunRow

T = TypeVar("T")
D = TypeVar("D")
_Ts = TypeVarTuple("_Ts")

_HINT = (
    "nothing was changed; restore a backup, or look at the run in the tables `runs` and `events`"
)


class reading:
    """Raise `DamagedError` if the body cannot make sense of what is stored of the run of that name.

    Every row is decoded within this, `or_else`, or with a mark of its own (`Message.sound`).
    """

    __slots__ = ("_name",)

    def __init__(self, name: Callable[[], str]) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if not isinstance(error, UNREADABLE):
            return
        if not isinstance(error, BelugaError) or isinstance(error, DurationError):
            raise damaged(self._name(), error) from error


def or_else(default: D, decode: Callable[[Unpack[_Ts]], T], *stored: *_Ts) -> T | D:
    """What `decode` makes of stored data, or `default` if it cannot be read: it may be lost."""
    try:
        return decode(*stored)
    except UNREADABLE:
        return default


def damaged(run: str, error: BaseException) -> DamagedError:
    """The error that says so; what the data is stays out of it."""
    told = str(error) if str(error).startswith("event ") else type(error).__name__
    return DamagedError(
        f"what is stored of run {run!r} is not as belugawf wrote it: {told}", hint=_HINT
    )


def check_row(row: RunRow) -> None:
    """Raise `DamagedError` if a run's own moments make no sense."""
    with reading(lambda: row.workflow_id):
        for moment in (row.created_at, row.updated_at, row.closed_at, row.deadline, row.due_at):
            if moment is not None and not 0 <= moment < END_NS:
                raise ValueError(f"{moment} is no time")


def placeholder(row: RunRow, error: DamagedError, provider: str) -> RunInfo:
    """What lists show of a run that cannot be read."""
    return RunInfo(
        workflow_id=row.workflow_id,
        run_id=RunId(row.run_id),
        workflow=row.workflow,
        status=row.status,
        input=None,
        result=None,
        error=None,
        waiting_for=(),
        problem=Problem(
            code=error.code, message=error.message, hint=error.hint, exit_code=error.exit_code
        ),
        created_at=_or_0(row.created_at),
        updated_at=_or_0(row.updated_at),
        closed_at=None if row.closed_at is None else _or_0(row.closed_at),
        deadline=None,
        owner=None,
        provider=provider,
        labels={},
        parent=row.parent_run_id,
        progress=None,
        history_length=row.history_length,
        state="parked" if row.status == OPEN else None,
    )


def _or_0(moment: int) -> int:
    return moment if 0 <= moment < END_NS else 0
