"""Ownership: alive exactly as long as the process is, whatever ends it."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from belugawf.local.file import ownership
from belugawf.local.file.filesystem import state_folder
from belugawf.local.file.ownership import OwnerLock, is_alive, is_frozen, sweep
from belugawf.model.errors import UnavailableError
from tests.local.processes import Child, mode, until

# Python 3.12 warns of forks beside threads: what follows them is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

OWNER = """
    import os, sys
    from pathlib import Path
    from belugawf.local.file.ownership import OwnerLock
    lock = OwnerLock.acquire(Path(sys.argv[1]))
    print(lock.id, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return state_folder(tmp_path / "state.db")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose sockets' paths are short enough, which pytest's own are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@contextmanager
def killed_at_exit(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)


def test_held_is_alive_and_released_is_dead(folder: Path) -> None:
    """An owner is alive, for itself too, from acquire to release, and leaves no file behind."""
    with OwnerLock.acquire(folder) as lock:
        assert is_alive(folder, lock.id)
        assert lock.is_intact()
    assert not is_alive(folder, lock.id)
    assert not lock.is_intact()
    assert list(folder.iterdir()) == []
    lock.release()


def test_ids_differ(folder: Path) -> None:
    """Every owner has an id of its own, also two in one process."""
    with OwnerLock.acquire(folder) as one, OwnerLock.acquire(folder) as two:
        assert one.id != two.id
    assert not is_alive(folder, one.id)


def test_killed_owner_is_dead_at_once(folder: Path) -> None:
    """SIGKILL frees the lock: no time has to pass."""
    with Child(OWNER, folder) as owner:
        owner_id = owner.line()
        assert is_alive(folder, owner_id)
        owner.kill()
        assert not is_alive(folder, owner_id)


def test_frozen_owner_is_alive(folder: Path) -> None:
    """A stopped process keeps its lock, and is known to be stopped."""
    with Child(OWNER, folder) as owner:
        owner_id = owner.line()
        assert not is_frozen(owner.pid)
        owner.stop()
        assert is_alive(folder, owner_id)
        assert sweep(folder) == 0
        if sys.platform == "linux":
            assert is_frozen(owner.pid)
        owner.resume()
        assert is_alive(folder, owner_id)


def test_frozen_owner_killed(folder: Path) -> None:
    """A stopped process that is killed is dead at once."""
    with Child(OWNER, folder) as owner:
        owner_id = owner.line()
        owner.stop()
        owner.kill()
        assert not is_alive(folder, owner_id)


def test_forked_orphan_does_not_keep_the_lock(folder: Path) -> None:
    """The owner is killed while a child that it forked lives on: dead at once."""
    script = """
        import os, sys, time
        from pathlib import Path
        from belugawf.local.file.ownership import OwnerLock
        lock = OwnerLock.acquire(Path(sys.argv[1]))
        child = os.fork()
        if child == 0:
            print(lock.id, os.getpid(), flush=True)
            time.sleep(600)
        sys.stdin.readline()
    """
    with Child(script, folder) as owner:
        owner_id, orphan = owner.line().split()
        with killed_at_exit(int(orphan)):
            assert is_alive(folder, owner_id)
            owner.kill()
            assert not is_alive(folder, owner_id)
            os.kill(int(orphan), 0)


def test_executed_child_does_not_keep_the_lock(folder: Path) -> None:
    """A program that the owner started, with its descriptors left open, holds nothing."""
    script = """
        import subprocess, sys
        from pathlib import Path
        from belugawf.local.file.ownership import OwnerLock
        lock = OwnerLock.acquire(Path(sys.argv[1]))
        code = "print('up', flush=True); import time; time.sleep(600)"
        child = subprocess.Popen(
            [sys.executable, "-c", code], close_fds=False, stdout=subprocess.PIPE
        )
        child.stdout.readline()
        print(lock.id, child.pid, flush=True)
        sys.stdin.readline()
    """
    with Child(script, folder) as owner:
        owner_id, orphan = owner.line().split()
        with killed_at_exit(int(orphan)):
            owner.kill()
            assert not is_alive(folder, owner_id)
            os.kill(int(orphan), 0)


def test_forks_beside_busy_threads_keep_nothing(folder: Path) -> None:
    """A fork in the middle of another thread's acquire leaves no lock to the child."""
    script = """
        import os, sys, threading, time
        from pathlib import Path
        from belugawf.local.file.ownership import OwnerLock
        def churn():
            while True:
                locks.append(OwnerLock.acquire(Path(sys.argv[1])))
        locks = []
        threading.Thread(target=churn, daemon=True).start()
        children = []
        for turn in range(20):
            while len(locks) <= turn:
                pass
            child = os.fork()
            if child == 0:
                time.sleep(600)
            children.append(child)
        print(*children, flush=True)
        sys.stdin.readline()
    """
    # In the end the thread meets the limit of open files, and says so.
    with Child(script, folder, stderr=subprocess.DEVNULL) as owner:
        orphans = [int(pid) for pid in owner.line().split()]
        try:
            owner.kill()
            ids = [path.stem for path in folder.glob("*.owner")]
            assert len(ids) >= 20
            # The last child may not have run yet: its first act is to close what it inherited.
            assert until(lambda: not any(is_alive(folder, owner_id) for owner_id in ids))
        finally:
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)


