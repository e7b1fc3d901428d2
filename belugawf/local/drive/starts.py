"""The runs that somebody in this process starts, until the next commit takes them along."""

from __future__ import annotations

import asyncio

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

    def take(self) -> list[Asked]:
        """Those whose askers have not gone away; the next ones come with the next commit."""
        asked, self._asked = self._asked, []
        return [one for one in asked if not one.answered.done()]

    def refuse(self, error: Exception) -> None:
        """Nothing is started here any more."""
        for one in self.take():
            one.answer(error)
