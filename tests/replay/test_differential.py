"""Our loop beside plain asyncio: generated programs leave the same trace on both.

A program is a nested list, as in `tests.replay.programs`, here over asyncio alone. Plain asyncio
runs it on a selector loop whose time jumps to the next timer; ours on a `Clock`. A trace has what
each step saw, and the virtual time.

What may differ, and is left out or made equal here:

* Of timers that are due at the very same moment, asyncio's heap promises no order; ours are first
  come, first served. So every delay is another prime fraction, and no two timers meet.
* `asyncio.wait` gives back sets, and `TaskGroup` and `gather` cancel in the order of one: on plain
  asyncio that order is by address. So traces of what is cancelled together are sorted.
* A program that waits for ever stands still on both: plain asyncio would wait for a file, ours for
  a fact. The traces end there.
* What only the collector finds is closed by plain asyncio when that is, and by ours never (see
  `Generators`). So no generator is put in a cycle; the collector runs at any step all the same.
* `call_later(nan)`: asyncio calls it at once, ours raises ValueError. SystemExit out of a task ends
  a plain program, with ours it stays in its task. Neither is generated.
* Ours refuses the world, which no program here touches.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import selectors
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from belugawf.replay.unwinding import leave_standing
from tests.replay.driving import Clock

SEEDS = 1_500
PIECES = 6

LEAVES = (
    *("note", "sleep", "sleep", "yield", "soon", "later", "future", "collect", "never"),
    *("set", "clear", "wait event", "put", "get", "generator", "raise"),
)
BRANCHES = (
    *("seq", "gather", "settle", "group", "timeout", "wait for", "first", "all", "task", "direct"),
    *("cancelled", "shield", "lock", "semaphore", "catch", "finally", "completed", "iterate"),
)


def grow(pick: Callable[[int], int], depth: int) -> list[Any]:
    """A program, `depth` branches deep at most."""
    kinds = LEAVES if depth == 0 else (*BRANCHES, *LEAVES)
    kind = kinds[pick(len(kinds))]
    if kind in LEAVES:
        return [kind, pick(40)]
    return [kind, pick(40), *(grow(pick, depth - 1) for _ in range(1 + pick(3)))]


class Failed(Exception):
    """What programs raise."""


class Interpreter:
    """Executes a program on whatever loop runs."""

    def __init__(self) -> None:
        self.trace: list[Any] = []
        self._delays = 0
        self._event = asyncio.Event()
        self._queue: asyncio.Queue[int] = asyncio.Queue(2)
        self._lock = asyncio.Lock()
        self._semaphore = asyncio.Semaphore(2)

    def note(self, *what: Any) -> None:
        now = asyncio.get_running_loop().time()
        self.trace.append((*what, round(now, 5)))

    def delay(self, number: int) -> float:
        """A delay that no other one equals, nor any sum of others."""
        self._delays += 1
        return 1 + number + self._delays * 0.001 + self._delays**2 * 0.000014

    async def run(self, program: list[Any]) -> None:
        kind, number, *rest = program
        try:
            await getattr(self, "_" + kind.replace(" ", "_"))(number, *rest)
        except BaseException as error:
            self.note(kind, number, type(error).__name__)
            raise
        self.note(kind, number)

    # -- leaves ----------------------------------------------------------------------------------

    async def _note(self, number: int) -> None: ...

    async def _sleep(self, number: int) -> None:
        await asyncio.sleep(self.delay(number))

    async def _yield(self, number: int) -> None:
        for _ in range(number % 4):
            await asyncio.sleep(0)

    async def _soon(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0, self.note, "later", number)
        loop.call_soon(self.note, "soon", number)
        loop.call_soon(self.note, "never", number).cancel()
        if number % 2:
            await asyncio.sleep(0)

    async def _later(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self.delay(number), self.note, "timer", number)
        if number % 3 == 0:
            timer.cancel()

    async def _future(self, number: int) -> None:
        future: asyncio.Future[int] = asyncio.Future()
        loop = asyncio.get_running_loop()

        def done() -> None:
            if not future.done():
                future.set_result(number)

        loop.call_later(0 if number % 2 else self.delay(number), done)
        done_now, _ = await asyncio.wait([future])
        self.note("future", done_now.pop().result())

    async def _collect(self, number: int) -> None:
        gc.collect(number % 3)

    async def _never(self, number: int) -> None:
        match number % 4:
            case 0:
                await asyncio.sleep(float("inf"))
            case 1:
                await asyncio.get_running_loop().create_future()
            case _:
                async with asyncio.timeout(self.delay(number)):
                    await asyncio.Event().wait()

    async def _set(self, number: int) -> None:
        self._event.set()

    async def _clear(self, number: int) -> None:
        self._event.clear()

    async def _wait_event(self, number: int) -> None:
        async with asyncio.timeout(self.delay(number)):
            await self._event.wait()

    async def _put(self, number: int) -> None:
        async with asyncio.timeout(self.delay(number)):
            await self._queue.put(number)

    async def _get(self, number: int) -> None:
        async with asyncio.timeout(self.delay(number)):
            self.note("got", await self._queue.get())

    async def _raise(self, number: int) -> None:
        if number % 3 == 0:
            raise Failed(number)

    async def _numbers(self, number: int) -> AsyncIterator[int]:
        try:
            for item in range(3):
                yield item
                await asyncio.sleep(self.delay(number) if number % 2 else 0)
        finally:
            self.note("closing", number)
            await asyncio.sleep(self.delay(number))
            self.note("closed", number)

    async def _generator(self, number: int) -> None:
        async for item in self._numbers(number):
            if item == number % 5:
                if number % 3 == 0:
                    raise Failed(number)
                break

    # -- branches --------------------------------------------------------------------------------

    async def _seq(self, number: int, *programs: Any) -> None:
        for program in programs:
            await self.run(program)

    async def _gather(self, number: int, *programs: Any) -> None:
        await asyncio.gather(*(self.run(program) for program in programs))

    async def _settle(self, number: int, *programs: Any) -> None:
        await asyncio.gather(*(self.run(p) for p in programs), return_exceptions=True)

    async def _group(self, number: int, *programs: Any) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for program in programs:
                    group.create_task(self.run(program))
        except* Failed as error:
            self.note("group", len(error.exceptions))

    async def _timeout(self, number: int, *programs: Any) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.delay(number) if number else 0):
                await self._seq(0, *programs)

    async def _wait_for(self, number: int, *programs: Any) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._seq(0, *programs), self.delay(number))

    async def _wait(self, when: str, number: int, programs: Any) -> None:
        tasks = [asyncio.create_task(self.run(program)) for program in programs]
        limit = self.delay(number)
        done, _ = await asyncio.wait(tasks, timeout=limit, return_when=when)
        self.note(when, [task in done for task in tasks])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _first(self, number: int, *programs: Any) -> None:
        await self._wait(asyncio.FIRST_COMPLETED, number, programs)

    async def _all(self, number: int, *programs: Any) -> None:
        await self._wait(asyncio.FIRST_EXCEPTION, number, programs)

    async def _task(self, number: int, *programs: Any) -> None:
        task = asyncio.create_task(self._seq(0, *programs))
        await asyncio.sleep(0)
        self.note("task", task.done())
        await task

    async def _direct(self, number: int, *programs: Any) -> None:
        await asyncio.Task(self._seq(0, *programs))

    async def _cancelled(self, number: int, *programs: Any) -> None:
        task = asyncio.create_task(self._seq(0, *programs))
        if number % 4:
            await asyncio.sleep(self.delay(number))
        self.note("cancel", task.cancel())
        await asyncio.gather(task, return_exceptions=True)

    async def _shield(self, number: int, *programs: Any) -> None:
        inner = asyncio.ensure_future(self._seq(0, *programs))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.delay(number)):
                await asyncio.shield(inner)
        await asyncio.gather(inner, return_exceptions=True)

    async def _lock(self, number: int, *programs: Any) -> None:
        async with asyncio.timeout(self.delay(number)), self._lock:
            await self._seq(0, *programs)

    async def _semaphore(self, number: int, *programs: Any) -> None:
        async with asyncio.timeout(self.delay(number)), self._semaphore:
            await asyncio.gather(*(self.run(p) for p in programs))

    async def _catch(self, number: int, *programs: Any) -> None:
        try:
            await self._seq(0, *programs)
        except (Failed, TimeoutError) as error:
            self.note("caught", type(error).__name__)

    async def _finally(self, number: int, *programs: Any) -> None:
        try:
            await self.run(programs[0])
        finally:
            await self._seq(0, *programs[1:])

    async def _completed(self, number: int, *programs: Any) -> None:
        tasks = [asyncio.ensure_future(self.run(program)) for program in programs]
        for item in asyncio.as_completed(tasks):
            with contextlib.suppress(Failed, TimeoutError):
                await item

    async def _iterate(self, number: int, *programs: Any) -> None:
        async for item in self._numbers(number):
            await self.run(programs[item % len(programs)])


# -- the two loops -------------------------------------------------------------------------------


class _StandingStill(BaseException):
    """Nothing will ever happen any more."""


class _Jumping(selectors.SelectSelector):
    """A selector that waits for nothing: time jumps instead."""

    loop: Any

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout >= 3600 * 24:  # asyncio waits no longer at one time
            raise _StandingStill
        self.loop.now += timeout
        return []


class _Plain(asyncio.SelectorEventLoop):
    """Plain asyncio on virtual time."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.now


