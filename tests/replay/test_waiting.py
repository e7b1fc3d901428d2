"""Waiting for conditions and for signals: the buffer, its order, and who is woken."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from belugawf import (
    PayloadTypeError,
    SignalTimeoutError,
    WorkflowContext,
)
from belugawf.authoring.signals import BufferedSignal, SignalBuffer
from belugawf.model.errors import WorkflowBlockedError
from tests.replay.driving import Clock, Run, briefs

# -- conditions ----------------------------------------------------------------------------------


def test_wait_until() -> None:
    """Holds until the workflow's own variables fit; looked at whenever code has run."""

    async def code(ctx: WorkflowContext) -> int:
        votes: list[Any] = []

        async def collect() -> None:
            async for vote in ctx.signals("vote"):
                votes.append(vote.payload)

        collector = asyncio.create_task(collect())
        await ctx.wait_until(lambda: sum(votes) >= 3)
        collector.cancel()
        return len(votes)

    run = Run(code)
    run.signal("vote", 1)
    run.signal("vote", 1)
    assert not run.closed
    assert briefs(run.signal("vote", 1))[-1] == ("complete", 3)
    assert run.replay() == []


def test_wait_until_true_at_once() -> None:
    """A condition that holds costs nothing, not even a timer."""

    async def code(ctx: WorkflowContext) -> None:
        await ctx.wait_until(lambda: True, timeout="1h")

    assert briefs(Run(code).commands) == [("complete", None)]


@pytest.mark.parametrize("inside", [True, False], ids=["within a real loop", "without"])
def test_conditions_see_the_deterministic_loop(inside: bool) -> None:
    """Also live, where the real loop runs beneath; so a replay finds what the first run found."""
    seen: list[tuple[str, float]] = []

    async def code(ctx: WorkflowContext) -> None:
        calm = False

        def ready() -> bool:
            loop = asyncio.get_running_loop()
            seen.append((type(loop).__name__, loop.time()))
            return calm

        async def wait() -> None:
            nonlocal calm
            await ctx.wait_for_signal("calm")
            calm = True

        waiter = asyncio.create_task(wait())
        await ctx.wait_until(ready)
        await waiter

    async def live() -> Run:
        run = Run(code)
        run.signal("calm")
        return run

    run = asyncio.run(live()) if inside else Run(code)
    if not inside:
        run.signal("calm")
    assert run.closed
    first, seen[:] = list(seen), []
    assert {name for name, _ in first} == {"DeterministicLoop"}
    assert run.replay() == []
    assert seen == first


