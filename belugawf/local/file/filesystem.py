"""Where a database may live: a local disk, in folders that are private to their user.

Nothing here opens the database file. A plain `open().close()` on it drops the locks that SQLite
holds in this process, and lets a second writer in. `stat` and the table of mounts say enough.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from belugawf.model.errors import UnavailableError

# WAL needs memory shared by all processes, ownership needs `flock`: both end at the machine.
_NETWORK_TYPES = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "smb2", "ncpfs", "afpfs", "webdav", "davfs"),
        *("9p", "afs", "coda", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "ocfs2", "gfs2"),
        *("orangefs", "pvfs2", "panfs", "vboxsf", "prl_fs", "vmhgfs"),
    }
)
_NETWORK_FUSE = frozenset(
    {
        *("sshfs", "s3fs", "goofys", "rclone", "gcsfuse", "glusterfs", "ceph", "davfs", "davfs2"),
        *("curlftpfs", "smbnetfs", "hubicfuse", "moosefs", "mfsmount", "juicefs", "seaweedfs"),
        *("vmhgfs-fuse", "mount-s3", "blobfuse", "blobfuse2", "cephfs", "lizardfs", "nfs"),
    }
)
_MOUNTINFO = Path("/proc/self/mountinfo")
_HERE = "keep the database on a local disk: --db FILE, `db:` in .belugawf.yaml, in Python db="


def real_path(db: Path) -> Path:
    """The one absolute path of a database, whatever links lead to it."""
    return Path(os.path.realpath(db))


def state_folder(db: Path) -> Path:
    """The folder of locks and sockets beside the database, `<db>-locks`, made 0700 if missing.

    Links are followed first: two names for one database must mean one folder, or the owners
    would not see each other. Raises UnavailableError if the folder is not ours.
    """
    target = real_path(db)
    folder = target.with_name(target.name + "-locks")
    make_private(folder)
    return folder


def make_private(folder: Path) -> None:
    """Make `folder` 0700 whatever the umask, or check that it is a real folder and ours.

    Raises UnavailableError for a link, a file or another user's folder in its place.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise _cannot("create the folder", folder, error) from error
    found = check_private(folder)
    if found is not None and stat.S_IMODE(found.st_mode) != 0o700:
        try:
            folder.chmod(0o700)
        except OSError as error:
            raise _cannot("make private the folder", folder, error) from error


def check_private(folder: Path) -> os.stat_result | None:
    """What lies at `folder`, `None` for nothing; raises UnavailableError unless a folder of ours.

    Modes are not looked at.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _cannot("look at the folder", folder, error) from error
    if not stat.S_ISDIR(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no folder"
        raise UnavailableError(
            f"{os.fspath(folder)!r} is {what}, where a private folder is expected",
            hint="remove it; belugawf makes the folder itself",
        )
    if found.st_uid != os.geteuid():
        raise UnavailableError(
            f"the folder {os.fspath(folder)!r} belongs to user {found.st_uid}, "
            f"but this is user {os.geteuid()}",
            hint="run belugawf as the user who owns the database",
        )
    return found


def check_location(db: Path, *, create: bool = True) -> None:
    """Refuse a place that cannot hold the database, before anything connects to it.

    Missing folders above it are made 0700 (not with `create=False`: then they are left missing).
    Raises UnavailableError with the reason: a network file system, a file where a folder should
    be, a folder that cannot be written, a second hard link, or a lock folder that is not ours.
    """
    target = real_path(db)
    base = _nearest_existing(target.parent)
    _require_folder(base)
    _require_local(target, base)
    _require_writable(base)
    if base != target.parent:
        if create:
            _make_folders(target.parent)
        return
    _require_plain_file(target)
    check_private(target.with_name(target.name + "-locks"))


def sync_folders(db: Path) -> None:
    """Make the names of the folders above a new database survive a power cut, as its data does.

    SQLite syncs the folder that its files are in; but that folder's own name is in the one above,
    and whoever has just made it, we or a person, did not sync that. A folder that cannot be synced
    is passed over, as SQLite does: it may be nobody's to read, and some file systems refuse.
    """
    for folder in real_path(db).parents:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def private_umask() -> Iterator[None]:
    """Let new files be 0600 while SQLite creates a database; `-wal` and `-shm` copy its mode.

    The umask belongs to the process: hold it for the creation only, not around user code.
    """
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def fits_wal(fs_type: str) -> bool:
    """Whether a file system type, as mounts name it, works for WAL and `flock`; "" is unknown.

    Unknown types pass: refusing what is only unfamiliar would lock people out of local disks.
    """
    kind = fs_type.lower()
    if kind.startswith(("fuse.", "macfuse.", "osxfuse.")):
        return kind.split(".", 1)[1] not in _NETWORK_FUSE
    return kind not in _NETWORK_TYPES


def fs_type_of(folder: Path, mounts: list[tuple[str, str]]) -> str:
    """The type of the mount that `folder` (absolute, no links) is on; "" when none covers it.

    The longest mount point wins, and the last among equals: it lies over the others.
    """
    best, best_type = -1, ""
    path = os.fspath(folder)
    for point, fs_type in mounts:
        prefix = point if point.endswith("/") else point + "/"
        if (path == point or path.startswith(prefix)) and len(point) >= best:
            best, best_type = len(point), fs_type
    return best_type


def parse_mountinfo(text: str) -> list[tuple[str, str]]:
    """(mount point, type) for each line of Linux' mountinfo; lines of another form are skipped."""
    mounts = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if separator and len(fields) > 4:
            mounts.append((_unescape(fields[4]), tail[0]))
    return mounts


