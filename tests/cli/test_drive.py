"""run and resume: what they print and where, and their exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from belugawf.cli.news import _News
from belugawf.executor import UNSET, Owner, Problem, Waiting
from belugawf.model import events as ev
from belugawf.model.errors import Failure
from tests.cli.conftest import Cli
from tests.cli.fake import (
    START,
    FakeCatalog,
    FakeDefinition,
    FakeExecutor,
    run_info,
    signal_wait,
    soon,
)

FAILURE = Failure(
    "ValueError",
    "no \x1b[31mdata",
    'Traceback (most recent call last):\n  File "/p/workflows/r.py", line 3, in r\n    boom()\n',
    activity="research",
)


def ends(**changes: Any) -> Any:
    """Drives a run to this state."""

    def drive(executor: FakeExecutor, run_id: str) -> None:
        executor.change(run_id, **changes)

    return drive


# -- run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "printed"),
    [
        ("text as\nit is", "text as\nit is\n"),
        ({"a": [1, None]}, '{\n  "a": [\n    1,\n    null\n  ]\n}\n'),
        (None, "null\n"),
        (True, "true\n"),
        ("", "\n"),
    ],
)
def test_result_on_stdout(cli: Cli, result: object, printed: str) -> None:
    """A completed run: text as it is, anything else as JSON, and nothing else on stdout."""
    cli.executor.on_drive = ends(status="completed", result=result)
    done = cli("run", "-i", "Q4")
    assert (done.code, done.out) == (0, printed)


def test_only_workflow_is_taken(cli: Cli) -> None:
    """WORKFLOW may be left out where there is only one; the input goes to it as typed."""
    cli.executor.on_drive = ends(status="completed", result="ok")
    assert cli("run", "-i", "Q4", "--timeout", "2h").code == 0
    (call,) = [given for name, given in cli.executor.calls if name == "execute"]
    assert call["workflow"] == "research"
    assert call["input"] == "Q4"
    assert call["timeout"] == timedelta(hours=2)


def test_several_workflows_need_a_name(cli: Cli) -> None:
    """With several workflows and no default the name is asked for, with all of them."""
    cli.executor.catalog = FakeCatalog({n: FakeDefinition(n) for n in ("one", "two")})
    done = cli("run")
    assert done.code == 2
    assert "one, two" in done.err
    cli.settings.default_workflow = "two"
    cli.executor.on_drive = ends(status="completed", result="ok")
    assert cli("run").code == 0
    (call,) = [given for name, given in cli.executor.calls if name == "execute"]
    assert (call["workflow"], call["input"]) == ("two", UNSET)


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        ("failed", 3, "workflow_failed"),
        ("cancelled", 4, "workflow_cancelled"),
        ("terminated", 4, "workflow_terminated"),
        ("timed_out", 5, "workflow_timed_out"),
    ],
)
def test_bad_ends(cli: Cli, status: str, code: int, name: str) -> None:
    """A run that ends badly: the code, nothing on stdout, error and the user's frames on stderr."""
    cli.executor.on_drive = ends(status=status, error=FAILURE if status == "failed" else None)
    done = cli("run", "-i", "Q4", "--id", "report")
    assert (done.code, done.out) == (code, "")
    assert f"run report {'was ' if code == 4 else ''}{status.replace('_', ' ')}" in done.err
    if status == "failed":
        assert "ValueError: no \\x1b[31mdata (activity research)" in done.err
        assert 'File "/p/workflows/r.py", line 3, in r' in done.err
        assert "\x1b" not in done.err
    error = cli("run", "-i", "Q4", "--id", "other", "--json").error
    assert (error["code"], error["exit_code"]) == (name, code)
    assert error["run"]["status"] == status


