"""Descriptors: none reaches a forked child, whenever the fork happens."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from belugawf.local.file.descriptors import Descriptor, closed, opened

# Python 3.12 warns of forks beside threads: what follows them is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_closed_in_a_child_only(tmp_path: Path) -> None:
    """A fork closes the child's copy and marks it; the parent's stays."""
    file = opened(lambda: Descriptor(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    fd = file.fd
    child = os.fork()
    if child == 0:
        os._exit(1 if is_open(fd) or file.fd != -1 else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_open(fd)
    closed(file)
    closed(file)
    assert file.fd == -1


def test_a_fork_waits_for_an_opening(tmp_path: Path) -> None:
    """A fork in another thread, begun between the opening and its note, closes it all the same."""
    codes: list[int] = []
    fds: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(1 if is_open(fds[0]) else 0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    forking = threading.Thread(target=fork)

    def open_slowly() -> Descriptor:
        file = Descriptor(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        fds.append(file.fd)
        forking.start()
        forking.join(0.3)  # time enough for a fork that does not wait
        return file

    file = opened(open_slowly)
    forking.join()
    assert codes == [0]
    closed(file)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A symbolic link in place of the file is an error, and no program inherits what is opened."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        Descriptor(tmp_path / "link", os.O_RDWR | os.O_CREAT)
    assert not (tmp_path / "target").exists()
    file = Descriptor(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    assert not os.get_inheritable(file.fd)
    file.close()
