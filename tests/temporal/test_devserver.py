"""The Temporal server of a test run is one, is shared, is fast enough, and never outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests import devserver
from tests.devserver import ROOT, SESSION_VARIABLE, DevServer, UnavailableError

PATIENCE_S = 60.0


@workflow.defn(name="again")
class Again:
    """Continues as new once, then sleeps shortly, often."""

    @workflow.run
    async def run(self, first: bool) -> None:
        if first:
            workflow.continue_as_new(False)
        for _ in range(5):
            await asyncio.sleep(0.01)


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    """Wait for a condition until a deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not await holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {holds}"
        await asyncio.sleep(0.02)


def wait_for(holds: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    """As `until`, for what is looked at from outside; the process must not end meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {holds}"
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended early: {process.communicate()}")
        time.sleep(0.02)


# --- A test's view --------------------------------------------------------------------------


@pytest.mark.parametrize("_nth", range(6))
def test_one_server_a_session(temporal_server: DevServer, _nth: int) -> None:
    """Workers of a session share one server: it was started once."""
    started = [*Path(os.environ[SESSION_VARIABLE]).glob("server-*/db")]
    assert len(started) == 1
    assert devserver.listens(temporal_server.address)


@pytest.mark.parametrize("_nth", range(12))
async def test_a_namespace_can_be_used_at_once(
    temporal_server: DevServer, temporal_namespace: str, _nth: int
) -> None:
    """Tests start the same workflow id side by side, and list no run but their own."""
    client = await Client.connect(temporal_server.address, namespace=temporal_namespace)
    started = await client.start_workflow("again", True, id="w", task_queue="q")

    async def listed() -> list[str | None]:
        return [run.run_id async for run in client.list_workflows()]

    await until(listed)
    assert await listed() == [started.first_execution_run_id]


async def test_settings_take_effect(temporal_server: DevServer, temporal_namespace: str) -> None:
    """Continue-as-new is not held back, timers are short, failed tasks come again soon."""
    client = await Client.connect(temporal_server.address, namespace=temporal_namespace)
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue="q", workflows=[Again], workflow_runner=runner):
        run = await client.start_workflow(Again.run, True, id="w", task_queue="q")
        await run.result()
    started_at, fired_after = {}, []
    async for event in client.get_workflow_handle("w").fetch_history_events():
        at = event.event_time.ToDatetime()
        if event.HasField("workflow_execution_started_event_attributes"):
            first = event.workflow_execution_started_event_attributes
        if event.HasField("timer_started_event_attributes"):
            started_at[event.event_id] = at
        if event.HasField("timer_fired_event_attributes"):
            fired = event.timer_fired_event_attributes
            fired_after.append(at - started_at[fired.started_event_id])
    assert first.continued_execution_run_id == run.first_execution_run_id
    assert first.first_workflow_task_backoff.ToTimedelta() == timedelta(0)
    assert first.workflow_task_timeout.ToTimedelta() == timedelta(seconds=2)
    # By default the server fires none before 1 s; on a loaded machine some may be late here too.
    assert min(fired_after) < timedelta(seconds=0.9)


async def test_schedules_act_in_a_new_namespace(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """The server's own worker for schedules is there soon after the namespace."""
    client = await Client.connect(temporal_server.address, namespace=temporal_namespace)
    action = ScheduleActionStartWorkflow("again", True, id="scheduled", task_queue="q")
    never = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1000))])
    schedule = await client.create_schedule(
        "s", Schedule(action=action, spec=never), trigger_immediately=True
    )

    async def acted() -> bool:
        return (await schedule.describe()).info.num_actions == 1

    await until(acted)


def test_settings_are_of_the_right_type(temporal_server: DevServer) -> None:
    """The server warns of values that it cannot convert, and goes on with its default."""
    assert "convert" not in temporal_server.log.read_text()


# --- The end of a session -------------------------------------------------------------------

INNER_TESTS = """
import os, time
import pytest

@pytest.mark.parametrize("nth", range(2))
def test_inner(temporal_server, temporal_namespace, tmp_path_factory, nth):
    part = tmp_path_factory.getbasetemp() / "part"
    part.write_text(temporal_server.address)
    part.rename(os.environ["INNER_ADDRESS"])
    while os.environ["INNER_STAYS"] == "yes":
        time.sleep(0.1)
"""


