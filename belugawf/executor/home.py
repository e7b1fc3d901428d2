"""Where an executor was opened: it is of use in that process, and on that event loop alone.

Elsewhere a call would wait for ever: for a loop that does not run, or for a thread that a fork has
not taken along.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import events

from belugawf.model.errors import UsageError
from belugawf.model.values import frozen


@frozen()
class Home:
    """A process, and an event loop of it."""

    process: int
    loop: asyncio.AbstractEventLoop

    @classmethod
    def here(cls) -> Home:
        """This process, and the running loop."""
        return cls(os.getpid(), asyncio.get_running_loop())

    @property
    def is_forked(self) -> bool:
        """Whether this is a forked child of that process."""
        return os.getpid() != self.process

    def check(self) -> None:
        """Raise `UsageError` if we are elsewhere."""
        if os.getpid() != self.process:
            raise forked()
        if events._get_running_loop() is not self.loop:
            raise UsageError(
                "the executor was opened on another event loop",
                hint="open one on each loop, or use new_executor(...).sync(), from any thread",
            )


def forked() -> UsageError:
    """The error for an executor that a fork has taken along."""
    return UsageError(
        "the executor was opened by the process that has forked this one",
        hint="open one here, after the fork",
    )


def not_open() -> UsageError:
    """The error for an executor that was not opened, or is left."""
    return UsageError("the executor is not open", hint="use it as: with new_executor(...)")
