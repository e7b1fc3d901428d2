"""What workflow code may not do in the thread that runs it: touch the world.

An audit hook refuses sockets, threads and processes where they are asked for, naming the line.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from belugawf.model.errors import WorkflowCodeError
from belugawf.replay.locating import user_location

_FORBIDDEN = {
    "socket.__new__": "open a socket",
    "socket.connect": "open a connection",
    "subprocess.Popen": "start a process",
    "os.system": "start a process",
    "os.exec": "start a process",
    "os.fork": "fork",
    "os.forkpty": "fork",
    "os.posix_spawn": "start a process",
    "os.spawn": "start a process",
    "_thread.start_new_thread": "start a thread",
    "_thread.start_joinable_thread": "start a thread",
}

# The threads that run workflow code now: from `begin` to `end` that of this number does.
_deciding: set[int] = set()
begin, end = _deciding.add, _deciding.discard
_hooked = False


def install_hooks() -> None:
    """Refuse from now on, in this process, what workflow code may not do."""
    global _hooked
    if _hooked:
        return
    _hooked = True
    sys.addaudithook(_audit)
    if sys.version_info < (3, 12):
        # Python reports new threads to audit hooks from 3.12 on.
        threading._start_new_thread = _guarded(threading._start_new_thread)  # type: ignore[attr-defined]


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in _FORBIDDEN and threading.get_ident() in _deciding:
        _refuse(_FORBIDDEN[event])


def _guarded(start: Callable[..., Any]) -> Callable[..., Any]:
    def start_new_thread(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() in _deciding:
            _refuse("start a thread")
        return start(*args, **kwargs)

    return start_new_thread


def _refuse(what: str) -> None:
    location = _calling_line()
    raise WorkflowCodeError(
        f"workflow code cannot {what}{f' ({location})' if location else ''}",
        hint="do it in an activity: its result is recorded, and replay gives it back",
    )


def _calling_line() -> str | None:
    """The workflow's own line, below the library that was about to touch the world."""
    frame: Any = sys._getframe(2)
    fallback = user_location(3)
    library = str(Path(threading.__file__).parent)
    while frame is not None:
        filename = frame.f_code.co_filename
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("belugawf.") and not filename.startswith((library, "<")):
            return f"{filename}:{frame.f_lineno}"
        frame = frame.f_back
    return fallback
