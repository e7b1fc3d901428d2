"""Workflow code that blocks the loop, or does what only an activity may do."""

from __future__ import annotations

import pytest

from tests.conformance.harness import Project

BLOCKING = """
    @workflow
    async def blocking(ctx: WorkflowContext) -> str:
        await ctx.wait_for_signal("go")
        BLOCK
        return "went on"
"""


@pytest.mark.parametrize("block", ["time.sleep(11)", "while True: pass"])
@pytest.mark.timeout(120)
def test_workflow_that_blocks_the_loop(project: Project, block: str) -> None:
    """It gets a problem that names the line; the others go on; mended, it goes on as well."""
    project.write_module("blocking", BLOCKING.replace("BLOCK", block))
    project.cli("run", "blocking", "--id", "b")
    project.cli("run", "asking", "--id", "a")
    history = project.history("b")
    project.cli("signal", "go", "b", "--no-resume")
    project.cli("signal", "approval", "a", "--text", "on", "--no-resume")
    resumed = project.cli("resume", check=13).no_traceback()
    assert "blocking.py" in resumed.err
    shown = project.status("b")
    assert shown["status"] == "running"
    assert shown["problem"]["code"] == "workflow_blocked"
    assert "blocking.py:" in shown["problem"]["message"]
    assert "activity" in shown["problem"]["hint"]
    assert project.history("b") == history
    assert project.result("a") == "it on is done"

    project.write_module("blocking", BLOCKING.replace("BLOCK", "pass"))
    shown = project.finish("b", check=0)
    assert (shown["result"], shown["problem"]) == ("went on", None)


LIMITS = {
    "callbacks": "while True: await asyncio.sleep(0)",
    "empty-timers": "while True: await asyncio.sleep(0.000000001)",
}


@pytest.mark.parametrize("kind", LIMITS)
def test_workflow_that_never_comes_to_rest(project: Project, kind: str) -> None:
    """A turn without an end gets a problem that names the line, and no endless history."""
    project.write_module("blocking", BLOCKING.replace("BLOCK", LIMITS[kind]))
    project.cli("run", "blocking", "--id", "b")
    project.cli("signal", "go", "b", check=None).no_traceback()
    shown = project.status("b")
    assert shown["status"] == "running"
    assert shown["problem"]["code"] == "workflow_blocked"
    assert "blocking.py:" in shown["problem"]["message"]
    assert len(project.history("b")) < 5000
    assert len(project.events("b", "SignalReceived")) <= 1


FORBIDDEN = {
    "socket": "import socket; socket.socket()",
    "connection": "import socket; socket.create_connection(('127.0.0.1', 9))",
    "thread": "import threading; threading.Thread(target=note, args=['ran']).start()",
    "subprocess": "subprocess.run(['touch', str(ROOT / 'ran')])",
    "system": "os.system(f'touch {ROOT}/ran')",
    "fork": "os.fork()",
    "run_in_executor": "await asyncio.get_running_loop().run_in_executor(None, note, 'ran')",
    "to_thread": "await asyncio.to_thread(note, 'ran')",
    "pool": (
        "from concurrent.futures import ThreadPoolExecutor; "
        "ThreadPoolExecutor().submit(note, 'ran').result()"
    ),
    "open_connection": "await asyncio.open_connection('127.0.0.1', 9)",
    "start_server": "await asyncio.start_server(note, '127.0.0.1', 0)",
    "subprocess_exec": "await asyncio.create_subprocess_exec('touch', str(ROOT / 'ran'))",
    "subprocess_shell": "await asyncio.create_subprocess_shell(f'touch {ROOT}/ran')",
    "getaddrinfo": "await asyncio.get_running_loop().getaddrinfo('localhost', 80)",
    "add_reader": "asyncio.get_running_loop().add_reader(0, note, 'ran')",
    "signal_handler": "asyncio.get_running_loop().add_signal_handler(10, note, 'ran')",
    "run_until_complete": "asyncio.get_running_loop().run_until_complete(asyncio.sleep(0))",
}


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_what_only_an_activity_may_do(project: Project, kind: str) -> None:
    """It raises at once with the line and what to do instead; nothing of it was done."""
    source = f"""
    @workflow
    async def forbidden(ctx: WorkflowContext) -> str:
        {FORBIDDEN[kind]}
        return "went on"
    """
    path = project.write_module("forbidden", source)
    lines = path.read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "async def forbidden" in text) + 1
    parked = project.cli("run", "forbidden", "--id", "f", check=13)
    assert parked.out == ""
    assert f"forbidden.py:{line}" in parked.err
    assert "activity" in parked.err
    shown = project.status("f")
    assert shown["status"] == "running"
    assert "WorkflowCodeError" in shown["problem"]["message"]
    assert f"forbidden.py:{line}" in shown["problem"]["message"]
    assert project.log() == []
    assert not (project.root / "ran").exists()


def test_an_activity_may(project: Project) -> None:
    """The same things are allowed in activities, also while a workflow takes a turn."""
    project.write_module(
        "allowed",
        """
        import socket
        import threading


        @activity
        def threaded() -> str:
            socket.socket().close()
            subprocess.run([os.environ.get("TRUE", "true")], check=True)
            thread = threading.Thread(target=note, args=["ran"])
            thread.start()
            thread.join()
            return "thread"


        @activity
        async def on_the_loop() -> str:
            await asyncio.to_thread(note, "ran")
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()
            return "loop"


        @workflow
        async def allowed(ctx: WorkflowContext) -> list:
            return await asyncio.gather(
                *(ctx.execute_activity(threaded) for _ in range(5)),
                *(ctx.execute_activity(on_the_loop) for _ in range(5)),
            )
        """,
    )
    project.cli("run", "allowed", "--id", "a")
    assert project.result("a") == ["thread"] * 5 + ["loop"] * 5
    assert project.log() == ["ran"] * 10
