"""Where workflow code stands: "file:line" of the user's own frames, for messages."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from typing import Any

from belugawf.authoring.context import AWAITING_ACTIVITY

# Tasks that a provider has made.
_OURS = ("belugawf.replay.", "belugawf.temporal.", "temporalio.")
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


def left_pending(tasks: Iterable[asyncio.Task[Any]]) -> str | None:
    """What a workflow that has ended did not wait for, in one sentence; `None` if there is nothing.

    An activity stands for the task that awaits it.
    """
    names = [name for task in tasks if not task.done() and (name := _pending_name(task))]
    if not names:
        return None
    shown, more = names[:_MOST_NAMED], len(names) - _MOST_NAMED
    listed = ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")
    return f"the workflow has ended without waiting for {listed}: what they do is lost"


# So many are named; a workflow may have started thousands.
_MOST_NAMED = 5


def _pending_name(task: asyncio.Task[Any]) -> str:
    """What it does, and where; "" if it is none of the code's."""
    waiting: Any = task.get_coro()
    frame = getattr(waiting, "cr_frame", None)
    if frame is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        return ""
    line = standing(task)
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        if frame.f_code is AWAITING_ACTIVITY:
            mark, place = frame.f_locals["mark"], frame.f_locals["asked"][-1]
            return f"activity {mark.name!r} ({line or place})"
        waiting = waiting.cr_await
    return f"task {task.get_name()!r} ({line})" if line else f"task {task.get_name()!r}"


def location() -> str:
    """The innermost frame of the user's, as " (file:line)"; "" if there is none."""
    found = user_location(2)
    return f" ({found})" if found else ""
