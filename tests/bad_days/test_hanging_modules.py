"""Workflow modules that hang or raise as they are imported, or are edited under a worker.

Guards FINDINGS O7.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conformance.harness import Process, Project, wait_for

pytestmark = pytest.mark.new_interpreters

# What `HANGS` names, each in a line of its own.
HANGING = """\
import os
import threading
import time
hangs = os.environ.get("HANGS")
lock = threading.Lock()
if hangs == "sleep": time.sleep(1_000)
while hangs == "loop": lock.locked()
if hangs == "lock": lock.acquire() and lock.acquire()
while hangs == "catches":
    try: time.sleep(1_000)
    except BaseException: continue
"""
COMMANDS = {
    "run": ("run", "simple", "--id", "never"),
    "json": ("run", "simple", "--id", "never", "--json"),
    "resume": ("resume",),
    "resume RUN": ("resume", "due"),
    "signal": ("signal", "approval", "asks", "--text", "on"),
    "workflows": ("workflows",),
    "doctor": ("doctor",),
    "worker": ("worker",),
}
# All commands with a call that does not come back; busy loops are many on few processors.
CELLS = [
    *((command, hangs) for command in COMMANDS for hangs in ("sleep", "lock")),
    *((command, "loop") for command in ("run", "resume")),
]
ENDINGS = (signal.SIGINT, signal.SIGTERM)
# These have no loop whose handlers end them: the system does.
LOOPLESS = ("workflows", "doctor")


def hanging(project: Project) -> None:
    project.cli("run", "simple", "--id", "due", "-d")
    project.cli("run", "asking", "--id", "asks")
    project.write_module("hang", HANGING, prelude=False)


def begin(project: Project, command: str, hangs: str) -> Process:
    process = project.start(*COMMANDS[command], env={"HANGS": hangs})
    assert isinstance(process, Process)
    return process


def line_of(hangs: str) -> str:
    lines = HANGING.splitlines()
    [number] = [n for n, line in enumerate(lines, 1) if f'"{hangs}"' in line]
    return f"hang.py:{number} in <module>"


def assert_nothing_is_left(project: Project) -> None:
    """No owner, no socket, no lock: the run that was due is driven by the next command."""
    assert project.query_db("SELECT id FROM owners") == []
    left = {path.name for path in project.db.parent.iterdir() if path.suffix == ".sock"}
    assert left == set()
    assert project.finish("due", check=0)["result"] == "it is done"


@pytest.mark.parametrize("number", ENDINGS, ids=lambda number: number.name)
def test_a_module_that_hangs_is_said_and_a_signal_ends_it(
    project: Project, number: signal.Signals
) -> None:
    """After 5 s its line is said; one signal ends the command, whatever the code waits for."""
    hanging(project)
    processes = {cell: begin(project, *cell) for cell in CELLS}
    for (_, hangs), process in processes.items():
        wait_for(lambda p=process: "\n" in p.err and "hang.py" in p.err, "said", process=process)  # type: ignore[misc]
        assert f"takes long: after 5 s it is at {project.modules}/{line_of(hangs)}" in process.err
    for (command, _), process in processes.items():
        process.send(number)
        system = command in LOOPLESS and number == signal.SIGTERM
        code = -number if system else 128 + number
        process.wait(check=code, timeout=20).no_traceback()
    assert "never" not in {run["workflow_id"] for run in project.cli("list", "--json").json}
    assert_nothing_is_left(project)


def test_a_module_that_hangs_and_catches_everything(project: Project) -> None:
    """The first signal is lost in it, the next one ends the process as the system does."""
    hanging(project)
    process = begin(project, "resume", "catches")
    wait_for(lambda: "hang.py" in process.err, "said", process=process)
    process.send(signal.SIGTERM)
    wait_for(lambda: handled(process.pid, signal.SIGTERM) is False, "it was raised")
    assert process.alive
    process.send(signal.SIGTERM)
    process.wait(check=-signal.SIGTERM)
    assert project.finish("due", check=0)["result"] == "it is done"


def handled(pid: int, number: int) -> bool:
    """Whether the process has a handler of that signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [caught] = [line.split()[1] for line in lines if line.startswith("SigCgt")]
    return bool(int(caught, 16) >> (number - 1) & 1)


RAISED = {
    "KeyboardInterrupt": "raise KeyboardInterrupt\n",
    "SystemExit": "import sys\nsys.exit(0)\n",
    "GeneratorExit": "raise GeneratorExit\n",
    "CancelledError": "import asyncio\nraise asyncio.CancelledError\n",
    "Own": "class Own(BaseException): pass\nraise Own\n",
}


def test_whatever_a_module_raises_is_its_problem(project: Project) -> None:
    """Each is named with file and line by whoever imports it; the other modules load."""
    for name, source in RAISED.items():
        project.write_module(f"raises_{name}", source, prelude=False)
    places = [
        f"raises_{name}.py:{source.count(chr(10))}: does not import: {name}"
        for name, source in RAISED.items()
    ]
    assert project.cli("run", "simple", "--id", "one").out == "it is done\n"
    project.cli("run", "simple", "--id", "two", "-d")
    project.cli("resume")
    assert project.result("two") == "it is done"
    for command, code in (("workflows", 0), ("doctor", 14)):
        shown = project.cli(command, check=code).no_traceback()
        for place in places:
            assert place in shown.out + shown.err
    worker = project.start("worker")
    wait_for(lambda: "driving" in worker.err, "it drives", process=worker)
    for place in places:
        assert place in worker.err
    worker.send(signal.SIGTERM)
    worker.wait(check=143)


def test_a_module_that_is_edited_under_a_worker(project: Project) -> None:
    """It says so once, of a helper too, and no second time."""
    helper = project.write_module("_helper", "x = 1\n", prelude=False)
    project.write_module("uses", "import _helper\n", prelude=False)
    worker = project.start("worker")
    assert isinstance(worker, Process)
    project.cli("run", "asking", "--id", "a", "-d")
    wait_for(lambda: "approval" in worker.err, "it has looked", process=worker)
    good = project.modules / "good.py"
    for path in (good, helper):
        path.write_text(path.read_text() + "\n# edited\n")
        said = f"{path} has changed since this worker read it"
        wait_for(lambda s=said: s in worker.err, "said", process=worker)  # type: ignore[misc]
    os.utime(good)
    project.cli("run", "asking", "--id", "b", "-d")
    wait_for(lambda: "b waits" in worker.err or "b: " in worker.err, "it has looked again")
    assert worker.err.count("has changed since") == 2
    assert "belugawf worker" in worker.err
    worker.send(signal.SIGTERM)
    worker.wait(check=143)
