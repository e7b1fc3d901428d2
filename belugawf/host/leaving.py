"""Ending a process that has run user code, without ending what must not go on in it.

`sys.exit` would run the `finally` blocks of suspended workflow coroutines, and wait for threads
that were given up. `os._exit` alone would lose what was written to open files, and what the user's
code has registered with `atexit`.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

# A thread that was given up may hold the lock of a file or of a log for ever.
_LONGEST_S = 5.0


def leave(code: int, last: Callable[[], object] = lambda: None) -> NoReturn:
    """Call what is registered with `atexit`, write out open files, and end with this exit code.

    `last` is called just before the end, which comes after 5 s at the latest.
    """

    def give_up() -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"what is called at exit takes over {_LONGEST_S:g} s: left it\n")
        with suppress(BaseException):
            last()
        os._exit(code)

    with suppress(RuntimeError):  # no more threads: then nothing bounds it
        watchdog = threading.Timer(_LONGEST_S, give_up)
        watchdog.daemon = True
        watchdog.start()
    with suppress(BaseException):
        atexit._run_exitfuncs()
    _flush_files()
    with suppress(BaseException):
        last()
    os._exit(code)


def leave_fork(error: BaseException | None) -> NoReturn:
    """End a forked child whose code has come back to us, with this exception or with a result.

    What it would go on with is its parent's: the event loop, the database, what is called at exit.
    """
    code = 0
    if issubclass(type(error), SystemExit):  # `isinstance` would ask the error, which is the user's
        asked = vars(SystemExit)["code"].__get__(error)
        code = asked if isinstance(asked, int) else int(asked is not None)
    elif error is not None:
        code = 1
        with suppress(BaseException):
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(code)


def _flush_files() -> None:
    """Write out whatever is still in the buffers of open files."""
    # What all are derived from, in C; `io.IOBase` is an abstract class beside most of them.
    kinds: set[type] = set()
    found: list[type] = list(io.TextIOWrapper.__mro__[:-1])
    while found:
        kind = found.pop()
        kinds.add(kind)
        found += kind.__subclasses__()
    # Asking each object whether it is one would take as long as importing them did.
    for thing in [thing for thing in gc.get_objects() if type(thing) in kinds]:
        with suppress(BaseException):
            thing.flush()
