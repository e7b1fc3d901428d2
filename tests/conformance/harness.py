"""A project folder tried from outside: modules in a folder, the CLI in real processes.

Activities of test modules append lines to a log (`note`), so "once" means one line. Nothing here
sleeps and hopes: `wait_for` polls a condition until a deadline.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from belugawf import new_executor
from belugawf.model.errors import RunNotFoundError
from tests.forking import POSSIBLE, Forked, Forks

T = TypeVar("T")

# Long enough for a loaded machine; a condition that holds is seen within 20 ms.
PATIENCE_S = 150.0

ENDED = ("completed", "failed", "cancelled", "terminated", "timed_out", "continued_as_new")

PRELUDE = '''\
import asyncio
import logging
import os
import signal
import subprocess
import time
from pathlib import Path

from belugawf import (
    ActivityError,
    ActivityInterruptedError,
    ActivityTimeoutError,
    ApplicationError,
    PayloadTypeError,
    RetryPolicy,
    SignalTimeoutError,
    WorkflowContext,
    activity,
    workflow,
)

ROOT = Path(__file__).resolve().parent.parent


def note(text):
    """Append one line to the activity log, in one write."""
    line = f"{time.time_ns()}\\t{text}\\n".encode()
    log = os.open(ROOT / "activity.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, line)
    finally:
        os.close(log)


def is_open(gate):
    return (ROOT / f"{gate}.open").exists()


def pass_gate(gate):
    """Block this thread until the test opens the gate."""
    deadline = time.monotonic() + 90
    while not is_open(gate):
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody opened gate {gate}")
        time.sleep(0.01)


async def await_gate(gate):
    """As `pass_gate`, on the event loop."""
    deadline = time.monotonic() + 90
    while not is_open(gate):
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody opened gate {gate}")
        await asyncio.sleep(0.01)

'''


COMMAND = (sys.executable, "-m", "belugawf")
CACHE_RUNS = "BELUGAWF_CACHE_RUNS"


@dataclass(frozen=True)
class Provider:
    """A way to execute runs, as the suite is parametrised over it.

    `local`: on the SQLite store, where the database file and the clock can be reached into.
    `forked`: its commands are forked where that is possible, see `tests.forking`.
    """

    name: str
    env: Mapping[str, str] = field(default_factory=dict)
    local: bool = True
    forked: bool = False


# The same as the default one, for tests that need many commands and no new interpreters.
FORKED = Provider("default", forked=POSSIBLE)
PROVIDERS = {
    "default": Provider("default"),
    # Nothing is kept in memory between turns: every turn replays the history.
    "uncached": Provider("uncached", {CACHE_RUNS: "0"}, forked=POSSIBLE),
    # A real server; which one and which namespace, each test is told.
    "temporal": Provider(
        "temporal",
        {
            "BELUGAWF_PROVIDER": "temporal",
            # A dead worker is found within seconds.
            "BELUGAWF_TEST_STICKY": "1",
            "BELUGAWF_TEST_LIVENESS": "2",
        },
        local=False,
        forked=POSSIBLE,
    ),
}


@dataclass(frozen=True)
class Result:
    """What a process printed, and its exit code (negative: ended by that signal)."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        try:
            return json.loads(self.out)
        except ValueError:
            raise AssertionError(f"stdout is not one JSON document\n{self}") from None

    @property
    def error(self) -> dict[str, Any]:
        """The one JSON line on stderr that a failing `--json` command prints; stdout is empty."""
        assert self.out == "", f"a failing command printed on stdout\n{self}"
        lines = [line for line in self.err.splitlines() if line.strip()]
        try:
            found = [json.loads(line) for line in lines if line.startswith("{")]
        except ValueError:
            raise AssertionError(f"stderr holds no JSON line\n{self}") from None
        assert len(found) == 1, f"expected one JSON line on stderr\n{self}"
        error: dict[str, Any] = found[0]
        assert error["schema"] == "belugawf.error/1", self
        assert error["exit_code"] == self.code, self
        return error

    def no_traceback(self) -> Result:
        """The same result; fails where a traceback of our own was printed."""
        assert "Traceback (most recent call last)" not in self.err, f"a traceback\n{self}"
        return self

    def __str__(self) -> str:
        return (
            f"$ {' '.join(self.args)}\nexit code {self.code}\n"
            f"--- stdout\n{self.out}\n--- stderr\n{self.err}"
        )