@pytest.mark.parametrize("exit_code", [13, 14])
def test_problem(cli: Cli, exit_code: int) -> None:
    """A run that cannot be moved on: its problem and its hint, exit 13 or 14."""
    problem = Problem(code="x", message="does not match", hint="put it back", exit_code=exit_code)
    cli.executor.on_drive = ends(problem=problem)
    done = cli("run", "-i", "Q4", "--id", "report")
    assert done.code == exit_code
    assert done.err.endswith("error: report: does not match\nhint: put it back\n")


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ("bool", "belugawf signal approval --payload true"),
        ("str", "belugawf signal approval --text ..."),
        ("int", "belugawf signal approval --payload 1"),
        (None, "belugawf signal approval --payload true"),
        ("Decision", "belugawf signal approval --payload '<JSON>'"),
    ],
)
def test_wait_says_what_to_type(cli: Cli, expected: str | None, answer: str) -> None:
    """A run that waits: exit 0, and stderr says for what, until when and what to type."""
    wait = signal_wait(until=soon(23 * 3_600 + 5), expected=expected, prompt="Good\x07?")
    cli.executor.on_drive = ends(waiting_for=(wait,))
    done = cli("run", "-i", "Q4", "--id", "report")
    assert (done.code, done.out) == (0, "")
    *_, line, prompt = done.err.splitlines()
    assert line.startswith("report: waiting for signal approval until 20")
    assert line.endswith(f" (in 23h): {answer}")
    assert prompt == "  Good\\x07?"


def test_what_waits_for_nothing_is_said(cli: Cli) -> None:
    """Code that awaits what nobody can bring about rests for ever: nothing else would say so."""
    cli.executor.on_drive = ends(waiting_for=())
    done = cli("run", "-i", "Q4", "--id", "report")
    assert done.code == 0
    assert "report: its code waits for what nothing brings about" in done.err


def test_answer_names_the_run_where_several_wait(cli: Cli) -> None:
    """Where several runs wait for the same signal the command names the run."""
    cli.executor = FakeExecutor(run_info("other", waiting_for=(signal_wait(),)))
    cli.executor.on_drive = ends(waiting_for=(signal_wait(expected="bool"),))
    done = cli("run", "-i", "Q4", "--id", "report")
    assert "belugawf signal approval report --payload true" in done.err


def test_answer_repeats_the_global_flags(cli: Cli) -> None:
    """The command to type reaches the same database."""
    cli.executor.on_drive = ends(waiting_for=(signal_wait(expected="bool"),))
    done = cli("--db", "my state.db", "run", "-i", "Q4")
    assert "belugawf --db 'my state.db' signal approval --payload true" in done.err


def test_run_json(cli: Cli) -> None:
    """--json: the run on stdout, and silence on stderr."""
    cli.executor.on_drive = ends(waiting_for=(signal_wait(),))
    done = cli("run", "-i", "Q4", "--json")
    assert done.json["schema"] == "belugawf.run/1"
    assert done.json["waiting_for"][0]["name"] == "approval"
    assert done.err == ""


def test_max_wait_expires(cli: Cli) -> None:
    """--wait --max-wait: exit 124, and stderr says that the run goes on."""
    cli.executor.expires = True
    done = cli("run", "-i", "Q4", "--wait", "--max-wait", "1s")
    assert done.code == 124
    assert "goes on" in done.err
    waited = [given for name, given in cli.executor.calls if name == "wait"]
    assert waited[0]["until"] == "done"
    assert waited[0]["max_wait"] == timedelta(seconds=1)


def test_detach_does_not_drive(cli: Cli) -> None:
    """-d records only: the id on stdout, the command that drives it on stderr."""
    done = cli("run", "-i", "Q4", "--id", "report", "-d")
    assert (done.code, done.out) == (0, "report\n")
    assert "belugawf resume report" in done.err
    assert [name for name, _ in cli.executor.calls] == ["execute"]


def test_problem_is_not_to_be_answered(cli: Cli) -> None:
    """A run that comes to have a problem while it waits: the problem, and no answer to type."""
    problem = Problem(code="nondeterminism", message="changed", hint="put it back")
    cli.executor.on_drive = ends(problem=problem, waiting_for=(signal_wait(),))
    done = cli("run", "-i", "Q4", "--id", "report")
    assert done.code == 13
    assert "put it back" in done.err
    assert "belugawf signal" not in done.err


def test_if_exists_skip_shows_it(cli: Cli) -> None:
    """--if-exists skip: the stored run is shown, exit 0, nothing is driven or started."""
    cli.executor = FakeExecutor(run_info("report", status="failed", error=FAILURE))
    done = cli("run", "-i", "Q4", "--id", "report", "--if-exists", "skip", "--json")
    assert (done.code, done.json["status"]) == (0, "failed")
    assert cli.executor.calls == []


