"""The deterministic loop alone: asyncio's primitives, refusals, limits, and letting go."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from belugawf.model.errors import WorkflowBlockedError, WorkflowCodeError
from belugawf.replay.loop import MAX_CALLBACKS, MAX_EMPTY_TIMERS
from belugawf.replay.numbering import CountedFuture, CountedTask
from tests.replay.driving import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def after(delay: float, value: Any, log: list[Any] | None = None) -> Any:
    await asyncio.sleep(delay)
    if log is not None:
        log.append(value)
    return value


# -- asyncio, unchanged --------------------------------------------------------------------------


def test_sleep_is_a_timer(clock: Clock) -> None:
    """A sleep asks for one timer of that length, and gives back its value."""
    assert clock.run(asyncio.sleep(1_814_400, "three weeks")) == "three weeks"
    assert clock.started == [1_814_400.0]
    assert clock.loop.time() == 1_814_400.0


@pytest.mark.parametrize("delay", [0, -1])
def test_sleep_of_nothing_is_no_timer(clock: Clock, delay: int) -> None:
    """sleep(0) only lets the others run."""
    clock.run(asyncio.sleep(delay))
    assert clock.started == []


def test_timeout(clock: Clock) -> None:
    """asyncio.timeout raises TimeoutError in time, and cancels its timer when it is not needed."""

    async def code() -> str:
        async with asyncio.timeout(10):
            await asyncio.sleep(1)
        try:
            async with asyncio.timeout(2):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        return "in time"

    assert clock.run(code()) == "late"
    assert clock.loop.time() == 3.0
    assert clock.jump() is False  # the timer of 10 s is gone


def test_wait_for(clock: Clock) -> None:
    """wait_for gives the result in time, and cancels what is late."""

    async def code() -> list[str]:
        seen = [await asyncio.wait_for(after(1, "first"), 5)]
        try:
            await asyncio.wait_for(after(9, "never"), 5)
        except TimeoutError:
            seen.append("late")
        return seen

    assert clock.run(code()) == ["first", "late"]
    assert clock.loop.time() == 6.0
    assert clock.jump() is False


def test_gather(clock: Clock) -> None:
    """gather keeps the order of its arguments, runs side by side, and hands on errors."""

    async def boom() -> None:
        await asyncio.sleep(1)
        raise ValueError("boom")

    async def code() -> Any:
        values = await asyncio.gather(after(3, "a"), after(1, "b"), after(2, "c"))
        mixed = await asyncio.gather(boom(), after(2, "d"), return_exceptions=True)
        with pytest.raises(ValueError, match="boom"):
            await asyncio.gather(boom(), after(1, "e"))
        return values, repr(mixed[0]), mixed[1]

    assert clock.run(code()) == (["a", "b", "c"], "ValueError('boom')", "d")
    assert clock.started[:3] == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("until", "done"),
    [
        (asyncio.FIRST_COMPLETED, {"b"}),
        (asyncio.FIRST_EXCEPTION, {"a", "b", "c"}),
        (asyncio.ALL_COMPLETED, {"a", "b", "c"}),
    ],
)
def test_wait(clock: Clock, until: str, done: set[str]) -> None:
    """wait gives back what is done by then, and what is pending."""

    async def code() -> tuple[set[str], int]:
        tasks = [asyncio.create_task(after(n, v)) for n, v in [(3, "a"), (1, "b"), (2, "c")]]
        finished, pending = await asyncio.wait(tasks, return_when=until)
        return {task.result() for task in finished}, len(pending)

    assert clock.run(code()) == (done, 3 - len(done))


def test_wait_with_timeout(clock: Clock) -> None:
    """wait's timeout raises nothing: what is not done is pending."""

    async def code() -> int:
        _, pending = await asyncio.wait([asyncio.create_task(after(9, "a"))], timeout=1)
        return len(pending)

    assert clock.run(code()) == 1
    assert clock.loop.time() == 1.0


