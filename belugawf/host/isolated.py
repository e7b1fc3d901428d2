"""The process of an isolated activity.

It reads one JSON line that says what to run, and writes JSON lines: heartbeats and the outcome. Its
parent is a reaper, which ends whatever it leaves behind (`reaper.py`).
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from belugawf.authoring.activity import ActivityInfo, annotations_of, current_attempt
from belugawf.authoring.loader import import_for_activity
from belugawf.host.calling import Whereabouts, encode_result, failure_of, positional
from belugawf.host.leaving import leave, leave_fork
from belugawf.host.logs import enter_passage, has_handlers, mark, only_configured_by_name, text_of
from belugawf.host.masking import mask_logs
from belugawf.host.reaper import ENDING_SIGNALS, do_nothing
from belugawf.host.talking import talk
from belugawf.model import codec
from belugawf.model.errors import ApplicationError, UsageError


class _IsolatedAttempt:
    """What `activity.info()` and its companions see here."""

    def __init__(
        self, info: ActivityInfo, report: Callable[[dict[str, Any]], None], limit: int
    ) -> None:
        self.info = info
        self._report = report
        self._limit = limit

    def heartbeat(self, details: Any) -> None:
        text = codec.encode(details, what="heartbeat details", limit=self._limit)
        self._report({"heartbeat": text})

    def cancelled(self) -> bool:
        return False  # whom nobody waits for is killed

    def log(self, record: logging.LogRecord, logger: logging.Logger) -> bool:
        handled = has_handlers(logger)
        line = {
            "time": record.created,
            "level": record.levelno,
            "logger": record.name,
            "message": text_of(record),
            "handled": handled,
        }
        with suppress(OSError, TypeError, ValueError):  # our parent has died; fields of odd types
            self._report({"log": line})
        mark(record, self.info.workflow_id, self.info.run_id, self.info.activity, self.info.attempt)
        return not handled


def main() -> NoReturn:
    """Run the activity that standard input names, and end."""
    line = _read_line(0)
    if not line.endswith(b"\n"):
        os._exit(1)  # whoever has started us is gone
    task = json.loads(line)
    outcomes = os.dup(1)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = talk()  # type: ignore[misc]
    us, writing = os.getpid(), threading.Lock()
    _let_forks_take_signals()
    # Another thread may hold it at that moment.
    os.register_at_fork(after_in_child=writing._at_fork_reinit)  # type: ignore[attr-defined]
    patterns, secrets = task["redact"]
    if patterns:
        mask_logs(patterns, secrets)

    def report(message: dict[str, Any]) -> None:
        # What the activity has forked may report its progress too.
        with writing:
            _write(outcomes, json.dumps(message).encode() + b"\n")

    outcome: dict[str, Any]
    try:
        with only_configured_by_name():
            outcome = {"result": _run(task, report)}
        if os.getpid() != us:
            leave_fork(None)
    except BaseException as error:
        if os.getpid() != us:
            leave_fork(error)
        failure, retry_after = failure_of(error, task["non_retryable"])
        outcome = {"failure": failure.to_json(), "retry_after": retry_after}
    # Told at the end: what an activity that has completed wrote must have been written.
    leave(0, lambda: report(outcome))


def _run(task: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> str:
    # Before its module is imported, which may set another one.
    logging.getLogger().setLevel(task["log_level"])
    function = _find(task["function"])
    deadline = task["info"].pop("deadline")
    info = ActivityInfo(
        **task["info"],
        deadline=None if deadline is None else datetime.fromisoformat(deadline),
    )
    attempt = _IsolatedAttempt(info, report, task["limit"])
    current_attempt.set(attempt)
    enter_passage(attempt)
    annotations = annotations_of(function)
    arguments = positional(annotations, task["arguments"], info.activity)
    value = function(*arguments)
    if inspect.isawaitable(value):
        value = asyncio.run(_awaited(value))
    return encode_result(annotations.result, value, info.activity, task["limit"])


async def _awaited(value: Any) -> Any:
    return await value


def _find(where: Whereabouts) -> Callable[..., Any]:
    name, file = where["module"], where["file"]
    target: Any
    try:
        target = import_module(name) if file is None else import_for_activity(Path(file), name)
    except UsageError as error:
        raise _unusable(f"{error} ({error.hint})") from error
    for part in where["qualname"].split("."):
        target = getattr(target, part, None)
    if target is None:
        raise _unusable(
            f"a process of its own does not find {where['qualname']} in {file or name}: define it "
            'outside of: if __name__ == "__main__":'
        )
    found: Callable[..., Any] = target
    return found


def _unusable(message: str) -> ApplicationError:
    return ApplicationError(message, type="UsageError", non_retryable=True)


def _let_forks_take_signals() -> None:
    """What the activity forks is ended by signals again, as `multiprocessing` relies on."""
    masks: dict[int, set[int]] = {}  # of each thread that forks

    def hold_signals() -> None:
        # One that comes to the fork before it is ready must not be lost.
        masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)

    def let_signals_come() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(threading.get_ident()))

    def take_signals() -> None:
        for number in ENDING_SIGNALS:
            if signal.getsignal(number) is do_nothing:
                usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, usual)
        let_signals_come()

    os.register_at_fork(
        before=hold_signals, after_in_parent=let_signals_come, after_in_child=take_signals
    )


def _read_line(descriptor: int) -> bytes:
    """The line that can be read there, or what there is of it."""
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(descriptor, 65_536)
        if not chunk:
            break
        line += chunk
    return bytes(line)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
