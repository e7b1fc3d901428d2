"""Wake-ups: told at once where somebody listens, and never a wait or an error where nobody does."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belugawf import WorkflowContext, new_executor, workflow
from belugawf.local.file import wakeup
from belugawf.local.file.wakeup import MAX_MESSAGE_BYTES, WakeSocket, wake
from belugawf.model.errors import UnavailableError
from tests.local.processes import Child, mode
from tests.users import MALLORY, as_user, give, only_root, open_folder

# Python 3.12 warns of forks beside threads: what follows them is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ID = "0123456789abcdef" * 2
OTHER_ID = "f" * 32
LONG = "a-rather-long-name-" * 6


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose sockets' paths are short enough, which pytest's own are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder).resolve()


@pytest.fixture
def runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the part of the user's runtime directory."""
    path = folder / "run"
    path.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(path))
    return path


@pytest.fixture
def receiver(folder: Path) -> Iterator[WakeSocket]:
    receiver = WakeSocket.bind(folder, ID)
    yield receiver
    receiver.close()


def test_messages_arrive(folder: Path, receiver: WakeSocket) -> None:
    """What is sent makes the descriptor readable, and drain gives each text once."""
    assert receiver.path == os.fspath(folder / f"{ID}.sock")
    assert receiver.drain() == set()
    assert wake(receiver.path, "inbox")
    assert wake(receiver.path, "inbox")
    assert wake(receiver.path, "claim:7")
    assert select.select([receiver.fileno()], [], [], 20)[0]
    assert receiver.drain() == {"inbox", "claim:7"}
    assert receiver.drain() == set()


def test_another_process_wakes(receiver: WakeSocket) -> None:
    """A message from another process arrives, with nothing but the path known to it."""
    script = """
        import sys
        from belugawf.local.file.wakeup import wake
        print(wake(sys.argv[1], "inbox"), flush=True)
    """
    with Child(script, receiver.path) as child:
        assert child.line() == "True"
    assert receiver.drain() == {"inbox"}


def test_rubbish_is_ignored(receiver: WakeSocket) -> None:
    """Empty, oversized, non-ASCII and unprintable datagrams are dropped; the rest arrives."""
    longest = "x" * MAX_MESSAGE_BYTES
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for data in (b"", b"y" * (MAX_MESSAGE_BYTES + 1), "ü".encode(), b"a b", b"a\n", b"\x1b[2J"):
            sender.sendto(data, receiver.path)
        sender.sendto(longest.encode(), receiver.path)
    assert receiver.drain() == {longest}


@pytest.mark.parametrize("message", ["", "two words", "ü", "x" * (MAX_MESSAGE_BYTES + 1), "a\n"])
def test_what_would_be_dropped_is_not_sent(receiver: WakeSocket, message: str) -> None:
    """A message that no receiver would read is the caller's mistake."""
    with pytest.raises(ValueError, match="expected a short ASCII text"):
        wake(receiver.path, message)


def test_dead_receiver(folder: Path) -> None:
    """A killed process's socket, and one that is gone, give false."""
    script = """
        import sys
        from pathlib import Path
        from belugawf.local.file.wakeup import WakeSocket
        receiver = WakeSocket.bind(Path(sys.argv[1]), sys.argv[2])
        print(receiver.path, flush=True)
        sys.stdin.readline()
    """
    with Child(script, folder, ID) as child:
        path = child.line()
        assert wake(path, "inbox")
        child.kill()
    assert Path(path).exists()
    assert not wake(path, "inbox")
    Path(path).unlink()
    assert not wake(path, "inbox")


@pytest.mark.parametrize("path", ["", "x.sock", "\0abstract", "/dev/null", "/", "/a\0b", "/\udc80"])
def test_a_path_is_only_an_address(path: str) -> None:
    """Whatever stands in the database in place of a socket's path gives false."""
    assert not wake(path, "inbox")


def test_too_long_an_address() -> None:
    """A path that no socket can have gives false."""
    assert not wake("/" + "x" * 500, "inbox")


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux' own")
def test_abstract_names_are_not_sent_to() -> None:
    """A name in Linux' abstract space, where anybody may listen, is refused though it works."""
    name = f"\0belugawf-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name)
        listener.setblocking(False)
        assert not wake(name, "inbox")
        with pytest.raises(BlockingIOError):
            listener.recv(10)


