"""Generated workflows: small programs as data, one workflow that interprets them, and a driver.

A program is a nested list `[kind, ...]`. `grow` makes one from whatever gives it integers:
hypothesis, or `random.Random` with a seed. `drive` feeds a run facts in an order that is chosen
the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

from belugawf import ActivityError, SignalTimeoutError, WorkflowContext, workflow
from tests.replay.driving import Run, briefs

Program: TypeAlias = list[Any]
# An integer from 0 to below the given one.
Pick: TypeAlias = Callable[[int], int]

SIGNALS = ("a", "b")
LEAVES = ("activity", "sleep", "wait", "wait for", "started", "until", "chance")
BRANCHES = (
    *("seq", "gather", "settle", "group", "timeout", "try", "catch", "shielded", "cancelled"),
    *("as completed", "first", "queue", "lock"),
)


def grow_all(pick: Pick, depth: int = 3) -> Program:
    """A program of three steps, each `depth` branches deep at most."""
    return ["seq", *(grow(pick, depth) for _ in range(3))]


def grow(pick: Pick, depth: int) -> Program:
    """One step, `depth` branches deep at most."""
    kinds = LEAVES if depth == 0 else (*BRANCHES, *BRANCHES, *LEAVES)
    kind = kinds[pick(len(kinds))]
    if kind in ("activity", "started"):
        return [kind, f"work-{pick(4)}"]
    if kind in ("sleep", "until", "chance"):
        return [kind, 1 + pick(9)]
    if kind == "wait":
        return [kind, SIGNALS[pick(2)]]
    if kind == "wait for":
        return [kind, SIGNALS[pick(2)], pick(9)]
    if kind == "timeout":
        return [kind, pick(9), grow(pick, depth - 1)]
    if kind == "shielded":
        return [kind, grow(pick, depth - 1)]
    if kind in ("try", "catch", "cancelled"):
        return [kind, grow(pick, depth - 1), grow(pick, depth - 1)]
    return [kind, *(grow(pick, depth - 1) for _ in range(1 + pick(3)))]


@workflow
async def interpreter(ctx: WorkflowContext, program: Any) -> int:
    """Executes a program; the result is how many of its steps came to their end."""
    return await _Interpreter(ctx).run(program)


class _Interpreter:
    def __init__(self, ctx: WorkflowContext) -> None:
        self._ctx = ctx
        self._steps = 0

    async def run(self, program: Program) -> int:
        kind, *rest = program
        await getattr(self, "_" + kind.replace(" ", "_"))(*rest)
        self._steps += 1
        return self._steps

    # -- leaves ----------------------------------------------------------------------------------

    async def _activity(self, name: str) -> None:
        await self._ctx.execute_activity(name, self._steps)

    async def _started(self, name: str) -> None:
        task = self._ctx.start_activity(name)
        await asyncio.sleep(1)
        await task

    async def _sleep(self, seconds: int) -> None:
        await asyncio.sleep(seconds)

    async def _chance(self, seconds: int) -> None:
        await self._ctx.sleep(self._ctx.random.randrange(1, 1 + seconds))
        await self._ctx.execute_activity(str(self._ctx.uuid4()), self._ctx.now().isoformat())

    async def _wait(self, name: str) -> None:
        await self._ctx.wait_for_signal(name)

    async def _wait_for(self, name: str, seconds: int) -> None:
        with contextlib.suppress(SignalTimeoutError):
            await self._ctx.wait_for_signal(name, timeout=timedelta(seconds=seconds))

    async def _until(self, steps: int) -> None:
        with contextlib.suppress(TimeoutError):
            await self._ctx.wait_until(lambda: self._steps >= steps, timeout=5)

    # -- branches --------------------------------------------------------------------------------

    async def _seq(self, *programs: Program) -> None:
        for program in programs:
            await self.run(program)

    async def _gather(self, *programs: Program) -> None:
        await asyncio.gather(*(self.run(program) for program in programs))

    async def _settle(self, *programs: Program) -> None:
        await asyncio.gather(*(self.run(p) for p in programs), return_exceptions=True)

    async def _group(self, *programs: Program) -> None:
        async with asyncio.TaskGroup() as group:
            for program in programs:
                group.create_task(self.run(program))

    async def _timeout(self, seconds: int, program: Program) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.run(program)

    async def _try(self, program: Program, cleanup: Program) -> None:
        try:
            await self.run(program)
        finally:
            await self.run(cleanup)

    async def _catch(self, program: Program, handler: Program) -> None:
        try:
            await self.run(program)
        except* ActivityError:
            self._steps += 100
        else:
            return
        await self.run(handler)

    async def _shielded(self, program: Program) -> None:
        await self._ctx.shielded(self.run(program))

    async def _cancelled(self, program: Program, meanwhile: Program) -> None:
        task = asyncio.create_task(self.run(program))
        try:
            await self.run(meanwhile)
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _as_completed(self, *programs: Program) -> None:
        for item in asyncio.as_completed([self.run(program) for program in programs]):
            await item

    async def _first(self, *programs: Program) -> None:
        tasks = [asyncio.create_task(self.run(program)) for program in programs]
        _, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _queue(self, *programs: Program) -> None:
        queue: asyncio.Queue[Program] = asyncio.Queue(1)

        async def consume() -> None:
            while True:
                program = await queue.get()
                try:
                    await self.run(program)
                finally:
                    queue.task_done()

        consumers = [asyncio.create_task(consume()) for _ in range(2)]
        try:
            async with asyncio.timeout(20):
                for program in programs:
                    await queue.put(program)
                await queue.join()
        finally:
            for consumer in consumers:
                consumer.cancel()
            await asyncio.wait(consumers)

    async def _lock(self, *programs: Program) -> None:
        lock = asyncio.Lock()

        async def alone(program: Program) -> None:
            async with lock:
                await self.run(program)

        await asyncio.gather(*(alone(program) for program in programs))


def drive(run: Run, pick: Pick, facts: int) -> None:
    """Feed a run so many facts, or until it ends: timers in the order in which they are due."""
    for _ in range(facts):
        if run.closed:
            return
        work = run.work
        happenings: list[Callable[[], object]] = []
        for seq in work.activities:
            happenings += [lambda seq=seq: run.complete(seq, seq)] * 9  # type: ignore[misc]
            happenings.append(lambda seq=seq: run.fail(seq))  # type: ignore[misc]
        if work.timers:
            happenings += [run.fire] * 9
        happenings += [lambda name=name: run.signal(name) for name in SIGNALS * 3]  # type: ignore[misc]
        happenings.append(run.cancel)
        happenings[pick(len(happenings))]()


def digest(seeds: range) -> str:
    """What the programs of these seeds ask for, all of it, as one hash."""
    total = hashlib.sha256()
    for seed in seeds:
        chance = random.Random(seed)
        run = Run(interpreter, grow_all(chance.randrange))
        drive(run, chance.randrange, 40)
        total.update(repr(briefs(run.commands)).encode())
        total.update(repr([(type(event), event) for event in run.history]).encode())
        run.replayer.evict()
    return total.hexdigest()
