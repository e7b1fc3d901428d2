"""How long it takes to cancel or terminate many runs, and what a process beside it waits.

`python -m benchmarks.cancelling [COUNT]` (default 100,000, which takes three minutes)
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from belugawf import WorkflowContext, activity, new_executor, workflow
from benchmarks.measuring import folder, show

COUNT = 100_000
# So long the process that works is measured by itself, in seconds.
ALONE_S = 5
# So many steps are not counted.
WARM = 100


# When each step was taken, in seconds.
STEPS: list[float] = []


@activity
async def step() -> None:
    STEPS.append(time.perf_counter())
    if len(STEPS) == WARM:
        print("ready", flush=True)


@workflow
async def waits(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("go")


@workflow
async def steps(ctx: WorkflowContext) -> None:
    """Step by step, without an end: each step is a commit."""
    while True:
        await ctx.execute_activity(step)


async def fill(db: Path, count: int) -> None:
    """So many runs that wait for a signal."""
    async with new_executor("default", db=db, workflows=[waits], durability="normal") as executor:
        for first in range(0, count, 1_000):
            for number in range(first, min(first + 1_000, count)):
                await executor.execute(waits, id=f"run-{number:06}", detach=True)
            await executor.resume()


async def beside(db: Path) -> None:
    """Drive `steps` until stdin ends; then print the longest time between two steps, in ms."""
    async with new_executor("default", db=db, workflows=[steps]) as executor:
        run = await executor.execute(steps)
        await asyncio.to_thread(sys.stdin.read)
        taken = pairwise(STEPS[WARM:])
        print(max(after - before for before, after in taken) * 1_000, flush=True)
        await executor.terminate(run.run_id)


async def change(db: Path, word: str) -> tuple[int, float]:
    """How many of the waiting runs, and in how many seconds."""
    async with new_executor("default", db=db) as executor:
        began = time.perf_counter()
        runs = await executor.select(status="running", workflow="waits")
        result = await getattr(executor, f"{word}_many")(runs)
        return len(result.done), time.perf_counter() - began


def measure(db: Path, word: str | None) -> None:
    command = [sys.executable, "-m", "benchmarks.cancelling", "--beside", str(db)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        if word is None:
            time.sleep(ALONE_S)
            other.stdin.close()
            show("longest step of a process alone", float(other.stdout.readline()), "ms")
            return
        done, elapsed = asyncio.run(change(db, word))
        other.stdin.close()
        show(f"{word} {done:,} waiting runs", elapsed, "s")
        show("longest step of another process meanwhile", float(other.stdout.readline()), "ms")


def main() -> None:
    if sys.argv[1:2] == ["--beside"]:
        asyncio.run(beside(Path(sys.argv[2])))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with folder() as root:
        db = root / "state.db"
        asyncio.run(fill(db, count))
        measure(db, None)
        measure(db, "cancel")
        measure(db, "terminate")


if __name__ == "__main__":
    main()
