"""Which of the runs that are driven here have something to do, now or at their next moment.

A tick looks at these only: what a worker holds costs nothing while nothing happens to it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from belugawf.local.drive.run import OwnedRun

# With more alarms than that, those of runs that are gone are forgotten.
_MANY_ALARMS = 1_000


class Agenda:
    """What is to be looked at in `runs`, the engine's own."""

    def __init__(self, runs: Mapping[int, OwnedRun]) -> None:
        self._runs = runs
        self._stirred: dict[int, None] = {}
        self._alarms: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._stirred)

    def add(self, runs: Iterable[OwnedRun]) -> None:
        """Look whether these are ready, with the next tick."""
        for run in runs:
            self._stirred[run.key] = None

    def set_alarm(self, run: OwnedRun) -> None:
        """Look at the run when it is due next; an alarm that is too early does no harm."""
        at = run.next_at
        if at is not None and (run.wake_at is None or at < run.wake_at):
            run.wake(at)
            heapq.heappush(self._alarms, (at, run.key))
            if len(self._alarms) > _MANY_ALARMS and len(self._alarms) > 4 * len(self._runs):
                self._forget_alarms()

    def _forget_alarms(self) -> None:
        """Forget those of runs that are gone: a deadline may be months away."""
        self._alarms = [
            (at, key)
            for at, key in self._alarms
            if (run := self._runs.get(key)) is not None and run.wake_at == at
        ]
        heapq.heapify(self._alarms)

    def next_alarm(self) -> int | None:
        """The next moment at which a run may be due, in nanoseconds since 1970."""
        return self._alarms[0][0] if self._alarms else None

    def take(self, now: int) -> list[OwnedRun]:
        """The runs to which something has happened, or falls due by `now`."""
        while self._alarms and self._alarms[0][0] <= now:
            at, key = heapq.heappop(self._alarms)
            run = self._runs.get(key)
            if run is not None and run.wake_at == at:
                run.wake(None)
                self._stirred[key] = None
        stirred, self._stirred = self._stirred, {}
        ready = []
        for key in stirred:
            run = self._runs.get(key)
            if run is None:
                continue
            if run.is_ready(now):
                ready.append(run)
            else:
                self.set_alarm(run)
        return ready
