"""Scenarios 6 to 8 and 10 to 16: processes die, and nothing is lost or done twice."""

from __future__ import annotations

import json
import signal
import time
from functools import partial

import pytest

from tests.conformance.harness import Project, seconds, wait_for

STEPS = """
    @activity
    def step_a() -> str:
        note("a")
        return "a"


    @activity
    def step_b(before: str) -> str:
        note("b")
        pass_gate("b")
        return before + "b"


    @activity
    def step_c(before: str) -> str:
        note("c")
        return before + "c"


    @workflow
    async def steps(ctx: WorkflowContext) -> str:
        text = await ctx.execute_activity(step_a)
        text = await ctx.execute_activity(step_b, text)
        return await ctx.execute_activity(step_c, text)
"""


def test_06_kill_in_an_activity(project: Project) -> None:
    """Killed in B of A, B, C: A ran once, B was started twice, C ran once, the result is right."""
    project.write_module("steps", STEPS)
    driver = project.start("run", "steps", "--id", "steps")
    wait_for(lambda: project.count("b") == 1, "B runs", process=driver)
    driver.kill()
    project.open_gate("b")
    shown = project.finish("steps", check=0)
    assert (shown["status"], shown["result"]) == ("completed", "abc")
    assert project.log() == ["a", "b", "b", "c"]


def test_07_kill_between_record_and_start(project: Project) -> None:
    """Killed after B's result was recorded and before C started: A and B ran once."""
    project.write_module(
        "steps",
        STEPS.replace(
            "return await ctx.execute_activity(step_c",
            "await ctx.sleep(4)\n        return await ctx.execute_activity(step_c",
        ),
    )
    project.open_gate("b")
    driver = project.start("run", "steps", "--id", "steps")
    wait_for(
        lambda: project.count("b") == 1 and len(project.events("steps", "ActivityCompleted")) == 2,
        "B is recorded",
        process=driver,
    )
    driver.kill()
    shown = project.finish("steps", check=0)
    assert (shown["status"], shown["result"]) == ("completed", "abc")
    assert project.log() == ["a", "b", "c"]


START_AND_DIE = """
    import asyncio, os, signal, sys
    from belugawf import new_executor

    async def main():
        provider = os.environ.get("BELUGAWF_PROVIDER", "default")
        where = {"db": ".belugawf/state.db"} if provider == "default" else {}
        async with new_executor(provider, workflows="workflows", **where) as executor:
            await executor.execute("steps", id="steps")
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


def test_08_kill_at_once(project: Project) -> None:
    """A start that returned is there, whatever happens to its process in the next instant."""
    project.write_module("steps", STEPS)
    project.open_gate("b")
    project.python(START_AND_DIE, check=-signal.SIGKILL)
    assert project.status("steps")["status"] == "running"
    shown = project.finish("steps", check=0)
    assert (shown["status"], shown["result"]) == ("completed", "abc")


@pytest.mark.slow
def test_08_kill_before_start_returned(project: Project) -> None:
    """A start cut at any moment left a whole run or none."""
    project.write_module("steps", STEPS)
    project.open_gate("b")
    before = time.monotonic()
    project.cli("run", "steps", "--id", "whole", "-d")
    duration = time.monotonic() - before
    assert project.finish("whole", check=0)["result"] == "abc"
    for part in range(1, 9):
        name = f"cut-{part}"
        cut_at = time.monotonic() + duration * part / 8
        driver = project.start("run", "steps", "--id", name, "-d")
        wait_for(partial(_is_past, cut_at))
        driver.kill()
        found = project.cli("status", name, "--json", check=None)
        if found.code == 0:
            assert project.finish(name, check=0)["result"] == "abc"
        else:
            assert found.error["code"] == "run_not_found"
            assert driver.code != 0, "an acknowledged start was lost"


def _is_past(moment: float) -> bool:
    return time.monotonic() >= moment


RETRYING = """
    @activity
    def flaky() -> int:
        attempt = activity.info().attempt
        note(f"attempt {attempt}")
        if attempt < FAILURES + 1:
            raise ConnectionError(f"attempt {attempt} failed")
        return attempt


    @workflow
    async def retrying(ctx: WorkflowContext) -> str:
        policy = RetryPolicy(max_attempts=3, initial_delay=DELAY, backoff_coefficient=1)
        try:
            return f"done in {await ctx.execute_activity(flaky, retry=policy)}"
        except ActivityError as error:
            return f"gave up after {error.attempts}: {error.cause.message}"
