"""status, waiting, list, history, result, wait, query, signal, cancel: what they show."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from belugawf.executor import Driver, Owner, Problem, Waiting
from belugawf.model import events as ev
from belugawf.model.errors import BusyError
from tests.cli.conftest import Cli
from tests.cli.fake import START, FakeExecutor, run_info, signal_wait, soon


def row(out: str, key: str) -> str:
    """The value of one line of `status RUN` in a pipe."""
    return next(line.split("\t")[1] for line in out.splitlines() if line.startswith(key + "\t"))


# -- status --------------------------------------------------------------------------------------


def test_status_of_all(cli: Cli) -> None:
    """Counts, waits with their answers, the next due time, and problems."""
    problem = Problem(code="workflow_load", message="no module", hint="put it back")
    cli.executor = FakeExecutor(
        run_info("one", waiting_for=(signal_wait(expected="bool"),)),
        run_info("two", status="completed"),
        run_info("three", problem=problem),
    )
    cli.executor.next_due_at = soon(7_205)
    done = cli("status")
    assert done.code == 0
    assert row(done.out, "running") == "2"
    assert row(done.out, "completed") == "1"
    assert "(in 2h)" in row(done.out, "next due")
    assert row(done.out, "waiting").startswith("one: signal approval since ")
    assert row(done.out, "waiting").endswith("belugawf signal approval --payload true")
    assert row(done.out, "problem") == "three: no module; put it back"
    document = cli("status", "--json").json
    assert document["counts"] == {"running": 2, "completed": 1}
    assert document["waiting"][0]["signal"] == "approval"
    assert document["problems"][0]["workflow_id"] == "three"


def test_status_of_many_waits(cli: Cli) -> None:
    """The longest waiting ones and how many more there are; then each answer names its run."""
    names = [f"run-{number}" for number in range(22)]
    waits = {name: signal_wait(f"signal-of-{name}") for name in names}
    cli.executor = FakeExecutor(*(run_info(n, waiting_for=(waits[n],)) for n in names))
    lines = [line for line in cli("status").out.splitlines() if line.startswith("waiting\t")]
    assert len(lines) == 21
    assert lines[0].endswith("belugawf signal signal-of-run-0 run-0 --payload true")
    assert lines[20] == "waiting\t2 more: belugawf waiting"
    document = cli("status", "--json").json
    assert (len(document["waiting"]), document["waiting_total"]) == (20, 22)


def test_what_a_limit_leaves_out_is_counted(cli: Cli) -> None:  # FINDINGS L2
    """Problems in status, and waits that -n cut off."""
    problem = Problem(code="nondeterminism", message="event 4 differs")
    cli.executor = FakeExecutor(
        *(run_info(f"r{n}", problem=problem, waiting_for=(signal_wait(),)) for n in range(23))
    )
    done = cli("status")
    assert done.out.count("problem\tr") == 20
    assert "problem\t3 more: belugawf list --state parked --all\n" in done.out
    document = cli("status", "--json").json
    assert (len(document["problems"]), document["problems_total"]) == (20, 23)
    done = cli("waiting", "-n", "5")
    assert len(done.out.splitlines()) == 5
    assert done.err == "these wait longest; there are 18 more\n"
    assert cli("waiting").err == cli("waiting", "-n", "23").err == ""


def test_status_of_a_waiting_run(cli: Cli) -> None:
    """What it waits for, since, until, its question, and the answer to type."""
    wait = signal_wait(until=soon(3_600 * 2 + 5), prompt="Publish?", expected="str")
    cli.executor = FakeExecutor(run_info("report", waiting_for=(wait,), labels={"team": "x"}))
    done = cli("status", "report")
    assert row(done.out, "status") == "running"
    assert row(done.out, "waits for").startswith("signal approval since ")
    assert row(done.out, "waits for").endswith("(in 2h)")
    assert row(done.out, "asks") == "Publish?"
    assert row(done.out, "answer") == "belugawf signal approval --text ..."
    assert row(done.out, "label") == "team=x"
    assert "next\t" not in done.out


def test_status_of_a_retrying_run(cli: Cli) -> None:
    """Which attempt of how many, when the next one is, and the last error."""
    wait = Waiting(
        kind="activity",
        name="research",
        since=START,
        until=soon(125),
        attempt=2,
        max_attempts=5,
        state="retrying",
        error="TimeoutError: slow",
    )
    cli.executor = FakeExecutor(run_info("report", waiting_for=(wait,)))
    done = cli("status", "report")
    text = row(done.out, "waits for")
    assert "activity research (attempt 2 of 5)" in text
    assert "next try" in text
    assert text.endswith("last error: TimeoutError: slow")
    assert row(done.out, "next").startswith("belugawf resume report (from ")


@pytest.mark.parametrize(
    ("owner", "key", "text", "command"),
    [
        (Owner(pid=7, host="h", since=START), "driven by", "process 7 on h", None),
        (
            Owner(pid=7, host="h", since=START, frozen=True),
            "held by",
            "process 7 on h, which is stopped",
            "kill -CONT 7",
        ),
        (
            Owner(pid=7, host="h", since=START, alive=False),
            "held by",
            "process 7 on h, which has ended",
            "belugawf resume report",
        ),
        (None, "status", "running", "belugawf resume report"),
    ],
)
def test_status_names_the_owner(
    cli: Cli, owner: Owner | None, key: str, text: str, command: str | None
) -> None:
    """Who holds the run, whether that process lives, and what to type."""
    cli.executor = FakeExecutor(run_info("report", owner=owner))
    done = cli("status", "report")
    assert row(done.out, key) == text
    if command is None:
        assert "next\t" not in done.out
    else:
        assert row(done.out, "next") == command


def test_status_shows_a_problem(cli: Cli) -> None:
    """Why it cannot go on, what to do, and the command for after that."""
    problem = Problem(code="nondeterminism", message="event 4 differs", hint="put it back")
    cli.executor = FakeExecutor(
        run_info("report", problem=problem, waiting_for=(signal_wait(until=soon(9)),))
    )
    done = cli("status", "report")
    assert row(done.out, "problem") == "nondeterminism: event 4 differs"
    assert row(done.out, "hint") == "put it back"
    assert row(done.out, "next") == "belugawf resume report"
    assert row(done.out, "waits for").startswith("signal approval")
    assert "belugawf signal" not in done.out
    assert "belugawf signal" not in cli("status").out


def test_status_escapes_users_data(cli: Cli) -> None:
    """Nothing that a user named can steer the terminal or add a line."""
    cli.executor = FakeExecutor(
        run_info("\x1b[2Jevil\nrun", status="completed", result="a\x1b[31m\nb", labels={"k": "\r"})
    )
    done = cli("status", "\x1b[2Jevil\nrun")
    assert "\x1b" not in done.out
    assert row(done.out, "run") == "\\x1b[2Jevil\\nrun"
    assert row(done.out, "result") == "a\\x1b[31m\\nb"
    assert cli("status", "\x1b[2Jevil\nrun", "--json").json["result"] == "a\x1b[31m\nb"


# -- tables --------------------------------------------------------------------------------------


def test_list_in_a_pipe(cli: Cli) -> None:
    """Tab-separated, no headers, nothing cut, ISO times, newest first."""
    long = "x" * 300
    cli.executor = FakeExecutor(run_info(long), run_info("[bold]b[/bold]", status="failed"))
    done = cli("list")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [cells[0] for cells in rows] == ["[bold]b[/bold]", long]
    assert rows[0][2] == "failed"
    assert rows[0][3].startswith("2027-01-15T08:00:00")
    assert rows[1][5] == f"run-of-{long}"


def test_list_on_a_terminal(cli: Cli, terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with headers, or record by record; ids are whole, and markup is shown as it is."""
    long = "x" * 150
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    cli.executor = FakeExecutor(run_info("[bold]b[/bold]"))
    terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    done = cli("list")
    assert done.out.splitlines()[0].split() == [
        *("ID", "WORKFLOW", "STATUS", "STATE", "STARTED", "NOTE")
    ]
    assert done.out.splitlines()[1].startswith("[bold]b[/bold]  research  running  ")
    cli.executor = FakeExecutor(run_info(long))
    first, second = cli("list").out.splitlines()
    assert first == long
    assert second.startswith("  workflow: research  status: running  started: ")


