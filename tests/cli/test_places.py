"""Wrong places: every command says what it looked at, ends with its code, and creates nothing.

Commands run in this process, on real files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from belugawf.__main__ import run
from belugawf.config import unknown_variables
from tests.cli.conftest import Result

# Each command with what it needs; RUN is a run that is not there.
COMMANDS = [
    ["run", "greeting", "-i", "Ada"],
    ["run", "greeting", "-i", "Ada", "-d", "--id", "a"],
    ["run"],
    ["resume"],
    ["rerun", "RUN-1"],
    ["resume", "RUN-1"],
    ["signal", "approval", "--payload", "true"],
    ["signal", "approval", "RUN-1", "--payload", "true"],
    ["signal", "approval", "--all"],
    ["status"],
    ["status", "RUN-1"],
    ["waiting"],
    ["query", "RUN-1", "total"],
    ["list"],
    ["history"],
    ["logs"],
    ["result", "RUN-1"],
    ["wait"],
    ["cancel"],
    ["cancel", "RUN-1", "RUN-2"],
    ["terminate", "RUN-1", "RUN-2", "--yes"],
    ["prune", "--older-than", "1d", "--yes"],
    ["worker"],
    ["workflows"],
    ["doctor"],
]
by_name = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
# Without a database these have nothing to show, which is no error.
LOOKING = {"resume", "status", "waiting", "list", "prune"}
NEED_WORKFLOWS = {"run", "worker"}


class Shell:
    """Runs commands in an empty folder, `here`, with a file and a folder in it."""

    def __init__(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.here = here
        self._capfd = capfd
        (here / "file").write_text("this is a text\n")
        (here / "folder").mkdir()

    def __call__(self, *arguments: str) -> Result:
        """The command's result; fails if it has created or changed anything."""
        before = self._content()
        self._capfd.readouterr()
        code = run(arguments)
        out, err = self._capfd.readouterr()
        assert self._content() == before
        return Result(code, out, err)

    def _content(self) -> dict[str, bytes | None]:
        return {
            str(path): path.read_bytes() if path.is_file() else None
            for path in self.here.rglob("*")
        }


