"""Processes of the CLI that kill themselves at a step, and witness what their activities do.

A process is forked from this one, which has imported everything and opened nothing: so that a
death costs milliseconds instead of the start of an interpreter. What it does from there on is what
`belugawf ARGS` does. Two things are added in it: a step before and after each activity's function,
and a witness, which looks into the database when an attempt begins, and writes what it saw.
"""

from __future__ import annotations

import fcntl
import functools
import inspect
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from belugawf.host import test_hooks
from belugawf.host.attempt import AttemptSpec
from belugawf.host.attempts import AttemptRunner
from tests.forking import become, import_everything

import_everything()

DB = Path(".belugawf") / "state.db"
WITNESSED = "witnessed.log"
# How long what an activity has started may outlive it.
LEFTOVER_S = 2.0
_ENDS = ("ActivityCompleted", "ActivityFailed", "ActivityTimedOut")


class Process:
    """A command in a process of its own; `kill_at` is the step at which it dies, 0 never."""

    def __init__(
        self,
        root: Path,
        args: tuple[str, ...],
        kill_at: int = 0,
        *,
        prepare: Callable[[], object] = lambda: None,
        witness: bool = False,
    ) -> None:
        self.args = args
        self.kill_at = kill_at
        self.began = time.monotonic()
        self._output = root / f"process-{time.monotonic_ns()}.out"
        self.pid = os.fork()
        if self.pid == 0:
            self._be(root, witness, prepare)
        self.code: int | None = None

    def _be(self, root: Path, witness: bool, prepare: Callable[[], object]) -> NoReturn:
        def ready() -> None:
            test_hooks._KILL_AT = self.kill_at
            if witness:
                _Witness().install()
            prepare()

        output = self._output
        become(self.args, cwd=root, stdin=None, stdout=output, stderr=output, prepare=ready)

    def poll(self) -> int | None:
        """Its exit code, negative where a signal ended it; `None` while it lives."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL from outside, at whatever it is doing."""
        self.send(signal.SIGKILL)

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill()
        while self.poll() is None:
            time.sleep(0.001)

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def forget(self) -> None:
        """What it has printed is of no interest any more."""
        self._output.unlink()

    def __str__(self) -> str:
        end = "alive" if self.code is None else f"exit code {self.code}"
        return f"$ belugawf {' '.join(self.args)} (kill at {self.kill_at}; {end})\n{self.said}"


class _Witness:
    """Writes a line as an attempt begins, runs and is over; lines of all processes are in one file.

    A process holds a lock of its own on a file as long as it lives, so that the others know.
    """

    def __init__(self) -> None:
        self._log = os.open(WITNESSED, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._alive = os.open(f"alive-{os.getpid()}", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        self._reader: sqlite3.Connection | None = None

    def install(self) -> None:
        """See every attempt of this process."""
        start = AttemptRunner.start

        def witnessed(runner: AttemptRunner, spec: AttemptSpec) -> None:
            self._note("began", spec, self._judge(spec))
            if spec.options.isolation == "none":  # others are witnesses of themselves
                spec = replace(spec, function=self._wrapped(spec))
            start(runner, spec)

        AttemptRunner.start = witnessed  # type: ignore[method-assign]

    def _note(self, word: str, spec: AttemptSpec, rest: str) -> None:
        line = f"{word}\t{spec.run_id}\t{spec.seq}\t{spec.attempt}\t{rest}\n"
        os.write(self._log, line.encode())

    def _judge(self, spec: AttemptSpec) -> str:
        """Whether the attempt may begin: by what is on record, and by what others do."""
        if self._reader is None:
            self._reader = sqlite3.connect(f"file:{DB}?mode=ro", uri=True, isolation_level=None)
        rows = self._reader.execute(
            "SELECT type, json_extract(data, '$.attempt') FROM events WHERE run = ? AND seq = ?",
            (spec.run, spec.seq),
        ).fetchall()
        kinds = [kind for kind, _ in rows]
        if any(kind in kinds for kind in _ENDS):
            return "its end was recorded"
        if "ActivityScheduled" not in kinds:
            return "it was not on record"
        if spec.attempt > 1 and ("AttemptStarted", spec.attempt) not in rows:
            return "its attempt was not on record"
        return "another process runs it" if self._runs_elsewhere(spec) else "rightly"

    def _runs_elsewhere(self, spec: AttemptSpec) -> bool:
        running = set()
        for line in Path(WITNESSED).read_text().splitlines():
            word, run_id, seq, attempt, pid = line.split("\t")
            if (run_id, seq) == (spec.run_id, str(spec.seq)) and pid != str(os.getpid()):
                if word == "ran":
                    running.add((attempt, pid))
                elif word == "over":
                    running.discard((attempt, pid))
        return any(_is_locked(Path(f"alive-{pid}")) for _, pid in running)

    def _wrapped(self, spec: AttemptSpec) -> Callable[..., Any]:
        function = spec.function
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def on_loop(*args: Any) -> Any:
                with self._running(spec):
                    return await function(*args)

            return on_loop

        @functools.wraps(function)
        def in_thread(*args: Any) -> Any:
            with self._running(spec):
                return function(*args)

        return in_thread

    @contextmanager
    def _running(self, spec: AttemptSpec) -> Iterator[None]:
        self._note("ran", spec, str(os.getpid()))
        test_hooks.step("in an activity")
        try:
            yield
        finally:
            test_hooks.step("after an activity")
            self._note("over", spec, str(os.getpid()))


def end_leftovers(root: Path) -> list[str]:
    """Kill what activities have left at work, after all is over; what there was to complain of."""
    complaints = []
    for path in root.glob("alive-*"):
        deadline = time.monotonic() + LEFTOVER_S
        while _is_locked(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        if _is_locked(path):
            held = _holders(path)
            complaints.append(f"{path.name} is at work after all is over: processes {held}")
            for pid in held:
                os.kill(pid, signal.SIGKILL)
    return complaints


def _holders(path: Path) -> list[int]:
    """The processes that have that file open."""
    held = []
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            if any(x.readlink() == path for x in folder.iterdir()):
                held.append(int(folder.parent.name))
    return held


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
