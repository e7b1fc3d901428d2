"""The CLI in this process, on a fake executor."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from belugawf.__main__ import run
from tests.cli.fake import FakeExecutor


@dataclass(frozen=True)
class Result:
    """What one command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The one JSON line on stderr; nothing may stand on stdout."""
        assert self.out == ""
        (line,) = self.err.splitlines()
        return json.loads(line)


class Cli:
    """Runs commands on `executor`."""

    def __init__(self, capfd: pytest.CaptureFixture[str], root: Path) -> None:
        self.executor = FakeExecutor()
        self.root = root
        self.settings = SimpleNamespace(
            provider="default",
            workflows=root / "workflows",
            db=root / "state.db",
            default_workflow=None,
            resume_max_time=None,
            worker_concurrency=None,
            redact=(),
            logging=SimpleNamespace(level="info"),
            payload_limit=2 * 1024 * 1024,
            source=None,
            sources={},
        )
        self.settings.db.touch()
        self._capfd = capfd

    def __call__(self, *arguments: str) -> Result:
        self._capfd.readouterr()
        code = run(arguments)
        out, err = self._capfd.readouterr()
        return Result(code, out, err)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """The command line, in this process."""
    made = Cli(capfd, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr("belugawf.cli.session.settings_of", lambda flags, **_: made.settings)
    monkeypatch.setattr(
        "belugawf.executor.new_executor", lambda *_, **__: made.executor, raising=False
    )
    return made


MakeTerminal = Callable[..., None]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> MakeTerminal:
    """Makes the CLI believe that a person looks at stdout and stderr."""

    def pretend(*, prompt: bool = False) -> None:
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("belugawf.cli.streams.Streams.data_is_terminal", lambda self: True)
        monkeypatch.setattr("belugawf.cli.streams.Streams.can_prompt", lambda self: prompt)

    return pretend
