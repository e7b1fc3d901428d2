"""Names that nothing has, names that several have, and names that are no names."""

from __future__ import annotations

import pytest

from tests.conformance.harness import Project

ESCAPE = "\x1b"
NASTY = f"{ESCAPE}[31mred{ESCAPE}[0m\x07\x9b5m"


def test_unknown_workflow(project: Project) -> None:
    """Starting an unknown workflow is 10 with the nearest name, and starts nothing."""
    refused = project.cli("run", "simpel", "--id", "s", "--json", check=10)
    assert refused.error["code"] == "workflow_not_found"
    assert "'simpel'" in refused.error["message"]
    assert "simple" in f"{refused.error['message']} {refused.error['hint']}"
    assert project.cli("list", "--json").json == []
    text = project.cli("run", "simpel", check=10).no_traceback()
    assert text.out == ""
    assert "simple" in text.err


@pytest.mark.parametrize(
    "command",
    [
        ("status", "repotr"),
        ("result", "repotr"),
        ("history", "repotr"),
        ("cancel", "repotr"),
        ("terminate", "repotr"),
        ("resume", "repotr"),
        ("query", "repotr", "status"),
        ("wait", "repotr"),
        ("signal", "approval", "repotr", "--payload", "1"),
    ],
    ids=lambda command: command[0],
)
def test_unknown_run(project: Project, command: tuple[str, ...]) -> None:
    """Every command that names an unknown run is 10 with the nearest one, and changes nothing."""
    project.cli("run", "asking", "--id", "report")
    history = project.history("report")
    refused = project.cli(*command, "--json", check=10)
    assert refused.error["code"] == "run_not_found"
    assert "'repotr'" in refused.error["message"]
    assert "report" in f"{refused.error['message']} {refused.error['hint']}".replace("repotr", "")
    text = project.cli(*command, check=10).no_traceback()
    assert text.out == ""
    assert project.history("report") == history


def test_run_without_any_database(project: Project) -> None:
    """Asking for a run where nothing was ever started is 10, and creates no database."""
    refused = project.cli("status", "report", "--json", check=10)
    assert refused.error["code"] == "run_not_found"
    assert not project.db.exists()


def test_unknown_signal(project: Project) -> None:
    """A signal that no run waits for is 10 with those that are awaited; nothing is stored."""
    project.cli("run", "asking", "--id", "report")
    history = project.history("report")
    refused = project.cli("signal", "aproval", "--payload", "true", "--json", check=10)
    assert refused.error["code"] == "signal_not_awaited"
    assert "'aproval'" in refused.error["message"]
    assert "approval" in f"{refused.error['message']} {refused.error['hint']}"
    assert project.history("report") == history
    assert project.query_db("SELECT count(*) FROM inbox") == [(0,)]


def test_two_runs_match_a_prefix(project: Project) -> None:
    """A prefix of two runs is 9 with both; neither is changed."""
    project.cli("run", "asking", "--id", "report-january")
    project.cli("run", "asking", "--id", "report-june")
    for command in (("status",), ("cancel",), ("terminate",), ("signal", "approval")):
        refused = project.cli(*command, "report", "--json", check=9)
        assert refused.error["code"] == "ambiguous"
        told = f"{refused.error}"
        assert "report-january" in told
        assert "report-june" in told
    for run in ("report-january", "report-june"):
        assert project.waits(run, "approval")
    assert project.status("report-ja")["workflow_id"] == "report-january"


def test_an_id_that_reads_like_another_run(project: Project) -> None:
    """A run id that is another run's workflow id as well is 9 with both; neither is changed, and
    each is reached by its own other name. FINDINGS S4"""
    project.cli("run", "asking", "--id", "first", "-d")
    run_id = project.status("first")["run_id"]
    project.cli("run", "asking", "--id", run_id, "-d")
    for command in (("status",), ("cancel",), ("terminate",), ("resume",), ("signal", "approval")):
        refused = project.cli(*command, run_id, "--json", check=9)
        assert refused.error["code"] == "ambiguous"
        assert refused.error["candidates"] == [run_id, "first"]
    other = next(run for run in project.cli("list", "--json").json if run["workflow_id"] == run_id)
    project.cli("signal", "approval", "first", "--text", "one")
    project.cli("signal", "approval", other["run_id"], "--text", "two")
    assert project.result("first") == "it one is done"
    assert project.result(other["run_id"]) == "it two is done"


