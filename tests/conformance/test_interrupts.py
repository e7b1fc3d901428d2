"""Scenario 11: Ctrl-C, SIGTERM and SIGHUP during an activity of each sort harm no run.

To the process, to its whole group as a terminal does, and to all that is below it as systemd does.
Guards FINDINGS A1, A12.
"""

from __future__ import annotations

import os
import pty
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conformance.harness import COMMAND, Process, Project, wait_for

# A tool that works until the test opens the gate, and the activities that wait for it.
TOOLS = """
    WORK = "echo $$ > {0}/tool; until [ -e {0}/tool.open ]; do sleep 0.05; done"
    TOOL = ["sh", "-c", WORK.format(ROOT)]


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


    @activity(at_most_once=True)
    def once() -> str:
        note("begun")
        subprocess.run(TOOL, check=True)
        return "done"


    @activity
    def after(result: str) -> str:
        return result


    @workflow
    async def using(ctx: WorkflowContext, name: str) -> str:
        return await ctx.execute_activity(after, await ctx.execute_activity(globals()[name]))
"""
KINDS = ["on_loop", "in_thread", "in_process"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


def begin(project: Project, kind: str) -> Process:
    """A run in the middle of an activity that waits for a tool."""
    project.write_module("using", TOOLS)
    driver = project.start("run", "using", "-i", kind, "--id", "u")
    await_tool(project, driver)
    assert isinstance(driver, Process)
    return driver


def await_tool(project: Project, driver: Process) -> None:
    tool = project.root / "tool"
    wait_for(lambda: tool.exists() and tool.read_text().strip(), "it works", process=driver)


def assert_goes_on(project: Project, *, begun: int) -> None:
    """The run is open and sound; with the tool at work again, it completes."""
    shown = project.status("u")
    assert (shown["status"], shown["problem"], shown["error"]) == ("running", None, None)
    assert not project.events("u", "ActivityFailed", "AttemptFailed")
    project.open_gate("tool")
    assert project.finish("u", check=0)["result"] == "done"
    assert project.count("begun") == begun


@pytest.mark.local_only
@pytest.mark.cached_only
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("kind", KINDS)
def test_11_signal_to_the_process(project: Project, kind: str, number: signal.Signals) -> None:
    """What is in flight ends and is recorded; the run goes on at the next resume."""
    driver = begin(project, kind)
    driver.send(number)
    wait_for(lambda: "finishing 1 activity" in driver.err, "it drains", process=driver)
    project.open_gate("tool")
    driver.wait(check=CODES[number]).no_traceback()
    assert_goes_on(project, begun=1)


@pytest.mark.local_only
@pytest.mark.cached_only
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("kind", KINDS)
def test_11_signal_to_the_group(project: Project, kind: str, number: signal.Signals) -> None:
    """What dies of it was interrupted; an isolated activity, and its tools, do not get it."""
    driver = begin(project, kind)
    driver.send_group(number)
    if kind == "in_process":
        wait_for(lambda: "finishing 1 activity" in driver.err, "it drains", process=driver)
        project.open_gate("tool")
    driver.wait(check=CODES[number]).no_traceback()
    assert_goes_on(project, begun=1 if kind == "in_process" else 2)
    interrupted = project.events("u", "AttemptInterrupted")
    assert [event["reason"] for event in interrupted] == ["shutdown"] * (kind != "in_process")


@pytest.mark.local_only
@pytest.mark.cached_only
@pytest.mark.parametrize("kind", KINDS)
def test_11_signal_to_all_below(project: Project, kind: str) -> None:
    """systemd signals every process of a unit: also where what is below dies before we know."""
    driver = begin(project, kind)
    for pid in [*descendants(driver.pid), driver.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    driver.wait(check=143).no_traceback()
    assert_goes_on(project, begun=2)


@pytest.mark.local_only
@pytest.mark.cached_only
def test_11_what_may_run_only_once_fails_with_its_own_error(project: Project) -> None:
    """It is not started again, so what it raised is what its workflow is told."""
    driver = begin(project, "once")
    driver.send_group(signal.SIGTERM)
    driver.wait(check=None)
    (failed,) = project.events("u", "ActivityFailed")
    assert failed["error"]["type"] == "CalledProcessError"


@pytest.mark.parametrize("kind", ["on_loop", "in_thread", "in_process"])
def test_11_signal_to_the_group_of_a_worker(project: Project, kind: str) -> None:
    """The same on both providers: nothing of it counts as a failure."""
    project.write_module("using", TOOLS)
    driver = project.start("run", "using", "-i", kind, "--id", "u")
    tool = project.root / "tool"
    wait_for(lambda: tool.exists() and tool.read_text().strip(), "it works", process=driver)
    driver.send_group(signal.SIGTERM)
    if kind == "in_process":
        project.open_gate("tool")
    driver.wait(check=143).no_traceback()
    project.open_gate("tool")
    assert project.finish("u", check=0)["result"] == "done"
    assert not project.events("u", "ActivityFailed", "AttemptFailed")


@pytest.fixture
def terminals() -> Iterator[list[int]]:
    """Process groups on terminals of their own, killed at the end."""
    groups: list[int] = []
    yield groups
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(group, 0)


def on_a_terminal(
    project: Project, kind: str, terminals: list[int], *, shell: Sequence[str] = ()
) -> tuple[int, int]:
    """The same run on a terminal of its own: its process, and the terminal's other side."""
    project.write_module("using", TOOLS)
    pid, master = pty.fork()
    if not pid:
        os.chdir(project.root)
        command = [*shell, *COMMAND, "run", "using", "-i", kind, "--id", "u"]
        os.execvpe(command[0], command, project.env())
    terminals.append(pid)
    tool = project.root / "tool"
    wait_for(lambda: tool.exists() and tool.read_text().strip(), "it works")
    return pid, master


@pytest.mark.local_only
@pytest.mark.cached_only
@pytest.mark.parametrize("kind", KINDS)
def test_11_ctrl_c_on_a_terminal(project: Project, kind: str, terminals: list[int]) -> None:
    """The key reaches everything in the foreground; the run is resumable."""
    pid, master = on_a_terminal(project, kind, terminals)
    os.write(master, b"\x03")
    if kind == "in_process":
        wait_for(lambda: b"finishing" in os.read(master, 65_536), "it drains")
        project.open_gate("tool")
    # Read to its end: what writes to a terminal waits for who reads it.
    with suppress(OSError):
        while os.read(master, 65_536):
            pass
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert_goes_on(project, begun=1 if kind == "in_process" else 2)


@pytest.mark.local_only
@pytest.mark.cached_only
def test_11_an_isolated_activity_has_no_terminal(project: Project, terminals: list[int]) -> None:
    """Nothing in it can ask the person at ours, or is stopped for reading there."""
    pid, master = on_a_terminal(project, "in_process", terminals)
    tool = int((project.root / "tool").read_text())
    assert os.getsid(tool) not in (pid, os.getsid(0))
    os.close(master)


@pytest.mark.local_only
@pytest.mark.cached_only
@pytest.mark.parametrize("kind", KINDS)
def test_11_a_terminal_that_is_closed(project: Project, kind: str, terminals: list[int]) -> None:
    """The shell dies, and all in the foreground get SIGHUP; nobody can be told any more."""
    shell = ["sh", "-c", '"$@"; exit 1', "sh"]
    _, master = on_a_terminal(project, kind, terminals, shell=shell)
    os.close(master)
    if kind == "in_process":
        project.open_gate("tool")
    wait_for(lambda: project.status("u")["owner"] is None, "it has let go")
    assert_goes_on(project, begun=1 if kind == "in_process" else 2)


@pytest.mark.local_only
@pytest.mark.cached_only
@pytest.mark.parametrize("disowned", [False, True])
def test_11_a_live_view_on_a_terminal_that_is_closed(
    project: Project, terminals: list[int], disowned: bool
) -> None:
    """What is shown is lost, and nothing else: it drains, or goes on where SIGHUP is ignored."""
    shell = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"] if disowned else []
    pid, master = on_a_terminal(project, "in_thread", terminals, shell=shell)
    os.close(master)
    project.open_gate("tool")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if disowned:
        assert code == 0
        assert project.status("u")["status"] == "completed"
    else:
        assert code == 143
        assert project.status("u")["owner"] is None


@pytest.mark.local_only
@pytest.mark.cached_only
def test_11_ctrl_c_while_the_process_ends(project: Project) -> None:
    """Everything has been said by then: it ends at once, with its exit code and without a word."""
    project.write_module(
        "slow_exit",
        """
        import atexit

        def leave():
            note("leaving")
            time.sleep(60)

        atexit.register(leave)

        @workflow
        async def slow(ctx: WorkflowContext) -> str:
            return "done"
        """,
    )
    driver = project.start("run", "slow")
    wait_for(lambda: project.count("leaving"), "it ends", process=driver)
    driver.send(signal.SIGINT)
    driver.wait(check=0)
    assert "Traceback" not in driver.err
    assert "left it" not in driver.err


@pytest.mark.local_only
@pytest.mark.cached_only
def test_11_nohup(project: Project) -> None:
    """What was made to ignore SIGHUP goes on after it."""
    project.write_module("using", TOOLS)
    command = 'trap "" HUP; exec "$@"'
    driver = project._start(
        ["sh", "-c", command, "sh", *COMMAND, "run", "using", "-i", "in_thread", "--id", "u"],
        project.env(),
    )
    await_tool(project, driver)
    driver.send_group(signal.SIGHUP)
    project.open_gate("tool")
    driver.wait(check=0)
    assert project.result("u") == "done"
    assert project.count("begun") == 1


def descendants(pid: int) -> list[int]:
    """All processes below that one, the lowest first."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    children = [child for child, parent in parents.items() if parent == pid]
    return [found for child in children for found in [*descendants(child), child]]
