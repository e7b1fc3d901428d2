"""What a workflow does is the same on both providers, tried on generated workflows."""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from belugawf.executor import DurableExecutor
from belugawf.model import events as e
from tests.devserver import DevServer
from tests.temporal.both import Both
from tests.temporal.parity import BRANCHES, LEAVES, Program, grow, parity

_LONGEST_S = 60


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, temporal_server: DevServer) -> Iterator[Both]:
    both = Both(tmp_path_factory.mktemp("parity") / "state.db", temporal_server, [parity])
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


def test_what_is_cancelled_by_the_turn_that_starts_it(both: Both) -> None:
    """It is executed nowhere; only one file's history tells of it. A difference in the docs."""
    local, remote = (
        both.call(outcome(executor, ["unwanted", 0])) for executor in both.executors.values()
    )
    assert (local.pop("order"), remote.pop("order")) == ({"0": ["hopeless"]}, {})
    assert remote == local
    assert local["result"] == [["0", ["unwanted begins", "CancelledError"]]]


@pytest.mark.slow
@pytest.mark.timeout(240)
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_generated_workflows(both: Both, seed: int, depth: int) -> None:
    """Results, failures, attempts and the order of activities agree."""
    assert_same(both, grow(random.Random(seed).randrange, depth))