def test_release_in_a_forked_child_does_nothing(folder: Path) -> None:
    """A child that leaves the owner's `with` block takes nothing from its parent."""
    with OwnerLock.acquire(folder) as lock:
        child = os.fork()
        if child == 0:
            lock.release()
            os._exit(0 if not lock.is_intact() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lock.is_intact()
        assert is_alive(folder, lock.id)


def test_forked_child_can_own_by_itself(folder: Path) -> None:
    """A child acquires a lock of its own, which ends with the child."""
    with OwnerLock.acquire(folder):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, OwnerLock.acquire(folder).id.encode())
            os.close(write)
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        owner_id = os.read(read, 100).decode()
        os.close(read)
    assert (folder / f"{owner_id}.owner").exists()
    assert not is_alive(folder, owner_id)


@pytest.mark.parametrize(
    "owner_id", ["", "x", "../state", "A" * 32, "0" * 31, "0" * 32 + "\n", "0" * 64]
)
def test_what_is_no_id_is_dead(folder: Path, owner_id: str) -> None:
    """A text that is no id is never used as a path, even where a locked file would be found."""
    with (folder / f"{owner_id}.owner").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not is_alive(folder, owner_id)
        assert sweep(folder) == 0


def test_missing_means_dead(folder: Path) -> None:
    """No file, and no folder, means that nobody is alive."""
    assert not is_alive(folder, "0" * 32)
    assert not is_alive(folder / "nowhere", "0" * 32)
    assert sweep(folder / "nowhere") == 0


def test_what_cannot_be_asked_is_not_dead(folder: Path) -> None:
    """A link in place of a lock file is no answer: an error, not a take-over."""
    (folder / f"{'a' * 32}.owner").symlink_to(folder / "elsewhere")
    with pytest.raises(UnavailableError, match="cannot be used"):
        is_alive(folder, "a" * 32)


def test_removed_file_is_noticed(folder: Path) -> None:
    """An owner whose lock file somebody removed, or replaced, can see it."""
    lock = OwnerLock.acquire(folder)
    path = folder / f"{lock.id}.owner"
    path.unlink()
    assert not lock.is_intact()
    path.touch()
    assert not lock.is_intact()
    lock.release()
    assert path.exists()


def test_sweep_takes_the_dead_and_leaves_the_rest(short_path: Path) -> None:
    """Dead owners' locks and sockets go; living ones' and foreign files stay."""
    folder = state_folder(short_path / "state.db")
    with Child(OWNER, folder) as child, OwnerLock.acquire(folder) as alive:
        dead = child.line()
        child.kill()
        for name in (dead, "b" * 32, alive.id):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.bind(os.fspath(folder / f"{name}.sock"))
        (folder / "write.lock").touch()
        assert sweep(folder) == 3
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            [f"{alive.id}.owner", f"{alive.id}.sock", "write.lock"]
        )
        assert is_alive(folder, alive.id)


