"""The command line on Temporal, where it has more to say than on one file."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.cli import test_redact as redact
from tests.conformance.harness import PROVIDERS, Process, Project, wait_for, with_env
from tests.devserver import DevServer

GREETING = """
    @activity
    def greet(name: str) -> str:
        note(f"greet {name}")
        return f"Hello, {name}!"


    @workflow
    async def greeting(ctx: WorkflowContext, name: str) -> str:
        return await ctx.execute_activity(greet, name)


    @workflow
    async def asking(ctx: WorkflowContext) -> str:
        ctx.set_progress("asking")
        answer = await ctx.wait_for_signal("answer", timeout="1h", prompt="Well?", type=str)
        return f"{answer.payload} from {answer.sender}"
"""


@pytest.fixture
def project(
    tmp_path: Path, temporal_server: DevServer, temporal_namespace: str
) -> Iterator[Project]:
    """A project on a namespace of its own, with two workflows and no worker."""
    provider = with_env(
        replace(PROVIDERS["temporal"], forked=False),
        BELUGAWF_TEMPORAL_HOST=temporal_server.address,
        BELUGAWF_TEMPORAL_NAMESPACE=temporal_namespace,
    )
    project = Project(tmp_path / "project", provider)
    project.write_module("greeting", GREETING)
    yield project
    project.close()


def start_worker(project: Project, *options: str) -> Process:
    worker = project.start("worker", *options)
    assert isinstance(worker, Process)
    return worker


def run(project: Project, *args: str, check: int = 0) -> str:
    """A command with no worker beside it; what it says."""
    command = project.start_command(*args)
    return command.wait(check=check).no_traceback().err


def test_no_worker(project: Project) -> None:
    """`run` starts the run, says that no worker answers and what to type; `status` says it too."""
    said = run(project, "run", "greeting", "-i", "Ada", "--id", "g")
    assert "g started" in said
    assert "no worker answers on task queue 'beluga-tasks'" in said
    assert "belugawf worker" in said
    shown = project.status("g")
    assert (shown["status"], shown["problem"]) == ("running", None)
    assert "beluga-tasks" in shown["unattended"]
    assert "next\tbelugawf worker" in project.cli("status", "g").out
    assert project.log() == []
    said = run(project, "signal", "answer", "g", "--text", "x")
    assert "signal answer delivered to g" in said
    assert "no worker answers" in said
    assert "no worker answers" in project.cli("query", "g", "mine", check=12).err
    assert json.loads(project.cli("query", "g", "status", "--json").out) == "running"
    assert project.cli("wait", "g", "--max-wait", "1s", "--json", check=124).error["code"]


def test_a_worker_comes_later(project: Project) -> None:
    """`run --wait` follows until a worker has done it, and prints the result."""
    waiting = project.start_command("run", "greeting", "-i", "Ada", "--id", "g", "--wait")
    wait_for(lambda: "g started" in waiting.err, "it has started", process=waiting)
    worker = start_worker(project)
    assert waiting.wait().out.strip() == "Hello, Ada!"
    worker.send(signal.SIGTERM)
    drained = worker.wait(check=143).no_traceback()
    assert "driving asking, greeting from task queue beluga-tasks at" in drained.err
    assert "g: completed" in drained.err


def test_cron(project: Project) -> None:
    """`resume` runs a worker until nothing is left to do; again it finds nothing, silently."""
    for name in ("Ada", "Bob", "Eve"):
        project.cli("run", "greeting", "-i", name, "--id", name, "-d")
    project.cli("run", "asking", "--id", "asks", "-d")
    first = project.cli("resume")
    assert (first.out, first.err) == ("", "")
    for name in ("Ada", "Bob", "Eve"):
        assert project.result(name) == f"Hello, {name}!"
    again = project.cli("resume", "--json")
    assert json.loads(again.out) == []
    assert sorted(project.log()) == ["greet Ada", "greet Bob", "greet Eve"]
    assert project.waits("asks", "answer")


def test_resume_of_an_ended_run(project: Project) -> None:
    """A dry run by name does not list it; the real one says how it ended."""
    project.cli("run", "greeting", "-i", "Ada", "--id", "ended", "-d")
    project.cli("terminate", "ended")
    assert project.cli("resume", "ended", "--dry-run", "--json").json == []
    assert "ended has ended already: terminated" in project.cli("resume", "ended").err


@pytest.mark.slow
def test_looking(project: Project) -> None:
    """`waiting`, `status`, `list`: what waits for whom, and a signal that names no run."""
    project.cli("run", "asking", "--id", "asks", "--label", "team=a", "-d")
    project.cli("run", "greeting", "-i", "Ada", "--id", "g", "--label", "team=b", "-d")
    project.cli("resume")
    (wait,) = project.cli("waiting", "--json").json
    assert (wait["workflow_id"], wait["signal"], wait["prompt"]) == ("asks", "answer", "Well?")
    shown = project.status("asks")
    assert [w["kind"] for w in shown["waiting_for"]] == ["signal"]
    assert (shown["progress"], shown["labels"]) == ("asking", {"team": "a"})
    assert shown["provider"] == "temporal"
    summary = project.cli("status", "--json").json
    assert summary["counts"] == {"running": 1, "completed": 1}
    listed = project.cli("list", "--json").json
    assert [info["workflow_id"] for info in listed] == ["g", "asks"]
    assert [i["workflow_id"] for i in project.cli("list", "--label", "team=a", "--json").json] == [
        "asks"
    ]
    done = project.cli("list", "--status", "completed", "--workflow", "greeting", "--json").json
    assert [(i["workflow_id"], i["input"], i["result"]) for i in done] == [
        ("g", "Ada", "Hello, Ada!")
    ]
    refused = project.cli("signal", "answer", "--payload", "5", "--json", check=2)
    assert refused.error["code"] == "payload_type"
    project.cli("signal", "answer", "--text", "fine", "--by", "Ada")
    assert project.result("asks") == "fine from Ada"
    assert project.cli("signal", "answer", "--text", "x", "--json", check=10).error["code"] == (
        "signal_not_awaited"
    )


def test_naming_a_run(project: Project) -> None:
    """By its id, its run id, a prefix of either, or as the latest; what is unknown or several."""
    for id in ("report-one", "report-two"):
        project.cli("run", "greeting", "-i", id, "--id", id, "-d")
    run_id = project.status("report-one")["run_id"]
    wait_for(lambda: len(project.cli("list", "--json").json) == 2, "both are visible")
    assert project.status(run_id)["workflow_id"] == "report-one"
    assert project.status("report-o")["workflow_id"] == "report-one"
    assert project.status("@latest")["workflow_id"] == "report-two"
    ambiguous = project.cli("status", "report", "--json", check=9).error
    assert {"report-one", "report-two"} <= set(ambiguous["message"].replace(",", "").split())
    unknown = project.cli("status", "reprot-one", "--json", check=10).error
    assert "report-one" in unknown["hint"]
    assert project.cli("status", "it's \\ odd", "--json", check=10).error["exit_code"] == 10


def test_if_exists(project: Project) -> None:
    """fail, skip and replace, for an open run and for one that has ended."""
    arguments = ("run", "asking", "--id", "a", "-d")
    project.cli(*arguments)
    first = project.status("a")["run_id"]
    assert project.cli(*arguments, "--json", check=9).error["code"] == "already_exists"
    assert project.cli(*arguments, "--if-exists", "skip", "--json").json["run_id"] == first
    second = project.cli(*arguments, "--if-exists", "replace", "--json").json["run_id"]
    assert second != first
    assert project.status(first)["status"] == "terminated"
    project.cli("terminate", "a")
    assert project.cli(*arguments, "--json", check=9).error["code"] == "already_exists"
    assert project.cli(*arguments, "--if-exists", "skip", "--json").json["run_id"] == second
    third = project.cli(*arguments, "--if-exists", "replace", "--json").json
    assert (third["status"], third["run_id"] in (first, second)) == ("running", False)


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
        ))
"""