def test_list_says_that_there_are_more(cli: Cli, terminal: Any) -> None:  # FINDINGS L2
    """Pipes and scripts get all; a terminal the newest 20, and how many more there are."""
    cli.executor = FakeExecutor(*(run_info(f"run-{n}") for n in range(25)))
    done = cli("list", "--json")
    assert (len(done.json), done.err) == (25, "")
    done = cli("list")
    assert (len(done.out.splitlines()), done.err) == (25, "")
    limited = cli("list", "-n", "3")
    assert len(limited.out.splitlines()) == 3
    assert limited.err == "these are the newest 3; there are 22 more: --all lists all\n"
    assert len(cli("list", "-n", "3", "--json").json) == 3
    terminal()
    assert cli("list").err == "these are the newest 20; there are 5 more: --all lists all\n"
    assert cli("list", "--all").err == ""
    cli.executor = FakeExecutor(*(run_info(f"run-{n}") for n in range(20)))
    assert cli("list").err == ""


@pytest.mark.parametrize(
    ("flags", "environment", "colour"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"TERM": "dumb"}, False),
        (["--color", "never"], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
    ],
)
def test_colour(
    cli: Cli,
    terminal: Any,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    environment: dict[str, str],
    colour: bool,
) -> None:
    """Colour on a terminal, unless NO_COLOR or a dumb terminal; --color decides first."""
    cli.executor = FakeExecutor(run_info("report"))
    terminal()
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert ("\x1b[" in cli(*flags, "status", "report").out) == colour


