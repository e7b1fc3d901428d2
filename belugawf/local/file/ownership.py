"""Who is alive, as the kernel knows it.

Each executor that drives runs holds a `flock` on a file of its own, `<id>.owner`, in the folder
beside the database, and writes its id on the runs it claims. The kernel drops the lock at the
moment the process dies, however it dies. The life of such a file:

1. The owner creates it under a random id, locks it, and checks that its name still leads to it: a
   sweeper may have taken it for a leftover in between. If so, a new id is tried.
2. Others ask with a shared lock. Refused: alive (a frozen owner too). Granted, or no file: dead.
3. The owner unlinks it and lets go. After a crash a sweeper locks it (shared), checks it
   and unlinks it.

Only who holds the lock unlinks. A file that is gone means dead; ids are never used again.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from belugawf.model.errors import UnavailableError


def require_posix() -> None:
    """Raise UnavailableError on Windows, which has no `flock` and no Unix datagrams."""
    if os.name == "nt":
        raise UnavailableError(
            "belugawf's local provider needs Linux or macOS; it does not run on Windows",
            hint="use the Windows Subsystem for Linux, or the temporal provider",
        )


require_posix()

import fcntl  # noqa: E402 - not there on Windows, which is told so above

from belugawf.local.file.descriptors import Descriptor, closed, opened  # noqa: E402
from belugawf.local.file.filesystem import output_of  # noqa: E402

# Each try can lose only to a sweeper that comes between two system calls.
_MAX_TRIES = 100
_ID = re.compile(r"[0-9a-f]{32}")
_OUR_FILE = re.compile(r"([0-9a-f]{32})\.(owner|sock)")


class OwnerLock:
    """The proof that this process lives, held until `release` or the end of the process.

    Forked children do not have it: there `release` does nothing.
    """

    def __init__(self, folder: Path, owner_id: str, descriptor: Descriptor) -> None:
        self.id = owner_id
        self.path = _lock_path(folder, owner_id)
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, folder: Path) -> OwnerLock:
        """A lock under a new id in `folder`, which exists; never waits.

        Raises UnavailableError if files cannot be created or locked.
        """
        for _ in range(_MAX_TRIES):
            owner_id = os.urandom(16).hex()
            descriptor = _create(_lock_path(folder, owner_id))
            if descriptor is not None:
                return cls(folder, owner_id, descriptor)
        raise UnavailableError(
            f"the lock files in {os.fspath(folder)!r} disappear as soon as they are made",
            hint="find out which program removes them, and exclude the folder there",
        )

    def is_intact(self) -> bool:
        """Whether others can still see the lock; false once released, or its file was removed."""
        fd = self._descriptor.fd
        return fd >= 0 and _leads_to(self.path, fd)

    def fileno(self) -> int:
        """The lock's descriptor: a child process that inherits it keeps the lock while it lives."""
        return self._descriptor.fd

    def release(self) -> None:
        """Unlink the file and let go; does nothing the second time, and in forked children."""
        if self.is_intact():
            self.path.unlink(missing_ok=True)
        closed(self._descriptor)

    def __enter__(self) -> OwnerLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"OwnerLock({self.id!r}, intact={self.is_intact()})"


def is_valid_id(owner_id: str) -> bool:
    """Whether a text, perhaps read from a database, has the form of an owner's id."""
    return _ID.fullmatch(owner_id) is not None