def test_input_from_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--input-file reads a file, or stdin for -, byte for byte."""
    cli.executor.on_drive = ends(status="completed")
    path = tmp_path / "input.txt"
    path.write_text("größe\n")
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert cli("run", "--input-file", "-").code == 0
    assert cli("run", "--id", "two", "--input-file", str(path)).code == 0
    given = [call["input"] for name, call in cli.executor.calls if name == "execute"]
    assert given == ["größe\n", "größe\n"]


def test_user_output_goes_to_stderr(cli: Cli) -> None:
    """What user code prints lands on stderr: print, descriptors and child processes alike."""

    def drive(executor: FakeExecutor, run_id: str) -> None:
        print("printed")
        os.write(1, b"written\n")
        subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
        executor.change(run_id, status="completed", result="the result")

    cli.executor.on_drive = drive
    done = cli("run", "-i", "Q4")
    assert done.out == "the result\n"
    for line in ("printed", "written", "by a child"):
        assert line in done.err.splitlines()


def test_plain_lines_as_events_happen(cli: Cli) -> None:
    """Off a terminal stderr gets a plain line for each event, without escapes from users' data."""
    scheduled = ev.ActivityScheduled(
        position=2, time=START, seq=1, name="research", payload="[]", max_attempts=3
    )
    failed = ev.AttemptFailed(
        position=3,
        time=START,
        seq=1,
        payload='{"type": "TimeoutError", "message": "slow\\u001b"}',
        at=START,
        attempt=1,
        retry_at=START + 5_000_000_000,
    )
    completed = ev.ActivityCompleted(
        position=4,
        time=START,
        seq=1,
        payload="1",
        at=START + 1_200_000_000,
        attempt=2,
        started_at=START,
    )

    def drive(executor: FakeExecutor, run_id: str) -> None:
        executor.events[run_id] = [scheduled, failed, completed]
        executor.change(run_id, status="completed", result="ok")

    cli.executor.on_drive = drive
    done = cli("run", "-i", "Q4", "--id", "report")
    assert done.err.splitlines() == [
        "report started",
        "research started",
        "research failed (attempt 1 of 3): TimeoutError: slow\\x1b; next try in 5s",
        "research done in 1.2s",
    ]
    assert cli("run", "-i", "Q4", "--id", "quiet", "-q").err == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(cli: Cli, number: signal.Signals, code: int) -> None:
    """A signal drains: the executor is told, the state is saved, and stderr says how to go on."""

    async def drive(executor: FakeExecutor, run_id: str) -> None:
        os.kill(os.getpid(), number)
        while ("interrupt", None) not in executor.calls:
            await asyncio.sleep(0.001)

    cli.executor.on_drive = drive
    done = cli("run", "-i", "Q4", "--id", "report")
    assert done.code == code
    assert "go on with: belugawf resume report" in done.err
    assert "in flight" not in done.err


def test_interrupted_while_it_waits_for_an_answer(cli: Cli) -> None:
    """Then the answer is what goes on, not `resume`, which would do nothing."""

    async def drive(executor: FakeExecutor, run_id: str) -> None:
        executor.change(run_id, waiting_for=(signal_wait(expected="str"),))
        os.kill(os.getpid(), signal.SIGINT)
        while ("interrupt", None) not in executor.calls:
            await asyncio.sleep(0.001)

    cli.executor.on_drive = drive
    done = cli("run", "-i", "Q4", "--id", "report")
    assert done.code == 130
    assert "go on with: belugawf signal approval report --text ...\n" in done.err


@pytest.mark.parametrize(
    ("number", "running", "said"),
    [
        (signal.SIGINT, 1, "finishing 1 activity in flight; Ctrl-C again cuts"),
        (signal.SIGTERM, 2, "finishing 2 activities in flight; a second signal cuts"),
        (signal.SIGTERM, 0, None),
    ],
)
def test_worker_says_what_it_finishes(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    running: int,
    said: str | None,
) -> None:
    """Told once: how much is in flight, and what cuts it; nothing of it where nothing is."""

    async def work(**_: Any) -> None:
        import asyncio

        for presses in (1, 2):
            os.kill(os.getpid(), number)
            while cli.executor.calls.count(("interrupt", None)) < presses:
                await asyncio.sleep(0.001)

    monkeypatch.setattr(cli.executor, "in_flight", lambda: running, raising=False)
    monkeypatch.setattr(cli.executor, "work", work)
    lines = cli("worker").err.splitlines()
    told = [said, "cutting the activities in flight"] if said else []
    assert lines[1:] == [*told, "drained; the state is saved"]


