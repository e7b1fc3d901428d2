"""The `default` provider's executor: the callers' door to store and engine.

Entering opens the database and changes no run. The engine, and with it our presence as an owner,
comes into being when there is something to drive.
"""

from __future__ import annotations

import asyncio
import difflib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from contextvars import Context
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from belugawf import __version__
from belugawf.authoring.loader import Catalog
from belugawf.checks import (
    check_payload,
    checked_id,
    checked_labels,
    condition,
    outcome_error,
)
from belugawf.executor import (
    ActivityState,
    Delivery,
    Hooks,
    IfExists,
    OpenWait,
    Owner,
    Pruned,
    RunId,
    RunInfo,
    Summary,
)
from belugawf.handle import RunHandle
from belugawf.host.clock import Clock, SystemClock
from belugawf.local import ownership
from belugawf.local.damage import damaged, reading
from belugawf.local.database import Database
from belugawf.local.options import EngineOptions
from belugawf.local.presence import Presence, wake_owner
from belugawf.local.rows import NewRun, OwnerRow, RunRow, WaitRow
from belugawf.local.store import Store
from belugawf.local.view import Viewer, open_wait
from belugawf.local.writer import Writer
from belugawf.model import codec
from belugawf.model import events as e
from belugawf.model.durations import Duration, duration_ns, format_instant, parse_duration
from belugawf.model.errors import (
    AmbiguousRunError,
    BelugaError,
    BusyError,
    NotFinishedError,
    RunNotFoundError,
    SignalNotAwaitedError,
    UsageError,
    WaitExpiredError,
)
from belugawf.model.history import python_version
from belugawf.model.messages import UNSET, Signal
from belugawf.model.shell import command_line
from belugawf.model.soundness import UNREADABLE, check_history
from belugawf.views import activity_states

if TYPE_CHECKING:
    from belugawf.blocking import BlockingExecutor
    from belugawf.local.engine import Engine

# How often a run that another process drives is looked at, in seconds.
_POLL_S = 0.05
# How long a run that this executor has started or signalled is followed through its waits.
DEFAULT_PATIENCE = 60.0
# How many times as long as a look takes the next one is not taken.
_LOOK_SHARE = 9
# How many runs and waits a summary or an error names.
_SHOWN = 20
RESUME_PATIENCE = 5.0


# Kept from the garbage collector, which would close suspended coroutines: see `own_process`.
_LEFT_BEHIND: list[Engine] = []