def parse_mount_output(text: str) -> list[tuple[str, str]]:
    """(mount point, type) for each line of the `mount` command of macOS."""
    lines = (re.fullmatch(r".* on (/.*) \(([^,)]+).*\)", line) for line in text.splitlines())
    return [(line[1], line[2]) for line in lines if line]


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _mounts() -> list[tuple[str, str]]:
    """The table of mounts, empty if it cannot be read."""
    if sys.platform == "darwin":
        return parse_mount_output(output_of("/sbin/mount"))
    try:
        return parse_mountinfo(_MOUNTINFO.read_text(errors="surrogateescape"))
    except OSError:
        return []


def output_of(*command: str) -> str:
    """What one of macOS' programs prints; "" if it fails."""
    import subprocess  # costs milliseconds, and Linux does without

    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(  # noqa: S603 - programs of the system's, by their paths
            command, capture_output=True, text=True, timeout=5, check=True
        ).stdout
    return ""


def _nearest_existing(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        if os.path.lexists(candidate):
            return candidate
    return Path("/")


def _require_folder(folder: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except OSError as error:
        raise _cannot("look at the folder", folder, error) from error
    if not is_folder:
        raise UnavailableError(
            f"{os.fspath(folder)!r} is a file, where the database's folder is expected",
            hint="name another place: --db FILE, `db:` in .belugawf.yaml, in Python db=",
        )


def _require_local(target: Path, base: Path) -> None:
    fs_type = fs_type_of(base, _mounts())
    if not fits_wal(fs_type):
        raise UnavailableError(
            f"the database {os.fspath(target)!r} would be on a network file system ({fs_type}); "
            "file locks and SQLite's WAL need a local disk",
            hint=_HERE,
        )


def _require_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnavailableError(
            f"the folder {os.fspath(folder)!r} cannot be written by this user",
            hint="SQLite writes files beside the database; allow it, or name another place: --db",
        )


def _make_folders(folder: Path) -> None:
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for one in reversed(missing):
        make_private(one)


def _require_plain_file(target: Path) -> None:
    try:
        found = target.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot("look at the database", target, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise UnavailableError(
            f"{os.fspath(target)!r} is no file, where the database is expected",
            hint="name another place: --db FILE, `db:` in .belugawf.yaml, in Python db=",
        )
    if found.st_nlink > 1:
        # Each name would get a `-wal` and a lock folder of its own, and the data be torn.
        raise UnavailableError(
            f"the database {os.fspath(target)!r} has {found.st_nlink} hard links, "
            "and SQLite cannot keep its files apart under several names",
            hint=f"find the others with: find . -inum {found.st_ino}; keep one name",
        )


def _cannot(action: str, path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"cannot {action} {os.fspath(path)!r}: {error.strerror}",
        hint="check the permissions and the free space of its file system",
    )
