"""Both providers in one process, for comparing what a workflow does on each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from belugawf import new_executor
from belugawf.executor import DurableExecutor
from tests.devserver import DevServer, new_namespace

LONGEST_S = 60


class Both:
    """Both providers' executors, each driving its runs itself, on a loop in a thread."""

    def __init__(
        self, db: Path, server: DevServer, workflows: Sequence[Callable[..., Any]]
    ) -> None:
        self._workflows = workflows
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.executors = {
            "default": new_executor("default", db=db, workflows=self._workflows),
            "temporal": self.call(self._temporal(server)),
        }
        for executor in self.executors.values():
            self.call(executor.__aenter__())

    async def _temporal(self, server: DevServer) -> DurableExecutor:
        namespace = await asyncio.to_thread(new_namespace, server.address)
        return new_executor(
            "temporal", host=server.address, namespace=namespace, workflows=self._workflows
        )

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LONGEST_S)

    def close(self) -> None:
        for executor in self.executors.values():
            self.call(executor.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