START_MANY = """
    import asyncio, sys
    from belugawf import new_executor

    async def main():
        async with new_executor("temporal", workflows="workflows", drives=False) as executor:
            for first in range(0, 200, 20):
                await asyncio.gather(*(
                    executor.execute("many", id=f"many-{run}", input=run)
                    for run in range(first, first + 20)
                ))

    asyncio.run(main())
"""


@pytest.mark.slow
def test_two_workers_share_a_queue(project: Project) -> None:
    """200 runs on one task queue, two workers in two processes: each activity has one line."""
    project.write_module("many", MANY)
    workers = [start_worker(project), start_worker(project)]
    project.python(START_MANY)
    wait_for(
        lambda: project.cli("status", "--json").json["counts"] == {"completed": 200},
        "all have completed",
    )
    assert sorted(project.log()) == sorted(f"{r}/{n}" for r in range(200) for n in range(3))
    said = []
    for worker in workers:
        worker.send(signal.SIGTERM)
        said.append(worker.wait(check=143).err.count(": completed"))
    assert sum(said) == 200
    assert min(said) > 0, "one of the workers did nothing"


DYING = """
    @activity
    def first() -> str:
        note("first")
        return "first"


    @activity
    def second(text: str) -> str:
        note(f"second {activity.info().attempt}")
        if not is_open("second"):
            time.sleep(60)
        return f"{text} second"


    @workflow
    async def dying(ctx: WorkflowContext) -> str:
        return await ctx.execute_activity(second, await ctx.execute_activity(first))
"""


