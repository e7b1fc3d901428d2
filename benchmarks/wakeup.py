"""W5: a signal from another process to a live worker, until the next activity has ended.

`python -m benchmarks.wakeup`
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

from belugawf import Signal, new_executor
from benchmarks.measuring import command, environment, folder, show, write_module

SIGNALS = 200
IDLE_S = 10
MODULE = """
import time
from pathlib import Path
from belugawf import WorkflowContext, activity, workflow

@activity
async def heard(sent: float) -> float:
    return time.time() - sent

@workflow
async def hearing(ctx: WorkflowContext, count: int) -> list[float]:
    return [
        await ctx.execute_activity(heard, (await ctx.wait_for_signal("go")).payload)
        for _ in range(count)
    ]
"""


async def send(root: Path) -> list[float]:
    """Signals one by one; each activity says how long after the sending it ended."""
    async with new_executor("default", db=root / "state.db") as executor:
        for number in range(SIGNALS):
            await executor.signal("hearing", Signal("go", time.time()))
            while (await heard(executor)) <= number:
                await asyncio.sleep(0.002)
        result: list[float] = await executor.query("hearing", "result")
        return result


async def heard(executor: object) -> int:
    events = await executor.history("hearing")  # type: ignore[attr-defined]
    return sum(type(event).__name__ == "ActivityCompleted" for event in events)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    with folder() as root:
        write_module(root, "hearing", MODULE)
        database = ("--db", "state.db")
        start = command(*database, "run", "hearing", "-i", str(SIGNALS), "--id", "hearing", "-d")
        subprocess.run(start, cwd=root, env=environment(), check=True, capture_output=True)
        worker = subprocess.Popen(
            command(*database, "worker"), cwd=root, env=environment(), stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(2)
            latencies = sorted(asyncio.run(send(root)))
            time.sleep(1)
            before = cpu_seconds(worker.pid)
            time.sleep(IDLE_S)
            idle = (cpu_seconds(worker.pid) - before) / IDLE_S
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait()
    show("W5 signal to end of activity, median", statistics.median(latencies) * 1000, "ms")
    show("W5 signal to end of activity, 99 of 100", latencies[-len(latencies) // 100] * 1000, "ms")
    show("W5 idle worker", idle * 100, "% of a core")


if __name__ == "__main__":
    main()
