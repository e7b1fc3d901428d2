"""README and docs are compared with the code: commands, links, names, exit codes, snippets."""

from __future__ import annotations

import builtins
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from belugawf.cli import exits
from belugawf.cli.app import COMMANDS, app
from belugawf.model import endings, errors
from belugawf.model.events import EVENT_TYPES
from tests import tables

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guide.md"
DOCS = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`(belugawf [^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# Where a command ends and the shell goes on.
_SHELL = {"&&", "||", "|", ";", "&", ">", "<", "#", "then"}
# A word is an event's name if it begins and ends like one.
_EVENT = re.compile(
    r"(?:Workflow|Activity|Attempt|Timer|Wait|Signal|Cancel)"
    r"(?:Started|Scheduled|Completed|Failed|Cancelled|Terminated|TimedOut|Fired|Ended|Received"
    r"|Requested|CancelRequested|Interrupted)"
)

each_document = pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)


def blocks(document: Path, *languages: str) -> list[str]:
    """The fenced blocks of these languages ("" for none)."""
    return [
        body for language, body in _FENCE.findall(document.read_text()) if language in languages
    ]


def command_lines(document: Path) -> Iterator[str]:
    """What is to be typed (or runs in cron or systemd): lines of blocks, and `belugawf ...`."""
    text = document.read_text()
    for body in blocks(document, "", "sh", "ini"):
        for line in body.replace("\\\n", " ").splitlines():
            if line.startswith(("$ ", "* ", "0 ", "belugawf ", "if belugawf ", "ExecStart=")):
                yield line
    prose = _FENCE.sub("", text)
    yield from (line.strip() for line in prose.splitlines() if line.startswith("    "))
    yield from _SPAN.findall(prose)


def calls(line: str) -> Iterator[list[str]]:
    """The arguments of each `belugawf` in a line."""
    words = shlex.split(line.removeprefix("ExecStart=").replace(";", " ; "))
    for start, word in enumerate(words):
        program = word.rpartition("/")[2]
        if program != "belugawf" or words[start - 1] in ("cd", "."):
            continue
        rest = words[start + 1 :]
        end = next((i for i, after in enumerate(rest) if after in _SHELL), len(rest))
        if rest[:end]:
            yield rest[:end]


@cache
def options(name: str | None) -> dict[str, bool]:
    """The flags of a command (`None`: those before it), and whether each takes a value."""
    group: Any = typer.main.get_command(app)
    with typer.Context(group) as context:
        command = group if name is None else group.get_command(context, name)
        found = {
            flag: not parameter.is_flag
            for parameter in command.get_params(context)
            if parameter.param_type_name == "option"
            for flag in (*parameter.opts, *parameter.secondary_opts)
        }
    return {**found, "--help": False, "-h": False}


def unknown_words(arguments: list[str]) -> Iterator[str]:
    """Flags and subcommands that do not exist."""
    name: str | None = None
    skip = False
    for word in arguments:
        if skip:
            skip = False
        elif word.startswith("-") and len(word) > 1:
            flag = word.partition("=")[0]
            if flag not in options(name):
                yield f"{name or 'belugawf'}: {flag}"
            skip = options(name).get(flag, False) and "=" not in word
        elif name is None and word in COMMANDS:
            name = word
        elif name is None:
            yield word
            return


@each_document
def test_commands_exist(document: Path) -> None:
    """Every command that is named has that subcommand and those flags."""
    found = [call for line in command_lines(document) for call in calls(line)]
    assert found or document.name in ("CHANGELOG.md", "configuration.md")
    assert [word for call in found for word in unknown_words(call)] == []


def test_command_check_finds_mistakes() -> None:
    """The check above would find a flag and a subcommand that do not exist."""
    assert [list(calls("$ cd x && .venv/bin/belugawf -C x resume --max-tme 5m | jq"))] == [
        [["-C", "x", "resume", "--max-tme", "5m"]]
    ]
    assert list(unknown_words(["-C", "x", "resume", "--max-tme", "5m"])) == ["resume: --max-tme"]
    assert list(unknown_words(["resumee", "--json"])) == ["resumee"]


def test_all_commands_are_in_the_changelog() -> None:
    """The changelog names each command."""
    text = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in COMMANDS if f"`{name}`" not in text] == []


# -- links ---------------------------------------------------------------------------------------


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    prose = _FENCE.sub("", document.read_text())
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links_resolve(document: Path) -> None:
    """Every relative link leads to a file, and to a heading where it names one."""
    broken = []
    for target in _LINK.findall(_FENCE.sub("", document.read_text())):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_readme_leads_to_all_docs() -> None:
    """No page of the docs is an orphan."""
    text = README.read_text()
    assert [path.name for path in DOCS if path != README and path.name not in text] == []


# -- names ---------------------------------------------------------------------------------------


@each_document
def test_event_types_exist(document: Path) -> None:
    """Every word that looks like an event type is one."""
    text = document.read_text()
    named = {word for word in re.findall(r"\b[A-Z]\w+\b", text) if _EVENT.fullmatch(word)}
    assert named - EVENT_TYPES.keys() == set()


@each_document
def test_exceptions_exist(document: Path) -> None:
    """Every exception of ours that is named exists."""
    words = set(re.findall(r"\b[A-Z]\w+Error\b", document.read_text()))
    known = {name for name in words if hasattr(errors, name) or hasattr(endings, name)}
    known |= {name for name in words if hasattr(builtins, name)}
    foreign = {"CancelledError", "ConnectError"}
    assert words - known - foreign == set()


def exit_codes() -> set[int]:
    """Every exit code there is: the CLI's constants, and those of the exceptions."""
    constants = {
        value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)
    }
    pending, raised = [errors.BelugaError], set()
    while pending:
        error = pending.pop()
        pending += error.__subclasses__()
        raised.add(error.exit_code)
    return constants | raised


def test_exit_code_table() -> None:
    """The guide's table has exactly the exit codes that there are, in order."""
    section = GUIDE.read_text().partition("\n## Exit codes\n")[2]
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    assert listed == sorted(exit_codes())


@each_document
def test_exit_codes_exist(document: Path) -> None:
    """An exit code that is named in a sentence exists."""
    named = re.findall(r"exit code (?:is )?(\d+)", document.read_text())
    assert {int(code) for code in named} - exit_codes() == set()


def test_views_exist() -> None:
    """The guide's views are those of the schema."""
    schema = (ROOT / "belugawf" / "local" / "file" / "schema.sql").read_text()
    views = set(re.findall(r"CREATE VIEW (\w+)", schema))
    assert set(re.findall(r"\b\w+_view\b", GUIDE.read_text())) == views


def test_architecture_names_existing_files() -> None:
    """Every file that the architecture's table names exists."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (`[^|]+?) \|", text.partition("## What is where")[2], re.MULTILINE)
    named: set[Path] = set()
    for row in rows:
        folder = Path()
        for name in re.findall(r"`([^`]+)`", row):
            folder = Path(name).parent if "/" in name else folder
            named.add(Path(name) if "/" in name else folder / name)
    package = ROOT / "belugawf"
    assert {str(path) for path in named if not (package / path).exists()} == set()


