"""Nobody reads what is printed any more: that is no reason for an activity to fail.

Pipes, sockets and terminals whose other end is closed at any moment, and streams that were never
open. Guards FINDINGS A5.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from belugawf.host.talking import LossyFile
from tests.cli.test_process import PATIENCE_S, belugawf, environment

MODULE = '''
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from belugawf import WorkflowContext, activity, workflow

HERE = Path(__file__).parent


def print_everywhere():
    print("printed", flush=True)
    print("on stderr", file=sys.stderr, flush=True)
    for stream in (sys.__stdout__, sys.__stderr__):
        stream.write("as Python has found it\\n")
        stream.flush()
    activity.logger.warning("logged")


def write_everywhere():
    os.write(1, b"written\\n")
    os.write(2, b"written\\n")
    subprocess.run(["sh", "-c", "echo by a tool; echo on stderr >&2"], check=True)


def is_open():
    return (HERE / "gate").exists()


@activity
def in_thread() -> str:
    """A tool of it has inherited what nobody reads when it comes to print."""
    tool = "until [ -e gate ]; do sleep 0.01; done; for i in 1 2 3; do echo $i; done; touch told"
    with subprocess.Popen(["sh", "-c", tool], cwd=HERE) as process:
        while not is_open():
            time.sleep(0.01)
        print_everywhere()
        assert process.wait() == 0
    write_everywhere()
    return "thread"


@activity
async def on_loop() -> str:
    while not is_open():
        await asyncio.sleep(0.01)
    print_everywhere()
    write_everywhere()
    return "loop"


@activity(isolation="process")
def in_process() -> str:
    while not is_open():
        time.sleep(0.01)
    print_everywhere()
    write_everywhere()
    return "process"


@workflow
async def printing(ctx: WorkflowContext) -> list[str]:
    print("in a workflow")
    kinds = [ctx.start_activity(kind) for kind in (in_thread, on_loop, in_process)]
    return list(await asyncio.gather(*kinds))


@workflow
async def counting(ctx: WorkflowContext) -> int:
    for number in range(20):
        print("line", number)
        await ctx.sleep(0.001)
    return 20
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with workflows that print."""
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "printing.py").write_text(MODULE)
    return tmp_path


def start(project: Path, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "belugawf", *arguments],
        cwd=project,
        env=environment(TERM="xterm"),
        start_new_session=True,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **streams},
    )


def open_pipe() -> tuple[int, int]:
    return os.pipe()


def open_socket() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def result_of(project: Path, name: str) -> object:
    return json.loads(belugawf(project, "result", name, "--json").stdout)


@pytest.mark.parametrize("channel", [open_pipe, pty.openpty])
def test_the_reader_of_stderr_leaves(project: Path, channel: Callable[[], tuple[int, int]]) -> None:
    """Under activities of all kinds, which all complete; also under a live view."""
    reader, writer = channel()
    with start(project, "run", "printing", "--id", "p", stderr=writer) as process:
        os.close(writer)
        seen = b""
        while b"in_process" not in seen:
            seen += os.read(reader, 4096)
        os.close(reader)
        (project / "workflows" / "gate").touch()
        assert process.wait(PATIENCE_S) == 0
    assert result_of(project, "p") == ["thread", "loop", "process"]
    assert (project / "workflows" / "told").exists() or channel is not open_pipe


@pytest.mark.parametrize("channel", [open_pipe, open_socket])
def test_the_reader_of_a_workers_log_leaves(
    project: Path, channel: Callable[[], tuple[int, int]]
) -> None:
    """What it does afterwards completes as before."""
    reader, writer = channel()
    with start(project, "worker", stdout=writer, stderr=writer) as worker:
        os.close(writer)
        assert os.read(reader, 1)
        os.close(reader)
        (project / "workflows" / "gate").touch()
        try:
            for name in ("one", "two"):
                belugawf(project, "run", "printing", "--id", name, "--detach")
                belugawf(project, "wait", name)
                assert result_of(project, name) == ["thread", "loop", "process"]
        finally:
            worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 143


@pytest.mark.parametrize("lines", [0, 1, 7, 18])
def test_a_pipe_breaks_after_any_line(project: Path, lines: int) -> None:
    """Results and messages in one pipe, as with `2>&1 | head`."""
    with start(
        project, "run", "counting", "--id", "c", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        with process.stdout:
            for _ in range(lines):
                process.stdout.readline()
        assert process.wait(PATIENCE_S) == 0  # else it would be 3, for a run that has failed


@pytest.mark.parametrize(
    ("redirections", "code", "shown"),
    [
        (">&-", 0, False),
        ("2>&-", 0, True),
        (">&- 2>&- <&-", 0, False),
        ("1</dev/null", 12, False),
        ("2</dev/null", 0, True),
        ("2>/dev/full", 0, True),
    ],
)
def test_streams_that_cannot_be_written(
    project: Path, redirections: str, code: int, shown: bool
) -> None:
    """The run goes its way, and its result is shown nowhere but on stdout."""
    command = f'exec "{sys.executable}" -m belugawf run counting --id c {redirections}'
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "20\n" if shown else ""), done
    assert "20" not in done.stderr.splitlines()
    assert "bug" not in done.stderr
    assert result_of(project, "c") == 20


def test_a_pipe_that_does_not_block() -> None:
    """Whoever shares it may have set that: what is printed waits all the same, and arrives."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else 65_536
    text = b"x" * (3 * size)
    child = os.fork()
    if not child:
        with suppress(BaseException), io.BufferedWriter(LossyFile(writer, "w")) as stream:
            stream.write(text)
            stream.flush()
            os._exit(0)
        os._exit(1)
    os.close(writer)
    got = b""
    while chunk := os.read(reader, size):
        got += chunk
    os.close(reader)
    assert os.waitpid(child, 0)[1] == 0
    assert got == text
