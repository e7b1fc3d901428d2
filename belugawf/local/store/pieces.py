"""Changing many runs beside processes that are at work, in transactions that end soon.

Each ends after a few milliseconds, and is followed by a pause as long as itself, in which others
write. Whoever is interrupted, or killed, finds each run changed or untouched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import TypeVar

from belugawf.local.file.database import Database
from belugawf.local.file.writer import Writer
from belugawf.local.store.histories import Connection

T = TypeVar("T")
R = TypeVar("R")

# How long a transaction goes on, in seconds. What is done with one run is never divided.
_HOLD_S = 0.01
# So long on purpose that none is made on the event loop: more runs than that time allows.
_MANY = 1_000


async def in_pieces(
    database: Database, lane: Writer, items: Sequence[T], change: Callable[[Connection, T], R]
) -> AsyncGenerator[Sequence[tuple[T, R]], None]:
    """Change the items in order; after each transaction, those that it has changed, with results.

    Raises what `change` and `Database` raise: then nothing of that transaction is written.
    """
    at = 0
    while at < len(items):
        began = time.monotonic()
        done = await lane.write(partial(_change, database, items, at, change), size=_MANY)
        at += len(done)
        yield done
        await asyncio.sleep(time.monotonic() - began)


def _change(
    database: Database, items: Sequence[T], at: int, change: Callable[[Connection, T], R]
) -> Sequence[tuple[T, R]]:
    """Change the items from `at` on, as many as the time allows, but one at least."""
    done: list[tuple[T, R]] = []
    with database.write() as db:
        end = time.monotonic() + _HOLD_S
        while at < len(items) and (not done or time.monotonic() < end):
            done.append((items[at], change(db, items[at])))
            at += 1
    return done