class LocalExecutor:
    """`DurableExecutor` on one SQLite file; use as `async with`.

    `own_process`: the process is the command line's, and ends by `os._exit` right after this
    executor was left. Then runs in memory are left as they are, and not even a `finally` block of
    theirs runs. And what may take the process down runs in one of its own (`host/suspects.py`).
    `context`: what runs and activities begin in a copy of; by default it is empty.
    """

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
        self._context = Context() if context is None else context
        self._own_process = own_process
        self._path = db
        self._workflows = workflows
        self._options = options or EngineOptions()
        self._durability: Literal["full", "normal"] = durability
        self._create = create
        self._hooks = hooks
        self._clock = clock or SystemClock()
        self._database: Database | None = None
        self._opened_store: Store | None = None
        self._opened_viewer: Viewer | None = None
        self._presence: Presence | None = None
        self._engine: Engine | None = None
        self._interrupts = 0

    def __repr__(self) -> str:
        return f"LocalExecutor({str(self._path)!r})"

    async def __aenter__(self) -> LocalExecutor:
        ownership.require_posix()
        self._database = Database(self._path, durability=self._durability, create=self._create)
        self._opened_store = Store(self._database, self._clock)
        self._lane = Writer(self._database)
        self._beginning = asyncio.Lock()
        self._leaving = ExitStack()
        return self

    async def __aexit__(self, *exc: object) -> None:
        async with self._beginning:  # what says that we are here is not written any more after this
            engine, presence, database = self._engine, self._presence, self._database
            self._engine = self._presence = self._database = None
            self._opened_store = self._opened_viewer = None
        keeping: list[int] = []
        try:
            if engine is not None:
                await engine.close()
        finally:
            if engine is not None:
                keeping = engine.lingering()
                if self._own_process:
                    _LEFT_BEHIND.append(engine)
                else:
                    engine.evict_all()
            try:
                if presence is not None:
                    await presence.close(self._lane, keeping)
            finally:
                if engine is not None and presence is not None and keeping:
                    engine.when_over(presence.free)
                self._leaving.close()
                self._lane.close()
                if database is not None:
                    database.close()

    def sync(self) -> BlockingExecutor:
        """This executor for scripts without asyncio; use as `with`."""
        from belugawf.blocking import BlockingExecutor

        return BlockingExecutor(self)

    @cached_property
    def catalog(self) -> Catalog:
        """The workflow modules; the first use imports them."""
        if isinstance(self._workflows, Path):
            from belugawf.host.border import interrupts, is_interrupt

            # Runs and attempts begin in copies of the context in which their modules are imported.
            with interrupts():
                return self._context.run(Catalog.from_folder, self._workflows, is_interrupt)
        return Catalog.from_functions(self._workflows or ())

    # -- starting and driving --------------------------------------------------------------------

    async def execute(
        self,
        workflow: Callable[..., Any] | str,
        *,
        id: str | None = None,
        input: Any = UNSET,
        timeout: Duration | None = None,
        if_exists: IfExists = "fail",
        labels: Mapping[str, str] | None = None,
        detach: bool = False,
    ) -> RunHandle:
        """See `DurableExecutor.execute`."""
        definition = self.catalog.definition(workflow)
        limit = definition.timeout if timeout is None else parse_duration(timeout)
        run_id = str(uuid.uuid4())
        engine = None if detach else await self._driving()
        new = NewRun(
            run_id=run_id,
            workflow_id=checked_id(id) if id is not None else f"{definition.name}-{run_id[:8]}",
            workflow=definition.name,
            input=definition.encode_input(input, limit=self._options.payload_limit),
            timeout_ns=None if limit is None else duration_ns(limit),
            labels=checked_labels(labels or {}),
            python=python_version(),
            belugawf=__version__,
            owner=None if engine is None else self._own_id,
        )
        if if_exists not in ("fail", "skip", "replace"):
            raise UsageError(f"if_exists is {if_exists!r}", hint="use fail, skip or replace")
        if engine is not None:
            row = await engine.create(new, if_exists, _patience(DEFAULT_PATIENCE))
        else:
            store = self._store
            row, created = await self._lane.write(lambda: store.create(new, if_exists))
            if created is not None:
                self._wake_workers(row.workflow)
        return RunHandle(self, row.workflow_id, RunId(row.run_id))

    async def resume(
        self,
        id: str | Sequence[str] | None = None,
        *,
        max_time: Duration | None = None,
        grace: Duration | None = None,
        workflow: str | None = None,
        patience: Duration = RESUME_PATIENCE,
        dry_run: bool = False,
    ) -> list[RunInfo]:
        """See `DurableExecutor.resume`."""
        named = [id] if isinstance(id, str) else list(id or ())
        rows = [self._resolve(text) for text in named]
        rows = [row for row in rows if row.status == "running"]
        if dry_run:
            found = (
                [row for row in rows if self._is_free(row)] if named else self._movable(workflow)
            )
            return [self._viewer.listed(row) for row in found]
        if named and not rows:
            return []
        return await self._resume(rows, bool(named), max_time, grace, workflow, patience)

    async def _resume(
        self,
        rows: Sequence[RunRow],
        named: bool,
        max_time: Duration | None,
        grace: Duration | None,
        workflow: str | None,
        patience: Duration,
    ) -> list[RunInfo]:
        engine = await self._driving()
        driven = {row.key for row in rows} if named else set(engine.driven)
        asked = [row.key for row in rows if not engine.follows(row.key)]
        if named:
            for row in rows:
                engine.want(row.key, _patience(patience))
        else:
            engine.want_everything(_patience(patience), workflow=workflow)

        def done() -> bool:
            if not named:
                return engine.idle
            return not any(engine.drives(key) for key in driven)

        try:
            with nullcontext() if named else engine.touched.into(driven):
                await self._drive_until(engine, done, max_time, grace)
        except asyncio.CancelledError:
            engine.go_on(done)
            raise
        finally:
            if named:
                engine.forget_wishes(asked)
            else:
                engine.forget_everything(workflow)
        infos = [
            self._viewer.listed(row, new_problem=engine.is_news(row.key))
            for row in self._store.by_keys(driven)
        ]
        if not self._interrupts:
            await engine.pause(done)
        return infos

    def _movable(self, workflow: str | None) -> list[RunRow]:
        rows = self._store.candidates(
            now=self._clock.now(), limit=1_000_000, excluding=(), workflow=workflow
        )
        return [row for row in rows if self._is_free(row)]

    def _is_free(self, row: RunRow) -> bool:
        return row.owner is None or not self._is_alive(row.owner)

    async def work(self, *, concurrency: int | None = None, grace: Duration | None = None) -> None:
        """See `DurableExecutor.work`."""
        if concurrency is not None and self._engine is None:
            self._options = self._options.with_concurrency(concurrency)
        engine = await self._driving()
        here, names = self._presence, list(self.catalog.workflows)
        assert here is not None
        await self._lane.write(lambda: here.announce("worker", names))
        engine.want_everything(_patience(RESUME_PATIENCE), persistent=True)
        try:
            await self._drive_until(engine, lambda: False, None, grace)
        finally:
            # Where the executor was left meanwhile, there is nothing to say.
            if engine.stop_working() and self._presence is not None:
                await self._lane.write(lambda: here.announce("guest", ()))

    async def _drive_until(
        self,
        engine: Engine,
        done: Callable[[], bool],
        max_time: Duration | None,
        grace: Duration | None,
    ) -> None:
        """Until it is done; or, stopped in its name or by an interrupt for good, drained."""
        end = None if max_time is None else self._clock.now() + _patience(max_time)
        cut_at: int | None = None
        stopped = False
        while not done():
            now = self._clock.now()
            if not stopped and (self._interrupts or (end is not None and now >= end)):
                stopped = True
                engine.stop_starting(None if self._interrupts else done)
                cut_at = None if grace is None else now + _patience(grace)
            if stopped and (self._interrupts > 1 or (cut_at is not None and now >= cut_at)):
                engine.cut()
                cut_at = None  # once: what is cut is over as soon as it is recorded
            if stopped and engine.drained:
                return
            await engine.changed(_until(now, end if not stopped else cut_at))

    def drives(self, run: str) -> bool:
        """See `DurableExecutor.drives`."""
        return self._engine is not None and self._engine.drives(self._resolve(run).key)

    def interrupt(self) -> None:
        """See `DurableExecutor.interrupt`."""
        self._interrupts += 1
        if self._engine is not None:
            self._engine.interrupt()
            if self._interrupts > 1:
                self._engine.cut()
            self._engine.look()

    def in_flight(self) -> int:
        """How many attempts of activities are running in this process."""
        return 0 if self._engine is None else self._engine.in_flight()

    async def _driving(self) -> Engine:
        """The engine, made when there is something to drive. Raises why it ended, if it did."""
        if self._engine is None:
            async with self._beginning:
                await self._begin()
        assert self._engine is not None
        self._engine.check()
        return self._engine

    async def _begin(self) -> None:
        if self._engine is None:
            # Imported only by who drives: looking and sending are to start fast.
            from belugawf.host.border import interrupts
            from belugawf.local.engine import Engine

            presence = Presence(self._store, self._store.database.folder, self._clock)
            await presence.register(self._lane)
            self._presence = presence
            self._engine = Engine(
                self._store,
                self._lane,
                self._presence,
                lambda: self.catalog,
                self._options,
                self._clock,
                self._hooks,
                self._context,
                own_process=self._own_process,
            )
            self._leaving.enter_context(interrupts())
            self._engine.start()

    # -- messages --------------------------------------------------------------------------------

    async def signal(
        self,
        run: str | None,
        signal: Signal | str,
        payload: Any = None,
        *,
        drive: bool = True,
    ) -> Delivery:
        """See `DurableExecutor.signal`."""
        message = Signal(signal, payload) if isinstance(signal, str) else signal
        if not message.name:
            raise UsageError("a signal needs a name", hint="name what the run waits for")
        row = self._awaiting(message.name) if run is None else self._resolve(run)
        text = codec.encode(message.payload, what="payload", limit=self._options.payload_limit)

        def check(waits: Sequence[WaitRow]) -> None:
            try:
                check_payload(message.name, text, waits)
            except BelugaError:
                raise
            except UNREADABLE as error:
                raise damaged(row.workflow_id, error) from error

        store = self._store
        sent, owner, duplicate = await self._lane.write(
            lambda: store.send(
                row.key,
                "signal",
                name=message.name,
                payload=text,
                sender=message.sender,
                key=message.key,
                check=check,
            )
        )
        driven_by = None if duplicate else await self._move_on(sent, owner, drive)
        info = self._viewer.listed(self._store.by_key(row.key))
        return Delivery(run=info, duplicate=duplicate, driven_by=driven_by)

    def _awaiting(self, name: str) -> RunRow:
        rows = self._store.runs_awaiting(name, _SHOWN + 1)
        if len(rows) == 1:
            return rows[0]
        if rows:
            ids = list(dict.fromkeys(row.workflow_id for row in rows[:_SHOWN]))
            count, more = str(len(rows)), ""
            if len(rows) > _SHOWN:
                count, more = f"more than {_SHOWN}", " and others"
            raise AmbiguousRunError(
                f"{count} runs wait for signal {name!r}: {', '.join(ids)}{more}",
                ids,
                hint=f"say which: {command_line('signal', name)} RUN",
            )
        awaited = self._store.awaited_signals()
        hint = "no open run waits for a signal: belugawf status"
        if awaited:
            hint = f"awaited are: {', '.join(awaited)}"
        raise SignalNotAwaitedError(f"no open run waits for signal {name!r}", hint=hint)

    async def cancel(self, run: str, reason: str | None = None, *, drive: bool = True) -> RunInfo:
        """See `DurableExecutor.cancel`."""
        row = self._resolve(run)
        store = self._store
        sent, owner, _ = await self._lane.write(
            lambda: store.send(row.key, "cancel", payload=reason)
        )
        await self._move_on(sent, owner, drive)
        return self._viewer.listed(self._store.by_key(row.key))

    async def terminate(self, run: str, reason: str | None = None) -> RunInfo:
        """See `DurableExecutor.terminate`."""
        store, key = self._store, self._resolve(run).key
        row, owner = await self._lane.write(lambda: store.terminate(key, reason, None))
        wake_owner(owner)
        if self._engine is not None:
            self._engine.look()
        return self._viewer.listed(row)

    async def _move_on(self, row: RunRow, owner: OwnerRow | None, drive: bool) -> Owner | None:
        """Somebody moves the run on: its live owner, a worker, or we; who that is, if not we."""
        ours = self._presence is not None and row.owner == self._presence.id
        if not ours:
            if owner is not None and self._is_alive(owner.id):
                wake_owner(owner)
                return self._viewer.process(owner)
            workers = self._wake_workers(row.workflow)
            # A run with a problem was refused, perhaps by those workers: they may not try again.
            if workers and row.problem is None:
                return self._viewer.process(workers[0])
        if drive and (ours or self._knows(row.workflow)):
            engine = await self._driving()
            engine.want(row.key, _patience(DEFAULT_PATIENCE))
        return None

    def _workers(self, workflow: str) -> list[OwnerRow]:
        """The live workers, we not among them, that know the workflow."""
        return [
            owner
            for owner in self._store.owners()
            if owner.role == "worker"
            and workflow in owner.workflows
            and owner.id != self._own_id
            and self._is_alive(owner.id)
        ]

    def _wake_workers(self, workflow: str) -> list[OwnerRow]:
        """Wake the workers that know the workflow."""
        workers = self._workers(workflow)
        for worker in workers:
            wake_owner(worker)
        return workers

    @property
    def _own_id(self) -> str | None:
        return None if self._presence is None else self._presence.id

    def _knows(self, workflow: str) -> bool:
        """Whether the run could be driven here; a module that does not import is said later."""
        if self._workflows is None:
            return False
        return (
            workflow in self.catalog.workflows
            or bool(self.catalog.problems)
            or isinstance(self._workflows, Path)
        )

    # -- questions -------------------------------------------------------------------------------

    async def query(self, run: str, name: str, *args: Any) -> Any:
        """See `DurableExecutor.query`."""
        from belugawf.authoring.context import BUILT_IN_QUERIES

        row = self._resolve(run)
        if name in BUILT_IN_QUERIES:
            return self._built_in(row, name)
        from belugawf.local.querying import ask

        definition = self.catalog.workflow(row.workflow)
        return ask(definition, self._sound_history(row), name, args, self._options, self._context)

    def _built_in(self, row: RunRow, name: str) -> Any:
        info = self._viewer.run_info(row)
        if name == "status":
            return info.status
        if name == "result":
            return info.result
        return [waiting.to_json() for waiting in info.waiting_for]

    def handle(self, run: str) -> RunHandle:
        """See `DurableExecutor.handle`."""
        row = self._resolve(run)
        return RunHandle(self, row.workflow_id, RunId(row.run_id))

    async def describe(self, run: str) -> RunInfo:
        """The run as it is now."""
        return self._info(self._resolve(run))

    def _info(self, row: RunRow) -> RunInfo:
        news = self._engine is not None and self._engine.is_news(row.key)
        return self._viewer.run_info(row, new_problem=news)

    async def activities(self, run: str) -> list[ActivityState]:
        """See `DurableExecutor.activities`."""
        row = self._resolve(run)
        with reading(row.workflow_id):
            return activity_states(self._store.history(row.key))

    async def list(
        self,
        *,
        status: str | None = None,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: Duration | None = None,
        limit: int | None = 20,
    ) -> Sequence[RunInfo]:
        """See `DurableExecutor.list`."""
        moment = None if since is None else self._clock.now() - _patience(since)
        rows = self._store.runs(
            status=status, workflow=workflow, labels=labels, since=moment, limit=limit
        )
        return [self._viewer.listed(row) for row in rows]

    async def waiting(
        self, *, signal: str | None = None, limit: int | None = None
    ) -> Sequence[OpenWait]:
        """See `DurableExecutor.waiting`."""
        return [open_wait(row) for row in self._store.waits(signal=signal, limit=limit)]

    async def summary(self) -> Summary:
        """See `DurableExecutor.summary`."""
        return Summary(
            counts=self._store.counts(),
            waits=[open_wait(row) for row in self._store.waits(limit=_SHOWN)],
            waits_total=self._store.count_waits(),
            next_due_at=self._store.next_due(self._clock.now()),
            attention=[
                self._viewer.listed(row) for row in self._store.runs(problems=True, limit=_SHOWN)
            ],
        )

    async def prune(
        self,
        *,
        older_than: Duration,
        status: str | None = None,
        workflow: str | None = None,
        dry_run: bool = False,
        vacuum: bool = False,
    ) -> Pruned:
        """See `DurableExecutor.prune`."""
        from belugawf.local.pruning import Pruner, Selection, ended_status

        before = format_instant(self._clock.now() - _patience(older_than))
        selection = Selection(before=before, status=ended_status(status), workflow=workflow)
        pruner = Pruner(self._store.database, selection, self._lane)
        if dry_run:
            return pruner.count()
        if vacuum:
            self._require_alone()
        pruned = await pruner.prune()
        if not vacuum:
            return pruned
        size, free = await pruner.vacuum()
        return replace(pruned, file_bytes=size, free_bytes=free)

    def _require_alone(self) -> None:
        """Raise where another process drives runs: it would wait until all is rewritten."""
        for owner in self._store.owners():
            if owner.id != self._own_id and self._is_alive(owner.id):
                raise BusyError(
                    f"process {owner.pid} is at work on the database, which cannot be rewritten "
                    "meanwhile; nothing was pruned",
                    hint="stop it first, or prune without vacuum: new runs use the free space",
                )

    async def history(self, run: str, *, after: int | None = None) -> Sequence[e.Event]:
        """See `DurableExecutor.history`."""
        row = self._resolve(run)
        if not after:
            return self._sound_history(row)
        with reading(row.workflow_id):
            return self._store.history(row.key, after)

    def _sound_history(self, row: RunRow) -> Sequence[e.Event]:
        """The run's whole history, for whoever looks closely. Raises `DamagedError`."""
        with reading(row.workflow_id):
            history = self._store.history(row.key)
            check_history(history)
            return history

    async def wait(
        self,
        run: str,
        *,
        until: str = "done",
        max_wait: Duration | None = None,
        patience: Duration = DEFAULT_PATIENCE,
    ) -> RunInfo:
        """See `DurableExecutor.wait`."""
        reached = condition(until)
        key = self._resolve(run).key
        end = None if max_wait is None else self._clock.now() + _patience(max_wait)
        while True:
            began = time.monotonic()
            info = self._info(self._store.by_key(key))
            if reached(info) or not info.open:
                return info
            if until == "rest" and not self._goes_on(info, key, _patience(patience)):
                return self._info(self._store.by_key(key))
            if self._interrupts and (self._engine is None or self._engine.drained):
                return info
            now = self._clock.now()
            if end is not None and now >= end:
                raise WaitExpiredError(
                    f"run {info.workflow_id!r} is not there yet; it goes on",
                    hint=f"look at it: {command_line('status', info.workflow_id)}",
                )
            # A look reads the whole history: a long one must not keep its own run from moving.
            await asyncio.sleep((time.monotonic() - began) * _LOOK_SHARE)
            await self._pause(_until(now, end))

    async def _pause(self, longest_s: float) -> None:
        """Until something may have changed."""
        if self._engine is not None and not self._engine.idle:
            await self._engine.changed(min(longest_s, 0.25))
        else:
            await asyncio.sleep(min(longest_s, _POLL_S))

    def _goes_on(self, info: RunInfo, key: int, patience: int) -> bool:
        """Whether the run will move within `patience` because somebody drives it."""
        engine = self._engine
        if engine is not None and engine.drives(key):
            engine.be_patient(key, patience)
            return True
        if info.problem is not None or self._interrupts:
            return False
        # Ours, and at rest, where only something that cannot be stopped keeps it from being let go.
        rests_here = engine is not None and engine.holds(key)
        if info.owner is not None and info.owner.alive and not rests_here:
            return True
        row = self._store.by_key(key)
        if not rests_here and self._worker_is_coming(row):
            return True
        if engine is None or row.due_at is None or (row.owner is not None and not rests_here):
            return False
        if row.due_at > format_instant(self._clock.now() + patience):
            return False
        engine.want(key, patience)
        return True

    def _worker_is_coming(self, row: RunRow) -> bool:
        """Whether there is something to do for a live worker, who has not come to it yet."""
        due = row.due_at is not None and row.due_at <= format_instant(self._clock.now())
        return (due or row.key in self._store.mail([row.key])) and bool(self._workers(row.workflow))

    async def result_of(self, run_id: str) -> Any:
        """See `RunHandle.result`."""
        row = self._resolve(run_id)
        definition = self.catalog.workflows.get(row.workflow)
        while row.status == "running":
            await self._require_driver(row)
            if self._engine is not None and self._engine.holds(row.key):
                await self._engine.settled(row.key, 1.0)
            else:
                await self._pause(1.0)
            row = self._store.by_key(row.key)
        if row.status == "completed":
            annotation = Any if definition is None else definition.result_annotation
            self._viewer.run_info(row)  # raises where the result is no longer JSON
            return codec.decode(row.result or "null", annotation, what="result")
        raise outcome_error(self._viewer.run_info(row))

    async def _require_driver(self, row: RunRow) -> None:
        """Raise where the run cannot end, because nobody drives it and we may not."""
        engine = self._engine
        if engine is not None:
            refusal = engine.refusal(row.key)
            if refusal is not None:
                raise refusal
            if engine.follows(row.key):
                return
        if row.owner is not None and self._is_alive(row.owner):
            return
        if self._workers(row.workflow):
            return
        if row.workflow in self.catalog.workflows:
            engine = await self._driving()
            engine.want(row.key, _patience(DEFAULT_PATIENCE))
            return
        raise NotFinishedError(
            f"run {row.workflow_id!r} has not ended, and nobody drives it",
            workflow_id=row.workflow_id,
            run_id=row.run_id,
            hint=f"{command_line('resume', row.workflow_id)}, or give this executor its workflow",
        )

    # -- finding runs ----------------------------------------------------------------------------

    def _resolve(self, text: str) -> RunRow:
        if not isinstance(text, str) or not text:
            raise UsageError(f"a run is named by a text, not {text!r}")
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

    # -- parts -----------------------------------------------------------------------------------

    @property
    def _store(self) -> Store:
        if self._opened_store is None:
            raise UsageError(
                "the executor is not open", hint="use it as: async with new_executor(...)"
            )
        return self._opened_store

    @property
    def _viewer(self) -> Viewer:
        if self._opened_viewer is None:
            self._opened_viewer = Viewer(self._store, self._is_alive)
        return self._opened_viewer

    def _is_alive(self, owner_id: str) -> bool:
        if self._presence is not None:
            return self._presence.is_alive(owner_id)
        return ownership.is_alive(self._store.database.folder, owner_id)


def _patience(duration: Duration) -> int:
    return duration_ns(parse_duration(duration))


def _until(now: int, end: int | None) -> float:
    return 1.0 if end is None else max(0.0, min(1.0, (end - now) / 1e9))
