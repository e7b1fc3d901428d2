"""Scenarios 32 to 34 and 46: durable time."""

from __future__ import annotations

import time

import pytest

from tests.conformance.harness import Project, seconds, utc_now, wait_for

HOUR = 3600

SLEEPING = """
    @activity
    def woken() -> None:
        note("woken")


    @workflow
    async def sleeping(ctx: WorkflowContext, duration: float) -> str:
        await asyncio.sleep(duration)
        await ctx.execute_activity(woken)
        return "slept"
"""


def kill_asleep(project: Project, duration: float) -> str:
    """Start a sleep, kill its process, and return when it is due."""
    project.write_module("sleeping", SLEEPING)
    driver = project.start("run", "sleeping", "-i", str(duration), "--id", "s")
    wait_for(lambda: project.waits("s"), "it sleeps", process=driver)
    driver.kill()
    (wait,) = project.status("s")["waiting_for"]
    assert wait["kind"] == "timer"
    assert seconds(wait["until"]) - seconds(wait["since"]) == pytest.approx(duration, abs=0.5)
    until: str = wait["until"]
    return until


def test_32_sleep_survives(project: Project) -> None:
    """A sleep that lost its process ends when it would have ended, not a whole sleep later."""
    due_at = seconds(kill_asleep(project, 6))
    wait_for(lambda: time.time() > due_at - 3.5, "some of it has passed")
    resumed_at = time.time()
    shown = project.finish("s", check=0)
    assert shown["result"] == "slept"
    assert due_at <= project.time_of("woken") < resumed_at + 6
    assert project.log() == ["woken"]


def test_32_resumed_late(project: Project) -> None:
    """A sleep that ended while nothing ran is over at once."""
    due_at = kill_asleep(project, 2 if project.provider.local else 6)
    wait_for(lambda: utc_now() > due_at, "it is due")
    shown = project.finish("s", check=0)
    assert shown["result"] == "slept"
    if project.provider.local:
        (fired,) = project.events("s", "TimerFired")
        assert fired["at"] == due_at
        assert fired["time"] > due_at


@pytest.mark.local_only
def test_32_sleep_of_three_weeks(project: Project) -> None:
    """It costs no process, is not due an hour before its end, and is due after it."""
    project.write_module("sleeping", SLEEPING)
    project.cli("run", "sleeping", "-i", str(21 * 24 * HOUR), "--id", "s")
    project.cli("resume", clock=21 * 24 * HOUR - HOUR)
    assert project.log() == []
    project.cli("resume", clock=21 * 24 * HOUR + HOUR)
    assert project.result("s") == "slept"


APPROVAL = """
    @activity
    def remind(number: int) -> None:
        note(f"reminder {number}")


    @workflow
    async def approval(ctx: WorkflowContext) -> str:
        try:
            signal = await ctx.wait_for_signal("approval", timeout="24h")
        except SignalTimeoutError:
            return "Nobody answered."
        return f"approved by {signal.payload}"


    @workflow
    async def reminding(ctx: WorkflowContext) -> str:
        number = 0
        try:
            async with asyncio.timeout(24 * 3600):
                while True:
                    try:
                        signal = await ctx.wait_for_signal("approval", timeout="1h")
                    except SignalTimeoutError:
                        number += 1
                        await ctx.execute_activity(remind, number)
                    else:
                        return f"approved by {signal.payload}"
        except TimeoutError:
            return "Nobody answered."
"""


def start_and_signal(project: Project, workflow: str, hour: float | None) -> None:
    """Start it now, and put a signal down at that hour."""
    project.write_module("approval", APPROVAL)
    project.cli("run", workflow, "--id", "a")
    if hour is not None:
        arguments = ("signal", "approval", "a", "--text", "Ada", "--no-resume")
        project.cli(*arguments, clock=hour * HOUR)