def test_sweepers_and_creators_race(folder: Path) -> None:
    """Owners that come and go under two sweepers are never swept while they live."""
    script = """
        import sys
        from pathlib import Path
        from belugawf.local.file.ownership import sweep
        print("up", flush=True)
        while True:
            sweep(Path(sys.argv[1]))
    """
    with Child(script, folder) as one, Child(script, folder) as two:
        assert one.line() == two.line() == "up"
        lost = [lock.id for lock in _brief_owners(folder, 1500) if not lock.is_intact()]
    assert lost == []


def _brief_owners(folder: Path, count: int) -> Iterator[OwnerLock]:
    for _ in range(count):
        with OwnerLock.acquire(folder) as lock:
            assert is_alive(folder, lock.id)
            yield lock


def test_sweep_between_create_and_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweeper that takes a file before its creator locks it costs a try, not the owner."""
    real = ownership.try_lock
    swept: list[int] = []

    def sweep_first(fd: int, kind: int) -> bool:
        if not swept:
            swept.append(0)
            swept[0] = sweep(folder)
        return real(fd, kind)

    monkeypatch.setattr(ownership, "try_lock", sweep_first)
    with OwnerLock.acquire(folder) as lock:
        assert swept == [1]
        assert lock.is_intact()
        assert len(list(folder.iterdir())) == 1


def test_asking_while_a_sweeper_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead owner looks dead also to who asks while a sweeper holds its file."""
    with Child(OWNER, folder) as child:
        owner_id = child.line()
    real = ownership._leads_to
    answers: list[bool] = []

    def ask_meanwhile(path: Path, fd: int) -> bool:
        answers.append(is_alive(folder, owner_id))
        return real(path, fd)

    monkeypatch.setattr(ownership, "_leads_to", ask_meanwhile)
    assert sweep(folder) == 1
    assert answers == [False]


def test_no_endless_tries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every new file disappears, acquire ends with a sentence."""
    monkeypatch.setattr(ownership, "_leads_to", lambda path, fd: False)
    with pytest.raises(UnavailableError, match="disappear"):
        OwnerLock.acquire(folder)


def test_acquire_without_folder(folder: Path) -> None:
    """A folder that is not there is an environment error with the reason."""
    with pytest.raises(UnavailableError, match="No such file or directory"):
        OwnerLock.acquire(folder / "nowhere")


@pytest.mark.parametrize("umask", ["000", "277"])
def test_modes_whatever_the_umask(tmp_path: Path, umask: str) -> None:
    """Folder 0700 and files 0600 under the widest and under a narrow umask."""
    script = """
        import os, sys
        from pathlib import Path
        os.umask(int(sys.argv[2], 8))
        from belugawf.local.file.filesystem import state_folder
        from belugawf.local.file.ownership import OwnerLock
        folder = state_folder(Path(sys.argv[1]))
        print(OwnerLock.acquire(folder).id, flush=True)
        sys.stdin.readline()
    """
    with Child(script, tmp_path / "state.db", umask) as owner:
        owner_id = owner.line()
        assert mode(tmp_path / "state.db-locks") == 0o700
        assert mode(tmp_path / "state.db-locks" / f"{owner_id}.owner") == 0o600


def test_waiting_for_a_threads_owner(folder: Path) -> None:
    """A lock taken in a thread outlives the thread: it belongs to the process."""
    locks: list[OwnerLock] = []
    thread = threading.Thread(target=lambda: locks.append(OwnerLock.acquire(folder)))
    thread.start()
    thread.join()
    assert is_alive(folder, locks[0].id)
    locks[0].release()


def test_boot_and_host() -> None:
    """The boot id stays the same within a boot; the host has a name."""
    assert ownership.boot_id() == ownership.boot_id()
    assert len(ownership.boot_id()) == 36
    assert ownership.host_name()


def test_frozen_needs_a_process() -> None:
    """A process that is gone, or was never there, is not frozen."""
    with Child("pass") as child:
        assert until(lambda: child.process.poll() is not None)
    assert not is_frozen(child.pid)
    assert not is_frozen(-1)


def test_windows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows one sentence says what to use instead."""
    monkeypatch.setattr(os, "name", "nt")
    with pytest.raises(UnavailableError, match="needs Linux or macOS"):
        ownership.require_posix()
