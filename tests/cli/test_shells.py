"""Names from outside reach no shell: what Tab offers, and the commands that are printed.

Guards FINDINGS S2.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest
from hypothesis import given, strategies as st

from belugawf import WorkflowContext, new_executor, workflow
from belugawf.model.errors import BelugaError
from belugawf.model.shell import command_line, is_plain, quoted

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 60

SHELLS = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell) or shell == "bash"]
each_shell = pytest.mark.parametrize("shell", SHELLS)

# Each would touch a file, or become something else, if a shell read it.
NASTY = [
    "$(touch PWNED)",
    "`touch PWNED`",
    ";touch PWNED",
    "\ntouch PWNED\n",
    "&&touch PWNED",
    "|touch PWNED",
    "(touch PWNED)",  # what fish runs
    ">PWNED",
    "'$(touch PWNED)'",
    "\\'; touch PWNED; \\'",
    "\\",
    '"$(touch PWNED)"',
    "*",
    "[a-z]",
    "{a,b}",
    "$HOME",
    "two words",
    "tab\there",
    "#comment",
    "!!",
    "\r\x1b[31m",
    "\u202eevil",
]
FIRST = ["-rf", "--db=PWNED", "~root", "=ls", "%1", "@latest", "^a^b"]
PLAIN = ["order-1", "a.b", "2026/03", "order:5", "key=value", "a@b", "Ämter", "a+b,c%20"]


# The text before a value that belongs to a command.
COMMAND = re.compile(r"\b(belugawf [a-z]|chmod|chown|sqlite3|temporal operator)[^:;,]*$")


@workflow
async def asking(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("go")


def start(project: Path, ids: list[str]) -> None:
    """Record runs with these ids, and a wait for a signal of the same name in each."""
    with new_executor(db=project / ".belugawf" / "state.db", workflows=[asking]).sync() as executor:
        for id in ids:
            executor.execute(asking, id=id, detach=True)
    with contextlib.closing(sqlite3.connect(project / ".belugawf" / "state.db")) as db, db:
        db.execute(
            "INSERT INTO waits (run, seq, signal, since) "
            "SELECT key, 1, workflow_id, created_at FROM runs"
        )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which `belugawf` notes its arguments, a line of JSON each time, unless it is
    asked to complete; it is the first on the PATH of `environment`."""
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "belugawf"
    stub.write_text(
        f'#!/bin/sh\n[ -n "$_BELUGAWF_COMPLETE" ] && exec {sys.executable} -m belugawf "$@"\n'
        f'exec {sys.executable} -S -c "import json, sys\n'
        'open(\\"typed\\", \\"a\\").write(json.dumps(sys.argv[1:]) + chr(10)); '
        'print(\\"<ran>\\")" "$@"\n'
    )
    stub.chmod(0o755)
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BELUGAWF_")}
    path = f"{project}/bin:{os.environ['PATH']}"
    home = {"HOME": str(project / "home"), "XDG_CONFIG_HOME": str(project / "home")}
    return {**kept, **home, "PATH": path, "PYTHONPATH": str(REPOSITORY), "LC_ALL": "C.UTF-8"}


def typed(project: Path) -> list[list[str]]:
    """The arguments of each command that was run."""
    return [json.loads(line) for line in (project / "typed").read_text().splitlines()]


# -- Tab -------------------------------------------------------------------------------------------

SET_UP = {
    "bash": (["--norc", "-i"], 'eval "$(_BELUGAWF_COMPLETE=source_bash belugawf)"'),
    "zsh": (
        ["-f", "-i"],
        "autoload -Uz compinit && compinit -u -D && "
        'eval "$(_BELUGAWF_COMPLETE=source_zsh belugawf)"',
    ),
    "fish": (
        ["--no-config", "-i"],
        "env _BELUGAWF_COMPLETE=source_fish belugawf | source",
    ),
}


def interactive(shell: str, project: Path) -> Any:
    """A shell at a terminal, with the completion of `belugawf`."""
    options, prepare = SET_UP[shell]
    child = pexpect.spawn(
        shell,
        options,
        cwd=str(project),
        env={**environment(project), "TERM": "dumb"},
        dimensions=(40, 200),
        encoding="utf-8",
        timeout=PATIENCE_S,
    )
    child.delaybeforesend = None
    child.send(f"{prepare}; echo r''eady\r")
    child.expect("\nready|\rready")
    return child


@pytest.mark.slow
@each_shell
def test_tab_and_enter(shell: str, project: Path) -> None:
    """Tab, then Enter, behind the beginning of each nasty id and signal: nothing is executed, and
    nothing is inserted. Plain ids are completed."""
    ids = [f"n{number:02}{text}" for number, text in enumerate(NASTY)]
    plain = [f"p{number:02}{text}" for number, text in enumerate(PLAIN)]
    start(project, [*ids, *plain])
    child = interactive(shell, project)
    lines = [["status", id] for id in (*ids, *plain)]
    lines += [["signal", id] for id in (*ids[::5], plain[0])]
    for word, id in lines:
        child.send(f"belugawf {word} {id[:3]}\t\r")
        child.expect("<ran>")
    child.close(force=True)
    assert not (project / "PWNED").exists()
    assert typed(project) == [[word, id if id in plain else id[:3]] for word, id in lines]


