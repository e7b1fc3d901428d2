"""W4: a fresh process takes up a run with 2,000 recorded activities; and how replay grows.

`python -m benchmarks.replay`
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

from belugawf import new_executor
from benchmarks.measuring import command, environment, folder, show, timed, write_module

MODULE = """
import time
from pathlib import Path
from belugawf import WorkflowContext, activity, workflow

@activity
async def step(number: int) -> int:
    return number

@activity
async def first_new() -> None:
    Path("first_new").write_text(str(time.time()))

@workflow
async def long(ctx: WorkflowContext, count: int) -> None:
    for number in range(count):
        await ctx.execute_activity(step, number)
    await ctx.wait_for_signal("go")
    await ctx.execute_activity(first_new)
"""
# Takes up a run in a process of its own, so that its memory is that of one replay.
TAKE_UP = """
import resource, time
from pathlib import Path
from belugawf.authoring.loader import Catalog
from belugawf.host.clock import SystemClock
from belugawf.local.file.database import Database
from belugawf.local.drive.cache import pieces
from belugawf.local.store.store import Store
from belugawf.model.history import OpenWork
from belugawf.replay.replayer import Replayer

definition = Catalog.from_folder(Path("workflows")).workflow("long")
store = Store(Database(Path("state.db")), SystemClock())
(key,) = (row.key for row in store.find("long"))
began, replayed, replayer = time.perf_counter(), 0.0, None
length = store.by_key(key).history_length
work = OpenWork()
for piece in pieces(store, key, length):
    for event in piece:
        work.fold(event)
    replayer = replayer or Replayer(definition, piece[0])
    from_here = time.perf_counter()
    replayer.replay(piece)
    replayed += time.perf_counter() - from_here
print(length, replayed, time.perf_counter() - began,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


async def prepare(root: Path, activities: int) -> None:
    """A run that waits after so many recorded activities."""
    executor = new_executor(
        "default", db=root / "state.db", workflows=root / "workflows", durability="normal"
    )
    async with executor:
        await executor.execute("long", id="long", input=activities)
        await executor.wait("long", until="signal:go")


def take_up(root: Path) -> float:
    """Seconds from the start of `belugawf resume` to the first new activity."""
    database = ("--db", "state.db")
    subprocess.run(
        command(*database, "signal", "go", "long", "--no-resume"),
        cwd=root,
        env=environment(),
        check=True,
        capture_output=True,
    )
    began = time.time()
    subprocess.run(
        command(*database, "resume"), cwd=root, env=environment(), check=True, capture_output=True
    )
    return float((root / "first_new").read_text()) - began


def main() -> None:
    idle, first = [], []
    for _ in range(5):
        with folder() as root:
            write_module(root, "long", MODULE)
            asyncio.run(prepare(root, 2_000))
            idle.append(statistics.median(timed(command("--db", "state.db", "resume"), root, 3)))
            first.append(take_up(root))
    show("empty `belugawf resume`", statistics.median(idle) * 1000, "ms")
    show("W4 start to first new activity, 2,000 recorded", statistics.median(first) * 1000, "ms")
    show("W4 to empty resume", statistics.median(first) / statistics.median(idle), "x")
    for activities in (100, 5_000, 50_000):
        with folder() as root:
            write_module(root, "long", MODULE)
            asyncio.run(prepare(root, activities))
            done = subprocess.run(
                [sys.executable, "-c", TAKE_UP],
                cwd=root,
                env=environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
                check=True,
                capture_output=True,
                text=True,
            )
        events, seconds, all_seconds, memory = done.stdout.split()
        show(f"replay of {int(events):,} events", float(seconds) * 1000, "ms")
        show(f"replay of {int(events):,} events, each", float(seconds) / int(events) * 1e6, "us")
        show(f"replay of {int(events):,} events, with reading", float(all_seconds) * 1000, "ms")
        show(f"replay of {int(events):,} events, memory", float(memory), "MB")


if __name__ == "__main__":
    main()
