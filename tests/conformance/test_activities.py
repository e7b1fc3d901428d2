"""Scenarios 35 to 39, 44 and 45: attempts, limits and cancellation."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.conformance.harness import Project, is_alive, seconds, wait_for

POLICY = """
    @activity
    def refuse(kind: str) -> None:
        note(f"{kind} {activity.info().attempt} {activity.info().idempotency_key}")
        if kind == "permanent":
            raise ApplicationError("for good", type="Permanent", non_retryable=True)
        if kind == "listed":
            raise KeyError("listed")
        raise ConnectionError("no line")


    @workflow
    async def policy(ctx: WorkflowContext, kind: str) -> list:
        retry = RetryPolicy(
            max_attempts=4,
            initial_delay=0.1,
            backoff_coefficient=3,
            max_delay=0.5,
            non_retryable=["KeyError"],
        )
        try:
            await ctx.execute_activity(refuse, kind, retry=retry)
        except ActivityError as error:
            return [error.activity, error.attempts, error.cause.type, error.cause.message]
"""


def test_35_policy_exact(project: Project) -> None:
    """Four attempts with exactly the policy's delays, one key for all of them."""
    project.write_module("policy", POLICY)
    project.cli("run", "policy", "-i", "temporary", "--id", "p")
    assert project.result("p") == ["refuse", 4, "ConnectionError", "no line"]
    attempts = [line.split() for line in project.log()]
    assert [number for _, number, _ in attempts] == ["1", "2", "3", "4"]
    assert len({key for _, _, key in attempts}) == 1
    stamps = [stamp for stamp, _ in project.timed_log()]
    for earlier, later, delay in zip(stamps, stamps[1:], (0.1, 0.3, 0.5), strict=False):
        assert later - earlier >= delay
    if project.provider.local:
        failures = project.events("p", "AttemptFailed")
        delays = [seconds(e["retry_at"]) - seconds(e["at"]) for e in failures]
        assert delays == pytest.approx([0.1, 0.3, 0.5], abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("permanent", ["Permanent", "for good"]), ("listed", ["KeyError", "'listed'"])],
)
def test_35_non_retryable(project: Project, kind: str, error: list[str]) -> None:
    """An error that is not to be retried ends the activity after one attempt."""
    project.write_module("policy", POLICY)
    project.cli("run", "policy", "-i", kind, "--id", "p")
    assert project.result("p") == ["refuse", 1, *error]
    assert len(project.log()) == 1


LATE = """
    @activity(timeout=0.5)
    async def late_async() -> str:
        note("start")
        try:
            await asyncio.sleep(2)
        except asyncio.CancelledError:
            note("cancelled")
            raise
        note("end")
        return "late"


    @activity(timeout=0.5)
    def late_thread() -> str:
        note("start")
        while not activity.cancelled():
            time.sleep(0.01)
        note("cancelled")
        return "late"


    @activity(timeout=3, isolation="process")
    def late_process() -> str:
        note("start")
        note(f"pid {os.getpid()}")
        pass_gate("late")
        note("end")
        return "late"


    @activity
    def tidy() -> str:
        note("tidy")
        return "tidied"


    @workflow
    async def late(ctx: WorkflowContext, kind: str) -> str:
        try:
            return await ctx.execute_activity({
                "async": late_async, "thread": late_thread, "process": late_process
            }[kind])
        except ActivityTimeoutError as error:
            assert isinstance(error, TimeoutError)
            return f"{error.activity} was late, {await ctx.execute_activity(tidy)}"
"""


@pytest.mark.parametrize("kind", ["async", "thread", "process"])
def test_36_activity_timeout(project: Project, kind: str) -> None:
    """An attempt over its timeout ends, its late result is ignored; a process is really gone."""
    project.write_module("late", LATE)
    done = project.cli("run", "late", "-i", kind, "--id", "late")
    assert done.out.strip() == f"late_{kind} was late, tidied"
    (timed_out,) = project.events("late", "ActivityTimedOut")
    assert timed_out["limit"] == "timeout"
    (completed,) = project.events("late", "ActivityCompleted")
    assert completed["result"] == "tidied"
    assert project.count("start") == 1
    if kind == "process":
        (pid,) = (int(line.split()[1]) for line in project.log() if line.startswith("pid "))
        assert not is_alive(pid)
        project.open_gate("late")
    else:
        assert project.count("cancelled") == 1
    assert project.count("end") == 0
    assert project.history("late")[-1]["type"] == "WorkflowCompleted"


def test_36_thread_that_does_not_listen(project: Project) -> None:
    """The result of a thread that went on after its timeout is ignored for ever."""
    project.write_module(
        "deaf",
        """
        @activity(timeout=0.3)
        def deaf() -> str:
            note("start")
            time.sleep(1.5)
            note("end")
            return "late"


        @workflow
        async def deafly(ctx: WorkflowContext) -> str:
            try:
                return await ctx.execute_activity(deaf)
            except ActivityTimeoutError:
                await ctx.sleep(3)
                return "timed out"
        """,
    )
    done = project.cli("run", "deafly", "--id", "d")
    assert done.out.strip() == "timed out"
    assert project.log() == ["start", "end"]
    assert not project.events("d", "ActivityCompleted")


