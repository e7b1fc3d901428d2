"""This checkout. A step's end and the start of the next are one commit, made before either counts;
what ends or starts at the same time shares a commit. WAL, `synchronous = FULL` (its default)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from belugawf import new_executor
from benchmarks.peers.child import Workload, main
from benchmarks.throughput import WORKFLOWS, parallel, sequence


async def measured(root: Path, workload: Workload) -> tuple[float, str]:
    function = parallel if workload.parallel else sequence
    async with new_executor("default", db=root / "state.db", workflows=WORKFLOWS) as executor:
        await (await executor.execute(function, input=5)).result()
        began = time.perf_counter()
        handles = await asyncio.gather(
            *(executor.execute(function, input=workload.each) for _ in range(workload.runs))
        )
        for handle in handles:
            await handle.result()
        return time.perf_counter() - began, "WAL, synchronous FULL (default)"


if __name__ == "__main__":
    main(lambda root, workload: asyncio.run(measured(root, workload)), ["belugawf"])
