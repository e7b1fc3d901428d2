"""A real Temporal development server for a test run: one a session, one namespace a test.

A server's life, in order:

1. `pytest_configure` in pytest's controller makes a session folder, names it in the environment
   that workers inherit, and takes a shared lock on the file `alive` in it.
2. The first test that asks for `temporal_server` takes the lock `start`, finds or builds the
   binary, launches a supervisor, and writes `server.json` once the server answers. Tests in other
   workers wait for that lock and read the file.
3. The supervisor starts the server and waits for an exclusive lock on `alive`. It gets that when
   the controller lets go, or dies of whatever: the kernel drops a dead process's locks. Then it
   kills the server. No process id is watched, so none can be mistaken for another's.
4. `pytest_unconfigure` lets go of `alive`, waits until supervisors are gone, removes the folder.

By hand: `python -m tests.devserver build` makes sure that there is a binary,
`python -m tests.devserver run [--port N]` runs a server with the same settings.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

VERSION = "1.5.1"
PACKAGE = f"github.com/temporalio/cli/cmd/temporal@v{VERSION}"
ROOT = Path(__file__).resolve().parent.parent

# Two cores compile the server in 2 to 8 minutes.
BUILD_LIMIT_S = 900
DOWNLOAD_LIMIT_S = 120
# A server is up in 0.1 s; a loaded machine takes its time.
START_LIMIT_S = 60
# Another process may take a free port between our look and the server's bind.
START_ATTEMPTS = 3
STOP_LIMIT_S = 10

SESSION_VARIABLE = "BELUGAWF_TEST_TEMPORAL"
MISSING = "needs a Temporal server: install the temporal CLI, or Go, see README"

# A rate that no test reaches.
UNLIMITED = 100_000

DYNAMIC_CONFIG: dict[str, str | int] = {
    # A run may follow another of its workflow id at once. Else continue-as-new waits for 1 s.
    "history.workflowIdReuseMinimalInterval": "0s",
    # How far ahead timers are read, and so the shortest timer there is. Else 1 s.
    "history.timerProcessorMaxTimeShift": "10ms",
    # From the second failure on, a workflow task comes again when it times out. Else 10 s.
    "history.defaultWorkflowTaskTimeout": "2s",
    # What is added to that from the fourth attempt on, 5 s and more: a maximum below it adds none.
    "history.workflowTaskRetryMaxInterval": "1s",
    # How often internal queues are read a second. Else 20, and every activity waits for 50 ms.
    "history.transferProcessorMaxPollRPS": UNLIMITED,
    "history.timerProcessorMaxPollRPS": UNLIMITED,
    "history.visibilityProcessorMaxPollRPS": UNLIMITED,
    "history.outboundProcessorMaxPollRPS": UNLIMITED,
    # With four partitions, a task can lie for seconds in one that nobody polls.
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    # Schedules need a worker of the server's own, started when it sees the namespace. Else 2 s.
    "system.namespaceCacheRefreshInterval": "200ms",
    "worker.perNamespaceWorkerStartRate": UNLIMITED,
    # Registering namespaces is else held to 1 a second.
    "frontend.rps.namespaceReplicationInducingAPIs": UNLIMITED,
    "frontend.namespaceRPS.namespaceReplicationInducingAPIs": UNLIMITED,
    # All workers of a test session share these.
    "frontend.rps": UNLIMITED,
    "frontend.namespaceRPS": UNLIMITED,
    "frontend.namespaceRPS.visibility": UNLIMITED,
    "history.rps": UNLIMITED,
    "matching.rps": UNLIMITED,
    "frontend.persistenceMaxQPS": UNLIMITED,
    "history.persistenceMaxQPS": UNLIMITED,
    "matching.persistenceMaxQPS": UNLIMITED,
}

# The database is thrown away: no write needs to reach the disk. Ten times as fast.
PRAGMAS = {"journal_mode": "wal", "synchronous": "off"}


class UnavailableError(Exception):
    """There is no server to be had here; the text says why, as a reason to skip."""


@dataclass(frozen=True)
class DevServer:
    """A server that answers: where it listens (host:port), and the file of its warnings."""

    address: str
    log: Path


# --- Locks ----------------------------------------------------------------------------------


@contextlib.contextmanager
def held(path: Path, how: int) -> Iterator[None]:
    """Hold a lock on a file; child processes do not inherit it. Waits unless `how` says not to."""
    with path.open("a") as file:
        fcntl.flock(file, how)
        yield


# --- The binary -----------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where the binary is kept between runs, by version."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "belugawf" / f"temporal-cli-{VERSION}"


def present_binary() -> Path | None:
    """The binary that can be used at once; None: it is to be built, or downloaded."""
    if found := shutil.which("temporal"):
        return Path(found)
    cached = cache_folder() / "temporal"
    return cached if cached.exists() else None


def ensure_binary() -> Path:
    """Find the binary, else build or download it, once for all who wait.

    Raises UnavailableError where neither can be done.
    """
    if found := present_binary():
        return found
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder / "lock", fcntl.LOCK_EX):
            return present_binary() or make_binary(folder)
    except OSError as error:
        raise UnavailableError(f"{MISSING} (no cache folder: {error})") from error


def make_binary(folder: Path) -> Path:
    """Build or download the binary into the folder, whose lock the caller holds."""
    for left in folder.glob("making-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    making = Path(tempfile.mkdtemp(dir=folder, prefix="making-"))
    failures = []
    try:
        for make in (go_install, download):
            try:
                made = make(making, folder / f"{make.__name__}.log")
            except UnavailableError as error:
                failures.append(str(error))
                continue
            made.chmod(0o755)
            return made.rename(folder / "temporal")
    finally:
        shutil.rmtree(making, ignore_errors=True)
    raise UnavailableError(f"{MISSING} ({'; '.join(failures)})")


def go_install(into: Path, log: Path) -> Path:
    """Compile the CLI, server included. Raises UnavailableError."""
    go = shutil.which("go")
    if go is None:
        raise UnavailableError("no go on PATH")
    run_bounded([go, "install", PACKAGE], {"GOBIN": str(into)}, BUILD_LIMIT_S, log)
    return into / "temporal"


def download(into: Path, log: Path) -> Path:
    """Let the SDK fetch the CLI that is released. Raises UnavailableError."""
    command = [sys.executable, "-m", "tests.devserver", "download", str(into)]
    run_bounded(command, {}, DOWNLOAD_LIMIT_S, log)
    found = [path for path in into.iterdir() if path.is_file()]
    if len(found) != 1:
        raise UnavailableError(f"expected one downloaded file, found {len(found)}")
    return found[0]


def run_bounded(command: list[str], env: dict[str, str], limit_s: float, log: Path) -> None:
    """Run a command that logs to a file. Raises UnavailableError, with the log's last line."""
    name = " ".join([Path(command[0]).name, *command[1:-1]])
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # to end its children with it
        )
        with process:
            try:
                code = process.wait(limit_s)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise UnavailableError(f"{name} took more than {limit_s} s, see {log}") from None
    if code != 0:
        raise UnavailableError(f"{name} failed: {tail(log, 1) or f'exit code {code}'}")


