"""The child process of an isolated activity.

It reads one JSON line that says what to run, writes one JSON line with the outcome, and dies with
its parent: the kernel kills it on Linux, and everywhere the end of its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from belugawf.authoring.activity import ActivityInfo, current_attempt
from belugawf.authoring.failures import describe_failure
from belugawf.authoring.loader import import_file
from belugawf.host.attempts import wished_delay
from belugawf.host.calling import encode_result, positional
from belugawf.host.masking import mask_logs

_PR_SET_PDEATHSIG = 1


class _IsolatedAttempt:
    """What `activity.info()` and its companions see in the child."""

    def __init__(self, info: ActivityInfo, report: Callable[[dict[str, Any]], None]) -> None:
        self.info = info
        self._report = report

    def heartbeat(self, details: Any) -> None:
        self._report({"heartbeat": details})

    def cancelled(self) -> bool:
        return False  # a child that nobody waits for is killed


def main() -> None:
    """Run the activity that standard input names."""
    _die_with_parent()
    outcomes = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch_parent, daemon=True).start()
    if task["redact"]:
        mask_logs(task["redact"])

    def report(message: dict[str, Any]) -> None:
        outcomes.write(json.dumps(message) + "\n")
        outcomes.flush()

    try:
        report({"result": _run(task, report)})
    except BaseException as error:
        report({"failure": describe_failure(error).to_json(), "retry_after": wished_delay(error)})
    outcomes.close()
    os._exit(0)


def _run(task: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> str:
    # Others may hold the end of a lock that we were given only to keep it while we live.
    for descriptor in task["keep"]:
        os.set_inheritable(descriptor, False)
    function = _find(task["file"], task["qualname"])
    deadline = task["info"].pop("deadline")
    info = ActivityInfo(
        **task["info"],
        deadline=None if deadline is None else datetime.fromisoformat(deadline),
    )
    current_attempt.set(_IsolatedAttempt(info, report))
    arguments = positional(function, task["arguments"], info.activity)
    value = function(*arguments)
    if inspect.isawaitable(value):
        value = asyncio.run(_awaited(value))
    return encode_result(function, value, info.activity, task["limit"])


async def _awaited(value: Any) -> Any:
    return await value


def _find(file: str, qualname: str) -> Callable[..., Any]:
    target: Any = import_file(Path(file))
    for part in qualname.split("."):
        target = getattr(target, part)
    found: Callable[..., Any] = target
    return found


def _die_with_parent() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
