"""Where user code prints: stderr, whose reader may leave at any moment.

Whatever reads a worker's log ends, `head` has seen enough, a terminal is closed, a disk is full:
none of that is a reason for an activity to fail.
"""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from contextlib import suppress
from stat import S_ISFIFO, S_ISREG
from typing import Any

_CHUNK = 65_536


class LossyFile(io.FileIO):
    """A file that never complains: what it cannot write is lost."""

    def write(self, data: Any, /) -> int:
        left = memoryview(data)
        try:
            while left:
                written = super().write(left)
                if written is None:
                    # Somebody who has the same terminal or pipe wants it not to block.
                    poll = select.poll()
                    poll.register(self, select.POLLOUT)
                    poll.poll()
                else:
                    left = left[written:]
        except OSError:
            pass
        return len(data)


def talk() -> io.TextIOWrapper:
    """Descriptor 2 as a stream that writes each line at once, and never fails.

    Nothing is buffered below the text: a buffer has a lock, which a fork may inherit while another
    thread holds it, and then the child waits for ever where it prints.
    """
    return io.TextIOWrapper(
        LossyFile(2, "w", closefd=False),
        encoding=getattr(sys.stderr, "encoding", None) or "utf-8",
        errors="backslashreplace",
        newline="\n",
        line_buffering=True,
    )


def outlive_reader() -> None:
    """Until this process ends: writing to its stderr goes on to work when nobody reads any more.

    Also for what writes to the descriptor itself, or has inherited it: without a reader, SIGPIPE
    would end the tools of activities.
    """
    if not S_ISREG(os.fstat(2).st_mode):
        threading.Thread(
            target=_replace_reader, args=(os.dup(2),), name="belugawf-stderr", daemon=True
        ).start()


def _replace_reader(stderr: int) -> None:
    poll = select.poll()
    poll.register(stderr, 0)  # only whether the other end is closed
    poll.poll()
    if S_ISFIFO(os.fstat(stderr).st_mode):
        with suppress(OSError):  # no Linux
            reader = os.open(f"/proc/self/fd/{stderr}", os.O_RDONLY)
            while os.read(reader, _CHUNK):
                pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if os.path.sameopenfile(descriptor, stderr):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
