"""What comes from outside: messages, runs that others have ended, and runs to take over.

At least once a second, and whenever a datagram or a caller says that there is something: datagrams
are hints, and a sleeping laptop stops the monotonic clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from belugawf.authoring.loader import Catalog
from belugawf.host.clock import Clock
from belugawf.local.drive.demand import Demand
from belugawf.local.drive.presence import Presence
from belugawf.local.drive.problems import sort_out
from belugawf.local.drive.run import EXITS, Exit, Phase
from belugawf.local.drive.table import RunTable
from belugawf.local.file.writer import Writer
from belugawf.local.store.rows import RunRow
from belugawf.local.store.store import Store
from belugawf.model.durations import SECOND_NS

# Nothing waits longer without a look at the wall clock and at the database.
POLL_INTERVAL_NS = SECOND_NS
# So many runs with histories so short are decided about before they are claimed.
_FEW, _SHORT = 16, 256


class Poller:
    """Looks at the database for one engine, which `wake` wakes."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        presence: Presence,
        catalog: Callable[[], Catalog],
        clock: Clock,
        demand: Demand,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._presence = presence
        self._catalog = catalog
        self._clock = clock
        self._demand = demand
        self._wake = wake
        self._polled_at = 0
        self._soon = True
        self._next_due: int | None = None
        self._found_nothing = False

    def listen(self) -> None:
        """Poll at each datagram from now on."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._presence.fileno(), self._on_datagram)

    def close(self) -> None:
        """Listen no longer."""
        asyncio.get_running_loop().remove_reader(self._presence.fileno())

    def _on_datagram(self) -> None:
        if self._presence.drain():
            self.poll_soon()

    def poll_soon(self) -> None:
        """Something may have come from outside: poll with the next tick, which comes soon."""
        self._soon, self._found_nothing = True, False
        self._wake()

    @property
    def idle(self) -> bool:
        """Whether the last poll found nothing, and no other is wanted."""
        return self._found_nothing and not self._soon

    def on_exit(self, exit: Exit, due_at: int | None) -> None:
        """A run has left this process, and can move again at `due_at`; others may be found now."""
        if due_at is not None:
            self._next_due = due_at if self._next_due is None else min(due_at, self._next_due)
        # Most leave nothing to find, unless the last poll has not seen all.
        more = EXITS[exit].polls or self._demand.unseen or not self._found_nothing
        self._soon = self._soon or more

    def is_due(self, now: int) -> bool:
        """Whether it is time to poll; never false if the clock was set back since."""
        if self._soon or not self._polled_at <= now < self._polled_at + POLL_INTERVAL_NS:
            return True
        return self._next_due is not None and self._next_due <= now

    def next_moment(self) -> int:
        """When to poll next, in nanoseconds since 1970; 0: at once."""
        if self._soon:
            return 0
        # The clock may have been set back since.
        moment = min(self._polled_at, self._clock.now()) + POLL_INTERVAL_NS
        return moment if self._next_due is None else min(moment, self._next_due)

    async def poll(self, table: RunTable, now: int) -> None:
        """See what has come for the runs of `table`, and take over what can be had."""
        self._soon = False
        self._polled_at = now
        if table.runs:
            for key in self._store.mail(table.runs):
                table.runs[key].receive()
                table.ready.mark(table.runs[key])
            for key in self._store.ended(table.runs):
                table.retire(table.runs[key], Exit.LOST)
        self._next_due = None
        if not self._demand.stopped:
            await self._claim(table, now)
            self._next_due = self._demand.next_due(now)

    async def _claim(self, table: RunTable, now: int) -> None:
        refused_before = table.still_refused(now)
        leaving = {key for key, run in table.runs.items() if run.phase is Phase.LEAVING}
        found = self._demand.look(now, table.runs.keys(), refused_before, leaving)
        free, refused = sort_out(found.rows, self._catalog)
        await table.refuse(refused)
        if free:
            await self._take_over(table, free)
        self._demand.looked()
        # Requests may have come while the claim was being committed.
        self._found_nothing = not found.has_more and not found.at_capacity and not self._soon
        self._soon = self._soon or found.has_more

    def _is_quick(self, row: RunRow, table: RunTable) -> bool:
        """Whether its turn is quickly decided, with no limit to apply: then before it is ours.

        Another process may do the same: only one of the turns is on disk in the end.
        """
        if row.owner is not None or not row.begun:
            return False
        if row.due_at is not None and row.due_at <= self._clock.now():
            return False
        return row.history_length <= _SHORT or table.cache.has(row)

    async def _take_over(self, table: RunTable, rows: Sequence[RunRow]) -> None:
        """Drive these runs: claimed now, as far as they are still to be had, or by their turns."""
        if len(rows) <= _FEW and all(self._is_quick(row, table) for row in rows):
            for row in rows:
                table.add(row, self._clock.now(), claims=True)
            return
        dead = {row.owner for row in rows if row.owner not in (None, self._presence.id)}
        # Asked before: once they are ours on disk, nothing may keep them from being driven.
        deaths = {owner: self._presence.how_it_died(owner) for owner in dead if owner}
        for row in rows:
            table.add(row, self._clock.now(), interrupted=deaths.get(row.owner or ""))
        owners = {row.key: row.owner for row in rows}
        # If we do not hear whether they are ours, the disk is asked before their next turns.
        claimed = await self._writer.write(
            lambda: self._store.claim(owners, self._presence.id), size=len(rows)
        )
        for key in owners.keys() - {row.key for row in claimed}:
            table.retire(table.runs[key], Exit.LOST)
        if deaths:
            await self._writer.write(lambda: self._presence.forget(deaths))
