"""The command line in this process, with what it prints captured, and a bound on its time.

Some hundred times as fast as a process each. What a process adds (start-up, encodings, the end) is
tried on a sample of the same cases in `tests/fuzz/test_fuzz.py`.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belugawf.__main__ import run
from belugawf.cli.streams import STREAMS
from belugawf.local import driving

# Those of CLI.md, without 1: "a bug of ours" is what is looked for.
DOCUMENTED = frozenset({0, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 124, 130, 143})
# Far above what any case here takes on a loaded machine.
PATIENCE_S = 30.0


class TracebackFound(AssertionError):
    """An exception that nobody expected, or an exit code that is not documented."""


class HangFound(BaseException):
    """Something took longer than PATIENCE_S. No Exception, so that nothing swallows it."""


class WrongResultFound(AssertionError):
    """An answer that is not true, or not in the promised form."""


@contextmanager
def bounded(seconds: float = PATIENCE_S) -> Iterator[None]:
    """Raise HangFound in the body after so long. For the main thread."""

    def stop(*_: object) -> None:
        raise HangFound(f"no end after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Answer:
    """What one command printed, and its exit code."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        try:
            return json.loads(self.out)
        except ValueError:
            raise WrongResultFound(f"stdout is not one JSON document\n{self}") from None

    def check(self) -> Answer:
        """The same answer; raises where it breaks the ground rules of the command line."""
        bug = "a bug of ours" in self.err or "Traceback (most recent call last)" in self.err
        if self.code not in DOCUMENTED or bug:
            raise TracebackFound(str(self))
        before = self.args[: self.args.index("--")] if "--" in self.args else self.args
        if "--json" in before and "--help" not in before and "-h" not in before:
            self._check_json()
        return self

    def _check_json(self) -> None:
        if self.code == 0:
            if "--version" not in self.args:
                _ = self.json
            return
        if self.out:
            raise WrongResultFound(f"a failure printed on stdout\n{self}")
        lines = [line for line in self.err.splitlines() if line.startswith("{")]
        try:
            errors = [json.loads(line) for line in lines]
        except ValueError:
            errors = []
        if len(errors) != 1 or errors[0].get("exit_code") != self.code:
            raise WrongResultFound(f"stderr has not one JSON line\n{self}")

    def __str__(self) -> str:
        return f"$ belugawf {list(self.args)!r}\nexit code {self.code}\n{self.out}\n{self.err}"


def command(
    args: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Answer:
    """Run one command to its end, in `cwd`; nothing of it stays but what it wrote to disk."""
    kept = sys.stdin, sys.stdout, sys.stderr
    here, environ, path = Path.cwd(), dict(os.environ), list(sys.path)
    descriptors = [os.dup(number) for number in (1, 2)]
    out, err = io.BytesIO(), io.BytesIO()
    streams = [
        io.TextIOWrapper(stream, "utf-8", errors="backslashreplace", write_through=True)
        for stream in (out, err)
    ]
    os.chdir(cwd)
    for name in [name for name in os.environ if name.startswith(("BELUGAWF_", "TEMPORAL_"))]:
        del os.environ[name]
    os.environ.update(env or {})
    try:
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        sys.stdout, sys.stderr = streams
        with bounded():
            code = run(list(args))
    except Exception as error:
        raise TracebackFound(f"$ belugawf {list(args)!r}\n{type(error)}: {error}") from error
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept
        for number, saved in zip((1, 2), descriptors, strict=True):
            os.dup2(saved, number)
            os.close(saved)
        os.chdir(here)
        sys.path[:] = path
        for name in set(os.environ) - set(environ):
            del os.environ[name]
        os.environ.update(environ)
        STREAMS.mask = None
        logging.setLogRecordFactory(logging.LogRecord)
        # `main` would end the process here; in this one they would stay for ever.
        for engine in driving._LEFT_BEHIND:
            engine.evict_all()
        driving._LEFT_BEHIND.clear()
    texts = [stream.getvalue().decode("utf-8") for stream in (out, err)]
    return Answer(tuple(args), code, *texts)