# -- code ----------------------------------------------------------------------------------------


@each_document
def test_python_blocks_compile(document: Path) -> None:
    """Python examples have no syntax error, and import names that exist."""
    for body in blocks(document, "python"):
        code = compile(textwrap.dedent(body), document.name, "exec")
        for line in body.splitlines():
            if line.startswith(("import ", "from ")):
                exec(line, {})
        assert code.co_code


@each_document
def test_yaml_blocks_load(document: Path) -> None:
    """YAML examples can be read."""
    for body in blocks(document, "yaml"):
        yaml.safe_load(body)


# -- the two commands ----------------------------------------------------------------------------


def readme_command(marker: str) -> str:
    """The line that `.ci/run` finds, by its own function."""
    script = (ROOT / ".ci" / "run").read_text()
    function = re.search(r"^readme_command\(\) \{\n.*?^\}\n", script, re.DOTALL | re.MULTILINE)
    assert function is not None
    found = subprocess.run(
        ["bash", "-c", f"{function[0]}readme_command {marker}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.rstrip("\n")


def test_main_command_is_found() -> None:
    """`.ci/run` finds the line that installs and starts the tutorial."""
    line = readme_command("main")
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -q . && ")
    (call,) = calls(line.rpartition(" && ")[2])
    assert call[:2] == ["run", "research"]
    assert list(unknown_words(call)) == []
    assert (ROOT / "workflows" / "research.py").exists()


def test_test_command_is_found() -> None:
    """`.ci/run` finds the line that installs and runs the tests."""
    assert readme_command("test").endswith(" && .venv/bin/pytest")
    assert "-e '.[test]'" in readme_command("test")


def test_architecture_has_the_tables_of_the_code() -> None:
    """The phases of a run, its exits, and the phases of a slot, with where each may go."""
    assert tables.in_document() == tables.rendered() + "\n\n", "python -m tests.tables --write"
