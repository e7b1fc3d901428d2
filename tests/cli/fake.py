"""An executor in memory whose runs are written down by the test, for what the CLI prints."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Unpack

from belugawf.executor import (
    UNSET,
    ActivityState,
    Delivery,
    Driver,
    LogLine,
    OpenWait,
    Owner,
    Pruned,
    RunInfo,
    Summary,
    Waiting,
)
from belugawf.executor.info import LogFilters
from belugawf.model import events as ev
from belugawf.model.endings import WaitExpiredError
from belugawf.model.errors import (
    AlreadyExistsError,
    AmbiguousRunError,
    BelugaError,
    QueryNotFoundError,
    RunEndedError,
    RunNotFoundError,
    SignalNotAwaitedError,
    WorkflowNotFoundError,
)

SECOND_NS = 1_000_000_000
START = 1_800_000_000 * SECOND_NS


def run_info(workflow_id: str, **changes: Any) -> RunInfo:
    """A running run, with these fields changed."""
    base = RunInfo(
        workflow_id=workflow_id,
        run_id=f"run-of-{workflow_id}",
        workflow="research",
        status="running",
        input="Q4",
        result=None,
        error=None,
        waiting_for=(),
        problem=None,
        created_at=START,
        updated_at=START,
        closed_at=None,
        deadline=None,
        owner=None,
        provider="default",
        labels={},
        parent=None,
        progress=None,
        history_length=1,
    )
    if changes.get("status", "running") != "running":
        changes.setdefault("closed_at", START + SECOND_NS)
    return replace(base, **changes)


def signal_wait(name: str = "approval", **changes: Any) -> Waiting:
    """An open wait for a signal."""
    return replace(Waiting(kind="signal", name=name, since=START), **changes)


class FakeDefinition:
    """A workflow with one parameter that takes text as it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.doc = f"What {name} does."
        self.location = f"/project/workflows/{name}.py:3"
        self.timeout: timedelta | None = None
        self.function = run_info
        self.parameters = [
            SimpleNamespace(name="topic", annotation_text="str", required=True, default_text=None)
        ]

    def encode_input(self, value: Any, **_: Any) -> str | None:
        return None if value is UNSET else json.dumps(value)

    def parse_input(self, text: str) -> str:
        return text

    def parse_arguments(self, pairs: Mapping[str, str]) -> Any:
        return dict(pairs)


@dataclass
class FakeCatalog:
    """Workflows by name, and problems."""

    workflows: dict[str, Any] = field(default_factory=dict)
    problems: list[Any] = field(default_factory=list)

    def check_activity(self, name: str) -> None: ...

    def workflow(self, name: str) -> Any:
        if name not in self.workflows:
            raise WorkflowNotFoundError(f"there is no workflow {name!r}", hint="did you mean it?")
        return self.workflows[name]


