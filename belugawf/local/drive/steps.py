"""A coroutine that runs in synchronous steps on the event loop, and is no task."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any


class Steps:
    """Runs a coroutine in synchronous steps on the loop, and not as a task.

    A task could be cancelled by user code that cancels all tasks of the loop, and would be seen as
    the current one by what it calls. `ended` is told how it ended, `None` for well.
    """

    def __init__(
        self,
        work: Coroutine[Any, None, None],
        ended: Callable[[BaseException | None], None],
        context: Context,
    ) -> None:
        self._work = work
        self._ended = ended
        self._context = context

    def step(self, _: object = None) -> None:
        """Run on until it waits for a future, or to its end."""
        try:
            awaited = self._work.send(None)
        except StopIteration:
            self._ended(None)
        except BaseException as error:
            self._ended(error)
        else:
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(self.step, context=self._context)