def test_pending_tasks_are_cancelled_in_order(clock: Clock) -> None:
    """Cancelling the set that wait gives back goes in the order of creation, every time."""

    async def one(number: int, log: list[int]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append(number)

    async def code() -> list[int]:
        log: list[int] = []
        tasks = [asyncio.create_task(one(n, log)) for n in range(12)]
        _, pending = await asyncio.wait(tasks, timeout=1)
        for task in pending:
            task.cancel()
        await asyncio.wait(pending)
        return log

    orders = {tuple(Clock().run(code())) for _ in range(10)}
    assert len(orders) == 1
    assert sorted(orders.pop()) == list(range(12))


@pytest.mark.parametrize("bare", [True, False])
def test_as_completed_starts_in_order(clock: Clock, bare: bool) -> None:
    """as_completed starts bare coroutines in the order given, and yields what is done first."""
    begun: list[int] = []

    async def one(number: int) -> int:
        begun.append(number)
        await asyncio.sleep(100 - number)
        return number

    async def code() -> list[int]:
        work: list[Awaitable[int]] = [one(n) for n in range(20)]
        if not bare:
            work = [asyncio.ensure_future(item) for item in work]
        return [await item for item in asyncio.as_completed(work)]

    assert clock.run(code()) == list(range(19, -1, -1))
    assert begun == list(range(20))


def test_as_completed_with_timeout(clock: Clock) -> None:
    """as_completed's timeout is a TimeoutError at the next one."""

    async def code() -> list[str]:
        work = [asyncio.ensure_future(after(1, "a")), asyncio.ensure_future(after(9, "b"))]
        seen = []
        for item in asyncio.as_completed(work, timeout=5):
            try:
                seen.append(await item)
            except TimeoutError:
                seen.append("late")
        return seen

    assert clock.run(code()) == ["a", "late"]


def test_as_completed_imported_by_name_before() -> None:
    """A module that took the name before belugawf was imported has the ordered one all the same;
    on an ordinary loop it works as ever."""
    script = """
from asyncio import as_completed
import asyncio, sys
sys.path.insert(0, ".")
from tests.replay.driving import Clock

begun = []

async def one(number):
    begun.append(number)
    await asyncio.sleep(0)
    return number

async def code():
    return [await item for item in as_completed([one(n) for n in range(50)])]

Clock().run(code())
assert begun == list(range(50)), begun
assert sorted(asyncio.run(code())) == list(range(50))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_task_group(clock: Clock) -> None:
    """A TaskGroup waits for all; one that fails cancels the others, in order of creation."""
    log: list[Any] = []

    async def patient(number: int) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            log.append(number)
            raise

    async def boom() -> None:
        await asyncio.sleep(5)
        raise ValueError("boom")

    async def code() -> str:
        async with asyncio.TaskGroup() as group:
            one = group.create_task(after(1, "one"))
            two = group.create_task(after(2, "two"))
        log.append(one.result() + two.result())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(patient(number))
                group.create_task(boom())
        except ExceptionGroup as error:
            return repr(error.exceptions)
        return "nothing"

    assert clock.run(code()) == "(ValueError('boom'),)"
    assert log == ["onetwo", 0, 1, 2, 3, 4]


def test_event_lock_semaphore_condition(clock: Clock) -> None:
    """Event, Lock, Semaphore and Condition let their waiters on, first come first served."""
    log: list[str] = []

    async def worker(name: str, *, event: asyncio.Event, lock: asyncio.Lock) -> None:
        await event.wait()
        async with lock:
            await asyncio.sleep(1)
            log.append(name)

    async def limited(name: str, semaphore: asyncio.Semaphore) -> None:
        async with semaphore:
            await asyncio.sleep(1)
            log.append(name)

    async def notified(name: str, condition: asyncio.Condition) -> None:
        async with condition:
            await condition.wait()
            log.append(name)

    async def code() -> None:
        event, lock = asyncio.Event(), asyncio.Lock()
        tasks = [asyncio.create_task(worker(n, event=event, lock=lock)) for n in "abc"]
        await asyncio.sleep(1)
        event.set()
        await asyncio.gather(*tasks)
        semaphore = asyncio.Semaphore(2)
        await asyncio.gather(*(limited(n, semaphore) for n in "def"))
        condition = asyncio.Condition()
        tasks = [asyncio.create_task(notified(n, condition)) for n in "ghi"]
        await asyncio.sleep(1)
        async with condition:
            condition.notify(2)
        await asyncio.sleep(1)
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)

    clock.run(code())
    assert "".join(log) == "abcdefghi"
    assert clock.loop.time() == 1 + 3 + 2 + 2


@pytest.mark.parametrize(
    ("make", "expected"),
    [(asyncio.Queue, "cab"), (asyncio.PriorityQueue, "abc"), (asyncio.LifoQueue, "bac")],
)
def test_queue(clock: Clock, make: Callable[[], asyncio.Queue[str]], expected: str) -> None:
    """Queues of all kinds: join waits until all is worked off."""

    async def consume(queue: asyncio.Queue[str], log: list[str]) -> None:
        while True:
            log.append(await queue.get())
            await asyncio.sleep(1)
            queue.task_done()

    async def code() -> str:
        queue = make()
        log: list[str] = []
        for item in "cab":
            queue.put_nowait(item)
        consumer = asyncio.create_task(consume(queue, log))
        await queue.join()
        consumer.cancel()
        return "".join(log)

    assert clock.run(code()) == expected


def test_full_queue_holds_the_producer(clock: Clock) -> None:
    """put waits while the queue is full."""

    async def produce(queue: asyncio.Queue[int], log: list[str]) -> None:
        for number in range(3):
            await queue.put(number)
            log.append(f"put {number}")

    async def code() -> list[str]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        log: list[str] = []
        producer = asyncio.create_task(produce(queue, log))
        for _ in range(3):
            await asyncio.sleep(1)
            log.append(f"got {await queue.get()}")
        await producer
        return log

    assert clock.run(code()) == ["put 0", "got 0", "put 1", "got 1", "put 2", "got 2"]


def test_barrier_and_shield(clock: Clock) -> None:
    """Barrier and shield work as well."""

    async def meet(barrier: asyncio.Barrier, delay: int) -> int:
        await asyncio.sleep(delay)
        return await barrier.wait()

    async def code() -> str:
        barrier = asyncio.Barrier(3)
        await asyncio.gather(*(meet(barrier, n) for n in range(3)))
        inner = asyncio.create_task(after(5, "kept"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(inner), 1)
        return str(await inner)

    assert clock.run(code()) == "kept"


def test_context_variables_and_task_names(clock: Clock) -> None:
    """Tasks have their own context and stable names."""

    async def code() -> list[str]:
        tasks = [asyncio.create_task(after(0, None)) for _ in range(2)]
        named = asyncio.create_task(after(0, None), name="mine")
        await asyncio.gather(*tasks, named)
        current = asyncio.current_task()
        assert current is not None
        return [task.get_name() for task in (current, *tasks, named)]

    assert clock.run(code()) == Clock().run(code())
    assert clock.loop.is_running()
    assert not clock.loop.get_debug()


def test_time_stands_still_in_a_turn(clock: Clock) -> None:
    """time() changes only between turns."""

    async def code() -> tuple[float, float]:
        before = asyncio.get_running_loop().time()
        for _ in range(1000):
            await asyncio.sleep(0)
        return before, asyncio.get_running_loop().time()

    clock.loop.begin_turn(5.0)
    assert clock.run(code()) == (5.0, 5.0)


def test_call_soon_later_at(clock: Clock) -> None:
    """Plain callbacks run in order, and can be taken back."""
    log: list[str] = []

    async def code() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(2, log.append, "later")
        loop.call_at(loop.time() + 1, log.append, "at")
        loop.call_soon(log.append, "soon")
        loop.call_soon(log.append, "never").cancel()
        loop.call_later(1, log.append, "never").cancel()
        await asyncio.sleep(3)

    clock.run(code())
    assert log == ["soon", "at", "later"]
    assert clock.loop.time() == 3.0


# -- counted hashes ------------------------------------------------------------------------------


def test_hashes_are_creation_numbers(clock: Clock) -> None:
    """Tasks and futures hash to their number, and are equal only to themselves."""

    async def nothing() -> None: ...

    async def code() -> list[Any]:
        loop = asyncio.get_running_loop()
        return [
            loop.create_future(),
            asyncio.ensure_future(nothing()),
            asyncio.shield(loop.create_future()),
            asyncio.gather(loop.create_future()),
        ]

    future, task, outer, gathered = clock.run(code())
    assert isinstance(future, CountedFuture)
    assert isinstance(task, CountedTask)
    assert isinstance(outer, CountedFuture)
    numbers = [hash(item) for item in (future, task, outer, gathered)]
    assert numbers == sorted(numbers)
    assert len({future, task, outer, gathered, future}) == 4
    assert future == future
    assert future != outer
    again = Clock().run(code())
    assert [hash(item) for item in again] == numbers


def test_tasks_of_many_runs_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio's set of all tasks holds those of every run: equal numbers must not collide there."""
    compared = []
    monkeypatch.setattr(
        CountedTask, "__eq__", lambda one, other: compared.append(1) or one is other
    )

    async def standing() -> None:
        await asyncio.Event().wait()

    clocks = [Clock() for _ in range(100)]
    tasks = [clock.start(standing()) for clock in clocks]
    assert [hash(task) for task in tasks] == [1] * len(tasks)
    assert len(compared) < 10
    for clock in clocks:
        clock.loop.evict()


def test_gather_on_an_ordinary_loop() -> None:
    """There its future hashes by identity, as ever."""

    async def code() -> list[int]:
        first, second = asyncio.gather(asyncio.sleep(0, 1)), asyncio.gather(asyncio.sleep(0, 2))
        assert len({first, second, first}) == 2
        assert hash(first) != hash(second)
        return [*await first, *await second]

    assert asyncio.run(code()) == [1, 2]


# -- refusals ------------------------------------------------------------------------------------


async def _executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def _thread() -> None:
    await asyncio.to_thread(print)


async def _socket() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def _server() -> None:
    await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)


