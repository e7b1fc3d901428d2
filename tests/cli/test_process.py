"""The command line in real processes: pipes, terminals, start-up, signals, a whole life."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Long enough for a loaded machine.
PATIENCE_S = 60

MODULE = '''
import os
import subprocess
import time
from pathlib import Path

from belugawf import WorkflowContext, activity, workflow

HERE = Path(__file__).parent


@activity
def compose(name: str) -> str:
    print("printed")
    os.write(1, b"written\\n")
    subprocess.run(["echo", "by a child"], check=True)
    return f"Hello, {name}!"


@activity
def hold() -> str:
    (HERE / "holding").touch()
    while not (HERE / "release").exists():
        time.sleep(0.01)
    return "held"


@workflow
async def greeting(ctx: WorkflowContext, name: str) -> str:
    """Compose a greeting."""
    text = await ctx.execute_activity(compose, name)
    approval = await ctx.wait_for_signal("approval", type=bool, prompt="Send it?")
    if not approval.payload:
        raise ValueError("not \\x1b[31mapproved")
    return text


@workflow
async def holding(ctx: WorkflowContext) -> str:
    return await ctx.execute_activity(hold)
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with one module of workflows."""
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "greeting.py").write_text(MODULE)
    return tmp_path


def environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BELUGAWF_", "_BELUGAWF"))}
    kept.pop("NO_COLOR", None)
    return {**kept, "PYTHONPATH": str(REPOSITORY), **changes}


