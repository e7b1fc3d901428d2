"""The processes of one isolated attempt, seen from our side.

A thread of ours starts the reaper (`reaper.py`), which starts the activity's process, and listens
to both until nothing of them is left. No event loop takes part: an `asyncio` child could be lost
with a cancelled task, and its exit code with a changed SIGCHLD handler.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from belugawf.host.reaper import ENDING_SIGNALS

# The activity's process finds modules just where we do.
_REAPER = (
    "import sys; parent, keep = sys.argv[1:3]; sys.path[:] = sys.argv[3:]; del sys.argv[1:]; "
    "from belugawf.host.reaper import main; "
    "main(int(parent), [int(descriptor) for descriptor in keep.split()])"
)

# How often it is asked whether the reaper lives, in milliseconds.
_POLL_INTERVAL_MS = 1_000
_CHUNK = 65_536
# How often what has lost its reaper is killed again, and how long after.
_ROUNDS, _PAUSE_S = 50, 0.02


class IsolatedChild:
    """One isolated attempt's processes, from `run` until nothing of them is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._ending = False

    def run(self, task: str, keep: Collection[int]) -> Iterator[dict[str, Any]]:
        """Start the attempt that `task` (one line) names, and yield what is said of it.

        It is over when nothing is left of what it has started; if somebody has killed the
        reaper, what is left of its session is killed here. The descriptors in `keep` stay open
        until then, out of reach of the activity's code. To be called in a thread of its own, which
        blocks the signals that end processes: what is started inherits that until it has handlers.
        Raises OSError if no process can be started.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                reaper = subprocess.Popen(  # noqa: S603 - ourselves
                    # Not the folder that we happen to be in: a `json.py` there would be its json.
                    [
                        *(sys.executable, "-P", "-c", _REAPER),
                        *(str(os.getpid()), " ".join(map(str, keep)), *sys.path),
                    ],
                    stdin=theirs.fileno(),
                    stdout=subprocess.PIPE,
                    pass_fds=keep,
                    start_new_session=True,
                )
            with self._lock:
                self._control = ours
                if self._ending:
                    ours.shutdown(socket.SHUT_RDWR)
            try:
                with suppress(OSError):  # it is told to end, or has ended: that is said below
                    ours.sendall(task.encode() + b"\n")
                assert reaper.stdout is not None
                with reaper.stdout:
                    yield from _messages(reaper, reaper.stdout.fileno())
            finally:
                self.end()
                reaper.wait()

    def end(self) -> None:
        """Kill whatever is left of it; returns at once. Can be called by any thread."""
        with self._lock:
            self._ending = True
            if self._control is not None:
                # Not by closing: a child that was forked from us may have our end too.
                with suppress(OSError):
                    self._control.shutdown(socket.SHUT_RDWR)


def _messages(reaper: subprocess.Popen[bytes], output: int) -> Iterator[dict[str, Any]]:
    for line in _lines(reaper, output):
        with suppress(ValueError):  # it died in the middle of a line
            yield json.loads(line)


def _lines(reaper: subprocess.Popen[bytes], output: int) -> Iterator[bytes]:
    """What comes through that pipe until it is closed, or the reaper has ended.

    If somebody has killed the reaper, what the activity has forked keeps the pipe open.
    """
    poll = select.poll()
    poll.register(output, select.POLLIN)
    begun, ended = b"", False
    while True:
        if poll.poll(0 if ended else _POLL_INTERVAL_MS):
            chunk = os.read(output, _CHUNK)
            if not chunk:
                return
            *lines, begun = (begun + chunk).split(b"\n")
            yield from lines
        elif ended:
            return
        elif _has_ended(reaper):
            _kill_session(reaper.pid)
            ended = True


def _has_ended(reaper: subprocess.Popen[bytes]) -> bool:
    """Without taking its exit code: until then, nobody else gets its number."""
    try:
        return os.waitid(os.P_PID, reaper.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
    except AttributeError:  # macOS before Python 3.13
        return reaper.poll() is not None


def _kill_session(session: int) -> None:
    """Kill what is left of that session (Linux), also what is forked meanwhile."""
    for _ in range(_ROUNDS):
        left = False
        for path in Path("/proc").glob("[1-9]*"):
            with suppress(OSError, ValueError):
                pid = int(path.name)
                if pid != session and os.getsid(pid) == session:
                    os.kill(pid, signal.SIGKILL)
                    left = True
        if not left:
            return
        time.sleep(_PAUSE_S)
