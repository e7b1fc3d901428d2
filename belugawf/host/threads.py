"""A pool of daemon threads for plain-function activities.

`concurrent.futures` waits for its threads when the interpreter ends; a thread cannot be killed, so
an activity that hangs would keep the process alive. These threads do not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
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

    def submit(self, job: Job) -> None:
        """Run the job as soon as a thread is free. It must not raise."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            elif self._threads < self._size:
                self._threads += 1
                threading.Thread(target=self._work, name="belugawf-activity", daemon=True).start()
            self._jobs.put(job)

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
