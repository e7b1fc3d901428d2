"""Where a database may live, and that its files are private."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from belugawf.local.file import filesystem
from belugawf.local.file.filesystem import (
    check_location,
    fits_wal,
    fs_type_of,
    parse_mount_output,
    parse_mountinfo,
    private_umask,
    state_folder,
)
from belugawf.model.errors import UnavailableError
from tests.local.processes import mode

# Python 3.12 warns of forks beside threads: what follows them is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid shared:2 - proc proc rw
30 22 0:50 / /home rw shared:9 master:3 - nfs4 server:/home rw,vers=4.2
31 30 8:2 / /home/ann/local\040disk rw - xfs /dev/sdb1 rw
32 22 0:60 / /mnt/c rw - 9p C:\134 rw
33 22 0:61 / /mnt/ssh rw - fuse.sshfs ann@host: rw
34 22 0:62 / /mnt/over rw - nfs server:/x rw
35 34 8:3 / /mnt/over rw - btrfs /dev/sdc1 rw
not a line of this table
"""
MAC_MOUNTS = """/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse)
//ann@server/My on Share (1) on /Volumes/My Share (smbfs, nodev, nosuid, mounted by ann)
server:/export on /Volumes/nfs (nfs)
map auto_home on /System/Volumes/Data/home (autofs, automounted, nobrowse)
"""


@pytest.fixture
def wide_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("folder", "fs_type"),
    [
        ("/", "ext4"),
        ("/srv/data", "ext4"),
        ("/home", "nfs4"),
        ("/home/ann", "nfs4"),
        ("/homework", "ext4"),
        ("/home/ann/local disk/x", "xfs"),
        ("/mnt/c/Users", "9p"),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/mnt/over/x", "btrfs"),
    ],
)
def test_type_by_mountinfo(folder: str, fs_type: str) -> None:
    """The longest mount point counts, whole names only, and the last one mounted over it."""
    assert fs_type_of(Path(folder), parse_mountinfo(MOUNTINFO)) == fs_type


@pytest.mark.parametrize(
    ("folder", "fs_type"),
    [("/Users/ann", "apfs"), ("/Volumes/nfs/x", "nfs"), ("/Volumes/My Share/x", "smbfs")],
)
def test_type_by_mount_output(folder: str, fs_type: str) -> None:
    """The output of macOS' `mount` is read, whatever the names hold."""
    assert fs_type_of(Path(folder), parse_mount_output(MAC_MOUNTS)) == fs_type


NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"),
    *("beegfs", "NFS", "webdav", "vboxsf", "fuse.sshfs", "fuse.s3fs", "fuse.rclone"),
    *("fuse.ceph", "macfuse.sshfs"),
)
LOCAL = (
    *("ext4", "xfs", "btrfs", "zfs", "apfs", "hfs", "tmpfs", "overlay", "f2fs", "virtiofs"),
    *("fuseblk", "fuse.gocryptfs", "something-new", ""),
)


@pytest.mark.parametrize("fs_type", NETWORK)
def test_network_types_are_refused(fs_type: str) -> None:
    """What other machines may write to does not fit WAL."""
    assert not fits_wal(fs_type)


@pytest.mark.parametrize("fs_type", LOCAL)
def test_local_and_unknown_types_pass(fs_type: str) -> None:
    """Local disks, and what nobody knows yet, are not refused."""
    assert fits_wal(fs_type)


def test_network_location_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database below a network mount is refused with the type, and nothing is created."""
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / {tmp_path}/share rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(filesystem, "_MOUNTINFO", table)
    monkeypatch.setattr("sys.platform", "linux")
    (tmp_path / "share").mkdir()
    with pytest.raises(UnavailableError, match=r"network file system \(nfs4\).*local disk"):
        check_location(tmp_path / "share" / "new" / "state.db")
    assert list((tmp_path / "share").iterdir()) == []
    check_location(tmp_path / "state.db")


def test_link_to_a_network_location_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system is the one behind the links."""
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / {tmp_path}/share rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(filesystem, "_MOUNTINFO", table)
    monkeypatch.setattr("sys.platform", "linux")
    (tmp_path / "share").mkdir()
    (tmp_path / "state.db").symlink_to(tmp_path / "share" / "state.db")
    with pytest.raises(UnavailableError, match="network file system"):
        check_location(tmp_path / "state.db")


