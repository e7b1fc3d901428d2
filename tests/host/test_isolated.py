"""Processes of isolated activities: what they may do, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from belugawf import WorkflowFailedError, new_executor
from belugawf.host.children import IsolatedChild
from tests.conformance.harness import is_alive

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="what the Linux kernel tells")

MODULE = """
import atexit, os, time
from belugawf import WorkflowContext, activity, workflow


@activity(isolation="process")
def works(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


@activity(isolation="process")
def writes(path: str) -> str:
    file = open(path, "w")
    globals()["kept"] = file
    file.write("written\\n")
    atexit.register(lambda: file.write("at exit\\n"))
    return "done"


@activity(isolation="process")
def hangs_at_exit() -> str:
    atexit.register(time.sleep, 300)
    return "done"


@activity(isolation="process")
def dies() -> None:
    os.kill(os.getpid(), 9)


@workflow
async def working(ctx: WorkflowContext) -> int:
    for number in range(3):
        await ctx.execute_activity(works, number)
    return await ctx.execute_activity(works, 3)


@workflow
async def one(ctx: WorkflowContext, name: str, arguments: list[str]) -> str:
    return await ctx.execute_activity(globals()[name], *arguments)
"""


async def result_of(folder: Path, workflow: str, **arguments: Any) -> Any:
    modules = folder / "workflows"
    modules.mkdir()
    (modules / "working.py").write_text(MODULE)
    async with new_executor("default", db=folder / "i.db", workflows=modules) as executor:
        handle = await executor.execute(workflow, **arguments)
        async with asyncio.timeout(60):
            return await handle.result()


async def test_nothing_is_said_of_processes_that_ended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No warning of an exit code or a descriptor reaches stderr, which cron mails."""
    with pytest.raises(WorkflowFailedError, match="three"):
        await result_of(tmp_path, "working")
    assert capfd.readouterr().err == ""


async def test_what_a_completed_activity_wrote_is_there(tmp_path: Path) -> None:
    """Open files are written out and `atexit` is called, before the result is told."""
    # FINDINGS B12
    path = tmp_path / "written"
    assert await result_of(tmp_path, "one", input={"name": "writes", "arguments": [str(path)]})
    assert path.read_text() == "written\nat exit\n"


async def test_what_hangs_at_exit_is_left(tmp_path: Path) -> None:
    """A callback that does not return does not keep an activity from its end."""
    began = time.monotonic()
    assert (
        await result_of(tmp_path, "one", input={"name": "hangs_at_exit", "arguments": []}) == "done"
    )
    assert time.monotonic() - began < 20


async def test_a_process_that_dies_fails_its_activity(tmp_path: Path) -> None:
    """What killed it is said."""
    with pytest.raises(WorkflowFailedError, match="died: signal 9"):
        await result_of(tmp_path, "one", input={"name": "dies", "arguments": []})


def sleeping(tmp_path: Path, before: str = "") -> str:
    """A task that sleeps for minutes, after that line."""
    body = f"    {before}\n    time.sleep(300)\n"
    (tmp_path / "sleeping.py").write_text(f"import os, signal, time\ndef sleeping():\n{body}")
    task = {
        "function": {
            "module": "sleeping",
            "file": str(tmp_path / "sleeping.py"),
            "qualname": "sleeping",
        },
        "arguments": "[]",
        "limit": 1000,
        "redact": [[], []],
        "log_level": 30,
        "info": dict.fromkeys(
            ("workflow_id", "run_id", "activity_id", "activity", "attempt", "idempotency_key"), ""
        )
        | {"deadline": None, "heartbeat_details": None},
    }
    return json.dumps(task)


def test_told_to_end_before_it_begins(tmp_path: Path) -> None:
    """What is told before there is a process ends it as soon as there is one."""
    child = IsolatedChild()
    child.end()
    thread = threading.Thread(target=lambda: list(child.run(sleeping(tmp_path), ())))
    thread.start()
    thread.join(20)
    ended = not thread.is_alive()
    child.end()
    assert ended


def test_a_copy_of_our_end_keeps_nothing_alive(tmp_path: Path) -> None:
    """A child that was forked from us has our descriptors: it is told all the same."""
    # FINDINGS O1
    child = IsolatedChild()
    thread = threading.Thread(target=lambda: list(child.run(sleeping(tmp_path), ())))
    thread.start()
    while child._control is None:
        time.sleep(0.01)
    copy = os.dup(child._control.fileno())
    child.end()
    thread.join(20)
    os.close(copy)
    assert not thread.is_alive()


@linux_only
def test_what_has_lost_its_reaper_is_ended(tmp_path: Path) -> None:
    """Whoever kills the reaper leaves forks that nobody watches, and that keep its pipe open."""
    pids = tmp_path / "pid"
    before = f"""
    pid = os.fork()
    if pid:
        open({str(pids)!r}, "w").write(str(pid))
        os.kill(os.getppid(), signal.SIGKILL)
    """
    said: list[Any] = []
    child = IsolatedChild()
    task = sleeping(tmp_path, before.strip())
    thread = threading.Thread(target=lambda: said.extend(child.run(task, ())))
    thread.start()
    thread.join(20)
    ended = not thread.is_alive()
    child.end()
    assert ended
    assert said == []
    assert not is_alive(int(pids.read_text()))


@linux_only
def test_signals_that_its_parent_has_blocked(tmp_path: Path) -> None:
    """A program that reads SIGCHLD from a descriptor has it blocked, and so had the reaper."""
    said: list[Any] = []
    child = IsolatedChild()

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        said.extend(child.run(sleeping(tmp_path, "os._exit(3)"), ()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    ended = not thread.is_alive()
    child.end()
    assert ended
    assert said == [{"exit_code": 3}]


@linux_only
def test_an_activity_that_is_traced_has_not_ended(tmp_path: Path) -> None:
    """Its parent is told of each signal that stops it; the reaper takes none for its end."""
    said: list[Any] = []
    child = IsolatedChild()
    stop = (
        "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0); os.kill(os.getpid(), signal.SIGUSR1)"
    )
    thread = threading.Thread(target=lambda: said.extend(child.run(sleeping(tmp_path, stop), ())))
    thread.start()
    thread.join(2)
    stands = thread.is_alive()
    child.end()
    thread.join(20)
    assert stands
    assert said == [{"exit_code": -9}]
