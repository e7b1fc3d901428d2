"""What a workflow does is the same on both providers, tried on generated workflows."""

from __future__ import annotations

import asyncio
import random
import threading
import uuid
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from belugawf import new_executor
from belugawf.executor import DurableExecutor
from belugawf.model import events as e
from tests.devserver import DevServer, new_namespace
from tests.temporal.parity import BRANCHES, LEAVES, Program, grow, parity

_LONGEST_S = 60


class Both:
    """Both providers' executors, each driving its runs itself, on a loop in a thread."""

    def __init__(self, db: Path, server: DevServer) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.executors = {
            "default": new_executor("default", db=db, workflows=[parity]),
            "temporal": self.call(self._temporal(server)),
        }
        for executor in self.executors.values():
            self.call(executor.__aenter__())

    async def _temporal(self, server: DevServer) -> DurableExecutor:
        namespace = await asyncio.to_thread(new_namespace, server.address)
        return new_executor(
            "temporal", host=server.address, namespace=namespace, workflows=[parity]
        )

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_LONGEST_S)

    def close(self) -> None:
        for executor in self.executors.values():
            self.call(executor.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, temporal_server: DevServer) -> Iterator[Both]:
    both = Both(tmp_path_factory.mktemp("parity") / "state.db", temporal_server)
    yield both
    both.close()


async def outcome(executor: DurableExecutor, program: Program) -> dict[str, Any]:
    """What becomes of a run: its status, result or error, and each branch's activities in order."""
    handle = await executor.execute(parity, id=str(uuid.uuid4()), input=program)
    info = await executor.wait(handle.run_id, until="done", max_wait=_LONGEST_S)
    order: dict[str, list[str]] = defaultdict(list)
    attempts: dict[str, int] = {}
    scheduled: dict[int, str] = {}
    for event in await executor.history(handle.run_id):
        if isinstance(event, e.ActivityScheduled):
            path = event.payload.split('"')[1]
            order[path].append(event.name)
            scheduled[event.seq] = path
        if isinstance(event, e.ActivityCompleted):
            attempts[scheduled[event.seq]] = event.attempt
    return {
        "status": info.status,
        "result": info.result,
        "error": None if info.error is None else (info.error.type, info.error.message),
        "order": dict(order),
        "attempts": attempts,
    }


def assert_same(both: Both, program: Program) -> None:
    local, remote = (both.call(outcome(executor, program)) for executor in both.executors.values())
    assert remote == local, program


@pytest.mark.parametrize("kind", LEAVES)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_leaf(both: Both, kind: str, number: int) -> None:
    """Each kind of step, by itself."""
    assert_same(both, [kind, number])


@pytest.mark.parametrize("kind", BRANCHES)
def test_each_branch(both: Both, kind: str) -> None:
    """Each kind of branch, around steps that take their time, fail and are retried."""
    assert_same(both, [kind, ["work", 1], ["sleep", 1], ["flaky", 2], ["thread", 0]])


@pytest.mark.slow
@pytest.mark.timeout(240)
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_generated_workflows(both: Both, seed: int, depth: int) -> None:
    """Results, failures, attempts and the order of activities agree."""
    assert_same(both, grow(random.Random(seed).randrange, depth))
