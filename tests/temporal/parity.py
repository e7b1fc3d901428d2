"""Generated workflows for both providers: small programs as data, and one that interprets them.

Nothing in a program depends on who is faster, so its result and the order of activities in each of
its branches are the same wherever it runs. A branch is named by its path, "0.2.1".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from belugawf import (
    ActivityError,
    ApplicationError,
    RetryPolicy,
    SignalTimeoutError,
    WorkflowContext,
    activity,
    workflow,
)

Program: TypeAlias = list[Any]
# An integer from 0 to below the given one.
Pick: TypeAlias = Callable[[int], int]

LEAVES = ("work", "thread", "flaky", "hopeless", "sleep", "silence", "chance", "until")
BRANCHES = (
    "seq",
    "gather",
    "group",
    "settle",
    "catch",
    "timeout",
    "cancelled",
    "queue",
    "shielded",
)
_PATIENT = RetryPolicy(max_attempts=3, initial_delay=0.01, backoff_coefficient=1.5)


def grow(pick: Pick, depth: int) -> Program:
    """One step, `depth` branches deep at most."""
    kinds = LEAVES if depth == 0 else (*BRANCHES, *LEAVES)
    kind = kinds[pick(len(kinds))]
    if kind in LEAVES:
        return [kind, pick(3)]
    return [kind, *(grow(pick, depth - 1) for _ in range(1 + pick(3)))]


@activity
async def work(path: str, number: int) -> int:
    return number * 2


@activity
def thread(path: str, number: int) -> dict[str, int]:
    return {"number": number, "attempt": activity.info().attempt}


@activity
async def flaky(path: str, failures: int) -> int:
    attempt = activity.info().attempt
    if attempt <= failures:
        raise ConnectionError(f"attempt {attempt}")
    return attempt


@activity
async def hopeless(path: str, kind: int) -> None:
    if kind == 0:
        raise ApplicationError("for good", type="Permanent", non_retryable=True)
    if kind == 1:
        raise KeyError("missing")
    await asyncio.sleep(30)


@workflow
async def parity(ctx: WorkflowContext, program: Any) -> list[Any]:
    """Executes a program; the result is what each branch has come to."""
    trace: dict[str, list[Any]] = {}
    await _Interpreter(ctx, trace).run(program, "0")
    return sorted(trace.items())


class _Interpreter:
    def __init__(self, ctx: WorkflowContext, trace: dict[str, list[Any]]) -> None:
        self._ctx = ctx
        self._trace = trace

    async def run(self, program: Program, path: str) -> None:
        kind, *rest = program
        said = self._trace.setdefault(path, [])
        said.append(f"{kind} begins")
        try:
            said.append(await getattr(self, f"_{kind}")(path, *rest))
        except BaseException as error:
            said.append(type(error).__name__)
            raise

    # -- leaves ----------------------------------------------------------------------------------

    async def _work(self, path: str, number: int) -> Any:
        return await self._ctx.execute_activity(work, path, number)

    async def _thread(self, path: str, number: int) -> Any:
        return await self._ctx.execute_activity(thread, path, number)

    async def _flaky(self, path: str, failures: int) -> Any:
        return await self._ctx.execute_activity(flaky, path, failures, retry=_PATIENT)

    async def _hopeless(self, path: str, kind: int) -> Any:
        try:
            await self._ctx.execute_activity(hopeless, path, kind, timeout=0.2)
        except ActivityError as error:
            return [type(error).__name__, error.attempts, error.cause.type, error.cause.message]
        return "unexpected"

    async def _sleep(self, path: str, length: int) -> Any:
        await asyncio.sleep(length / 100)

    async def _silence(self, path: str, length: int) -> Any:
        try:
            await self._ctx.wait_for_signal("never", timeout=0.01 + length / 100)
        except SignalTimeoutError as error:
            return error.signal
        return "unexpected"

    async def _chance(self, path: str, number: int) -> Any:
        before = self._ctx.now()
        await self._ctx.sleep(0.01)
        values = {self._ctx.random.random(), self._ctx.random.random()}
        return [len(values), self._ctx.uuid4().version, before < self._ctx.now()]

    async def _unwanted(self, path: str, number: int) -> Any:
        """No leaf of generated programs: its activity is cancelled by the turn that starts it."""
        unwanted = self._ctx.start_activity(hopeless, path, 2)
        await asyncio.sleep(0)
        unwanted.cancel()
        [error] = await asyncio.gather(unwanted, return_exceptions=True)
        return type(error).__name__

    async def _until(self, path: str, number: int) -> Any:
        values: list[int] = []
        filling = asyncio.create_task(self._fill(values, number))
        await self._ctx.wait_until(lambda: len(values) > number, timeout=30)
        await filling
        return values

    async def _fill(self, values: list[int], number: int) -> None:
        for value in range(number + 1):
            await asyncio.sleep(0.001)
            values.append(value)

    # -- branches --------------------------------------------------------------------------------

    async def _seq(self, path: str, *programs: Program) -> Any:
        for index, program in enumerate(programs):
            await self.run(program, f"{path}.{index}")

    async def _gather(self, path: str, *programs: Program) -> Any:
        await asyncio.gather(*self._all(path, programs))

    async def _settle(self, path: str, *programs: Program) -> Any:
        await asyncio.gather(*self._all(path, programs), return_exceptions=True)

    async def _group(self, path: str, *programs: Program) -> Any:
        async with asyncio.TaskGroup() as group:
            for branch in self._all(path, programs):
                group.create_task(branch)

    def _all(self, path: str, programs: tuple[Program, ...]) -> list[Any]:
        return [self.run(program, f"{path}.{i}") for i, program in enumerate(programs)]

    async def _catch(self, path: str, *programs: Program) -> Any:
        try:
            await self._seq(path, *programs)
            raise LookupError("raised by the workflow itself")
        except LookupError as error:
            return str(error)

    async def _timeout(self, path: str, *programs: Program) -> Any:
        await self._seq(path, *programs)
        try:
            async with asyncio.timeout(0.02):
                await self._ctx.wait_for_signal("never")
        except TimeoutError as error:
            return type(error).__name__
        return "unexpected"

    async def _cancelled(self, path: str, *programs: Program) -> Any:
        waiting = asyncio.create_task(self._ctx.wait_for_signal("never"))
        held = self._ctx.start_activity(hopeless, f"{path}.held", 2)
        await self._seq(path, *programs)
        await asyncio.sleep(0.001)  # else nothing may have happened since it was started
        for task in (waiting, held):
            task.cancel()
        ended = await asyncio.gather(waiting, held, return_exceptions=True)
        return [type(error).__name__ for error in ended]

    async def _queue(self, path: str, *programs: Program) -> Any:
        queue: asyncio.Queue[tuple[int, Program]] = asyncio.Queue(1)

        async def consume() -> None:
            for _ in programs:
                index, program = await queue.get()
                await self.run(program, f"{path}.{index}")

        consumer = asyncio.create_task(consume())
        for item in enumerate(programs):
            await queue.put(item)
        await consumer

    async def _shielded(self, path: str, *programs: Program) -> Any:
        await self._ctx.shielded(self._seq(path, *programs))