def is_alive(folder: Path, owner_id: str) -> bool:
    """Whether the process behind `owner_id` lives, frozen or not; asks the kernel, never waits.

    A text that is no id was never anybody's: dead. Raises UnavailableError when the file is there
    and cannot be asked, because a living owner must not be taken for a dead one.
    """
    if not is_valid_id(owner_id):
        return False
    try:
        with _probing(_lock_path(folder, owner_id)) as fd:
            return not try_lock(fd, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise no_lock(_lock_path(folder, owner_id), error) from error


def sweep(folder: Path) -> int:
    """Remove what dead owners left in `folder`: their lock files and sockets.

    Returns the number of files removed. Names that are not ours are left alone.
    """
    names = [match for match in map(_OUR_FILE.fullmatch, _names(folder)) if match]
    locks = [match[1] for match in names if match[2] == "owner"]
    removed = sum(_sweep_lock(_lock_path(folder, owner_id)) for owner_id in locks)
    # A socket is bound after its owner's lock was taken, so one without a lock is a leftover.
    sockets = [match[1] for match in names if match[2] == "sock"]
    return removed + sum(_sweep_socket(folder, owner_id) for owner_id in sockets)


def boot_id() -> str:
    """A text that changes with every start of the machine; "" if there is none."""
    if sys.platform == "darwin":
        # Not kern.boottime: that moves whenever the clock is set.
        return output_of("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid").strip()
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def is_frozen(pid: int) -> bool:
    """Whether process `pid` is stopped (SIGSTOP, a debugger); false if it cannot be known."""
    try:
        status = Path(f"/proc/{int(pid)}/stat").read_text(errors="replace")
    except OSError:
        return False
    # The name before it, in brackets, may hold anything, brackets and spaces included.
    return status.rpartition(")")[2].split()[:1] in (["T"], ["t"])


def host_name() -> str:
    """The name of this machine, as people know it."""
    return os.uname().nodename


def _lock_path(folder: Path, owner_id: str) -> Path:
    return folder / f"{owner_id}.owner"


def _create(path: Path) -> Descriptor | None:
    """A new file at `path`, locked; `None` when a sweeper or another file was there first."""
    try:
        descriptor = opened(lambda: Descriptor(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return None
    except OSError as error:
        raise no_lock(path, error) from error
    try:
        os.fchmod(descriptor.fd, 0o600)
        if try_lock(descriptor.fd, fcntl.LOCK_EX) and _leads_to(path, descriptor.fd):
            return descriptor
    except OSError as error:
        closed(descriptor)
        path.unlink(missing_ok=True)
        raise no_lock(path, error) from error
    closed(descriptor)
    return None


@contextmanager
def _probing(path: Path) -> Iterator[int]:
    """A descriptor of its own: locks on one that is shared would not see each other."""
    descriptor = opened(lambda: Descriptor(path, os.O_RDONLY | os.O_NONBLOCK))
    try:
        yield descriptor.fd
    finally:
        closed(descriptor)


def try_lock(fd: int, kind: int) -> bool:
    """Lock the open file, if nobody keeps us from it."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leads_to(path: Path, fd: int) -> bool:
    """Whether `path` is the name of the open file `fd`."""
    try:
        named = path.lstat()
    except OSError:
        return False
    here = os.fstat(fd)
    return here.st_nlink >= 1 and os.path.samestat(here, named)


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


def _sweep_lock(path: Path) -> int:
    # A shared lock keeps a creator out just as well, and does not make a dead owner look alive to
    # who asks in the same moment. Two sweepers may both hold it: the second finds nothing.
    # What cannot be removed today is no harm: a later sweep, by a process that may, takes it.
    with suppress(OSError), _probing(path) as fd:
        if try_lock(fd, fcntl.LOCK_SH) and _leads_to(path, fd):
            path.unlink()
            return 1
    return 0


def _sweep_socket(folder: Path, owner_id: str) -> int:
    with suppress(OSError, UnavailableError):
        if not is_alive(folder, owner_id):
            (folder / f"{owner_id}.sock").unlink()
            return 1
    return 0


def no_lock(
    path: Path, error: OSError, kind: type[UnavailableError] = UnavailableError
) -> UnavailableError:
    """The error that says why the file of a lock is of no use."""
    return kind(
        f"the lock file {os.fspath(path)!r} cannot be used: {error.strerror}",
        hint="check the permissions, the free space and the file system of its folder",
    )
