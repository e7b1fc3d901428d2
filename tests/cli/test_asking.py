"""Signals and their questions, messages to runs, and what people are told, on a real database."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.harness import FORKED, PATIENCE_S, Process, Project

MODULE = """
    @activity
    def load(number: int) -> int:
        return number


    @workflow
    async def asking(ctx: WorkflowContext) -> str:
        first = await ctx.wait_for_signal("answer", prompt="First?")
        second = await ctx.wait_for_signal("answer", prompt="Second?")
        return f"{first.payload} {second.payload}"


    @workflow
    async def going(ctx: WorkflowContext) -> object:
        signal = await ctx.wait_for_signal("go")
        return signal.payload


    @workflow
    async def sleeping(ctx: WorkflowContext) -> None:
        await ctx.sleep("1h")


    @workflow
    async def hello(ctx: WorkflowContext, name: str, greeting: str = "Hello") -> str:
        if name == "nobody":
            raise ValueError("there is nobody")
        return f"{greeting} {name}"


    @workflow
    async def sized(ctx: WorkflowContext, size: dict, scale: int = 1) -> object:
        return [size, scale]


    @workflow
    async def loading(ctx: WorkflowContext) -> int:
        total = 0
        for number in range(3):
            total += await ctx.execute_activity(load, number, id=f"order-{number}")
        await ctx.wait_for_signal("go")
        return total + await ctx.execute_activity(load, 4)
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path, FORKED)
    project.write_module("asks", MODULE)
    yield project
    project.close()


# -- signals -------------------------------------------------------------------------------------


def test_a_question_needs_an_answer(project: Project) -> None:  # FINDINGS L5
    """Without a payload nothing is sent, however the run was found; null can be sent on purpose."""
    project.cli("run", "asking", "--id", "a")
    for arguments in (["answer"], ["answer", "a"], ["answer", "--all", "--yes"]):
        refused = project.cli("signal", *arguments, check=2)
        assert "answers a question of a, and carries no answer: First?" in refused.err
        assert "belugawf signal answer a --payload true" in refused.err
    assert project.cli("status", "a", "--json").json["messages"] == []
    project.cli("signal", "answer", "--payload", "null")
    project.cli("signal", "answer", "--payload", "1")
    assert project.cli("result", "a").out == "None 1\n"
    project.cli("run", "going", "--id", "g")
    project.cli("signal", "go")  # asks nothing: a signal is enough
    assert project.cli("result", "g").out == "null\n"


def test_an_answered_question_is_no_question(project: Project) -> None:  # FINDINGS L5
    """As soon as the answer is on disk: waiting, status, a second signal, and the run say so."""
    project.cli("run", "asking", "--id", "a")
    project.cli("run", "asking", "--id", "b")
    assert len(project.cli("waiting", "--json").json) == 2
    project.cli("signal", "answer", "a", "--payload", "1", "--no-resume")
    (left,) = project.cli("waiting", "--json").json
    assert (left["workflow_id"], left["command"]) == (
        "b",
        "belugawf signal answer --payload true",
    )
    assert project.cli("status", "--json").json["waiting_total"] == 1
    shown = project.cli("status", "a").out
    assert "it has been sent, and is not read yet" in shown
    assert "belugawf signal" not in shown
    assert "next\tbelugawf resume a\n" in shown
    (wait,) = project.cli("status", "a", "--json").json["waiting_for"]
    assert wait["answered"] is True
    assert "signal answer (sent)" in project.cli("list").out
    # Without RUN it is for the other one; then for nobody.
    assert "delivered to b" in project.cli("signal", "answer", "--payload", "1", "--no-resume").err
    assert project.cli("signal", "answer", "--payload", "1", check=10).out == ""
    project.cli("resume")
    assert {wait["prompt"] for wait in project.cli("waiting", "--json").json} == {"Second?"}


