"""Datagrams that say "look at the database now".

They are hints and carry no truth: one that is lost costs a second, because every worker looks by
itself once a second. So nothing here waits, and sending never fails: a dead, missing or full
receiver is simply not told. A process that can have no address is not told either: its folder may
have a long path, and another user may have taken the names of the short ones.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from belugawf.local.file.descriptors import closed, opened
from belugawf.local.file.filesystem import make_private
from belugawf.local.file.ownership import is_valid_id
from belugawf.model.errors import UnavailableError

MAX_MESSAGE_BYTES = 128

# sizeof(sockaddr_un.sun_path), the final NUL included.
_PATH_BYTES = 108 if sys.platform == "linux" else 104
_MESSAGE = re.compile(rb"[!-~]{1,%d}" % MAX_MESSAGE_BYTES)
# One drain ends even while somebody floods the socket; what is left makes it readable again.
_MAX_DRAIN = 1000
# Between a socket's name and its first listener lie microseconds.
_STALE_SECONDS = 60.0


class WakeSocket:
    """The receiving end; `path` is its address, for others to find in the database, or `None`.

    Forked children do not have it: else they would take the owner's messages.
    """

    def __init__(self, sock: socket.socket, path: str | None) -> None:
        self.path = path
        self._socket = sock

    @classmethod
    def bind(cls, folder: Path, owner_id: str) -> WakeSocket:
        """A socket named by `owner_id` in `folder`, or in a short private folder of this user.

        The second is taken if the first path is too long for a socket, or its file system
        has none. If neither works, it is one without an address, which receives nothing. Raises
        UnavailableError if this process may not have another socket.
        """
        if not is_valid_id(owner_id):
            raise ValueError(f"expected an owner's id, found {owner_id!r}")
        name = f"{owner_id}.sock"
        here = Path(os.path.realpath(folder)) / name
        if _fits(here):
            with suppress(OSError):
                return cls(_bound(here), os.fspath(here))
        return cls._bind_elsewhere(name)

    @classmethod
    def _bind_elsewhere(cls, name: str) -> WakeSocket:
        for path in (folder / name for folder in _short_folders()):
            with suppress(UnavailableError, OSError):
                return cls(_bound_in_short_folder(path), os.fspath(path))
        try:
            return cls(opened(_socket), None)
        except OSError as error:
            raise UnavailableError(
                f"no socket can be made to wake this process: {error.strerror or error}",
                hint="allow more open files: ulimit -n 1024",
            ) from error

    def fileno(self) -> int:
        """The descriptor to watch for reading; -1 once closed."""
        return self._socket.fileno()

    def drain(self) -> set[str]:
        """What was sent since the last call, each text once; never waits.

        What is no short printable ASCII text is dropped.
        """
        messages = set()
        for _ in range(_MAX_DRAIN):
            try:
                data = self._socket.recv(MAX_MESSAGE_BYTES + 1)
            except OSError:
                break
            if _MESSAGE.fullmatch(data):
                messages.add(data.decode("ascii"))
        return messages

    def close(self) -> None:
        """Close and remove the socket; nothing in a forked child, which has closed it already."""
        if self._socket.fileno() >= 0 and self.path is not None:
            with suppress(OSError):
                Path(self.path).unlink()
        closed(self._socket)


def wake(path: str, message: str) -> bool:
    """Send `message` to the socket at `path`; whether it was handed over. Never waits.

    `path` may come from a database: it is an address and nothing else, and one that leads to no
    live socket, whatever it is, gives false. Raises ValueError for a message that is no printable
    ASCII text of 1 to MAX_MESSAGE_BYTES without spaces, as `drain` would drop it.
    """
    data = message.encode("ascii", errors="replace")
    if not message.isascii() or not _MESSAGE.fullmatch(data):
        raise ValueError(f"expected a short ASCII text without spaces, found {message!r}")
    # Absolute also rules out Linux' abstract names, which start with NUL.
    if not Path(path).is_absolute():
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            return sender.sendto(data, path) == len(data)
    except (OSError, ValueError):
        return False


def _bound(path: Path) -> socket.socket:
    return opened(lambda: _bind(path))


def _bound_in_short_folder(path: Path) -> socket.socket:
    make_private(path.parent)
    _sweep_refusing(path.parent)
    return _bound(path)


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


def _bind(path: Path) -> socket.socket:
    sock = _socket()
    try:
        sock.bind(os.fspath(path))
        path.chmod(0o600)
    except BaseException:
        sock.close()
        raise
    return sock


def _fits(path: Path) -> bool:
    """Whether a socket can have this path, and a database hold it as text."""
    try:
        return len(os.fspath(path).encode()) < _PATH_BYTES
    except UnicodeEncodeError:
        return False


def _short_folders() -> list[Path]:
    """Folders of this user alone, best first; they need not exist."""
    import tempfile  # costs milliseconds, and is rarely needed

    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    private = [Path(runtime) / "belugawf"] if Path(runtime).is_absolute() else []
    name = f"belugawf-{os.geteuid()}"
    return [*private, Path(tempfile.gettempdir()).absolute() / name, Path("/tmp") / name]  # noqa: S108 - checked to be ours before use


def _sweep_refusing(folder: Path) -> None:
    """Remove the sockets of dead processes, which refuse a connection.

    Several databases share this folder, so their owners' locks cannot be asked.
    """
    with suppress(OSError):
        for path in folder.glob("*.sock"):
            if _is_refusing(path):
                path.unlink(missing_ok=True)


def _is_refusing(path: Path) -> bool:
    found = path.lstat()
    if not stat.S_ISSOCK(found.st_mode) or time.time() - found.st_mtime < _STALE_SECONDS:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(os.fspath(path)) == errno.ECONNREFUSED
