"""W9: eight processes signal and drive on one file: commits a second, and the longest wait.

`python -m benchmarks.crowd`
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import environment, folder, raw_commits, show, write_module

PROCESSES = 8
SECONDS = 10
MODULE = """
from belugawf import WorkflowContext, activity, workflow

@activity
async def step(number: int) -> int:
    return number

@workflow
async def counting(ctx: WorkflowContext) -> None:
    number = 0
    async for signal in ctx.signals("go"):
        number = await ctx.execute_activity(step, number + 1)
"""
MEMBER = """
import asyncio, json, sys, time
from belugawf import Signal, new_executor
from belugawf.local import database

waits = []
acquire = database.WriteLock.acquire

def timed(self, *args, **kwargs):
    began = time.perf_counter()
    try:
        return acquire(self, *args, **kwargs)
    finally:
        waits.append(time.perf_counter() - began)

database.WriteLock.acquire = timed

async def main(name, seconds):
    async with new_executor("default", db="state.db", workflows="workflows") as executor:
        await executor.execute("counting", id=f"run-{name}")
        end = time.time() + seconds
        number = 0
        while time.time() < end:
            await executor.signal(f"run-{name}", Signal("go", number))
            number += 1
            await asyncio.sleep(0.002)
        await executor.wait(f"run-{name}", until="rest")
        print(json.dumps([len(waits), max(waits), number]))

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


def main() -> None:
    raw = raw_commits()
    with folder() as root:
        write_module(root, "counting", MODULE)
        env = environment({"PYTHONPATH": str(Path(__file__).parents[1])})
        members = [
            subprocess.Popen(
                [sys.executable, "-c", MEMBER, str(number), str(SECONDS)],
                cwd=root,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        began = time.perf_counter()
        said = [member.communicate() for member in members]
        elapsed = time.perf_counter() - began
    failed = [err for _, err in said if err]
    results = [out.strip("[]\n ").split(", ") for out, _ in said if out]
    commits = sum(int(count) for count, _, _ in results)
    show("raw one-row commits, one process", raw, "commits/s")
    show("W9 commits of all", commits / elapsed, "commits/s")
    show("W9 signals of all", sum(int(number) for _, _, number in results) / elapsed, "signals/s")
    show("W9 worst wait", max(float(wait) for _, wait, _ in results) * 1000, "ms")
    show("W9 processes that failed", len(failed), "")
    for err in failed:
        print(err, file=sys.stderr)


if __name__ == "__main__":
    main()
