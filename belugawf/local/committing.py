"""Where a commit is made: on the loop, or off it; and the starts that it takes along.

Off the loop activities go on while the disk works. But handing work to a thread takes as long as a
commit on a quick disk. So a small commit is made at once, where the last ones took no time and
nobody else is writing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from belugawf.local.database import WouldWaitError
from belugawf.local.rows import Committed, RunRow, Start, Started, Turn
from belugawf.local.store import Store
from belugawf.model.values import frozen

T = TypeVar("T")

# What is a small commit, and a quick disk (in seconds a commit).
_SMALL, _QUICK_S = 16, 0.002


class Committer:
    """What one owner writes of its runs, one transaction after the other."""

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="belugawf-commit")
        self._usual_s = 0.0

    async def commit(self, turns: Sequence[Turn], starts: Sequence[Start]) -> Committed:
        """See `Store.commit`."""
        return await self._write(
            len(turns) + len(starts),
            lambda patient: self._store.commit(turns, self._owner, starts, patient=patient),
        )

    async def claim(self, runs: Mapping[int, str | None]) -> list[RunRow]:
        """See `Store.claim`."""
        return await self._write(
            len(runs), lambda patient: self._store.claim(runs, self._owner, patient=patient)
        )

    async def _write(self, size: int, write: Callable[[bool], T]) -> T:
        if size <= _SMALL and self._usual_s < _QUICK_S:
            with suppress(WouldWaitError):
                return self._timed(write, False)
        return await self.off_loop(lambda: self._timed(write, True))

    def _timed(self, write: Callable[[bool], T], patient: bool) -> T:
        began = time.perf_counter()
        written = write(patient)
        # The mean of the last few, which forgets a hiccup, and learns of a slower disk.
        self._usual_s += (time.perf_counter() - began - self._usual_s) / 4
        return written

    async def off_loop(self, work: Callable[[], T]) -> T:
        """What `work` returns, done in the committing thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Wait for what is being committed."""
        self._thread.shutdown()


@frozen()
class Asked:
    """A start that somebody waits for, who will sleep through waits of `patience_ns`."""

    start: Start
    patience_ns: int
    answered: asyncio.Future[RunRow]

    def answer(self, started: Started) -> None:
        """Tell who waits."""
        if self.answered.done():
            return
        if isinstance(started, Exception):
            self.answered.set_exception(started)
        else:
            self.answered.set_result(started[0])


class Starts:
    """The starts that the next commit takes."""

    def __init__(self) -> None:
        self._asked: list[Asked] = []

    def __bool__(self) -> bool:
        return bool(self._asked)

    def ask(self, start: Start, patience_ns: int) -> asyncio.Future[RunRow]:
        """Record that run with the next commit; the future has it then, or why it was refused."""
        answered: asyncio.Future[RunRow] = asyncio.get_running_loop().create_future()
        self._asked.append(Asked(start, patience_ns, answered))
        return answered

    def wanted(self) -> list[Asked]:
        """Those whose askers have not gone away."""
        self._asked = [asked for asked in self._asked if not asked.answered.done()]
        return self._asked[:]

    def drop(self, taken: Sequence[Asked]) -> None:
        """These were in a commit; those that were asked for meanwhile come with the next one."""
        done = {id(asked) for asked in taken}
        self._asked = [asked for asked in self._asked if id(asked) not in done]

    def refuse(self, error: Exception) -> None:
        """Nothing is started here any more."""
        asked, self._asked = self._asked, []
        for one in asked:
            one.answer(error)
