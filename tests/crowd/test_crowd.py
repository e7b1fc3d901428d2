"""A short crowd, and one in a belugawf that is broken. A long one: see `__main__`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def crowd(*args: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, which forks: this one may have threads."""
    return subprocess.run(
        [sys.executable, "-m", "tests.crowd", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sixteen_processes() -> None:
    """Sixteen processes on one file: no error reaches anybody, nothing is lost or done twice."""
    done = crowd("--minutes", "0.25", "--processes", "16")
    summary = done.stdout.rstrip().rpartition("\n")[2]
    print(summary)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_who_takes_from_the_living_is_found() -> None:
    """Where runs are taken over from owners who are alive, activities are executed twice."""
    done = crowd("--minutes", "0.1", "--processes", "12", "--mutant", "nobody-lives")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "executed twice" in done.stdout
