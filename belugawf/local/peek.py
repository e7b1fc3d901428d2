"""A short look at a database that changes nothing and imports next to nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def looking(db: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an existing database, for questions only; waits half a second at most."""
    uri = f"{db.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0.5)) as connection:
        connection.execute("PRAGMA query_only = ON")
        yield connection
