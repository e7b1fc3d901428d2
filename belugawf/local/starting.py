"""Which attempts start when: first in first out, as far as there is room.

Who is suspect goes by rules of its own (`host/suspects.py`).

A first attempt starts at once. Later ones (suspects among them) and `at_most_once` are first noted
in the history (`DrivenRun.to_begin`), so that whoever finds the run knows that they had begun.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeAlias

from belugawf.host.attempts import AttemptRunner, AttemptSpec
from belugawf.host.suspects import Manner, Order, is_suspect, manner_of
from belugawf.local.options import EngineOptions
from belugawf.local.store import Store
from belugawf.local.turns import Beginning, DrivenRun
from belugawf.model.history import OpenActivity, activity_id_of

Place: TypeAlias = tuple[int, int]


class Starter:
    """The queues of attempts to start.

    `started` is told of each that did; `stir` asks for a turn of a run. `isolates`: suspects run in
    processes of their own, where that is possible.
    """

    def __init__(
        self,
        attempts: AttemptRunner,
        store: Store,
        options: EngineOptions,
        started: Callable[[DrivenRun, OpenActivity], None],
        stir: Callable[[DrivenRun], None],
        *,
        isolates: bool,
    ) -> None:
        self._attempts = attempts
        self._store = store
        self._options = options
        self._started = started
        self._stir = stir
        self._isolates = isolates
        self._queues: dict[Manner, OrderedDict[Place, None]] = {
            "alone": OrderedDict(),
            "isolated": OrderedDict(),
            "shared": OrderedDict(),
        }
        self._queued: dict[int, dict[int, Manner]] = {}
        self._beginning: dict[int, DrivenRun] = {}
        self._isolated: set[Place] = set()
        self._alone: Place | None = None
        self._order = Order(self._room)
        self.stopped = False

    def stop(self, runs: Mapping[int, DrivenRun]) -> None:
        """Start nothing more; what is queued stays scheduled for whoever drives the run next."""
        self.stopped = True
        for queue in self._queues.values():
            queue.clear()
        self._queued.clear()
        self._beginning.clear()
        for run in runs.values():
            for seq in run.to_begin:
                self.ended(run.key, seq)
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
                manner = self._manner(run, activity)
                if manner != "shared" and not (self._queues["alone"] or self._queues[manner]):
                    self._order = Order(self._room)  # others go first, from now on
                self._queues[manner][(run.key, seq)] = None
                self._queued.setdefault(run.key, {})[seq] = manner

    def forget(self, run: DrivenRun) -> None:
        """Nothing of that run is to be started any more; what is in flight for it may go on."""
        key = run.key
        self._beginning.pop(key, None)
        run.to_begin.clear()
        for seq, manner in self._queued.pop(key, {}).items():
            del self._queues[manner][(key, seq)]
        held = {place for place in (*self._isolated, self._alone) if place and place[0] == key}
        if held:
            for place in held - {attempt.spec.key for attempt in self._attempts.running(key)}:
                self.ended(*place)

    def ended(self, key: int, seq: int) -> None:
        """An attempt is over, or nobody waits for it any more, whether it has started or not."""
        if seq in self._queued.get(key, ()):
            self._unqueue(key, seq)
        self._isolated.discard((key, seq))
        if self._alone == (key, seq):
            self._alone = None

    def start(self, runs: Mapping[int, DrivenRun], now: int) -> None:
        """Start as many as there is room for."""
        self._beginning = {key: run for key, run in self._beginning.items() if run.to_begin}
        reserved = sum(len(run.to_begin) for run in self._beginning.values())
        while self._queued and not self.stopped:
            manner = self._next_manner(self._attempts.count + reserved, now)
            if manner is None:
                return
            key, seq = next(iter(self._queues[manner]))
            run = runs.get(key)
            activity = None if run is None else run.work.activities.get(seq)
            if run is None or activity is None:
                self._unqueue(key, seq)
                continue
            # Asked now: once its start is on record, nothing may keep it from starting.
            details = self._store.heartbeat(key, seq) if activity.attempt > 1 else None
            beginning = Beginning(manner, details)
            self._unqueue(key, seq)
            if activity.attempt > 1 or activity.options.at_most_once:
                self._occupy((key, seq), manner)
                run.to_begin[seq] = beginning
                self._beginning[key] = run
                reserved += 1
                self._stir(run)
            else:
                self.launch(run, seq, beginning)

    def _next_manner(self, busy: int, now: int) -> Manner | None:
        """From which queue the next one comes, beside `busy` others; `None`: none starts now."""
        if busy >= self._room:
            return None
        alone_queue, isolated_queue, _ = self._queues.values()
        if not (alone_queue or isolated_queue or self._alone):
            return "shared"
        waiting = {manner: len(queue) for manner, queue in self._queues.items()}
        alone, isolated = int(self._alone is not None), len(self._isolated)
        inside: dict[Manner, int] = {
            "alone": alone,
            "isolated": isolated,
            "shared": busy - isolated - alone,
        }
        for manner, count in waiting.items():
            if count and self._order.admit(manner, inside, waiting, now):
                return manner
        return None

    def _manner(self, run: DrivenRun, activity: OpenActivity) -> Manner:
        if not is_suspect(activity.crashes, self._options.max_crashes):
            return "shared"
        function = run.functions[activity.scheduled.seq]
        return manner_of(function, activity.options, isolates=self._isolates)

    def _unqueue(self, key: int, seq: int) -> None:
        queued = self._queued[key]
        del self._queues[queued.pop(seq)][(key, seq)]
        if not queued:
            del self._queued[key]

    def _occupy(self, place: Place, manner: Manner) -> None:
        if manner == "alone":
            self._alone = place
        elif manner == "isolated":
            self._isolated.add(place)

    def launch(self, run: DrivenRun, seq: int, beginning: Beginning) -> None:
        """Start this attempt now: what had to be noted of it is on disk."""
        activity = run.work.activities.get(seq)
        if activity is None:
            return
        # Once more: while it was being noted, somebody may have stopped what had not started.
        self._occupy((run.key, seq), beginning.manner)
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
                heartbeat_details=beginning.details,
                crashes=activity.crashes if beginning.manner == "isolated" else None,
            )
        )
        self._started(run, activity)

    @property
    def _room(self) -> int:
        return max(self._options.concurrency, 1)
