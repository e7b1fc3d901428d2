"""W6: many runs that wait for a signal: a worker's memory, and one of them signalled and finished.

`python -m benchmarks.waiting [COUNT ...]` (default 10,000 and 100,000, which take minutes)
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from belugawf import new_executor
from benchmarks.measuring import command, environment, folder, show, timed, write_module

MODULE = """
from belugawf import WorkflowContext, workflow

@workflow
async def waiting(ctx: WorkflowContext) -> str:
    return (await ctx.wait_for_signal("go")).payload
"""
DATABASE = ("--db", "state.db")


async def prepare(root: Path, count: int) -> None:
    """So many runs that wait."""
    executor = new_executor(
        "default", db=root / "state.db", workflows=root / "workflows", durability="normal"
    )
    async with executor:
        for first in range(0, count, 1_000):
            for number in range(first, min(first + 1_000, count)):
                await executor.execute("waiting", id=f"run-{number:06}", detach=True)
            await executor.resume()


def resident_mb(pid: int) -> float:
    """Memory that a process has now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)


def signal_one(root: Path, number: int) -> float:
    """Seconds of a fresh process that signals a run and sees it finish."""
    began = time.perf_counter()
    done = subprocess.run(
        command(*DATABASE, "signal", "go", f"run-{number:06}", "--text", "x", "--json"),
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"status": "completed"' in done.stdout, done.stdout
    return time.perf_counter() - began


def measure(count: int) -> dict[str, float]:
    """The figures with so many waiting runs."""
    figures = {}
    with folder() as root:
        write_module(root, "waiting", MODULE)
        asyncio.run(prepare(root, count))
        worker = subprocess.Popen(
            command(*DATABASE, "worker"), cwd=root, env=environment(), stderr=subprocess.DEVNULL
        )
        time.sleep(4)
        figures["memory"] = resident_mb(worker.pid)
        worker.send_signal(signal.SIGTERM)
        worker.wait()
        figures["signal"] = statistics.median(signal_one(root, n) for n in range(7))
        for name in ("resume", "status", "list", "waiting"):
            figures[name] = statistics.median(timed(command(*DATABASE, name), root, 5))
        files = sum(path.stat().st_size for path in root.glob("state.db*"))
        figures["bytes"] = files / count
    return figures


def main() -> None:
    counts = [int(text) for text in sys.argv[1:]] or [10_000, 100_000]
    few = measure(10)
    for count in counts:
        many = measure(count)
        show(f"W6 {count:,} waiting: worker's memory", many["memory"], "MB")
        show(f"W6 {count:,} waiting: signal and finish", many["signal"] * 1000, "ms")
        show(f"W6 {count:,} waiting: that to 10 waiting", many["signal"] / few["signal"], "x")
        for name in ("resume", "status", "list", "waiting"):
            show(f"{count:,} waiting: {name}", many[name] * 1000, "ms")
            show(f"{count:,} waiting: {name} to 10 waiting", many[name] / few[name], "x")
        show(f"{count:,} waiting: on disk, each", many["bytes"], "bytes")


if __name__ == "__main__":
    main()
