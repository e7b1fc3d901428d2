"""Deleting ended runs, with all that belongs to them, beside processes that are at work.

What may go is looked for without the write lock, oldest first, and deleted in pieces. A run is
deleted by one transaction, so whoever looks, and whoever is killed, finds all of it or nothing.
Keys of runs are never used again: who remembers one that is gone finds no other run.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import field
from typing import TypeAlias

from belugawf.executor import Pruned
from belugawf.local.file.database import Database
from belugawf.local.file.writer import Writer
from belugawf.local.store.histories import LENGTH
from belugawf.local.store.pieces import in_pieces
from belugawf.model.durations import to_micros
from belugawf.model.values import frozen

# How many runs are looked for at once: more than one transaction deletes.
_AT_ONCE = 1_000

# Key, chain, length of the history, and `created_at`, in which order they are looked for.
Ended: TypeAlias = tuple[int, str, int, int]

# What has ended long ago was created before that: the young ones are not even looked at.
_ENDED = f"""SELECT key, chain_id, {LENGTH.format("key")}, created_at
    FROM runs INDEXED BY runs_by_age
    WHERE created_at < min(:before, :until) AND (created_at, key) > (:created_at, :key)
    AND status <> 'running' AND closed_at < :before
    AND (:status IS NULL OR status = :status) AND (:workflow IS NULL OR workflow = :workflow)
    AND NOT EXISTS (SELECT 1 FROM json_each(:labels) j WHERE NOT EXISTS (
        SELECT 1 FROM labels WHERE name = j.key AND value = j.value AND run = runs.key))
    ORDER BY created_at, key LIMIT :limit"""


@frozen(kw_only=True)
class Selection:
    """Which ended runs: closed before that instant, of that status and workflow, with these labels,
    created at or after `since`, and before `until`."""

    before: int
    status: str | None = None
    workflow: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    since: int = 0
    until: int | None = None


class Pruner:
    """Deletes the ended runs of a selection. Methods raise what `Database` raises."""

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
            async for done in in_pieces(self._database, self._lane, found, self._delete):
                deleted = [run for run, is_gone in done if is_gone]
                runs += len(deleted)
                events += sum(length for _, _, length, _ in deleted)
        return self._pruned(runs, events, dry_run=False)

    async def vacuum(self) -> tuple[int, int]:
        """Write the file anew without its free space; returns `Database.sizes` after that."""
        await self._lane.write(self._database.vacuum, size=_AT_ONCE)
        return self._database.sizes()

    def _ended(self) -> Iterator[list[Ended]]:
        """The runs of the selection, oldest first, some at a time."""
        chosen = self._selection
        key, created_at = 0, to_micros(chosen.since)
        while True:
            values = {
                "before": to_micros(chosen.before),
                "until": to_micros(chosen.before if chosen.until is None else chosen.until),
                "labels": json.dumps(dict(chosen.labels)),
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

    def _delete(self, db: sqlite3.Connection, run: Ended) -> bool:
        """Delete a run, and with the last of its chain the keys of its messages; if it is there."""
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
