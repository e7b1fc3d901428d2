"""The queue of writers: held around BEGIN IMMEDIATE..COMMIT, never while user code runs.

SQLite's own busy handler sleeps and tries again, and starves whoever sleeps longest. Here the
kernel queues the writers on a `flock`. (A second lock that lets nobody overtake the first in the
queue was tried: it was no fairer, four times as slow, and a frozen waiter stopped everybody. Trying
again for some milliseconds before queueing halved the usual wait, and made the longest one longer.)

The way of an `acquire`: a lock among this process's threads (`flock` on one descriptor does not
keep them apart), then the file without waiting, which is nearly always enough. Where it is not, a
helper thread waits in the kernel, on a descriptor of its own, because a blocked `flock` has no
timeout. A helper that is waited for no longer gives back what it gets; until then a next `acquire`
takes it over with its place in the queue, so there is never more than one.

If somebody removes the file, those who hold it would queue apart from those who come later. So its
name is compared with it now and then, as `places` says; whoever finds another file queues there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from belugawf.local.file.descriptors import Descriptor, closed, opened
from belugawf.local.file.ownership import is_frozen, no_lock, try_lock
from belugawf.local.file.places import FRESH_S, identity_of
from belugawf.model.errors import BusyError, DisplacedError, UnavailableError

_PID_BYTES = 11  # ten digits and a newline: always the same length, so nothing need be cut off


class WriteLock:
    """Excludes other threads and processes with a WriteLock on the same `path`.

    The file is made 0600 at the first `acquire`, in a folder that exists. After a fork the child's
    object is free, and opens the file anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid = os.getpid()
        self._threads = threading.Lock()
        self._file: Descriptor | None = None
        self._waiter: _Waiter | None = None
        self._held = False
        self._compared_at = float("-inf")

    def acquire(self, timeout: float = 30.0) -> None:
        """Take the lock, waiting `timeout` seconds at most; 0 tries once.

        Raises BusyError naming the holder's process, UnavailableError when the file cannot be
        used. Not reentrant.
        """
        if self._pid != os.getpid():
            self._start_anew()
        end = time.monotonic() + timeout
        if not self._threads.acquire(timeout=max(timeout, 0.0)):
            raise self._busy(timeout, os.getpid())
        try:
            self._take(end, timeout)
        except OSError as error:
            self._give_up()
            raise _no_lock(self._path, error) from error
        except BaseException:
            self._give_up()
            raise

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it; otherwise as `acquire`."""
        if self._pid != os.getpid():
            self._start_anew()
        if not self._threads.acquire(blocking=False):
            return False
        try:
            if self._file is None:
                self._file = _open(self._path)
            if not try_lock(self._file.fd, fcntl.LOCK_EX):
                self._threads.release()
                return False
            if not self._is_in_place(self._file.fd):
                self._give_up()
                return False
            self._held = True
            _sign(self._file.fd)
        except OSError as error:
            self._give_up()
            raise _no_lock(self._path, error) from error
        except BaseException:
            self._give_up()
            raise
        return True

    def release(self) -> None:
        """Give the lock back; in a child forked while it was held, nothing.

        Raises RuntimeError when it is not held.
        """
        if self._pid != os.getpid():
            return
        if self._file is None or not self._held:
            raise RuntimeError("release of a write lock that is not held")
        self._held = False
        # Unlocked, not closed: a program that is just being started may hold a copy until exec.
        fcntl.flock(self._file.fd, fcntl.LOCK_UN)
        self._threads.release()

    @contextmanager
    def held(self, timeout: float = 30.0) -> Iterator[None]:
        """`acquire` before and `release` after the block."""
        self.acquire(timeout)
        try:
            yield
        finally:
            self.release()

    def holder(self) -> int | None:
        """The process that took the lock last, `None` when nobody did or it cannot be read."""
        try:
            return int(self._path.read_bytes()[:_PID_BYTES])
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Close the file of a lock that is not held; a later `acquire` opens it anew.

        Raises RuntimeError when a thread of this process holds it or waits for it.
        """
        if self._pid != os.getpid():
            self._start_anew()
        if not self._threads.acquire(blocking=False):
            raise RuntimeError("close of a write lock that is in use")
        self._give_up()

    def _start_anew(self) -> None:
        """Forget, in a forked child, what belongs to the parent; its files are closed already."""
        self._pid = os.getpid()
        self._threads = threading.Lock()
        self._file = self._waiter = None
        self._held = False

    def _take(self, end: float, timeout: float) -> None:
        while True:
            if self._file is None:
                self._file = _open(self._path)
            if not try_lock(self._file.fd, fcntl.LOCK_EX):
                waiter = self._wait(end, timeout)
                closed(self._file)
                self._file = waiter.file
                self._waiter = None
            if self._is_in_place(self._file.fd):
                break
            closed(self._file)
            self._file = None
        self._held = True
        _sign(self._file.fd)

    def _is_in_place(self, fd: int) -> bool:
        """Whether the name of the file still leads to it, as of the last tenth of a second."""
        now = time.monotonic()
        if now - self._compared_at < FRESH_S:
            return True
        held = os.fstat(fd)
        self._compared_at = now
        return identity_of(os.fspath(self._path)) == (held.st_dev, held.st_ino)

    def _give_up(self) -> None:
        """Close the file, and with it whatever an interrupt left half taken."""
        self._held = False
        if self._file is not None:
            closed(self._file)
            self._file = None
        if self._waiter is not None and not self._waiter.abandon():
            closed(self._waiter.file)
            self._waiter = None
        self._threads.release()

    def _wait(self, end: float, timeout: float) -> _Waiter:
        """The helper, when it got the lock.

        It is known to `_give_up` from before its start until its file is ours: an interrupt at
        any point between finds and closes what it got.
        """
        if end <= time.monotonic():
            raise self._busy(timeout, self.holder())
        if self._waiter is None or not self._waiter.wanted_again():
            self._waiter = _Waiter(_open(self._path))
            self._waiter.start()
        if not self._waiter.wait(end - time.monotonic()):
            raise self._busy(timeout, self.holder())
        if self._waiter.error is not None:
            raise self._waiter.error
        return self._waiter

    def _busy(self, timeout: float, pid: int | None) -> BusyError:
        who = "another process" if pid is None else f"process {pid}"
        hint = "try again; if it persists, look at what that process does"
        if pid == os.getpid():
            who = f"another thread of this process ({pid})"
        elif pid is not None and is_frozen(pid):
            who += ", which is stopped,"
            hint = f"let it go on with: kill -CONT {pid}"
        return BusyError(f"{who} held the database's write lock for {timeout:g} s", hint=hint)


