"""Generated workflows: small programs as data, one workflow that interprets them, and what they do.

A program is a list of statements, each a list of its kind and its arguments; durations are in
milliseconds, `None` for ever. Beside `program` stand what bad deploys make of it: code that asks
for one activity more, or does so by chance; that blocks; that asks for what cannot be recorded;
that raises what parks the run, or fails it; that has lost an activity, or itself.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
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
from tests.simulation.threads import sleep

Statement: TypeAlias = list[Any]
Program: TypeAlias = list[Statement]

SIGNALS = ("go", "stop", "more")
LEAVES = (
    *("act", "act", "limited", "once", "sleep", "wait", "wait", "drain", "poll"),
    *("plain", "stuck", "stuck", "stuck_once", "named", "rude", "must"),
)
BRANCHES = ("gather", "race", "timeout", "shielded", "cleanup", "retired", "beside", "beside")

# What user code may raise, and no engine may take for its own.
RUDE: dict[str, type[BaseException]] = {
    error.__name__: error for error in (asyncio.CancelledError, GeneratorExit, SystemExit)
}

# What each run's code has taken so far, in this replay of it: (name, payload) by run id.
taken: dict[str, list[tuple[str, Any]]] = defaultdict(list)
# Who watches activities: an `Observer`, while there is a world.
site: Any = None
# Whether workflow code has said in this turn that it blocks.
blocked = False
# The simulated database takes no row with this.
UNWRITABLE = "unwritable"


def grow(rng: random.Random, depth: int = 2) -> Program:
    """A program of some statements, `depth` branches deep at most."""
    statements = [_statement(rng, depth) for _ in range(rng.randint(1, 2 + depth))]
    if depth == 2 and rng.random() < 0.3:
        statements.insert(rng.choice((0, 0, 1)), _beside(rng))
    return statements


def _statement(rng: random.Random, depth: int) -> Statement:
    kind = rng.choice(LEAVES if depth == 0 or rng.random() < 0.65 else BRANCHES)
    length = rng.choice((0, 5, 50, 300, 1500))
    match kind:
        case "act" | "plain":
            return [kind, rng.choice((0, 0, 1, 2, 9)), length]
        case "wait":
            return [kind, rng.choice(SIGNALS), rng.choice((None, None, length + 20))]
        case "stuck":
            return [kind, rng.choice((length, length + 300, None))]
        case "rude":
            return [kind, rng.choice((*RUDE,)), rng.random() < 0.3]
        case "must":
            return [kind, rng.choice(("act", "plain", "once")), length]
        case "beside":
            return _beside(rng)
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


def _beside(rng: random.Random) -> Statement:
    """Something is at work, or has just ended, when the code comes to its edge."""
    edge = [["sleep", rng.choice((0, 5, 50, 250))], ["edge"]]
    return ["gather", *([_work(rng)] for _ in range(rng.randint(1, 3))), edge]


def _work(rng: random.Random) -> Statement:
    kind = rng.choice(("act", "plain", "limited", "once", "stuck", "stuck_once"))
    failures = [rng.choice((0, 1, 9))] if kind in ("act", "plain") else []
    return [kind, *failures, rng.choice((5, 50, 300, 700))]


# -- activities ----------------------------------------------------------------------------------

_PATIENT = RetryPolicy(max_attempts=3, initial_delay=0.1)


@activity(retry=_PATIENT)
async def act(failures: int, length: int) -> int:
    """Fails as often as it is told, then returns the number of its execution."""
    with site.execution(activity.info()) as number:
        if length > 20:
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


@activity(retry=_PATIENT)
def plain(failures: int, length: int) -> int:
    """As `act`, in a thread."""
    with site.execution(activity.info(), in_thread=True) as number:
        if length > 20:
            activity.heartbeat(number)
        sleep(length / 1000)
        if activity.info().attempt <= failures:
            raise ConnectionError(f"attempt {activity.info().attempt}")
        return int(number)


@activity(retry=RetryPolicy(max_attempts=2, initial_delay=0.05), timeout=0.2)
def stuck(length: int | None) -> int:
    """Does not look whether anybody still waits for it."""
    with site.execution(activity.info(), in_thread=True) as number:
        sleep(None if length is None else length / 1000)
        return int(number)


@activity(at_most_once=True, timeout=0.2)
def stuck_once(length: int) -> int:
    """The same, and must not be begun twice."""
    with site.execution(activity.info(), in_thread=True, at_most_once=True) as number:
        sleep(length / 1000)
        return int(number)


@activity(retry=RetryPolicy(max_attempts=2, initial_delay=0.05))
async def must_act(length: int) -> int:
    """Fails while what it needs is down; then so does its run."""
    with site.execution(activity.info()) as number:
        await asyncio.sleep(length / 1000)
        site.check_up()
        return int(number)


@activity
def must_plain(length: int) -> int:
    """The same, in a thread."""
    with site.execution(activity.info(), in_thread=True) as number:
        sleep(length / 1000)
        site.check_up()
        return int(number)


@activity(at_most_once=True)
async def must_once(length: int) -> int:
    """The same, and must not be begun twice, unless its run is taken up again because of it."""
    with site.execution(activity.info(), at_most_once=True) as number:
        await asyncio.sleep(length / 1000)
        site.check_up()
        return int(number)


MUST = {"act": must_act, "plain": must_plain, "once": must_once}


@activity
async def named(length: int) -> int:
    """Is asked for by its name, and missing after a bad deploy."""
    with site.execution(activity.info()) as number:
        await asyncio.sleep(length / 1000)
        return int(number)


@activity
async def rude(error: str) -> None:
    """Raises something that ends whoever does not expect it."""
    with site.execution(activity.info()):
        await asyncio.sleep(0.001)
        raise RUDE[error]


@activity
def rude_in_thread(error: str) -> None:
    """The same, in a thread."""
    with site.execution(activity.info(), in_thread=True):
        raise RUDE[error]


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


@workflow(name="program")
async def broken(ctx: WorkflowContext, statements: Any) -> int:
    """Has a name after the first statement that nobody has defined: the run is parked."""
    await _Interpreter(ctx).run(statements[:1])
    raise NameError("name 'statments' is not defined")


@workflow(name="program")
async def failing(ctx: WorkflowContext, statements: Any) -> int:
    """Fails after the first statement."""
    await _Interpreter(ctx).run(statements[:1])
    raise ValueError("it is no good")


@workflow(name="program")
async def fickle(ctx: WorkflowContext, statements: Any) -> int:
    """One of the two, by chance: another one when it is replayed."""
    return int(await (program if site.chance() < 0.5 else changed)(ctx, statements))


@workflow(name="program")
async def blocking(ctx: WorkflowContext, statements: Any) -> int:
    """Blocks at its edges."""

    async def block() -> None:
        global blocked
        blocked = True

    interpreter = _Interpreter(ctx, block)
    await interpreter.run(statements)
    return len(interpreter.taken)


@workflow(name="program")
async def unwritable(ctx: WorkflowContext, statements: Any) -> int:
    """Asks for something at its edges that the database refuses."""

    async def ask() -> None:
        await ctx.execute_activity(named, 2, id=UNWRITABLE)

    interpreter = _Interpreter(ctx, ask)
    await interpreter.run(statements)
    return len(interpreter.taken)


def _without(name: str) -> Catalog:
    catalog = Catalog.from_functions([program])
    del catalog._activities[name]
    return catalog


CATALOGS = {
    "sound": Catalog.from_functions([program]),
    "changed": Catalog.from_functions([changed]),
    "fickle": Catalog.from_functions([fickle]),
    "broken": Catalog.from_functions([broken]),
    "failing": Catalog.from_functions([failing]),
    "blocking": Catalog.from_functions([blocking]),
    "unwritable": Catalog.from_functions([unwritable]),
    "lacking": _without("named"),
    "missing": Catalog.from_functions([]),
}
# What bad deploys may have put there instead of "sound" and still drives.
DRIVING = ("changed", "fickle", "blocking", "unwritable", "lacking", "broken", "failing")
# What may have recorded the whole history of a run.
RECORDING = ("sound", "changed", "failing")


class _Interpreter:
    def __init__(
        self, ctx: WorkflowContext, at_edge: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._ctx = ctx
        self._at_edge = at_edge
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

    async def _plain(self, failures: int, length: int) -> None:
        await self._activity(plain, failures, length)

    async def _stuck(self, length: int | None) -> None:
        await self._activity(stuck, length)

    async def _stuck_once(self, length: int) -> None:
        await self._activity(stuck_once, length)

    async def _rude(self, error: str, in_thread: bool) -> None:
        await self._activity(rude_in_thread if in_thread else rude, error)

    async def _named(self, length: int) -> None:
        await self._activity("named", length)

    async def _edge(self) -> None:
        if self._at_edge is not None:
            await self._at_edge()
        await self._activity("named", 1)

    async def _activity(self, function: Any, *arguments: Any) -> None:
        try:
            await self._ctx.execute_activity(function, *arguments)
        except ActivityError as error:
            self._ctx.set_progress(f"{error.activity} failed")

    async def _must(self, kind: str, length: int) -> None:
        await self._ctx.execute_activity(MUST[kind], length)

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
        await asyncio.gather(*tasks, return_exceptions=True)

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
