"""Which of the runs that are driven here have something to do, now or at their next moment.

A tick looks at these only: what a worker holds costs nothing while nothing happens to it.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from belugawf.local.drive.run import OwnedRun

# With more moments than that, those of runs that are gone are forgotten.
_MANY_MOMENTS = 1_000


class ReadyQueue:
    """Which of `runs` may be ready, and when the others may be."""

    def __init__(self, runs: Mapping[int, OwnedRun]) -> None:
        self._runs = runs
        self._marked: dict[int, None] = {}
        self._moments: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._marked)

    def mark(self, run: OwnedRun) -> None:
        """Something may have happened to that run: the next tick sees whether it is ready."""
        self._marked[run.key] = None

    def schedule(self, run: OwnedRun) -> None:
        """Mark the run when it is due next; a moment that is too early does no harm."""
        at = run.next_at
        if at is not None and (run.wake_at is None or at < run.wake_at):
            run.wake(at)
            heapq.heappush(self._moments, (at, run.key))
            if len(self._moments) > _MANY_MOMENTS and len(self._moments) > 4 * len(self._runs):
                self._forget_moments()

    def _forget_moments(self) -> None:
        """Forget those of runs that are gone: a deadline may be months away."""
        self._moments = [
            (at, key)
            for at, key in self._moments
            if (run := self._runs.get(key)) is not None and run.wake_at == at
        ]
        heapq.heapify(self._moments)

    def next_moment(self) -> int | None:
        """When the next run may be due, in nanoseconds since 1970."""
        return self._moments[0][0] if self._moments else None

    def take(self, now: int) -> list[OwnedRun]:
        """The runs to which something has happened, or falls due by `now`."""
        while self._moments and self._moments[0][0] <= now:
            at, key = heapq.heappop(self._moments)
            run = self._runs.get(key)
            if run is not None and run.wake_at == at:
                run.wake(None)
                self._marked[key] = None
        marked, self._marked = self._marked, {}
        ready = []
        for key in marked:
            run = self._runs.get(key)
            if run is None:
                continue
            if run.is_ready(now):
                ready.append(run)
            else:
                self.schedule(run)
        return ready
