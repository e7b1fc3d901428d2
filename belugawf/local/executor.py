"""The `default` provider's executor: the callers' door to store and engine.

Entering opens the database and changes no run.
"""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from belugawf.executor.arguments import checks_arguments
from belugawf.executor.base import (
    DEFAULT_IDLE_WAIT,
    RESUME_IDLE_WAIT,
    nanoseconds,
)
from belugawf.executor.checks import check_payload, several_await
from belugawf.executor.handle import WorkflowHandle
from belugawf.executor.info import (
    ActivityState,
    Driver,
    LogFilters,
    LogLine,
    NewRun,
    Owner,
    RunId,
    RunInfo,
)
from belugawf.executor.options import EngineOptions
from belugawf.executor.protocol import IfExists
from belugawf.host.clock import Clock, SystemClock
from belugawf.local.drive.presence import Presence
from belugawf.local.driving import Driving
from belugawf.local.file import ownership
from belugawf.local.file.database import Database
from belugawf.local.file.writer import Writer
from belugawf.local.many import LocalMany
from belugawf.local.store.rows import RunRow
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.durations import MICROSECOND_NS, Duration
from belugawf.model.errors import (
    AmbiguousRunError,
    BusyError,
    RunNotFoundError,
    SignalNotAwaitedError,
)
from belugawf.model.messages import Hooks, Signal
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from belugawf.local.drive.engine import Engine

# After a read, the next one waits this many times as long as it took.
_READ_SHARE = 9
# How many runs and waits an error names.
_SHOWN = 20
# So long, in seconds, a retry waits for what is being stopped because its run has ended.
_STOPPING_S = 1.0


