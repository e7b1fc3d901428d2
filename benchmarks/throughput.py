"""W1 to W3: activities a second, of one run in sequence, of many runs, and of one run in parallel.

`python -m benchmarks.throughput [--durability normal] [--rounds N]`
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable

from belugawf import WorkflowContext, activity, new_executor, workflow
from belugawf.executor import DurableExecutor
from benchmarks.measuring import folder, raw_commits, show


@activity
async def step(number: int) -> int:
    return number


@activity
def nap(number: int) -> int:
    time.sleep(0.01)
    return number


@workflow
async def sequence(ctx: WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.execute_activity(step, number)
    return count


@workflow
async def parallel(ctx: WorkflowContext, count: int) -> int:
    await asyncio.gather(*(ctx.execute_activity(step, number) for number in range(count)))
    return count


@workflow
async def naps(ctx: WorkflowContext, count: int) -> int:
    await asyncio.gather(*(ctx.execute_activity(nap, number) for number in range(count)))
    return count


WORKFLOWS = [sequence, parallel, naps]


async def one_in_sequence(executor: DurableExecutor) -> float:
    return await rate(executor, sequence, runs=1, each=1_000)


async def many_runs(executor: DurableExecutor) -> float:
    return await rate(executor, sequence, runs=500, each=5)


async def one_in_parallel(executor: DurableExecutor) -> float:
    return await rate(executor, parallel, runs=1, each=500)


async def threads(executor: DurableExecutor) -> float:
    return await rate(executor, naps, runs=1, each=640)


async def rate(executor: DurableExecutor, function: object, *, runs: int, each: int) -> float:
    """Activities a second, from the first start to the last end, all of it on disk."""
    began = time.perf_counter()
    handles = await asyncio.gather(
        *(
            executor.execute(function, id=f"run-{uuid.uuid4()}", input=each)  # type: ignore[arg-type]
            for _ in range(runs)
        )
    )
    for handle in handles:
        await handle.result()
    return runs * each / (time.perf_counter() - began)


WORKLOADS: dict[str, Callable[[DurableExecutor], Awaitable[float]]] = {
    "W1 1 run x 1,000 activities in sequence": one_in_sequence,
    "W2 500 runs x 5 activities at once": many_runs,
    "W3 1 run x 500 activities in parallel": one_in_parallel,
}


async def measure(workload: Callable[[DurableExecutor], Awaitable[float]], **options: str) -> float:
    """The rate on a new database."""
    with folder() as path:
        executor = new_executor("default", db=path / "state.db", workflows=WORKFLOWS, **options)
        async with executor:
            return await workload(executor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--durability", choices=["full", "normal"], default="full")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {name: [] for name in WORKLOADS}
    ratios: dict[str, list[float]] = {name: [] for name in WORKLOADS}
    raws = []
    for _ in range(options.rounds):
        for name, workload in WORKLOADS.items():
            before = raw_commits(durability=options.durability)
            rate = asyncio.run(measure(workload, durability=options.durability))
            raw = (before + raw_commits(durability=options.durability)) / 2
            raws.append(raw)
            rates[name].append(rate)
            ratios[name].append(rate / raw)
    show("raw one-row commits", statistics.median(raws), "commits/s")
    for name in WORKLOADS:
        show(name, statistics.median(rates[name]), "activities/s")
        low, high = min(ratios[name]), max(ratios[name])
        show(f"{name[:2]} to raw, median", statistics.median(ratios[name]), "x raw")
        print(f"{name[:2]} to raw, lowest to highest: {low:.2f} to {high:.2f} x raw")
    naps = asyncio.run(measure(threads, durability=options.durability))
    show("threads: activities that sleep 10 ms, 64 at once", naps, "activities/s")
    show("threads: to the most that 64 threads could do", naps / 6_400, "x")


if __name__ == "__main__":
    main()
