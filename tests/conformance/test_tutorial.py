"""Scenarios 1 to 5: the tutorial."""

from __future__ import annotations

import pytest

from tests.conformance.harness import Project, seconds, utc_now, wait_for

RESEARCH = """
    @activity
    def research(topic: str) -> str:
        note(f"research {topic}")
        return f"findings on {topic}"


    @activity
    def report(findings: str) -> str:
        note("report")
        return f"Report: {findings}"


    @workflow(name="research")
    async def research_report(ctx: WorkflowContext, topic: str) -> str:
        findings = await ctx.execute_activity(
            research, topic, retry=RetryPolicy(max_attempts=3, initial_delay="5s"), timeout="10m"
        )
        approval = await ctx.wait_for_signal("approval", timeout="24h", prompt="Good?")
        if approval.payload is not True:
            return "Workflow rejected by reviewer."
        return await ctx.execute_activity(report, findings, timeout="5m")
"""

NOBODY = """
    @activity
    def tidy(text: str) -> str:
        note(text)
        return text


    @workflow
    async def handled(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_for_signal("approval", timeout=WAIT)
        except SignalTimeoutError as error:
            assert isinstance(error, TimeoutError)
            return await ctx.execute_activity(tidy, "Nobody answered.")
        return "answered"


    @workflow
    async def unhandled(ctx: WorkflowContext) -> str:
        await ctx.wait_for_signal("approval", timeout=WAIT)
        return "answered"
"""


def start_research(project: Project) -> None:
    project.write_module("research", RESEARCH)
    started = project.cli("run", "research", "-i", "Q4", "--id", "research-q4")
    assert started.out == ""
    assert "approval" in started.err
    assert "signal approval" in started.err, "it does not say what to type"


def test_01_approve(project: Project) -> None:
    """The run waits for approval until its deadline; `true` completes it with the report."""
    start_research(project)
    assert "running" in project.cli("query", "research-q4", "status").out
    shown = project.status("research-q4")
    assert shown["schema"] == "belugawf.run/1"
    assert shown["status"] == "running"
    (wait,) = shown["waiting_for"]
    assert (wait["kind"], wait["name"]) == ("signal", "approval")
    assert wait["until"] is not None
    assert wait["until"].endswith("Z")
    assert wait["until"] > wait["since"]

    project.cli("signal", "approval", "research-q4", "--payload", "true")
    assert project.status("research-q4")["status"] == "completed"
    assert project.result("research-q4") == "Report: findings on Q4"
    assert project.cli("result", "research-q4").out.strip() == "Report: findings on Q4"
    assert project.log() == ["research Q4", "report"]


@pytest.mark.parametrize("payload", ["false", '"yes"'])
def test_02_reject(project: Project, payload: str) -> None:
    """Whatever is not exactly `true` rejects, and no report is written."""
    start_research(project)
    project.cli("signal", "approval", "research-q4", "--payload", payload)
    assert project.result("research-q4") == "Workflow rejected by reviewer."
    assert project.log() == ["research Q4"]


def test_03_nobody_answers(project: Project) -> None:
    """The wait times out and the code after it runs; without a handler the run fails."""
    project.write_module("nobody", NOBODY.replace("WAIT", "'1s'"))
    done = project.cli("run", "handled", "--id", "handled")
    assert done.out.strip() == "Nobody answered."
    assert project.log() == ["Nobody answered."]

    failed = project.cli("run", "unhandled", "--id", "unhandled", check=3)
    assert failed.out == ""
    assert "approval" in failed.err
    shown = project.status("unhandled")
    assert shown["status"] == "failed"
    assert shown["error"]["type"] == "SignalTimeoutError"
    assert "approval" in shown["error"]["message"]
    assert "1s" in shown["error"]["message"]


@pytest.mark.local_only
def test_03_nobody_answers_for_a_day(project: Project) -> None:
    """A wait of 24 hours that ended while nothing ran is found timed out by the next resume."""
    project.write_module("nobody", NOBODY.replace("WAIT", "'24h'"))
    project.cli("run", "handled", "--id", "handled")
    project.cli("run", "unhandled", "--id", "unhandled")
    project.cli("resume", clock=23 * 3600)
    assert project.status("handled")["status"] == "running"
    resumed = project.cli("resume", check=3, clock=25 * 3600)
    assert "unhandled" in resumed.err
    assert project.result("handled") == "Nobody answered."
    assert project.status("unhandled")["error"]["type"] == "SignalTimeoutError"


def test_04_deadline(project: Project) -> None:
    """The run's own timeout passes while nothing runs: the next resume ends it, without code."""
    project.write_module(
        "late",
        """
        @activity
        def tidy() -> None:
            note("tidy")


        @workflow
        async def late(ctx: WorkflowContext) -> str:
            try:
                await ctx.wait_for_signal("approval", timeout="24h")
            finally:
                await ctx.execute_activity(tidy)
            return "answered"
        """,
    )
    driver = project.start("run", "late", "--id", "late", "--timeout", "3s")
    wait_for(lambda: project.waits("late"), "it waits", process=driver)
    driver.kill()
    deadline = project.status("late")["deadline"]
    assert deadline is not None
    wait_for(lambda: utc_now() > deadline, "the deadline has passed")
    project.cli("resume", check=3 if project.provider.local else None)
    shown = project.status("late")
    assert shown["status"] == "timed_out"
    assert shown["closed_at"] >= deadline
    project.cli("result", "late", check=5)
    assert project.log() == []
    assert project.history("late")[-1]["type"] == "WorkflowTimedOut"


def test_05_flaky_research(project: Project) -> None:
    """It fails twice and the third attempt succeeds; history shows them with their delays."""
    project.write_module(
        "flaky",
        """
        @activity
        def research() -> str:
            attempt = activity.info().attempt
            note(f"attempt {attempt}")
            if attempt < 3:
                raise ConnectionError(f"no line in attempt {attempt}")
            return f"found in attempt {attempt}"


        @workflow
        async def flaky(ctx: WorkflowContext) -> str:
            policy = RetryPolicy(max_attempts=3, initial_delay=0.2)
            return await ctx.execute_activity(research, retry=policy)
        """,
    )
    done = project.cli("run", "flaky", "--id", "flaky")
    assert done.out.strip() == "found in attempt 3"
    assert project.log() == ["attempt 1", "attempt 2", "attempt 3"]
    first, second, third = (stamp for stamp, _ in project.timed_log())
    assert second - first >= 0.2
    assert third - second >= 0.4
    failures = project.events("flaky", "AttemptFailed")
    assert [event["attempt"] for event in failures] == [1, 2]
    assert [event["error"]["type"] for event in failures] == ["ConnectionError"] * 2
    for event, delay in zip(failures, (0.2, 0.4), strict=True):
        assert seconds(event["retry_at"]) - seconds(event["at"]) == pytest.approx(delay, abs=1e-3)
    (completed,) = project.events("flaky", "ActivityCompleted")
    assert completed["attempt"] == 3
