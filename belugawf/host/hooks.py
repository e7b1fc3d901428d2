"""Calling users' hooks and log handlers: one that raises is logged, and touches no run."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from belugawf.host.border import Raised, call, is_interrupt, mark_as_users
from belugawf.host.calling import failure_of
from belugawf.model.messages import Hooks

# How long hooks that are still running are waited for, and what was cancelled then, in seconds.
_LONGEST_S, _FAREWELL_S = 5.0, 1.0


def call_safely(logger: logging.Logger, what: str, code: Callable[[], Any]) -> Any:
    """What `code` returns; whatever it raises is logged as a failure of `what`: then `None`."""
    answer = call(code)
    # `isinstance` would ask the answer for its class: it is the user's.
    if type(answer) is not Raised:
        return answer
    _log_failure(logger, what, answer.error)
    return None


def emit(logger: logging.Logger, records: Iterable[logging.LogRecord]) -> None:
    """Hand what a run's code has logged to the handlers; how they fail goes to `logger`."""
    for record in records:
        call_safely(logger, "a log handler", partial(_hand_over, record))


def _hand_over(record: logging.LogRecord) -> None:
    target = logging.getLogger(record.name)  # of the user's class, if one was set
    if target.isEnabledFor(record.levelno):
        target.handle(record)


def _log_failure(logger: logging.Logger, what: str, error: BaseException) -> None:
    failure, _ = failure_of(error)
    # As text: an exception whose own code raises cannot be formatted by handlers, which are the
    # user's too.
    text = failure.traceback or failure.message
    call(partial(logger.error, "%s failed: %s", what, text))


class HookCaller:
    """Calls hooks on the loop it is used on; coroutines are awaited in the background."""

    def __init__(self, hooks: Sequence[Hooks], logger: logging.Logger) -> None:
        self._hooks = hooks
        self._logger = logger
        self._background: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def call(self, name: str, event: Mapping[str, Any]) -> None:
        """Call every hook of that name."""
        for hooks in self._hooks:
            hook = getattr(hooks, name)
            if hook is None:
                continue
            answer = call_safely(self._logger, f"hook {name}", partial(hook, event))
            if call(inspect.isawaitable, answer) is True:
                context = contextvars.Context()
                context.run(mark_as_users)
                task = asyncio.get_running_loop().create_task(
                    self._awaited(name, answer), context=context
                )
                self._background.add(task)
                task.add_done_callback(self._background.discard)

    async def _awaited(self, name: str, answer: Awaitable[Any]) -> None:
        try:
            await answer
        except BaseException as error:
            if is_interrupt(error):
                raise
            _log_failure(self._logger, f"hook {name}", error)

    async def close(self) -> None:
        """Wait for the hooks that are still running, for 5 s at most; then they are cancelled."""
        if not self._background:
            return
        _, running = await asyncio.wait(self._background, timeout=_LONGEST_S)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_FAREWELL_S)
            call(self._logger.warning, "hooks that do not end were left: %d", len(running))
