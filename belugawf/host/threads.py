"""A pool of daemon threads for plain-function activities.

`concurrent.futures` waits for its threads when the interpreter ends; a thread cannot be killed, so
an activity that hangs would keep the process alive. These threads do not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from belugawf.host.border import log

Job = Callable[[], None]


class DaemonPool:
    """At most `size` jobs at a time; one that was given up (`abandon`) does not count.

    When it ends after all, its thread is one too many, and ends too.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._running: list[Job] = []
        self._abandonn: list[Job] = []

    def submit(self, job: Job) -> bool:
        """Run the job as soon as a thread is free. It must not raise.

        False if there is no thread, and the system gives none: the job waits until `grow`.
        """
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            elif self._usable_threads() < self._size:
                self._add_thread()
            self._jobs.put(job)
            return self._usable_threads() > 0

    def grow(self) -> bool:
        """Try again to have a thread; whether there is one."""
        with self._lock:
            if not self._usable_threads():
                self._add_thread()
            return self._usable_threads() > 0

    def _usable_threads(self) -> int:
        """How many threads come back from what they do, as far as is known."""
        return self._threads - len(self._abandonn)

    def _add_thread(self) -> None:
        # If the system has no more of them, the job waits for one of those that there are.
        with suppress(RuntimeError):
            threading.Thread(target=self._work, name="belugawf-activity", daemon=True).start()
            self._threads += 1

    def abandon(self, job: Job) -> bool:
        """Nobody waits for that job any more: if it runs, another thread takes its place.

        False if jobs wait and the system gives no thread: they do until `grow`.
        """
        with self._lock:
            if job in self._running:
                self._abandonn.append(job)
                if not self._idle and not self._jobs.empty():
                    self._add_thread()
            return self._usable_threads() > 0 or self._jobs.empty()

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
            with self._lock:
                self._running.append(job)
            try:
                job()
            except BaseException as error:  # whatever it is, the next job needs this thread
                log(logging.ERROR, "a bug in belugawf: an attempt's end was lost", error=error)
            with self._lock:
                self._running.remove(job)
                if job in self._abandonn:
                    self._abandonn.remove(job)
                    if self._usable_threads() > self._size:
                        self._threads -= 1
                        return
                if self._jobs.empty():
                    self._idle += 1