def test_two_runs_wait_for_the_signal(project: Project) -> None:
    """A signal without a run that two wait for is 9 with both; neither gets it."""
    project.cli("run", "asking", "--id", "report-january")
    project.cli("run", "asking", "--id", "report-june")
    refused = project.cli("signal", "approval", "--payload", "true", "--json", check=9)
    assert refused.error["code"] == "ambiguous"
    assert "report-january" in f"{refused.error}"
    assert "report-june" in f"{refused.error}"
    assert project.query_db("SELECT count(*) FROM inbox") == [(0,)]
    assert not project.events("report-june", "SignalReceived")


def test_id_that_exists(project: Project) -> None:
    """Starting under an id that is stored, open or ended, is 9, and does not touch that run."""
    project.cli("run", "asking", "--id", "report")
    history = project.history("report")
    refused = project.cli("run", "asking", "--id", "report", "--json", check=9)
    assert refused.error["code"] == "already_exists"
    assert "'report'" in refused.error["message"]
    assert project.history("report") == history
    project.cli("terminate", "report")
    project.cli("run", "asking", "--id", "report", check=9)
    assert len(project.cli("list", "--json", "--all").json) == 1


@pytest.mark.parametrize("name", ["../../escape", "/tmp/escape", "a/b", "..", "~root", "a%2fb"])
def test_names_that_look_like_paths(project: Project, name: str) -> None:
    """An id or signal name is never used as a path: no file appears beside the state folder."""
    before = sorted(p for p in project.root.parent.rglob("*") if ".belugawf" not in p.parts)
    started = project.cli("run", "asking", "--id", name, check=None).no_traceback()
    assert started.code in (0, 2), started
    if started.code == 0:
        project.cli("signal", name, name, "--payload", "1")
        assert project.status(name)["workflow_id"] == name
        project.cli("signal", "approval", name, "--payload", "1")
        assert project.result(name) == "it 1 is done"
        (project.root / "activity.log").unlink()
    after = sorted(p for p in project.root.parent.rglob("*") if ".belugawf" not in p.parts)
    assert after == before
    assert all("escape" not in path.name for path in project.root.parent.rglob("*"))


def test_control_characters_are_escaped(project: Project) -> None:
    """Control characters and rich markup in ids, inputs and signals are shown, not obeyed."""
    name = f"run {NASTY} [bold red]x[/]"
    started = project.cli("run", "asking", "--id", name, "-i", name, check=None).no_traceback()
    shown = [started]
    if started.code == 0:
        project.cli("signal", name, name, "--text", name, "--by", name)
        shown += [
            project.cli("status", name),
            project.cli("status"),
            project.cli("list"),
            project.cli("waiting"),
            project.cli("history", name),
            project.cli("history", name, "--full"),
            project.cli("cancel", name, "--reason", name),
            project.cli("history", name, "--full"),
            project.cli("status", name),
        ]
        assert "[bold red]x[/]" in shown[1].out
        assert project.cli("list", "--json").json[0]["workflow_id"] == name
    else:
        assert started.code == 2
    shown.append(project.cli("status", f"other {NASTY}", check=10))
    shown.append(project.cli("run", f"other {NASTY}", check=10))
    shown.append(project.cli("signal", f"other {NASTY}", "--payload", "1", check=10))
    for result in shown:
        for character in (ESCAPE, "\x07", "\x9b"):
            assert character not in result.out, f"{character!r} was printed\n{result!r}"
            assert character not in result.err, f"{character!r} was printed\n{result!r}"


def test_empty_names(project: Project) -> None:
    """An empty id or signal name is refused with 2, and nothing is stored."""
    project.cli("run", "asking", "--id", "", check=2).no_traceback()
    project.cli("run", "asking", "--id", "report")
    project.cli("signal", "", "report", "--payload", "1", check=2).no_traceback()
    assert len(project.cli("list", "--json").json) == 1
    assert not project.events("report", "SignalReceived")
