"""Little disk, few descriptors, little memory: each is told in a sentence, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from tests.conformance.harness import Project, Result

pytestmark = pytest.mark.new_interpreters

# -- a disk that is really full ------------------------------------------------------------------

FILLING = """
    @workflow
    async def filling(ctx: WorkflowContext, text: str) -> object:
        return (await ctx.wait_for_signal("go")).payload
"""
# Runs in a mount namespace of its own, where the state folder is a disk of 4 MB.
ON_A_SMALL_DISK = """
import json, subprocess, sys
from pathlib import Path

state, told, acknowledged = Path(sys.argv[1]), [], []
(state / "spare").write_bytes(b"x" * 2_500_000)

def cli(*args):
    done = subprocess.run(
        [sys.executable, "-m", "belugawf", *args], capture_output=True, text=True, timeout=60
    )
    told.append([args, done.returncode, done.stdout, done.stderr])
    return done

for number in range(30):
    name = f"r-{number}"
    if cli("run", "filling", "--id", name, "-i", "x" * 50_000, "-d").returncode:
        break
    acknowledged.append(name)
filled = len(told)
with (state / "ballast").open("wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(b"x" * 4096)
    except OSError:
        pass
sent = cli("signal", "go", "r-0", "--payload", "1", "--no-resume").returncode == 0
for command in (
    ("signal", "go", "r-1", "--text", "y" * 50_000),
    ("cancel", "r-1", "--reason", "z" * 50_000),
    ("run", "simple", "--id", "s"),
    ("resume",),
    ("status",),
    ("list",),
    ("query", "r-0", "status"),
):
    cli(*command)
full = len(told)
(state / "ballast").unlink()
(state / "spare").unlink()
if not sent:
    cli("signal", "go", "r-0", "--payload", "1", "--no-resume")
cli("resume")
cli("signal", "go", acknowledged[-1], "--payload", "5")
results = [cli("result", name, "--json").stdout for name in ("r-0", acknowledged[-1])]
listed = cli("list", "--all", "--json").stdout
print(json.dumps([acknowledged, told, filled, full, results, listed]))
"""


def in_a_namespace(folder: str, command: Sequence[str]) -> list[str]:
    """The command in a mount namespace of its own, with a disk of 4 MB at `folder`."""
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o size=4m,mode=0700 none {folder}"
    if unshare is None or subprocess.run([unshare, "-m", "true"], check=False).returncode:
        pytest.skip("only root can mount a disk of its own here")
    return [unshare, "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]


@pytest.mark.slow
def test_a_disk_without_a_byte_left(project: Project) -> None:
    """Each command says that the disk is full, or does its work; later everything is there."""
    project.write_module("filling", FILLING)
    folder = project.db.parent
    folder.mkdir(mode=0o700)
    script = [sys.executable, "-c", ON_A_SMALL_DISK, str(folder)]
    done = subprocess.run(
        in_a_namespace(str(folder), script),
        cwd=project.root,
        env=project.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    acknowledged, told, filled, full, results, listed = json.loads(done.stdout)
    assert len(acknowledged) >= 3
    for number, (args, code, out, err) in enumerate(told):
        shown = Result(tuple(arg[:50] for arg in args), code, out, err).no_traceback()
        refused = filled - 1 <= number < full
        assert code in ((0, 12) if refused else (0,)), shown
        if code == 12:
            assert "full" in err or "No space" in err, shown
            assert "hint" in err, shown
    assert told[filled - 1][1] == 12
    assert [json.loads(result) for result in results] == [1, 5]
    names = {run["workflow_id"]: run["status"] for run in json.loads(listed)}
    assert set(acknowledged) <= set(names) <= {*acknowledged, "s"}
    # Whether r-1 was signalled or cancelled depends on what the last pages had room for.
    untouched = {name: names[name] for name in acknowledged[2:-1]}
    assert set(untouched.values()) <= {"running"}


# -- limits of a process -------------------------------------------------------------------------


def limited(project: Project, limit: str, *args: str) -> Result:
    """Run the CLI under a limit of the shell's `ulimit`."""
    shell = ["sh", "-c", f'ulimit {limit} && exec "$@"', "sh"]
    done = subprocess.run(
        [*shell, sys.executable, "-m", "belugawf", *args],
        cwd=project.root,
        env=project.env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Result((limit, *args), done.returncode, done.stdout, done.stderr).no_traceback()


@pytest.mark.slow
def test_out_of_descriptors(project: Project) -> None:
    """With few descriptors a command works or is 12; what it has acknowledged is there."""
    # No activity of these opens a file: that would fail, and be recorded, as any failure is.
    project.write_module("plain", PLAIN)
    project.cli("run", "asking", "--id", "a")
    project.cli("run", "plain", "--id", "due", "-d")
    acknowledged, refused = ["a", "due"], 0
    for number in range(8, 20):
        name = f"r-{number}"
        run = limited(project, f"-n {number}", "run", "plain", "--id", name)
        resume = limited(project, f"-n {number}", "resume")
        status = limited(project, f"-n {number}", "status", "a")
        for shown in (run, resume, status):
            assert shown.code in (0, 12), shown
            assert shown.code == 0 or "hint" in shown.err, shown
            refused += shown.code == 12
        if run.code == 0:
            acknowledged.append(name)
    assert 0 < refused < 36
    project.cli("resume")
    stored = {run["workflow_id"]: run["status"] for run in project.cli("list", "--json").json}
    assert set(acknowledged) <= set(stored)
    assert {name for name, status in stored.items() if status != "completed"} == {"a"}


PLAIN = """
    @activity
    def add(number: int) -> int:
        return number + 1


    @workflow
    async def plain(ctx: WorkflowContext) -> int:
        return await ctx.execute_activity(add, 1)
"""
LONG = """
    WAVE = 1000


    @activity
    async def step(number: int) -> int:
        return number


    @workflow
    async def long(ctx: WorkflowContext, waves: int) -> int:
        for _ in range(waves):
            await asyncio.gather(*(ctx.execute_activity(step, n) for n in range(WAVE)))
        signal = await ctx.wait_for_signal("go")
        return await ctx.execute_activity(step, signal.payload)
"""
WAVE, WAVES = 1000, 50


def lengthen(project: Project) -> None:
    """Let the run that has recorded one wave have recorded all of them, one like the other."""
    last, shift = 1 + 2 * WAVE, WAVES - 1
    waves = f"WITH RECURSIVE wave (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM wave LIMIT {shift})"
    project.change_db(
        f"""
        BEGIN;
        UPDATE events SET position = position + {shift * 2 * WAVE}, seq = seq + {shift * WAVE}
            WHERE position > {last};
        {waves}
        INSERT INTO events
            SELECT run, position + k * {2 * WAVE}, type, time, at, started_at,
                seq + k * {WAVE}, name, data, payload
            FROM events, wave WHERE position BETWEEN 2 AND {last};
        UPDATE events SET payload = '{WAVES}' WHERE position = 1;
        UPDATE waits SET seq = seq + {shift * WAVE};
        UPDATE runs SET input = '{WAVES}';
        COMMIT;
        """
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is not enforced elsewhere")
def test_a_long_history_in_little_memory(project: Project) -> None:
    """A run with 100,000 events is taken up, driven and ended in 512 MB of address space."""
    project.write_module("long", LONG)
    project.cli("run", "long", "--id", "l", "-i", "1")
    lengthen(project)
    ((length,),) = project.query_db("SELECT count(*) FROM events")
    assert length > 100_000
    signalled = limited(project, f"-v {512 * 1024}", "signal", "go", "l", "--payload", "7")
    assert signalled.code == 0, signalled
    shown: dict[str, Any] = json.loads(
        limited(project, f"-v {512 * 1024}", "status", "l", "--json").out
    )
    assert (shown["status"], shown["result"]) == ("completed", 7)