@frozen()
class _Snapshot:
    """A run as it was at one moment, and how long it took to read."""

    row: RunRow
    info: RunInfo
    took_s: float

    @property
    def recorded_input(self) -> str | None:
        """See `base.Snapshot`."""
        return self.row.input

    @property
    def timeout(self) -> timedelta | None:
        """See `base.Snapshot`."""
        row = self.row
        if row.deadline is None:
            return None
        return timedelta(microseconds=(row.deadline - row.created_at) // MICROSECOND_NS)


@checks_arguments
class LocalExecutor(LocalMany[_Snapshot]):
    """`DurableExecutor` on one SQLite file; use as `async with`. See `ExecutorBase`."""

    provider = "default"

    def __init__(
        self,
        db: Path,
        workflows: Path | Sequence[Callable[..., Any]] | None = None,
        *,
        options: EngineOptions | None = None,
        durability: Literal["full", "normal"] = "full",
        create: bool = True,
        hooks: Sequence[Hooks] = (),
        clock: Clock | None = None,
        own_process: bool = False,
        context: Context | None = None,
    ) -> None:
        super().__init__(
            workflows, options=options, hooks=hooks, own_process=own_process, context=context
        )
        self._clock = clock or SystemClock()
        self._path = db
        self._durability: Literal["full", "normal"] = durability
        self._create = create

    def __repr__(self) -> str:
        return f"LocalExecutor({str(self._path)!r})"

    async def __aenter__(self) -> LocalExecutor:
        self._enter()
        ownership.require_posix()
        database = Database(self._path, durability=self._durability, create=self._create)
        self._opened = Driving(Store(database, self._clock), self._clock, self._make_engine)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if not self._may_leave():
            return
        opened, self._opened = self._driving, None
        try:
            await opened.close(unwind=not self._own_process)
        finally:
            opened.store.database.close()

    @property
    def _engine(self) -> Engine | None:
        return None if self._opened is None else self._opened.engine

    # -- driving ---------------------------------------------------------------------------------

    def _make_engine(self, store: Store, lane: Writer, presence: Presence) -> Engine:
        from belugawf.local.drive.engine import Engine

        return Engine(
            store,
            lane,
            presence,
            lambda: self.catalog,
            self._options,
            self._clock,
            self._hooks,
            self._context,
            own_process=self._own_process,
        )

    async def _start(self, new: NewRun, if_exists: IfExists, detach: bool) -> tuple[str, str]:
        driving = self._driving
        store = driving.store
        if detach:
            row, created = await driving.lane.write(lambda: store.create(new, if_exists))
            if created is not None:
                driving.wake_workers(row.workflow)
        else:
            engine = await driving.begun()
            row = await engine.create(new, if_exists, nanoseconds(DEFAULT_IDLE_WAIT))
        return row.workflow_id, row.run_id

    async def resume(
        self,
        id: str | Sequence[str] | None = None,
        *,
        max_time: Duration | None = None,
        grace: Duration | None = None,
        workflow: str | None = None,
        patience: Duration = RESUME_IDLE_WAIT,
        dry_run: bool = False,
    ) -> list[RunInfo]:
        named = [id] if isinstance(id, str) else list(id or ())
        rows = [self._resolve(text) for text in named]
        rows = [row for row in rows if row.status == "running"]
        driving = self._driving
        if dry_run:
            if not named:
                now = self._clock.now()
                rows = self._store.candidates(now=now, limit=1_000_000, workflow=workflow)
            return [self._viewer.listed(row) for row in rows if driving.is_free(row)]
        if named and not rows:
            return []
        async with driving.resumed(
            [row.key for row in rows],
            max_time=max_time,
            grace=grace,
            workflow=workflow,
            patience=patience,
        ) as driven:
            return [
                self._viewer.listed(row, new_problem=driving.is_news(row.key))
                for row in self._store.by_keys(driven)
            ]

    async def work(self, *, concurrency: int | None = None, grace: Duration | None = None) -> None:
        if concurrency is not None and self._engine is None:
            self._options = self._options.with_concurrency(concurrency)
        await self._driving.work(list(self.catalog.workflows), grace)

    # -- messages --------------------------------------------------------------------------------

    async def _send(self, run: RunRow, message: Signal, payload: str) -> RunRow | None:
        store = self._store
        row, duplicate = await self._driving.lane.write(
            lambda: store.send(
                run.key,
                "signal",
                name=message.name,
                payload=payload,
                sender=message.sender,
                key=message.key,
                check=lambda waits: check_payload(message.name, payload, waits),
            )
        )
        return None if duplicate else row

    async def _awaiting(self, signal: str) -> RunRow:
        rows = self._store.runs_awaiting(signal, _SHOWN + 1)
        if len(rows) == 1:
            return rows[0]
        if rows:
            raise several_await(signal, [row.workflow_id for row in rows], most=_SHOWN)
        awaited = self._store.awaited_signals()
        hint = "no open run waits for a signal: belugawf status"
        if awaited:
            hint = f"awaited are: {', '.join(awaited)}"
        raise SignalNotAwaitedError(f"no open run waits for signal {signal!r}", hint=hint)

    async def cancel(
        self, run: str, reason: str | None = None, *, by: str | None = None, drive: bool = True
    ) -> RunInfo:
        row, store = self._resolve(run), self._store
        sent, _ = await self._driving.lane.write(
            lambda: store.send(row.key, "cancel", payload=reason, sender=by)
        )
        await self._move_on(sent, drive)
        return await self._listed(row)

    async def terminate(
        self, run: str, reason: str | None = None, *, by: str | None = None
    ) -> RunInfo:
        store, key = self._store, self._resolve(run).key
        row, owner = await self._driving.lane.write(lambda: store.terminate(key, reason, by))
        self._driving.wake(owner)
        return self._viewer.listed(row)

    async def retry(
        self,
        run: str,
        *,
        from_position: int | None = None,
        timeout: Duration | None = None,
        discard: bool = False,
        reason: str | None = None,
        by: str | None = None,
        drive: bool = True,
    ) -> RunInfo:
        driving, key = self._driving, self._resolve(run).key
        end = time.monotonic() + _STOPPING_S
        while True:
            try:
                row = await driving.lane.write(
                    lambda: driving.store.reopen(
                        key,
                        from_position,
                        timeout_ns=None if timeout is None else nanoseconds(timeout),
                        discard=discard,
                        reason=reason,
                        sender=by,
                        is_alive=driving.is_alive,
                    )
                )
                break
            except BusyError:
                if time.monotonic() >= end:
                    raise
                await driving.pause(1.0)
        await self._move_on(row, drive)
        return await self._listed(row)

    async def _move_on(self, run: RunRow, drive: bool) -> Owner | None:
        driver = self._driving.wake_driver(run)
        if driver.owner is None and drive and self._knows(run.workflow):
            (await self._driving.begun()).want(run.key, nanoseconds(DEFAULT_IDLE_WAIT))
        return driver.owner

    async def workers(self, workflow: str | None = None) -> Sequence[Owner]:
        """See `DurableExecutor.workers`; this process is not among them."""
        return [self._viewer.process(row) for row in self._driving.workers(workflow)]

    def _knows(self, workflow: str) -> bool:
        """Whether the run could be driven here; a module that does not import is said later."""
        catalog = self.catalog
        return (
            workflow in catalog.workflows
            or bool(catalog.problems)
            or isinstance(self._workflows, Path)
        )

    # -- looking ---------------------------------------------------------------------------------

    async def _read(self, run: RunRow) -> _Snapshot:
        began = time.monotonic()
        row = self._store.by_key(run.key)
        info = self._viewer.run_info(row, new_problem=self._driving.is_news(row.key))
        return _Snapshot(row, info, time.monotonic() - began)

    async def _listed(self, run: RunRow) -> RunInfo:
        return self._viewer.listed(self._store.by_key(run.key))

    async def _at_rest(self, snapshot: _Snapshot, idle_wait_ns: int) -> RunInfo | None:
        if self._driving.goes_on(snapshot.row, snapshot.info, idle_wait_ns):
            return None
        return (await self._read(snapshot.row)).info

    async def _driver(self, run: RunRow) -> Driver:
        return self._driving.driver(self._store.by_key(run.key))

    async def _ended(self, run: RunRow) -> RunInfo:
        return self._viewer.run_info(
            await self._driving.ended(run, lambda name: name in self.catalog.workflows)
        )

    async def _pause(self, snapshot: _Snapshot, longest_s: float) -> None:
        # Each read is of the whole history: a long one must not keep its own run from moving.
        await asyncio.sleep(snapshot.took_s * _READ_SHARE)
        await self._driving.pause(longest_s)

    async def _ask(self, run: RunRow, query: str, args: Sequence[Any]) -> Any:
        from belugawf.local.querying import ask

        definition = self.catalog.workflow(run.workflow)
        history = self._store.sound_history(run.key)
        return ask(definition, history, query, args, self._options, self._context)

    def handle(self, run: str) -> WorkflowHandle:
        row = self._resolve(run)
        return WorkflowHandle(self, row.workflow_id, RunId(row.run_id))

    async def activities(self, run: str) -> list[ActivityState]:
        row = self._resolve(run)
        return self._viewer.activities(row)

    async def history(self, run: str, *, after: int | None = None) -> Sequence[e.Event]:
        row = self._resolve(run)
        store = self._store
        return store.history(row.key, after) if after else store.sound_history(row.key)

    async def logs(self, run: str, **filters: Unpack[LogFilters]) -> Sequence[LogLine]:
        return self._store.logs(self._resolve(run), **filters)

    # -- finding runs ----------------------------------------------------------------------------

    async def _find(self, text: str) -> RunRow:
        return self._resolve(text)

    def _resolve(self, text: str) -> RunRow:
        rows = self._store.find(text)
        if len(rows) == 1:
            return rows[0]
        if rows:
            names = [row.workflow_id for row in rows]
            raise AmbiguousRunError(
                f"{text!r} may be {len(rows)} runs: {', '.join(names)}",
                names,
                hint="type more of its name, or all of its run id",
            )
        near = difflib.get_close_matches(text, self._store.recent_ids(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see what there is: belugawf list"
        raise RunNotFoundError(f"there is no run {text!r}", hint=hint)