async def sdk_download(folder: str) -> None:
    """Start what the SDK downloads into the folder, and stop it."""
    from temporalio.testing import WorkflowEnvironment

    env = await WorkflowEnvironment.start_local(
        download_dest_dir=folder, dev_server_download_version=f"v{VERSION}"
    )
    await env.shutdown()


# --- The server's process -------------------------------------------------------------------


def server_command(binary: Path, port: int, folder: Path) -> list[str]:
    """The command line of a server whose database is in the folder."""
    command = [str(binary), "server", "start-dev", "--headless", "--log-level", "warn"]
    command += ["--ip", "127.0.0.1", "--port", str(port), "--db-filename", str(folder / "db")]
    for pragma, word in PRAGMAS.items():
        command += ["--sqlite-pragma", f"{pragma}={word}"]
    for key, value in DYNAMIC_CONFIG.items():
        command += ["--dynamic-config-value", f"{key}={json.dumps(value)}"]
    return command


def start_server(binary: Path, port: int, folder: Path, log: IO[str]) -> subprocess.Popen[bytes]:
    """Start a server that does not outlive this process; call it from the main thread."""
    return subprocess.Popen(
        server_command(binary, port, folder),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends. Linux only."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def supervise(binary: Path, port: int, session: Path, folder: Path, log: Path) -> None:
    """Run a server, in a process of its own, until the session's controller is gone.

    The calling process goes on at once. Whoever waits for the server learns from the file
    `exited` in the folder that it ended by itself.
    """
    if os.fork():
        return
    os.setsid()  # a Ctrl-C is for pytest, which needs the server while it ends
    with log.open("a") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        # Both files are open before there is a server, else nobody would end it.
        with held(session / "serving", fcntl.LOCK_SH), (session / "alive").open("a") as alive:
            server = start_server(binary, port, folder, output)

            over = threading.Event()

            def watch() -> None:
                fcntl.flock(alive, fcntl.LOCK_EX)
                over.set()
                server.kill()

            threading.Thread(target=watch, daemon=True).start()
            code = server.wait()
            if over.is_set():  # the controller removes the folder, unless it was killed
                shutil.rmtree(session, ignore_errors=True)
            else:
                (folder / "exited").write_text(str(code))
    os._exit(0)


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(address: str) -> bool:
    """Whether a connection is accepted."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def tail(log: Path, lines: int) -> str:
    """The last lines of a log; empty where there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").strip().splitlines()[-lines:])
    except FileNotFoundError:
        return ""


# --- A session's server ---------------------------------------------------------------------


def session_server(session: Path, log_folder: Path) -> DevServer:
    """The server of this test session, started if this is the first to ask.

    Raises UnavailableError, the same for all who ask, and RuntimeError for one that doesn't start.
    """
    known = session / "server.json"
    with held(session / "start", fcntl.LOCK_EX):
        if not known.exists():
            write_atomically(known, json.dumps(start_in_session(session, log_folder)))
    found = json.loads(known.read_text())
    if "unavailable" in found:
        raise UnavailableError(found["unavailable"])
    if "failed" in found:
        raise RuntimeError(found["failed"])
    return DevServer(found["address"], Path(found["log"]))


def write_atomically(path: Path, text: str) -> None:
    """Readers see all of the file or none, whenever the writer is killed."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


def start_in_session(session: Path, log_folder: Path) -> dict[str, str]:
    """Start a server; what came of it, also where nothing did, so that it isn't tried again."""
    try:
        binary = ensure_binary()
    except UnavailableError as error:
        return {"unavailable": str(error)}
    for attempt in range(1, START_ATTEMPTS + 1):
        log = log_folder / f"temporal-server-{attempt}.log"
        address = f"127.0.0.1:{free_port()}"
        folder = Path(tempfile.mkdtemp(dir=session, prefix="server-"))
        launch(binary, address, session, folder, log)
        if wait_for_answer(address, folder / "exited"):
            return {"address": address, "log": str(log)}
        if not (folder / "exited").exists():
            break
    return {"failed": f"expected the Temporal server to start, its log ends with\n{tail(log, 30)}"}


def launch(binary: Path, address: str, session: Path, folder: Path, log: Path) -> None:
    """Leave a supervisor behind, which is no child of this process: it may be a worker's."""
    port = address.rsplit(":", 1)[1]
    paths = [str(path) for path in (binary, session, folder, log)]
    command = [sys.executable, "-m", "tests.devserver", "supervise", port, *paths]
    subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=True)