def test_full_buffer_never_blocks(receiver: WakeSocket) -> None:
    """A receiver that does not read: sending ends with false, and it stays readable."""
    sent = 0
    while wake(receiver.path, "inbox"):
        sent += 1
        assert sent < 100_000
    assert not wake(receiver.path, "late")
    assert receiver.drain() == {"inbox"}
    assert wake(receiver.path, "next")


def test_drain_ends_under_a_flood(receiver: WakeSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """One drain reads a bounded number, and leaves the socket readable for the next."""
    monkeypatch.setattr(wakeup, "_MAX_DRAIN", 2)
    for message in ("a", "b", "c"):
        assert wake(receiver.path, message)
    assert receiver.drain() == {"a", "b"}
    assert select.select([receiver.fileno()], [], [], 20)[0]
    assert receiver.drain() == {"c"}


def test_close_removes_the_socket(folder: Path) -> None:
    """After close nothing is left, closing again is allowed, and nothing can be read."""
    receiver = WakeSocket.bind(folder, ID)
    receiver.close()
    receiver.close()
    assert list(folder.iterdir()) == []
    assert receiver.fileno() == -1
    assert receiver.drain() == set()
    assert not wake(receiver.path, "inbox")


def test_forked_child_takes_no_messages(receiver: WakeSocket) -> None:
    """A child has no socket, and its close does not remove the parent's."""
    child = os.fork()
    if child == 0:
        closed = receiver.fileno() == -1
        receiver.close()
        os._exit(0 if closed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert wake(receiver.path, "inbox")
    assert receiver.drain() == {"inbox"}


def test_orphan_does_not_listen(folder: Path) -> None:
    """A killed owner's socket refuses messages although a child that it forked lives on."""
    script = """
        import os, sys, time
        from pathlib import Path
        from belugawf.local.file.wakeup import WakeSocket
        receiver = WakeSocket.bind(Path(sys.argv[1]), sys.argv[2])
        child = os.fork()
        if child == 0:
            print(os.getpid(), receiver.path, flush=True)
            time.sleep(600)
        sys.stdin.readline()
    """
    with Child(script, folder, ID) as owner:
        orphan, path = owner.line().split()
        try:
            owner.kill()
            assert not wake(path, "inbox")
            os.kill(int(orphan), 0)
        finally:
            os.kill(int(orphan), 9)


def test_mode_under_umask_0(folder: Path) -> None:
    """The socket is 0600 under the widest umask."""
    before = os.umask(0)
    try:
        receiver = WakeSocket.bind(folder, ID)
    finally:
        os.umask(before)
    assert mode(receiver.path) == 0o600
    receiver.close()


def test_long_path_falls_back(folder: Path, runtime: Path) -> None:
    """Where the path would be too long, a short private folder is used, and it works."""
    far = folder / LONG
    far.mkdir()
    receiver = WakeSocket.bind(far, ID)
    assert receiver.path == os.fspath(runtime / "belugawf" / f"{ID}.sock")
    assert mode(runtime / "belugawf") == 0o700
    assert mode(receiver.path) == 0o600
    assert wake(receiver.path, "inbox")
    assert receiver.drain() == {"inbox"}
    receiver.close()
    assert list(far.iterdir()) == list((runtime / "belugawf").iterdir()) == []


@pytest.mark.parametrize("length", [wakeup._PATH_BYTES - 1, wakeup._PATH_BYTES])
def test_the_limit_itself(folder: Path, runtime: Path, length: int) -> None:
    """The longest possible path is used as it is; one byte more falls back."""
    name = len(f"/{ID}.sock")
    near = folder / ("d" * (length - name - len(os.fspath(folder)) - 1))
    near.mkdir()
    receiver = WakeSocket.bind(near, ID)
    assert (Path(receiver.path).parent == near) == (length < wakeup._PATH_BYTES)
    receiver.close()


def test_a_path_that_is_no_text_falls_back(folder: Path, runtime: Path) -> None:
    """A folder whose name is not UTF-8 cannot be stored: the short folder is used."""
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    receiver = WakeSocket.bind(odd, ID)
    assert Path(receiver.path).parent == runtime / "belugawf"
    receiver.close()


def test_foreign_short_folder_is_not_used(folder: Path, runtime: Path) -> None:
    """A link in place of the private folder is passed over for the next candidate."""
    (folder / "trap").mkdir()
    (runtime / "belugawf").symlink_to(folder / "trap")
    far = folder / LONG
    far.mkdir()
    receiver = WakeSocket.bind(far, ID)
    assert Path(receiver.path).parent.name == f"belugawf-{os.geteuid()}"
    assert list((folder / "trap").iterdir()) == []
    receiver.close()


def test_no_folder_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no folder will do, there is a socket that can be watched, and nobody can send to it."""
    monkeypatch.setattr(wakeup, "_short_folders", lambda: [folder / LONG, folder / "no" / "such"])
    receiver = WakeSocket.bind(folder / LONG, ID)
    assert receiver.path is None
    assert select.select([receiver.fileno()], [], [], 0)[0] == []
    assert receiver.drain() == set()
    receiver.close()
    assert receiver.fileno() == -1


def test_no_descriptor_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process may open nothing more, one sentence says so."""

    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(UnavailableError, match="Too many open files") as caught:
        WakeSocket.bind(folder, ID)
    assert "ulimit" in (caught.value.hint or "")


@workflow
async def hearing(ctx: WorkflowContext) -> Any:
    return (await ctx.wait_for_signal("go")).payload


async def test_nothing_needs_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a socket a worker takes runs, signals and cancels at its next look. FINDINGS S5"""
    monkeypatch.setattr(wakeup, "_short_folders", list)
    db = tmp_path / LONG / "state.db"
    async with (
        asyncio.timeout(60),
        new_executor(db=db, workflows=[hearing]) as worker,
        new_executor(db=db, workflows=[]) as sender,
        new_executor(db=db, workflows=[hearing]) as starter,
    ):
        working = asyncio.create_task(worker.work())
        handle = await starter.execute(hearing, id="a", detach=True)
        await starter.execute(hearing, id="b", detach=True)
        await sender.wait("a", until="waiting")
        await sender.signal("a", "go", 1)
        await sender.cancel("b")
        assert await handle.result() == 1
        assert (await sender.wait("b")).status == "cancelled"
        with sqlite3.connect(db) as connection:
            assert {row[0] for row in connection.execute("SELECT socket FROM owners")} == {None}
        worker.interrupt()
        await working


@only_root
def test_names_that_another_user_has_taken() -> None:
    """Whoever makes the folder of our sockets first keeps nobody from driving. FINDINGS S5"""
    user = 70_000 + os.getpid() % 10_000  # /tmp is everybody's: not that of another test run
    with open_folder() as folder:
        temporary = folder / "tmp"
        project = folder / LONG
        taken = [temporary / f"belugawf-{user}", Path("/tmp") / f"belugawf-{user}"]
        (project / "workflows").mkdir(parents=True)
        (project / "workflows" / "hello.py").write_text(
            "from belugawf import workflow\n\n@workflow\nasync def hello(ctx): return 'hello'\n"
        )
        give(user, project)
        temporary.mkdir()
        temporary.chmod(0o1777)
        try:
            for path in taken:
                path.mkdir(mode=0o700)
                give(MALLORY, path)
            for environment in ({}, {"XDG_RUNTIME_DIR": str(temporary)}):
                moved = {"TMPDIR": str(temporary), **environment}
                result = as_user(user, project, "run", "hello", env=moved)
                assert (result.code, result.out) == (0, "hello\n"), result
            assert all(list(path.iterdir()) == [] for path in taken)
        finally:
            for path in taken:
                path.rmdir()


def test_short_folder_is_swept(folder: Path, runtime: Path) -> None:
    """Old sockets of dead processes go from the short folder; young and living ones stay."""
    short = runtime / "belugawf"
    short.mkdir()
    old = time.time() - 3600
    kept = WakeSocket.bind(short, OTHER_ID)
    os.utime(kept.path, (old, old))
    for name in ("dead.sock", "young.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(os.fspath(short / name))
    os.utime(short / "dead.sock", (old, old))
    (short / "note.sock").write_text("no socket")
    os.utime(short / "note.sock", (old, old))
    (folder / LONG).mkdir()
    receiver = WakeSocket.bind(folder / LONG, ID)
    assert sorted(path.name for path in short.iterdir()) == sorted(
        [f"{ID}.sock", f"{OTHER_ID}.sock", "note.sock", "young.sock"]
    )
    receiver.close()
    kept.close()


@pytest.mark.parametrize("owner_id", ["", "../x", "A" * 32])
def test_bind_needs_an_id(folder: Path, owner_id: str) -> None:
    """Only an owner's id names a socket."""
    with pytest.raises(ValueError, match="expected an owner's id"):
        WakeSocket.bind(folder, owner_id)
