"""A million waiting runs, a run of a million events, a million ended runs pruned.

`python -m benchmarks.scale [--count N] [--fewer N] [--only PART ...]`

* `waiting`: every command with 1,000,000 waiting runs, beside 10,000, and a worker's memory.
* `long`: what an open run of 1,000,000 events takes, in time and in memory, beside one of ten.
* `ended`: 1,000,000 ended runs pruned, while a worker in another process drives runs of its own.

Real runs are made by the engine, and their rows multiplied.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from belugawf import new_executor
from benchmarks import pruning, waiting
from benchmarks.growing import multiply_run, multiply_step
from benchmarks.measuring import command, environment, folder, show, write_module
from benchmarks.waiting import DATABASE, SIGNALLED

# Runs that are made as users make them; the last one is multiplied.
REAL = 50
EVENTS_OF_SHORT = 10
LOOKS = 5
LONG = """
from belugawf import WorkflowContext, activity, workflow

LEFT = list(range(3))

@activity
async def more() -> bool:
    return bool(LEFT and [LEFT.pop()])

@workflow
async def long(ctx: WorkflowContext) -> None:
    while await ctx.execute_activity(more):
        pass
    await ctx.wait_for_signal("go")
"""
# Runs a command and says how long it took and how large it was. A process of its own, which is
# small: the kernel counts what its parent was into a new process's memory.
CHILD = """
import os, subprocess, sys, time
began = time.perf_counter()
null = subprocess.DEVNULL
child = subprocess.Popen(sys.argv[1:], stdin=null, stdout=null, stderr=null)
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - began, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
"""
# A worker beside a pruning: drives one run after the other, until its input ends.
BESIDE = """
import asyncio, json, sys, threading, time
from belugawf import new_executor
from benchmarks.pruning import short

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()

async def main():
    took = []
    async with new_executor("default", db="state.db", workflows=[short]) as executor:
        while not ended.is_set():
            began = time.perf_counter()
            await (await executor.execute(short, input=1)).result()
            took.append(time.perf_counter() - began)
            if len(took) == 10:
                print("ready", flush=True)
    print(json.dumps(took[10:]))

asyncio.run(main())
"""


def many_waiting(root: Path, count: int) -> float:
    """So many waiting runs, and those that will be signalled; seconds that it took."""
    write_module(root, "waiting", waiting.MODULE)
    began = time.perf_counter()
    asyncio.run(waiting.prepare(root, REAL))
    multiply_run(root / "state.db", f"run-{REAL - 1:06}", REAL, count + SIGNALLED - 1)
    return time.perf_counter() - began


def part_waiting(count: int, fewer: int) -> None:
    with folder() as few, folder() as many:
        many_waiting(few, fewer)
        show(f"{count:,} waiting: to multiply them", many_waiting(many, count), "s")
        waiting.compare(few, fewer, many, count)


async def one_long(root: Path) -> None:
    executor = new_executor("default", db=root / "state.db", workflows=root / "workflows")
    async with executor:
        await executor.execute("long", id="long")
        await executor.wait("long", until="signal:go")


def long_run(root: Path, events: int) -> None:
    """An open run of so many events, which waits."""
    write_module(root, "long", LONG)
    asyncio.run(one_long(root))
    multiply_step(root / "state.db", "long", events)


def looked(root: Path, *args: str, code: int = 0) -> tuple[float, float]:
    """Seconds and MB of a command."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *command(*DATABASE, *args)],
        cwd=root, env=environment(), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    seconds, memory, exit_code = done.stdout.split()
    assert int(exit_code) == code, (args, done.stdout)
    return float(seconds), float(memory)


def part_long(count: int) -> None:
    """Each command is seen at its first time too: a later one may find what an earlier one kept."""
    with folder() as few, folder() as many:
        long_run(few, EVENTS_OF_SHORT)
        long_run(many, count)
        first = looked(many, "list")
        show(f"run of {count:,} events: first list", first[0] * 1000, "ms")
        show(f"run of {count:,} events: first list, memory", first[1], "MB")
        taken_up = looked(many, "signal", "other", "long")
        show(f"run of {count:,} events: taken up by a signal", taken_up[0], "s")
        show(f"run of {count:,} events: taken up by a signal, memory", taken_up[1], "MB")
        for name, (args, code) in {
            "list": (["list"], 0),
            "status": (["status"], 0),
            "status RUN": (["status", "long"], 0),
            "wait --max-wait 0.2s": (["wait", "long", "--for", "done", "--max-wait", "0.2s"], 124),
            "signal --no-resume": (["signal", "other", "long", "--no-resume"], 0),
        }.items():
            looks = [[looked(root, *args, code=code) for root in (few, many)] for _ in range(LOOKS)]
            base, of_many = (
                [statistics.median(values) for values in zip(*pair, strict=True)]
                for pair in zip(*looks, strict=True)
            )
            title = f"run of {count:,} events: {name}"
            show(title, of_many[0] * 1000, "ms")
            show(f"{title}, to {EVENTS_OF_SHORT} events", of_many[0] / base[0], "x")
            show(f"{title}, memory", of_many[1], "MB")
            show(f"{title}, memory to {EVENTS_OF_SHORT} events", of_many[1] / base[1], "x")


def pruned(root: Path, count: int) -> float:
    """Ended runs a second, with a worker beside that says how long its own runs took."""
    db = root / "state.db"
    asyncio.run(pruning.fill(db, REAL))
    multiply_run(db, f"run-{REAL - 1:06}", REAL, count - 1)
    made = time.time()
    show(f"{count:,} ended: on disk, each", pruning.size(db) / count, "bytes")
    beside = subprocess.Popen(
        [sys.executable, "-c", BESIDE],
        cwd=root, env=environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert beside.stdin is not None and beside.stdout is not None
    assert beside.stdout.readline() == "ready\n"
    runs, elapsed = asyncio.run(pruning.prune(db, older_than=time.time() - made))
    assert runs == count, runs
    said, _ = beside.communicate("")
    took = sorted(json.loads(said))
    rate = runs / elapsed
    show(f"{count:,} ended: pruned", rate, "runs/s")
    show(f"{count:,} ended: a run of a worker beside, median", took[len(took) // 2] * 1000, "ms")
    show(f"{count:,} ended: a run of a worker beside, longest", took[-1] * 1000, "ms")
    return rate


def part_ended(count: int, fewer: int) -> None:
    with folder() as few, folder() as many:
        base = pruned(few, fewer)
        show(f"{count:,} ended: pruned, to {fewer:,} ended", pruned(many, count) / base, "x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--fewer", type=int, default=10_000)
    parts = ["waiting", "long", "ended"]
    parser.add_argument("--only", nargs="*", default=parts, choices=parts)
    options = parser.parse_args()
    if "waiting" in options.only:
        part_waiting(options.count, options.fewer)
    if "long" in options.only:
        part_long(options.count)
    if "ended" in options.only:
        part_ended(options.count, options.fewer)


if __name__ == "__main__":
    main()
