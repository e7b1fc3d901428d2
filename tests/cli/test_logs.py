"""What runs log: shown while they are driven, kept, and listed. FINDINGS L7"""

from __future__ import annotations

import json
import re
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.harness import FORKED, Project, wait_for

MODULE = """
    library = logging.getLogger("some.library")
    library.addHandler(logging.NullHandler())


    @activity(retry=RetryPolicy(max_attempts=2, initial_delay="10ms"))
    def charge(amount: int) -> int:
        activity.logger.info("charging %d", amount)
        activity.logger.debug("for those who look closely")
        library.info("asked \\x1b[31mtwice")
        if activity.info().attempt == 1:
            raise ValueError("declined")
        return amount


    @activity(isolation="process")
    def apart(amount: int) -> int:
        import threading

        activity.logger.info("apart %d", amount)
        thread = threading.Thread(target=activity.logger.warning, args=("from a thread",))
        thread.start()
        thread.join()
        return amount


    @workflow
    async def order(ctx: WorkflowContext, amount: int) -> int:
        ctx.logger.info("ordered %d", amount)
        logging.getLogger("helper").info("helping")
        await ctx.execute_activity(charge, amount)
        await ctx.execute_activity(apart, amount)
        await ctx.wait_for_signal("go")
        ctx.logger.warning("done")
        return amount


    @activity
    def fail() -> None:
        for number in range(7):
            activity.logger.info("step %d", number)
        raise ValueError("no")


    @workflow
    async def failing(ctx: WorkflowContext) -> None:
        ctx.logger.info("it begins")
        await ctx.execute_activity(fail)


    @activity
    def slow() -> None:
        activity.logger.info("before the gate")
        pass_gate("gate")
        activity.logger.info("behind the gate")


    @workflow
    async def gated(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(slow)


    @activity
    def plain() -> None:
        logging.info("by the root logger")
        activity.logger.info("by its own")


    @activity(isolation="process")
    def configures() -> None:
        logging.basicConfig(level=logging.INFO, format="inside %(message)s")
        activity.logger.info("by its own handler")


    @workflow
    async def inside(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(configures)


    @workflow
    async def simple(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(plain)


    @workflow
    async def blocked(ctx: WorkflowContext) -> None:
        note("spins")
        ctx.logger.info("about to spin")
        while True:
            await asyncio.sleep(0)
"""
# What `order` logs up to its wait, from INFO on: whose line, and its text.
ORDER = [
    ("", "INFO", "ordered 3"),
    ("", "INFO", "helping"),
    ("charge[1]", "INFO", "charging 3"),
    ("charge[1]", "INFO", "asked \\x1b[31mtwice"),
    ("charge[2]", "INFO", "charging 3"),
    ("charge[2]", "INFO", "asked \\x1b[31mtwice"),
    ("apart[1]", "INFO", "apart 3"),
    ("apart[1]", "WARNING", "from a thread"),
]
_SHOWN = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d (?P<level>[A-Z]+) +(?P<run>\S+) "
    r"?(?P<who>\w+\[\d\])? ?(?P<logger>[\w.]+)?: (?P<text>.*)"
)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "project", FORKED)
    project.write_module("flow", MODULE)
    yield project
    project.close()


def shown(text: str, run: str = "o") -> list[tuple[str, str, str]]:
    """The log lines of that run among what was said."""
    found = (_SHOWN.fullmatch(line) for line in text.splitlines())
    return [(m["who"] or "", m["level"], m["text"]) for m in found if m and m["run"] == run]


def kept(project: Project, *arguments: str) -> list[tuple[str, str, str]]:
    """The lines that `logs` lists."""
    lines = project.cli("logs", *arguments, "--json").json
    return [
        (f"{line['activity']}[{line['attempt']}]" if line["activity"] else "", line["level"],
         line["message"].replace("\x1b", "\\x1b"))
        for line in lines
    ]  # fmt: skip


