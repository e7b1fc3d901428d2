"""W6: many runs that wait for a signal: a worker's memory, and one of them signalled and finished.

`python -m benchmarks.waiting [COUNT ...]` (default 10,000 and 100,000, which take some minutes)
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
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
# What the figures are compared with.
FEW = 10
# The first of them, which wait no longer afterwards.
SIGNALLED = 10


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


def commands(count: int) -> dict[str, list[str]]:
    """What is asked with so many waiting runs; only the first reads them all."""
    newest = f"run-{count + SIGNALLED - 1:06}"
    return {
        "waiting, all of them": ["waiting"],
        "waiting -n 20": ["waiting", "-n", "20"],
        "resume, nothing due": ["resume"],
        "status": ["status"],
        "status RUN": ["status", newest],
        "history RUN": ["history", newest],
        "wait RUN, waits": ["wait", newest, "--for", "waiting"],
        "list": ["list"],
        "list --workflow, --status": ["list", "--workflow", "waiting", "--status", "failed"],
        "list --since": ["list", "--since", "1s"],
        "signal of no run": ["signal", "none"],
        "signal RUN, --no-resume": ["signal", "other", newest, "--no-resume"],
        "signal, several wait": ["signal", "go"],
        "prune, nothing old": ["prune", "--older-than", "30d"],
    }


def worker_memory(root: Path) -> float:
    """What a worker has that has looked at the database, and found nothing to do."""
    worker = subprocess.Popen(
        command(*DATABASE, "worker"), cwd=root, env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        with sqlite3.connect(root / "state.db") as connection:
            while not connection.execute("SELECT 1 FROM owners WHERE role = 'worker'").fetchone():
                time.sleep(0.05)
        time.sleep(3)
        return resident_mb(worker.pid)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait()


def compare(few: Path, fewer: int, many: Path, count: int) -> None:
    """The figures of many waiting runs, beside those of few, taken in turn."""
    memory = worker_memory(many)
    show(f"W6 {count:,} waiting: worker's memory", memory, "MB")
    show(f"W6 {count:,} waiting: more than with {fewer:,}", memory - worker_memory(few), "MB")
    pairs = [(signal_one(few, number), signal_one(many, number)) for number in range(SIGNALLED)]
    base, taken = (statistics.median(times) for times in zip(*pairs[1:], strict=True))
    show(f"W6 {count:,} waiting: signal and finish", taken * 1000, "ms")
    show(f"W6 {count:,} waiting: that to {fewer:,} waiting", taken / base, "x")
    few_commands = commands(fewer)
    for name, args in commands(count).items():
        rounds = 1 if name.endswith("all of them") else 5
        base_times, times = [], []
        for _ in range(rounds):
            base_times += timed(command(*DATABASE, *few_commands[name]), few, 1)
            times += timed(command(*DATABASE, *args), many, 1)
        show(f"{count:,} waiting: {name}", statistics.median(times) * 1000, "ms")
        ratio = statistics.median(times) / statistics.median(base_times)
        show(f"{count:,} waiting: {name}, to {fewer:,} waiting", ratio, "x")
    files = sum(path.stat().st_size for path in many.glob("state.db*") if path.is_file())
    show(f"{count:,} waiting: on disk, each", files / count, "bytes")


def main() -> None:
    counts = [int(text) for text in sys.argv[1:]] or [10_000, 100_000]
    for count in counts:
        with folder() as few, folder() as many:
            for root, runs in ((few, FEW), (many, count)):
                write_module(root, "waiting", MODULE)
                began = time.perf_counter()
                asyncio.run(prepare(root, runs + SIGNALLED))
            show(f"{count:,} waiting: to make them", time.perf_counter() - began, "s")
            compare(few, FEW, many, count)


if __name__ == "__main__":
    main()
