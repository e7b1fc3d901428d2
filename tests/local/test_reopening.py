"""retry: a run that has ended goes on from what ended it, with what it had, and nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from belugawf import (
    ActivityError,
    ActivityInterruptedError,
    RefusedError,
    RetryPolicy,
    RunParkedError,
    UsageError,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowTimedOutError,
    activity,
    workflow,
)
from belugawf.host.clock import SystemClock
from belugawf.local.executor import LocalExecutor
from belugawf.local.file.database import Database
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.errors import ApplicationError, BusyError
from belugawf.model.history import OpenWork, effective
from belugawf.model.reopening import plan
from belugawf.model.soundness import check_history

# Each call of an activity: its name and argument, attempt, and idempotency key.
CALLS: list[tuple[str, int, str]] = []
# What fails now.
DOWN: set[str] = set()


@pytest.fixture(autouse=True)
def fresh() -> None:
    CALLS.clear()
    DOWN.clear()


@activity
async def do(name: str) -> str:
    info = activity.info()
    CALLS.append((name, info.attempt, info.idempotency_key))
    if name in DOWN:
        raise ValueError(f"{name} is down")
    return name


def names() -> list[str]:
    return [name for name, _, _ in CALLS]


def opened(place: Path, *workflows: Callable[..., Any]) -> LocalExecutor:
    return LocalExecutor(place / "state.db", list(workflows))


async def fails(executor: LocalExecutor, code: Callable[..., Any], **options: Any) -> str:
    """Start it as "r" and wait until it has failed; the error's message."""
    handle = await executor.execute(code, id="r", **options)
    with pytest.raises(WorkflowFailedError) as caught:
        await handle.result()
    return caught.value.message


async def sound(executor: LocalExecutor) -> Sequence[e.Event]:
    """Its history, which is as the engine writes it, and folds to what is open."""
    history = await executor.history("r")
    check_history(history)
    return history


@workflow
async def two_steps(ctx: WorkflowContext) -> str:
    one = await ctx.execute_activity(do, "pay")
    two = await ctx.execute_activity(do, "ship", retry=RetryPolicy(2, "10ms"))
    return f"{one}, {two}"


async def test_what_failed_is_done_again_and_nothing_else(tmp_path: Path) -> None:
    """With as many attempts as its policy has, numbers that go on, and the same key; twice."""
    DOWN.add("ship")
    async with opened(tmp_path, two_steps) as executor:
        await fails(executor, two_steps)
        await executor.retry("r", reason="once more", by="ada")
        with pytest.raises(WorkflowFailedError):
            await executor.result_of("r")
        DOWN.clear()
        info = await executor.retry("r")
        assert (info.status, info.error, info.closed_at) == ("running", None, None)
        assert await executor.result_of("r") == "pay, ship"
        history = await sound(executor)
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        states = db.execute("SELECT activity, state FROM activities_view ORDER BY seq").fetchall()
        left_out = db.execute("SELECT count(*) FROM events_view WHERE NOT counts").fetchone()[0]
    assert states == [("do", "completed"), ("do", "completed")]
    assert left_out == len(history) - len(effective(history))
    assert names() == ["pay", *["ship"] * 5]
    assert [attempt for name, attempt, _ in CALLS if name == "ship"] == [1, 2, 3, 4, 5]
    assert len({key for name, _, key in CALLS if name == "ship"}) == 1
    reopened = [event for event in history if isinstance(event, e.RunReopened)]
    assert [(event.reason, event.sender) for event in reopened] == [
        ("once more", "ada"),
        (None,) * 2,
    ]


async def test_another_process_goes_on_with_it(tmp_path: Path) -> None:
    """The history is replayed without what does not count, also after the next end."""
    DOWN.add("ship")
    async with opened(tmp_path, two_steps) as executor:
        await fails(executor, two_steps)
        await executor.retry("r", drive=False)
        assert (await executor.describe("r")).status == "running"
    DOWN.clear()
    async with opened(tmp_path, two_steps) as executor:
        await executor.resume()
        assert await executor.result_of("r") == "pay, ship"
        assert await executor.query("r", "status") == "completed"
    assert names().count("pay") == 1


