"""Calling users' hooks: one that raises is logged, and touches no run."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from belugawf.executor import Hooks


class HookCaller:
    """Calls hooks on the loop it is used on; coroutines are awaited in the background."""

    def __init__(self, hooks: Sequence[Hooks], logger: logging.Logger) -> None:
        self._hooks = hooks
        self._logger = logger
        self._background: set[asyncio.Future[Any]] = set()

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def call(self, name: str, event: Mapping[str, Any]) -> None:
        """Call every hook of that name."""
        for hooks in self._hooks:
            hook = getattr(hooks, name)
            if hook is None:
                continue
            try:
                answer = hook(event)
            except Exception:
                self._logger.exception("hook %s failed", name)
                continue
            if inspect.isawaitable(answer):
                future = asyncio.ensure_future(answer)
                self._background.add(future)
                future.add_done_callback(self._ended)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._background.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._logger.error("a hook failed", exc_info=error)

    async def close(self) -> None:
        """Wait for the hooks that are still running."""
        await asyncio.gather(*self._background, return_exceptions=True)
