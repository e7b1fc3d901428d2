"""What people and scripts are shown of a run, made from its row and its history."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from belugawf.executor import (
    OPEN,
    STATUSES,
    ActivityState,
    OpenWait,
    Owner,
    Problem,
    RunId,
    RunInfo,
    Waiting,
)
from belugawf.executor.views import activity_states, waiting_for
from belugawf.local.file import ownership
from belugawf.local.store.damage import check_row, placeholder, reading
from belugawf.local.store.rows import OwnerRow, RunRow, WaitRow
from belugawf.local.store.store import Store
from belugawf.model.errors import DamagedError, Failure
from belugawf.model.history import OpenWork

PROVIDER = "default"
# Of so many last events the activities are shown, and those that are open.
_LATEST = 1_000
# How many open runs are remembered: who looks at one again reads only what is new.
_REMEMBERED = 64


class Viewer:
    """Makes `RunInfo` of rows. `is_alive` asks the kernel about an owner's id."""

    def __init__(self, store: Store, is_alive: Callable[[str], bool]) -> None:
        self._store = store
        self._is_alive = is_alive
        self._seen: dict[int, tuple[OpenWork, int]] = {}

    def run_info(self, row: RunRow, *, new_problem: bool = False) -> RunInfo:
        """The run as it is now. Raises `DamagedError`."""
        check_row(row)
        with reading(lambda: row.workflow_id):
            return self._run_info(row, new_problem)

    def listed(self, row: RunRow, *, new_problem: bool = False) -> RunInfo:
        """As `run_info`; a run that cannot be read has a problem, and hides no other."""
        try:
            return self.run_info(row, new_problem=new_problem)
        except DamagedError as error:
            return placeholder(row, error, PROVIDER)

    def _run_info(self, row: RunRow, new_problem: bool) -> RunInfo:
        if row.status not in STATUSES:
            raise ValueError("its status")
        work = self._open_work(row)
        return RunInfo(
            workflow_id=row.workflow_id,
            run_id=RunId(row.run_id),
            workflow=row.workflow,
            status=row.status,
            input=_loads(row.input),
            result=_loads(row.result),
            error=None if row.error is None else Failure.from_json(json.loads(row.error)),
            waiting_for=tuple(self._waiting_for(row, work)),
            problem=_problem(row.problem, new_problem),
            created_at=row.created_at,
            updated_at=row.updated_at,
            closed_at=row.closed_at,
            deadline=row.deadline,
            owner=self.owner(row) if row.status == "running" else None,
            provider=PROVIDER,
            labels=dict(json.loads(row.labels)),
            parent=row.parent_run_id,
            progress=_loads(row.progress),
            history_length=row.history_length,
            cancel_requested=work.cancel_requested,
            state=self._state(row),
        )

    def _state(self, row: RunRow) -> str | None:
        """See `RunInfo.state`."""
        if row.status != OPEN:
            return None
        if row.problem is not None:
            return "parked"
        if row.owner is not None and self._is_alive(row.owner):
            return "working"
        is_due = row.due_at is not None and row.due_at <= self._store.clock.now()
        return "due" if is_due or self._store.mail([row.key]) else "waiting"

    def _waiting_for(self, row: RunRow, work: OpenWork) -> Iterator[Waiting]:
        """What the run waits for; a signal that has been sent answers the first wait for it.

        A parked run does not wait for what has ended since.
        """
        unread = self._store.unread_signals(row.key) if work.waits else Counter[str]()
        ended = set() if row.problem is None else self._store.unread_ends(row.key)
        for wait in waiting_for(work):
            if wait.kind == "activity" and wait.seq in ended:
                continue
            answered = wait.kind == "signal" and unread[wait.name] > 0
            unread[wait.name] -= answered
            yield replace(wait, answered=True) if answered else wait

    def activities(self, row: RunRow) -> list[ActivityState]:
        """The run's latest activities, and all that are open. Raises `DamagedError`."""
        with reading(lambda: row.workflow_id):
            work = self._open_work(row)
            return activity_states(self._store.latest_events(row.key, _LATEST), work)

    def _open_work(self, row: RunRow) -> OpenWork:
        if row.status != "running":
            return OpenWork()
        seen = self._store.open_work(row.key, self._seen.pop(row.key, None))
        self._seen[row.key] = seen
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return seen[0]

    def owner(self, row: RunRow) -> Owner | None:
        """Who holds the run; a dead owner is said to be dead."""
        known = self._store.owner(row.owner)
        if known is None or row.owned_since is None:
            return None
        return self.process(known, since=row.owned_since)

    def process(self, known: OwnerRow, *, since: int | None = None) -> Owner:
        """A registered process, as the kernel sees it now."""
        alive = self._is_alive(known.id)
        return Owner(
            pid=known.pid,
            host=known.host,
            since=known.since if since is None else since,
            alive=alive,
            frozen=alive and ownership.is_frozen(known.pid),
        )


def open_wait(row: WaitRow) -> OpenWait:
    """A stored wait as `waiting` lists it."""
    return OpenWait(
        workflow_id=row.workflow_id,
        run_id=RunId(row.run_id),
        workflow=row.workflow,
        signal=row.signal,
        since=row.since,
        until=row.until,
        prompt=row.prompt,
        expected=row.expected,
    )


def _problem(text: str | None, new: bool) -> Problem | None:
    if text is None:
        return None
    data = json.loads(text)
    hint = data.get("hint")
    return Problem(
        code=str(data["code"]),
        message=str(data["message"]),
        hint=None if hint is None else str(hint),
        exit_code=int(data.get("exit_code", 13)),
        traceback=None if data.get("traceback") is None else str(data["traceback"]),
        new=new,
    )


def _loads(text: str | None) -> object:
    return None if text is None else json.loads(text)
