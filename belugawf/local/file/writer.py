"""The one lane through which an executor writes: on the event loop, or off it.

Off the loop, activities continue while the disk works. But handing work to a thread takes as long
as a commit on a fast disk. So a small transaction runs on the loop if the last ones were fast and
nobody else is writing. If it would have to wait for a lock, it goes to the lane's own thread:
nothing ever waits for a lock on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from belugawf.local.file.database import Database, WouldBlockError
from belugawf.model.shortage import shortage

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

# What is a small transaction (in rows that are touched, roughly), and a quick disk (in seconds).
_SMALL, _QUICK_S = 16, 0.002


class Writer:
    """One transaction after the other; use on one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread: ThreadPoolExecutor | None = None
        self._handed_over = 0
        self._usual_s = 0.0

    async def write(self, work: Callable[[], T], *, size: int = 1) -> T:
        """What `work` returns, which writes in one transaction; raises what it raises.

        `work` is called again, in the lane's thread, if it would have had to wait on the loop:
        then its transaction had not begun. `size` is about how many runs it touches.
        """
        if size <= _SMALL and self._usual_s < _QUICK_S and not self._handed_over:
            # Done for each step of each run: so `_timed` is written out.
            began = time.perf_counter()
            try:
                written = self._database.without_blocking(work)
            except WouldBlockError:
                pass
            else:
                self._usual_s += (time.perf_counter() - began - self._usual_s) / 4
                return written
        return await self._off_loop(work)

    async def _off_loop(self, work: Callable[[], T]) -> T:
        try:
            if self._thread is None:
                from concurrent.futures import ThreadPoolExecutor

                self._thread = ThreadPoolExecutor(1, thread_name_prefix="belugawf-writer")
            written = asyncio.get_running_loop().run_in_executor(self._thread, self._timed, work)
        except (OSError, RuntimeError) as error:
            # Its queue has the work, which a thread that it could start later would do.
            self._thread = None
            raise shortage(error) or error from None
        self._handed_over += 1
        written.add_done_callback(self._done)
        return await written

    def _done(self, _: object) -> None:
        self._handed_over -= 1

    def _timed(self, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        written = work()
        # The mean of the last few, which forgets a hiccup, and learns of a slower disk.
        self._usual_s += (time.perf_counter() - began - self._usual_s) / 4
        return written

    def close(self) -> None:
        """Wait for what is being written."""
        if self._thread is not None:
            self._thread.shutdown()