def test_interrupted_but_completed(cli: Cli) -> None:
    """A run that completes while it is drained is a completed run."""

    async def drive(executor: FakeExecutor, run_id: str) -> None:
        import asyncio

        os.kill(os.getpid(), signal.SIGINT)
        while ("interrupt", None) not in executor.calls:
            await asyncio.sleep(0.001)
        executor.change(run_id, status="completed", result="done")

    cli.executor.on_drive = drive
    done = cli("run", "-i", "Q4")
    assert (done.code, done.out) == (0, "done\n")


# -- resume --------------------------------------------------------------------------------------


def test_idle_resume_is_silent(cli: Cli) -> None:
    """Nothing is due: not a word, exit 0; an empty array under --json."""
    done = cli("resume")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert cli("resume", "--json").json == []


def resumed(cli: Cli, *changes: dict[str, Any]) -> list[str]:
    """Make runs due that end so when they are driven; their names."""
    names = [f"run-{number}" for number in range(len(changes))]
    cli.executor = FakeExecutor(*(run_info(name) for name in names))
    cli.executor.due = list(cli.executor.runs)
    outcome = dict(zip(cli.executor.due, changes, strict=True))
    cli.executor.on_drive = lambda executor, run_id: executor.change(run_id, **outcome[run_id])
    return names


def test_resume_tells_each_failure_in_one_line(cli: Cli) -> None:
    """One stderr line for each run that failed or was refused; the code is that of failure."""
    mismatch = Problem(code="nondeterminism", message="changed", hint="put back", new=True)
    resumed(
        cli,
        {"status": "failed", "error": FAILURE},
        {"status": "completed", "result": 1},
        {"problem": mismatch},
        {"status": "timed_out"},
    )
    done = cli("resume")
    assert (done.code, done.out) == (3, "")
    assert done.err.splitlines() == [
        "error: run run-0 failed: ValueError: no \\x1b[31mdata (activity research)",
        "error: run-2: changed; put back",
        "error: run run-3 timed out",
    ]


@pytest.mark.parametrize(("codes", "expected"), [((13,), 13), ((14,), 14), ((14, 13), 13), ((), 0)])
def test_resume_code_of_problems(cli: Cli, codes: tuple[int, ...], expected: int) -> None:
    """13 goes before 14; a problem reported before is silent and keeps its code."""
    resumed(cli, *({"problem": Problem(code="x", message="m", exit_code=c)} for c in codes))
    done = cli("resume")
    assert (done.code, done.err) == (expected, "")


def test_named_resume_repeats_a_known_problem(cli: Cli) -> None:
    """Who names the run is told its problem again."""
    (name,) = resumed(cli, {"problem": Problem(code="x", message="changed")})
    done = cli("resume", name)
    assert done.code == 13
    assert "changed" in done.err


def test_resume_of_an_ended_run(cli: Cli) -> None:
    """A run that failed long ago is not driven, so its failure is no failure of this resume."""
    cli.executor = FakeExecutor(run_info("report", status="failed", error=FAILURE))
    done = cli("resume", "report")
    assert done.code == 0
    assert "has ended already: failed" in done.err
    assert [run["workflow_id"] for run in cli("resume", "report", "--json").json] == ["report"]
    assert cli("resume", "report", "--dry-run").out == ""


def test_resume_says_what_waits(cli: Cli) -> None:
    """A run that was named and moved on to a wait is told with its answer."""
    (name,) = resumed(cli, {"waiting_for": (signal_wait(expected="bool"),)})
    done = cli("resume", name)
    assert done.code == 0
    assert "run-0: waiting for signal approval: belugawf signal approval" in done.err


