"""Which index leads to the runs that a caller asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from belugawf.local.store.histories import Connection
from belugawf.model.durations import MICROSECOND_NS
from belugawf.model.values import frozen

# How far two filters are counted to find out which of them leaves fewer runs.
_FEW = 1_000
# Beyond the last key.
_NO_KEY = 2**63 - 1


class Filters(TypedDict, total=False):
    """Which runs; `None` is any. `since`: created at or after that instant. `problems`: only open
    runs that cannot move on."""

    status: str | None
    workflow: str | None
    labels: Mapping[str, str] | None
    since: int | None
    problems: bool


@frozen()
class Selected:
    """What stands after FROM and WHERE, with its values, and the key by which runs are in order."""

    source: str
    where: str
    values: tuple[Any, ...]
    key: str


def select(db: Connection, **filters: Unpack[Filters]) -> Selected:
    """How such runs are found, the newest first."""
    status, workflow = filters.get("status"), filters.get("workflow")
    labels, since = filters.get("labels") or {}, filters.get("since")
    source, key = "runs r NOT INDEXED", "r.key"
    clauses: list[str] = []
    values: list[Any] = []
    for name, value in labels.items():
        clauses.append("EXISTS (SELECT 1 FROM labels WHERE name = ? AND value = ? AND run = r.key)")
        values += [name, value]
    for clause, text in (("r.status = ?", status), ("r.workflow = ?", workflow)):
        if text is not None:
            clauses.append(clause)
            values.append(text)
    if since is not None:
        moment = since // MICROSECOND_NS
        # A clock that was set back leaves older runs between: `created_at` decides.
        clauses += ["r.key >= ?", "r.created_at >= ?"]
        values += [_first_since(db, moment), moment]
    if filters.get("problems"):
        source = "live p INDEXED BY live_problems CROSS JOIN runs r ON r.key = p.run"
        key = "p.run"
        clauses.append("p.problem IS NOT NULL")
    elif labels:
        name, value = next(iter(labels.items()))
        source, key = "labels n CROSS JOIN runs r ON r.key = n.run", "n.run"
        clauses += ["n.name = ?", "n.value = ?"]
        values += [name, value]
    elif status is not None and _is_rarer(db, status, workflow):
        source = "runs r INDEXED BY runs_by_status"
    elif workflow is not None:
        source = "runs r INDEXED BY runs_by_workflow"
    return Selected(source, " AND ".join(clauses) or "1", tuple(values), key)


def _first_since(db: Connection, moment: int) -> int:
    """The lowest key of the runs that were created at or after that moment."""
    row = db.execute(
        "SELECT min(key) FROM runs INDEXED BY runs_by_age WHERE created_at >= ?", (moment,)
    ).fetchone()
    return _NO_KEY if row[0] is None else int(row[0])


def _is_rarer(db: Connection, status: str, workflow: str | None) -> bool:
    """Whether fewer runs have that status than belong to that workflow, as far as counted."""
    if workflow is None:
        return True
    (by_status,) = db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM runs WHERE status = ? LIMIT {_FEW})", (status,)
    ).fetchone()
    (by_workflow,) = db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM runs WHERE workflow = ? LIMIT {_FEW})", (workflow,)
    ).fetchone()
    return bool(by_status <= by_workflow)
