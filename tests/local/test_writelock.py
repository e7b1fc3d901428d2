"""The write lock: one holder at a time over threads and processes, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from belugawf.local.file import writelock
from belugawf.local.file.places import FRESH_S
from belugawf.local.file.writelock import WriteLock
from belugawf.model.errors import BusyError, UnavailableError
from tests.local.processes import Child, mode, until

# Python 3.12 warns of forks beside threads: what follows them is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

HOLDER = """
    import sys
    from pathlib import Path
    from belugawf.local.file.writelock import WriteLock
    lock = WriteLock(Path(sys.argv[1]))
    for line in sys.stdin:
        lock.acquire() if line == "take\\n" else lock.release()
        print("done", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "write.lock"


def tell(child: Child, word: str) -> None:
    child.say(word)
    assert child.line() == "done"


def waiter_of(lock: WriteLock) -> writelock._Waiter:
    assert lock._waiter is not None
    return lock._waiter


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_was_taken_away(path: Path, how: str) -> None:
    """Who holds an old file queues with those who came later, on the new one. FINDINGS O4"""
    lock = WriteLock(path)
    with lock.held():
        pass
    path.unlink()
    if how == "replaced":
        path.touch()
    time.sleep(FRESH_S)
    with Child(HOLDER, path) as other:
        tell(other, "take")
        assert not lock.try_acquire()  # finds out
        assert not lock.try_acquire()
        with pytest.raises(BusyError, match=str(other.pid)):
            lock.acquire(0.2)
        tell(other, "give")
        lock.acquire(20)
        lock.release()
    lock.close()


def test_a_file_that_is_taken_away_from_its_holder(path: Path) -> None:
    """Who waits on a file that is gone goes on to the new one."""
    lock = WriteLock(path)
    with Child(HOLDER, path) as first, Child(HOLDER, path) as second:
        tell(first, "take")
        taken = threading.Thread(target=lock.acquire, args=(60,))
        taken.start()
        assert until(lambda: lock._waiter is not None)
        path.unlink()
        tell(second, "take")  # another file
        time.sleep(FRESH_S)
        tell(first, "give")
        taken.join(0.3)
        assert taken.is_alive()
        tell(second, "give")
        taken.join(20)
        assert not taken.is_alive()
    lock.release()
    lock.close()


def test_one_process_at_a_time(path: Path, tmp_path: Path) -> None:
    """Six processes and threads in each count together in a file, and none loses a step."""
    script = """
        import sys, threading
        from pathlib import Path
        from belugawf.local.file.writelock import WriteLock
        lock, counter = WriteLock(Path(sys.argv[1])), Path(sys.argv[2])
        def count():
            for _ in range(100):
                with lock.held():
                    counter.write_text(str(int(counter.read_text()) + 1))
        threads = [threading.Thread(target=count) for _ in range(2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print("ended", flush=True)
    """
    counter = tmp_path / "counter"
    counter.write_text("0")
    children = [Child(script, path, counter) for _ in range(6)]
    try:
        assert [child.line() for child in children] == ["ended"] * 6
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert counter.read_text() == "1200"


def test_threads_exclude_each_other(path: Path) -> None:
    """Threads that share one object count without losing a step."""
    lock = WriteLock(path)
    count = [0]

    def step(_: int) -> None:
        with lock.held():
            before = count[0]
            os.sched_yield() if sys.platform == "linux" else None
            count[0] = before + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(step, range(2000)))
    assert count == [2000]
    lock.close()


def test_two_objects_exclude_each_other(path: Path) -> None:
    """Two objects of one process are two contenders."""
    one, two = WriteLock(path), WriteLock(path)
    with one.held(), pytest.raises(BusyError):
        two.acquire(timeout=0)
    with two.held(timeout=0):
        pass


def test_timeout_names_the_holder(path: Path) -> None:
    """A wait that ends in vain says which process holds the lock; exit code 11."""
    with Child(HOLDER, path) as child:
        tell(child, "take")
        with pytest.raises(BusyError, match=rf"process {child.pid} held .* for 0.05 s") as caught:
            WriteLock(path).acquire(timeout=0.05)
    assert caught.value.exit_code == 11


@pytest.mark.skipif(sys.platform != "linux", reason="who is stopped is known on Linux only")
def test_timeout_says_that_the_holder_is_stopped(path: Path) -> None:
    """A holder that somebody stopped is named with the command that lets it go on."""
    with Child(HOLDER, path) as child:
        tell(child, "take")
        child.stop()
        with pytest.raises(BusyError, match="which is stopped") as caught:
            WriteLock(path).acquire(timeout=0.05)
        assert caught.value.hint == f"let it go on with: kill -CONT {child.pid}"
        child.resume()


