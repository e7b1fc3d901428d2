"""Restate: its server, one node, beside a Python service, as its guide has it served in production:
Hypercorn with its documented settings, one process a core.

Each step is a `ctx.run_typed`, whose result the server has in its log before the handler goes on.
The server syncs its log (RocksDB's) before it acknowledges, which is its default: once a step in
sequence; what comes together shares a sync. Runs are started with one HTTP request each, all at
once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import restate

from benchmarks.peers.child import Workload, main

START_LIMIT_S = 60
SERVER_FILE = Path(sys.prefix) / "node_modules" / ".bin" / "restate-server"
SERVER = """
cluster-name = "benchmark"
base-dir = "{folder}"
listen-mode = "tcp"
bind-ip = "127.0.0.1"
bind-port = {node}
log-filter = "error"
disable-telemetry = true
[ingress]
bind-port = {ingress}
[admin]
bind-port = {admin}
"""
HYPERCORN = """
bind = "127.0.0.1:{service}"
h2_max_concurrent_streams = 2147483647
keep_alive_max_requests = 2147483647
keep_alive_timeout = 2147483647
workers = {cores}
"""

service = restate.Service("benchmark")


async def step(number: int) -> int:
    return number


@service.handler()
async def sequence(ctx: restate.Context, count: int) -> int:
    for number in range(count):
        await ctx.run_typed("step", step, number=number)
    return count


@service.handler()
async def parallel(ctx: restate.Context, count: int) -> int:
    await restate.gather(*(ctx.run_typed("step", step, number=n) for n in range(count)))
    return count


app = restate.app([service])


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


async def post(port: int, path: str, content: object) -> object:
    """An HTTP request without a client's library, which would take longer than the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(content)
    writer.write(
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    )
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    if not head.startswith("HTTP/1.1 2"):
        raise ConnectionError(answer)
    return json.loads(body) if "content-length" in head.lower() else None


async def timed(ports: dict[str, int], workload: Workload) -> float:
    end = time.monotonic() + START_LIMIT_S
    while True:
        try:
            uri = {"uri": f"http://127.0.0.1:{ports['service']}"}
            await post(ports["admin"], "/deployments", uri)
            break
        except OSError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)
    path = f"/benchmark/{'parallel' if workload.parallel else 'sequence'}"
    await asyncio.gather(*(post(ports["ingress"], path, 5) for _ in range(5)))
    began = time.perf_counter()
    answers = await asyncio.gather(
        *(post(ports["ingress"], path, workload.each) for _ in range(workload.runs))
    )
    seconds = time.perf_counter() - began
    assert answers == [workload.each] * workload.runs
    return seconds


@contextlib.contextmanager
def running(args: list[str]) -> Iterator[None]:
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def measured(root: Path, workload: Workload) -> tuple[float, str]:
    names = ("node", "ingress", "admin", "service")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    (root / "server.toml").write_text(SERVER.format(folder=root / "data", **ports))
    (root / "hypercorn.toml").write_text(HYPERCORN.format(cores=os.cpu_count(), **ports))
    serving = [sys.executable, "-m", "hypercorn", "--config", str(root / "hypercorn.toml")]
    with (
        running([str(SERVER_FILE), "--config-file", str(root / "server.toml")]),
        running([*serving, "benchmarks.peers.of_restate:app"]),
    ):
        seconds = asyncio.run(timed(ports, workload))
    return seconds, "its log synced before it acknowledges (default)"


if __name__ == "__main__":
    said = subprocess.run([SERVER_FILE, "--version"], capture_output=True, text=True, check=True)
    main(measured, ["restate-sdk", "hypercorn"], said.stdout.strip())
