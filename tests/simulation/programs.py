"""Generated workflows: small programs as data, one workflow that interprets them, and what they do.

A program is a list of statements, each a list of its kind and its arguments; durations are in
milliseconds. `changed` is the same workflow after a bad deploy: it asks for one activity more.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any, TypeAlias

from belugawf import (
    ActivityError,
    RetryPolicy,
    SignalTimeoutError,
    WorkflowContext,
    activity,
    workflow,
)
from belugawf.authoring.loader import Catalog

Statement: TypeAlias = list[Any]
Program: TypeAlias = list[Statement]

SIGNALS = ("go", "stop", "more")
LEAVES = ("act", "act", "limited", "once", "sleep", "wait", "wait", "drain", "poll")
BRANCHES = ("gather", "race", "timeout", "shielded", "cleanup", "retired")

# What each run's code has taken so far, in this replay of it: (name, payload) by run id.
taken: dict[str, list[tuple[str, Any]]] = defaultdict(list)
# Who watches activities: an `Observer`, while there is a world.
site: Any = None


def grow(rng: random.Random, depth: int = 2) -> Program:
    """A program of some statements, `depth` branches deep at most."""
    return [_statement(rng, depth) for _ in range(rng.randint(1, 2 + depth))]


def _statement(rng: random.Random, depth: int) -> Statement:
    kind = rng.choice(LEAVES if depth == 0 or rng.random() < 0.65 else BRANCHES)
    length = rng.choice((0, 5, 50, 300, 1500))
    match kind:
        case "act":
            return [kind, rng.choice((0, 0, 1, 2, 9)), length]
        case "wait":
            return [kind, rng.choice(SIGNALS), rng.choice((None, None, length + 20))]
        case "drain":
            return [kind, rng.choice(SIGNALS), rng.randint(1, 3)]
        case "gather" | "race":
            return [kind, *(grow(rng, depth - 1) for _ in range(rng.randint(2, 3)))]
        case "timeout" | "retired":
            return [kind, length + 10, grow(rng, depth - 1)]
        case "shielded":
            return [kind, grow(rng, depth - 1)]
        case "cleanup":
            return [kind, grow(rng, depth - 1), grow(rng, 0)]
        case _:
            return [kind, length]


# -- activities ----------------------------------------------------------------------------------

_PATIENT = RetryPolicy(max_attempts=3, initial_delay=0.1)


@activity(retry=_PATIENT)
async def act(failures: int, length: int) -> int:
    """Fails as often as it is told, then returns the number of its execution."""
    with site.execution(activity.info()) as number:
        if length > 100:
            activity.heartbeat(number)
        await asyncio.sleep(length / 1000)
        if activity.info().attempt <= failures:
            raise ConnectionError(f"attempt {activity.info().attempt}")
        return int(number)


@activity(retry=RetryPolicy(max_attempts=2, initial_delay=0.05), timeout=0.2, total_timeout=1)
async def limited(length: int) -> int:
    """May take too long."""
    with site.execution(activity.info()) as number:
        await asyncio.sleep(length / 1000)
        return int(number)


@activity(at_most_once=True)
async def once(length: int) -> int:
    """Must not be begun twice."""
    with site.execution(activity.info(), at_most_once=True) as number:
        await asyncio.sleep(length / 1000)
        return int(number)


# -- workflows -----------------------------------------------------------------------------------


@workflow(name="program")
async def program(ctx: WorkflowContext, statements: Any) -> int:
    """Executes a program; returns how many signals it has taken."""
    interpreter = _Interpreter(ctx)
    await interpreter.run(statements)
    return len(interpreter.taken)


@workflow(name="program")
async def changed(ctx: WorkflowContext, statements: Any) -> int:
    """The same, with something new after the first statement."""
    interpreter = _Interpreter(ctx)
    await interpreter.run(statements[:1])
    await ctx.execute_activity(act, 0, 1)
    await interpreter.run(statements[1:])
    return len(interpreter.taken)


CATALOGS = {
    "sound": Catalog.from_functions([program]),
    "changed": Catalog.from_functions([changed]),
    "missing": Catalog.from_functions([]),
}


class _Interpreter:
    def __init__(self, ctx: WorkflowContext) -> None:
        self._ctx = ctx
        self.taken = taken[ctx.info.run_id] = []

    async def run(self, statements: Program) -> None:
        for kind, *arguments in statements:
            await getattr(self, f"_{kind}")(*arguments)

    async def _act(self, failures: int, length: int) -> None:
        await self._activity(act, failures, length)

    async def _limited(self, length: int) -> None:
        await self._activity(limited, length)

    async def _once(self, length: int) -> None:
        await self._activity(once, length)

    async def _activity(self, function: Any, *arguments: Any) -> None:
        try:
            await self._ctx.execute_activity(function, *arguments)
        except ActivityError as error:
            self._ctx.set_progress(f"{error.activity} failed")

    async def _sleep(self, length: int) -> None:
        await asyncio.sleep(length / 1000)

    async def _wait(self, name: str, timeout: int | None) -> None:
        try:
            signal = await self._ctx.wait_for_signal(
                name, timeout=None if timeout is None else timeout / 1000
            )
        except SignalTimeoutError:
            return
        self.taken.append((signal.name, signal.payload))

    async def _drain(self, name: str, count: int) -> None:
        for _ in range(count):
            await self._wait(name, None)
            await self._activity(act, 0, 1)

    async def _poll(self, length: int) -> None:
        before = len(self.taken)
        await self._ctx.sleep(length / 1000)
        self._ctx.set_progress(len(self.taken) - before)

    async def _gather(self, *programs: Program) -> None:
        await asyncio.gather(*map(self.run, programs))

    async def _race(self, *programs: Program) -> None:
        tasks = [asyncio.create_task(self.run(statements)) for statements in programs]
        _, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _timeout(self, length: int, statements: Program) -> None:
        try:
            async with asyncio.timeout(length / 1000):
                await self.run(statements)
        except TimeoutError:
            pass

    async def _retired(self, length: int, statements: Program) -> None:
        """Begin something, and give it up after a while."""
        task = asyncio.create_task(self.run(statements))
        await asyncio.sleep(length / 1000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _shielded(self, statements: Program) -> None:
        await self._ctx.shielded(self.run(statements))

    async def _cleanup(self, statements: Program, after: Program) -> None:
        try:
            await self.run(statements)
        except asyncio.CancelledError:
            await self.run(after)
            raise
