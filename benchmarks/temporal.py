"""W1 to W3 on a Temporal development server, for orientation: its promises and disk are others.

`python -m tests.devserver run --port 7233` in one terminal, then
`python -m benchmarks.temporal [localhost:7233]` in another.
"""

from __future__ import annotations

import asyncio
import sys
import uuid

from belugawf import new_executor
from benchmarks.measuring import show
from benchmarks.throughput import WORKFLOWS, parallel as fan_out, rate, sequence


async def measure(host: str) -> None:
    """A smaller number of each, because a server's step takes a hundred times as long."""
    queue = f"benchmark-{uuid.uuid4()}"
    executor = new_executor("temporal", host=host, task_queue=queue, workflows=WORKFLOWS)
    async with executor:
        one = await rate(executor, sequence, runs=1, each=100)
        show("W1 1 run x 100 activities in sequence", one, "activities/s")
        many = await rate(executor, sequence, runs=100, each=5)
        show("W2 100 runs x 5 activities at once", many, "activities/s")
        parallel = await rate(executor, fan_out, runs=1, each=200)
        show("W3 1 run x 200 activities in parallel", parallel, "activities/s")


def main() -> None:
    asyncio.run(measure(sys.argv[1] if len(sys.argv) > 1 else "localhost:7233"))


if __name__ == "__main__":
    main()
