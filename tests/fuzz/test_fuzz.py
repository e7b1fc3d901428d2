"""A bounded part of the campaign, and a sample of its command lines in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz import texts
from tests.fuzz.campaign import campaign
from tests.fuzz.commands import DOCUMENTED, Answer, TracebackFound, WrongResultFound
from tests.fuzz.kinds import KINDS, Kind, Template

# About 15 seconds of CPU all together.
CASES = {
    "payloads": 400,
    "configuration": 100,
    "command lines": 60,
    "names": 20,
    "rows": 50,
    "files": 30,
    "logs": 15,
}
PROCESSES = 6


def test_every_kind_is_tried() -> None:
    """The table names all kinds."""
    assert set(CASES) == {kind.name for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_hostile_input(kind: Kind, tmp_path: Path) -> None:
    """No traceback, no hang, no wrong result; the seed is fixed, the long form takes another."""
    tally = campaign([kind], cases=CASES[kind.name], seed=1, place=tmp_path)
    assert not tally.findings, "\n".join([*tally.findings, f"{tally}"])


def test_real_processes(tmp_path: Path) -> None:
    """What a process adds changes nothing: the same rules hold for command lines in processes."""
    template = Template(tmp_path)

    @settings(
        max_examples=PROCESSES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(texts.command_lines())
    def check(words: list[str]) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("BELUGAWF_", "TEMPORAL_"))}
        done = subprocess.run(
            [sys.executable, "-m", "belugawf", *words],
            cwd=template.copy(),
            env={**env, "BELUGAWF_WORKFLOWS": str(template.modules)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        shown = [stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr)]
        Answer(tuple(words), done.returncode, *shown).check()

    check()


# -- the checks are checked ----------------------------------------------------------------------


def test_a_traceback_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody expects is a finding."""

    def fall_over(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr("belugawf.local.store.store.Store.counts", fall_over)
    monkeypatch.setattr("belugawf.local.store.store.Store.find", fall_over)
    (kind,) = (kind for kind in KINDS if kind.name == "rows")
    tally = campaign([kind], cases=10, seed=1, place=tmp_path)
    assert tally.found["traceback"]
    assert "a bug of ours" in tally.findings[0]


def test_a_wrong_result_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload that is read as another is a finding."""
    monkeypatch.setattr("belugawf.model.codec.parse_json", lambda text: [text])
    tally = campaign([KINDS[0]], cases=10, seed=1, place=tmp_path)
    assert tally.found["wrong result"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(("list", "--json"), 0, "no JSON", ""),
        Answer(("list", "--json"), 9, "[]", '{"exit_code": 9}'),
        Answer(("list", "--json"), 9, "", "error: in words"),
        Answer(("list", "--json"), 9, "", '{"exit_code": 2}'),
    ],
)
def test_broken_json_is_found(answer: Answer) -> None:
    """The rules of `--json` are checked."""
    with pytest.raises(WrongResultFound):
        answer.check()


def test_exit_codes_are_checked() -> None:
    """1 is a bug of ours, and no documented answer."""
    assert 1 not in DOCUMENTED
    for code in (1, 6, -11, 255):
        with pytest.raises(TracebackFound):
            Answer(("list",), code, "", "").check()