class _Waiter:
    """A helper thread that waits for the lock, and gives it back when nobody wants it any more."""

    def __init__(self, file: Descriptor) -> None:
        self.file = file
        self.error: OSError | None = None
        self._mutex = threading.Lock()
        self._wanted = True
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="belugawf-write-lock", daemon=True)

    def start(self) -> None:
        """Begin to wait, in a thread that does not keep the process from ending."""
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no thread left
            self.error = OSError(errno.EAGAIN, str(error))
            self._ended.set()

    def wait(self, timeout: float) -> bool:
        """Whether it ended (with the lock, or `error`) within `timeout` seconds."""
        return self._ended.wait(max(timeout, 0.0))

    def abandon(self) -> bool:
        """Want the lock no longer; false when it has ended, and `file` may hold the lock."""
        with self._mutex:
            self._wanted = False
            return not self._ended.is_set()

    def wanted_again(self) -> bool:
        """Want the lock after all, in its place in the queue; false when it no longer waits."""
        with self._mutex:
            # An interrupted `start` may have left no thread.
            waits = self._thread.is_alive() and not self._ended.is_set()
            self._wanted = self._wanted or waits
            return waits

    def _run(self) -> None:
        try:
            fcntl.flock(self.file.fd, fcntl.LOCK_EX)
        except OSError as error:
            self.error = error
        with self._mutex:
            if not self._wanted:
                closed(self.file)
            self._ended.set()


def _open(path: Path) -> Descriptor:
    descriptor = opened(lambda: Descriptor(path, os.O_RDWR | os.O_CREAT))
    try:
        os.fchmod(descriptor.fd, 0o600)
    except BaseException:
        closed(descriptor)
        raise
    return descriptor


def _sign(fd: int) -> None:
    """Leave this process's id for those who wait; a full disk only costs them the name."""
    name = b"%10d\n" % os.getpid()
    try:
        # Mostly nobody else wrote meanwhile; and reading makes no page dirty.
        if os.pread(fd, _PID_BYTES, 0) != name:
            os.pwrite(fd, name, 0)
    except OSError:
        return


def _no_lock(path: Path, error: OSError) -> UnavailableError:
    # Without its folder the file cannot even be made: both were there when the database was opened.
    kind = DisplacedError if isinstance(error, FileNotFoundError) else UnavailableError
    return no_lock(path, error, kind)