CLEANUP = """
    @activity
    async def held() -> None:
        note("held")
        await await_gate("held")


    @activity
    async def clean() -> None:
        note("clean")
        await await_gate("clean")
        note("cleaned")


    @workflow
    async def cleaning(ctx: WorkflowContext, in_activity: bool) -> str:
        try:
            if in_activity:
                await ctx.execute_activity(held)
            await ctx.wait_for_signal("go", timeout="24h")
        except asyncio.CancelledError:
            assert ctx.cancel_requested
            await ctx.execute_activity(clean)
            raise
        return "went"
"""


def assert_cancelled(project: Project) -> None:
    """The run is cancelled after exactly one cleanup."""
    shown = wait_for(lambda: _ended(project, "c"), "it has ended")
    assert (shown["status"], shown["problem"]) == ("cancelled", None)
    assert project.count("clean") == 1
    assert project.count("cleaned") == 1
    assert project.history("c")[-1]["type"] == "WorkflowCancelled"
    project.cli("result", "c", check=4)


def _ended(project: Project, run: str) -> dict[str, object] | None:
    shown = project.status(run)
    return None if shown["status"] == "running" else shown


def test_38_cancel_a_wait(project: Project) -> None:
    """Cancelled while nothing runs, in a wait: cleanup runs once; a second cancel is harmless."""
    project.write_module("cleaning", CLEANUP)
    project.open_gate("clean")
    project.cli("run", "cleaning", "-i", "false", "--id", "c")
    project.cli("cancel", "c", "--reason", "not needed")
    assert_cancelled(project)
    (request,) = project.events("c", "CancelRequested")
    assert request["reason"] == "not needed"
    before = project.history("c")
    project.cli("cancel", "c", "--json", check=9)
    assert project.history("c") == before


def test_38_cancel_a_wait_live(project: Project) -> None:
    """Cancelled in a wait under a live worker; a second cancel during cleanup is harmless."""
    project.write_module("cleaning", CLEANUP)
    worker = project.start("worker")
    project.cli("run", "cleaning", "-i", "false", "--id", "c", "-d")
    wait_for(lambda: project.waits("c", "go"), "it waits", process=worker)
    project.cli("cancel", "c")
    wait_for(lambda: project.count("clean") == 1, "it cleans", process=worker)
    project.cli("cancel", "c")
    project.open_gate("clean")
    assert_cancelled(project)
    worker.send(signal.SIGTERM)
    worker.wait(check=143)


def test_38_cancel_an_activity_live(project: Project) -> None:
    """Cancelled during an activity: the `run` that drives it cleans up and exits with 4."""
    project.write_module("cleaning", CLEANUP)
    project.open_gate("clean")
    driver = project.start("run", "cleaning", "-i", "true", "--id", "c")
    wait_for(lambda: project.count("held") == 1, "it is held", process=driver)
    project.cli("cancel", "c")
    driver.wait(check=4).no_traceback()
    assert_cancelled(project)
    assert len(project.events("c", "ActivityCancelRequested")) == 1
    assert project.count("held") == 1


def test_38_cancel_an_activity_while_nothing_runs(project: Project) -> None:
    """Cancelled after its process died in an activity: cleanup once, the activity not again."""
    project.write_module("cleaning", CLEANUP)
    project.open_gate("clean")
    driver = project.start("run", "cleaning", "-i", "true", "--id", "c")
    wait_for(lambda: project.count("held") == 1, "it is held", process=driver)
    driver.kill()
    project.cli("cancel", "c")
    assert_cancelled(project)
    if project.provider.local:
        assert project.count("held") == 1


def test_38_cancel_that_is_swallowed(project: Project) -> None:
    """A run that catches the cancellation and returns is completed; `shielded` runs to its end."""
    project.write_module(
        "swallowing",
        """
        @activity
        async def pieces(number: int) -> int:
            note(f"piece {number}")
            await await_gate(f"piece {number}")
            return number


        async def both(ctx):
            first = await ctx.execute_activity(pieces, 1)
            return first + await ctx.execute_activity(pieces, 2)


        @workflow
        async def swallowing(ctx: WorkflowContext) -> str:
            try:
                await ctx.shielded(both(ctx))
            except asyncio.CancelledError:
                return "returned all the same"
            return "never cancelled"
        """,
    )
    driver = project.start("run", "swallowing", "--id", "s")
    wait_for(lambda: project.count("piece 1") == 1, "it is held", process=driver)
    project.cli("cancel", "s")
    project.open_gate("piece 1")
    wait_for(lambda: project.count("piece 2") == 1, "the shielded part goes on", process=driver)
    project.open_gate("piece 2")
    done = driver.wait(check=0)
    assert done.out.strip() == "returned all the same"
    assert project.status("s")["status"] == "completed"


