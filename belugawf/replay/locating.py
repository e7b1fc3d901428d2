"""Where workflow code stands: "file:line" of the user's own frames, for messages."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

_MACHINERY = ("asyncio", "belugawf.", "concurrent.", "temporalio.", "threading")
# The function of our loop that calls callbacks.
_BOTTOM = "_run_callbacks"


def user_location(depth: int = 1) -> str | None:
    """ "file:line" of the innermost frame that is neither asyncio's nor ours; `None` if none is.

    The search ends at the loop, below which there is no workflow code.
    """
    frame = sys._getframe(depth)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(_MACHINERY):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_code.co_name == _BOTTOM:
            return None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def standing(task: asyncio.Task[Any]) -> str:
    """The workflow's own line at which a task waits, as "file:line"; "" if there is none."""
    waiting: Any = task.get_coro()
    line = ""
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        if not frame.f_globals.get("__name__", "").startswith(_MACHINERY):
            line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        waiting = waiting.cr_await
    return line


def location() -> str:
    """The innermost frame of the user's, as " (file:line)"; "" if there is none."""
    found = user_location(2)
    return f" ({found})" if found else ""