def test_without_a_table_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the mounts cannot be read, nothing is refused for them."""
    monkeypatch.setattr(filesystem, "_MOUNTINFO", tmp_path / "none")
    monkeypatch.setattr("sys.platform", "linux")
    check_location(tmp_path / "state.db")


def test_missing_folders_are_made_private(tmp_path: Path, wide_umask: None) -> None:
    """Every folder that is made is 0700 under the widest umask; those that were there stay."""
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    check_location(there / "a" / "b" / "state.db")
    assert [mode(path) for path in (there, there / "a", there / "a" / "b")] == [
        0o755,
        0o700,
        0o700,
    ]
    assert list((there / "a" / "b").iterdir()) == []


def test_nothing_is_made_where_not_asked(tmp_path: Path) -> None:
    """Looking at a database that is not there makes no folder."""
    check_location(tmp_path / "a" / "state.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_many_make_the_same_folder(tmp_path: Path) -> None:
    """Threads that make the folder at the same time all succeed."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        try:
            check_location(tmp_path / "a" / "b" / "state.db")
            state_folder(tmp_path / "a" / "b" / "state.db")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_file_in_place_of_the_folder(tmp_path: Path) -> None:
    """A parent that is a file is named."""
    (tmp_path / "file").touch()
    for db in (tmp_path / "file" / "state.db", tmp_path / "file" / "deeper" / "state.db"):
        with pytest.raises(UnavailableError, match=r"file' is a file"):
            check_location(db)


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without the permission to write is named, before anything connects."""
    if os.geteuid() == 0:
        monkeypatch.setattr(filesystem.os, "access", lambda path, how: False)
    else:
        tmp_path.chmod(0o500)
    with pytest.raises(UnavailableError, match="cannot be written by this user"):
        check_location(tmp_path / "state.db")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_database_that_is_no_file(tmp_path: Path, kind: str) -> None:
    """A folder or a pipe in the database's place is refused, without opening it."""
    db = tmp_path / "state.db"
    db.mkdir() if kind == "folder" else os.mkfifo(db)
    with pytest.raises(UnavailableError, match="is no file"):
        check_location(db)


def test_hard_links_are_refused(tmp_path: Path) -> None:
    """A database under two names would get two WALs and two sets of locks."""
    (tmp_path / "state.db").touch()
    os.link(tmp_path / "state.db", tmp_path / "other.db")
    with pytest.raises(UnavailableError, match="has 2 hard links"):
        check_location(tmp_path / "state.db")


def test_links_lead_to_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to a database, relative or through links, means the same folder of locks."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "state.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "state.db")
    (tmp_path / "way").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    ways = [Path("real/state.db"), Path("link.db"), Path("way/state.db"), Path("real/../link.db")]
    expected = (tmp_path / "real").resolve() / "state.db-locks"
    assert {state_folder(way) for way in ways} == {expected}


def test_state_folder_is_private(tmp_path: Path, wide_umask: None) -> None:
    """The folder of locks is 0700 when made, and made 0700 again when somebody opened it."""
    folder = state_folder(tmp_path / "state.db")
    assert folder.name == "state.db-locks"
    assert mode(folder) == 0o700
    folder.chmod(0o777)
    state_folder(tmp_path / "state.db")
    assert mode(folder) == 0o700


@pytest.mark.parametrize(("kind", "text"), [("link", "is a symbolic link"), ("file", "no folder")])
def test_state_folder_that_is_none(tmp_path: Path, kind: str, text: str) -> None:
    """A link or a file in its place is refused, before connecting and when it is used."""
    place = tmp_path / "state.db-locks"
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere") if kind == "link" else place.touch()
    for check in (state_folder, check_location):
        with pytest.raises(UnavailableError, match=text):
            check(tmp_path / "state.db")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_state_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's folder of locks is refused."""
    folder = state_folder(tmp_path / "state.db")
    owner = folder.stat().st_uid
    monkeypatch.setattr(filesystem.os, "geteuid", lambda: owner + 1)
    for check in (state_folder, check_location):
        with pytest.raises(UnavailableError, match=f"belongs to user {owner}"):
            check(tmp_path / "state.db")


def test_state_folder_without_a_parent(tmp_path: Path) -> None:
    """Where the folder cannot be made, the system's reason is told."""
    with pytest.raises(UnavailableError, match="No such file or directory"):
        state_folder(tmp_path / "nowhere" / "state.db")


def test_private_files_of_sqlite(tmp_path: Path, wide_umask: None) -> None:
    """A database created under `private_umask` is 0600, and so are its WAL files, made later."""
    db = tmp_path / "state.db"
    with private_umask():
        connection = sqlite3.connect(db)
        connection.execute("PRAGMA user_version = 1")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (a)")
    files = {path.name: mode(path) for path in tmp_path.iterdir()}
    connection.close()
    assert files == {"state.db": 0o600, "state.db-shm": 0o600, "state.db-wal": 0o600}
    (tmp_path / "user-file").touch()
    assert mode(tmp_path / "user-file") == 0o666


def test_the_check_keeps_sqlites_locks(tmp_path: Path) -> None:
    """Checking a database that this process writes to does not let another writer in."""
    db = tmp_path / "state.db"
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("BEGIN EXCLUSIVE")
    check_location(db)
    state_folder(db)
    other = os.fork()
    if other == 0:
        try:
            sqlite3.connect(db, timeout=0).execute("INSERT INTO t VALUES (1)")
        except sqlite3.OperationalError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0
    connection.execute("COMMIT")
    connection.close()


def test_socket_in_place_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything that is no folder is refused as one."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("state.db-locks")
    with pytest.raises(UnavailableError, match="no folder"):
        state_folder(Path("state.db"))