def test_another_thread_is_named(path: Path) -> None:
    """A wait for this process's own thread says so."""
    lock = WriteLock(path)
    with lock.held(), ThreadPoolExecutor(1) as pool:
        error = pool.submit(lock.acquire, 0.05).exception()
    assert isinstance(error, BusyError)
    assert f"another thread of this process ({os.getpid()})" in error.message


def test_release_ends_the_wait(path: Path) -> None:
    """Who waits in the queue gets the lock when the holder gives it back."""
    lock = WriteLock(path)
    with Child(HOLDER, path) as child, ThreadPoolExecutor(1) as pool:
        tell(child, "take")
        waiting = pool.submit(lock.acquire)
        assert until(lambda: lock._waiter is not None)
        assert not waiting.done()
        tell(child, "free")
        waiting.result(timeout=20)
        assert lock.holder() == os.getpid()
        lock.release()
        tell(child, "take")


def test_killed_holder_ends_the_wait(path: Path) -> None:
    """Who waits gets the lock when the holder is killed."""
    lock = WriteLock(path)
    with Child(HOLDER, path) as child, ThreadPoolExecutor(1) as pool:
        tell(child, "take")
        waiting = pool.submit(lock.acquire)
        assert until(lambda: lock._waiter is not None)
        child.kill()
        waiting.result(timeout=20)
        lock.release()


def test_abandoned_waiter_gives_the_lock_back(path: Path) -> None:
    """A helper that gets the lock after its wait was given up returns it at once."""
    lock = WriteLock(path)
    with Child(HOLDER, path) as child, Child(HOLDER, path) as other:
        tell(child, "take")
        with pytest.raises(BusyError):
            lock.acquire(timeout=0.05)
        waiter = waiter_of(lock)
        tell(child, "free")
        assert until(waiter._ended.is_set)
        assert waiter.file.fd == -1
        tell(other, "take")
        tell(other, "free")
    with lock.held(timeout=0):
        pass


def test_waiters_do_not_pile_up(path: Path) -> None:
    """Waits that fail again and again share one helper thread, and the last one succeeds."""
    lock = WriteLock(path)
    with Child(HOLDER, path) as child, ThreadPoolExecutor(1) as pool:
        tell(child, "take")
        waiters = []
        for _ in range(5):
            with pytest.raises(BusyError):
                lock.acquire(timeout=0.01)
            waiters.append(waiter_of(lock))
        assert len(set(waiters)) == 1
        waiting = pool.submit(lock.acquire)
        assert until(lambda: waiters[0]._wanted)
        tell(child, "free")
        waiting.result(timeout=20)
        with pytest.raises(BusyError):
            WriteLock(path).acquire(timeout=0)
        lock.release()


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_interrupted_wait_keeps_nothing(path: Path) -> None:
    """Ctrl-C during the wait leaves the lock to others, and the object usable."""
    script = """
        import signal, sys
        from pathlib import Path
        from belugawf.local.file.writelock import WriteLock
        signal.signal(signal.SIGINT, signal.default_int_handler)
        lock = WriteLock(Path(sys.argv[1]))
        print("ready", flush=True)
        try:
            lock.acquire()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        sys.stdin.readline()
        with lock.held():
            print("held", flush=True)
    """
    with Child(script, path) as child:
        with WriteLock(path).held():
            assert child.line() == "ready"
            assert until(lambda: len(list(Path(f"/proc/{child.pid}/task").iterdir())) == 2)
            child.process.send_signal(signal.SIGINT)
            assert child.line() == "interrupted"
        with WriteLock(path).held(timeout=20):
            child.say("go on")
        assert child.line() == "held"


