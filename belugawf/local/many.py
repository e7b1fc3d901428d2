"""The half of the `default` provider's executor that is about many runs: it lists and counts them,
and sends to many of them at once.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, Unpack

from belugawf.executor.arguments import checks_arguments
from belugawf.executor.base import ExecutorBase, SnapshotT, nanoseconds
from belugawf.executor.checks import check_payload, ended_status
from belugawf.executor.info import (
    BulkResult,
    OpenWait,
    Pruned,
    RunFilters,
    RunId,
    RunInfo,
    Summary,
)
from belugawf.host.clock import Clock
from belugawf.local.driving import Driving
from belugawf.local.store.rows import Letter, RunRow
from belugawf.local.store.selecting import Doing, Filters
from belugawf.local.store.store import Store
from belugawf.local.view import Viewer, open_wait
from belugawf.model import codec
from belugawf.model.durations import Duration
from belugawf.model.errors import (
    BelugaError,
    BusyError,
    DamagedError,
    PayloadTypeError,
    RunEndedError,
    RunNotFoundError,
)
from belugawf.model.messages import Signal

if TYPE_CHECKING:
    from belugawf.local.store.histories import Connection

# How many runs and waits a summary names.
_SHOWN = 20

# Why one run cannot be changed, which says nothing of the others.
_OF_ONE_RUN = (DamagedError, PayloadTypeError, RunEndedError, RunNotFoundError)

Change: TypeAlias = "Callable[[Store, Connection, RunRow], object]"


@checks_arguments
class LocalMany(ExecutorBase[RunRow, SnapshotT, Driving], ABC):
    """See the module's docstring."""

    _clock: Clock

    @property
    def _store(self) -> Store:
        return self._driving.store

    @property
    def _viewer(self) -> Viewer:
        return self._driving.viewer

    # -- looking ---------------------------------------------------------------------------------

    async def list(
        self, *, limit: int | None = 20, **filters: Unpack[RunFilters]
    ) -> Sequence[RunInfo]:
        rows = self._store.runs(limit=limit, **self._filters(**filters))
        return [self._viewer.listed(row) for row in rows]

    async def count(self, *, limit: int, **filters: Unpack[RunFilters]) -> int:
        return self._store.count_runs(limit=limit, **self._filters(**filters))

    async def select(
        self, *, awaiting: str | None = None, **filters: Unpack[RunFilters]
    ) -> Sequence[RunId]:
        return self._store.run_ids({**self._filters(**filters), "awaiting": awaiting})

    def _filters(
        self,
        *,
        status: str | None = None,
        state: str | None = None,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: Duration | None = None,
        until: Duration | None = None,
    ) -> Filters:
        """The filters as the store takes them; a name that is none is a `TypeError`."""
        return Filters(
            status=status,
            doing=None if state is None else self._doing(state),
            workflow=workflow,
            labels=labels,
            since=self._ago(since),
            until=self._ago(until),
        )

    def _doing(self, state: str) -> Doing:
        return Doing(state, self._clock.now(), self._driving.living())

    def _ago(self, duration: Duration | None) -> int | None:
        """The instant that lies so long back."""
        return None if duration is None else self._clock.now() - nanoseconds(duration)

    async def waiting(
        self,
        *,
        signal: str | None = None,
        since: Duration | None = None,
        limit: int | None = None,
    ) -> Sequence[OpenWait]:
        rows = self._store.waits(signal=signal, since=self._ago(since), limit=limit)
        return [open_wait(row) for row in rows]

    async def summary(self) -> Summary:
        now, living = self._clock.now(), self._driving.living()
        states = self._store.states(now, living)
        return Summary(
            counts=self._store.counts(),
            waits=[open_wait(row) for row in self._store.waits(limit=_SHOWN)],
            waits_total=self._store.count_waits(),
            next_due_at=self._store.next_due(now),
            attention=await self.attention(),
            attention_total=states.get("parked", 0),
            states=states,
            due_since=self._store.due_since(now, living),
        )

    async def attention(self) -> Sequence[RunInfo]:
        rows = self._store.runs(doing=self._doing("parked"), limit=_SHOWN)
        return [self._viewer.listed(row) for row in rows]

    # -- changing --------------------------------------------------------------------------------

    async def cancel_many(
        self, runs: Sequence[str], reason: str | None = None, *, by: str | None = None
    ) -> BulkResult:
        letter = Letter("cancel", payload=reason, sender=by)
        return await self._change(runs, lambda store, db, row: store.deliver(db, row, letter))

    async def terminate_many(
        self, runs: Sequence[str], reason: str | None = None, *, by: str | None = None
    ) -> BulkResult:
        return await self._change(runs, lambda store, db, row: store.end(db, row, reason, by))

    async def signal_many(self, runs: Sequence[str], signal: Signal) -> BulkResult:
        text = codec.encode(signal.payload, what="payload", limit=self._options.payload_limit)
        letter = Letter(
            "signal",
            name=signal.name,
            payload=text,
            sender=signal.sender,
            key=signal.key,
            check=lambda waits: check_payload(signal.name, text, waits),
        )
        return await self._change(runs, lambda store, db, row: store.deliver(db, row, letter))

    async def _change(self, runs: Sequence[str], change: Change) -> BulkResult:
        """Change runs that are known by their run ids, in pieces; a run that refuses stops no
        other."""
        from belugawf.local.store.pieces import in_pieces

        driving, store = self._driving, self._store

        def change_one(db: Connection, run: RunId) -> BelugaError | None:
            try:
                change(store, db, store.by_run_id(db, run))
            except _OF_ONE_RUN as error:
                return error
            return None

        ids = [RunId(run) for run in runs]
        done: list[RunId] = []
        refused: dict[RunId, BelugaError] = {}
        pieces = in_pieces(store.database, driving.lane, ids, change_one)
        async with aclosing(pieces):
            async for piece in pieces:
                done += [run for run, error in piece if error is None]
                refused.update((run, error) for run, error in piece if error is not None)
                driving.wake_all()
                if driving.interrupts:
                    break
        return BulkResult(done=done, refused=refused, left=len(ids) - len(done) - len(refused))

    async def prune(
        self,
        *,
        older_than: Duration,
        status: str | None = None,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: Duration | None = None,
        until: Duration | None = None,
        dry_run: bool = False,
        vacuum: bool = False,
    ) -> Pruned:
        from belugawf.local.store.pruning import Pruner, Selection

        selection = Selection(
            before=self._clock.now() - nanoseconds(older_than),
            status=ended_status(status),
            workflow=workflow,
            labels=labels or {},
            since=self._ago(since) or 0,
            until=self._ago(until),
        )
        pruner = Pruner(self._store.database, selection, self._driving.lane)
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
        driving = self._driving
        for owner in self._store.owners():
            if owner.id != driving.own_id and driving.is_alive(owner.id):
                raise BusyError(
                    f"process {owner.pid} is at work on the database, which cannot be rewritten "
                    "meanwhile; nothing was pruned",
                    hint="stop it first, or prune without vacuum: new runs use the free space",
                )