async def _subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


async def _shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def _names() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


async def _threadsafe() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


async def _factory() -> None:
    asyncio.get_running_loop().set_task_factory(None)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (_executor, "run_in_executor"),
        (_thread, "run_in_executor"),
        (_socket, "create_connection"),
        (_server, "create_server"),
        (_subprocess, "subprocess_exec"),
        (_shell, "subprocess_shell"),
        (_names, "getaddrinfo"),
        (_threadsafe, "call_soon_threadsafe"),
        (_factory, "set_task_factory"),
    ],
)
def test_the_world_is_refused(clock: Clock, code: Callable[[], Any], name: str) -> None:
    """What would touch the world raises, names the line, and says: do it in an activity."""
    with pytest.raises(WorkflowCodeError) as caught:
        clock.run(code())
    line = code.__code__.co_firstlineno + 1
    assert caught.value.message == f"workflow code cannot use loop.{name} ({__file__}:{line})"
    assert caught.value.hint is not None
    assert "activity" in caught.value.hint


def test_no_method_is_forgotten() -> None:
    """Every method of AbstractEventLoop is refused or implemented: none raises
    NotImplementedError."""
    names = [n for n in vars(asyncio.AbstractEventLoop) if not n.startswith("_")]
    loop_type = type(Clock().loop)
    inherited = [n for n in names if getattr(loop_type, n) is getattr(asyncio.AbstractEventLoop, n)]
    assert inherited == []


