"""Runs in memory: made from their histories, and kept on a shelf between their turns.

A run that rests is let go in the database at once, so that any process may take it. Its replayed
state stays on the shelf, and is used again only where the history is exactly as long as it was.
The shelf has a bound: the run that has rested longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from belugawf.authoring.loader import Catalog
from belugawf.local.damage import reading
from belugawf.local.guard import TurnGuard
from belugawf.local.options import EngineOptions
from belugawf.local.problems import unknown_activity
from belugawf.local.store import Store
from belugawf.local.turns import DrivenRun
from belugawf.model import events as e
from belugawf.model.durations import parse_instant
from belugawf.model.errors import BelugaError
from belugawf.model.history import OpenWork
from belugawf.model.soundness import check_history
from belugawf.replay.replayer import Replayer

T = TypeVar("T")


class Memory:
    """The replayers of one engine, whose code runs under the guard's eyes."""

    def __init__(
        self, store: Store, catalog: Callable[[], Catalog], options: EngineOptions
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._options = options
        self._guard = TurnGuard()
        self._shelf: OrderedDict[int, Replayer] = OrderedDict()

    def load(self, run: DrivenRun) -> None:
        """Get a run's state back from its history, or from the shelf.

        Raises `TurnError` where the code does not fit the history, or cannot be had.
        """
        with reading(run.row.workflow_id):
            row, history = self._store.load(run.key)
            run.row = row
            run.work = OpenWork.of(history)
            run.history_length = row.history_length
            run.last_time = history[-1].time
            run.stored_due_at = None if row.due_at is None else parse_instant(row.due_at)
            assert isinstance(history[0], e.WorkflowStarted)
            if len(history) != row.history_length:
                raise ValueError(f"event {len(history) + 1} is missing")
        run.begun = bool(row.begun)
        run.unstarted = dict.fromkeys(run.work.activities)
        replayer = self._from_shelf(run) or self._replayed(run, history)
        run.replayer = replayer
        run.functions = replayer.functions
        self.check_functions(run, run.work.activities)

    def begin(self, run: DrivenRun, started: e.WorkflowStarted) -> None:
        """A run that was just created has no more history than that; its code runs later.

        A workflow that cannot be had is said by `load`, at the first turn.
        """
        run.history_length, run.last_time = started.position, started.time
        run.stored_due_at, run.next_at = started.time, run.deadline
        with suppress(BelugaError):
            run.replayer = self._new(run, started)
            run.functions = run.replayer.functions

    def _from_shelf(self, run: DrivenRun) -> Replayer | None:
        shelved = self._shelf.pop(run.key, None)
        if shelved is not None and shelved.position != run.history_length:
            shelved.evict()
            return None
        return shelved

    def _replayed(self, run: DrivenRun, history: list[e.Event]) -> Replayer:
        started = history[0]
        assert isinstance(started, e.WorkflowStarted)
        replayer = self._new(run, started)
        if run.begun:
            try:
                self._guard.run(replayer, lambda: replayer.replay(history))
            except BaseException:
                replayer.evict()
                # Before the code is blamed, or we are.
                with reading(run.row.workflow_id):
                    check_history(history)
                raise
        return replayer

    def _new(self, run: DrivenRun, started: e.WorkflowStarted) -> Replayer:
        return Replayer(
            self._catalog().workflow(run.row.workflow),
            started,
            defaults=self._options.defaults,
            payload_limit=self._options.payload_limit,
        )

    def watched(self, replayer: Replayer, turn: Callable[[], T]) -> T:
        """What `turn`, which runs that replayer's code, returns. See `TurnGuard.run`."""
        return self._guard.run(replayer, turn)

    def check_functions(self, run: DrivenRun, scheduled: Iterable[int]) -> None:
        """Activities that were named by a text are looked up before anything is written.

        Raises `UnknownActivityError`, and what the catalog says of names that two modules use.
        """
        for seq in scheduled:
            activity = run.work.activities.get(seq)
            if activity is None:
                continue
            name = activity.scheduled.name
            self._catalog().check_activity(name)
            if seq in run.functions:
                continue
            function = self._catalog().activity(name)
            if function is None:
                raise unknown_activity(run.row, name)
            run.functions[seq] = function

    def evict(self, run: DrivenRun) -> None:
        """Forget the run's state: it is read again when it is needed."""
        replayer, run.replayer = run.replayer, None
        if replayer is not None:
            replayer.evict()

    def turned(self, run: DrivenRun) -> None:
        """A turn of the run is on disk: without a shelf nothing is kept until the next one."""
        if self._options.cache_runs == 0:
            self.evict(run)

    def shelve(self, run: DrivenRun) -> None:
        """The run was let go: keep its state for when it moves again."""
        replayer = run.replayer
        if replayer is None or self._options.cache_runs == 0:
            self.evict(run)
            return
        run.replayer = None
        self._shelf[run.key] = replayer
        while len(self._shelf) > self._options.cache_runs:
            self._shelf.popitem(last=False)[1].evict()

    def clear(self, runs: Iterable[DrivenRun]) -> None:
        """Unwind whatever is in memory."""
        for run in runs:
            self.evict(run)
        for replayer in self._shelf.values():
            replayer.evict()
        self._shelf.clear()

    def close(self) -> None:
        """Nothing is watched any more."""
        self._guard.close()
