"""The blocking twin of an executor, for scripts without asyncio: `new_executor(...).sync()`.

It owns an event loop in a thread, on which the executor goes on driving between two calls. Nothing
of the executor's interface is written twice: coroutine methods become blocking ones as they are
called, and handles are wrapped likewise.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from belugawf.executor.home import forked, not_open
from belugawf.model.errors import UsageError

# How long calls of other threads may take to notice that the executor is left, in seconds.
_LONGEST_END_S = 5.0

logger = logging.getLogger("belugawf.engine")


class BlockingExecutor:
    """Use as `with new_executor(...).sync() as executor`; has all methods of `DurableExecutor`."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        # Between it and the loop's end nothing may be put on the loop: it would wait for ever.
        self._lock = threading.Lock()
        self._calls: set[asyncio.Task[Any]] = set()
        self._ends = threading.Event()

    def __enter__(self) -> BlockingExecutor:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._ends.clear()
        self._thread = threading.Thread(
            target=self._drive, args=(self._loop,), name="belugawf-loop", daemon=True
        )
        self._thread.start()
        try:
            self._run(self._executor.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if os.getpid() != self._process:
            return  # the loop's thread is the parent's, and what it drives
        try:
            self._run(self._executor.__aexit__(*exc))
        finally:
            self._stop()

    def __getattr__(self, name: str) -> Any:
        return _blocking(getattr(self._executor, name), self._run)

    def _run(self, coroutine: Any) -> Any:
        try:
            if os.getpid() != self._process:
                raise forked()
            with self._lock:
                if self._loop is None or self._thread is None:
                    raise not_open()
                if threading.get_ident() == self._thread.ident:
                    raise UsageError(
                        "the blocking executor is called on its own event loop, which would wait "
                        "for itself",
                        hint="use it in plain functions, or open another executor",
                    )
                work = self._call(coroutine)
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except BaseException:
            coroutine.close()
            raise
        return future.result()

    async def _call(self, coroutine: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await coroutine
        except asyncio.CancelledError:
            if self._loop is None:
                raise not_open() from None
            raise
        finally:
            self._calls.discard(task)

    def _drive(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop until the end, whatever the tasks of activities do to it."""
        while not self._ends.is_set():
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                what = type(error).__name__
                with suppress(BaseException):  # its handlers are the user's
                    logger.warning("code in a task raised %s, which does not end this thread", what)

    def _stop(self) -> None:
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        assert loop is not None
        assert thread is not None
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end_calls(), loop).result(_LONGEST_END_S)
        self._ends.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def _end_calls(self) -> None:
        """Other threads that still wait are told that nobody drives any more."""
        for call in self._calls:
            call.cancel()
        while self._calls:
            await asyncio.sleep(0)


class BlockingHandle:
    """A `WorkflowHandle` whose methods block."""

    def __init__(self, handle: Any, run: Callable[[Any], Any]) -> None:
        self._handle = handle
        self._run = run

    def __repr__(self) -> str:
        return f"Blocking{self._handle!r}"

    def __getattr__(self, name: str) -> Any:
        return _blocking(getattr(self._handle, name), self._run)


def _blocking(member: Any, run: Callable[[Any], Any]) -> Any:
    """The member as it is; if it is a method, one that blocks and runs on the loop."""
    if not inspect.ismethod(member):
        return member

    async def on_loop(*args: Any, **kwargs: Any) -> Any:
        answer = member(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    def call(*args: Any, **kwargs: Any) -> Any:
        answer = run(on_loop(*args, **kwargs))
        is_handle = (
            hasattr(answer, "run_id") and hasattr(answer, "result") and callable(answer.result)
        )
        return BlockingHandle(answer, run) if is_handle else answer

    call.__name__ = member.__name__
    call.__doc__ = inspect.getdoc(member)
    return call
