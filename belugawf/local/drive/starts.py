"""The runs that somebody in this process starts, until the next commit takes them along."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from belugawf.local.store.rows import RunRow, Start, Started
from belugawf.model.values import frozen


@frozen()
class Asked:
    """A start that somebody waits for, who will sleep through waits of `idle_wait_ns`."""

    start: Start
    idle_wait_ns: int
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

    def ask(self, start: Start, idle_wait_ns: int) -> asyncio.Future[RunRow]:
        """Record that run with the next commit; the future has it then, or why it was refused."""
        answered: asyncio.Future[RunRow] = asyncio.get_running_loop().create_future()
        self._asked.append(Asked(start, idle_wait_ns, answered))
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