def test_no_colour_in_a_pipe(cli: Cli) -> None:
    """A pipe gets colour only with --color always."""
    cli.executor = FakeExecutor(run_info("report"))
    assert "\x1b[" not in cli("status", "report").out
    assert "\x1b[" in cli("--color", "always", "status", "report").out


@pytest.mark.parametrize("arguments", [("status", "nobody"), ("result", "bad")])
def test_colour_of_errors(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """--color decides for errors too, whoever tells them."""
    cli.executor = FakeExecutor(run_info("bad", status="failed"))
    assert "\x1b[31merror:\x1b[0m" in cli("--color", "always", *arguments).err
    assert "\x1b[" not in cli(*arguments).err
    monkeypatch.setattr("belugawf.cli.streams.Streams.talk_is_terminal", lambda self: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31merror:\x1b[0m" in cli(*arguments).err
    assert "\x1b[" not in cli("--color", "never", *arguments).err


def test_waiting(cli: Cli) -> None:
    """Each open wait: run, signal, since, until, type, question, answer."""
    cli.executor = FakeExecutor(
        run_info("one", waiting_for=(signal_wait(prompt="Go?", expected="bool"),)),
        run_info("two", waiting_for=(signal_wait(), signal_wait("stop"))),
    )
    rows = [line.split("\t") for line in cli("waiting").out.splitlines()]
    assert [cells[:2] for cells in rows] == [
        ["one", "approval"],
        ["two", "approval"],
        ["two", "stop"],
    ]
    assert rows[0][5:] == ["Go?", "belugawf signal approval one --payload true"]
    assert rows[2][6] == "belugawf signal stop --payload true"
    (first, *_) = cli("waiting", "--json").json
    assert (first["signal"], first["expected"]) == ("approval", "bool")


def test_workflows(cli: Cli) -> None:
    """Names, parameters, docs and places."""
    done = cli("workflows")
    assert (
        done.out == "research\ttopic: str\tWhat research does.\t/project/workflows/research.py:3\n"
    )
    (only,) = cli("workflows", "--json").json["workflows"]
    assert only["parameters"] == [
        {"name": "topic", "type": "str", "required": True, "default": None}
    ]


# -- history -------------------------------------------------------------------------------------


def history(cli: Cli) -> None:
    cli.executor = FakeExecutor(run_info("report", status="completed", result=1))
    cli.executor.events["run-of-report"] = [
        ev.WorkflowStarted(
            position=1,
            time=START,
            name="research",
            payload='"Q4"',
            workflow_id="report",
            run_id="run-of-report",
        ),
        ev.SignalReceived(
            position=2, time=START, name="go", payload='"\\u001b"', at=START, sender="ada"
        ),
        ev.WorkflowCompleted(position=3, time=START, payload="1"),
    ]


def test_history_in_a_pipe(cli: Cli) -> None:
    """Position, ISO time, type, details; payloads with --full."""
    history(cli)
    rows = [line.split("\t") for line in cli("history", "report").out.splitlines()]
    assert [cells[0] for cells in rows] == ["1", "2", "3"]
    assert rows[1][2:] == ["SignalReceived", "go from ada"]
    full = [line.split("\t") for line in cli("history", "report", "--full").out.splitlines()]
    assert full[0][4] == '"Q4"'


def test_history_names_the_activity(cli: Cli) -> None:
    """Attempts, interruptions, cancels: of which activity; a cancelled timer by its number."""
    cli.executor = FakeExecutor(run_info("report"))
    cli.executor.events["run-of-report"] = [
        ev.ActivityScheduled(
            position=1, time=START, seq=1, name="fetch\n", payload="[]", max_attempts=3
        ),
        ev.AttemptStarted(position=2, time=START, seq=1, attempt=2),
        ev.AttemptInterrupted(position=3, time=START, seq=1, attempt=2, reason="crash"),
        ev.AttemptStarted(position=4, time=START, seq=1, attempt=3, alone=True),
        ev.ActivityCancelRequested(position=5, time=START, seq=1),
        ev.TimerCancelled(position=6, time=START, seq=2),
    ]
    rows = [line.split("\t") for line in cli("history", "report").out.splitlines()]
    assert [cells[3] for cells in rows[1:]] == [
        "fetch\\n attempt 2",
        "fetch\\n was interrupted (attempt 2 of 3): crash",
        "fetch\\n attempt 3, alone",
        "fetch\\n",
        "timer 2",
    ]


def test_history_json(cli: Cli) -> None:
    """One array of events with position, type and time; also under --follow."""
    history(cli)
    for flags in ([], ["--follow"]):
        events = cli("history", "report", "--json", *flags).json
        assert next((e["position"], e["type"]) for e in events) == (1, "WorkflowStarted")
        assert events[1]["payload"] == "\x1b"


def test_left_out_run(cli: Cli) -> None:
    """Without RUN: the only open run, else the latest, named on stderr."""
    cli.executor = FakeExecutor(
        run_info("open"), run_info("old", status="completed", result="old result")
    )
    assert cli("history").err == "run open\n"
    cli.executor.change("run-of-open", status="failed")
    done = cli("result")
    assert (done.out, done.err) == ("old result\n", "run old\n")
    cli.executor = FakeExecutor()
    assert cli("result").code == 10


# -- result, wait, query -------------------------------------------------------------------------


def test_result(cli: Cli) -> None:
    """Only the result, on stdout; as JSON under --json."""
    cli.executor = FakeExecutor(run_info("report", status="completed", result="text"))
    assert cli("result", "report").out == "text\n"
    assert cli("result", "report", "--json").out == '"text"\n'


@pytest.mark.parametrize(
    ("status", "code"), [("failed", 3), ("cancelled", 4), ("terminated", 4), ("timed_out", 5)]
)
def test_result_of_a_bad_end(cli: Cli, status: str, code: int) -> None:
    """result and wait end with the run's code."""
    cli.executor = FakeExecutor(run_info("report", status=status))
    assert cli("result", "report").code == code
    assert cli("wait", "report").code == code
    assert cli("result", "report", "--json").error["exit_code"] == code


def test_result_waits(cli: Cli) -> None:
    """--wait follows the run to its end; --max-wait gives up with 124."""
    cli.executor = FakeExecutor(run_info("report"))
    cli.executor.expires = True
    assert cli("result", "report", "--max-wait", "1s").code == 124
    cli.executor.expires = False
    cli.executor.on_drive = lambda e, run_id: e.change(run_id, status="completed", result=2)
    assert cli("result", "report", "--wait").out == "2\n"


def test_wait_targets(cli: Cli) -> None:
    """--for reaches the executor; an open run that is there is success."""
    cli.executor = FakeExecutor(run_info("report", waiting_for=(signal_wait(),)))
    done = cli("wait", "report", "--for", "signal:approval")
    assert done.code == 0
    assert "waits for signal approval" in done.err
    assert cli.executor.calls[0][1]["until"] == "signal:approval"


@pytest.mark.parametrize(
    ("args", "given"),
    [([], ()), (["--args", "[1, 2]"], (1, 2)), (["--args", '{"a": 1}'], ({"a": 1},))],
)
def test_query(cli: Cli, args: list[str], given: tuple[object, ...]) -> None:
    """An array is the arguments, anything else the only one; the answer is data."""
    cli.executor = FakeExecutor(run_info("report"))
    cli.executor.answers["status"] = "running"
    done = cli("query", "report", "status", *args)
    assert done.out == "running\n"
    assert cli.executor.calls == [("query", given)]
    assert cli("query", "report", "status", "--json").json == "running"


# -- signal and cancel ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "payload"),
    [
        ([], None),
        (["--payload", "true"], True),
        (["--payload", '{"a": 1}'], {"a": 1}),
        (["--text", "true"], "true"),
    ],
)
def test_signal_payload(cli: Cli, flags: list[str], payload: object) -> None:
    """--payload is JSON, --text text, nothing null; the sender is the user unless given."""
    cli.executor = FakeExecutor(run_info("report", waiting_for=(signal_wait(),)))
    done = cli("signal", "approval", *flags, "--by", "ada", "--key", "k")
    assert done.code == 0
    assert done.err.startswith("signal approval delivered to report\n")
    sent = cli.executor.calls[0][1]
    assert sent["run"] == "run-of-report"
    assert (sent["signal"].payload, sent["signal"].sender) == (payload, "ada")
    assert sent["signal"].key == "k"


def test_signal_takes_the_one_that_waits(cli: Cli) -> None:
    """Several runs wait: exit 9 with the list; --all reaches each."""
    cli.executor = FakeExecutor(
        *(run_info(name, waiting_for=(signal_wait(),)) for name in ("one", "two"))
    )
    refused = cli("signal", "approval")
    assert refused.code == 9
    assert "one" in refused.err
    done = cli("signal", "approval", "--all", "--json", "--yes")
    assert [info["workflow_id"] for info in done.json] == ["one", "two"]


def test_signal_is_zero_once_on_disk(cli: Cli) -> None:
    """Whatever goes wrong after delivery is told, and changes neither code nor JSON."""
    cli.executor = FakeExecutor(run_info("report", waiting_for=(signal_wait(),)))

    def fail(executor: FakeExecutor, run_id: str) -> None:
        raise BusyError("the database is held")

    cli.executor.on_drive = fail
    done = cli("signal", "approval")
    assert done.code == 0
    assert "warning: the database is held" in done.err
    cli.executor.on_drive = lambda e, run_id: e.change(run_id, status="failed")
    failed = cli("signal", "approval", "--json")
    assert (failed.code, failed.json["status"]) == (0, "failed")


def test_signal_beside_a_worker(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live process goes on with the run: it is followed for a moment, then named."""
    monkeypatch.setattr("belugawf.cli.follow._FOLLOW_S", 0.1)
    owner = Owner(pid=1, host="here", since=START)
    cli.executor = FakeExecutor(run_info("report", waiting_for=(signal_wait(),), owner=owner))
    cli.executor.driven_by = owner
    cli.executor.expires = True
    done = cli("signal", "approval")
    assert done.code == 0
    assert "process 1 on here goes on with it" in done.err


@pytest.mark.parametrize("arguments", [("signal", "approval"), ("cancel", "report")])
def test_a_message_on_its_way_is_not_asked_for_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """The worker is stopped: it is named, and nobody is told to send what is on disk already."""
    monkeypatch.setattr("belugawf.cli.follow._FOLLOW_S", 0.1)
    owner = Owner(pid=7, host="here", since=START, frozen=True)
    cli.executor = FakeExecutor(run_info("report", waiting_for=(signal_wait(),)))
    cli.executor.driven_by = owner
    done = cli(*arguments)
    assert done.code == 0
    assert "report: " in done.err
    assert "belugawf signal" not in done.err


@pytest.mark.parametrize("kind", ["us", "process", "worker", "nobody"])
def test_wait_says_if_nobody_drives(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: Literal["us", "process", "worker", "nobody"]
) -> None:
    """On a terminal the command that continues the run is named, but not if somebody drives it."""

    async def driver_of(run: str) -> Driver:
        return Driver(kind)

    cli.executor = FakeExecutor(run_info("report", waiting_for=(signal_wait(),)))
    cli.executor.expires = True
    monkeypatch.setattr(cli.executor, "driver_of", driver_of)
    monkeypatch.setattr("belugawf.cli.streams.Streams.talk_is_terminal", lambda self: True)
    done = cli("wait", "report", "--max-wait", "1s")
    assert done.code == 124
    assert ("nobody drives report now; it goes on with:" in done.err) == (kind == "nobody")


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, "signal approval report --payload true"),
        ({"waiting_for": (signal_wait(until=soon(-5)),)}, "resume report"),
        ({"waiting_for": (signal_wait(answered=True),)}, "resume report"),
        ({"waiting_for": ()}, "resume report"),
        ({"cancel_requested": True}, "resume report"),
        ({"problem": Problem(code="nondeterminism", message="changed")}, "resume report"),
    ],
)
def test_what_moves_a_run_that_waits(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], command: str
) -> None:
    """An answer moves a run that waits for one, and `resume` does nothing: it is not named."""
    info = run_info("report", **{"waiting_for": (signal_wait(),), **changes})
    cli.executor = FakeExecutor(info)
    cli.executor.expires = True

    async def driver_of(run: str) -> Driver:
        return Driver("nobody")

    monkeypatch.setattr(cli.executor, "driver_of", driver_of)
    monkeypatch.setattr("belugawf.cli.streams.Streams.talk_is_terminal", lambda self: True)
    done = cli("wait", "report", "--max-wait", "1s")
    said = " ".join(done.err.split())  # which is broken into lines that fit the terminal
    assert f"nobody drives report now; it goes on with: belugawf {command} error:" in re.sub(
        r"\x1b\[\d+m", "", said
    )


def test_signal_without_resume(cli: Cli) -> None:
    """--no-resume delivers only."""
    cli.executor = FakeExecutor(run_info("report", waiting_for=(signal_wait(),)))
    assert cli("signal", "approval", "--no-resume").code == 0
    assert [name for name, _ in cli.executor.calls] == ["signal"]
    assert cli.executor.calls[0][1]["drive"] is False


def test_cancel_takes_the_only_open_run(cli: Cli) -> None:
    """Without RUN the only open one; exit 0 even where the run then ends cancelled."""
    cli.executor = FakeExecutor(run_info("old", status="completed"), run_info("report"))
    cli.executor.on_drive = lambda e, run_id: e.change(run_id, status="cancelled", closed_at=START)
    done = cli("cancel", "--reason", "enough")
    assert done.code == 0
    assert done.err.splitlines() == ["report: cancellation requested", "report cancelled"]
    assert cli.executor.calls[0] == ("cancel", {"run": "run-of-report", "reason": "enough"})
    assert cli("cancel").code == 10


@pytest.mark.parametrize("command", ["cancel", "terminate", "resume"])
def test_several_runs_are_always_an_array(cli: Cli, command: str) -> None:  # FINDINGS L10
    """Of one run as of two, and in the error beside which some were done."""
    yes = ["--yes"] if command == "terminate" else []
    for runs in (["one"], ["one", "two"]):
        cli.executor = FakeExecutor(run_info("one"), run_info("two"))
        assert [run["workflow_id"] for run in cli(command, *runs, *yes, "--json").json] == runs
    for runs in (["ended"], ["ended", "two"]):
        cli.executor = FakeExecutor(run_info("two"), run_info("ended", status="failed"))
        if command != "resume":
            assert len(cli(command, *runs, *yes, "--json").error["runs"]) == len(runs) - 1