def wait_for_answer(address: str, exited: Path) -> bool:
    """Wait until the server answers; False: it ended, or time is up."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and not exited.exists():
        if listens(address) and asyncio.run(answers(address)):
            return True
        time.sleep(0.02)
    return False


async def answers(address: str) -> bool:
    """Whether the server does what a test needs: its services start one after the other."""
    from temporalio.client import Client
    from temporalio.service import RPCError

    try:
        client = await Client.connect(address)
        await client.count_workflows()
    except (RPCError, RuntimeError):  # the latter when it cannot connect
        return False
    return True


def new_namespace(address: str) -> str:
    """Register a namespace that no other test uses; takes a few milliseconds.

    It can be used at once: the server looks a namespace up that it has not met, but remembers for
    1 s that there was none, so nobody may ask for the name before.
    """
    name = f"test-{uuid.uuid4().hex}"
    asyncio.run(register(address, name))
    return name


async def register(address: str, name: str) -> None:
    """Register the namespace. Raises temporalio's RPCError."""
    from google.protobuf.duration_pb2 import Duration
    from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
    from temporalio.client import Client

    client = await Client.connect(address)
    day = Duration(seconds=24 * 60 * 60)  # the shortest that is allowed
    request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=day)
    await client.workflow_service.register_namespace(request)


