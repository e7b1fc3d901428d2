"""An event loop of ours that users' activities share.

asyncio lets SystemExit and KeyboardInterrupt of any task end the loop, `stop` any code. Then all
runs of the process would stand still for what one activity did.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from belugawf.authoring.failures import describe_failure, is_a
from belugawf.host.border import call

T = TypeVar("T")

logger = logging.getLogger("belugawf.engine")


def hidden_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that is none of `asyncio.all_tasks()`. The caller must keep it."""
    task = loop.create_task(work)
    asyncio._unregister_task(task)
    return task


def run_until_done(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    """Run the loop until this task of it is done, and return its result, or raise its exception.

    The loop is entered again where something else has ended it. Not after Ctrl-C: where nobody
    handles SIGINT, KeyboardInterrupt goes on.
    """
    task.add_done_callback(_stop)
    while not task.done():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            if is_a(error, KeyboardInterrupt) and _raises_it():
                raise
            if not task.done():
                _log("code in a task raised %s, which does not end this process", error)
        else:
            if not task.done():
                _log("code in a task has stopped the event loop, which goes on")
    return task.result()


def _stop(task: asyncio.Task[Any]) -> None:
    task.get_loop().stop()


def _raises_it() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _log(message: str, error: BaseException | None = None) -> None:
    if error is not None:
        failure = describe_failure(error)
        message = f"{message % failure.type}: {failure.traceback or failure.message}"
    call(logger.warning, "%s", message)  # its handlers are the user's
