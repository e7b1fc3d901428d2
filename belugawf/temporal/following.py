"""Runs that are looked at again and again: what was read of their histories is not read again.

The server is asked for what comes next, and answers when there is something: so nobody looks at a
run in which nothing happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo

from belugawf.executor import Problem
from belugawf.host.loops import hidden_task
from belugawf.model import events as e
from belugawf.model.errors import BelugaError
from belugawf.model.history import OpenWork
from belugawf.temporal.connection import UnreachableError
from belugawf.temporal.histories import Translation
from belugawf.temporal.server import RunName, Server

# So many histories are kept.
_KEPT = 1_000
# After an error the server is left alone for so long, in seconds.
_AFTER_ERROR_S = 0.5


class Followed:
    """One run's history, as far as it was read.

    `begun`: a worker was asked for a turn, or will be at once.
    """

    def __init__(self, server: Server, run: RunName) -> None:
        self._server = server
        self._run = run
        self._asked: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._translation = Translation()
        self._work = OpenWork()
        self._token = b""
        self._length = 0
        self.begun = False

    @property
    def problem(self) -> Problem | None:
        """Why its last turn could not be taken, if it could not."""
        return self._translation.problem

    @property
    def events(self) -> Sequence[e.Event]:
        """What happened; the list grows."""
        return self._translation.events

    @property
    def _ended(self) -> bool:
        return self._length > 0 and not self._token

    async def until(self, length: int) -> None:
        """Read on until it is that long."""
        while self._length < length:
            if self._ended:
                self._begin()
            await asyncio.shield(self.more())

    def more(self) -> asyncio.Task[None]:
        """Done when there is more, or the server had nothing for a while, or has no more."""
        if self._asked is None or (self._asked.done() and not self._ended):
            self._asked = hidden_task(asyncio.get_running_loop(), self._read())
            # Nobody need wait for it.
            self._asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._asked

    def stop(self) -> None:
        """Ask for nothing more."""
        if self._asked is not None:
            self._asked.cancel()

    async def _read(self) -> None:
        try:
            events, self._token = await self._server.next_events(self._run, self._token)
        except BelugaError as error:
            if not isinstance(error, UnreachableError):
                self._begin()  # perhaps the token is known no more
            await asyncio.sleep(_AFTER_ERROR_S)
            raise
        for event in events:
            if event.event_id > self._length:
                self._take(event)

    def _take(self, event: HistoryEvent) -> None:
        self._length = event.event_id
        known = len(self.events)
        self._translation.take(event)
        for translated in self.events[known:]:
            self._work.fold(translated)
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
            self.begun = True

    def with_pending(
        self, pending: Sequence[PendingActivityInfo]
    ) -> tuple[Sequence[e.Event], OpenWork, dict[int, PendingActivityInfo]]:
        """All events, what is open, and the open activities by their `seq`.

        The failed attempts of activities that are open now are in no history yet: they come last.
        """
        attempts, by_seq = self._translation.pending(pending)
        if not attempts:
            return list(self.events), self._work, by_seq
        activities = dict(self._work.activities)
        for seq in by_seq.keys() & activities.keys():
            activities[seq] = replace(activities[seq])
        work = replace(self._work, activities=activities, delayed=dict(self._work.delayed))
        for event in attempts:
            work.fold(event)
        return [*self.events, *attempts], work, by_seq


class Histories:
    """The histories that were read last, each as far as it was read."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._followed: dict[str, Followed] = {}

    def of(self, run: RunName) -> Followed:
        """That of a run, which may not have been read yet."""
        followed = self._followed.pop(run.run_id, None) or Followed(self._server, run)
        self._followed[run.run_id] = followed
        if len(self._followed) > _KEPT:
            self._followed.pop(next(iter(self._followed))).stop()
        return followed

    def close(self) -> None:
        """Ask for nothing more."""
        for followed in self._followed.values():
            followed.stop()