def belugawf(
    cwd: Path, *arguments: str, code: int = 0, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; fails unless it ends with `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "belugawf", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == code, done
    return done


# -- a whole life --------------------------------------------------------------------------------


def test_a_whole_life(project: Path) -> None:
    """run, status, signal, result: stdout holds data only, and each says what the contract says."""
    started = belugawf(project, "run", "greeting", "-i", "Ada", "--id", "ada")
    assert started.stdout == ""
    for line in ("printed", "written", "by a child", "compose started", "  Send it?"):
        assert line in started.stderr.splitlines()
    assert "ada: waiting for signal approval: belugawf signal approval --payload true" in (
        started.stderr
    )
    shown = json.loads(belugawf(project, "status", "ada", "--json").stdout)
    assert shown["waiting_for"][0]["name"] == "approval"
    assert belugawf(project, "result", "ada", code=8).stdout == ""
    assert belugawf(project, "signal", "approval", "--payload", "1", code=2).stdout == ""
    belugawf(project, "signal", "approval", "--payload", "true")
    assert belugawf(project, "result", "ada").stdout == "Hello, Ada!\n"
    events = json.loads(belugawf(project, "history", "ada", "--json").stdout)
    assert events[-1]["type"] == "WorkflowCompleted"
    assert json.loads(belugawf(project, "list", "--json").stdout)[0]["status"] == "completed"


def test_failure_shows_the_users_frames(project: Path) -> None:
    """A failing run: its error, escaped, and the frames in the user's files."""
    belugawf(project, "run", "greeting", "-i", "Ada", "--id", "ada")
    belugawf(project, "signal", "approval", "--payload", "false")
    failed = belugawf(project, "result", "ada", code=3)
    assert "ValueError: not \\x1b[31mapproved" in failed.stderr
    assert "greeting.py" in failed.stderr
    assert str(REPOSITORY / "belugawf") not in failed.stderr


def test_bad_input_starts_nothing(project: Path) -> None:
    """Input of the wrong shape: exit 2, and no run."""
    belugawf(project, "run", "greeting", "-a", "nme=Ada", code=2)
    (project / "workflows" / "count.py").write_text(
        "from belugawf import workflow\n\n@workflow\nasync def count(ctx, n: int):\n    return n\n"
    )
    refused = belugawf(project, "--db", "state.db", "run", "count", "-i", "many", code=2).stderr
    assert refused == (
        "error: input: expected int, found a text\nhint: write a whole number, without quotes: 12\n"
    )
    assert json.loads(belugawf(project, "list", "--json").stdout) == []


def test_broken_module_does_not_hide_the_others(project: Path) -> None:
    """workflows lists what works and tells what does not; 14 only when nothing works."""
    (project / "workflows" / "broken.py").write_text("import nothing_of_that_name\n")
    done = belugawf(project, "workflows")
    assert done.stdout.startswith("greeting\tname: str\tCompose a greeting.\t")
    assert "broken.py:1" in done.stderr
    (project / "workflows" / "greeting.py").unlink()
    assert belugawf(project, "workflows", code=14).stdout == ""


def test_looking_creates_nothing(tmp_path: Path) -> None:
    """Looking and sending in an empty folder leaves it empty."""
    for command in ("status", "list", "waiting", "resume", "workflows", "doctor"):
        belugawf(tmp_path, command)
    belugawf(tmp_path, "signal", "go", code=10)
    belugawf(tmp_path, "status", "nobody", code=10)
    assert list(tmp_path.iterdir()) == []


def test_init_never_overwrites(tmp_path: Path) -> None:
    """init writes what is missing, and its example runs."""
    (tmp_path / ".belugawf.yaml").write_text("db: my.db\n")
    done = belugawf(tmp_path, "init")
    assert done.stdout == "workflows/greeting.py\n"
    assert ".belugawf.yaml exists already" in done.stderr
    assert (tmp_path / ".belugawf.yaml").read_text() == "db: my.db\n"
    assert "next: belugawf run greeting -i Ada" in done.stderr
    belugawf(tmp_path, "run", "greeting", "-i", "Ada")
    assert (tmp_path / "my.db").exists()


def test_doctor(project: Path) -> None:
    """A healthy project is all OK; each kind of damage has its code and its line."""
    belugawf(project, "run", "greeting", "-i", "Ada")
    lines = belugawf(project, "doctor").stdout.splitlines()
    assert {line.split("\t")[0] for line in lines if not line.startswith("WARN\tsqlite")} == {"OK"}
    (project / ".belugawf" / "state.db").write_bytes(b"no database at all" * 100)
    assert "FAIL\tdatabase" in belugawf(project, "doctor", code=12).stdout
    (project / ".belugawf.yaml").write_text("provider: temporal\ntemporal: {host: 'localhost:1'}\n")
    failures = [
        line
        for line in belugawf(project, "doctor", code=12).stdout.splitlines()
        if not line.startswith(("OK\t", "WARN\tsqlite"))
    ]
    assert failures == [
        "FAIL\tprovider\ttemporal: the Temporal server at localhost:1 cannot be reached: "
        "connection refused\tstart it (temporal server start-dev), or set temporal.host; "
        "check: belugawf doctor"
    ]
    (project / ".belugawf.yaml").write_text("dbb: x\n")
    assert "FAIL\tconfiguration" in belugawf(project, "doctor", code=14).stdout


def test_what_the_guide_puts_into_cron(project: Path) -> None:  # FINDINGS L13
    """Its lines print nothing if all is well, so cron mails nothing; a failure is mailed."""
    (project / "workflows" / "nightly_report.py").write_text(
        "from pathlib import Path\n"
        "from belugawf import workflow\n\n"
        "@workflow\n"
        "async def nightly_report(ctx):\n"
        f"    if Path({str(project / 'bad')!r}).exists():\n"
        "        raise ValueError('no figures')\n"
        "    return 'the report'\n"
    )
    guide = (REPOSITORY / "docs" / "guide.md").read_text()
    lines = re.findall(r"^(?:\S+ ){4}\S+  cd /srv/reports && (.*)$", guide, re.MULTILINE)
    assert len(lines) == 3

    def run_all(suffix: str) -> str:
        said = ""
        for line in lines:
            command = line.replace(".venv/bin/belugawf", f"{sys.executable} -m belugawf")
            command = command.replace("\\%", "%").replace("nightly-$", f"{suffix}-$")
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=project,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            said += done.stdout
        return said

    assert run_all("one") == run_all("one") == ""
    (project / "bad").touch()
    assert "ValueError: no figures" in run_all("two")


def test_cron_hears_once_of_a_parked_run(project: Path) -> None:  # FINDINGS L3
    """By whichever `resume` parks it, though its activity ran just before; a terminal each time."""
    (project / "workflows" / "mistaken.py").write_text(
        "from belugawf import activity, workflow\n"
        "@activity\n"
        "def quick(): pass\n"
        "@workflow\n"
        "async def mistaken(ctx):\n"
        "    await ctx.execute_activity(quick)\n"
        "    undefined\n"
    )
    belugawf(project, "run", "mistaken", "--id", "m", "-d")
    said = [belugawf(project, "resume", code=13).stderr for _ in range(3)]
    assert said[0].count("name 'undefined' is not defined") == 1
    assert said[1:] == ["", ""]


def test_the_guides_backup_is_private(project: Path) -> None:  # FINDINGS L13
    """Whoever may not read the database may not read its backup."""
    belugawf(project, "run", "greeting", "-i", "Ada")
    guide = (REPOSITORY / "docs" / "guide.md").read_text()
    (command,) = re.findall(r"^\$ (.*\.backup.*)$", guide, re.MULTILINE)
    (project / "bin").mkdir()
    sqlite = project / "bin" / "sqlite3"
    sqlite.write_text(
        f"#!{sys.executable}\n"
        "import sqlite3, sys\n"
        "target = sys.argv[2].removeprefix('.backup ')\n"
        "sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(target))\n"
    )
    sqlite.chmod(0o755)
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    command = command.replace("/var/backups/", f"{project}/")
    subprocess.run(
        ["sh", "-c", f"umask 022; {command}"], cwd=project, env=environment(PATH=path), check=True
    )
    assert (project / "belugawf.db").stat().st_mode & 0o077 == 0
    assert len(json.loads(belugawf(project, "--db", "belugawf.db", "list", "--json").stdout)) == 1


def test_detached_beside_a_worker(project: Path) -> None:
    """run -d names the live worker that takes the run, and nothing to type."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "belugawf", "worker"],
        cwd=project,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        registered = f"; process {worker.pid} on "

        def taken() -> bool:
            return registered in belugawf(project, "run", "greeting", "-i", "A", "-d").stderr

        until(taken)
        said = belugawf(project, "run", "greeting", "-i", "Ada", "--id", "ada", "-d").stderr
        assert said.endswith("takes it\n")
        assert "belugawf resume" not in said
        for run in json.loads(belugawf(project, "list", "--json", "--all").stdout):
            belugawf(project, "wait", run["run_id"], "--for", "waiting")
        worker.terminate()
        _, err = worker.communicate(timeout=PATIENCE_S)
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode == 143
    assert "in flight" not in err
    assert "drive it with" in belugawf(project, "run", "greeting", "-i", "Eve", "-d").stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_drain(project: Path, number: signal.Signals, code: int) -> None:
    """The first signal lets the attempt in flight end and be recorded; then 130 or 143."""
    process = subprocess.Popen(
        [sys.executable, "-m", "belugawf", "run", "holding", "--id", "held"],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        folder = project / "workflows"
        until(lambda: (folder / "holding").exists())
        process.send_signal(number)
        assert process.stderr is not None
        for line in process.stderr:
            if "finishing 1 activity in flight" in line:
                assert ("Ctrl-C" in line) == (number == signal.SIGINT)
                break
        (folder / "release").touch()
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    events = json.loads(belugawf(project, "history", "held", "--json").stdout)
    done = [event["type"] for event in events].count("ActivityCompleted")
    assert done == 1
    if process.returncode == 0:
        assert out == "held\n"  # it completed while it was drained
    else:
        assert process.returncode == code
        assert "go on with: belugawf resume held" in err


def until(condition: object) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- pipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--json"], ["history"]])
def test_closed_pipe_is_quiet(project: Path, arguments: list[str]) -> None:
    """Nobody reads stdout any more: not a word, and no traceback."""
    belugawf(project, "run", "greeting", "-i", "Ada", "--id", "ada", "-q")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "belugawf", *arguments],
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 0
    assert done.stderr.replace("run ada\n", "") == ""


def test_closed_standard_streams(project: Path) -> None:
    """Without stdin, stdout and stderr a run still goes its way, and writes into no file."""
    command = f'exec "{sys.executable}" -m belugawf run greeting -i Ada --id ada <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command], cwd=project, env=environment(), timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0
    assert "waits for" in belugawf(project, "list").stdout
    assert "OK\tdatabase" in belugawf(project, "doctor").stdout


# -- start-up ------------------------------------------------------------------------------------

SLOW = {
    *("asyncio", "rich", "pydantic", "sqlite_utils", "yaml", "temporalio", "sqlite3"),
    *("random", "queue", "concurrent.futures.thread", "faulthandler", "tempfile", "greeting"),
    *("belugawf.config", "belugawf.executor", "belugawf.authoring", "belugawf.model.codec"),
    *("belugawf.local.store.store", "belugawf.local.drive.engine", "belugawf.model.redaction"),
    *("belugawf.replay.replayer", "belugawf.host.launcher"),
}
# What cron's `resume` needs, which mostly finds nothing due.
PROBE = {"belugawf.config", "sqlite3"}
# What looking at runs needs; still no rich, no YAML without a file, no module of the user's.
EXECUTOR = PROBE | {
    *("asyncio", "belugawf.executor", "belugawf.authoring", "belugawf.model.codec"),
    "belugawf.local.store.store",
}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["resume"], PROBE),
        (["status"], EXECUTOR),
        (["status", "ada"], EXECUTOR),
        (["list"], EXECUTOR),
        (["signal", "approval", "--payload", "true", "--no-resume"], EXECUTOR),
    ],
)
def test_start_up_imports_nothing_slow(
    project: Path, arguments: list[str], needed: set[str]
) -> None:
    """A command imports what it needs, and nothing slow besides; no module of the user's."""
    belugawf(project, "run", "greeting", "-i", "Ada", "--id", "ada", "-q")
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from belugawf.__main__ import run\n"
        "code = run(sys.argv[1:])\n"
        "print('modules', *sorted(set(sys.modules) - before), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    imported = set(done.stderr.splitlines()[-1].split()[1:])
    assert imported & SLOW <= needed


COLLECTING = """
import gc
from belugawf import WorkflowContext, workflow

@workflow
async def collecting(ctx: WorkflowContext) -> list[int | bool]:
    return [*gc.get_threshold(), gc.get_freeze_count() > 0]
"""
LIBRARY = """
import asyncio, gc, json
from belugawf import new_executor

async def main():
    async with new_executor("default", db="state.db", workflows="workflows") as executor:
        handle = await executor.execute("collecting")
        print(json.dumps(await handle.result()))

gc.set_threshold(600, 9, 8)
asyncio.run(main())
"""


def test_who_sets_how_garbage_is_collected(project: Path) -> None:
    """The command line, in its own process; a user's process keeps what the user has set."""
    (project / "workflows" / "collecting.py").write_text(COLLECTING)
    ours = belugawf(project, "run", "collecting", "--id", "one", "-q").stdout
    assert json.loads(ours) == [10_000, 20, 50, True]
    theirs = subprocess.run(
        [sys.executable, "-c", LIBRARY],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert json.loads(theirs.stdout) == [600, 9, 8, False]


# -- terminals -----------------------------------------------------------------------------------

_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[()].)")


def on_a_terminal(tmp_path: Path, *arguments: str, columns: int = 100) -> pexpect.spawn[str]:
    """A fake run that goes on until `finish` exists, on a terminal of its own."""
    return pexpect.spawn(
        sys.executable,
        ["-m", "tests.cli.live_script", str(tmp_path / "finish"), *arguments],
        cwd=str(REPOSITORY),
        env=environment(TERM="xterm-256color", PYTHONIOENCODING="utf-8"),
        dimensions=(40, columns),
        encoding="utf-8",
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize("columns", [40, 60])
def test_what_the_live_view_leaves_is_whole(tmp_path: Path, columns: int) -> None:
    """On a narrow terminal it cuts lines while it draws, and none in the end. FINDINGS L1"""
    (tmp_path / "finish").touch()
    child = on_a_terminal(tmp_path, "run", "-i", "Q4", "--id", "report-" * 9, columns=columns)
    child.expect(pexpect.EOF)
    child.close()
    last = (child.before or "").rpartition("\x1b[2K")[2]
    left = "".join(_ESCAPE.sub("", last).split())
    for text in (
        "report-" * 9 + "running",
        "rese\\x1b[31march attempt 2 of 3",
        "boom [red]",
        "until",
    ):
        assert "".join(text.split()) in left, (text, left)
    assert "…" not in left


def test_live_view(tmp_path: Path) -> None:
    """Activities with state, attempt, countdown and progress; prints undamaged above them."""
    child = on_a_terminal(tmp_path, "run", "-i", "Q4", "--id", "report")
    for line in (
        "printed by python",
        "written to descriptor 1",
        "written to descriptor 2",
        "printed by a child",
        "x" * 300,
        "an unfinished line",
    ):
        child.expect_exact(line)
    child.expect_exact("50%")
    child.expect_exact("attempt 2 of 3")
    child.expect(r"next try in \d+s")
    (tmp_path / "finish").touch()
    child.expect_exact("report: waiting for signal approval until ")
    child.expect_exact("belugawf signal approval --payload true")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_live_view_lets_no_escape_through(tmp_path: Path) -> None:
    """What users named is shown escaped in the view; the view leaves the cursor visible."""
    (tmp_path / "finish").touch()
    child = on_a_terminal(tmp_path, "run", "-i", "Q4", "--id", "report")
    child.expect(pexpect.EOF)
    child.close()
    seen = child.before or ""
    assert "rese\\x1b[31march" in _ESCAPE.sub("", seen)
    assert "boom [red]" in _ESCAPE.sub("", seen)
    assert "\x1b[31march" not in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")


@pytest.mark.parametrize("flags", [["-q"], ["--json"]])
def test_no_live_view_when_quiet(tmp_path: Path, flags: list[str]) -> None:
    """--quiet and --json draw nothing, also on a terminal."""
    (tmp_path / "finish").touch()
    child = on_a_terminal(tmp_path, "run", "-i", "Q4", *flags)
    child.expect(pexpect.EOF)
    child.close()
    assert "\x1b[?25l" not in (child.before or "")
    assert "attempt 2" not in (child.before or "")


def test_live_view_after_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C under the live view: drained, 130, and the terminal is left in order."""
    child = on_a_terminal(tmp_path, "run", "-i", "Q4", "--id", "report")
    child.expect_exact("an unfinished line")
    child.sendintr()
    child.expect_exact("finishing 1 activity in flight")
    child.expect_exact("go on with: belugawf signal approval report")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_no_color_on_a_terminal(tmp_path: Path) -> None:
    """NO_COLOR: the live view draws without colours."""
    (tmp_path / "finish").touch()
    child = pexpect.spawn(
        sys.executable,
        ["-m", "tests.cli.live_script", str(tmp_path / "finish"), "run", "-i", "Q4"],
        cwd=str(REPOSITORY),
        env=environment(TERM="xterm-256color", NO_COLOR="1"),
        dimensions=(40, 100),
        encoding="utf-8",
        timeout=PATIENCE_S,
    )
    child.expect(pexpect.EOF)
    child.close()
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", child.before or "")


# -- completion ----------------------------------------------------------------------------------


def complete(cwd: Path, line: str) -> list[str]:
    """What bash is offered after this line; stderr must stay empty."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "belugawf"],
        cwd=cwd,
        env=environment(
            _BELUGAWF_COMPLETE="complete_bash",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
        ),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_completion(project: Path) -> None:
    """Commands, workflows (without importing them), run ids, awaited signals."""
    (project / "workflows" / "broken.py").write_text("def (:\n")
    (project / "workflows" / "loud.py").write_text(
        "print('imported')\nfrom belugawf import workflow\n\n"
        "@workflow(name='other-name')\nasync def loud(ctx): ...\n"
    )
    belugawf(project, "run", "greeting", "-i", "Ada", "--id", "ada", "-q")
    assert complete(project, "belugawf res") == ["resume", "result"]
    assert complete(project, "belugawf run ") == ["greeting", "holding", "other-name"]
    assert complete(project, "belugawf status a") == ["ada"]
    assert complete(project, "belugawf signal ") == ["approval"]
    belugawf(project, "signal", "approval", "--payload", "true")
    for command in ("signal approval", "cancel", "terminate", "resume", "wait"):
        assert complete(project, f"belugawf {command} a") == []  # FINDINGS L14
    assert complete(project, "belugawf result a") == ["ada"]
    belugawf(project, "run", "greeting", "-i", "Ada", "--id", "adam", "-q")
    assert complete(project, "belugawf signal approval a") == ["adam"]


def test_completion_is_silent(tmp_path: Path) -> None:
    """No database, no modules, a broken configuration: nothing is offered, said or created."""
    for line in ("belugawf run ", "belugawf status ", "belugawf signal "):
        assert complete(tmp_path, line) == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".belugawf.yaml").write_text("a: [\n")
    for line in ("belugawf run ", "belugawf status ", "belugawf signal "):
        assert complete(tmp_path, line) == []