def test_a_second_worker_finishes_it(project: Project) -> None:
    """The worker is killed in the middle of an activity; another one goes on from there."""
    project.write_module("dying", DYING)
    killed = start_worker(project)
    project.cli("run", "dying", "--id", "d", "-d")
    wait_for(lambda: project.count("second 1"), "it is in the middle", process=killed)
    shown = project.status("d")
    assert shown["owner"]["pid"] == killed.pid
    killed.kill()
    project.open_gate("second")
    start_worker(project)
    assert project.cli("result", "d", "--wait").out.strip() == "first second"
    assert project.log() == ["first", "second 1", "second 2"]
    first, second = project.events("d", "ActivityCompleted")
    assert (first["result"], second["result"]) == ("first", "first second")
    assert second["attempt"] == 2


TWICE = """
    @workflow
    async def twice(ctx: WorkflowContext) -> str:
        first = await ctx.wait_for_signal("first")
        second = await ctx.wait_for_signal("second")
        return first.payload + second.payload
"""


def test_a_wait_that_is_over(project: Project) -> None:
    """Once a signal was taken, nobody is told any more that it is awaited."""
    project.write_module("twice", TWICE)
    project.cli("run", "twice", "--id", "t")
    assert [w["signal"] for w in project.cli("waiting", "--json").json] == ["first"]
    project.cli("signal", "first", "--text", "a")
    wait_for(lambda: project.waits("t", "second"), "it waits for the second")
    assert [w["signal"] for w in project.cli("waiting", "--json").json] == ["second"]
    assert project.cli("signal", "first", "--text", "b", "--json", check=10).error
    started, ended = project.events("t", "WaitStarted", "WaitEnded")[:2]
    assert (started["name"], ended["seq"]) == ("first", started["seq"])
    project.cli("signal", "second", "--text", "b")
    assert project.result("t") == "ab"


STUBBORN = """
    async def stubborn(ctx, seen):
        while len(seen) < 5:
            try:
                seen.append((await ctx.wait_for_signal("go")).payload)
            except asyncio.CancelledError:
                note("cancelled")


    @workflow
    async def holding(ctx: WorkflowContext) -> list:
        seen = []
        await stubborn(ctx, seen)
        return seen
"""

SEND_FIVE = """
    import asyncio
    from belugawf import Signal, new_executor

    async def main():
        async with new_executor("temporal", workflows="workflows") as executor:
            await executor.resume("h")
            for number in range(5):
                await executor.signal("h", Signal("go", number))
                while number < 4 and await ended(executor) <= number:
                    await asyncio.sleep(0.02)
            await executor.wait("h", max_wait="30s")

    async def ended(executor):
        events = await executor.history("h")
        return sum(type(event).__name__ == "WaitEnded" for event in events)

    asyncio.run(main())
"""


def test_code_that_swallows_cancellation_is_let_go(project: Project) -> None:
    """Letting a run go from memory cancels nothing: its code never hears of it."""
    project.write_module("holding", STUBBORN)
    project.cli("run", "holding", "--id", "h", "-d")
    done = project.python(SEND_FIVE, env={"BELUGAWF_CACHE_RUNS": "0"})
    assert done.err == ""
    assert project.result("h") == [0, 1, 2, 3, 4]
    assert project.log() == []


SWALLOWING = """
    @workflow
    async def swallowing(ctx: WorkflowContext) -> str:
        while True:
            try:
                signal = await ctx.wait_for_signal("go")
                if signal.payload == "stop":
                    return "stopped"
            except BaseException:
                pass
"""


def test_code_that_swallows_everything_is_let_go(project: Project) -> None:
    """It keeps no worker busy, and goes on when it is needed again."""
    project.write_module("swallowing", SWALLOWING)
    for number in range(5):
        project.cli("run", "swallowing", "--id", f"s{number}", "-d")
    worker = project.start("worker", env={"BELUGAWF_CACHE_RUNS": "2"})
    for number in range(5):
        wait_for(lambda n=number: project.waits(f"s{n}", "go"), "it waits", process=worker)
    for number in range(5):
        project.cli("signal", "go", f"s{number}", "--text", "stop")
        assert project.cli("result", f"s{number}", "--wait").out.strip() == "stopped"
    worker.send(signal.SIGTERM)
    assert "Traceback" not in worker.wait(check=143).err