def test_only_what_needs_no_quotes_is_offered(project: Path) -> None:
    """The same without a shell, for ids of which the first character counts, and workflows."""
    names = [*NASTY, *PLAIN, *(name for name in FIRST if not name.startswith("@"))]
    start(project, names)
    (project / "workflows").mkdir()
    decorated = [
        f"@workflow(name={name!r})\nasync def w{n}(ctx): ..." for n, name in enumerate(names)
    ]
    (project / "workflows" / "module.py").write_text("\n".join(decorated))
    for line in ("belugawf status ", "belugawf signal ", "belugawf run "):
        done = subprocess.run(
            [sys.executable, "-m", "belugawf"],
            cwd=project,
            env={
                **environment(project),
                "_BELUGAWF_COMPLETE": "complete_bash",
                "COMP_WORDS": line,
                "COMP_CWORD": "2",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert sorted(done.stdout.splitlines()) == sorted(PLAIN)


# -- printed commands ------------------------------------------------------------------------------


def read_by(shell: str, project: Path, commands: list[str]) -> list[list[str]]:
    """The arguments that `belugawf` gets from a script with these lines, each a command."""
    script = project / "script"
    script.write_text("".join(f"{command}\n" for command in commands))
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"], "sh": []}[shell]
    subprocess.run(
        [shell, *options, str(script)],
        cwd=project,
        env=environment(project),
        capture_output=True,
        check=True,
    )
    return typed(project)


@pytest.mark.parametrize("shell", [*SHELLS, "sh"])
def test_printed_commands(shell: str, project: Path) -> None:
    """A printed command passes on the name as it is, and executes nothing of it, in each shell."""
    names = [*NASTY, *FIRST, *PLAIN]
    if shell in ("fish", "sh"):  # they have no form for what cannot be seen
        names = [name for name in names if name.isprintable()]
    commands = [command_line("status", name, flags=("--db", name)) for name in names]
    assert all(command.isprintable() for command in commands)
    got = read_by(shell, project, commands)
    assert [(words[1], words[-1]) for words in got] == [(name, name) for name in names]
    assert all(("--" in words) == words[-1].startswith("-") for words in got)
    assert not (project / "PWNED").exists()


@pytest.mark.parametrize("shell", [shell for shell in (*SHELLS, "sh") if shell in ("fish", "sh")])
@pytest.mark.parametrize("name", [name for name in NASTY if not name.isprintable()])
def test_what_a_shell_has_no_form_for(shell: str, project: Path, name: str) -> None:
    """What fish and `sh` cannot be told, they get wrong, or refuse; they execute nothing."""
    nasty = f"{name}'; touch PWNED; '\\'; touch PWNED; \\'"
    subprocess.run(
        [shell, "-c", command_line("status", nasty)],
        cwd=project,
        env=environment(project),
        capture_output=True,
        check=False,
    )
    assert not (project / "PWNED").exists()


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20))
def test_any_text(text: str) -> None:
    """bash reads any text as it was; what Tab may offer, it reads without quotes."""
    forms = [quoted(text), *([text] if is_plain(text) else [])]
    for form in forms:
        assert form.isprintable()
        done = subprocess.run(
            ["bash", "--norc", "-c", f"printf '%s\\0' {form}"],
            env={"LC_ALL": "C.UTF-8"},
            capture_output=True,
            check=True,
        )
        assert done.stdout == text.encode() + b"\0"


def unquoted(source: str) -> list[str]:
    """Where a file puts a value into the text of a command without quoting it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for text, value in itertools.pairwise(parts):
            in_command = isinstance(text, ast.Constant) and COMMAND.search(str(text.value))
            call = value.value if isinstance(value, ast.FormattedValue) else None
            if in_command and not (isinstance(call, ast.Call) and "quoted" in ast.unparse(call)):
                found.append(ast.unparse(node))
    return found


def test_every_command_is_quoted() -> None:
    """No command in a message is put together by hand."""
    assert unquoted("f'look: belugawf status {run}'") != []
    assert unquoted("f'chmod 600 {path}; x'") != []
    assert unquoted("f'chmod 600 {quoted(path)}'") == []
    sources = (REPOSITORY / "belugawf").rglob("*.py")
    assert [text for path in sources for text in unquoted(path.read_text())] == []


def test_bytes_that_are_no_text() -> None:
    """A path of another encoding, as Python reads it, comes back as the same bytes."""
    data = b"caf\xe9 \xff'"
    form = quoted(os.fsdecode(data))
    done = subprocess.run(["bash", "-c", f"printf %s {form}"], capture_output=True, check=True)
    assert done.stdout == data


async def test_hints(project: Path) -> None:
    """Hints of errors quote names: whoever copies one runs nothing else."""
    nasty = "x\n; touch PWNED #"
    start(project, ["a", "b", "c"])
    with contextlib.closing(sqlite3.connect(project / ".belugawf" / "state.db")) as db, db:
        db.execute("UPDATE runs SET workflow_id = ? WHERE workflow_id = 'b'", (nasty,))
        db.execute("UPDATE waits SET signal = ?", (nasty,))
    async with new_executor(db=project / ".belugawf" / "state.db", workflows=[]) as executor:
        await executor.terminate(nasty)
        hints = []
        for work in (
            executor.terminate(nasty),
            executor.cancel(nasty),
            executor.signal(nasty, "go"),
            executor.signal(None, nasty),
            executor.wait("a", max_wait=0),
        ):
            with pytest.raises(BelugaError) as refused:
                await work
            hints.append(refused.value.hint or "")
    commands = [found[0] for hint in hints if (found := re.search("belugawf [^,]*", hint))]
    assert len(commands) == len(hints)
    got = read_by("bash", project, commands)
    assert got[:4] == [["status", nasty]] * 3 + [["signal", nasty, "RUN"]]
    assert not (project / "PWNED").exists()