async def _main(program: list[Any], trace: list[Any]) -> None:
    interpreter = Interpreter()
    interpreter.trace = trace
    try:
        await interpreter.run(program)
    except BaseException as error:
        trace.append(("end", type(error).__name__))
    else:
        trace.append(("end", ""))
    # What nobody waits for any more goes on for a while.
    await asyncio.sleep(500.3)
    trace.append("over")


def plain(program: list[Any]) -> list[Any]:
    """The trace on plain asyncio."""
    trace: list[Any] = []
    loop = _Plain()
    loop.set_exception_handler(lambda loop, context: None)
    main = loop.create_task(_main(program, trace))
    with contextlib.suppress(_StandingStill):
        loop.run_until_complete(main)
    seen = list(trace)
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        leave_standing(task.get_coro())
    loop.close()
    return seen


def ours(program: list[Any]) -> list[Any]:
    """The trace on the deterministic loop."""
    trace: list[Any] = []
    clock = Clock()
    main = clock.start(_main(program, trace))
    while not main.done() and clock.jump():
        pass
    seen, asked = list(trace), clock.asked
    clock.loop.evict()
    assert clock.asked == asked  # whatever its `finally` blocks wait for
    return seen


def comparable(trace: list[Any]) -> list[Any]:
    """The trace, with the steps of one moment sorted that were cancelled together."""
    blocks: list[Any] = []
    for entry in trace:
        is_cancelled = isinstance(entry, tuple) and "CancelledError" in entry
        if is_cancelled and blocks and isinstance(blocks[-1], list):
            blocks[-1].append(entry)
        else:
            blocks.append([entry] if is_cancelled else entry)
    return [sorted(block, key=repr) if isinstance(block, list) else block for block in blocks]


@pytest.mark.parametrize("piece", range(PIECES))
def test_programs_leave_the_same_trace(piece: int) -> None:
    """What generated programs see, and when, is what they see on plain asyncio."""
    for seed in range(piece, SEEDS, PIECES):
        program = grow(random.Random(seed).randrange, 3)
        assert comparable(ours(program)) == comparable(plain(program)), (seed, program)
