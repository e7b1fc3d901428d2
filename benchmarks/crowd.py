"""W9: eight processes signal and drive on one file: commits a second, and the longest wait.

`python -m benchmarks.crowd`
"""

from __future__ import annotations

import json
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
from belugawf.local.file import database

waits, holds, took = [], [], [0.0]
acquire, release = database.WriteLock.acquire, database.WriteLock.release

def timed(self, *args, **kwargs):
    began = time.perf_counter()
    try:
        return acquire(self, *args, **kwargs)
    finally:
        took[0] = time.perf_counter()
        waits.append(took[0] - began)

def released(self):
    holds.append(time.perf_counter() - took[0])
    release(self)

database.WriteLock.acquire, database.WriteLock.release = timed, released

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
        print(json.dumps([waits, holds, number]))

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
    results = [json.loads(out) for out, _ in said if out]
    waits = sorted(wait for waited, _, _ in results for wait in waited)
    holds = sorted(hold for _, held, _ in results for hold in held)
    show("raw one-row commits, one process", raw, "commits/s")
    show("W9 commits of all", len(waits) / elapsed, "commits/s")
    show("W9 signals of all", sum(number for _, _, number in results) / elapsed, "signals/s")
    show("W9 worst wait", waits[-1] * 1000, "ms")
    for name, times in (("waits", waits), ("holds", holds)):
        show(f"W9 {name}, median", times[len(times) // 2] * 1000, "ms")
        show(f"W9 {name}, 999 of 1,000", times[-len(times) // 1000] * 1000, "ms")
    show("W9 longest hold", holds[-1] * 1000, "ms")
    show("W9 processes that failed", len(failed), "")
    for err in failed:
        print(err, file=sys.stderr)


if __name__ == "__main__":
    main()
