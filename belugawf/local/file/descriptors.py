"""Descriptors that forked children do not keep.

A `flock` belongs to the open file, not to the process: a child that was forked while the lock was
held shares it, and keeps it when its parent is killed. So whatever carries a lock, or would let a
dead receiver look alive, is opened here and closed at once in every forked child. Executed
programs are covered by close-on-exec.

A fork waits while a descriptor is being opened or closed, so that none can slip through between
the system call and the list. Closing is all that a child may do: unlocking or unlinking would
take the lock from its parent.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar


class Closable(Protocol):
    """What `close` ends for good; a second call does nothing."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)

# Reentrant: a signal handler that forks may run in the thread that holds it.
_guard = threading.RLock()
_open: set[Closable] = set()


class Descriptor:
    """A file descriptor; `fd` is -1 once it is closed, here or by a fork."""

    def __init__(self, path: Path, flags: int, mode: int = 0o600) -> None:
        self.fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def opened(make: Callable[[], T]) -> T:
    """What `make` opens, closed again in forked children."""
    with _guard:
        thing = make()
        _open.add(thing)
        return thing


def closed(thing: Closable) -> None:
    """Close what `opened` gave; once more is allowed."""
    with _guard:
        _open.discard(thing)
        thing.close()


def _close_in_child() -> None:
    for thing in _open:
        thing.close()
    _open.clear()
    _guard.release()


os.register_at_fork(
    before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_close_in_child
)