def test_an_answer_sent_twice(project: Project) -> None:  # FINDINGS L6
    """It is the answer to the next question: its sender is told, and nobody else."""
    project.cli("run", "asking", "--id", "a")
    project.cli("signal", "answer", "a", "--payload", "1", "--by", "ada", "--no-resume")
    again = project.cli("signal", "answer", "a", "--payload", "1", "--by", "ada", "--no-resume")
    assert "warning: a has an answer already, and has not read it yet" in again.err
    project.cli("run", "asking", "--id", "b")
    first = project.cli("signal", "answer", "b", "--payload", "1", "--by", "ada")
    assert "warning" not in first.err
    other = project.cli("run", "asking", "--id", "c")
    project.cli("signal", "answer", "c", "--payload", "1", "--by", "ada")
    assert (
        "warning" not in project.cli("signal", "answer", "c", "--payload", "1", "--by", "bob").err
    )
    second = project.cli("signal", "answer", "b", "--payload", "1", "--by", "ada").err
    assert re.search(
        r"warning: you answered signal answer of b .*; this is the answer to the next wait, which "
        r"began .*: Second\\?",
        second,
    )
    assert other.code == 0


def test_signals_that_nothing_waits_for(project: Project) -> None:  # FINDINGS L5
    """Kept, as promised; a run that waits for another one is a warning, and JSON says it."""
    project.cli("run", "asking", "--id", "a")
    done = project.cli("signal", "anwser", "a", "--payload", "1")
    assert done.err.startswith("signal anwser delivered to a\n")
    assert (
        "warning: a does not wait for signal anwser: it is kept until the code asks for it; "
        "did you mean: belugawf signal answer a --payload true\n"
    ) in done.err
    other = project.cli("signal", "zzz", "a", "--payload", "1")
    assert "awaited now: answer" in other.err
    assert project.cli("signal", "zzz", "a", "--json").json["awaited"] is False
    assert project.cli("signal", "answer", "a", "--payload", "1", "--json").json["awaited"] is True
    project.cli("run", "going", "--id", "early", "-d")
    early = project.cli("signal", "go", "early", "--no-resume")
    assert early.err == "signal go delivered to early; it is kept until the code asks for it\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["signal", "run-1", "answer", "--payload", "1"], "belugawf signal answer run-1"),
        (["signal", "run-1", "--payload", "1"], "'run-1' is a run"),
        (["query", "status", "run-1"], "belugawf query run-1 status"),
        (["status", "sleeping"], "belugawf list --workflow sleeping"),
        (["history", "sleeping"], "belugawf list --workflow sleeping"),
        (["result", "sleeping"], "belugawf list --workflow sleeping"),
        (["wait", "sleeping"], "belugawf list --workflow sleeping"),
        (["resume", "sleeping"], "belugawf list --workflow sleeping"),
        (["cancel", "sleeping"], "belugawf list --workflow sleeping"),
        (["terminate", "sleeping"], "belugawf list --workflow sleeping"),
        (["signal", "answer", "sleeping", "--payload", "1"], "belugawf list --workflow sleeping"),
        (["cancel", "answer"], "'answer' is a signal"),
        (["run", "run-1"], "belugawf resume run-1"),
        (["signal", "answr", "--payload", "1"], "did you mean 'answer'?"),
    ],
)
def test_words_in_the_wrong_place(
    project: Project, arguments: list[str], hint: str
) -> None:  # FINDINGS L5
    """A run for a signal, a workflow for a run: exit 10, with what was meant; nothing is sent."""
    project.cli("run", "asking", "--id", "run-1")
    project.cli("run", "sleeping", "--id", "naps", "-d")
    refused = project.cli(*arguments, check=10)
    assert hint in refused.err
    assert project.cli("status", "run-1", "--json").json["messages"] == []
    assert hint in json.loads(project.cli(*arguments, "--json", check=10).err)["hint"]


