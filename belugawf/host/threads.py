"""A pool of daemon threads for plain-function activities.

`concurrent.futures` waits for its threads when the interpreter ends; a thread cannot be killed, so
an activity that hangs would keep the process alive. These threads do not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

Job = Callable[[], None]


class DaemonPool:
    """At most `size` jobs at a time; a job that was given up (`forsake`) no longer counts."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0

    def submit(self, job: Job) -> bool:
        """Run the job as soon as a thread is free. It must not raise.

        False where there is no thread, and the system gives none: the job waits until `grow`.
        """
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            elif self._threads < self._size:
                self._add_thread()
            self._jobs.put(job)
            return self._threads > 0

    def grow(self) -> bool:
        """Try again to have a thread; whether there is one."""
        with self._lock:
            if not self._threads:
                self._add_thread()
            return self._threads > 0

    def _add_thread(self) -> None:
        # Where the system has no more of them, the job waits for one of those that there are.
        with suppress(RuntimeError):
            threading.Thread(target=self._work, name="belugawf-activity", daemon=True).start()
            self._threads += 1

    def forsake(self) -> None:
        """A job hangs and nobody waits for it: another thread may take its place."""
        with self._lock:
            self._size += 1

    def close(self) -> None:
        """Let idle threads end."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            job()
            with self._lock:
                if self._jobs.empty():
                    self._idle += 1
