"""A development server with its own settings: the other tests' server has quicker ones."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from belugawf import WorkflowContext, new_executor, workflow
from tests import devserver
from tests.devserver import DevServer

LONGEST_S = 60
TIMERS = 3
DOCS = Path(__file__).resolve().parents[2] / "docs" / "temporal.md"


@workflow
async def sleeps(ctx: WorkflowContext) -> int:
    for _ in range(TIMERS):
        await ctx.sleep(0.001)
    return TIMERS


@asynccontextmanager
async def plain_server(log_file: Path) -> AsyncIterator[str]:
    """The address of a server as `temporal server start-dev` starts it."""
    binary = devserver.present_binary()
    assert binary is not None
    address = f"127.0.0.1:{devserver.free_port()}"
    port = address.rpartition(":")[2]
    command = [str(binary), "server", "start-dev", "--headless", "--log-level", "error"]
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [*command, "--ip", "127.0.0.1", "--port", port], stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(LONGEST_S):
            while not await devserver.answers(address):
                assert process.poll() is None, log_file.read_text()
                await asyncio.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
async def test_a_timer_of_a_millisecond(temporal_server: DevServer, tmp_path: Path) -> None:
    """It fires, and takes about a second, as the documentation says."""
    # FINDINGS P9
    async with (
        plain_server(tmp_path / "server.log") as address,
        new_executor("temporal", host=address, workflows=[sleeps]) as executor,
    ):
        begun = time.monotonic()
        handle = await executor.execute(sleeps, id="sleeps")
        info = await executor.wait(handle.run_id, max_wait=LONGEST_S)
        took = time.monotonic() - begun
    assert (info.status, info.result) == ("completed", TIMERS)
    assert took > TIMERS * 0.5
    assert "one of less than a second takes about a second" in DOCS.read_text()