def resume_thrice(project: Project) -> str:
    """Resume at hour 30 and again; the result and the history stay. Returns the result."""
    project.cli("resume", clock=30 * HOUR)
    shown = project.status("a", clock=30 * HOUR)
    assert shown["status"] == "completed", shown
    history, log = project.history("a"), project.log()
    for hour in (30, 31, 100):
        project.cli("resume", "a", clock=hour * HOUR)
    assert project.history("a") == history
    assert project.log() == log
    result: str = shown["result"]
    return result


@pytest.mark.local_only
def test_33_in_time_counts(project: Project) -> None:
    """A signal sent before the deadline wins, although both are found after it."""
    start_and_signal(project, "approval", 23.9)
    assert resume_thrice(project) == "approved by Ada"


@pytest.mark.local_only
def test_33_too_late_is_too_late(project: Project) -> None:
    """A signal sent after the deadline loses to the timeout, although both are found together."""
    start_and_signal(project, "approval", 24.1)
    assert resume_thrice(project) == "Nobody answered."
    (signal,) = project.events("a", "SignalReceived")
    assert signal["payload"] == "Ada"


@pytest.mark.local_only
def test_33_a_reminder_does_not_cost_the_approval(project: Project) -> None:
    """With a reminder loop inside, an approval sent at hour 2 and found at hour 30 is read."""
    start_and_signal(project, "reminding", 2)
    assert resume_thrice(project) == "approved by Ada"
    assert project.log() == ["reminder 1"]


@pytest.mark.local_only
def test_33_nobody_answers_the_reminders(project: Project) -> None:
    """Without an approval the day is over at hour 30, after the one overdue reminder."""
    start_and_signal(project, "reminding", None)
    assert resume_thrice(project) == "Nobody answered."
    assert project.log() == ["reminder 1"]


BACKWARDS = """
    @activity
    def mark(text: str) -> None:
        note(text)


    @workflow
    async def backwards(ctx: WorkflowContext) -> list:
        moments = [ctx.now()]
        first = await ctx.wait_for_signal("go")
        moments.append(ctx.now())
        second = await ctx.wait_for_signal("go")
        moments.append(ctx.now())
        await ctx.execute_activity(mark, "asleep")
        moments.append(ctx.now())
        await ctx.sleep(3)
        moments.append(ctx.now())
        await ctx.execute_activity(mark, "awake")
        in_order = moments == sorted(moments)
        slept = (moments[-1] - moments[-2]).total_seconds()
        return [first.payload, second.payload, in_order, slept]
"""


@pytest.mark.local_only
def test_34_clock_goes_back(project: Project) -> None:
    """The clock goes back an hour: now() never does, a sleep takes its time, signals keep order."""
    project.write_module("backwards", BACKWARDS)
    project.cli("run", "backwards", "--id", "b", clock=HOUR)
    project.cli("signal", "go", "b", "--payload", "1", "--no-resume", clock=HOUR)
    project.cli("signal", "go", "b", "--payload", "2", "--no-resume")
    project.cli("resume", "b")
    first, second, in_order, slept = project.result("b")
    assert (first, second) == (1, 2)
    assert in_order is True
    assert slept >= 0
    assert 3 <= project.time_of("awake") - project.time_of("asleep") < 60
    times = [event["time"] for event in project.history("b")]
    assert times == sorted(times)
    received = [event["at"] for event in project.events("b", "SignalReceived")]
    assert received == sorted(received)


def test_46_short_cron(project: Project) -> None:
    """`resume --max-time` again and again, over a longer activity: it runs once and ends."""
    project.write_module(
        "long",
        """
        @activity
        def long_activity() -> str:
            note("start")
            time.sleep(3)
            note("end")
            return "long"


        @activity
        def short_activity(text: str) -> str:
            note("short")
            return f"{text} short"


        @workflow
        async def long(ctx: WorkflowContext) -> str:
            text = await ctx.execute_activity(long_activity)
            return await ctx.execute_activity(short_activity, text)
        """,
    )
    project.cli("run", "long", "--id", "long", "-d")

    def resumed() -> bool:
        project.cli("resume", "--max-time", "1s")
        return bool(project.status("long")["status"] == "completed")

    wait_for(resumed, "it has completed")
    assert project.result("long") == "long short"
    assert project.log() == ["start", "end", "short"]
