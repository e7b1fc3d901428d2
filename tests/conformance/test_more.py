"""Scenarios beyond the numbered ones, each as a user would meet it."""

from __future__ import annotations

import shlex

import pytest

from tests.conformance.harness import Project, wait_for

MINUTE = 60

AT_ONCE = """
    @activity
    def busy() -> int:
        attempt = activity.info().attempt
        note(f"attempt {attempt}")
        if attempt == 1:
            raise ApplicationError("come again at once", retry_after=0)
        return attempt


    @workflow
    async def at_once(ctx: WorkflowContext) -> int:
        retry = RetryPolicy(max_attempts=2, initial_delay="1h")
        return await ctx.execute_activity(busy, retry=retry)
"""


def test_retry_after_of_nothing(project: Project) -> None:
    """`retry_after=0` asks for the next attempt at once, not for the policy's delay."""
    project.write_module("at_once", AT_ONCE)
    done = project.cli("run", "at_once", "--id", "r")
    assert done.out.strip() == "2"
    assert project.log() == ["attempt 1", "attempt 2"]


OUT_OF_TIME = """
    @activity
    def flaky() -> None:
        note(f"attempt {activity.info().attempt}")
        raise ConnectionError("no line")


    @workflow
    async def out_of_time(ctx: WorkflowContext) -> int:
        retry = RetryPolicy(max_attempts=0, initial_delay="10m", backoff_coefficient=1)
        try:
            await ctx.execute_activity(flaky, retry=retry, total_timeout="1h")
        except ActivityTimeoutError as error:
            return error.attempts
        return 0
"""


@pytest.mark.local_only
def test_attempts_that_never_ran_do_not_count(project: Project) -> None:
    """`total_timeout` passes while nothing runs: no further attempt, and none is counted."""
    project.write_module("out_of_time", OUT_OF_TIME)
    driver = project.start("run", "out_of_time", "--id", "o")
    wait_for(lambda: project.has_event("o", "AttemptFailed"), "it failed", process=driver)
    driver.wait()
    project.cli("resume", clock=11 * MINUTE)
    assert project.log() == ["attempt 1", "attempt 2"]
    project.cli("resume", clock=90 * MINUTE)
    assert project.log() == ["attempt 1", "attempt 2"]
    assert project.result("o") == 2
    (timed_out,) = project.events("o", "ActivityTimedOut")
    assert (timed_out["limit"], timed_out["attempt"]) == ("total_timeout", 2)


ASKING = """
    @workflow
    async def asking(ctx: WorkflowContext, name: str) -> str:
        return (await ctx.wait_for_signal(name)).payload
"""


def test_names_that_look_like_options(project: Project) -> None:
    """The command that answers can be typed as it is shown, whatever the names look like."""
    project.write_module("asking", ASKING)
    for run in ("-a", "--json"):
        project.cli("run", "asking", "--input=--by", f"--id={run}")
        wait_for(lambda run=run: project.waits(run, "--by"), "it waits")
    shown = {wait["workflow_id"]: wait["command"] for wait in project.cli("waiting", "--json").json}
    project.cli(*shlex.split(shown["-a"])[1:])
    wait_for(lambda: project.cli("result", "--", "-a", check=None).out.strip() == "true")
    (last,) = project.cli("waiting", "--json").json
    assert last["workflow_id"] == "--json"
    project.cli(*shlex.split(last["command"])[1:])
    assert project.cli("waiting", "--json").json == []


def test_reason_of_a_termination(project: Project) -> None:
    """Why a run was terminated is its error, and is said to whoever asks for the result."""
    project.write_module("asking", ASKING)
    project.cli("run", "asking", "-i", "go", "--id", "a")
    project.cli("terminate", "a", "--reason", "wrong topic")
    error = project.status("a")["error"]
    assert (error["type"], error["message"]) == ("Terminated", "wrong topic")
    assert "wrong topic" in project.cli("result", "a", check=4).err
