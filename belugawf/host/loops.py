"""An event loop of ours that users' activities share.

asyncio lets SystemExit and KeyboardInterrupt of any task end the loop, `stop` any code. Then all
runs of the process would stand still for what one activity did.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import deque
from collections.abc import Coroutine, Sequence
from contextvars import Context, ContextVar
from typing import Any, TypeVar

from belugawf.authoring.failures import describe_failure, is_a
from belugawf.host.border import call, is_users

T = TypeVar("T")

logger = logging.getLogger("belugawf.engine")


def hidden_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that is none of `asyncio.all_tasks()`. The caller must keep it."""
    task = loop.create_task(work)
    asyncio._unregister_task(task)
    return task


class ProtectedTasks:
    """Until it is closed, what begins as a task in `context` is not cancelled by user code.

    For tasks of a library, which count on finding them in `asyncio.all_tasks()`. They pass the
    context on to those that they make.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.context = Context()
        self.context.run(_protected.set, True)
        self._loop = loop
        self._found = found = loop.get_task_factory()

        def make(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
            context = options.get("context")
            if _protected.get() if context is None else context.get(_protected, False):
                return _Protected(work, loop=loop, **options)
            if found is None:
                return asyncio.tasks.Task(work, loop=loop, **options)
            return found(loop, work, **options)

        self._factory = make
        loop.set_task_factory(make)

    def close(self) -> None:
        """Tasks are made as before, unless somebody has changed that meanwhile."""
        if self._loop.get_task_factory() is self._factory:
            self._loop.set_task_factory(self._found)


_protected: ContextVar[bool] = ContextVar("belugawf_protected", default=False)


class _Protected(asyncio.tasks.Task[Any]):
    def cancel(self, msg: Any = None) -> bool:
        return not is_users() and super().cancel(msg)


def step_now(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Let tasks take their first step now, and not after a turn of the loop.

    For a callback of the running loop that has just made them, as the last thing that it does. Only
    if their steps are the last callbacks in the loop's own queue: it has counted those that were
    there before this callback. A loop that has no such queue, or debugs, takes them later, as ever.
    Nothing is raised: what would end the loop ends it next.
    """
    loop = asyncio.get_running_loop()
    ready = getattr(loop, "_ready", None)
    if not isinstance(ready, deque) or not 0 < len(tasks) <= len(ready) or loop.get_debug():
        return
    try:
        if ready[-len(tasks)]._callback.__self__ is not tasks[0]:
            return
    except BaseException:  # it may be a callable of the user's
        return
    steps: list[Any] = []
    try:
        while len(steps) < len(tasks):
            steps.append(ready.pop())
        while steps:
            steps.pop()._run()
    except BaseException as error:
        loop.call_soon(_raise, error)
    ready.extend(reversed(steps))


def _raise(error: BaseException) -> None:
    raise error


def run_until_done(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    """Run the loop until this task of it is done, and return its result, or raise its exception.

    The loop is entered again if something else has ended it. Not after Ctrl-C: if nobody
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
