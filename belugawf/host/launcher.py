"""How the code of one attempt runs: on the loop, in a thread, or in a child process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import Context
from dataclasses import fields
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any

from belugawf.authoring.activity import annotations_of, current_attempt
from belugawf.host import masking
from belugawf.host.attempt import Attempt
from belugawf.host.border import is_interrupt, mark_as_users
from belugawf.host.calling import encode_result, positional, whereabouts
from belugawf.host.children import IsolatedChild
from belugawf.host.hooks import emit
from belugawf.host.leaving import leave_fork
from belugawf.host.threads import DaemonPool
from belugawf.model.durations import format_instant
from belugawf.model.errors import PROCESS_DIED, Failure
from belugawf.model.outcomes import Outcome, died_with_it

logger = logging.getLogger("belugawf.engine")

# The attribute of an activity's function that says whether it is an `async def`.
_ASYNC = "__belugawf_async__"
# How long it is until a thread is asked for again if the system gave none, in seconds.
_NO_THREAD_S = 1.0


class AttemptLauncher:
    """Runs the code of attempts, each in a copy of `context`.

    `ended` is told on the loop, once of each, how it did; also of one that was stopped. If the
    loop is closed by then, only what was stopped is told, on its own thread. `begun` is told on the
    loop of one that has found a thread, if it has limits.
    """

    def __init__(
        self,
        context: Context,
        *,
        threads: int,
        payload_limit: int,
        keep: Callable[[], tuple[int, ...]],
        begun: Callable[[Attempt], None],
        ended: Callable[[Attempt, Outcome], None],
    ) -> None:
        self._context = context
        self._payload_limit = payload_limit
        self._keep = keep
        self._begun = begun
        self._ended = ended
        self._pool = DaemonPool(threads)
        self._growing: asyncio.TimerHandle | None = None
        self._late = threading.Lock()
        self._process = os.getpid()

    def start(self, attempt: Attempt) -> None:
        """Start its code; nothing is told within this call."""
        context = self._context.copy()
        context.run(current_attempt.set, attempt)
        context.run(mark_as_users)
        if attempt.spec.isolated:
            attempt.begin()
            self._in_process(attempt)
        elif _is_async(attempt.spec.function):
            attempt.begin()
            self._on_loop(attempt, context)
        else:
            self._in_thread(attempt, context)

    def close(self) -> None:
        """Nothing is started any more; idle threads end."""
        if self._growing is not None:
            self._growing.cancel()
        self._pool.close()

    # -- on the loop -----------------------------------------------------------------------------

    def _on_loop(
        self, attempt: Attempt, context: Context, begun: Awaitable[Any] | None = None
    ) -> None:
        """Await its function there, or what is `begun` already."""
        spec = attempt.spec

        async def work() -> None:
            try:
                annotations = annotations_of(spec.function)
                if begun is None:
                    arguments = positional(annotations, spec.arguments, spec.name)
                    value = await spec.function(*arguments)
                else:
                    value = await begun
                if os.getpid() != self._process:
                    leave_fork(None)
                text = encode_result(annotations.result, value, spec.name, self._payload_limit)
                outcome = attempt.ended("completed", result=text)
            except BaseException as error:
                self._end_forks(error)
                if is_interrupt(error):
                    raise
                outcome = attempt.failed(error)
            task.remove_done_callback(never_ended)
            self._ended(attempt, outcome)

        def never_ended(task: asyncio.Task[None]) -> None:
            try:
                task.result()
            except BaseException as error:  # cancelled before it began, or Ctrl-C
                self._ended(attempt, attempt.failed(error))

        task = asyncio.get_running_loop().create_task(work(), context=context)
        task.add_done_callback(never_ended)
        attempt.started(task.cancel, task)

    # -- in a thread -----------------------------------------------------------------------------

    def _in_thread(self, attempt: Attempt, context: Context) -> None:
        loop = asyncio.get_running_loop()

        def job() -> None:
            outcome = self._called(loop, attempt, context)
            if outcome is not None:
                self._report_end(loop, attempt, outcome)

        def abandon() -> None:
            if not self._pool.abandon(job):
                self._grow_pool()

        attempt.started(abandon)
        if not self._pool.submit(job):
            self._grow_pool()

    def _called(
        self, loop: asyncio.AbstractEventLoop, attempt: Attempt, context: Context
    ) -> Outcome | None:
        """How it ended; `None` if the rest of it is to be awaited, on the loop."""
        if attempt.stopped:
            return attempt.ended("interrupted")
        spec = attempt.spec
        try:
            attempt.begin(queued=True)
            if attempt.next_limit() is not None:
                _call_on(loop, self._begun, attempt)
            annotations = annotations_of(spec.function)
            arguments = positional(annotations, spec.arguments, spec.name)
            value = context.run(spec.function, *arguments)
            self._end_forks(None)
            # A decorator that is a plain function may stand around an `async def`.
            if isawaitable(value) and _call_on(loop, self._await, attempt, context, value):
                return None
            text = encode_result(annotations.result, value, spec.name, self._payload_limit)
            return attempt.ended("completed", result=text)
        except BaseException as error:
            self._end_forks(error)
            return attempt.failed(error)

    def _await(self, attempt: Attempt, context: Context, value: Any) -> None:
        if not attempt.stopped:
            self._on_loop(attempt, context, value)
            return
        if iscoroutine(value):
            value.close()  # else Python says that it was never awaited
        self._ended(attempt, attempt.ended("interrupted"))

    def _report_end(
        self, loop: asyncio.AbstractEventLoop, attempt: Attempt, outcome: Outcome
    ) -> None:
        """Tell the loop, from a thread, how it ended; if that is closed, who was left since."""
        if not _call_on(loop, self._ended, attempt, outcome) and attempt.stopped:
            with self._late:
                self._ended(attempt, outcome)

    def _end_forks(self, error: BaseException | None) -> None:
        """What an activity has forked must not come back to our loop, with our database."""
        if os.getpid() != self._process:
            leave_fork(error)

    def _grow_pool(self) -> None:
        """Try until there is a thread for what waits for one."""
        if self._growing is not None:
            self._growing.cancel()
            self._growing = None
        if not self._pool.grow():
            loop = asyncio.get_running_loop()
            self._growing = loop.call_later(_NO_THREAD_S, self._grow_pool)

    # -- in a child process ----------------------------------------------------------------------

    def _in_process(self, attempt: Attempt) -> None:
        loop = asyncio.get_running_loop()
        child = IsolatedChild()

        def drive() -> None:
            try:
                outcome = self._drive_child(attempt, child)
            except BaseException as error:
                outcome = attempt.failed(error)
            self._report_end(loop, attempt, outcome)

        attempt.started(child.end)
        try:
            threading.Thread(target=drive, name="belugawf-isolated", daemon=True).start()
        except RuntimeError as error:  # the system gives no more threads
            loop.call_soon(self._ended, attempt, attempt.failed(error))

    def _drive_child(self, attempt: Attempt, child: IsolatedChild) -> Outcome:
        """How it ended, once nothing of it is left."""
        outcome = code = None
        for message in child.run(_task(attempt, self._payload_limit), self._keep()):
            if "heartbeat" in message:
                attempt.beat(message["heartbeat"])
            elif "log" in message:
                _log(attempt, message["log"])
            elif outcome is not None:
                continue
            elif "result" in message:
                outcome = attempt.ended("completed", result=message["result"])
            elif "failure" in message:
                outcome = attempt.failed_as(
                    Failure.from_json(message["failure"]), message["retry_after"]
                )
            else:
                code = message["exit_code"]
        if outcome is not None:
            return outcome
        crashes = attempt.spec.crashes
        if attempt.spec.options.isolation == "none" and crashes is not None and code is not None:
            return attempt.failed_as(died_with_it(crashes + 1))
        if code is None:
            died = "with the process that watches it"
        else:
            died = f"signal {-code}" if code < 0 else f"exit code {code}"
        failure = Failure(PROCESS_DIED, f"the child process of the activity died: {died}")
        return attempt.failed_as(failure)


def _log(attempt: Attempt, line: Mapping[str, Any]) -> None:
    """Its child process has logged this; if no handler was there, it is for those that are here."""
    make = logging.getLogRecordFactory()
    record = make(line["logger"], line["level"], "", 0, line["message"], (), None)
    record.created = line["time"]
    attempt.log(record, logging.getLogger(line["logger"]))
    if not line["handled"]:
        emit(logger, [record])


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether it is an `async def`; kept with the function, which may be a run's own."""
    known: bool | None = getattr(function, _ASYNC, None)
    if known is None:
        known = iscoroutinefunction(function)
        with suppress(AttributeError, TypeError):  # a bound method, a builtin
            setattr(function, _ASYNC, known)
    return known


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: Any) -> bool:
    """Call that on the loop soon, from any thread; false if it is closed."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        return False
    return True


def _task(attempt: Attempt, limit: int) -> str:
    """The line that tells a child process what to run."""
    spec, info, deadline = attempt.spec, attempt.info, attempt.deadline
    fields_of_info = {field.name: getattr(info, field.name) for field in fields(info)}
    fields_of_info["deadline"] = None if deadline is None else format_instant(deadline)
    return json.dumps(
        {
            "function": whereabouts(spec.function, spec.name),
            "arguments": spec.arguments,
            "limit": limit,
            "non_retryable": spec.options.retry.non_retryable,
            "redact": masking.masks(),
            "log_level": logging.getLogger().level,
            "info": fields_of_info,
        }
    )