@workflow
async def catching(ctx: WorkflowContext) -> str:
    try:
        await ctx.execute_activity(do, "ship")
    except ActivityError as error:
        raise ApplicationError("no parcel today") from error
    return "sent"


async def test_an_error_of_its_own_that_an_activity_led_to(tmp_path: Path) -> None:
    """The last fact is the activity's failure: that is what is tried again."""
    DOWN.add("ship")
    async with opened(tmp_path, catching) as executor:
        assert "no parcel" in await fails(executor, catching)
        DOWN.clear()
        await executor.retry("r")
        assert await executor.result_of("r") == "sent"
    assert names() == ["ship", "ship"]


def deciding(raises: bool) -> Callable[..., Any]:
    @workflow(name="deciding")
    async def code(ctx: WorkflowContext) -> str:
        answer = await ctx.execute_activity(do, "ask")
        if raises:
            raise ValueError(answer)
        return str(answer)

    return code


async def test_an_error_of_its_own(tmp_path: Path) -> None:
    """The end of the activity before is applied once more, to code that is better now."""
    wrong = deciding(True)
    async with opened(tmp_path, wrong) as executor:
        await fails(executor, wrong)
        await executor.retry("r")
        with pytest.raises(WorkflowFailedError):
            await executor.result_of("r")
    async with opened(tmp_path, deciding(False)) as executor:
        await executor.retry("r")
        assert await executor.result_of("r") == "ask"
        await sound(executor)
    assert names() == ["ask"]


@workflow
async def failing_at_once(ctx: WorkflowContext) -> str:
    if "start" in DOWN:
        raise ValueError("not yet")
    return str(await ctx.execute_activity(do, "work"))


async def test_a_run_that_failed_in_its_first_turn(tmp_path: Path) -> None:
    """Its code begins anew."""
    DOWN.add("start")
    async with opened(tmp_path, failing_at_once) as executor:
        await fails(executor, failing_at_once)
        DOWN.clear()
        await executor.retry("r")
        assert await executor.result_of("r") == "work"
        await sound(executor)


@workflow
async def fan_out(ctx: WorkflowContext) -> list[str]:
    tasks = [ctx.start_activity(do, name) for name in "abc"]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    for one in done:
        if isinstance(one, BaseException):
            raise one
    return [str(one) for one in done]


async def test_a_fan_out_with_later_completions(tmp_path: Path) -> None:
    """What completed after the failure is kept."""
    DOWN.add("a")
    async with opened(tmp_path, fan_out) as executor:
        await fails(executor, fan_out)
        DOWN.clear()
        await executor.retry("r")
        assert await executor.result_of("r") == ["a", "b", "c"]
        await sound(executor)
    assert sorted(names()) == ["a", "a", "b", "c"]


@workflow
async def grouped(ctx: WorkflowContext) -> str:
    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(ctx.execute_activity(do, name))
    return "all"


async def test_a_group_of_failures(tmp_path: Path) -> None:
    """Each that left the code in the group is tried again."""
    DOWN.update("ab")
    async with opened(tmp_path, grouped) as executor:
        await fails(executor, grouped)
        DOWN.clear()
        await executor.retry("r")
        assert await executor.result_of("r") == "all"
        await sound(executor)


@workflow
async def tolerant(ctx: WorkflowContext) -> str:
    tasks = [ctx.start_activity(do, name, retry=RetryPolicy(2, "10ms")) for name in ("last", "odd")]
    odd = await asyncio.gather(tasks[1], return_exceptions=True)
    return f"{await tasks[0]} {type(odd[0]).__name__}"


async def test_a_failure_that_the_code_took_is_kept(tmp_path: Path) -> None:
    """It came after the point, and is no cause: it counts as it was, whatever its policy."""
    DOWN.update(("last", "odd"))
    async with opened(tmp_path, tolerant) as executor:
        await fails(executor, tolerant)
        DOWN.clear()
        await executor.retry("r")
        assert await executor.result_of("r") == "last ActivityError"
        await sound(executor)
    assert names().count("odd") == 2


@workflow
async def signalled(ctx: WorkflowContext) -> list[Any]:
    await ctx.execute_activity(do, "first")
    seen = [(await ctx.wait_for_signal("go")).payload for _ in range(2)]
    await ctx.execute_activity(do, "last")
    return [*seen, (await ctx.wait_for_signal("late")).payload]