def test_39_terminate(project: Project) -> None:
    """Terminated while nothing runs: ended at once, and no code of it runs any more."""
    project.write_module("cleaning", CLEANUP)
    project.open_gate("clean")
    project.cli("run", "cleaning", "-i", "false", "--id", "c")
    project.cli("terminate", "c", "--reason", "wrong topic")
    shown = project.status("c")
    assert shown["status"] == "terminated"
    last = project.history("c")[-1]
    assert (last["type"], last["reason"]) == ("WorkflowTerminated", "wrong topic")
    project.cli("resume")
    project.cli("result", "c", check=4)
    project.cli("signal", "go", "c", "--payload", "1", check=9)
    assert project.log() == []


def test_39_terminate_under_a_live_owner(project: Project) -> None:
    """Terminated from outside in the middle of an activity: at once, no cleanup, no later code."""
    project.write_module("cleaning", CLEANUP)
    project.open_gate("clean")
    driver = project.start("run", "cleaning", "-i", "true", "--id", "c")
    wait_for(lambda: project.count("held") == 1, "it is held", process=driver)
    project.cli("terminate", "c")
    assert project.status("c")["status"] == "terminated"
    before = project.history("c")
    project.open_gate("held")
    driver.wait(check=4).no_traceback()
    assert project.history("c") == before
    assert project.log() == ["held"]


@pytest.mark.local_only
def test_44_orphan(project: Project) -> None:
    """The owner is killed while children that it forked live on: its run is taken over at once."""
    project.write_module(
        "forking",
        """
        @activity
        def forking() -> str:
            note("forking")
            if not is_open("forked"):
                child = os.fork()
                if child == 0:
                    time.sleep(120)
                    os._exit(0)
                note(f"pid {child}")
                started = subprocess.Popen(["sleep", "120"], close_fds=False)
                note(f"pid {started.pid}")
                note("forked")
            pass_gate("forked")
            return "forked"


        @workflow
        async def fork(ctx: WorkflowContext) -> str:
            return await ctx.execute_activity(forking)
        """,
    )
    driver = project.start("run", "fork", "--id", "f")
    wait_for(lambda: project.count("forked") == 1, "it has forked", process=driver)
    children = [int(line.split()[1]) for line in project.log() if line.startswith("pid ")]
    try:
        driver.kill()
        assert all(is_alive(pid) for pid in children)
        project.open_gate("forked")
        project.cli("resume", "f")
        assert project.result("f") == "forked"
        assert project.count("forking") == 2
        assert all(is_alive(pid) for pid in children)
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_45_timeout_around_an_activity(project: Project) -> None:
    """`asyncio.timeout` gives TimeoutError; the activity is cancelled, inner cleanup runs."""
    project.write_module(
        "around",
        """
        @activity
        async def slow() -> None:
            note("slow")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                note("slow was cancelled")
                raise
            note("slow ended")


        @activity
        def clean() -> None:
            note("clean")


        async def careful(ctx):
            try:
                await ctx.execute_activity(slow, heartbeat_timeout=None)
            except asyncio.CancelledError:
                await ctx.execute_activity(clean)
                raise


        @workflow
        async def around(ctx: WorkflowContext) -> str:
            try:
                async with asyncio.timeout(1):
                    await careful(ctx)
            except TimeoutError as error:
                return f"{type(error).__name__} {ctx.cancel_requested}"
            return "no timeout"
        """,
    )
    done = project.cli("run", "around", "--id", "a")
    assert done.out.strip() == "TimeoutError False"
    # A worker hears of it with its next heartbeat.
    wait_for(lambda: project.count("slow was cancelled"), "it was told")
    assert sorted(project.log()) == ["clean", "slow", "slow was cancelled"]
    assert len(project.events("a", "ActivityCancelRequested")) == 1
    assert project.status("a")["status"] == "completed"


HEARTBEAT = """
    @activity
    async def reading() -> int:
        details = activity.info().heartbeat_details
        note(f"from {details}")
        if details is None:
            activity.heartbeat({"page": 6})
            activity.heartbeat({"page": 7})
            raise ConnectionError("the line broke")
        return details["page"]


    @activity(heartbeat_timeout=0.7)
    async def falling_silent() -> None:
        for _ in range(5):
            await asyncio.sleep(0.2)
            activity.heartbeat()
        note("silent")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note("ended")
            raise


    @workflow
    async def beating(ctx: WorkflowContext) -> list:
        page = await ctx.execute_activity(reading, retry=RetryPolicy(2, initial_delay=0.05))
        try:
            await ctx.execute_activity(falling_silent)
        except ActivityTimeoutError as error:
            return [page, error.activity]
        return [page, None]
"""


def test_37_heartbeat(project: Project) -> None:
    """Details reach the next attempt; beats keep it alive, and silence over the limit ends it."""
    project.write_module("beating", HEARTBEAT)
    project.cli("run", "beating", "--id", "b")
    assert project.result("b") == [7, "falling_silent"]
    wait_for(lambda: project.count("ended"), "it was ended")
    assert project.log() == ["from None", "from {'page': 7}", "silent", "ended"]
    (timed_out,) = project.events("b", "ActivityTimedOut")
    assert timed_out["limit"] == "heartbeat_timeout"
