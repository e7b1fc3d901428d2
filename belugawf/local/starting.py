"""Which attempts start when: first in first out, as far as there is room; suspects alone.

An activity whose process died while it was open is a suspect. One kill of a worker must not make
all that was in flight run one after the other; so it runs with others as before, until one more
death would reach `max_crashes`. Then it runs alone, and a further death names the culprit.

A first attempt starts at once. Later ones, `at_most_once` and suspects alone are first noted in the
history (`DrivenRun.to_begin`), so that whoever finds the run knows that they had begun.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from belugawf.host.attempts import AttemptRunner, AttemptSpec
from belugawf.local.options import EngineOptions
from belugawf.local.store import Store
from belugawf.local.turns import DrivenRun
from belugawf.model.history import OpenActivity, activity_id_of


class Starter:
    """The queue of attempts to start.

    `started` is told of each that did; `stir` asks for a turn of a run.
    """

    def __init__(
        self,
        attempts: AttemptRunner,
        store: Store,
        options: EngineOptions,
        started: Callable[[DrivenRun, OpenActivity], None],
        stir: Callable[[DrivenRun], None],
    ) -> None:
        self._attempts = attempts
        self._store = store
        self._options = options
        self._started = started
        self._stir = stir
        self._queue: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._queued: dict[int, set[int]] = {}
        self._beginning: dict[int, DrivenRun] = {}
        self._details: dict[tuple[int, int], Any] = {}
        self._alone: tuple[int, int] | None = None
        self.stopped = False

    def stop(self, runs: Mapping[int, DrivenRun]) -> None:
        """Start nothing more; what is queued stays scheduled for whoever drives the run next."""
        self.stopped = True
        self._queue.clear()
        self._queued.clear()
        self._beginning.clear()
        self._details.clear()
        self._alone = None
        for run in runs.values():
            run.to_begin.clear()

    def go_on(self) -> None:
        """Start again, after a `stop`."""
        self.stopped = False

    def queue(self, run: DrivenRun, now: int) -> None:
        """Queue what is open and due in that run, and has no attempt yet."""
        if self.stopped:
            return
        for seq in list(run.unstarted):
            activity = run.work.activities.get(seq)
            if activity is None:
                del run.unstarted[seq]
            elif activity.retry_at is not None and activity.retry_at > now:
                continue
            elif seq not in run.launched and seq not in run.to_begin:
                del run.unstarted[seq]
                self._queue.setdefault((run.key, seq))
                self._queued.setdefault(run.key, set()).add(seq)

    def forget(self, key: int) -> None:
        """Nothing of that run is to be started any more."""
        self._beginning.pop(key, None)
        for seq in self._queued.pop(key, ()):
            del self._queue[(key, seq)]
        for place in [place for place in self._details if place[0] == key]:
            del self._details[place]
        if self._alone is not None and self._alone[0] == key:
            self._alone = None

    def ended(self, key: int, seq: int) -> None:
        """An attempt is over, or nobody waits for it any more."""
        if self._alone == (key, seq):
            self._alone = None

    def start(self, runs: Mapping[int, DrivenRun]) -> None:
        """Start as many as there is room for."""
        self._beginning = {key: run for key, run in self._beginning.items() if run.to_begin}
        reserved = sum(len(run.to_begin) for run in self._beginning.values())
        while self._queue and not self.stopped:
            if self._alone is not None or self._attempts.count + reserved >= self._room:
                return
            key, seq = next(iter(self._queue))
            run = runs.get(key)
            activity = None if run is None else run.work.activities.get(seq)
            if run is None or activity is None:
                self._unqueue(key, seq)
                continue
            alone = self._must_be_alone(activity)
            if alone and (self._attempts.count or reserved):
                return
            if activity.attempt > 1:
                # Asked now: once its start is on record, nothing may keep it from starting.
                details = self._store.heartbeat(key, seq)
                if details is not None:
                    self._details[(key, seq)] = details
            self._unqueue(key, seq)
            if alone:
                self._alone = (key, seq)
            if alone or activity.attempt > 1 or activity.options.at_most_once:
                run.to_begin[seq] = alone
                self._beginning[key] = run
                reserved += 1
                self._stir(run)
            else:
                self.launch(run, seq)

    def _unqueue(self, key: int, seq: int) -> None:
        del self._queue[(key, seq)]
        queued = self._queued[key]
        queued.discard(seq)
        if not queued:
            del self._queued[key]

    def launch(self, run: DrivenRun, seq: int) -> None:
        """Start this attempt now: what had to be noted of it is on disk."""
        activity = run.work.activities.get(seq)
        if activity is None:
            return
        scheduled = activity.scheduled
        run.launched.add(seq)
        self._attempts.start(
            AttemptSpec(
                run=run.key,
                seq=seq,
                workflow_id=run.row.workflow_id,
                run_id=run.row.run_id,
                activity_id=activity_id_of(scheduled),
                name=scheduled.name,
                function=run.functions[seq],
                arguments=scheduled.payload,
                options=activity.options,
                attempt=activity.attempt,
                expires_at=activity.expires_at,
                heartbeat_details=self._details.pop((run.key, seq), None),
            )
        )
        self._started(run, activity)

    @property
    def _room(self) -> int:
        return max(self._options.concurrency, 1)

    def _must_be_alone(self, activity: OpenActivity) -> bool:
        return activity.crashes > 0 and 0 < self._options.max_crashes <= activity.crashes + 1