# Where this session was started in a shell's background, SIGINT is ignored by all that it starts.
INNER_PYTEST = """
import signal, sys
import pytest
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(pytest.main())
"""


@contextmanager
def inner_session(folder: Path, workers: int, stays: bool) -> Iterator[subprocess.Popen[str]]:
    """A pytest session of its own, whose server's address appears in the file `address`."""
    (folder / "test_inner.py").write_text(INNER_TESTS)
    # What this session tells its workers is not for the inner one.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"INNER_ADDRESS": str(folder / "address"), "INNER_STAYS": "yes" if stays else "no"}
    command = [sys.executable, "-c", INNER_PYTEST, "-p", "tests.devserver", "-n", str(workers)]
    command += ["--rootdir", str(folder), "--basetemp", str(folder / "base"), "-c", os.devnull]
    command += ["-p", "no:cacheprovider", "-o", "timeout=120", str(folder / "test_inner.py")]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.usefixtures("temporal_server")  # skips where there can't be one
def test_the_server_ends_with_the_session(tmp_path: Path, workers: int) -> None:
    """When pytest has ended, its server has, and its session folder is gone."""
    with inner_session(tmp_path, workers, stays=False) as session:
        out, _ = session.communicate(timeout=PATIENCE_S)
    assert session.returncode == 0, out
    assert not devserver.listens((tmp_path / "address").read_text())


@pytest.mark.parametrize(
    ("how", "workers"),
    [(signal.SIGINT, 0), (signal.SIGTERM, 2), (signal.SIGKILL, 0), (signal.SIGKILL, 2)],
)
@pytest.mark.usefixtures("temporal_server")  # skips where there can't be one
def test_the_server_ends_however_pytest_ends(
    tmp_path: Path, how: signal.Signals, workers: int
) -> None:
    """A signal to the controller amid a test, even one it cannot handle, ends the server."""
    with inner_session(tmp_path, workers, stays=True) as session:
        wait_for((tmp_path / "address").exists, session)
        address = (tmp_path / "address").read_text()
        assert devserver.listens(address)
        session.send_signal(how)
        wait_for(lambda: not devserver.listens(address))


# --- The binary -----------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with neither the CLI nor a cache nor the internet; its PATH is in `bin`."""

    def download(into: Path, log: Path) -> Path:
        raise UnavailableError("no internet")

    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(devserver, "download", download)
    if devserver.present_binary() is not None:
        pytest.skip("the system's own folders hold a temporal CLI")
    return tmp_path


def write_go(bare: Path, script: str) -> None:
    """Put a go on the PATH."""
    go = bare / "bin" / "go"
    go.write_text(f"#!/bin/sh\n{script}\n")
    go.chmod(0o755)


def test_a_failed_build_is_a_reason_to_skip(bare: Path) -> None:
    """The reason names what is needed, and go's own words; nothing is left to be mistaken."""
    write_go(bare, "echo half > $GOBIN/temporal; echo go: no such host >&2; exit 1")
    with pytest.raises(UnavailableError) as found:
        devserver.ensure_binary()
    assert str(found.value).startswith("needs a Temporal server: install ")
    assert "go: no such host" in str(found.value)
    assert "no internet" in str(found.value)
    assert devserver.present_binary() is None


def test_the_binary_is_built_once(bare: Path) -> None:
    """Those who come during a build wait for it, and those after find it."""
    write_go(bare, f"echo x >> {bare}/builds; sleep 0.2; echo built > $GOBIN/temporal")
    with ThreadPoolExecutor(4) as pool:
        found = {*pool.map(lambda _: devserver.ensure_binary(), range(8))}
    assert [path.read_text() for path in found] == ["built\n"]
    assert (bare / "builds").read_text() == "x\n"
    assert not [*devserver.cache_folder().glob("making-*")]


def test_a_build_has_a_limit(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that hangs is ended with all its processes."""
    write_go(bare, f"sleep 1000 & echo $! > {bare}/child; wait")
    monkeypatch.setattr(devserver, "BUILD_LIMIT_S", 1)
    with pytest.raises(UnavailableError, match="took more than 1 s"):
        devserver.ensure_binary()
    child = int((bare / "child").read_text())
    wait_for(lambda: not is_running(child))


def is_running(pid: int) -> bool:
    """Whether the process exists and has not ended."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return state not in ("", "Z", "Z+")