def test_shown_and_kept(project: Project) -> None:
    """Each line once, with run, activity and attempt; not again by who goes on with the run."""
    done = project.cli("run", "order", "--id", "o", "-i", "3")
    assert shown(done.err) == ORDER
    assert done.err.count("from a thread") == 1  # by nobody else
    assert kept(project, "o") == ORDER
    signalled = project.cli("signal", "go", "o")
    assert shown(signalled.err) == [("", "WARNING", "done")]
    assert kept(project, "o") == [*ORDER, ("", "WARNING", "done")]


def test_which_are_shown(project: Project) -> None:
    """A level that is asked for; with --quiet and under cron warnings, and all others are kept."""
    project.cli("run", "order", "--id", "o", "-i", "3", "-d")
    assert shown(project.cli("resume").err) == [line for line in ORDER if line[1] == "WARNING"]
    assert kept(project, "o") == ORDER
    quiet = project.cli("run", "order", "--id", "q", "-i", "3", "-q")
    assert shown(quiet.err, "q") == [line for line in ORDER if line[1] == "WARNING"]
    project.configure("logging: {level: error}")
    assert shown(project.cli("run", "order", "--id", "e", "-i", "3").err, "e") == []
    assert kept(project, "e") == []
    debug = project.cli("run", "order", "--id", "d", "-i", "3", "--log-level", "debug")
    assert ("charge[1]", "DEBUG", "for those who look closely") in shown(debug.err, "d")
    assert project.cli("run", "order", "--log-level", "loud", check=2).err.count("loud") == 1


def test_filters(project: Project) -> None:
    """By activity, by level, the last ones; in a pipe a line each, with tabs."""
    project.cli("run", "order", "--id", "o", "-i", "3")
    assert kept(project, "o", "--activity", "charge") == ORDER[2:6]
    assert kept(project, "o", "--level", "warning") == ORDER[7:]
    assert kept(project, "-n", "2") == ORDER[-2:]
    cells = [line.split("\t") for line in project.cli("logs", "o").out.splitlines()]
    assert [(c[1], c[2], c[3], c[5]) for c in cells[2:4]] == [
        ("INFO", "charge", "1", "charging 3"),
        ("INFO", "charge", "1", "asked \\x1b[31mtwice"),
    ]
    nothing = project.cli("logs", "o", "--activity", "none")
    assert (nothing.out, nothing.err) == ("", "o: nothing that it has logged is kept\n")
    project.configure("logging: {keep: 0}")
    project.cli("run", "simple", "--id", "s")
    assert kept(project, "s") == []


# What a module may configure, and how the lines begin then.
CONFIGURATIONS = {
    "mine [fail]": """
        logging.basicConfig(level=logging.INFO, format="mine [%(activity)s] %(message)s")
    """,
    "INFO:belugawf.activity:": "logging.basicConfig(level=logging.INFO)",
    "own ": """
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("own %(message)s"))
        activity.logger.addHandler(handler)
        activity.logger.propagate = False
    """,
    "dict ": """
        import logging.config

        logging.config.dictConfig({
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"f": {"format": "dict %(message)s"}},
            "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
            "root": {"level": "INFO", "handlers": ["h"]},
        })
    """,
}


@pytest.mark.parametrize("form", CONFIGURATIONS)
def test_own_configuration(project: Project, form: str) -> None:
    """What a module configures shows the lines, each once; they are kept all the same."""
    project.write_module("flow", configured(CONFIGURATIONS[form]))
    done = project.cli("run", "failing", "--id", "f", check=3)
    (line,) = [line for line in done.err.splitlines() if "step 3" in line]
    assert line.startswith(form)
    assert ("fail[1]", "INFO", "step 3") in kept(project, "f")


def test_own_levels(project: Project) -> None:
    """They are the program's, if it configures logging."""
    project.write_module("flow", configured('logging.basicConfig(format="mine %(message)s")'))
    done = project.cli("run", "order", "--id", "o", "-i", "3")
    mine = [line for line in done.err.splitlines() if line.startswith("mine ")]
    assert mine == ["mine from a thread"]
    assert kept(project, "o") == [ORDER[-1]]


def test_configured_in_a_child_process(project: Project) -> None:
    """An isolated activity that configures logging for itself shows its lines by itself."""
    done = project.cli("run", "inside", "--id", "i")
    (line,) = [line for line in done.err.splitlines() if "by its own handler" in line]
    assert line == "inside by its own handler"
    assert kept(project, "i") == [("configures[1]", "INFO", "by its own handler")]