def test_resume_under_cron_tells_only_what_is_wrong(cli: Cli) -> None:
    """Off a terminal: no word of runs that completed, wait or were cancelled; all with -v."""
    changes: tuple[dict[str, Any], ...] = (
        {"waiting_for": (signal_wait(),)},
        {"status": "completed", "result": 1},
        {"status": "cancelled"},
    )
    resumed(cli, *changes)
    done = cli("resume")
    assert (done.code, done.out, done.err) == (0, "", "")
    resumed(cli, *changes)
    lines = cli("resume", "-v").err.splitlines()
    assert lines[0].startswith("run-0: waiting for signal approval: ")
    assert lines[1:] == ["run-1 completed", "run-2 cancelled"]


def test_resume_dry_run(cli: Cli) -> None:
    """--dry-run lists what is due and drives nothing."""
    resumed(cli, {"status": "failed", "error": FAILURE})
    done = cli("resume", "--dry-run")
    assert done.code == 0
    assert done.out.split("\t")[0] == "run-0"
    assert cli.executor.runs["run-of-run-0"].open


def test_resume_failure_as_json(cli: Cli) -> None:
    """--json with a failed run: one error line that holds the runs."""
    resumed(cli, {"status": "failed", "error": FAILURE}, {"status": "completed"})
    error = cli("resume", "--json").error
    assert error["exit_code"] == 3
    assert [info["status"] for info in error["runs"]] == ["failed", "completed"]


def test_resume_limits(cli: Cli) -> None:
    """--max-time reaches the executor; else the configuration's does."""
    cli.settings.resume_max_time = timedelta(minutes=5)
    cli("resume")
    cli("resume", "--max-time", "2s")
    assert [call["max_time"] for name, call in cli.executor.calls if name == "resume"] == [
        timedelta(minutes=5),
        timedelta(seconds=2),
    ]


def test_resume_beside_a_worker(cli: Cli) -> None:
    """A named run that a live process drives is followed, then that process is named."""
    owner = Owner(pid=1, host="here", since=START)
    cli.executor = FakeExecutor(run_info("report", owner=owner))
    cli.executor.expires = True
    done = cli("resume", "report")
    assert done.code == 0
    assert "process 1 on here goes on with it" in done.err


def test_long_timer_is_told(cli: Cli) -> None:
    """A run that sleeps says until when, and what wakes it."""
    timer = Waiting(kind="timer", name="7d", since=START, until=soon(7 * 86_400 + 5))
    (name,) = resumed(cli, {"waiting_for": (timer,)})
    done = cli("resume", name)
    assert "run-0: sleeping 7d until " in done.err
    assert "(in 7d): belugawf resume run-0" in done.err


# -- worker --------------------------------------------------------------------------------------


def test_worker_says_what_it_drives(cli: Cli) -> None:
    """The worker names its workflows and its database."""
    done = cli("worker", "--concurrency", "3")
    assert done.code == 0
    assert done.err == f"driving research on {cli.root / 'state.db'}\n"
    assert cli.executor.calls == [("work", {"concurrency": 3})]


async def test_a_workers_looks_are_cheap() -> None:  # FINDINGS L3
    """What grows with the database is counted once; each look tells only what is new."""
    executor = FakeExecutor(
        *(run_info(f"old-{n}", waiting_for=(signal_wait(),)) for n in range(30))
    )
    counted: list[int] = []
    count = executor.summary

    async def summary() -> Any:
        counted.append(1)
        return await count()

    executor.summary = summary  # type: ignore[method-assign]
    executor.attention = _nothing  # type: ignore[method-assign]
    lines: list[str] = []
    session: Any = SimpleNamespace(
        say=lines.append,
        command=lambda word, *_, **__: f"belugawf {word}",
        talk_terminal=False,
    )
    news = _News(session, executor, 12)
    await news.tell()
    assert lines == ["30 questions are open: belugawf waiting"]
    for number in range(8):
        info = run_info(f"new-{number}", waiting_for=(signal_wait(since=START + number),))
        executor.runs[info.run_id] = info
    lines.clear()
    await news.tell()
    assert [line.split(":")[0] for line in lines] == [
        *(f"new-{number}" for number in range(5)),
        "3 questions are open",
    ]
    lines.clear()
    await news.tell()
    assert lines == []
    assert counted == [1]


async def _nothing() -> list[Any]:
    return []