def test_candidates_are_said_once(project: Project) -> None:  # FINDINGS L14
    """The error names them, or the lines below it do, not both."""
    for name in ("run-a", "run-b"):
        project.cli("run", "asking", "--id", name)
    for arguments in (["signal", "answer", "--payload", "1"], ["cancel"], ["status", "run-"]):
        refused = project.cli(*arguments, check=9)
        assert [refused.err.count(name) for name in ("run-a", "run-b")] == [1, 1]
        document = json.loads(project.cli(*arguments, "--json", check=9).err)
        assert sorted(document["candidates"]) == ["run-a", "run-b"]


# -- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workflow", "text", "result"),
    [
        ("hello", "Ada", "Hello Ada"),
        ("hello", '{"name": "Ada"}', "Hello Ada"),
        ("hello", '{"name": "Ada", "greeting": "Hi"}', "Hi Ada"),
        ("hello", '{"greeting": "Hi"}', 'Hello {"greeting": "Hi"}'),
        ("hello", "3", "Hello 3"),
        ("hello", "", "Hello "),
        ("sized", '{"size": {"a": 1}}', [{"a": 1}, 1]),
        ("sized", '{"size": {"a": 1}, "scale": 2}', [{"a": 1}, 2]),
        ("sized", '{"a": 1}', [{"a": 1}, 1]),
        ("sized", "{}", [{}, 1]),
    ],
)
def test_an_input_stays_what_it_was(
    project: Project, workflow: str, text: str, result: object
) -> None:  # FINDINGS L10
    """-i is the first parameter's value, as before one with a default was added."""
    assert project.cli("run", workflow, "-i", text, "--json").json["result"] == result


def test_what_skip_leaves_as_it_is(project: Project) -> None:  # FINDINGS L10
    """Exit 0, as promised; a run that failed, of another workflow or input is a warning."""
    project.cli("run", "hello", "-i", "nobody", "--id", "h", check=3)
    skip = ("--id", "h", "--if-exists", "skip")
    same = project.cli("run", "hello", "-i", "nobody", *skip).err
    assert "it has not completed: run h failed: ValueError: there is nobody" in same
    assert "another input" not in same
    assert "it has another input" in project.cli("run", "hello", "-i", "Ada", *skip).err
    assert "a run of 'hello', not of 'going'" in project.cli("run", "going", *skip).err
    project.cli("run", "hello", "-i", "Ada", "--id", "good")
    good = project.cli("run", "hello", "-i", "Ada", "--id", "good", "--if-exists", "skip")
    assert (good.out, good.err) == ("good\n", "good is completed\n")


# -- ended runs ----------------------------------------------------------------------------------


def test_ended_runs_say_how(project: Project) -> None:  # FINDINGS L12
    """Signals with senders and payloads, who cancelled or terminated, and why; also as JSON."""
    project.cli("run", "going", "--id", "g")
    project.cli("signal", "go", "g", "--payload", '{"ok": true}', "--by", "ada")
    shown = project.cli("status", "g").out
    assert re.search(r'signal\tgo sent by ada .*: {"ok":true}\n', shown)
    (message,) = project.cli("status", "g", "--json").json["messages"]
    assert (message["type"], message["sender"], message["payload"]) == (
        "SignalReceived",
        "ada",
        {"ok": True},
    )
    project.cli("run", "sleeping", "--id", "s", "-d")
    project.cli("cancel", "s", "--reason", "wrong quarter", "--by", "grace")
    assert re.search(r"cancelled\tby grace .*: wrong quarter\n", project.cli("status", "s").out)
    assert "by grace: wrong quarter" in project.cli("history", "s").out
    project.cli("run", "sleeping", "--id", "t", "-d")
    project.cli("terminate", "t", "--reason", "no use")
    assert re.search(r"terminated\tby .+: no use\n", project.cli("status", "t").out)
    (message,) = project.cli("status", "t", "--json").json["messages"]
    assert (message["type"], message["reason"]) == ("WorkflowTerminated", "no use")
    assert message["sender"]