def configured(source: str) -> str:
    """The module, with that before it."""
    return textwrap.dedent(source) + textwrap.dedent(MODULE)


def test_functions_of_logging_configure_nothing(project: Project) -> None:
    """`logging.info` sets up a handler where there is none, in an ordinary program."""
    done = project.cli("run", "simple", "--id", "s")
    assert shown(done.err, "s") == [
        ("plain[1]", "INFO", "by the root logger"), ("plain[1]", "INFO", "by its own")
    ]  # fmt: skip


def test_worker_as_json(project: Project) -> None:
    """Each line on stderr is an object, the worker's own messages too."""
    project.cli("run", "order", "--id", "o", "-i", "3", "-d")
    worker = project.start_command("worker", "--log-format", "json")
    wait_for(lambda: "from a thread" in worker.err, lambda: worker.err)
    worker.send(signal.SIGTERM)
    said = worker.wait(check=143).err
    lines: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    assert any(line["message"].startswith("driving ") for line in lines)
    (line,) = (line for line in lines if line["message"] == "apart 3")
    assert line.keys() == project.cli("logs", "o", "--json").json[0].keys()
    assert (line["workflow_id"], line["level"], line["activity"], line["attempt"]) == (
        "o", "INFO", "apart", 1
    )  # fmt: skip


def test_follow_beside_a_worker(project: Project) -> None:
    """It shows lines while the activity goes on, and ends when the run has."""
    worker = project.start_command("worker", "-q")
    project.cli("run", "gated", "--id", "g", "-d")
    follow = project.start_command("logs", "g", "--follow", "--json")
    wait_for(lambda: "before the gate" in follow.out, lambda: follow.out)
    assert "behind" not in follow.out
    project.open_gate("gate")
    lines = [json.loads(line) for line in follow.wait().out.splitlines()]
    assert [line["message"] for line in lines] == ["before the gate", "behind the gate"]
    worker.kill()


def test_status_of_what_failed(project: Project) -> None:
    """The last lines of the activity that the error names."""
    project.cli("run", "failing", "--id", "f", check=3)
    rows = [line.split("\t") for line in project.cli("status", "f").out.splitlines()]
    lines = [value for key, value in rows if key == "log"]
    assert [line.partition(" ")[2] for line in lines] == [
        f"INFO fail[1] step {number}" for number in range(2, 7)
    ]


def test_turn_that_cannot_be_taken(project: Project) -> None:
    """Its lines are shown and kept once: when its problem is new."""
    first = project.cli("run", "blocked", "--id", "b", check=13)
    assert shown(first.err, "b") == [("", "INFO", "about to spin")]
    again = project.cli("resume", "b", check=13)
    assert shown(again.err, "b") == []
    assert project.count("spins") > 1
    assert kept(project, "b") == [("", "INFO", "about to spin")]
    assert "log\t" in (status := project.cli("status", "b").out)
    assert "INFO about to spin" in status


def test_secrets(project: Project) -> None:
    """They are masked where lines are shown, kept, and read."""
    source = """
        @activity
        def login(settings: dict) -> None:
            activity.logger.info("with %s", settings["password"])
            try:
                raise ValueError(settings["password"])
            except ValueError:
                activity.logger.exception("refused")


        @workflow
        async def secret(ctx: WorkflowContext, settings: dict) -> None:
            try:
                raise ValueError(settings["password"])
            except ValueError:
                ctx.logger.exception("refused")
            await ctx.execute_activity(login, settings)
    """
    project.write_module("secrets_of_mine", source)
    given = ("-i", '{"password": "hunter22"}')
    project.cli("run", "secret", "--id", "before", *given)
    assert any("hunter22" in text for _, _, text in kept(project, "before"))
    project.configure("redact: [password]")
    assert "hunter22" not in project.cli("logs", "before").out
    done = project.cli("run", "secret", "--id", "after", *given)
    assert "with ***" in done.err
    assert "hunter22" not in done.err
    project.configure("redact: []")
    assert "hunter22" not in project.cli("logs", "after").out