# -- limits --------------------------------------------------------------------------------------


def test_too_many_callbacks(clock: Clock) -> None:
    """A loop that waits for nothing is stopped after 100,000 steps, and its line named."""

    async def code() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(WorkflowBlockedError) as caught:
        clock.start(code())
    assert f"ran {MAX_CALLBACKS:,} steps" in caught.value.message
    assert f"{__file__}:{code.__code__.co_firstlineno + 2}" in caught.value.message
    clock.loop.evict()


def test_callbacks_are_counted_a_turn(clock: Clock) -> None:
    """The limit is for one turn: a run may do more in all."""

    async def code() -> None:
        for _ in range(3):
            for _ in range(MAX_CALLBACKS // 2):
                await asyncio.sleep(0)
            await asyncio.sleep(60)

    clock.run(code())


def test_too_many_empty_timers(clock: Clock) -> None:
    """Timers of no length, 1,000 in a row, are no waiting."""

    async def code() -> None:
        while True:
            await asyncio.sleep(1e-7)

    task = clock.start(code())
    with pytest.raises(WorkflowBlockedError) as caught:
        while not task.done():
            clock.jump()
    assert len(clock.started) == MAX_EMPTY_TIMERS + 1
    assert f"{__file__}:{code.__code__.co_firstlineno + 2}" in caught.value.message
    clock.loop.evict()


def test_empty_timers_between_real_ones(clock: Clock) -> None:
    """The count starts anew when a real timer fires."""

    async def code() -> None:
        for _ in range(3):
            for _ in range(MAX_EMPTY_TIMERS - 1):
                await asyncio.sleep(1e-7)
            await asyncio.sleep(1)

    clock.run(code())


# -- beside the real loop ------------------------------------------------------------------------


def test_inside_a_running_loop() -> None:
    """Driven from a task of a real loop, both keep their own current task."""

    async def code() -> str:
        task = asyncio.current_task()
        await asyncio.sleep(1)
        assert asyncio.current_task() is task
        return type(asyncio.get_running_loop()).__name__

    async def engine() -> tuple[str, str]:
        real, me = asyncio.get_running_loop(), asyncio.current_task()
        clock = Clock()
        inner = clock.run(code())
        assert asyncio.get_running_loop() is real
        assert asyncio.current_task() is me
        return inner, type(real).__name__

    inner, outer = asyncio.run(engine())
    assert inner == "DeterministicLoop"
    assert outer != inner


def test_system_exit_stays_in_its_task(clock: Clock) -> None:
    """SystemExit ends the task that raises it, not the process that drives it."""

    async def code() -> None:
        sys.exit(3)

    task = clock.start(code())
    assert isinstance(task.exception(), SystemExit)