"""


def retrying(failures: int, delay: str) -> str:
    return RETRYING.replace("FAILURES", str(failures)).replace("DELAY", repr(delay))


def test_10_kill_during_a_retry_delay(project: Project) -> None:
    """What is left of the delay is waited, not all of it, and the attempts go on counting."""
    project.write_module("retrying", retrying(1, "5s"))
    driver = project.start("run", "retrying", "--id", "retrying")
    wait_for(lambda: project.has_event("retrying", "AttemptFailed"), "it failed", process=driver)
    failed_at = project.time_of("attempt 1")
    wait_for(lambda: time.time() > failed_at + 2.5, process=driver)
    driver.kill()
    resumed_at = time.time()
    shown = project.finish("retrying", check=0)
    assert shown["result"] == "done in 2"
    assert project.log() == ["attempt 1", "attempt 2"]
    assert failed_at + 5 <= project.time_of("attempt 2") < resumed_at + 5


@pytest.mark.local_only
def test_10_kill_during_a_long_retry_delay(project: Project) -> None:
    """An hour's delay keeps its end whatever dies; failures count over processes."""
    project.write_module("retrying", retrying(3, "1h"))
    driver = project.start("run", "retrying", "--id", "retrying")
    wait_for(lambda: project.has_event("retrying", "AttemptFailed"), "it failed", process=driver)
    if driver.alive:
        driver.kill()
    (wait,) = project.status("retrying")["waiting_for"]
    (failed,) = project.events("retrying", "AttemptFailed")
    assert (wait["kind"], wait["state"], wait["until"]) == (
        "activity",
        "retrying",
        failed["retry_at"],
    )
    assert seconds(failed["retry_at"]) - seconds(failed["at"]) == pytest.approx(3600, abs=0.01)

    project.cli("resume", "retrying", clock=1800)
    assert project.log() == ["attempt 1"]
    assert project.status("retrying")["waiting_for"][0]["until"] == failed["retry_at"]

    project.cli("resume", "retrying", clock=3700)
    assert project.log() == ["attempt 1", "attempt 2"]
    project.cli("resume", "retrying", clock=2 * 3700)
    assert project.log() == ["attempt 1", "attempt 2", "attempt 3"]
    assert project.result("retrying") == "gave up after 3: attempt 3 failed"


SLOW = """
    @activity
    def slow() -> str:
        note("start")
        pass_gate("slow")
        note("end")
        return "slow"


    @activity
    def after() -> str:
        note("after")
        return "after"


    @workflow
    async def slowly(ctx: WorkflowContext) -> str:
        return await ctx.execute_activity(slow) + " " + await ctx.execute_activity(after)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_11_interrupt_drains(project: Project, number: int, code: int) -> None:
    """Ctrl-C and SIGTERM let the attempt end and record it; the run goes on at the next resume."""
    project.write_module("slowly", SLOW)
    driver = project.start("run", "slowly", "--id", "slowly")
    wait_for(lambda: project.count("start") == 1, "it runs", process=driver)
    driver.send(number)
    wait_for(lambda: "in flight" in driver.err, "it has heard", process=driver)
    project.open_gate("slow")
    driver.wait(check=code).no_traceback()
    shown = project.status("slowly")
    assert (shown["status"], shown["problem"], shown["error"]) == ("running", None, None)
    assert project.log() == ["start", "end"]
    assert project.finish("slowly", check=0)["result"] == "slow after"
    assert project.log() == ["start", "end", "after"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_11_second_interrupt_cuts(project: Project, number: int, code: int) -> None:
    """A second signal cuts the attempt: interrupted by shutdown, resumable, not failed."""
    project.write_module("slowly", SLOW)
    driver = project.start("run", "slowly", "--id", "slowly")
    wait_for(lambda: project.count("start") == 1, "it runs", process=driver)
    driver.send(number)
    wait_for(lambda: "cuts" in driver.err, "the first signal was heard", process=driver)
    driver.send(number)
    driver.wait(check=code).no_traceback()
    shown = project.status("slowly")
    assert (shown["status"], shown["problem"], shown["error"]) == ("running", None, None)
    assert project.log() == ["start"]
    project.open_gate("slow")
    assert project.finish("slowly", check=0)["result"] == "slow after"
    assert project.log() == ["start", "start", "end", "after"]
    if project.provider.local:
        (interrupted,) = project.events("slowly", "AttemptInterrupted")
        assert interrupted["reason"] == "shutdown"
        assert interrupted.get("crashes", 0) == 0


def test_12_finished_is_finished(project: Project) -> None:
    """Resuming a completed run three times runs nothing and changes nothing."""
    project.write_module("steps", STEPS)
    project.open_gate("b")
    project.cli("run", "steps", "--id", "steps")
    before = project.history("steps")
    for _ in range(3):
        project.cli("resume", "steps")
        project.cli("resume")
    assert project.log() == ["a", "b", "c"]
    assert project.history("steps") == before


MANY = """
    @activity
    async def piece(run: int, number: int) -> int:
        note(f"{run}/{number}")
        await asyncio.sleep(0.01)
        return number


    @workflow
    async def many(ctx: WorkflowContext, run: int) -> int:
        return sum(await asyncio.gather(
            *(ctx.execute_activity(piece, run, number) for number in range(3))
        )) + await ctx.execute_activity(piece, run, 3)