def test_wait_until_times_out() -> None:
    """After its timeout it raises TimeoutError."""

    async def code(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_until(lambda: False, timeout="1h")
        except TimeoutError:
            return "late"
        return "true"

    run = Run(code)
    assert briefs(run.commands) == [("timer", 1, 3600.0)]
    assert briefs(run.fire()) == [("complete", "late")]
    assert run.replay() == []


def test_wait_until_whose_condition_raises() -> None:
    """An error of the condition is the waiter's."""

    async def code(ctx: WorkflowContext) -> None:
        values: list[int] = []

        async def collect() -> None:
            values.append((await ctx.wait_for_signal("value")).payload)

        task = asyncio.create_task(collect())
        await ctx.wait_until(lambda: bool(values and 1 / values[0]))
        await task

    run = Run(code)
    assert briefs(run.signal("value", 0))[-1] == ("fail", "ZeroDivisionError", "division by zero")


def test_one_condition_at_a_time() -> None:
    """Who waited first may use up what another waits for as well: that one goes on waiting."""

    async def code(ctx: WorkflowContext) -> list[str]:
        tokens: list[Any] = []
        order: list[str] = []

        async def take(name: str) -> None:
            await ctx.wait_until(lambda: bool(tokens))
            order.append(f"{name} {tokens.pop()}")

        takers = [asyncio.create_task(take(name)) for name in "ab"]
        for _ in takers:
            tokens.append((await ctx.wait_for_signal("token")).payload)
        await asyncio.gather(*takers)
        return order

    run = Run(code)
    run.signal("token", 1)
    assert not run.closed
    run.signal("token", 2)
    assert run.result == ["a 1", "b 2"]
    assert run.replay() == []


def test_what_a_condition_wakes_runs_in_the_same_turn() -> None:
    """Also if it does not hold itself; and it is asked again then."""

    async def code(ctx: WorkflowContext) -> str:
        event, asked, woken = asyncio.Event(), [], []

        async def listen() -> None:
            await event.wait()
            woken.append(1)

        def holds() -> bool:
            asked.append(1)
            if len(asked) > 1:  # the first time the code itself asks, and is still running
                event.set()
            return bool(woken)

        listener = asyncio.create_task(listen())
        await ctx.wait_until(holds)
        await listener
        return "woken"

    run = Run(code)
    assert briefs(run.commands) == [("complete", "woken")]
    assert run.replay() == []


def test_conditions_that_wake_each_other_are_limited() -> None:
    """Two tasks that wake each other for ever use up the turn's steps."""

    async def code(ctx: WorkflowContext) -> None:
        turns: list[int] = []

        async def player(number: int) -> None:
            while True:
                await ctx.wait_until(lambda: len(turns) % 2 == number)
                turns.append(number)

        await asyncio.gather(player(0), player(1))

    with pytest.raises(WorkflowBlockedError):
        Run(code)


# -- signals -------------------------------------------------------------------------------------


def test_signals_are_kept_from_the_start() -> None:
    """What comes early waits for the code, first in first out, by name."""

    async def code(ctx: WorkflowContext) -> list[Any]:
        await ctx.sleep(60)
        return [(await ctx.wait_for_signal(name)).payload for name in ("a", "b", "a")]

    run = Run(code)
    for name, payload in [("a", 1), ("a", 2), ("b", 3), ("unknown", 4)]:
        assert run.signal(name, payload) == []
    assert briefs(run.fire()) == [("complete", [1, 3, 2])]
    assert run.replay() == []


def test_waiters_are_served_in_order() -> None:
    """Who waits longest gets the next one, and nobody overtakes."""

    async def code(ctx: WorkflowContext) -> list[Any]:
        async def take(name: str) -> tuple[str, Any]:
            return name, (await ctx.wait_for_signal("item")).payload

        return list(await asyncio.gather(*(take(name) for name in "abc")))

    run = Run(code)
    for number in range(3):
        run.signal("item", number)
    assert run.result == [["a", 0], ["b", 1], ["c", 2]]
    assert run.replay() == []


class Waiters:
    """Tasks on one buffer, and a loop that has not run yet: several things at one moment."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.buffer = SignalBuffer()
        self.taken: list[str] = []
        self.tasks = {name: self.clock.create(self._take(name)) for name in names}
        self.clock.run_ready()

    async def _take(self, name: str) -> None:
        signal = await self.buffer.take("item", self.clock.loop.create_future)
        self.taken.append(f"{name} {signal.payload}")

    def deliver(self, payload: str) -> None:
        signal = BufferedSignal("item", payload, int(payload), None)
        self.clock.loop.within(self.buffer.deliver, signal)

    def cancel(self, name: str) -> None:
        self.clock.loop.within(self.tasks[name].cancel)


def test_a_late_comer_does_not_overtake() -> None:
    """One that asks while a woken waiter has not run yet does not get that one's signal."""
    waiters = Waiters("first")
    late = waiters.clock.create(waiters._take("late"))
    waiters.deliver("1")
    waiters.clock.run_ready()
    assert waiters.taken == ["first 1"]
    waiters.deliver("2")
    waiters.clock.run_ready()
    assert waiters.taken == ["first 1", "late 2"]
    assert late.done()


def test_a_cancelled_waiter_passes_its_wake_up_on() -> None:
    """Woken and cancelled at one moment it leaves the signal, and the next one is woken."""
    waiters = Waiters("first", "second")
    waiters.deliver("1")
    waiters.cancel("first")
    waiters.clock.run_ready()
    assert waiters.tasks["first"].cancelled()
    assert waiters.taken == ["second 1"]


def test_a_cancelled_waiter_leaves_the_signal() -> None:
    """Where nobody else waits it stays in the buffer, oldest first."""
    waiters = Waiters("first")
    waiters.deliver("1")
    waiters.cancel("first")
    waiters.deliver("2")
    waiters.clock.run_ready()
    assert waiters.taken == []
    [queue] = waiters.buffer._queues.values()
    assert [signal.payload for signal in queue.items] == ["1", "2"]
    waiters.clock.start(waiters._take("later"))
    assert waiters.taken == ["later 1"]


def test_a_waiter_cancelled_before_is_no_longer_asked() -> None:
    """It is out of the queue: the signal goes to the next."""
    waiters = Waiters("first", "second")
    waiters.cancel("first")
    waiters.clock.run_ready()
    waiters.deliver("1")
    waiters.clock.run_ready()
    assert waiters.taken == ["second 1"]


def test_a_waiter_that_leaves_late_takes_nobody_with_it() -> None:
    """Its queue was emptied, and dropped, before it came to leave: whoever waits now is heard."""
    waiters = Waiters("first")
    others = [waiters.clock.create(waiters._take(name)) for name in ("second", "third")]
    waiters.cancel("first")
    waiters.deliver("1")
    waiters.clock.run_ready()
    assert waiters.tasks["first"].cancelled()
    waiters.deliver("2")
    waiters.clock.run_ready()
    assert waiters.taken == ["second 1", "third 2"]
    assert all(other.done() for other in others)
    assert not waiters.buffer._queues


def test_signal_before_its_timeout() -> None:
    """A signal in time wins, and the timer is taken back; late it stays in the buffer."""

    async def code(ctx: WorkflowContext) -> list[Any]:
        seen: list[Any] = []
        for _ in range(2):
            try:
                seen.append((await ctx.wait_for_signal("go", timeout="10s")).payload)
            except SignalTimeoutError as error:
                assert isinstance(error, TimeoutError)
                seen.append(str(error))
                await ctx.execute_activity("remind")
        return seen

    run = Run(code)
    assert briefs(run.fire()) == [("end wait", 1, "timed_out"), ("activity", 3, "remind")]
    run.signal("go", "kept")
    assert briefs(run.complete(3)) == [
        ("complete", ["signal 'go' did not arrive within 10s", "kept"])
    ]
    assert run.replay() == []


def test_a_wait_without_patience() -> None:
    """A timeout of nothing takes what is there, and raises when there is nothing."""

    async def code(ctx: WorkflowContext) -> list[Any]:
        seen: list[Any] = []
        await ctx.sleep(1)
        for _ in range(2):
            try:
                seen.append((await ctx.wait_for_signal("go", timeout=0)).payload)
            except SignalTimeoutError:
                seen.append(None)
        return seen

    run = Run(code)
    run.signal("go", 1)
    run.fire()
    assert run.result == [1, None]
    assert run.replay() == []


def test_payload_of_the_wrong_type() -> None:
    """It raises PayloadTypeError at the wait, and is used up."""

    async def code(ctx: WorkflowContext) -> Any:
        try:
            await ctx.wait_for_signal("go", type=bool)
        except PayloadTypeError as error:
            assert "payload of go" in str(error)
        return (await ctx.wait_for_signal("go", type=bool)).payload

    run = Run(code)
    [wait] = run.commands
    assert wait.expected == "bool"  # type: ignore[union-attr]
    assert json.loads(wait.schema) == {"type": "boolean"}  # type: ignore[union-attr, arg-type]
    run.signal("go", 1)
    run.signal("go", True)
    assert run.result is True


@pytest.mark.parametrize(("name", "shown"), [("", "empty"), (5, "5"), (None, "None")])
def test_a_signal_needs_a_name(name: Any, shown: str) -> None:
    """A wait for nothing fails the run with a clear error."""

    async def code(ctx: WorkflowContext) -> None:
        await ctx.wait_for_signal(name)

    assert Run(code).error.message.startswith(f"name of a signal is {shown} ({__file__}:")