class FakeExecutor:
    """What a test says is there. `on_drive` is called when a run is driven, and changes it."""

    provider = "default"

    def __init__(self, *runs: RunInfo) -> None:
        self.runs: dict[str, RunInfo] = {info.run_id: info for info in runs}
        self.catalog: Any = FakeCatalog({"research": FakeDefinition("research")})
        self.events: dict[str, list[ev.Event]] = {}
        self.lines: dict[str, list[LogLine]] = {}
        self.states: dict[str, list[ActivityState]] = {}
        self.answers: dict[str, Any] = {}
        self.due: list[str] = []
        self.calls: list[tuple[str, Any]] = []
        self.on_drive: Callable[[FakeExecutor, str], Any] | None = None
        self.started_as: dict[str, Any] = {}
        self.error: BelugaError | None = None
        self.expires = False
        self.next_due_at: int | None = None
        self.driven_by: Any = None

    async def __aenter__(self) -> FakeExecutor:
        if self.error is not None:
            raise self.error
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    def change(self, run_id: str, **changes: Any) -> None:
        self.runs[run_id] = replace(self.runs[run_id], **changes)

    async def _drive(self, run_id: str) -> None:
        if self.on_drive is not None:
            outcome = self.on_drive(self, run_id)
            if inspect.isawaitable(outcome):
                await outcome

    def _find(self, run: str) -> RunInfo:
        if run == "@latest" and self.runs:
            return list(self.runs.values())[-1]
        exact = [i for i in self.runs.values() if run in (i.workflow_id, i.run_id)]
        if exact:
            return exact[-1]
        found = [i for i in self.runs.values() if len(run) >= 4 and i.workflow_id.startswith(run)]
        if len(found) > 1:
            raise AmbiguousRunError(f"{run!r} matches", [i.workflow_id for i in found])
        if not found:
            raise RunNotFoundError(f"there is no run {run!r}", hint="see belugawf list")
        return found[0]

    async def execute(
        self,
        workflow: str,
        *,
        id: str | None = None,
        input: Any = UNSET,
        timeout: Any = None,
        if_exists: str = "fail",
        labels: Mapping[str, str] | None = None,
        detach: bool = False,
    ) -> Any:
        name = id or "generated-id"
        if any(info.workflow_id == name for info in self.runs.values()) and if_exists == "fail":
            raise AlreadyExistsError(f"a run {name!r} exists", hint="--if-exists skip shows it")
        self.calls.append(
            ("execute", {"workflow": workflow, "input": input, "timeout": timeout, "id": id})
        )
        info = run_info(name, **{"labels": dict(labels or {}), **self.started_as})
        self.runs[info.run_id] = info

        async def describe() -> RunInfo:
            return self.runs[info.run_id]

        return SimpleNamespace(id=name, run_id=info.run_id, describe=describe)

    async def wait(
        self, run: str, *, until: str = "done", max_wait: Any = None, patience: Any = 60
    ) -> RunInfo:
        self.calls.append(("wait", {"run": run, "until": until, "max_wait": max_wait}))
        await self._drive(self._find(run).run_id)
        if self.expires:
            raise WaitExpiredError(f"run {run} has not ended", hint="it goes on")
        return self._find(run)

    async def signal(self, run: str | None, signal: Any, *, drive: bool = True) -> Delivery:
        self.calls.append(("signal", {"run": run, "signal": signal, "drive": drive}))
        waiting = [
            i for i in self.runs.values() if any(w.name == signal.name for w in i.waiting_for)
        ]
        if run is not None:
            target = self._find(run)
        elif not waiting:
            raise SignalNotAwaitedError(f"no run waits for signal {signal.name!r}")
        elif len(waiting) > 1:
            raise AmbiguousRunError("several runs wait", [i.workflow_id for i in waiting])
        else:
            target = waiting[0]
        if not target.open:
            raise RunEndedError(f"run {target.workflow_id} has ended")
        return Delivery(run=target, driven_by=self.driven_by)

    async def query(self, run: str, name: str, *args: Any) -> Any:
        self._find(run)
        self.calls.append(("query", args))
        if name not in self.answers:
            raise QueryNotFoundError(f"there is no query {name!r}")
        return self.answers[name]

    async def cancel(
        self, run: str, reason: str | None = None, *, by: str | None = None, drive: bool = True
    ) -> RunInfo:
        info = self._find(run)
        if not info.open:
            raise RunEndedError(f"run {info.workflow_id} has ended")
        self.calls.append(("cancel", {"run": run, "reason": reason}))
        return info

    async def terminate(
        self, run: str, reason: str | None = None, *, by: str | None = None
    ) -> RunInfo:
        info = self._find(run)
        if not info.open:
            raise RunEndedError(f"run {info.workflow_id} has ended")
        self.change(info.run_id, status="terminated", closed_at=START)
        return self.runs[info.run_id]

    async def resume(
        self,
        id: Sequence[str] | None = None,
        *,
        max_time: Any = None,
        grace: Any = None,
        workflow: str | None = None,
        patience: Any = 5,
        dry_run: bool = False,
    ) -> list[RunInfo]:
        self.calls.append(("resume", {"id": id, "max_time": max_time, "dry_run": dry_run}))
        due = self.due
        if id is not None:
            due = [info.run_id for info in map(self._find, id) if info.open]
        if not dry_run:
            for run_id in due:
                await self._drive(run_id)
        return [self.runs[run_id] for run_id in due]

    async def work(self, *, concurrency: int | None = None, grace: Any = None) -> None:
        self.calls.append(("work", {"concurrency": concurrency}))

    async def workers(self, workflow: str | None = None) -> Sequence[Owner]:
        return ()

    async def driver_of(self, run: str) -> Driver:
        owner = self._find(run).owner
        if owner is not None:
            return Driver("process", owner)
        return Driver("us") if self.driven_by is None else Driver("worker", self.driven_by)

    def in_flight(self) -> int:
        return sum(s.state == "running" for states in self.states.values() for s in states)

    def interrupt(self) -> None:
        self.calls.append(("interrupt", None))

    async def describe(self, run: str) -> RunInfo:
        return self._find(run)

    async def activities(self, run: str) -> list[ActivityState]:
        return self.states.get(self._find(run).run_id, [])

    async def list(
        self,
        *,
        status: str | None = None,
        state: str | None = None,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: Any = None,
        until: Any = None,
        limit: int | None = 20,
    ) -> Sequence[RunInfo]:
        found = [
            info
            for info in reversed(self.runs.values())
            if status in (None, info.status)
            and state in (None, info.state)
            and workflow in (None, info.workflow)
        ]
        return found[:limit]

    async def select(self, *, awaiting: str | None = None, **filters: Any) -> Sequence[str]:
        if awaiting is not None:
            return [wait.run_id for wait in await self.waiting(signal=awaiting)]
        return [info.run_id for info in await self.list(**filters, limit=None)]

    async def count(self, *, limit: int, **filters: Any) -> int:
        return len(await self.list(**filters, limit=limit))

    async def waiting(
        self, *, signal: str | None = None, since: Any = None, limit: int | None = None
    ) -> Sequence[OpenWait]:
        found = [
            OpenWait(
                workflow_id=info.workflow_id,
                run_id=info.run_id,
                workflow=info.workflow,
                signal=wait.name,
                since=wait.since,
                until=wait.until,
                prompt=wait.prompt,
                expected=wait.expected,
            )
            for info in self.runs.values()
            for wait in info.waiting_for
            if wait.kind == "signal" and info.open and signal in (None, wait.name)
            if not wait.answered
        ]
        return found[:limit]

    async def summary(self) -> Summary:
        counts: dict[str, int] = {}
        for info in self.runs.values():
            counts[info.status] = counts.get(info.status, 0) + 1
        waits = await self.waiting()
        return Summary(
            counts=counts,
            waits=waits[:20],
            waits_total=len(waits),
            next_due_at=self.next_due_at,
            attention=[i for i in self.runs.values() if i.problem][:20],
            attention_total=sum(1 for i in self.runs.values() if i.problem),
        )

    async def attention(self) -> Sequence[RunInfo]:
        return (await self.summary()).attention

    async def prune(
        self,
        *,
        older_than: Any,
        status: str | None = None,
        workflow: str | None = None,
        dry_run: bool = False,
        vacuum: bool = False,
        **filters: Any,
    ) -> Pruned:
        ended = [i for i in self.runs.values() if not i.open and status in (None, i.status)]
        if not dry_run:
            self.calls.append(("prune", {"older_than": older_than, "vacuum": vacuum}))
            for info in ended:
                del self.runs[info.run_id]
        events = sum(info.history_length for info in ended)
        return Pruned(
            runs=len(ended), events=events, dry_run=dry_run, file_bytes=2_000_000, free_bytes=81_920
        )

    async def history(self, run: str, *, after: int | None = None) -> Sequence[ev.Event]:
        events = self.events.get(self._find(run).run_id, [])
        return [event for event in events if event.position > (after or 0)]

    async def logs(self, run: str, **filters: Unpack[LogFilters]) -> Sequence[LogLine]:
        activity = filters.get("activity")
        lines = self.lines.get(self._find(run).run_id, [])
        return [line for line in lines if activity is None or line.activity == activity]


def soon(seconds: float) -> int:
    """An instant so many seconds from now."""
    return time.time_ns() // SECOND_NS * SECOND_NS + int(seconds * SECOND_NS)