"""


@pytest.mark.local_only
def test_13_two_resumers_at_once(project: Project) -> None:
    """Two resumes over the same twenty runs execute every activity once."""
    project.write_module("many", MANY)
    for run in range(20):
        project.cli("run", "many", "-i", str(run), "--id", f"many-{run}", "-d")
    resumers = [project.start("resume"), project.start("resume")]
    for resumer in resumers:
        resumer.wait()
    assert_every_piece_once(project, 20)


@pytest.mark.local_only
def test_13_resume_beside_a_worker(project: Project) -> None:
    """Cron's resume beside a live worker: every activity once."""
    project.write_module("many", MANY)
    worker = project.start("worker")
    for run in range(8):
        project.cli("run", "many", "-i", str(run), "--id", f"many-{run}", "-d")
        project.cli("resume")
    wait_for(lambda: len(project.cli("list", "--json", "--status", "completed").json) == 8)
    worker.send(signal.SIGTERM)
    worker.wait(check=143).no_traceback()
    assert_every_piece_once(project, 8)


def assert_every_piece_once(project: Project, runs: int) -> None:
    listed = project.cli("list", "--json", "--all").json
    assert {(run["status"], run["result"]) for run in listed} == {("completed", 6)}
    assert sorted(project.log()) == sorted(f"{r}/{n}" for r in range(runs) for n in range(4))


@pytest.mark.local_only
def test_14_frozen_owner(project: Project) -> None:
    """Nobody takes a run from a frozen owner, whom `status` names; once killed, at once."""
    project.write_module("steps", STEPS)
    driver = project.start("run", "steps", "--id", "steps")
    wait_for(lambda: project.count("b") == 1, "B runs", process=driver)
    driver.send(signal.SIGSTOP)
    project.open_gate("b")
    project.cli("resume", check=0)
    project.cli("resume", "steps", check=None)
    assert project.log() == ["a", "b"]
    shown = project.status("steps")
    assert shown["status"] == "running"
    assert shown["owner"]["pid"] == driver.pid
    assert shown["owner"]["alive"] is True
    assert shown["owner"]["frozen"] is True
    assert str(driver.pid) in project.cli("status", "steps").out
    driver.kill()
    assert project.status("steps")["owner"] is None or not project.status("steps")["owner"]["alive"]
    project.cli("resume")
    assert project.result("steps") == "abc"
    assert project.log() == ["a", "b", "b", "c"]


CRASH_LOOP = """
    @activity
    async def beside(number: int) -> int:
        note(f"beside {number}")
        await await_gate("beside")
        return number


    @activity
    async def killer() -> None:
        note("killer")
        if not is_open("beside"):
            while len((ROOT / "activity.log").read_text().splitlines()) < 51:
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)


    @workflow
    async def crashing(ctx: WorkflowContext) -> dict:
        killing = ctx.start_activity(killer)
        numbers = await asyncio.gather(
            *(ctx.execute_activity(beside, number) for number in range(50))
        )
        try:
            await killing
        except ActivityInterruptedError as error:
            return {"sum": sum(numbers), "error": error.activity}
        return {"sum": sum(numbers), "error": None}
"""


