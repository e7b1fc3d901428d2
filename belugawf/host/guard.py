"""A turn ends: its thread is watched while user code runs in it.

A turn has used up its time after 2 seconds of its thread's processor time, or after 10 seconds
counted in ticks of the watching thread. Both stand still while the process does: one that was
stopped, or whose machine slept, has not blocked anything. Then the stack is noted, and an exception
is thrown into the code, once a tick until it is out. A call that does not come back cannot be
ended: its line goes to stderr, also if it keeps Python's lock, and ours waits for it.

A long replay is no long turn: each fact that is applied starts the time anew.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from belugawf.authoring.failures import is_a
from belugawf.host import forbidding
from belugawf.model.errors import (
    CodeInterrupted,
    WorkflowBlockedError,
    WorkflowCodeError,
)

T = TypeVar("T")

LIMIT_S = 2.0
LIMIT_IN_TICKS_S = 10.0
_TICK_S = 0.25
# A watcher that sees no turn for so many ticks sleeps until the next one begins.
_DOZE_AFTER = 20
# So many ticks after it was interrupted a turn is in a call that does not come back.
_NO_RETURN_AFTER = 8

logger = logging.getLogger("belugawf.engine")


class Counting(Protocol):
    """What is watched: `applied` grows with every fact. `interrupted`: its code has raised
    KeyboardInterrupt."""

    applied: int

    @property
    def interrupted(self) -> bool: ...


class _Turn:
    """A turn under watch, and what the watching thread has seen of it."""

    __slots__ = ("applied", "over", "stack", "thread", "ticks", "used", "watched")

    def __init__(self, watched: Counting) -> None:
        self.watched = watched
        self.thread = threading.get_ident()
        self.stack: str | None = None
        self.applied = -1
        self.ticks = self.over = 0
        self.used = 0.0


class TurnGuard:
    """Runs turns under watch, one at a time in each thread; one guard for each engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._watcher: threading.Thread | None = None
        self._closed = False
        self._turns: dict[int, _Turn] = {}
        self._armed = False

    def run(self, watched: Counting, code: Callable[[], T]) -> T:
        """What `code` returns. Raises `WorkflowBlockedError` naming the line where it took long."""
        result: list[T] = []
        turn = _Turn(watched)
        try:
            self._begin(turn)
            try:
                result.append(code())
            finally:
                # Not in a function of its own: what was thrown in is raised where one begins.
                try:
                    self._end(turn)
                except (CodeInterrupted, KeyboardInterrupt):
                    self._end(turn)  # it came too late, and nothing is left to interrupt
        except CodeInterrupted:
            if turn.stack is None:
                raise WorkflowCodeError(
                    "workflow code raised CodeInterrupted", hint="that is for belugawf alone"
                ) from None
        except BaseException as error:
            # What came of the code is of no use if it was interrupted, perhaps in code of ours.
            if turn.stack is None or is_a(error, KeyboardInterrupt):
                raise
        if turn.stack is not None:
            raise WorkflowBlockedError(
                f"the workflow blocked the loop for more than {LIMIT_S:g} s of processor time, or "
                f"{LIMIT_IN_TICKS_S:g} s in all, at {turn.stack}",
                hint="move what takes long into an activity, and use asyncio.sleep to wait",
            )
        return result[0]

    def close(self) -> None:
        """End the watching thread."""
        self._closed = True
        self._awake.set()
        self._disarm()

    def _begin(self, turn: _Turn) -> None:
        if self._watcher is None:
            self._start_watcher()
        self._turns[turn.thread] = turn
        if not self._armed:
            self._arm()
        if not self._awake.is_set():
            self._awake.set()
        forbidding.begin(turn.thread)

    def _start_watcher(self) -> None:
        forbidding.install_hooks()
        with self._lock:
            if self._watcher is None:
                watcher = threading.Thread(target=self._watch, name="belugawf-guard", daemon=True)
                watcher.start()
                self._watcher = watcher

    def _end(self, turn: _Turn) -> None:
        forbidding.end(turn.thread)
        with self._lock:
            self._turns.pop(turn.thread, None)
            if turn.stack is not None:
                _throw(turn.thread, None)

    # -- the watching thread ---------------------------------------------------------------------

    def _watch(self) -> None:
        idle = 0
        while not self._closed:
            time.sleep(_TICK_S)
            with self._lock:
                turns = list(self._turns.values())
                lost = [turn.stack for turn in turns if self._look_at(turn)]
            for stack in lost:
                # Without the lock: the handlers are the user's, and may wait for what turns do.
                with suppress(BaseException):
                    logger.warning("workflow code does not come back from a call at %s", stack)
            idle = 0 if turns else idle + 1
            if not idle:
                self._arm()
            elif self._armed:
                self._disarm()
            if idle > _DOZE_AFTER:
                self._awake.clear()
                if not self._turns:
                    self._awake.wait()
                idle = 0
        self._disarm()  # once more: it may have been closed between a look and `_arm`

    def _look_at(self, turn: _Turn) -> bool:
        """Interrupt what has used up its time; whether it has now been in vain for too long."""
        if turn.watched.applied != turn.applied:
            turn.applied = turn.watched.applied
            turn.ticks = turn.over = 0
            turn.used = _processor_time(turn.thread)
            return False
        turn.ticks += 1
        spent = _processor_time(turn.thread) - turn.used
        if spent <= LIMIT_S and turn.ticks * _TICK_S <= LIMIT_IN_TICKS_S:
            return False
        if turn.stack is None:
            turn.stack = stack_of(turn.thread)
        turn.over += 1
        _throw(turn.thread, CodeInterrupted)
        return turn.over == _NO_RETURN_AFTER

    def _arm(self) -> None:
        """Have Python's own watchdog, which needs no lock of Python's, show where everybody is."""
        import faulthandler

        self._armed = True
        # Not `sys.stderr`, which may be no file; there may be no stderr at all.
        if sys.__stderr__ is not None:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                faulthandler.dump_traceback_later(LIMIT_IN_TICKS_S, file=sys.__stderr__)

    def _disarm(self) -> None:
        import faulthandler

        if self._armed:
            self._armed = False
            faulthandler.cancel_dump_traceback_later()


def _processor_time(thread: int) -> float:
    """The processor time of a thread in seconds; if the system has no such clock, of all."""
    if sys.platform == "linux":
        return time.clock_gettime(time.pthread_getcpuclockid(thread))
    return time.process_time()


def _throw(thread: int, error: type[BaseException] | None) -> None:
    import ctypes  # here: it takes 2 ms of each start, and turns are hardly ever blocked

    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    )


def stack_of(thread: int) -> str:
    """The user's frames of a thread, innermost first: "file:line in function".

    Of many the first four, and the last: there our code has called the user's.
    """
    frames: list[str] = []
    frame = sys._current_frames().get(thread)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("belugawf."):
            if frames:
                break
        elif not module.startswith(("asyncio", "importlib")):
            name = Path(frame.f_code.co_filename)
            frames.append(f"{name}:{frame.f_lineno} in {frame.f_code.co_name}")
        frame = frame.f_back
    return ", called from ".join(frames[:4] + frames[4:][-1:]) or "an unknown place"
