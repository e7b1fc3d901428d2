"""Every mistake: one sentence, one exit code, one JSON line where that is asked for."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import traceback
from pathlib import Path

import pytest
import typer

from belugawf.cli.app import COMMANDS, GROUPS, app
from belugawf.cli.examples import EXAMPLES, GUIDE
from belugawf.model.errors import (
    BusyError,
    ConfigurationError,
    RunNotFoundError,
    UnavailableError,
)
from tests.cli.conftest import Cli
from tests.cli.fake import run_info, signal_wait


@pytest.mark.parametrize("command", [["run", "--input-file"], ["signal", "go", "--payload-file"]])
@pytest.mark.parametrize("source", ["/dev/zero", "-"])
def test_files_without_an_end(cli: Cli, command: list[str], source: str) -> None:
    """They are read as far as a payload can go, and refused."""
    # FINDINGS O6
    cli.settings.payload_limit = 1_000
    with Path("/dev/zero").open() as zero, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", zero)
        done = cli(*command, source, "--json")
    assert (done.code, done.error["code"]) == (2, "usage")
    assert f"{command[-1]} '{source}' has more than 16,000 bytes" in done.error["message"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(cli: Cli, command: str) -> None:
    """--help prints usage, the command's line of the table, and every common flag; exit 0."""
    done = cli(command, "--help")
    assert done.code == 0
    assert done.err == ""
    assert COMMANDS[command] in done.out
    for flag in ("--json", "--quiet", "--verbose"):
        assert flag in done.out


def test_help_lists_every_command(cli: Cli) -> None:
    """`belugawf`, -h and --help print the same list of commands; exit 0."""
    bare, short, long = cli(), cli("-h"), cli("--help")
    assert bare.code == short.code == long.code == 0
    assert bare.out == short.out == long.out
    for command, line in COMMANDS.items():
        assert f"  {command} " in bare.out
        assert line in bare.out


def test_version(cli: Cli) -> None:
    """--version prints name and version on stdout."""
    done = cli("--version")
    assert (done.code, done.out) == (0, "belugawf 0.1.0\n")


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (["nonsense"], 2, "usage"),
        (["status", "--nonsense"], 2, "usage"),
        (["signal"], 2, "usage"),
        (["query", "only-one"], 2, "usage"),
        (["--color", "blue", "status"], 2, "usage"),
        (["status", "nobody"], 10, "run_not_found"),
        (["result", "nobody"], 10, "run_not_found"),
        (["history", "nobody"], 10, "run_not_found"),
        (["wait", "nobody"], 10, "run_not_found"),
        (["cancel", "nobody"], 10, "run_not_found"),
        (["terminate", "nobody"], 10, "run_not_found"),
        (["resume", "nobody"], 10, "run_not_found"),
        (["signal", "go", "nobody"], 10, "run_not_found"),
        (["status", "report-"], 9, "ambiguous"),
        (["cancel"], 9, "ambiguous"),
        (["run", "unknown"], 10, "workflow_not_found"),
        (["run", "-i", "1", "-a", "a=1"], 2, "usage"),
        (["run", "-a", "novalue"], 2, "usage"),
        (["run", "-a", "a=1", "-a", "a=2"], 2, "usage"),
        (["run", "--timeout", "90"], 2, "usage"),
        (["run", "--if-exists", "maybe"], 2, "usage"),
        (["run", "--detach", "--wait"], 2, "usage"),
        (["run", "--input-file", "missing.json"], 2, "usage"),
        (["run", "--id", "report-1"], 9, "already_exists"),
        (["signal", "go", "--payload", "{bad"], 2, "usage"),
        (["signal", "go", "--payload", "NaN"], 2, "usage"),
        (["signal", "go", "--payload", "1", "--text", "a"], 2, "usage"),
        (["signal", "go", "report-1", "--all"], 2, "usage"),
        (["signal", "go"], 10, "signal_not_awaited"),
        (["signal", "go", "--all"], 10, "signal_not_awaited"),
        (["signal", "go", "ended"], 9, "run_ended"),
        (["cancel", "ended"], 9, "run_ended"),
        (["terminate", "ended"], 9, "run_ended"),
        (["query", "ended", "what"], 10, "query_not_found"),
        (["query", "ended", "what", "--args", "[1"], 2, "usage"),
        (["list", "--status", "runing"], 2, "usage"),
        (["list", "-n", "0"], 2, "usage"),
        (["list", "-n", "3", "--all"], 2, "usage"),
        (["list", "--since", "yesterday"], 2, "usage"),
        (["wait", "ended", "--for", "rain"], 2, "usage"),
        (["wait", "ended", "--for", "signal:"], 2, "usage"),
        (["worker", "--concurrency", "many"], 2, "usage"),
        (["result", "report-1"], 8, "not_finished"),
        (["wait", "report-1", "--max-wait", "0s"], 8, "not_finished"),
    ],
)
def test_mistakes(cli: Cli, arguments: list[str], code: int, name: str) -> None:
    """A mistake ends with its code; with --json one line on stderr says the same."""
    cli.executor.runs = {
        info.run_id: info
        for info in (
            run_info("report-1"),
            run_info("report-2"),
            run_info("ended", status="completed"),
        )
    }
    cli.executor.expires = "--max-wait" in arguments
    plain = cli(*arguments)
    assert plain.code == code
    assert plain.out == ""
    assert plain.err.startswith("error: ")
    assert "Traceback" not in plain.err
    as_json = cli(*arguments, "--json")
    assert as_json.code == code
    error = as_json.error
    assert error["schema"] == "belugawf.error/1"
    assert error["exit_code"] == code
    assert error["code"] == name
    assert error["message"]
    assert "hint" in error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BusyError("the database is held", hint="wait"), 11),
        (UnavailableError("the disk is full", hint="make room"), 12),
        (ConfigurationError("unknown key", hint="remove it"), 14),
    ],
)
def test_environment(cli: Cli, error: Exception, code: int) -> None:
    """Errors of the environment keep their exit code, their sentence and their hint."""
    cli.executor.error = error  # type: ignore[assignment]
    done = cli("status")
    assert done.code == code
    assert done.err == f"error: {error}\nhint: {error.hint}\n"  # type: ignore[attr-defined]