class Process:
    """A process in the background, in a session of its own, its output in files."""

    def __init__(
        self,
        args: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        out: Path,
        *,
        forks: Forks | None = None,
    ) -> None:
        self.args = tuple(args)
        self._out = out.with_suffix(".out")
        self._err = out.with_suffix(".err")
        self._popen: subprocess.Popen[bytes] | Forked
        if forks is not None:
            self._popen = forks.start(
                args[len(COMMAND) :],
                cwd=cwd,
                env=env,
                stdin=None,
                stdout=self._out,
                stderr=self._err,
            )
            return
        with self._out.open("wb") as stdout, self._err.open("wb") as stderr:
            self._popen = subprocess.Popen(
                args,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._popen.poll()

    @property
    def alive(self) -> bool:
        return self.code is None

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def send(self, number: int) -> None:
        """Send the process itself (not its children) a signal."""
        self._popen.send_signal(number)

    def send_group(self, number: int) -> None:
        """Send a signal to its whole process group, as a terminal does."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL it, as `kill -9` does, and reap it."""
        self._popen.kill()
        self._popen.wait(PATIENCE_S)

    def wait(self, *, check: int | None = 0, timeout: float = PATIENCE_S) -> Result:
        """Until it ends; `check` is the exit code that it must end with, None any."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)
            self._popen.wait(PATIENCE_S)
            raise AssertionError(f"it has not ended after {timeout} s\n{self}") from None
        result = Result(self.args, code, self.out, self.err)
        assert check is None or code == check, f"expected exit code {check}\n{result}"
        return result

    def end(self) -> None:
        """Leave nothing behind: kill its whole session and reap it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(PATIENCE_S)

    def __str__(self) -> str:
        return str(Result(self.args, self.code if self.code is not None else 0, self.out, self.err))


class Driver:
    """On Temporal, what drives a run is a worker: a command and a worker beside it, as one."""

    def __init__(self, worker: Process, command: Process) -> None:
        self._worker = worker
        self._command = command
        self._signalled = False

    @property
    def pid(self) -> int:
        return self._worker.pid

    @property
    def alive(self) -> bool:
        return self._worker.alive

    @property
    def out(self) -> str:
        return self._command.out

    @property
    def err(self) -> str:
        return self._worker.err + self._command.err

    def send(self, number: int) -> None:
        """Send both a signal."""
        self._signalled = True
        for process in (self._worker, self._command):
            if process.alive:
                process.send(number)

    def send_group(self, number: int) -> None:
        """Send the process groups of both a signal."""
        self._signalled = True
        for process in (self._worker, self._command):
            if process.alive:
                process.send_group(number)

    def kill(self) -> None:
        """SIGKILL both, as the one process that drives elsewhere."""
        self._worker.kill()
        self._command.kill()

    def wait(self, *, check: int | None = 0, timeout: float = PATIENCE_S) -> Result:
        """Until the command ends; where they were sent a signal, both end with that code."""
        if self._signalled:
            ended = self._worker.wait(check=check, timeout=timeout)
            self._command.wait(check=None, timeout=timeout)
            return ended
        result = self._command.wait(check=check, timeout=timeout)
        if self._worker.alive:
            self._worker.send(signal.SIGTERM)
            self._worker.wait(check=143)
        return result

    def __str__(self) -> str:
        return f"{self._worker}\n{self._command}"


def wait_for(
    condition: Callable[[], T | None], what: str = "", *, process: Process | Driver | None = None
) -> T:
    """Poll until the condition is true and return its value.

    Fails after PATIENCE_S, or where `process`, which should bring it about, has ended before.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        ended = process is not None and not process.alive
        value = condition()
        if value:
            return value
        if ended:
            raise AssertionError(f"it ended before {what or 'that came true'}\n{process}")
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'the condition'} never came true\n{process or ''}")
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state = shown.stdout.strip()
    return bool(state) and not state.startswith("Z")


def utc_now() -> str:
    """Now, in the form of the JSON's instants: such texts sort as their instants do."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(instant: str) -> float:
    """An instant of the JSON as seconds since 1970."""
    return datetime.fromisoformat(instant).timestamp()


class Project:
    """A folder with `workflows/`, a state folder, and an activity log."""

    def __init__(self, root: Path, provider: Provider = PROVIDERS["default"]) -> None:
        self.root = root
        self.provider = provider
        self.modules = root / "workflows"
        self.modules.mkdir(parents=True, exist_ok=True)
        self.db = root / ".belugawf" / "state.db"
        self._processes: list[Process] = []
        self._worker: Process | None = None
        self._worker_env: dict[str, str] = {}

    # -- files -----------------------------------------------------------------------------------

    def write_module(self, name: str, source: str, *, prelude: bool = True) -> Path:
        """Write `workflows/NAME.py`: the prelude's imports and helpers, then the source."""
        self.stop_worker()
        path = self.modules / f"{name}.py"
        text = textwrap.dedent(source)
        path.write_text(PRELUDE + text if prelude else text)
        # A rewritten module of the same size and second must not run from its cached bytecode.
        shutil.rmtree(self.modules / "__pycache__", ignore_errors=True)
        return path

    def remove_module(self, name: str) -> None:
        self.stop_worker()
        (self.modules / f"{name}.py").unlink()
        shutil.rmtree(self.modules / "__pycache__", ignore_errors=True)

    def configure(self, text: str) -> None:
        """Write `.belugawf.yaml`."""
        (self.root / ".belugawf.yaml").write_text(textwrap.dedent(text))

    def open_gate(self, gate: str) -> None:
        (self.root / f"{gate}.open").touch()

    def copy_to(self, root: Path) -> Project:
        """The same project elsewhere; no process may hold this one."""
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("*.sock", "process-*"))
        return Project(root, self.provider)

    def log(self) -> list[str]:
        """The activity log's lines, without their times."""
        return [text for _, text in self.timed_log()]

    def timed_log(self) -> list[tuple[float, str]]:
        """(seconds since 1970, text) of each line."""
        path = self.root / "activity.log"
        if not path.exists():
            return []
        lines = (line.partition("\t") for line in path.read_text().splitlines())
        return [(int(stamp) / 1e9, text) for stamp, _, text in lines]

    def count(self, text: str) -> int:
        """How many lines of the activity log are exactly `text`."""
        return self.log().count(text)

    def time_of(self, text: str) -> float:
        """When `text` was first logged, seconds since 1970."""
        return next(stamp for stamp, line in self.timed_log() if line == text)

    # -- processes -------------------------------------------------------------------------------

    def env(
        self, env: Mapping[str, str] | None = None, clock: float | None = None
    ) -> dict[str, str]:
        """A child's environment: nothing of belugawf's from outside, the provider's, and `env`.

        `clock` shifts the local provider's wall clock, in seconds.
        """
        merged = {k: v for k, v in os.environ.items() if not k.startswith("BELUGAWF_")}
        merged |= {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        merged["PYTHONFAULTHANDLER"] = "1"
        merged |= self.provider.env
        if clock is not None:
            assert self.provider.local, "only the local provider's clock can be shifted"
            merged["BELUGAWF_TEST_CLOCK_OFFSET"] = str(clock)
        return merged | dict(env or {})

    def cli(
        self,
        *args: str,
        check: int | None = 0,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        clock: float | None = None,
        timeout: float = PATIENCE_S,
    ) -> Result:
        """Run `belugawf ARGS` to its end; `check` is the exit code it must have, None any.

        On Temporal, what drives runs locally has a worker beside it, which stays.
        """
        if not self.provider.local:
            self._see_to_a_worker(args, dict(env or {}))
        forks = self._forks(env, clock)
        run = self._run if forks is None else partial(self._run_forked, forks)
        return run([*COMMAND, *args], check, input, self.env(env, clock), timeout)

    def python(
        self,
        source: str,
        *args: str,
        check: int | None = 0,
        env: Mapping[str, str] | None = None,
        clock: float | None = None,
        timeout: float = PATIENCE_S,
    ) -> Result:
        """Run a Python script in the project's folder; the worker beside commands is ended."""
        self.stop_worker()
        return self._run(
            [sys.executable, "-c", textwrap.dedent(source), *args],
            check,
            None,
            self.env(env, clock),
            timeout,
        )

    def _run(
        self,
        command: list[str],
        check: int | None,
        input: str | None,
        env: Mapping[str, str],
        timeout: float,
    ) -> Result:
        started = subprocess.Popen(
            command,
            cwd=self.root,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        with started:
            try:
                out, err = started.communicate(input or "", timeout)
            except subprocess.TimeoutExpired:
                # faulthandler answers with the stacks of all threads.
                started.send_signal(signal.SIGABRT)
                out, err = started.communicate()
                late = Result(tuple(command[2:]), started.returncode, out, err)
                raise AssertionError(f"it has not ended after {timeout} s\n{late}") from None
        return self._checked(Result(tuple(command[2:]), started.returncode, out, err), check)

    def _forks(
        self, env: Mapping[str, str] | None = None, clock: float | None = None
    ) -> Forks | None:
        """What forks a command; `None` where something is asked for that is read at start-up."""
        early = [name for name in env or () if not name.startswith("BELUGAWF_")]
        if not self.provider.forked or clock is not None or early or CACHE_RUNS in (env or ()):
            return None
        # Where the server is, is read when it is asked for.
        early_env = {k: v for k, v in self.provider.env.items() if "_TEMPORAL_" not in k}
        return Forks.with_env(early_env)

    def _run_forked(
        self,
        forks: Forks,
        command: list[str],
        check: int | None,
        input: str | None,
        env: Mapping[str, str],
        timeout: float,
    ) -> Result:
        place = Path(tempfile.mkdtemp(dir=forks.folder))
        given, out, err = (place / name for name in ("in", "out", "err"))
        given.write_text(input or "")
        child = forks.start(
            command[len(COMMAND) :], cwd=self.root, env=env, stdin=given, stdout=out, stderr=err
        )
        late = ""
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)
            late = f"it has not ended after {timeout} s\n"
        code = child.wait()
        said = (path.read_text(errors="replace") for path in (out, err))
        result = Result(tuple(command[2:]), code, *said)
        shutil.rmtree(place)
        assert not late, f"{late}{result}"
        return self._checked(result, check)

    def _checked(self, result: Result, check: int | None) -> Result:
        assert check is None or result.code == check, f"expected exit code {check}\n{result}"
        # Only a bug of ours ends with 1; no scenario expects one.
        assert result.code != 1 or check == 1, f"an internal error\n{result}"
        return result

    def start(
        self, *args: str, env: Mapping[str, str] | None = None, clock: float | None = None
    ) -> Process | Driver:
        """Start `belugawf ARGS` in the background; it is killed with the project."""
        if self.provider.local or not _drives_locally(args):
            forks = self._forks(env, clock)
            return self._start([*COMMAND, *args], self.env(env, clock), forks)
        self.stop_worker()
        forks = self._forks(env)
        worker = self._start([*COMMAND, "worker"], self.env(env), forks)
        return Driver(worker, self._start([*COMMAND, *args], self.env(env), forks))

    def start_command(self, *args: str) -> Process:
        """Start `belugawf ARGS` by itself: on Temporal without a worker beside it."""
        return self._start([*COMMAND, *args], self.env())

    def _see_to_a_worker(self, args: Sequence[str], env: dict[str, str]) -> None:
        """A worker where the command would drive locally, none where it says not to."""
        if "--no-resume" in args:
            self.stop_worker()
        elif _drives_locally(args) and not any(p.alive for p in self._processes):
            self._start_worker(env)
        elif _drives_locally(args) and self._worker is not None and env != self._worker_env:
            self.stop_worker()
            self._start_worker(env)

    def _start_worker(self, env: dict[str, str]) -> None:
        self._worker_env = env
        self._worker = self._start([*COMMAND, "worker"], self.env(env), self._forks(env))

    def stop_worker(self) -> None:
        """Let the worker beside the commands drain and end, as before a deploy."""
        worker, self._worker = self._worker, None
        if worker is not None and worker.alive:
            worker.send(signal.SIGTERM)
            worker.wait(check=None)

    def start_python(
        self, source: str, *args: str, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a Python script in the background."""
        return self._start([sys.executable, "-c", textwrap.dedent(source), *args], self.env(env))

    def _start(
        self, command: list[str], env: Mapping[str, str], forks: Forks | None = None
    ) -> Process:
        out = self.root / f"process-{len(self._processes)}"
        process = Process(command, self.root, env, out, forks=forks)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            process.end()

    # -- runs ------------------------------------------------------------------------------------

    def status(self, run: str, **options: Any) -> dict[str, Any]:
        """`status RUN --json`."""
        shown: dict[str, Any] = self.cli("status", run, "--json", **options).json
        return shown

    def waits(self, run: str, name: str | None = None) -> bool:
        """Whether the run is there and waits for something (for `name`)."""
        info = self._peek(lambda executor: executor.describe(run))
        return info is not None and any(name in (None, w.name) for w in info.waiting_for)

    def _peek(self, look: Callable[[Any], T]) -> T | None:
        """Look from this process, as polling does again and again; `None`: there is no such run."""
        options: dict[str, Any] = {"db": self.db, "create": False}
        if not self.provider.local:
            env = self.provider.env
            options = {
                "host": env["BELUGAWF_TEMPORAL_HOST"],
                "namespace": env["BELUGAWF_TEMPORAL_NAMESPACE"],
            }
        elif not self.db.exists():
            return None
        try:
            with new_executor(
                "default" if self.provider.local else "temporal", **options
            ).sync() as e:
                return look(e)
        except RunNotFoundError:
            return None

    def history(self, run: str) -> list[dict[str, Any]]:
        """`history RUN --json`, with its positions checked."""
        events: list[dict[str, Any]] = self.cli("history", run, "--json").json
        assert [event["position"] for event in events] == list(range(1, len(events) + 1))
        return events

    def events(self, run: str, *types: str) -> list[dict[str, Any]]:
        """The events of these types."""
        return [event for event in self.history(run) if event["type"] in types]

    def has_event(self, run: str, kind: str) -> bool:
        """Whether the run is there and its history has an event of this type."""
        history = self._peek(lambda executor: executor.history(run)) or ()
        return any(type(event).__name__ == kind for event in history)

    def result(self, run: str) -> Any:
        """The result of a completed run, through `result RUN --json`."""
        return self.cli("result", run, "--json").json

    def finish(self, run: str, **options: Any) -> dict[str, Any]:
        """Resume until the run has ended: one `resume` must do, where time is local."""
        options.setdefault("check", None)
        self.cli("resume", run, **options)
        if not self.provider.local:
            wait_for(lambda: self.status(run)["status"] in ENDED, f"{run} has ended")
        shown = self.status(run)
        assert shown["status"] in ENDED, f"{run} is still {shown}"
        return shown

    # -- the local store, read from outside ------------------------------------------------------

    def query_db(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read the database through SQLite, as anybody may."""
        connection = sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def change_db(self, sql: str) -> None:
        """Change the database behind belugawf's back."""
        connection = sqlite3.connect(self.db, timeout=30, isolation_level=None)
        try:
            connection.executescript(sql)
        finally:
            connection.close()

    def dump_db(self) -> list[str]:
        """All tables with all rows, as SQL."""
        connection = sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=30)
        try:
            return list(connection.iterdump())
        finally:
            connection.close()

    def stored_events(self, workflow_id: str) -> list[tuple[str, int | None, str | None]]:
        """(type, seq, name) of the latest run's events, read without belugawf."""
        return [
            (row[0], row[1], row[2])
            for row in self.query_db(
                "SELECT e.type, e.seq, e.name FROM events e JOIN runs r ON r.key = e.run"
                " WHERE r.workflow_id = ? ORDER BY e.position",
                workflow_id,
            )
        ]


def _drives_locally(args: Sequence[str]) -> bool:
    """Whether the command drives runs itself where time is local."""
    return args[0] in ("run", "rerun", "signal", "cancel") and not {"-d", "--detach"} & {*args}


def with_env(provider: Provider, **env: str) -> Provider:
    """The provider with more environment."""
    return replace(provider, env={**provider.env, **env})
