"""What the system is short of: no bug of ours, wherever it shows."""

from __future__ import annotations

import errno

from belugawf.model.errors import UnavailableError

_SHORTAGES = {
    errno.EMFILE: ("this process may not open more files", "allow more: ulimit -n 1024"),
    errno.ENFILE: ("the system has too many open files", "end programs that keep files open"),
    errno.ENOMEM: ("the system has no memory left", "end other programs, then try again"),
    errno.ENOSPC: ("a disk is full", "free some space: everything acknowledged so far is safe"),
}
_NO_THREAD = ("the system has no thread left", "end other programs, or allow more: ulimit -u")


def shortage(error: BaseException) -> UnavailableError | None:
    """What the system is short of, if `error` says that; `None` for any other."""
    found = None
    if isinstance(error, OSError) and error.errno is not None:
        found = _SHORTAGES.get(error.errno)
    elif isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        found = _NO_THREAD
    return None if found is None else UnavailableError(found[0], hint=found[1])
