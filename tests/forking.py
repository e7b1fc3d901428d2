"""Processes of the CLI that are forked from one that has imported everything, and opened nothing.

A command takes a fifth of the time that way, nearly all of which is spent on imports. What the
child does from there on is what `belugawf ARGS` does: it has its own process number, standard
streams and environment, and is killed as any other. Starting the interpreter, and importing only
what a command needs, is tried by the tests that start real processes.

`python -m tests.forking DESCRIPTOR` is such a process: it takes requests on a socket.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import functools
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
# Without it a process could not wait for several children and a socket at once.
POSSIBLE = hasattr(os, "pidfd_open")


def import_everything() -> None:
    """Import whatever a command imports only when it needs it, and build the tree of commands."""
    import rich
    import typer

    import belugawf
    from belugawf import __main__ as cli

    temporal = os.environ.get("BELUGAWF_PROVIDER") == "temporal"
    for package in (belugawf, typer, rich):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__") or (".temporal" in found.name and not temporal):
                continue
            with contextlib.suppress(Exception):  # that of another system
                importlib.import_module(found.name)
    for name in ("sqlite_utils", "yaml", "concurrent.futures.thread"):
        importlib.import_module(name)
    typer.main.get_command = functools.cache(typer.main.get_command)
    typer.main.get_command(cli.app)


def become(
    args: Sequence[str],
    *,
    cwd: Path,
    stdin: Path | None,
    stdout: Path,
    stderr: Path,
    prepare: Callable[[], object] = lambda: None,
) -> NoReturn:
    """Be `belugawf ARGS` in this process, a forked one, until its end."""
    try:
        _forget_exit_functions()
        os.chdir(cwd)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
        written = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(stdin or os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(stdout, written, 0o600), 1)
        os.dup2(os.open(stderr, written, 0o600), 2)
        os.closerange(3, 256)
        sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape")
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8")
        faulthandler.enable(2)
        sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
        sys.argv = ["belugawf", *args]
        prepare()
        from belugawf import __main__ as cli

        cli.main()
    except SystemExit as ended:
        os._exit(ended.code if isinstance(ended.code, int) else 0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(70)


def _forget_exit_functions() -> None:
    """What this process has registered is not the command's: it would remove our folders."""
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


# -- the process that forks ------------------------------------------------------------------------


def serve(asked: socket.socket) -> None:
    """Fork a child for each request, and say how each ended, until the other side is gone."""
    import_everything()
    children: dict[int, int] = {}
    poll = select.poll()
    poll.register(asked, select.POLLIN)
    lines = asked.makefile("r")
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == asked.fileno():
                line = lines.readline()
                if not line:
                    return
                pid = _fork(json.loads(line))
                descriptor = os.pidfd_open(pid)  # not always the highest: numbers are used again
                children[descriptor] = pid
                poll.register(descriptor, select.POLLIN)
                _tell(asked, {"started": pid})
            else:
                poll.unregister(descriptor)
                os.close(descriptor)
                pid, status = os.waitpid(children.pop(descriptor), 0)
                _tell(asked, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _fork(request: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    # As in a new process, where this is what the environment says.
    importlib.reload(sys.modules["belugawf.host.test_hooks"])
    sys.path[0] = request["cwd"]
    stdin = request["stdin"]
    become(
        request["args"],
        cwd=Path(request["cwd"]),
        stdin=None if stdin is None else Path(stdin),
        stdout=Path(request["stdout"]),
        stderr=Path(request["stderr"]),
    )


def _tell(to: socket.socket, message: Mapping[str, Any]) -> None:
    to.sendall(json.dumps(message).encode() + b"\n")


# -- who asks it -----------------------------------------------------------------------------------


class Forks:
    """A process that forks for this thread; `env` is added to its environment.

    What is read when modules are imported has been read in `env`, and not in that of a child.
    """

    _here = threading.local()

    def __init__(self, env: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                pass_fds=[theirs.fileno()],
            )
        self._pid = os.getpid()
        self._socket = ours
        self._lines = b""
        self.folder = Path(tempfile.mkdtemp(prefix="belugawf-forks-"))
        self._codes: dict[int, int] = {}
        self._started: list[int] = []

    @classmethod
    def with_env(cls, env: Mapping[str, str]) -> Forks:
        """This thread's with that environment, started when it is first asked for."""
        all_here: dict[frozenset[tuple[str, str]], Forks] = cls._here.__dict__
        key = frozenset(env.items())
        if key not in all_here:
            all_here[key] = cls(env)
        return all_here[key]

    def __del__(self) -> None:
        self._socket.close()
        if os.getpid() == self._pid:  # a child of ours has only copies of these
            shutil.rmtree(self.folder, ignore_errors=True)
            self._popen.wait()

    def start(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: Path | None,
        stdout: Path,
        stderr: Path,
    ) -> Forked:
        """A child that is `belugawf ARGS`; its output is appended to these files."""
        request = {"args": [*args], "cwd": str(cwd), "env": {**env}}
        request |= {"stdin": stdin and str(stdin), "stdout": str(stdout), "stderr": str(stderr)}
        _tell(self._socket, request)
        while not self._started:
            self._hear(None)
        return Forked(self, self._started.pop())

    def code(self, pid: int, timeout: float | None) -> int | None:
        """The exit code of a child, waited for until the timeout (seconds; `None`: for ever)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while pid not in self._codes:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not self._hear(left) and left == 0.0:
                return None
        return self._codes[pid]

    def _hear(self, timeout: float | None) -> bool:
        if not select.select([self._socket], [], [], timeout)[0]:
            return False
        data = self._socket.recv(65536)
        assert data, "the process that forks has ended"
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "started" in message:
                # The system uses numbers again: what ended under this one was another process.
                self._codes.pop(message["started"], None)
                self._started.append(message["started"])
            else:
                self._codes[message["ended"]] = message["code"]
        return True


class Forked:
    """A child of it, with what is used of `subprocess.Popen`."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks = forks
        self.pid = pid

    def poll(self) -> int | None:
        """The exit code, negative where a signal ended it; `None` while it lives."""
        return self._forks.code(self.pid, 0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises `subprocess.TimeoutExpired` after so many seconds."""
        code = self._forks.code(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("belugawf", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still lives."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
