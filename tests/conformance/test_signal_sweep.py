"""Scenario 11, swept: signals to whatever drives, by every command and with every sort of activity.

Of 3 signals x process or group x 5 commands x 3 sorts of activities, 15 cells of 90, so that each
pair of values is tried together; and 5 where a second signal cuts. `run` is swept in full by
`test_interrupts`.
"""

from __future__ import annotations

import itertools
import signal

import pytest

from tests.conformance.harness import Process, Project, is_alive, wait_for
from tests.conformance.test_interrupts import CODES, descendants

# A child that waits for a grandchild, which works until the test opens the gate.
TOOLS = """
    WORK = "echo $$ > {0}/tool; until [ -e {0}/tool.open ]; do sleep 0.05; done"
    TOOL = ["sh", "-c", 'sh -c "$0"; exit $?', WORK.format(ROOT)]


    @activity
    async def on_loop() -> str:
        note("begun")
        tool = await asyncio.create_subprocess_exec(*TOOL)
        if await tool.wait():
            raise RuntimeError("the tool failed")
        return "done"


    @activity
    def in_thread() -> str:
        note("begun")
        subprocess.run(TOOL, check=True)
        return "done"


    @activity(isolation="process")
    def in_process() -> str:
        note("begun")
        subprocess.run(TOOL, check=True)
        return "done"


    @activity
    def after(result: str) -> str:
        return result


    @workflow
    async def at_once(ctx: WorkflowContext, name: str) -> str:
        return await ctx.execute_activity(after, await ctx.execute_activity(globals()[name]))


    @workflow
    async def asked(ctx: WorkflowContext, name: str) -> str:
        try:
            await ctx.wait_for_signal("go")
        except asyncio.CancelledError:
            note("cancelled")
        return await at_once(ctx, name)
"""
KINDS = ("on_loop", "in_thread", "in_process")
# What drives, and what has gone before it.
COMMANDS = {
    "run": (None, ("run", "at_once", "--id", "u", "-i")),
    "resume": (("run", "at_once", "--id", "u", "-d", "-i"), ("resume",)),
    "worker": (("run", "at_once", "--id", "u", "-d", "-i"), ("worker",)),
    "signal": (("run", "asked", "--id", "u", "-i"), ("signal", "go", "u", "--text", "on")),
    "cancel": (("run", "asked", "--id", "u", "-i"), ("cancel", "u")),
}
TARGETS = ("process", "group")
CELLS = [
    (command, kind, list(CODES)[(i + j) % 3], TARGETS[(i + j) % 2])
    for i, command in enumerate(COMMANDS)
    for j, kind in enumerate(KINDS)
]
CUTS = [(command, KINDS[i % 3], list(CODES)[i % 3]) for i, command in enumerate(COMMANDS)]

pytestmark = [pytest.mark.local_only, pytest.mark.cached_only]


def begin(project: Project, command: str, kind: str) -> Process:
    """A command that drives the run, in the middle of an activity; its tool works."""
    project.write_module("using", TOOLS)
    before, drives = COMMANDS[command]
    if before is not None:
        project.cli(*before, kind)
    driver = project.start(*drives, *([kind] if before is None else []))
    assert isinstance(driver, Process)
    tool = project.root / "tool"
    wait_for(lambda: tool.exists() and tool.read_text().strip(), "it works", process=driver)
    return driver


def assert_goes_on(project: Project, *, begun: int) -> None:
    """Nobody holds the run, nothing of it has failed, and the next `resume` ends it."""
    shown = project.status("u")
    assert (shown["status"], shown["problem"], shown["error"]) == ("running", None, None)
    assert shown["owner"] is None or not shown["owner"]["alive"]
    assert not project.events("u", "ActivityFailed", "AttemptFailed")
    project.open_gate("tool")
    assert project.finish("u", check=0)["result"] == "done"
    assert project.count("begun") == begun
    assert_nobody_is_left(project)


def assert_nobody_is_left(project: Project) -> None:
    assert project.query_db("SELECT id FROM owners") == []
    assert not list(project.db.parent.glob("*.sock"))


def test_11_each_pair_of_values_is_tried() -> None:
    """The cells of the sweep meet what its docstring says of them."""
    columns = [list(column) for column in zip(*CELLS, strict=True)]
    for one, other in itertools.combinations(columns, 2):
        assert {*zip(one, other, strict=True)} == {*itertools.product(one, other)}


@pytest.mark.parametrize(("command", "kind", "number", "target"), CELLS)
def test_11_one_signal_drains(
    project: Project, command: str, kind: str, number: signal.Signals, target: str
) -> None:
    """The activity ends and is recorded, unless its tools die of the signal; nothing is left."""
    driver = begin(project, command, kind)
    below = descendants(driver.pid)
    assert len(below) >= 2
    (driver.send if target == "process" else driver.send_group)(number)
    survives = target == "process" or kind == "in_process"
    if survives:
        again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
        said = f"finishing 1 activity in flight; {again} cuts"
        wait_for(lambda: said in driver.err, "it drains", process=driver)
        project.open_gate("tool")
    driver.wait(check=CODES[number]).no_traceback()
    assert [pid for pid in below if is_alive(pid)] == []
    assert_nobody_is_left(project)
    assert_goes_on(project, begun=1 if survives else 2)


@pytest.mark.parametrize(("command", "kind", "number"), CUTS)
def test_11_a_second_signal_cuts(
    project: Project, command: str, kind: str, number: signal.Signals
) -> None:
    """The activity is interrupted, and begins again; an isolated one takes its tools along."""
    driver = begin(project, command, kind)
    below = descendants(driver.pid)
    driver.send(number)
    wait_for(lambda: "finishing 1 activity" in driver.err, "it drains", process=driver)
    driver.send(number)
    driver.wait(check=CODES[number]).no_traceback()
    assert "cutting the activities in flight" in driver.err
    if kind == "in_process":
        assert [pid for pid in below if is_alive(pid)] == []
    if kind != "in_thread":  # a thread works on, so the run is kept until the process has ended
        assert_nobody_is_left(project)
    assert_goes_on(project, begun=2)