def test_interrupt_between_grant_and_return(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt that comes when the helper has the lock already does not keep it."""
    lock = WriteLock(path)

    def interrupted(waiter: writelock._Waiter, timeout: float) -> bool:
        held.release()
        assert until(waiter._ended.is_set)
        raise KeyboardInterrupt

    held = WriteLock(path)
    held.acquire()
    monkeypatch.setattr(writelock._Waiter, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    with WriteLock(path).held(timeout=0):
        pass


def test_interrupt_after_the_fast_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt right after the lock was taken gives it back."""

    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    lock = WriteLock(path)
    with monkeypatch.context() as patch:
        patch.setattr(writelock, "_sign", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
    for one in (WriteLock(path), lock):
        with one.held(timeout=0):
            pass


def test_error_in_the_block_releases(path: Path) -> None:
    """Whatever is raised inside `held`, the lock is given back."""
    lock = WriteLock(path)
    with pytest.raises(KeyError), lock.held():
        raise KeyError("x")
    with lock.held(timeout=0):
        pass


def forked(work: Callable[[], None]) -> int:
    """The exit code of a forked child that does `work`: 0 when it raised nothing."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_fork_while_held(path: Path) -> None:
    """A child forked inside the block neither frees the parent's lock nor has it."""
    lock = WriteLock(path)

    def child() -> None:
        lock.release()
        with pytest.raises(BusyError):
            lock.acquire(timeout=0.02)

    with lock.held():
        assert forked(child) == 0
        with pytest.raises(BusyError):
            WriteLock(path).acquire(timeout=0)
    assert forked(lambda: lock.acquire(timeout=0)) == 0
    with lock.held(timeout=0):
        pass


def test_orphan_does_not_keep_the_lock(path: Path) -> None:
    """The holder is killed while a child that it forked lives on: the lock is free at once."""
    script = """
        import os, sys, time
        from pathlib import Path
        from belugawf.local.file.writelock import WriteLock
        with WriteLock(Path(sys.argv[1])).held():
            child = os.fork()
            if child == 0:
                print(os.getpid(), flush=True)
                time.sleep(600)
            sys.stdin.readline()
    """
    with Child(script, path) as holder:
        orphan = int(holder.line())
        try:
            holder.kill()
            with WriteLock(path).held(timeout=0):
                os.kill(orphan, 0)
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_process_ends_while_a_helper_waits(path: Path) -> None:
    """A helper that still waits in the kernel does not keep its process from ending."""
    script = """
        import sys
        from pathlib import Path
        from belugawf.local.file.writelock import WriteLock
        try:
            WriteLock(Path(sys.argv[1])).acquire(timeout=0.02)
        except Exception as error:
            print(type(error).__name__, flush=True)
    """
    with WriteLock(path).held(), Child(script, path) as child:
        assert child.line() == "BusyError"
        assert child.process.wait(timeout=20) == 0


def test_close_and_open_again(path: Path) -> None:
    """A closed lock holds no descriptor, and is opened anew by the next acquire."""
    lock = WriteLock(path)
    lock.close()
    with lock.held():
        with pytest.raises(RuntimeError, match="in use"):
            lock.close()
        file = lock._file
    lock.close()
    assert file is not None and file.fd == -1
    with lock.held():
        pass


def test_release_needs_acquire(path: Path) -> None:
    """Releasing what is not held is a bug that is told."""
    with pytest.raises(RuntimeError, match="not held"):
        WriteLock(path).release()


def test_unusable_file(path: Path) -> None:
    """A folder that is not there, or a folder in the file's place, is an environment error."""
    with pytest.raises(UnavailableError, match="No such file or directory"):
        WriteLock(path / "nowhere" / "write.lock").acquire()
    path.mkdir()
    lock = WriteLock(path)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="Is a directory"):
            lock.acquire()


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    """A symbolic link in the file's place is refused, and its target left alone."""
    (tmp_path / "target").write_text("precious")
    path.symlink_to(tmp_path / "target")
    with pytest.raises(UnavailableError):
        WriteLock(path).acquire()
    assert (tmp_path / "target").read_text() == "precious"


def test_holder_of_an_empty_file(path: Path) -> None:
    """Before the first acquire nobody is named."""
    lock = WriteLock(path)
    assert lock.holder() is None
    path.touch()
    assert lock.holder() is None
    with lock.held():
        assert lock.holder() == os.getpid()


def test_mode_under_umask_0(path: Path) -> None:
    """The lock file is 0600 under the widest umask."""
    before = os.umask(0)
    try:
        with WriteLock(path).held():
            assert mode(path) == 0o600
    finally:
        os.umask(before)


def test_helper_threads_are_named_and_end(path: Path) -> None:
    """A wait that was granted leaves no thread behind."""
    one, two = WriteLock(path), WriteLock(path)
    one.acquire()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(two.acquire)
        assert until(lambda: two._waiter is not None)
        one.release()
        waiting.result(timeout=20)
    two.release()
    names = [thread.name for thread in threading.enumerate()]
    assert until(lambda: "belugawf-write-lock" not in [t.name for t in threading.enumerate()]), (
        names
    )


def test_no_thread_to_wait_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread left, waiting is refused with the reason; later it works."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lock = WriteLock(path)
    with Child(HOLDER, path) as child:
        tell(child, "take")
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            with pytest.raises(UnavailableError, match="can't start new thread"):
                lock.acquire(5)
        tell(child, "release")
        with lock.held(5):
            pass
    lock.close()
