"""Which runs a caller asks for, and what `status` shows of all of them.

The server finds runs by what it keeps of them. What an open run is doing is not part of that: it is
read of each, newest first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Unpack

from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from belugawf.executor.base import nanoseconds
from belugawf.executor.info import OPEN, OpenWait, RunFilters, Summary
from belugawf.model.durations import format_instant
from belugawf.temporal.server import QUERY_WORDS, RunName, Server, quoted
from belugawf.temporal.snapshots import SnapshotReader, labels_of, open_waits

# How many runs and waits a summary names.
_SHOWN = 20
# So many of the open runs are looked at for what they are doing, so many at once.
_LOOKED_AT = 1_000
_AT_ONCE = 50


async def find(
    server: Server,
    reader: SnapshotReader,
    limit: int | None,
    *,
    awaiting: str | None = None,
    **filters: Unpack[RunFilters],
) -> Sequence[RunName]:
    """The newest runs that pass the filters; `limit=None` is all of them. See `executor.select`.

    Those of a state are among the newest open ones.
    """
    unknown = filters.keys() - RunFilters.__annotations__.keys()
    if unknown:  # Python checks no names behind `**`, and more runs than were meant would be found
        raise TypeError(f"there is no filter {min(unknown)!r}")
    state, status = filters.get("state"), filters.get("status")
    if state is None:
        return await _newest(server, limit, awaiting, filters)
    if status not in (None, OPEN):
        return []
    filters["status"] = OPEN
    runs = await _newest(server, _LOOKED_AT, awaiting, filters)
    found: list[RunName] = []
    for at in range(0, len(runs), _AT_ONCE):
        snapshots = await reader.read_many(runs[at : at + _AT_ONCE])
        found += [snapshot.run for snapshot in snapshots if snapshot.info.state == state]
        if limit is not None and len(found) >= limit:
            break
    return found[:limit]


async def _newest(
    server: Server, limit: int | None, awaiting: str | None, filters: RunFilters
) -> Sequence[RunName]:
    status, workflow = filters.get("status"), filters.get("workflow")
    labels = (filters.get("labels") or {}).items()
    conditions = []
    if status is not None:
        conditions.append(f"ExecutionStatus = {quoted(QUERY_WORDS.get(status, status))}")
    if workflow is not None:
        conditions.append(f"WorkflowType = {quoted(workflow)}")
    for sign, duration in ((">=", filters.get("since")), ("<", filters.get("until"))):
        if duration is not None:
            moment = time.time_ns() - nanoseconds(duration)
            conditions.append(f"StartTime {sign} '{format_instant(moment)}'")

    def is_wanted(info: WorkflowExecutionInfo) -> bool:
        awaits = awaiting is None or any(w.signal == awaiting for w in open_waits(info))
        return awaits and labels <= labels_of(info).items()

    found = await server.newest(" AND ".join(conditions), limit=limit, wanted=is_wanted)
    return [RunName.of(info) for info in found]


async def summary(server: Server, reader: SnapshotReader) -> Summary:
    """What `status` shows of all runs."""
    waits: list[OpenWait] = []
    open_runs: list[RunName] = []
    async for info in server.list("ExecutionStatus = 'Running'"):
        waits.extend(open_waits(info))
        open_runs.append(RunName.of(info))
    waits.sort(key=lambda wait: wait.since)
    infos = [snapshot.info for snapshot in await reader.read_many(open_runs[:_SHOWN])]
    due = [wait.until for found in infos for wait in found.waiting_for if wait.until is not None]
    states: dict[str, int] = {}
    for state in (found.state for found in infos if len(open_runs) <= _SHOWN):
        if state is not None:
            states[state] = states.get(state, 0) + 1
    return Summary(
        counts=await server.counts(),
        waits=waits[:_SHOWN],
        waits_total=len(waits),
        next_due_at=min(due, default=None),
        attention=[found for found in infos if found.problem is not None],
        states=states,
    )