def test_many_signals_are_not_all_shown(project: Project) -> None:  # FINDINGS L12
    """The last ones, with how many came before; a long payload is cut where it says so."""
    project.cli("run", "sleeping", "--id", "s", "-d")
    for number in range(12):
        project.cli("signal", "note", "s", "--payload", str(number), "--no-resume")
    project.cli("signal", "note", "s", "--text", "x" * 3_000, "--no-resume")
    project.cli("cancel", "s")
    shown = project.cli("status", "s").out
    assert shown.count("signal\tnote sent") == 10
    assert "signal\t3 earlier ones: belugawf history s\n" in shown
    assert "x... (3,002 characters; history --full has all)" in shown
    assert len(project.cli("status", "s", "--json").json["messages"]) == 14


def test_ids_of_activities(project: Project) -> None:  # FINDINGS L8
    """Given ids stand beside the names: as it happens, in the history and in status."""
    said = project.cli("run", "loading", "--id", "l").err
    for number in range(3):
        assert f"load (order-{number}) started" in said
        assert f"load (order-{number}) done in" in said
    shown = project.cli("history", "l").out
    assert shown.count("load (order-1)") == 2
    said = project.cli("signal", "go", "l").err
    assert "load started" in said  # it was given none


# -- what cannot move ----------------------------------------------------------------------------


def stuck(project: Project) -> None:
    """Leave an open run whose workflow is gone, and one whose code does not fit any more."""
    project.cli("run", "sleeping", "--id", "gone", "-d")
    project.cli("run", "going", "--id", "changed")
    changed = MODULE.replace("async def sleeping", "async def napping")
    project.write_module("asks", changed.replace('wait_for_signal("go")', 'wait_for_signal("no")'))


def test_doctor_sees_stuck_runs(project: Project) -> None:  # FINDINGS L3
    """A missing workflow before its run is due, and then each run with its problem; exit 0."""
    stuck(project)
    shown = project.cli("doctor").out
    assert "WARN\tworkflows\tworkflow 'sleeping' has open runs, and cannot be loaded\t" in shown
    project.cli("signal", "go", "changed")
    project.cli("resume", check=None)
    shown = project.cli("doctor").out
    assert "WARN\truns\tgone: run 'gone' cannot go on" in shown
    assert "WARN\truns\tchanged: the code no longer matches the history" in shown
    assert "belugawf status changed" in shown


def test_resume_says_it_every_time(project: Project) -> None:  # FINDINGS L3
    """Who looks (-v, or a terminal) is told each time why it exits 13 or 14; cron once."""
    stuck(project)
    first = project.cli("resume", check=14)
    assert "error: gone: run 'gone' cannot go on" in first.err
    for _ in range(2):
        assert project.cli("resume", check=14).err == ""
        assert "error: gone: run 'gone' cannot go on" in project.cli("resume", "-v", check=14).err
        assert "error: gone: run 'gone' cannot go on" in project.cli("resume", "gone", check=14).err


def test_a_worker_tells_what_a_person_must_know(project: Project) -> None:  # FINDINGS L3
    """Runs that it cannot move, and questions that come up, with what to type; each once."""
    stuck(project)
    project.cli("run", "asking", "--id", "old")
    worker = project.start("worker")
    wait_for(worker, "warning: gone: run 'gone' cannot go on")
    wait_for(worker, "2 questions are open: belugawf waiting")
    project.cli("run", "asking", "--id", "new", "-d")
    wait_for(worker, "new: waiting for signal answer: belugawf signal answer new --payload true")
    wait_for(worker, "  First?")
    project.cli("signal", "answer", "new", "--payload", "1")
    wait_for(worker, "  Second?")
    worker.send(signal.SIGTERM)
    worker.wait(check=None)
    assert worker.err.count("gone: run 'gone' cannot go on") == 1
    assert worker.err.count("  First?") == 1
    assert "old: waiting" not in worker.err


def wait_for(worker: Process, line: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while line not in said(worker):
        assert time.monotonic() < deadline, said(worker)
        time.sleep(0.02)


def said(worker: Process) -> str:
    """What it has said so far; nothing before it is there."""
    try:
        return worker.err
    except FileNotFoundError:
        return ""
