"""The examples in `workflows/`, each from its command line to its end."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.harness import PROVIDERS, Project, wait_for, with_env

EXAMPLES = Path(__file__).resolve().parent.parent / "workflows"
MODULES = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty folder whose workflows are the examples."""
    provider = with_env(PROVIDERS["default"], BELUGAWF_WORKFLOWS=str(EXAMPLES))
    project = Project(tmp_path / "project", provider)
    yield project
    project.close()


def scheduled(project: Project, run: str) -> list[str]:
    """The names of the run's activities, in the order they were asked for."""
    return [event["name"] for event in project.events(run, "ActivityScheduled")]


def test_greeting(project: Project) -> None:
    """The smallest workflow greets, with and without a name."""
    assert project.cli("run", "greeting", "-i", "Ada").out == "Hello, Ada!\n"
    assert project.cli("run", "greeting").out == "Hello, world!\n"


def test_research_approved(project: Project) -> None:
    """The tutorial, approved: the same report for the same topic."""
    started = project.cli("run", "research", "-i", "Q4 revenue analysis", "--id", "research-q4")
    assert started.out == ""
    (wait,) = project.cli("waiting", "--json").json
    assert wait["signal"] == "approval"
    assert wait["prompt"] == "Shall the report on 'Q4 revenue analysis' be written?"
    project.cli("signal", "approval", "research-q4", "--payload", "true")
    report = project.cli("result", "research-q4").out
    assert report.startswith("# Q4 revenue analysis\n")
    assert "Reviewed and approved." in report

    project.cli("run", "research", "-i", "Q4 revenue analysis", "--id", "again")
    project.cli("signal", "approval", "--payload", "true")
    assert project.cli("result", "again").out == report
    assert scheduled(project, "again") == ["research", "report"]


@pytest.mark.parametrize("payload", ["false", '"yes"', "1", "null"])
def test_research_rejected(project: Project, payload: str) -> None:
    """Whatever is not exactly true rejects, and no report is written."""
    project.cli("run", "research", "-i", "Q4", "--id", "r")
    project.cli("signal", "approval", "r", "--payload", payload)
    assert project.cli("result", "r").out.strip() == "Workflow rejected by reviewer."
    assert scheduled(project, "r") == ["research"]


def test_research_without_an_answer(project: Project) -> None:
    """Nobody answers for a day: the run fails and says that the approval did not arrive."""
    project.cli("run", "research", "-i", "Q4", "--id", "r")
    project.cli("resume", check=3, clock=25 * 3600)
    error = project.status("r")["error"]
    assert error["type"] == "SignalTimeoutError"
    assert "'approval'" in error["message"]


def test_nightly_report(project: Project) -> None:
    """Three sources answer, one of them late; the one that is down is named in the report."""
    done = project.cli(
        "run", "nightly_report", "--id", "n", "-a", "pause=0.2s", "-a", "retry_delay=0.05s"
    )
    lines = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert set(lines) == {"shop", "warehouse", "partner", "total", "missing"}
    figures = [int(lines[source]) for source in ("shop", "warehouse", "partner")]
    assert int(lines["total"]) == sum(figures)
    assert lines["missing"] == "archive (the archive is switched off)"
    failed = project.events("n", "AttemptFailed")
    assert [event["error"]["type"] for event in failed] == ["ConnectionError"] * 2


def test_nightly_report_of_good_sources(project: Project) -> None:
    """Where all sources answer there is no pause and nothing is missing."""
    done = project.cli("run", "nightly_report", "--id", "n", "-a", 'sources=["shop"]')
    assert [line.split(":")[0] for line in done.out.splitlines()] == ["shop", "total"]
    assert not project.events("n", "TimerStarted")


def test_onboarding(project: Project) -> None:
    """Both questions are asked at once; the answers may come in any order."""
    project.cli("run", "onboarding", "-a", "person=Ada", "--id", "o")
    assert {wait["signal"] for wait in project.cli("waiting", "--json").json} == {
        "contract",
        "laptop",
    }
    project.cli("signal", "laptop", "--payload", '"silver"')
    project.cli("signal", "contract", "--payload", '"signed"')
    assert project.cli("result", "o").out.strip() == (
        "Ada is on board: ada@example.org, laptop-silver-for-ada."
    )
    assert scheduled(project, "o") == ["create_account", "order_laptop"]


def test_onboarding_reminds_and_gives_up(project: Project) -> None:
    """Two reminders for each unanswered question, then the account is closed."""
    arguments = ("-a", "person=Ada", "-a", "remind_every=0.3s", "-a", "reminders=2")
    done = project.cli("run", "onboarding", *arguments, "--id", "o")
    assert done.out.strip() == "Ada did not answer; the account is closed."
    names = scheduled(project, "o")
    assert (names[0], names[-1]) == ("create_account", "close_account")
    assert names[1:-1] == ["send_reminder"] * 4


def test_onboarding_cancelled(project: Project) -> None:
    """Cancelled while it waits: the account is closed and the run is cancelled."""
    project.cli("run", "onboarding", "-a", "person=Ada", "--id", "o")
    project.cli("cancel", "o")
    wait_for(lambda: project.status("o")["status"] != "running")
    assert project.status("o")["status"] == "cancelled"
    assert scheduled(project, "o") == ["create_account", "close_account"]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_docstring_names_a_command(module: Path) -> None:
    """Each example says what it shows, and shows the command line that starts it."""
    docstring = ast.get_docstring(ast.parse(module.read_text()))
    assert docstring
    assert re.search(rf"^ *belugawf run {module.stem}\b", docstring, re.MULTILINE)


def test_names_are_unique() -> None:
    """No two examples share the name of an activity or workflow."""
    names = []
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.decorator_list:
                names.append(node.name)
    assert len(names) == len(set(names))
