"""Seven days in one process, in simulated time: nothing that it holds grows."""

from __future__ import annotations

import gc
import resource
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from belugawf import WorkflowContext, activity, workflow
from belugawf.executor.options import EngineOptions
from belugawf.local.executor import LocalExecutor
from belugawf.model.durations import SECOND_NS

DAY_S = 24 * 3600
STEP_S = 600
# The first two simulated days fill caches, each of which has a bound; and keys below 257 are free.
WARM_UP = 288
# What is held is compared between so many parts of the week: what a run leaves behind shows in all,
# what only moves about in some.
PARTS = 3
PART = (7 * DAY_S // STEP_S - WARM_UP) // PARTS
# One object for two runs: a run that left a single number behind would be found. What moves about
# comes to a third of that in the quietest part (over two weeks it goes up and down, and stays).
SLACK_OBJECTS = PART // 2
# For what the interpreter does not count, as large texts: 4 KB a run.
SLACK_RESIDENT = 8 * 1024 * 1024


# `ru_maxrss` is in kilobytes, on macOS in bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Simulated:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self._now = 1_800_000_000 * SECOND_NS

    def now(self) -> int:
        return self._now

    def advance(self, seconds: int) -> None:
        self._now += seconds * SECOND_NS


class Held(NamedTuple):
    """What the process holds: pieces of memory that Python has given out, and so on."""

    objects: int
    resident: int
    descriptors: int
    threads: int


@activity
async def on_loop(number: int) -> int:
    return number


@activity
def in_thread(number: int) -> int:
    return number


@workflow
async def day(ctx: WorkflowContext, number: int) -> int:
    total = await ctx.execute_activity(on_loop, number)
    await ctx.sleep(STEP_S - 10)
    signal = await ctx.wait_for_signal("go", timeout="1d")
    return total + signal.payload + await ctx.execute_activity(in_thread, number)


@workflow
async def patient(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("never")


def held() -> Held:
    """What it holds now, after a collection of garbage."""
    gc.collect()
    folder = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else Path("/dev/fd")
    return Held(
        sys.getallocatedblocks(),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT,
        len([*folder.iterdir()]),
        threading.active_count(),
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_seven_days(tmp_path: Path) -> None:
    """Every ten minutes a run is started, sleeps, is signalled and ends; one waits all week."""
    clock = Simulated()
    # A small shelf and few threads: they are full after the first hours.
    options = EngineOptions(cache_runs=8, threads=4)
    executor = LocalExecutor(
        tmp_path / "state.db", [day, patient], options=options, durability="normal", clock=clock
    )
    async with executor:
        await executor.execute(patient, id="patient")
        seen = []
        for number in range(1, 7 * DAY_S // STEP_S + 1):
            name = f"run-{number}"
            await executor.execute(day, id=name, input=number)
            await executor.wait(name, until="rest")
            clock.advance(STEP_S)
            await executor.signal(name, "go", 1)
            assert await executor.handle(name).result() == 2 * number + 1
            if number >= WARM_UP and (number - WARM_UP) % PART == 0:
                seen.append(held())
    assert len(seen) == PARTS + 1
    grown = [after.objects - before.objects for before, after in pairwise(seen)]
    assert min(grown) < SLACK_OBJECTS, seen
    assert seen[-1].resident - seen[0].resident < SLACK_RESIDENT, seen
    assert len({now.descriptors for now in seen}) == 1, seen
    # One more for writing comes with the first transaction that had to wait.
    assert max(now.threads for now in seen) <= seen[0].threads + 1, seen
