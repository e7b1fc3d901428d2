"""Runs that rest, with the state of their code: a bounded number, the longest idle is dropped."""

from __future__ import annotations

from collections import OrderedDict

from belugawf.local.rows import RunRow
from belugawf.local.turns import DrivenRun


class Shelf:
    """What is on it is good as long as the run's history has not grown. `room` is for how many."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._runs: OrderedDict[int, DrivenRun] = OrderedDict()

    def keys(self) -> list[int]:
        """The runs on it, the longest idle first."""
        return list(self._runs)

    def put(self, run: DrivenRun) -> None:
        """Keep a run that was let go; it may be dropped at once."""
        self._runs[run.key] = run
        while len(self._runs) > self._room:
            self._runs.popitem(last=False)[1].evict()

    def take(self, row: RunRow) -> DrivenRun | None:
        """The run as it was put there, where that is still how it is stored."""
        run = self._runs.pop(row.key, None)
        if run is None or run.history_length == row.history_length:
            return run
        run.evict()
        return None

    def __contains__(self, key: int) -> bool:
        return key in self._runs

    def clear(self) -> None:
        """Drop all of them."""
        for run in self._runs.values():
            run.evict()
        self._runs.clear()
