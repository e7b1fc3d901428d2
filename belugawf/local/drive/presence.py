"""This process among the others: its lock, its row, its socket; and what it knows of theirs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from belugawf.host.clock import Clock
from belugawf.local.file import ownership
from belugawf.local.file.database import WouldBlockError
from belugawf.local.file.ownership import OwnerLock
from belugawf.local.file.wakeup import WakeSocket, wake
from belugawf.local.file.writer import Writer
from belugawf.local.store.rows import OwnerRow
from belugawf.local.store.store import Store
from belugawf.model.errors import BelugaError

# What a datagram says: look at the database.
LOOK = "look"


class Presence:
    """This process as an owner of runs: from `register` to `close`."""

    def __init__(self, store: Store, folder: Path, clock: Clock) -> None:
        self._store = store
        self._folder = folder
        self._since = clock.now()
        self._lock = OwnerLock.acquire(folder)
        try:
            self._socket = WakeSocket.bind(folder, self._lock.id)
        except BaseException:
            self._lock.release()
            raise
        self._dead: set[str] = set()
        self._places = store.database.places

    async def register(self, lane: Writer) -> None:
        """Say that we are here, and remove what is left of those that are not any more."""
        try:
            await lane.write(lambda: self.announce("guest", ()))
            self._places.keep(self._lock.path, "the lock of this process")
        except BaseException:
            self._socket.close()
            self._lock.release()
            raise
        self._sweep()

    def _sweep(self) -> None:
        """Remove what is left of processes that were killed while they owned nothing."""
        # If somebody else is writing, whoever comes next does it.
        with suppress(BelugaError, WouldBlockError):
            self._store.database.without_blocking(self._remove_dead)

    def _remove_dead(self) -> None:
        dead = [owner.id for owner in self._store.owners() if not self.is_alive(owner.id)]
        if dead:
            self._store.forget_dead(dead)
        ownership.sweep(self._folder)

    @property
    def id(self) -> str:
        """The owner id that stands on the runs of this process."""
        return self._lock.id

    def announce(self, role: str, workflows: Iterable[str]) -> None:
        """Say what we are: a "worker" drives everything of these workflows, a "guest" its own."""
        self._store.register(
            OwnerRow(
                id=self._lock.id,
                pid=os.getpid(),
                host=ownership.host_name(),
                boot_id=ownership.boot_id(),
                since=self._since,
                socket=self._socket.path,
                role=role,
                workflows=frozenset(workflows),
            )
        )

    async def close(self, lane: Writer, keeping: Sequence[int] = ()) -> None:
        """Let go of everything that we own, and say goodbye.

        Runs in `keeping` stay ours until `free`, or until the process ends: something that cannot
        be stopped still works for them.
        """
        self._places.forget(self._lock.path)
        try:
            await lane.write(lambda: self._store.unregister(self._lock.id, keeping))
        finally:
            self._socket.close()
            if not keeping:
                self._lock.release()

    def free(self) -> None:
        """Nothing works any more for what was kept: whoever looks next may take it. Any thread."""
        self._lock.release()

    def is_alive(self, owner_id: str) -> bool:
        """Whether that owner's process lives; once dead, always dead."""
        if owner_id == self._lock.id:
            return True
        if owner_id in self._dead:
            return False
        alive = ownership.is_alive(self._folder, owner_id)
        if not alive:
            self._dead.add(owner_id)
        return alive

    def living(self) -> list[str]:
        """The owners that live, we among them."""
        return [owner.id for owner in self._store.owners() if self.is_alive(owner.id)]

    def how_it_died(self, owner_id: str) -> str:
        """ "crash" on this boot of the machine, "reboot" where the machine went down.

        "shutdown" where it had said goodbye, and kept only what a thread still worked for.
        """
        row = self._store.owner(owner_id)
        if row is not None and row.role == "left":
            return "shutdown"
        if row is None or not row.boot_id or row.boot_id == ownership.boot_id():
            return "crash"
        return "reboot"

    def forget(self, dead: Iterable[str]) -> None:
        """Remove what is left of dead owners."""
        gone = [owner for owner in dead if not self.is_alive(owner)]
        if gone:
            self._store.forget_dead(gone)
            ownership.sweep(self._folder)

    def kept_descriptors(self) -> tuple[int, ...]:
        """What isolated activities keep open, so that our runs are ours until they are gone."""
        return (self._lock.fileno(),)

    def fileno(self) -> int:
        """The socket's descriptor: readable when somebody wakes us."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read what was sent to us; whether there was anything."""
        return bool(self._socket.drain())


def wake_owner(row: OwnerRow | None) -> bool:
    """Tell a process to look at the database; it would do so within a second anyway.

    Whether it could be told: one that is dead cannot.
    """
    return row is not None and row.socket is not None and wake(row.socket, LOOK)