async def test_signals_are_kept(tmp_path: Path) -> None:
    """Those that it had read after the point, and one that came too late to be read."""
    DOWN.add("first")
    async with opened(tmp_path, signalled) as executor:
        await fails(executor, signalled)
        DOWN.clear()
        DOWN.add("last")
        await executor.retry("r")
        await executor.signal("r", "go", 1)
        await executor.signal("r", "late", 3)
        await executor.signal("r", "go", 2)
        with pytest.raises(WorkflowFailedError):
            await executor.result_of("r")
        DOWN.clear()
        # From before the waits on.
        await executor.retry("r", from_position=2)
        assert await executor.result_of("r") == [1, 2, 3]
        history = await sound(executor)
    sent = [event for event in effective(history) if isinstance(event, e.SignalReceived)]
    assert [(event.name, event.unread) for event in sent] == [
        ("go", False),
        ("late", False),
        ("go", False),
    ]


@workflow
async def slow(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(do, "work")
    return str((await ctx.wait_for_signal("go")).payload)


async def test_a_run_that_timed_out(tmp_path: Path) -> None:
    """It goes on where it was, with no deadline, or with another."""
    async with opened(tmp_path, slow) as executor:
        handle = await executor.execute(slow, id="r", timeout="100ms")
        with pytest.raises(WorkflowTimedOutError):
            await handle.result()
        assert (await executor.retry("r", timeout="100ms")).deadline is not None
        with pytest.raises(WorkflowTimedOutError):
            await handle.result()
        assert (await executor.retry("r")).deadline is None
        assert len(await executor.waiting()) == 1
        await executor.signal("r", "go", "at last")
        assert await handle.result() == "at last"
        await sound(executor)
    assert names() == ["work"]


@workflow
async def cleaning_up(ctx: WorkflowContext) -> str:
    try:
        return str((await ctx.wait_for_signal("go")).payload)
    except asyncio.CancelledError:
        await ctx.execute_activity(do, "clean up")
        raise


async def test_a_run_that_was_cancelled(tmp_path: Path) -> None:
    """It goes on as if it had not been; what it did since is named, unless that is right."""
    async with opened(tmp_path, cleaning_up) as executor:
        await executor.execute(cleaning_up, id="r")
        await executor.wait("r", until="waiting")
        await executor.cancel("r")
        await executor.wait("r")
        with pytest.raises(RefusedError, match=r"do \(event \d+\)"):
            await executor.retry("r")
        assert (await executor.describe("r")).status == "cancelled"
        info = await executor.retry("r", discard=True)
        assert not info.cancel_requested
        await executor.signal("r", "go", "on")
        assert await executor.result_of("r") == "on"
        await sound(executor)


@workflow
async def compensating(ctx: WorkflowContext) -> str:
    await ctx.execute_activity(do, "pay")
    try:
        return str(await ctx.execute_activity(do, "ship"))
    except ActivityError:
        await ctx.execute_activity(do, "refund")
        raise


async def test_a_run_that_has_compensated(tmp_path: Path) -> None:
    """It is not taken up again by accident: the money is back."""
    DOWN.add("ship")
    async with opened(tmp_path, compensating) as executor:
        await fails(executor, compensating)
        before = await executor.history("r")
        with pytest.raises(RefusedError, match="its code would not know of that"):
            await executor.retry("r")
        assert await executor.history("r") == before
        DOWN.clear()
        await executor.retry("r", from_position=2)  # the payment, anew
        assert await executor.result_of("r") == "ship"
        await sound(executor)
    assert names() == ["pay", "ship", "refund", "pay", "ship"]


@workflow
async def sleeping(ctx: WorkflowContext) -> str:
    nap = asyncio.create_task(ctx.sleep("50ms"))
    await ctx.execute_activity(do, "work")
    await nap
    return "slept"


async def test_timers_are_open_again(tmp_path: Path) -> None:
    """One that was due meanwhile is due at once."""
    DOWN.add("work")
    async with opened(tmp_path, sleeping) as executor:
        await fails(executor, sleeping)
        DOWN.clear()
        await executor.retry("r")
        assert await executor.result_of("r") == "slept"
        await sound(executor)


async def test_what_is_not_taken_up_again(tmp_path: Path) -> None:
    """Runs that completed, were terminated, go on by themselves, or have a successor."""
    async with opened(tmp_path, two_steps, slow) as executor:
        await (await executor.execute(two_steps, id="r")).result()
        with pytest.raises(RefusedError, match="completed") as caught:
            await executor.retry("r")
        assert "rerun r" in (caught.value.hint or "")
        await executor.execute(slow, id="t")
        await executor.wait("t", until="waiting")
        with pytest.raises(RefusedError, match="has not ended"):
            await executor.retry("t")
        await executor.terminate("t")
        with pytest.raises(RefusedError, match="was terminated"):
            await executor.retry("t")
        first = await executor.describe("t")
        DOWN.add("work")
        failed = await executor.execute(slow, id="u")
        with pytest.raises(WorkflowFailedError):
            await failed.result()
        await executor.execute(slow, id="u", if_exists="replace", detach=True)
        with pytest.raises(RefusedError, match="not the last one"):
            await executor.retry(failed.run_id)
        with pytest.raises(UsageError, match="no event 99"):
            DOWN.add("ship")
            await executor.execute(two_steps, id="v")
            await executor.wait("v")
            await executor.retry("v", from_position=99)
        assert (await executor.describe("t")) == first


def typo(wrong: bool) -> Callable[..., Any]:
    @workflow(name="typo")
    async def code(ctx: WorkflowContext) -> str:
        paid = await ctx.execute_activity(do, "pay")
        try:
            await ctx.execute_activity(do, "ship")
        except ActivityError:
            await ctx.execute_activity(do, "tell")
        if wrong:
            return pade  # type: ignore[name-defined,no-any-return] # noqa: F821
        return f"{paid}!"

    return code


async def test_a_parked_run(tmp_path: Path) -> None:
    """Once its code is mended it goes on; from an earlier event, if that is named."""
    DOWN.add("ship")
    wrong = typo(True)
    async with opened(tmp_path, wrong) as executor:
        handle = await executor.execute(wrong, id="r")
        with pytest.raises(RunParkedError, match="pade"):
            await handle.result()
        with pytest.raises(RunParkedError):
            await executor.wait("r")
        assert (await executor.describe("r")).waiting_for == ()
        await executor.retry("r")
        with pytest.raises(RunParkedError):
            await handle.result()
    DOWN.clear()
    async with opened(tmp_path, typo(False)) as executor:
        history = await executor.history("r")
        (failed,) = [event for event in history if isinstance(event, e.ActivityFailed)]
        await executor.retry("r", from_position=failed.position)
        assert await executor.result_of("r") == "pay!"
        work = OpenWork.of(effective(await sound(executor)))
    assert work.closed
    assert names() == ["pay", "ship", "tell", "ship"]


async def test_a_deadline_of_a_parked_run(tmp_path: Path) -> None:
    """It ends, without its code, and says why it was parked; then it can be taken up again."""
    wrong = typo(True)
    async with opened(tmp_path, wrong) as executor:
        handle = await executor.execute(wrong, id="r", timeout="200ms")
        with pytest.raises((RunParkedError, WorkflowTimedOutError)):
            await handle.result()
        async with asyncio.timeout(30):
            while (await executor.describe("r")).open:
                await executor.resume("r")
        info = await executor.describe("r")
    assert info.status == "timed_out"
    assert info.error is not None
    assert "pade" in info.error.message
    async with opened(tmp_path, typo(False)) as executor:
        await executor.retry("r")
        assert await executor.result_of("r") == "pay!"
        await sound(executor)
    assert names() == ["pay", "ship"]


@activity(at_most_once=True)
async def pay_once(how: str) -> str:
    CALLS.append(("pay_once", activity.info().attempt, activity.info().idempotency_key))
    if how in DOWN:
        raise ValueError("declined")
    if how == "slow":
        await asyncio.Event().wait()
    return how


@activity
async def fail_beside() -> None:
    while not CALLS:
        await asyncio.sleep(0.01)  # until the other one has begun
    raise ValueError("down")


@workflow
async def once_beside(ctx: WorkflowContext) -> None:
    """It is in the middle of that when something else fails."""
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.execute_activity(pay_once, "slow"))
        group.create_task(ctx.execute_activity(fail_beside))