TOGETHER = """
    @workflow
    async def together(ctx: WorkflowContext) -> list:
        said = []
        try:
            said.append((await ctx.wait_for_signal("go", timeout=3)).payload)
        except SignalTimeoutError:
            said.append("timed out")
        said.append((await ctx.wait_for_signal("end")).payload)
        return said
"""


def test_signal_and_timeout_found_together(project: Project) -> None:
    """The SDK hands over both in one task, the signal first: the code cancels a timer that fired.

    No event records that, and it is no difference to the history, however often it is replayed.
    """
    project.write_module("together", TOGETHER)
    project.cli("run", "together", "--id", "t", "-d")
    first = start_worker(project)
    wait_for(lambda: project.waits("t", "go"), "it waits", process=first)
    first.kill()
    project.cli("signal", "go", "t", "--text", "late", "--no-resume")
    wait_for(lambda: project.has_event("t", "TimerFired"), "the timer has fired")
    second = start_worker(project)
    wait_for(lambda: project.waits("t", "end"), "it waits for the end", process=second)
    second.kill()
    start_worker(project)
    project.cli("signal", "end", "t", "--text", "end")
    assert project.cli("result", "t", "--wait", "--json").json == ["late", "end"]


PLAIN = """
    import helpers_of_mine


    async def unmarked(text: str) -> str:
        note(f"unmarked {activity.info().attempt}")
        await await_gate("unmarked")
        return text


    @workflow
    async def plain(ctx: WorkflowContext) -> str:
        text = await ctx.execute_activity(helpers_of_mine.shout, "a")
        return await ctx.execute_activity(unmarked, text)
"""


def test_functions_that_nobody_marked(project: Project) -> None:
    """An activity that is no decorated name of a module is found by another worker as well."""
    project.write_module("plain", PLAIN)
    helpers = project.root / "helpers_of_mine.py"
    helpers.write_text("def shout(text: str) -> str:\n    return text.upper()\n")
    env = {"PYTHONPATH": str(project.root)}
    first = project.start("worker", env=env)
    project.cli("run", "plain", "--id", "p", "-d", env=env)
    wait_for(lambda: project.count("unmarked 1"), "it runs", process=first)
    first.kill()
    project.open_gate("unmarked")
    project.start("worker", env=env)
    assert project.cli("result", "p", "--wait", env=env).out.strip() == "A"
    assert project.log() == ["unmarked 1", "unmarked 2"]


LONG = """
    @activity
    def held(name: str) -> str:
        note(name)
        pass_gate(name)
        return name


    @workflow
    async def long(ctx: WorkflowContext, name: str) -> str:
        return await ctx.execute_activity(held, name)


    @workflow
    async def resting(ctx: WorkflowContext) -> None:
        await ctx.wait_for_signal("never")
"""


def _took_or_ended(project: Project, resume: Process) -> bool:
    return project.count("b") > 0 or not resume.alive


@pytest.mark.parametrize("interrupts", [0, 2])
def test_a_resume_is_not_held_by_others(project: Project, interrupts: int) -> None:
    """What a named resume took besides is cut at the end of its grace, or by a second Ctrl-C."""
    project.write_module("long", LONG)
    project.cli("run", "resting", "--id", "rests", "-d")
    project.cli("run", "long", "-i", "b", "--id", "b", "-d")
    grace = () if interrupts else ("--grace", "1s")
    while not project.count("b"):  # it takes the other one if there is time
        resume = project.start_command("resume", "rests", *grace)
        wait_for(partial(_took_or_ended, project, resume), "it took the other one")
    for number in range(interrupts):
        resume.send(signal.SIGINT)
        if not number:
            wait_for(lambda: "cuts" in resume.err, "it was heard", process=resume)
    resume.wait(check=130 if interrupts else 0).no_traceback()
    project.open_gate("b")
    assert project.finish("b", check=0)["result"] == "b"


@pytest.mark.slow
def test_redact(project: Project) -> None:
    """What is masked on one file is masked here: in looks, errors, and what a worker logs."""
    redact.prepare(project)
    redact.check_what_is_shown(project)
    redact.check_failures(project)
    project.stop_worker()
    logs = "".join(path.read_text() for path in project.root.glob("process-*"))
    assert "it failed" in logs
    assert not any(secret in logs for secret in redact.SECRETS)
