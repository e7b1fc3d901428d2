"""A sample of the real kills, and what must not go unnoticed. Many more: see `__main__`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60


def kills(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the campaign in a process of its own, which forks: this one may have threads."""
    return subprocess.run(
        [sys.executable, "-m", "tests.kills", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sample() -> None:
    """Whatever is killed where: every run comes to its right end, nothing is repeated or lost."""
    done = kills("--kills", "100000", "--seconds", str(SECONDS))
    summary = done.stdout.rstrip().rpartition("\n")[2]
    print(summary)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 repeated after their record, 0 lost, 0 failures" in summary


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mutant", "example", "found"),
    [
        ("effects-before-commit", "greeting", "began, and it was not on record"),
        ("nobody-lives", "nightly_report", "not ended after|another process runs it"),
        ("messages-read-are-gone", "research-approved", "an acknowledged signal is lost"),
        ("lock-in-the-activity", "forks-fork", "not ended after|another process runs it"),
    ],
)
def test_a_broken_engine_is_found(mutant: str, example: str, found: str) -> None:
    """With one rule broken, the sample finds it, and says how to see it again."""
    done = kills(
        *("--mutant", mutant, "--example", example, "--processes", "4"),
        *("--kills", "1000", "--patience", "10"),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(found, done.stdout), done.stdout
    again = f"again: python -m tests.kills --example {example} --processes 4"
    assert again in done.stdout, done.stdout
