"""A `resume` of a run that another worker has refused stays until the run has moved on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingWorkflowTaskState
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from belugawf import WorkflowContext, activity, new_executor, workflow
from belugawf.temporal.server import RunName
from belugawf.temporal.snapshots import Snapshot, SnapshotReader
from tests.devserver import DevServer


@activity
async def greet() -> str:
    return "hello"


@workflow
async def wanted(ctx: WorkflowContext) -> str:
    return await ctx.execute_activity(greet)


@workflow
async def other(ctx: WorkflowContext) -> None:
    """All that the first worker has."""


async def test_a_turn_that_is_taken_while_the_server_answers(
    temporal_server: DevServer, temporal_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server said before that is no problem of the code here."""
    place: Any = {"host": temporal_server.address, "namespace": temporal_namespace}
    read, late = SnapshotReader.read, False

    async def read_late(reader: SnapshotReader, name: RunName) -> Snapshot:
        nonlocal late
        snapshot, driving = await read(reader, name), reader._driving
        async with asyncio.timeout(60):
            while snapshot.info.problem and driving.is_on and not driving.has_touched(name.run_id):
                late = True
                await asyncio.sleep(0.01)
        return snapshot

    # Where the worker is quicker than the first answer, the server has nothing late to say.
    for number in range(8):
        await _refused(place, f"w{number}")
        with monkeypatch.context() as patched:
            patched.setattr(SnapshotReader, "read", read_late)
            async with new_executor("temporal", **place, workflows=[wanted]) as resuming:
                (info,) = await asyncio.wait_for(resuming.resume(f"w{number}"), 100)
        assert (info.status, info.result) == ("completed", "hello")
        if late:
            return
    pytest.fail("the worker was quicker eight times")


async def _refused(place: Any, id: str) -> None:
    """Start a run that a worker without its workflow refuses."""
    async with new_executor("temporal", **place, workflows=[wanted], drives=False) as starting:
        await starting.execute(wanted, id=id)
    async with new_executor("temporal", **place, workflows=[other]) as refusing:
        await refusing.execute(other, id=f"beside {id}")
        async with asyncio.timeout(60):
            while (await refusing.handle(id).describe()).problem is None:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(("state", "problem"), [("STARTED", None), ("SCHEDULED", "recorded")])
def test_a_turn_that_is_on_its_way_to_the_server(state: str, problem: str | None) -> None:
    """It was taken here, and the server does not know it yet: what is recorded is over."""
    environment = SimpleNamespace(problems={})
    driving: Any = SimpleNamespace(worker=SimpleNamespace(environment=environment))
    described = DescribeWorkflowExecutionResponse()
    described.pending_workflow_task.attempt = 2
    described.pending_workflow_task.state = PendingWorkflowTaskState.Value(
        f"PENDING_WORKFLOW_TASK_STATE_{state}"
    )
    info: Any = SimpleNamespace(run_id="r", problem="recorded")
    server: Any = None
    assert SnapshotReader(server, driving)._problem(info, described) == problem
