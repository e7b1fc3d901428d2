"""What a turn may not do: touch the world, or take long.

While workflow code runs, its thread is watched in two ways. `host.forbidding` refuses sockets,
threads and processes, naming the line. And a watching thread looks whether the same fact has been
worked on for more than 2 seconds; then it notes the stack, and throws an exception into the turn,
which ends a loop in Python (a call such as `time.sleep` ends first).

A long replay is no long turn: each fact that is applied starts the time anew.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from belugawf.host import forbidding
from belugawf.model.errors import WorkflowBlockedError

T = TypeVar("T")

TURN_LIMIT_S = 2.0
_LOOK_S = 0.25
# A watcher that sees no turn for so long sleeps until the next one begins.
_DOZE_AFTER_S = 5.0
# After so many times the limit a turn that could not be interrupted is told of while it lasts.
_PATIENCE = 5

logger = logging.getLogger("belugawf.engine")


class Counting(Protocol):
    """What is watched: `applied` grows with every fact."""

    applied: int


class _TurnBlocked(BaseException):
    """Thrown into a turn that takes too long."""


class TurnGuard:
    """Runs turns under watch; one for each engine."""

    def __init__(self, limit_s: float = TURN_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._watcher: threading.Thread | None = None
        self._closed = False
        self._turn: Counting | None = None
        self._thread = 0
        self._stack: str | None = None

    def run(self, watched: Counting, turn: Callable[[], T]) -> T:
        """What `turn` returns. Raises `WorkflowBlockedError` naming the line where it took long."""
        result: list[T] = []
        try:
            self._begin(watched)
            try:
                result.append(turn())
            finally:
                self._end()
        except _TurnBlocked:
            pass
        if self._stack is not None:
            raise WorkflowBlockedError(
                f"the workflow blocked the loop for more than {self._limit_s:g} s at {self._stack}",
                hint="move what takes long into an activity, and use asyncio.sleep to wait",
            )
        return result[0]

    def close(self) -> None:
        """End the watching thread."""
        self._closed = True
        self._awake.set()

    def _begin(self, watched: Counting) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="belugawf-guard", daemon=True)
            self._watcher.start()
        self._stack = None
        self._thread = threading.get_ident()
        self._turn = watched
        if not self._awake.is_set():
            self._awake.set()
        forbidding.begin()

    def _end(self) -> None:
        forbidding.end()
        with self._lock:
            self._turn = None
            if self._stack is not None:
                _throw(self._thread, None)

    def _watch(self) -> None:
        seen: tuple[int, int] | None = None
        warned = False
        since = idle_since = time.monotonic()
        while not self._closed:
            time.sleep(_LOOK_S)
            now = time.monotonic()
            with self._lock:
                turn = self._turn
                current = None if turn is None else (id(turn), turn.applied)
                if current is None or current != seen:
                    seen, since = current, now
                elif now - since > self._limit_s and self._stack is None:
                    self._stack = _stack_of(self._thread)
                    _throw(self._thread, _TurnBlocked)
                elif now - since > self._limit_s * _PATIENCE and not warned:
                    # It is in a call that does not come back: nobody else can tell.
                    logger.warning("workflow code blocks everything at %s", self._stack)
                    warned = True
                if current is None:
                    warned = False
            if current is not None:
                idle_since = now
            elif now - idle_since > _DOZE_AFTER_S:
                self._awake.clear()
                if self._turn is None:
                    self._awake.wait()
                idle_since = time.monotonic()


def _throw(thread: int, error: type[BaseException] | None) -> None:
    import ctypes  # here: it takes 2 ms of each start, and turns are hardly ever blocked

    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    )


def _stack_of(thread: int) -> str:
    """The user's frames of a thread, innermost first: "file:line in function"."""
    frames: list[str] = []
    frame = sys._current_frames().get(thread)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("belugawf."):
            if frames:
                break
        elif not module.startswith("asyncio"):
            name = Path(frame.f_code.co_filename)
            frames.append(f"{name}:{frame.f_lineno} in {frame.f_code.co_name}")
        frame = frame.f_back
    return ", called from ".join(frames[:5]) or "an unknown place"
