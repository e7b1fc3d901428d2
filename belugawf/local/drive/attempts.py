"""Which attempts start when: first in first out, as far as there is room.

Who is suspect goes by rules of its own (`host/suspects.py`).

A first attempt starts at once. Later ones (suspects among them) and `at_most_once` are first noted
in the history (`SlotPhase.RECORDING`), so that whoever finds the run knows that they had begun.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection

from belugawf.executor.options import EngineOptions
from belugawf.host.attempt import AttemptSpec, Key
from belugawf.host.attempts import AttemptRunner
from belugawf.host.suspects import Manner, Order, is_suspect, manner_of
from belugawf.local.drive.run import OwnedRun, Slot, SlotPhase
from belugawf.local.store.store import Store
from belugawf.model.history import OpenActivity, activity_id_of

_ALL = frozenset(SlotPhase)
# What runs by itself has its place until its attempt has ended.
_HAS_PLACE = (SlotPhase.RECORDING, SlotPhase.RUNNING)


class AttemptQueue:
    """What is QUEUED, by how it is to run; and what by itself has a place already.

    `started`, if there is one, is told of each attempt that did; `mark_ready` asks for a turn of a
    run. `isolates`: suspects run in processes of their own, if that is possible.
    """

    def __init__(
        self,
        attempts: AttemptRunner,
        store: Store,
        options: EngineOptions,
        started: Callable[[OwnedRun, OpenActivity], None] | None,
        mark_ready: Callable[[OwnedRun], None],
        *,
        isolates: bool,
    ) -> None:
        self._attempts = attempts
        self._store = store
        self._options = options
        self._started = started
        self._mark_ready = mark_ready
        self._isolates = isolates
        self._queues: dict[Manner, OrderedDict[Slot, None]] = {
            "alone": OrderedDict(),
            "isolated": OrderedDict(),
            "shared": OrderedDict(),
        }
        self._recording: list[Slot] = []
        self._by_themselves: list[Slot] = []
        self.launched: list[Key] = []
        self._room = max(options.concurrency, 1)
        self._order = Order(self._room)
        self.stopped = False

    def stop(self) -> None:
        """Start nothing more; what is queued stays scheduled for whoever drives the run next."""
        self.stopped = True
        for queue in self._queues.values():
            while queue:
                queue.popitem()[0].move(SlotPhase.WAITING)

    def go_on(self) -> None:
        """Start again, after a `stop`."""
        self.stopped = False

    def queue(self, run: OwnedRun, now: int) -> None:
        """Queue what is open and due in that run, and has no attempt yet."""
        if self.stopped:
            return
        for slot in list(run.by_phase[SlotPhase.WAITING].values()):
            retry_at = slot.activity.retry_at
            if retry_at is not None and retry_at > now:
                continue
            manner = self._manner(slot) if slot.activity.crashes else "shared"
            if manner != "shared" and not (self._queues["alone"] or self._queues[manner]):
                self._order = Order(self._room)  # others go first, from now on
            slot.queue(manner)
            self._queues[manner][slot] = None

    def reopen(self, run: OwnedRun) -> None:
        """The run was read from the disk: its slots are those of what is open there."""
        for slot in [slot for slot in run.slots.values() if not run.is_open(slot.seq)]:
            if slot.phase is SlotPhase.RUNNING:
                self._attempts.cancel(run.key, slot.seq)  # a commit that seemed to fail says so
            self.close(slot)
        run.open_all()

    def close_all(self, run: OwnedRun, phases: Collection[SlotPhase] = _ALL) -> None:
        """Nothing more is done about what that run has in one of these phases."""
        for slot in [slot for slot in run.slots.values() if slot.phase in phases]:
            self.close(slot)

    def close(self, slot: Slot) -> None:
        """That activity has ended, or somebody else sees to it."""
        if slot.phase is SlotPhase.QUEUED:
            del self._queues[slot.manner][slot]
        slot.move(SlotPhase.GONE)

    def start(self, now: int) -> None:
        """Start as many as there is room for; `launched` are those that did."""
        self.launched = []
        if self._recording:
            self._recording = [s for s in self._recording if s.phase is SlotPhase.RECORDING]
        if self._by_themselves:
            self._by_themselves = [s for s in self._by_themselves if s.phase in _HAS_PLACE]
        busy = self._attempts.count + len(self._recording)
        while not self.stopped and busy < self._room:
            manner = self._next_manner(now, busy)
            if manner is None:
                return
            slot = next(iter(self._queues[manner]))
            activity = slot.activity
            if activity.attempt > 1:
                # Asked now: once its start is on record, nothing may keep it from starting.
                slot.prepare(self._store.heartbeat(slot.run.key, slot.seq))
            busy += 1
            del self._queues[manner][slot]
            if manner != "shared":
                self._by_themselves.append(slot)
            if activity.attempt > 1 or activity.scheduled.at_most_once:
                slot.move(SlotPhase.RECORDING)
                self._recording.append(slot)
                self._mark_ready(slot.run)
            else:
                self.launch(slot)
                self.launched.append((slot.run.key, slot.seq))

    def _next_manner(self, now: int, busy: int) -> Manner | None:
        """From which queue the next one comes, while so many are busy; `None`: none starts now."""
        alone, isolated, shared = self._queues.values()
        if not (alone or isolated or self._by_themselves):
            return "shared" if shared else None
        waiting = {manner: len(queue) for manner, queue in self._queues.items()}
        inside: dict[Manner, int] = {"alone": 0, "isolated": 0}
        for slot in self._by_themselves:
            inside[slot.manner] += 1
        inside["shared"] = busy - len(self._by_themselves)
        for manner, count in waiting.items():
            if count and self._order.admit(manner, inside, waiting, now):
                return manner
        return None

    def _manner(self, slot: Slot) -> Manner:
        activity = slot.activity
        if not is_suspect(activity.crashes, self._options.max_crashes):
            return "shared"
        return manner_of(slot.function, activity.options, isolates=self._isolates)

    def launch(self, slot: Slot) -> None:
        """Start this attempt now: what had to be noted of it is on disk."""
        run, activity = slot.run, slot.activity
        slot.move(SlotPhase.RUNNING)
        scheduled = activity.scheduled
        self._attempts.start(
            AttemptSpec(
                run=run.key,
                seq=slot.seq,
                workflow_id=run.row.workflow_id,
                run_id=run.row.run_id,
                activity_id=activity_id_of(scheduled),
                name=scheduled.name,
                function=slot.function,
                arguments=scheduled.payload,
                options=activity.options,
                attempt=activity.attempt,
                expires_at=activity.expires_at,
                heartbeat_details=slot.details,
                crashes=activity.crashes if slot.manner == "isolated" else None,
                named_key=bool(run.row.named_keys),
            )
        )
        if self._started is not None:
            self._started(run, activity)
