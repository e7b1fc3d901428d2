"""Deleting ended runs, with all that belongs to them, beside processes that are at work.

What may go is looked for without the write lock, oldest first. It is deleted in transactions that
end after a few milliseconds, and each is followed by a pause as long as itself, in which others
write. A run is deleted by one transaction, so whoever looks, and whoever is killed, finds all of it
or nothing. Keys of runs are never used again: who remembers one that is gone finds no other run.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import TypeAlias, TypeVar

from belugawf.executor import Pruned
from belugawf.local.file.database import Database
from belugawf.local.file.writer import Writer
from belugawf.local.store.histories import LENGTH
from belugawf.model.durations import to_micros
from belugawf.model.values import frozen

T = TypeVar("T")

# How long a transaction deletes, in seconds. One run is always deleted as a whole, however long.
_HOLD_S = 0.01
# How many runs are looked for at once: more than can be deleted in that time.
_AT_ONCE = 1_000

# Key, chain, length of the history, and `created_at`, in which order they are looked for.
Ended: TypeAlias = tuple[int, str, int, int]

# What has ended long ago was created before that: the young ones are not even looked at.
_ENDED = f"""SELECT key, chain_id, {LENGTH.format("key")}, created_at
    FROM runs INDEXED BY runs_by_age
    WHERE created_at < :before AND (created_at, key) > (:created_at, :key)
    AND status <> 'running' AND closed_at < :before
    AND (:status IS NULL OR status = :status) AND (:workflow IS NULL OR workflow = :workflow)
    ORDER BY created_at, key LIMIT :limit"""


@frozen(kw_only=True)
class Selection:
    """Which ended runs: closed before that instant, of that status and workflow."""

    before: int
    status: str | None = None
    workflow: str | None = None


class Pruner:
    """Deletes the ended runs of a selection. Methods raise what `Database` raises.

    Its transactions take so long on purpose that none is made on the event loop.
    """

    def __init__(self, database: Database, selection: Selection, lane: Writer) -> None:
        self._database = database
        self._lane = lane
        self._selection = selection

    def count(self) -> Pruned:
        """What `prune` would delete now."""
        runs = events = 0
        for found in self._ended():
            runs += len(found)
            events += sum(length for _, _, length, _ in found)
        return self._pruned(runs, events, dry_run=True)

    async def prune(self) -> Pruned:
        """Delete them; when cancelled, those that are deleted stay so."""
        runs = events = 0
        for found in self._ended():
            while found:
                began = time.monotonic()
                done, deleted = await self._off_loop(partial(self._delete, found))
                runs += len(deleted)
                events += sum(length for _, _, length, _ in deleted)
                found = found[done:]
                await asyncio.sleep(time.monotonic() - began)
        return self._pruned(runs, events, dry_run=False)

    async def vacuum(self) -> tuple[int, int]:
        """Write the file anew without its free space; returns `Database.sizes` after that."""
        await self._off_loop(self._database.vacuum)
        return self._database.sizes()

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await self._lane.write(work, size=_AT_ONCE)

    def _ended(self) -> Iterator[list[Ended]]:
        """The runs of the selection, oldest first, some at a time."""
        chosen = self._selection
        key, created_at = 0, -1
        while True:
            values = {
                "before": to_micros(chosen.before),
                "status": chosen.status,
                "workflow": chosen.workflow,
                "created_at": created_at,
                "key": key,
                "limit": _AT_ONCE,
            }
            with self._database.reading() as db, closing(db.execute(_ENDED, values)) as rows:
                found: list[Ended] = rows.fetchall()
            if not found:
                return
            key, _, _, created_at = found[-1]
            yield found

    def _delete(self, runs: list[Ended]) -> tuple[int, list[Ended]]:
        """Delete the first of them, as many as the time allows.

        Returns how many are dealt with, and those of them that were still there.
        """
        done, deleted = 0, []
        with self._database.write() as db:
            end = time.monotonic() + _HOLD_S
            while done < len(runs) and (not done or time.monotonic() < end):
                if self._delete_run(db, runs[done]):
                    deleted.append(runs[done])
                done += 1
        return done, deleted

    def _delete_run(self, db: sqlite3.Connection, run: Ended) -> bool:
        """Delete a run, and with the last of its chain the keys of its messages."""
        key, chain_id, _, _ = run
        # Everything else that is the run's goes by the foreign keys.
        gone = db.execute("DELETE FROM runs WHERE key = ? AND status <> 'running'", (key,))
        db.execute(
            "DELETE FROM message_keys WHERE chain_id = ? "
            "AND NOT EXISTS (SELECT 1 FROM runs WHERE chain_id = ?)",
            (chain_id, chain_id),
        )
        return gone.rowcount == 1

    def _pruned(self, runs: int, events: int, *, dry_run: bool) -> Pruned:
        size, free = self._database.sizes()
        return Pruned(runs=runs, events=events, dry_run=dry_run, file_bytes=size, free_bytes=free)