def test_15_crash_loop(project: Project) -> None:
    """After `max_crashes` deaths it fails for the workflow; the fifty beside it are not blamed."""
    project.write_module("crashing", CRASH_LOOP)
    driver = project.start("run", "crashing", "--id", "crashing")
    wait_for(lambda: not driver.alive, "it has killed its process")
    driver.kill()
    assert len(project.log()) == 51
    project.open_gate("beside")
    deaths = 1
    while project.status("crashing")["status"] == "running":
        resumed = project.cli("resume", "crashing", check=None, timeout=110)
        if resumed.code == 0:
            break
        assert resumed.code == -signal.SIGKILL, resumed
        deaths += 1
        assert deaths <= 3, "it was tried again after max_crashes deaths"
    # FINDINGS B13
    assert deaths == 2, "the third was to be in a process of its own"
    assert project.count("killer") == 3
    assert project.result("crashing") == {"sum": sum(range(50)), "error": "killer"}
    failed = project.events("crashing", "ActivityFailed")
    assert [json.dumps(event["error"]).count("interrupted") > 0 for event in failed] == [True]


HOSTAGES = """
    @activity
    async def agent(number: int) -> int:
        note(f"agent in {os.getpid()}")
        await await_gate("agents")
        return number


    @activity
    def quick() -> str:
        return "done"


    @workflow
    async def agents(ctx: WorkflowContext) -> int:
        return sum(await asyncio.gather(*(ctx.execute_activity(agent, n) for n in range(AGENTS))))


    @workflow
    async def innocent(ctx: WorkflowContext) -> str:
        return await ctx.execute_activity(quick)
"""


@pytest.mark.parametrize(
    ("agents", "at_once", "concurrency"), [(3, 3, "100"), (2, 1, "2")], ids=["room", "little room"]
)
def test_15_suspects_hold_up_nobody(
    project: Project, agents: int, at_once: int, concurrency: str
) -> None:
    """What was in flight when two workers were killed runs beside all others, and completes."""
    # FINDINGS B13
    project.write_module("hostages", HOSTAGES.replace("AGENTS", str(agents)))
    project.cli("run", "agents", "--id", "agents", "-d")
    for attempts in (agents, 2 * agents):
        worker = project.start("worker", "--concurrency", concurrency)
        wait_for(lambda n=attempts: len(project.log()) == n, "they run", process=worker)
        worker.kill()
    worker = project.start("worker", "--concurrency", concurrency)
    begun = 2 * agents + at_once
    wait_for(lambda: len(project.log()) == begun, "they run again", process=worker)
    project.cli("run", "innocent", "--id", "innocent", "-d")
    wait_for(lambda: project.status("innocent")["status"] == "completed", process=worker)
    assert project.status("agents")["status"] == "running"
    assert len(set(project.log()[2 * agents :])) == at_once, "each in a process of its own"
    project.open_gate("agents")
    wait_for(lambda: project.status("agents")["status"] == "completed", process=worker)
    assert project.result("agents") == sum(range(agents))
    assert len(project.log()) == 3 * agents
    worker.send(signal.SIGTERM)
    worker.wait(check=143)


def test_16_at_most_once(project: Project) -> None:
    """An at-most-once activity that was killed in the middle is not run again."""
    project.write_module(
        "once",
        """
        @activity(at_most_once=True)
        def pay() -> str:
            note("pay")
            pass_gate("pay")
            return "paid"


        @workflow
        async def once(ctx: WorkflowContext) -> str:
            try:
                return await ctx.execute_activity(pay)
            except ActivityInterruptedError as error:
                return f"{error.activity} was interrupted"
        """,
    )
    driver = project.start("run", "once", "--id", "once")
    wait_for(lambda: project.count("pay") == 1, "it runs", process=driver)
    driver.kill()
    project.open_gate("pay")
    shown = project.finish("once", check=0)
    assert (shown["status"], shown["result"]) == ("completed", "pay was interrupted")
    assert project.log() == ["pay"]
