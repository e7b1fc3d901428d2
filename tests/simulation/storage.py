"""The database of the simulated processes: one real SQLite file, and a disk that fails on demand.

Connections are opened once and lent: opening one costs more than a whole history. What the kernel
does for a dead process is done here: its transaction is rolled back, and it can say nothing more.
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from belugawf.local.file.database import Database
from belugawf.model.errors import BusyError
from tests.simulation.programs import UNWRITABLE
from tests.simulation.threads import Killed

if TYPE_CHECKING:
    from tests.simulation.world import Process


class Storage:
    """A folder in memory with one database, emptied for each history; use as `with`."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(
            prefix="belugawf-simulation-", dir=memory if memory.is_dir() else None
        )
        self.path = Path(self._folder.name) / "state.db"
        Database(self.path).close()
        self._free: list[sqlite3.Connection] = []
        self._open: list[sqlite3.Connection] = []
        self.observer = self._connect()
        names = self.observer.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        self._tables = [name for (name,) in names if name != "_sqlite_migrations"]

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *exc: object) -> None:
        for connection in self._open:
            connection.close()
        self._folder.cleanup()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = OFF")  # power cuts have a harness of their own
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA busy_timeout = 0")
        self._open.append(connection)
        return connection

    def clear(self) -> None:
        """Empty the database."""
        self.observer.execute("BEGIN IMMEDIATE")
        for table in self._tables:
            self.observer.execute(f"DELETE FROM {table}")
        self.observer.execute("COMMIT")

    def lend(self) -> sqlite3.Connection:
        """A connection without a transaction."""
        return self._free.pop() if self._free else self._connect()

    def take_back(self, connection: sqlite3.Connection) -> None:
        """Its process has ended."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._free.append(connection)


class SimDatabase(Database):
    """`Database` on lent connections. What it does between them and the store is the real thing."""

    def __init__(self, storage: Storage, process: Process) -> None:
        self.path = storage.path
        self.folder = storage.path.parent
        self.durability = "full"
        self.commits = 0
        self.lock = _WriteLock(process)  # type: ignore[assignment]
        self.of_thread = _OfThread(process)
        self._process = process
        self._storage = storage
        self.writer = _Connection(storage.lend(), process, "full")  # type: ignore[assignment]
        self._read = _Connection(storage.lend(), process, "unreadable")

    @property
    def read(self) -> Any:
        self._process.pause()
        return self._read

    def write(self) -> Any:
        self._process.pause()
        return super().write()

    def close(self) -> None:
        """The connections are given back when the process ends."""

    def end(self) -> None:
        """What the kernel does when the process is gone."""
        for connection in (self.writer, self._read):
            self._storage.take_back(connection.take())  # type: ignore[union-attr]


class _OfThread:
    """`threading.local` of a process whose two threads, its loop's and its lane's, are one here."""

    def __init__(self, process: Process) -> None:
        self.__dict__.update(process=process, loop=True, lane=True)

    @property
    def blocking(self) -> bool:
        return bool(self.__dict__[self._thread()])

    @blocking.setter
    def blocking(self, blocking: bool) -> None:
        self.__dict__[self._thread()] = blocking

    def _thread(self) -> str:
        return "loop" if self.process.world.on_loop else "lane"


class _WriteLock:
    """The machine's one write lock. Nobody waits for it in here: where it is held it is refused, as
    it is after 30 s, or where somebody had no patience."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def acquire(self, timeout: float) -> None:
        self._process.check()
        if self._process.world.is_on_loop:
            self._process.world.observer.complain(
                f"{self._process.name} waits for the write lock on its event loop"
            )
        if not self._take("busy"):
            self._process.hinder()
            raise BusyError(f"another process held the database's write lock for {timeout:g} s")

    def try_acquire(self) -> bool:
        self._process.check()
        return self._take("contended")

    def _take(self, fault: str) -> bool:
        world = self._process.world
        if world.writer is not None or world.happens(fault):
            return False
        world.writer = self._process
        return True

    def release(self) -> None:
        if self._process.world.writer is self._process:
            self._process.world.writer = None


class _Connection:
    """A connection whose disk may be full or broken."""

    def __init__(self, raw: sqlite3.Connection, process: Process, fault: str) -> None:
        self._fault = fault
        self._raw: sqlite3.Connection | None = raw
        self._process = process

    @property
    def in_transaction(self) -> bool:
        return self._raw is not None and self._raw.in_transaction

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        raw, world = self._raw, self._process.world
        if raw is None:
            raise Killed
        if sql == "COMMIT":
            return self._commit(raw)
        if sql != "ROLLBACK" and world.happens(self._fault):
            raise self._process.disk_error(
                "SQLITE_FULL" if self._fault == "full" else "SQLITE_IOERR_READ"
            )
        return raw.execute(sql, values)

    def executemany(self, sql: str, values: Any) -> sqlite3.Cursor:
        if self._raw is None:
            raise Killed
        if self._process.world.happens(self._fault):
            raise self._process.disk_error("SQLITE_FULL")
        if self._process.unwritable and UNWRITABLE in repr(values):
            raise sqlite3.DataError("simulated")
        return self._raw.executemany(sql, values)

    def _commit(self, raw: sqlite3.Connection) -> sqlite3.Cursor:
        process, world = self._process, self._process.world
        hit = world.faults.aimed == process.place and world.happens("hit")
        if world.happens("commit_fails") or (hit and world.rng.random() < 0.5):
            process.doubts = True
            raw.execute("ROLLBACK")
            raise process.disk_error("SQLITE_FULL")
        done = raw.execute("COMMIT")
        world.observer.committed(process)
        if world.happens("commit_unknown") or hit:
            process.doubts = True
            world.situations.outcome_unknown(process)
            raise process.disk_error("SQLITE_IOERR_FSYNC")
        return done

    def take(self) -> sqlite3.Connection:
        """Nothing more is said through it; returns what is under it."""
        raw, self._raw = self._raw, None
        assert raw is not None
        return raw