# --- pytest ---------------------------------------------------------------------------------

controlled = pytest.StashKey[contextlib.ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    """Open a session, in pytest's controller; its workers find it in the environment.

    A worker whose controller did not import this hook has a session, and a server, of its own.
    """
    in_worker = hasattr(config, "workerinput")
    if controlled in config.stash or (in_worker and SESSION_VARIABLE in os.environ):
        return
    stack = config.stash[controlled] = contextlib.ExitStack()
    session = Path(tempfile.mkdtemp(prefix="belugawf-temporal-"))
    os.environ[SESSION_VARIABLE] = str(session)
    stack.callback(os.environ.pop, SESSION_VARIABLE, None)
    stack.callback(shutil.rmtree, session, ignore_errors=True)
    stack.callback(await_supervisors, session)
    stack.enter_context(held(session / "alive", fcntl.LOCK_SH))


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the session, and with it the server."""
    if controlled in config.stash:
        config.stash[controlled].close()


def await_supervisors(session: Path) -> None:
    """Wait until no server of the session is left; they were told by the lock."""
    deadline = time.monotonic() + STOP_LIMIT_S
    while time.monotonic() < deadline:
        try:
            with held(session / "serving", fcntl.LOCK_EX | fcntl.LOCK_NB):
                return
        except FileNotFoundError:  # the last one took the folder along
            return
        except BlockingIOError:
            time.sleep(0.01)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests wait longer where the binary is to be built first."""
    if present_binary() is not None:
        return
    for item in items:
        if "temporal_server" in getattr(item, "fixturenames", ()):
            own = item.get_closest_marker("timeout")
            usual_s = own.args[0] if own and own.args else float(item.config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(usual_s + BUILD_LIMIT_S), append=False)


@pytest.fixture(scope="session")
def temporal_server(tmp_path_factory: pytest.TempPathFactory) -> DevServer:
    """The Temporal server that all tests of this run share; skips where there can't be one."""
    session = Path(os.environ[SESSION_VARIABLE])
    try:
        return session_server(session, tmp_path_factory.getbasetemp())
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def temporal_namespace(temporal_server: DevServer) -> str:
    """A namespace of the test's own: workflow ids mean nothing outside of it."""
    return new_namespace(temporal_server.address)


# --- The command line -----------------------------------------------------------------------


def run_in_foreground(port: int) -> int:
    """Run a server until it ends, or Ctrl-C, or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    address = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="belugawf-temporal-") as folder:
        server = start_server(ensure_binary(), port, Path(folder), sys.stderr)
        with server:
            try:
                while server.poll() is None and not listens(address):
                    time.sleep(0.02)
                print(address, flush=True)
                return server.wait()
            except KeyboardInterrupt:
                return 0
            finally:
                server.kill()


def main() -> int:
    """Parse and dispatch; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.devserver")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="make sure that there is a binary, print its path")
    run = commands.add_parser("run", help="run a server as tests do, print its address")
    run.add_argument("--port", type=int, default=0, help="default: a free one")
    inner = commands.add_parser("supervise", help="used by the tests")
    inner.add_argument("port", type=int)
    for name in ("binary", "session", "folder", "log"):
        inner.add_argument(name, type=Path)
    fetch = commands.add_parser("download", help="used by build")
    fetch.add_argument("folder")
    args = parser.parse_args()
    match args.command:
        case "build":
            print(ensure_binary())
        case "run":
            return run_in_foreground(args.port or free_port())
        case "supervise":
            supervise(args.binary, args.port, args.session, args.folder, args.log)
        case "download":
            asyncio.run(sdk_download(args.folder))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UnavailableError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