@pytest.fixture
def shell(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    for name in os.environ:
        if name.startswith("BELUGAWF_"):
            monkeypatch.delenv(name)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    yield Shell(here, capfd)
    os.chdir(tmp_path)  # whatever -C has done


def is_about_runs(command: list[str]) -> bool:
    """Whether the command needs a run, or nothing, but no modules."""
    return command[0] not in NEED_WORKFLOWS | {"workflows", "doctor"}


def check_no_database(done: Result, command: list[str], db: Path) -> None:
    """The command has said that this database is not there, and ended with its code."""
    if not is_about_runs(command):
        return
    empty = command[0] in LOOKING and len(command) == (4 if command[0] == "prune" else 1)
    assert done.code == (0 if empty else 10)
    assert f"{db} does not exist" in done.err


@by_name
def test_an_empty_folder(shell: Shell, command: list[str]) -> None:  # FINDINGS L4
    """The wrong folder: the database, or the folder of modules, that was looked for."""
    done = shell(*command)
    check_no_database(done, command, shell.here / ".belugawf" / "state.db")
    if command[0] in NEED_WORKFLOWS:
        assert done.code == 10
    if command[0] in NEED_WORKFLOWS | {"workflows", "doctor"}:
        assert f"{shell.here / 'workflows'}" in done.out + done.err
        assert "does not exist" in done.out + done.err


@by_name
@pytest.mark.parametrize("way", ["flag", "environment", "configuration"])
def test_another_database(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: list[str], way: str
) -> None:  # FINDINGS L4
    """A database that somebody named and that is not there, however it was named."""
    db = shell.here / "nowhere" / "x.db"
    flags: list[str] = []
    if way == "flag":
        flags = ["--db", "nowhere/x.db"]
    elif way == "environment":
        monkeypatch.setenv("BELUGAWF_DB", "nowhere/x.db")
    else:
        (shell.here / ".belugawf.yaml").write_text("db: nowhere/x.db\n")
    done = shell(*flags, *command)
    if not (command == ["resume"] and way == "configuration"):  # cron, before the first run
        check_no_database(done, command, db)
    if command[0] == "doctor":
        assert str(db) in done.out


def test_scripts_are_told_too(shell: Shell) -> None:  # FINDINGS L4
    """--json and -q print what they always do, and a warning beside it."""
    for command in ("list", "waiting", "resume"):
        done = shell("--db", "x.db", command, "--json")
        assert (done.code, done.json) == (0, [])
        assert done.err == f"warning: there is no run yet: {shell.here}/x.db does not exist\n"
    assert "x.db does not exist" in shell("--db", "x.db", "list", "-q").err
    (shell.here / "workflows").mkdir()
    assert shell("list", "--json").err == ""  # a project that has not begun
    assert shell("resume").err == ""
    assert "does not exist" in shell("list").err


@by_name
@pytest.mark.parametrize("place", ["file", "folder", "file/x.db"])
def test_no_database_at_all(shell: Shell, command: list[str], place: str) -> None:
    """A text, a folder, and a file in place of a folder: exit 12, with the path."""
    modules = shell.here / "workflows"
    modules.mkdir()
    (modules / "greeting.py").write_text(MODULE)
    done = shell("--db", place, *command)
    if command[0] == "workflows":
        assert done.code == 0
        return
    assert done.code == 12
    assert str(shell.here / place.partition("/")[0]) in done.out + done.err


MODULE = """
from belugawf import workflow

@workflow
async def greeting(ctx, name: str):
    return name
"""


@by_name
@pytest.mark.parametrize(
    ("flags", "variables", "said"),
    [
        (["-C", "nowhere"], {}, "'nowhere'"),
        (["-C", "file"], {}, "'file'"),
        (["--config", "nowhere.yaml"], {}, "there is no configuration file '{here}/nowhere.yaml'"),
        (["--config", "folder"], {}, "'{here}/folder' is a folder"),
        (["--config", "file/x"], {}, "file/x"),
        ([], {"BELUGAWF_CONFIG": "nowhere/c.yaml"}, "'{here}/nowhere/c.yaml'"),
        (["--config", "file"], {}, "{here}/file"),
        ([], {"BELUGAWF_PROVIDER": "sqlite"}, "there is no provider 'sqlite'"),
    ],
)
def test_no_configuration(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    flags: list[str],
    variables: dict[str, str],
    said: str,
) -> None:
    """A directory, a file or a provider that is not there, or is something else: exit 14."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = shell(*flags, *command)
    assert done.code == 14
    assert said.format(here=shell.here) in done.out + done.err


@by_name
def test_a_folder_that_was_removed(shell: Shell, command: list[str]) -> None:
    """The working directory is gone: exit 14, and no bug of ours."""
    gone = shell.here / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    done = shell(*command)
    assert done.code == 14
    assert "the working directory" in done.out + done.err


@pytest.mark.parametrize("folder", ["nowhere", "file", "folder"])
def test_no_modules(shell: Shell, folder: str) -> None:  # FINDINGS L4
    """The folder of modules is not there, is a file, or is empty: said of that very folder."""
    why = {"nowhere": " does not exist", "file": " is not a folder", "folder": ""}[folder]
    for command in (["run", "greeting"], ["run"], ["worker"], ["workflows"], ["doctor"]):
        done = shell("--workflows", folder, *command)
        assert done.code == (10 if command[0] in NEED_WORKFLOWS else 0)
        shown = done.out + done.err
        assert f"{shell.here / folder}{why}" in shown.replace(", which", "")


@pytest.mark.parametrize("flag", ["--input-file", "--payload-file"])
@pytest.mark.parametrize("name", ["nowhere", "folder"])
def test_files_of_payloads(shell: Shell, flag: str, name: str) -> None:
    """A payload's file that is not there or is a folder: exit 2, with its name."""
    command = ["run", "greeting"] if flag == "--input-file" else ["signal", "go", "r"]
    done = shell(*command, flag, name)
    assert done.code == 2
    assert f"{flag} '{name}'" in done.err


def test_nothing_is_created_for_what_cannot_start(shell: Shell) -> None:  # FINDINGS L4
    """An unknown workflow, input of the wrong type, an id that cannot be: no database."""
    (shell.here / "workflows").mkdir()
    (shell.here / "workflows" / "greeting.py").write_text(MODULE.replace("str", "int"))
    for arguments, code in (
        (["NOPE"], 10),
        (["greeting", "-i", "many"], 2),
        (["greeting"], 2),
        (["greeting", "-a", "nme=1"], 2),
        (["greeting", "-i", "1", "--id", "@x"], 2),
        (["greeting", "-i", "1", "--id", "x" * 2_000], 2),
        (["greeting", "-i", "1", "--timeout", "soon"], 2),
    ):
        (shell.here / "workflows" / "__pycache__").mkdir(exist_ok=True)
        assert shell("run", *arguments).code == code, arguments


CLASH = """
from belugawf import activity

@activity
def load():
    return 1
"""
USER = """
from belugawf import workflow
{clash}
async def by_name(ctx):
    return await ctx.execute_activity("load")

async def by_function(ctx):
    return await ctx.execute_activity(load)

@workflow
async def direct(ctx):
    return await ctx.execute_activity(load)

@workflow
async def helped(ctx):
    return await by_function(ctx)

@workflow
async def named(ctx):
    return await by_name(ctx)

@workflow
async def nested(ctx):
    import asyncio
    return await asyncio.gather(*(ctx.execute_activity(load) for _ in range(2)))

@workflow
async def other(ctx):
    return 5
"""


def test_a_run_that_could_not_go_on_is_not_recorded(shell: Shell) -> None:  # FINDINGS L4
    """Two modules define the activity that it asks for: exit 14, and nothing is recorded."""
    modules = shell.here / "workflows"
    modules.mkdir()
    (modules / "clash_one.py").write_text(USER.format(clash=CLASH))
    (modules / "clash_two.py").write_text(CLASH)
    (modules / "__pycache__").mkdir()
    for name in ("direct", "helped", "named", "nested"):
        done = shell("run", name)
        assert done.code == 14
        assert "activity 'load' is defined twice" in done.err
    assert run(["run", "other"]) == 0


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BELUGAWF_DBS", "did you mean BELUGAWF_DB?"),
        ("BELUGAWF_WORKFLOW", "did you mean BELUGAWF_WORKFLOWS?"),
        ("BELUGAWF_DATABASE", "BELUGAWF_DB,"),
        ("BELUGAWF_NAMESPACE", "did you mean BELUGAWF_TEMPORAL_NAMESPACE?"),
    ],
)
def test_unknown_variables(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:  # FINDINGS L4
    """A misspelled variable is named, with the nearest one that is read; by doctor too."""
    monkeypatch.setenv(name, "x")
    for command in ("list", "resume", "status"):
        err = shell(command).err
        assert f"warning: nothing reads the environment variable {name}; " in err
        assert meant in err
    assert (
        f"WARN\tenvironment\tnothing reads the environment variable {name}" in shell("doctor").out
    )
    known = {
        "BELUGAWF_DB": "x",
        "BELUGAWF_TRUST": "1",
        "BELUGAWF_TEST_CLOCK_OFFSET": "1",
        "OTHER": "1",
    }
    assert unknown_variables(known) == []


def test_doctor_knows_the_default_workflow(shell: Shell) -> None:  # FINDINGS L3
    """A default_workflow that no module defines is said by doctor and by run."""
    (shell.here / ".belugawf.yaml").write_text("default_workflow: greting\n")
    modules = shell.here / "workflows"
    modules.mkdir()
    (modules / "greeting.py").write_text(MODULE)
    (modules / "__pycache__").mkdir()
    done = shell("doctor", "--json")
    assert done.code == 14
    (finding,) = [c for c in json.loads(done.err)["checks"] if c["check"] == "default_workflow"]
    assert finding["state"] == "FAIL"
    assert "'greting'" in finding["message"]
    done = shell("run")
    assert done.code == 10
    assert "names as default_workflow" in done.err
    assert "did you mean 'greeting'?" in done.err
