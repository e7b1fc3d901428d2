"""The process between us and an isolated activity. It runs no user code.

One is started for each isolated attempt (`children.py`). Its life:

1. It begins in a session of its own, with the signals that end processes blocked until it has
   handlers that do nothing: what a terminal or systemd sends to everybody is for us to answer.
2. It adopts whatever is orphaned below it (Linux), and forks: the fork becomes the activity's
   process (`isolated.py`), without the descriptors that are kept here.
3. It waits until that process has ended, we have closed our end of the socket that is its
   standard input, or we are gone.
4. It kills what is below it until nothing is left, says how the activity's process ended, and
   ends. Only then the owner's lock can be free: nobody starts the activity again beside what is
   left of it.

If orphans cannot be adopted (macOS), the activity's process group is killed instead.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

# What terminals, shells and service managers send to end a process, and all that it has started.
ENDING_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CHILDREN = Path("/proc/thread-self/children")
# How often it is asked whether our parent lives, if the kernel does not say so, in milliseconds.
_POLL_INTERVAL_MS = 1_000
# How long what was killed is waited for until the next look, in seconds, doubling.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05


def main(parent: int, keep: Sequence[int]) -> NoReturn:
    """Run the activity that standard input names, and end all that it leaves.

    `parent` is the process that started this one; `keep` are descriptors to hold until the end.
    """
    for number in ENDING_SIGNALS:
        # Not SIG_IGN, which the activity's tools would inherit. What `nohup` ignores stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, do_nothing)
    # Programs that read signals from a descriptor have them blocked, and we have inherited that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*ENDING_SIGNALS, signal.SIGCHLD))
    adopts = os.access(_CHILDREN, os.R_OK) and _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    reaper = os.getpid()
    activity = os.fork()
    if not activity:
        _be_the_activity(reaper, keep)
    status = _wait(activity, parent)
    last = _end_all(activity, adopts)
    code = os.waitstatus_to_exitcode(last if status is None else status)
    with suppress(OSError):  # nobody listens any more
        # After a line end of its own: the activity may have died in the middle of a line.
        os.write(1, b'\n{"exit_code": %d}\n' % code)
    os._exit(0)


def do_nothing(number: int, frame: object) -> None:
    """Answers a signal in place of Python's and the system's own handlers."""


def _prctl(option: int, value: int) -> bool:
    """Whether the kernel took it; false on other systems."""
    if sys.platform != "linux":
        return False
    import ctypes  # whoever only starts this process does without

    try:
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _be_the_activity(reaper: int, keep: Sequence[int]) -> NoReturn:
    for descriptor in keep:
        os.close(descriptor)
    os.setpgid(0, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != reaper:
        os._exit(1)
    from belugawf.host.isolated import main

    main()


def _wait(activity: int, parent: int) -> int | None:
    """The wait status of the activity's process; `None` if it is to be ended."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, do_nothing)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(0, 0)  # only its end: what it says is for the activity's process
    poll.register(woken, select.POLLIN)
    timeout = _POLL_INTERVAL_MS
    with suppress(OSError, AttributeError):  # another system, or a kernel before 5.3
        poll.register(os.pidfd_open(parent), select.POLLIN)
        timeout = -1
    while True:
        ended, _ = _reap()
        if activity in ended:
            return ended[activity]
        if os.getppid() != parent:
            return None
        for descriptor, _ in poll.poll(timeout):
            if descriptor != woken:
                return None
            os.read(woken, 4096)


def _reap() -> tuple[dict[int, int], bool]:
    """The wait statuses of children that have ended, and whether there are others."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if not pid:
            return ended, True
        if not os.WIFSTOPPED(status):  # one that has us trace it tells us that too
            ended[pid] = status


def _end_all(activity: int, adopts: bool) -> int:
    """Kill until nothing is left; the wait status of the activity's process, 0 if known before."""
    last, pause = 0, _FIRST_PAUSE_S
    while True:
        if adopts:
            # Whoever is orphaned by this becomes a child of ours, for the next round.
            for pid in _children():
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        else:
            with suppress(OSError):
                os.killpg(activity, signal.SIGKILL)
        ended, others = _reap()
        last = ended.get(activity, last)
        if not others:
            return last
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)


def _children() -> list[int]:
    return [int(pid) for pid in _CHILDREN.read_text().split()]
