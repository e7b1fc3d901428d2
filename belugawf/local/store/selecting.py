"""Which index leads to the runs that a caller asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from belugawf.executor import OPEN, STATES
from belugawf.local.store.histories import Connection
from belugawf.model.durations import MICROSECOND_NS
from belugawf.model.values import frozen

# How far two filters are counted to find out which of them leaves fewer runs.
_FEW = 1_000
# So many runs with a problem are counted.
_MOST_PARKED = 1_000_000
# Beyond the last key.
_NO_KEY = 2**63 - 1


@frozen()
class Doing:
    """What open runs do, see `RunInfo.state`: at that instant, and with these owners alive."""

    state: str
    now: int
    living: Sequence[str]


class Filters(TypedDict, total=False):
    """Which runs; `None` is any. `since`: created at or after that instant, `until`: before it.
    `awaiting`: those that wait for that signal, and have no answer yet."""

    status: str | None
    workflow: str | None
    labels: Mapping[str, str] | None
    since: int | None
    until: int | None
    doing: Doing | None
    awaiting: str | None


@frozen()
class Selected:
    """What stands after FROM and WHERE, with its values, and the key by which runs are in order."""

    source: str
    where: str
    values: tuple[Any, ...]
    key: str


# Each unread signal of its name answers one wait of the run, the first one first.
UNANSWERED = """(NOT EXISTS (SELECT 1 FROM inbox)
    OR (SELECT count(*) FROM inbox i
        WHERE i.run = w.run AND i.kind = 'signal' AND i.name = w.signal)
    < (SELECT count(*) FROM waits e
       WHERE e.run = w.run AND e.signal = w.signal AND e.seq <= w.seq))"""
# Of what is due, and of unread messages, the first that nobody who is alive has come to.
_DUE_SINCE = """SELECT min(at) FROM (
    SELECT * FROM (SELECT r.due_at AS at FROM runs r INDEXED BY runs_due
        WHERE r.status = 'running' AND r.due_at <= :now AND NOT {held}
        ORDER BY r.due_at LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT r.sent_at AS at FROM (SELECT id, run AS key, sent_at FROM inbox) r
        WHERE NOT {held} ORDER BY r.id LIMIT 1))"""
# Somebody who is alive holds it, or it has a problem.
_HELD = """EXISTS (SELECT 1 FROM live x WHERE x.run = r.key AND (x.problem IS NOT NULL
    OR x.owner IN (SELECT value FROM json_each({living}))))"""
_WORKING = """(SELECT run FROM live INDEXED BY live_by_owner
    WHERE owner IN (SELECT value FROM json_each(?)) AND problem IS NULL)"""
_MOVABLE = """(SELECT key FROM runs INDEXED BY runs_due WHERE status = 'running' AND due_at <= ?
    UNION ALL SELECT run FROM inbox)"""
_WAITING = """(r.due_at IS NULL OR r.due_at > ?)
    AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.run = r.key)"""
_AWAITING = f"""(SELECT w.run FROM waits w INDEXED BY waits_by_signal
    WHERE w.signal = ? AND {UNANSWERED})"""


def _doing(doing: Doing) -> tuple[str, tuple[Any, ...]]:
    """The condition on a run `r`, with its values.

    What works or can move is found by itself: what waits, of which there may be a million, is not
    read for that.
    """
    living, now = json.dumps(list(doing.living)), doing.now // MICROSECOND_NS
    held = _HELD.format(living="?")
    match doing.state:
        case "parked":
            return "r.status = 'running' AND p.problem IS NOT NULL", ()
        case "working":
            return f"r.status = 'running' AND r.key IN {_WORKING}", (living,)
        case "due":
            return f"r.status = 'running' AND r.key IN {_MOVABLE} AND NOT {held}", (now, living)
    return f"r.status = 'running' AND {_WAITING} AND NOT {held}", (now, living)


def select(db: Connection, **filters: Unpack[Filters]) -> Selected:
    """How such runs are found, the newest first."""
    status, workflow = filters.get("status"), filters.get("workflow")
    labels, since, until = filters.get("labels") or {}, filters.get("since"), filters.get("until")
    doing, awaiting = filters.get("doing"), filters.get("awaiting")
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
    if until is not None:
        moment = until // MICROSECOND_NS
        clauses += ["r.key <= ?", "r.created_at < ?"]
        values += [_last_until(db, moment), moment]
    state = None if doing is None else doing.state
    if awaiting is not None:
        # Which of both leads to the runs, and so says their order, is not left to SQLite.
        clauses.append(f"{'+' if state else ''}r.key IN {_AWAITING}")
        values.append(awaiting)
    if doing is not None:
        clause, given = _doing(doing)
        clauses.append(clause)
        values += given
    if state == "parked":
        source = "live p INDEXED BY live_problems CROSS JOIN runs r ON r.key = p.run"
        key = "p.run"
    elif state in ("working", "due") or (awaiting is not None and state is None):
        pass  # they are found by their keys
    elif labels:
        name, value = next(iter(labels.items()))
        source, key = "labels n CROSS JOIN runs r ON r.key = n.run", "n.run"
        clauses += ["n.name = ?", "n.value = ?"]
        values += [name, value]
    elif (status or state) is not None and _is_rarer(db, status or OPEN, workflow):
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


def _last_until(db: Connection, moment: int) -> int:
    """The highest key of the runs that were created before that moment."""
    row = db.execute(
        "SELECT max(key) FROM runs INDEXED BY runs_by_age WHERE created_at < ?", (moment,)
    ).fetchone()
    return int(row[0] or 0)


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


def count_states(db: Connection, now: int, living: Sequence[str]) -> dict[str, int]:
    """How many open runs do what: all that do not work, cannot move and have no problem wait."""
    counts = {}
    for state in ("working", "due"):
        found = select(db, doing=Doing(state, now, living))
        (counts[state],) = db.execute(
            f"SELECT count(*) FROM {found.source} WHERE {found.where}", found.values
        ).fetchone()
    # What has ended has no problem.
    (counts["parked"],) = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM live INDEXED BY live_problems "
        f"WHERE problem IS NOT NULL LIMIT {_MOST_PARKED})"
    ).fetchone()
    (running,) = db.execute(
        "SELECT count(*) FROM runs INDEXED BY runs_by_status WHERE status = 'running'"
    ).fetchone()
    counts["waiting"] = running - sum(counts.values())
    return {state: counts[state] for state in STATES if counts[state]}


def due_since(db: Connection, now: int, living: Sequence[str]) -> int | None:
    """Since when something can move that nobody drives, in nanoseconds; `None` if nothing."""
    sql = _DUE_SINCE.format(held=_HELD.format(living=":living"))
    values = {"now": now // MICROSECOND_NS, "living": json.dumps(list(living))}
    (found,) = db.execute(sql, values).fetchone()
    return None if found is None else int(found) * MICROSECOND_NS