@workflow
async def once_in_time(ctx: WorkflowContext) -> str:
    return await ctx.execute_activity(pay_once, "slow", timeout="50ms")


@activity(at_most_once=True, isolation="process")
def pay_and_die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@workflow
async def once_killed(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(pay_and_die)


@workflow
async def once_declined(ctx: WorkflowContext) -> str:
    return await ctx.execute_activity(pay_once, "declined")


async def test_at_most_once_beside_what_failed(tmp_path: Path) -> None:
    """It was in the middle of that, and its code is told: it does not begin again."""
    async with opened(tmp_path, once_beside) as executor:
        await fails(executor, once_beside)
        await executor.retry("r")
        with pytest.raises(WorkflowFailedError):
            await executor.result_of("r")
        await sound(executor)
    assert names() == ["pay_once"]


@pytest.mark.parametrize("code", [once_in_time, once_killed])
async def test_at_most_once(code: Callable[..., Any], tmp_path: Path) -> None:
    """What may have been done does not begin again unless that is wanted."""
    async with opened(tmp_path, code) as executor:
        await fails(executor, code)
    async with opened(tmp_path, code) as executor:
        with pytest.raises(RefusedError, match=r"at most once.*pay_\w+ \(event 2\)") as caught:
            await executor.retry("r")
        assert "--yes" in str(caught.value.hint)
        assert (await executor.describe("r")).status == "failed"
        await executor.retry("r", discard=True, drive=False)
        history = await sound(executor)
    assert len([event for event in history if isinstance(event, e.AttemptStarted)]) == 1


async def test_at_most_once_that_says_how_it_ended(tmp_path: Path) -> None:
    """It has failed: nobody need be asked."""
    DOWN.add("declined")
    async with opened(tmp_path, once_declined) as executor:
        await fails(executor, once_declined)
        DOWN.clear()
        await executor.retry("r")
        assert await executor.result_of("r") == "declined"
        await sound(executor)


@activity
async def page_by_page() -> int:
    begin = activity.info().heartbeat_details or 0
    activity.heartbeat(begin + 1)
    if "pages" in DOWN:
        raise ValueError("no more today")
    return int(begin)


@workflow
async def paging(ctx: WorkflowContext) -> int:
    return await ctx.execute_activity(page_by_page, retry=RetryPolicy(2, "10ms"))


async def test_what_it_has_reported(tmp_path: Path) -> None:
    """The next attempt goes on from there."""
    DOWN.add("pages")
    async with opened(tmp_path, paging) as executor:
        await fails(executor, paging)
        DOWN.clear()
        await executor.retry("r")
        assert await executor.result_of("r") == 2


@workflow
async def telling(ctx: WorkflowContext) -> str:
    try:
        await ctx.execute_activity(do, "pay")
    except ActivityError:
        with suppress(ActivityError):
            await ctx.execute_activity(tell)
        raise
    return str(await ctx.execute_activity(do, "ship"))


@activity
async def tell() -> None:
    CALLS.append(("tell", activity.info().attempt, activity.info().idempotency_key))
    raise ValueError("nobody listens")


async def test_another_activity_in_the_same_place(tmp_path: Path) -> None:
    """It has another key than what was there before: it is another effect."""
    DOWN.add("pay")
    async with opened(tmp_path, telling) as executor:
        await fails(executor, telling)
        DOWN.clear()
        await executor.retry("r")
        assert await executor.result_of("r") == "ship"
    keys = {name: key for name, _, key in CALLS}
    assert names() == ["pay", "tell", "pay", "ship"]
    assert len(set(keys.values())) == 3


async def test_a_thread_that_still_works_for_it(tmp_path: Path) -> None:
    """Its effects may still come: the run is not taken up beside it."""
    may_end = threading.Event()

    @activity
    def stubborn() -> None:
        CALLS.append(("stubborn", activity.info().attempt, ""))
        may_end.wait()

    @workflow
    async def impatient(ctx: WorkflowContext) -> str:
        await ctx.execute_activity(stubborn, timeout="100ms")
        return "done"

    async with opened(tmp_path, impatient) as executor:
        await fails(executor, impatient)
        with pytest.raises(BusyError, match="still works"):
            await executor.retry("r")
        may_end.set()
        async with asyncio.timeout(30):
            while True:
                try:
                    await executor.retry("r")
                    break
                except BusyError:
                    await asyncio.sleep(0.05)  # until the thread's end is seen
        assert await executor.result_of("r") == "done"
    assert names() == ["stubborn", "stubborn"]


@workflow
async def wrong_at_once(ctx: WorkflowContext) -> str:
    return started  # type: ignore[name-defined,no-any-return] # noqa: F821


async def test_a_run_that_has_asked_for_nothing(tmp_path: Path) -> None:
    """It was parked in its first turn; by default, and from its only event."""
    async with opened(tmp_path, wrong_at_once) as executor:
        await executor.execute(wrong_at_once, id="r")
        for position in (None, 1):
            with pytest.raises(RunParkedError):
                await executor.wait("r")
            await executor.retry("r", from_position=position)
        await sound(executor)


@activity(retry=RetryPolicy(2, "10ms"))
async def hanging() -> str:
    """Its first attempt fails, the second hangs."""
    attempt = activity.info().attempt
    CALLS.append(("hanging", attempt, ""))
    if attempt == 2:
        await asyncio.Event().wait()
    elif attempt == 1:
        raise ValueError("once more")
    return "done"


@workflow
async def hangs(ctx: WorkflowContext) -> str:
    return str(await ctx.execute_activity(hanging))


async def test_an_attempt_that_was_at_work_when_the_time_was_over(tmp_path: Path) -> None:
    """Its number is not given again."""
    async with opened(tmp_path, hangs) as executor:
        handle = await executor.execute(hangs, id="r", timeout="300ms")
        with pytest.raises(WorkflowTimedOutError):
            await handle.result()
        await executor.retry("r")
        assert await handle.result() == "done"
        await sound(executor)
    assert [attempt for _, attempt, _ in CALLS] == [1, 2, 3]


@activity(at_most_once=True)
async def only_once() -> None:
    CALLS.append(("only_once", activity.info().attempt, ""))
    await asyncio.Event().wait()


@workflow
async def careful(ctx: WorkflowContext) -> str:
    try:
        await ctx.execute_activity(only_once)
    except ActivityInterruptedError as error:
        return str(error.cause.message if error.cause else "")
    return "done"


@pytest.mark.parametrize("cancel", [False, True], ids=["timed out", "cancelled"])
async def test_what_may_run_only_once(tmp_path: Path, cancel: bool) -> None:
    """It had begun, and nobody knows how it would have ended: the code decides."""
    async with opened(tmp_path, careful) as executor:
        handle = await executor.execute(careful, id="r", timeout=None if cancel else "300ms")
        async with asyncio.timeout(30):
            while not CALLS:
                await asyncio.sleep(0.01)  # until it has begun
        if cancel:
            await executor.cancel("r")
        await executor.wait("r")
        await executor.retry("r")
        assert "taken up again after it had begun" in await handle.result()
        await sound(executor)
    assert names() == ["only_once"]


def test_from_what_an_end_left_unread() -> None:
    """A note within the answer that ended the run: it goes on from what was answered."""
    run = e.WorkflowStarted(
        position=1, time=1, name="flow", workflow_id="r", run_id="r", payload="null", deadline=None
    )
    history = [
        run,
        e.WaitStarted(position=2, time=1, seq=1, name="go"),
        e.CancelRequested(position=3, time=2, at=2),
        e.WaitEnded(position=4, time=2, seq=1, outcome="cancelled"),
        *(
            e.SignalReceived(position=p, time=2, at=2, name="go", payload="1", unread=True)
            for p in (5, 6)
        ),
        e.WorkflowCancelled(position=7, time=2),
    ]
    for position in (5, 6, 7):
        planned = plan(history, 1, position)
        assert (planned.to, len(planned.signals)) == (2, 2)
    timed_out = [*history[:2], *(replace(x, position=x.position - 2) for x in history[4:6])]
    timed_out.append(e.WorkflowTimedOut(position=5, time=2, at=2))
    for position in (3, 4, 5):
        planned = plan(timed_out, 1, position)
        assert (planned.to, len(planned.signals)) == (2, 2)


def test_code_that_never_ran() -> None:
    """It begins anew also where an earlier retry counts: that is only a note."""
    run = e.WorkflowStarted(
        position=1, time=1, name="flow", workflow_id="r", run_id="r", payload="null", deadline=None
    )
    history = [
        run,
        e.RunReopened(position=2, time=2, to=1, deadline=3),
        e.SignalReceived(position=3, time=3, at=2, name="go", payload="1", unread=True),
        e.WorkflowTimedOut(position=4, time=3, at=3),
    ]
    for position in (None, 3, 4):
        assert not plan(history, 1, position).code_started
    waits = [*history[:2], e.WaitStarted(position=3, time=2, seq=1, name="go")]
    assert plan(waits, 1, None).code_started


def test_a_completion_counts_however_often_a_run_is_taken_up_again() -> None:
    """A request to cancel came in the same turn as its end, which had been put back once."""
    scheduled = e.ActivityScheduled(position=2, time=1, seq=1, name="do", payload="[]")
    history = [
        e.WorkflowStarted(
            position=1, time=1, name="f", workflow_id="r", run_id="r", payload="null", deadline=None
        ),
        scheduled,
        e.ActivityCompleted(position=3, time=2, seq=1, payload="7", at=2, attempt=1),
        e.RunReopened(position=4, time=2, to=2, attempts={"1": 1}),
        e.CancelRequested(position=5, time=3, at=1),
        e.ActivityCancelRequested(position=6, time=3, seq=1),
        e.WorkflowCancelled(position=7, time=3),
    ]
    planned = plan(history, 1, None)
    assert [(end.status, end.result) for end in planned.ends] == [("completed", "7")]
    assert planned.attempts == {"1": 1}


def listening(wrong: bool) -> Callable[..., Any]:
    @workflow(name="listening")
    async def code(ctx: WorkflowContext) -> list[Any]:
        took = [(await ctx.wait_for_signal("go")).payload for _ in range(2)]
        if wrong:
            raise NameError("took")
        return took

    return code


async def parked_by_the_second(executor: LocalExecutor) -> e.SignalReceived:
    """The signal that was read, by a run that another one has parked."""
    await executor.execute("listening", id="r")
    for payload in (1, 2):
        await executor.signal("r", "go", payload, drive=False)
        with suppress(RunParkedError):
            await executor.resume("r")
    assert (await executor.describe("r")).problem is not None
    (read,) = [x for x in await executor.history("r") if isinstance(x, e.SignalReceived)]
    return read


async def test_signals_of_one_moment_stay_in_order(tmp_path: Path) -> None:
    """One that had been read goes back before one that had not; a clock set back has one moment."""
    place, clock = tmp_path / "state.db", SimpleNamespace(now=lambda: 1_800_000_000_000_000_000)
    async with LocalExecutor(place, [listening(True)], clock=clock) as executor:
        read = await parked_by_the_second(executor)
    async with LocalExecutor(place, [listening(False)], clock=clock) as executor:
        await executor.retry("r", from_position=read.position)
        assert await executor.result_of("r") == [1, 2]
        await sound(executor)


async def test_a_retry_while_its_history_is_read(tmp_path: Path) -> None:
    """Nobody has the run yet: who was about to move it on looks once more, and no bug is logged."""
    async with opened(tmp_path, listening(True)) as executor:
        read = await parked_by_the_second(executor)
    database = Database(tmp_path / "state.db")
    other, retried = Store(database, SystemClock()), []
    async with opened(tmp_path, listening(False)) as executor:
        history = executor._store.counting_history

        def reading(run: int, *position: int) -> list[e.Event]:
            if not retried:
                more: Any = {"timeout_ns": None, "discard": True, "reason": None, "sender": None}
                retried.append(other.reopen(run, read.position, is_alive=lambda _: True, **more))
            return history(run, *position)

        executor._store.counting_history = reading  # type: ignore[method-assign]
        await executor.resume("r")
        assert await executor.result_of("r") == [1, 2]
        await sound(executor)
    assert retried
    database.close()
