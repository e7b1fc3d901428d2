"""Attempts end in an outcome, whatever the activity's code does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from belugawf import WorkflowContext, WorkflowFailedError, activity, workflow
from belugawf.executor.options import EngineOptions
from belugawf.host.attempt import AttemptSpec
from belugawf.host.attempts import AttemptRunner
from belugawf.host.clock import SystemClock
from belugawf.local.executor import LocalExecutor
from belugawf.model.outcomes import Outcome
from belugawf.model.policy import ActivityOptions


class RudeError(Exception):
    """Whose attributes cannot be read."""

    @property
    def retry_after(self) -> float:
        raise ValueError

    @property
    def non_retryable(self) -> bool:
        raise ValueError

    @property
    def type(self) -> str:
        raise ValueError


@activity
async def on_loop() -> None:
    raise RudeError("no")


@activity
def in_thread() -> None:
    raise RudeError("no")


@activity(isolation="process")
def in_process() -> None:
    raise RudeError("no")


ACTIVITIES: dict[str, Callable[..., object]] = {
    "loop": on_loop,
    "thread": in_thread,
    "process": in_process,
}


@workflow
async def calling(ctx: WorkflowContext, where: str) -> None:
    await ctx.execute_activity(ACTIVITIES[where])


@pytest.mark.parametrize("where", ACTIVITIES)
async def test_an_exception_that_cannot_be_asked_fails_its_activity(
    tmp_path: Path, where: str
) -> None:
    """What its properties raise is no reason to wait for the attempt for ever."""
    async with LocalExecutor(tmp_path / "state.db", [calling]) as executor:
        handle = await executor.execute(calling, input=where)
        async with asyncio.timeout(20):
            with pytest.raises(WorkflowFailedError, match="RudeError: no"):
                await handle.result()


def report_much(size: int) -> None:
    activity.heartbeat("x" * size)


report_in_thread = activity(report_much)
report_in_process = activity(isolation="process", name="report_in_process")(report_much)


@activity
async def report_on_loop(size: int) -> None:
    report_much(size)


REPORTING = [report_on_loop, report_in_thread, report_in_process]


@workflow
async def reporting(ctx: WorkflowContext, which: int, size: int) -> None:
    await ctx.execute_activity(REPORTING[which], size)


@pytest.mark.parametrize("which", range(3))
async def test_heartbeats_have_a_size(tmp_path: Path, which: int) -> None:
    """As other payloads have; what is too large fails the activity, and is not kept."""
    # FINDINGS O6
    options = EngineOptions(payload_limit=1_000)
    async with LocalExecutor(tmp_path / "s.db", [reporting], options=options) as executor:
        async with asyncio.timeout(20):
            await (await executor.execute(reporting, input={"which": which, "size": 998})).result()
            handle = await executor.execute(reporting, input={"which": which, "size": 999})
            with pytest.raises(WorkflowFailedError, match="heartbeat details is 1,001 bytes"):
                await handle.result()


def kills(whom: str) -> None:
    os.kill(os.getpid() if whom == "itself" else os.getppid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="what has lost its reaper ends there")
@pytest.mark.parametrize(
    ("whom", "said"),
    [("itself", "its process died 3 times"), ("who watches it", "with the process that watches")],
)
async def test_a_suspect_dies_for_good_only_if_it_was_seen_to_die(whom: str, said: str) -> None:
    """Where no process could be forked for it, nothing of it has run: that is tried again."""
    # FINDINGS B13
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    runner = AttemptRunner(ended.set_result, SystemClock(), threads=1, payload_limit=1000)
    runner.start(
        AttemptSpec(
            run=1,
            seq=1,
            workflow_id="w",
            run_id="r",
            activity_id="1",
            name="kills",
            function=kills,
            arguments=json.dumps([whom]),
            options=ActivityOptions(),
            attempt=3,
            expires_at=None,
            crashes=2,
        )
    )
    async with asyncio.timeout(20):
        outcome = await ended
        await runner.close()
    assert said in outcome.payload
    assert outcome.failure is not None
    assert outcome.failure.non_retryable is (whom == "itself")