def test_ambiguous_names_candidates(cli: Cli) -> None:
    """An ambiguous run lists its candidates, in JSON as an array."""
    cli.executor = type(cli.executor)(run_info("report-1"), run_info("report-2"))
    assert "report-1" in cli("status", "report").err
    assert cli("status", "report", "--json").error["candidates"] == ["report-1", "report-2"]


def test_mistyped_command_is_suggested(cli: Cli) -> None:
    """A command that is almost right is suggested."""
    assert "'resume'" in cli("resme").err


def test_global_flag_after_command(cli: Cli) -> None:
    """A global flag behind the command is told where it belongs."""
    done = cli("status", "--db", "x.db")
    assert done.code == 2
    assert "--db stands before the command" in done.err


def test_bug_of_ours(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is exit 1, called a bug of ours, with a traceback under -v only."""

    async def explode() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(cli.executor, "summary", explode)
    quiet = cli("status")
    assert quiet.code == 1
    assert "bug of ours: ZeroDivisionError: oops" in quiet.err
    assert "Traceback" not in quiet.err
    assert "Traceback" in cli("status", "-v").err
    assert cli("status", "--json").error["code"] == "internal"


def test_keyboard_interrupt(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while nothing is driven is exit 130 without a word."""

    def interrupt(flags: object, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("belugawf.cli.session.settings_of", interrupt)
    done = cli("status")
    assert (done.code, done.out, done.err) == (130, "", "")


def test_json_word_as_value_is_no_flag(cli: Cli) -> None:
    """Behind "--" a text that looks like --json does not change how errors are told."""
    done = cli("status", "--", "--json")
    assert done.code == 10
    with pytest.raises(ValueError):
        json.loads(done.err)


def test_prompt_only_on_terminals(
    cli: Cli, terminal: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """terminate asks a person only; no is exit 9, --yes does not ask."""
    cli.executor = type(cli.executor)(run_info("report-1"), run_info("report-2"))
    asked: list[str] = []

    def confirm(text: str, **options: object) -> bool:
        asked.append(text)
        return False

    monkeypatch.setattr("typer.confirm", confirm)
    terminal(prompt=True)  # type: ignore[operator]
    refused = cli("terminate", "report-1")
    assert refused.code == 9
    assert "report-1" in asked[0]
    assert cli.executor.runs["run-of-report-1"].open
    assert cli("terminate", "report-1", "--yes").code == 0
    terminal(prompt=False)  # type: ignore[operator]
    assert cli("terminate", "report-2").code == 0
    assert len(asked) == 1


def test_some_of_many_refuse(cli: Cli) -> None:
    """One run that refuses does not stop the others; the code is its code."""
    cli.executor = type(cli.executor)(
        run_info("first", status="completed"), run_info("second", waiting_for=(signal_wait(),))
    )
    done = cli("terminate", "first", "second", "--yes")
    assert done.code == 9
    assert not cli.executor.runs["run-of-second"].open


# -- what somebody may have meant ----------------------------------------------------------------


def test_help_has_groups_examples_and_more(cli: Cli) -> None:  # FINDINGS L15
    """Every command is in one group, and has examples that can be typed, and a place to read on."""
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS) == sorted(EXAMPLES)
    shown = cli("--help").out
    for title in GROUPS:
        assert f"{title}:" in shown
    guide = (Path(__file__).parents[2] / GUIDE).read_text()
    headings = {
        re.sub(r"[^\w -]", "", line.strip("# ")).lower().replace(" ", "-")
        for line in guide.splitlines()
        if line.startswith("## ")
    }
    group = typer.main.get_command(app)
    for name, (examples, section) in EXAMPLES.items():
        shown = cli(name, "--help").out
        assert section in headings, section
        assert f"{GUIDE}#{section}" in shown
        for example in examples:
            assert f"    {example}\n" in shown
            words = shlex.split(example.split(" > ")[0])
            if words[1].startswith("--"):
                del words[1:3]
            assert words[:2] == ["belugawf", name]
            command = group.get_command(None, name)
            command.make_context(name, words[2:])  # raises for a flag that there is not


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("start", "belugawf run"),
        ("rm", "belugawf prune"),
        ("tail", "belugawf logs"),
        ("approve", "belugawf waiting"),
        ("restart", "belugawf retry RUN"),
        ("stop", "belugawf cancel"),
        ("ps", "belugawf list"),
        ("statsu", "'status'"),
        ("zzz", "belugawf --help"),
    ],
)
def test_words_that_are_no_commands(cli: Cli, word: str, meant: str) -> None:  # FINDINGS L15
    """What other tools call it, and what is mistyped; never a command that does something else."""
    done = cli(word, "x")
    assert done.code == 2
    assert f"there is no command '{word}'" in done.err
    assert meant in done.err.splitlines()[1]
    assert cli(word, "--json").error["code"] == "usage"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["run", "research", "Q4"], "-i VALUE"),
        (["signal", "approval", "report", "true"], "--payload"),
        (["query", "report", "total", "1"], "--args"),
        (["list", "report"], "belugawf status RUN"),
        (["waiting", "report"], "belugawf status RUN"),
        (["status", "report", "other"], "one run at a time"),
        (["workflows", "research"], "belugawf list --workflow"),
        (["worker", "report"], "belugawf resume RUN"),
        (["prune", "report"], "--workflow NAME"),
    ],
)
def test_one_word_too_many(cli: Cli, arguments: list[str], meant: str) -> None:  # FINDINGS L5
    """What a word stands for that the command does not take, and where it belongs."""
    done = cli(*arguments)
    assert done.code == 2
    assert meant in done.err


def test_hints_are_in_tracebacks() -> None:  # FINDINGS L11
    """Whoever calls from Python reads what to do where Python shows the error."""
    error = RunNotFoundError("there is no run 'x'", hint="did you mean 'y'?")
    text = "".join(traceback.format_exception(error))
    assert text.endswith("there is no run 'x'\nhint: did you mean 'y'?\n")
    assert "hint" not in "".join(traceback.format_exception(RunNotFoundError("none")))
    copy = pickle.loads(pickle.dumps(error))
    assert "".join(traceback.format_exception(copy)) == text
