"""Scenario 69, of which: a run is started anew."""

from __future__ import annotations

from tests.conformance.harness import Project

GREETING = """
    @activity
    def greet(name: str, times: int) -> str:
        note(f"{name} {times}")
        if name == "nobody":
            raise ValueError("nobody is there")
        return f"hello {name}"


    @workflow
    async def greeting(ctx: WorkflowContext, name: str, times: int = 1) -> str:
        return await ctx.execute_activity(greet, name, times)
"""


def test_69_rerun(project: Project) -> None:
    """With the same input or another; of a run that has completed, failed or is open."""
    project.write_module("greeting", GREETING)
    project.cli(
        "run", "greeting", "-i", '{"name": "ada", "times": 2}', "--id", "g", "--label", "a=b"
    )
    again = project.cli("rerun", "g")
    assert (again.out, "g-2 started" in again.err) == ("hello ada\n", True)
    failed = project.cli("rerun", "g", "-a", "name=nobody", check=3)
    assert "g-3 failed" in failed.err
    assert project.log() == ["ada 2", "ada 2", "nobody 2"]
    shown = project.status("g-3")
    assert (shown["input"], shown["labels"]) == ({"name": "nobody", "times": 2}, {"a": "b"})
    project.cli("rerun", "g-3", "-i", '{"name": "bob"}', "--id", "mine")
    assert project.log()[3:] == ["bob 1"]
    assert "choose another id" in project.cli("rerun", "g", "--id", "mine", check=9).err
    assert project.cli("rerun", "g", "-d").out == "g-4\n"
    assert project.status("g")["result"] == "hello ada"


def test_69_two_reruns_at_once(project: Project) -> None:
    """Each gets an id of its own."""
    project.write_module("greeting", GREETING)
    project.cli("run", "greeting", "-a", "name=ada", "--id", "g")
    project.stop_worker()
    reruns = [project.start_command("rerun", "g", "-d") for _ in range(3)]
    ids = [rerun.wait().out for rerun in reruns]
    assert sorted(ids) == ["g-2\n", "g-3\n", "g-4\n"]


def test_69_an_input_that_no_longer_fits(project: Project) -> None:
    """Nothing is started, and what to type is said."""
    project.write_module("greeting", GREETING)
    project.cli("run", "greeting", "-i", '{"name": "ada", "times": 2}', "--id", "g")
    project.write_module("greeting", GREETING.replace("times: int = 1", 'times: str = "1"'))
    refused = project.cli("rerun", "g", check=2)
    assert "input.times: expected str, found a number" in refused.err
    assert "belugawf rerun g --input VALUE" in refused.err
    assert len(project.cli("list", "--json").json) == 1
    project.cli("rerun", "g", "-a", "times=3", check=None)
    assert project.status("g-2")["input"] == {"name": "ada", "times": "3"}
