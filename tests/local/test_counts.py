"""What a step costs, as counts that do not depend on the machine: calls, statements, pages.

Each limit is what it was when it was last lowered, and a little: whoever makes a step dearer hears
of it. Other Pythons call other functions: there the counts of calls are only printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIMITS = {
    "Python calls a step": 226.0,
    "statements a step": 4.05,
    "Python calls an activity in parallel": 127.5,
    "Python calls a start": 229.0,
    "pages a step": 1.65,
}
HERE_COUNTED = sys.implementation.name == "cpython" and sys.version_info[:2] == (3, 11)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The counts of a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.local.counting", str(tmp_path_factory.mktemp("counts"))],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=100,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("what", LIMITS)
def test_what_a_step_costs(counted: dict[str, float], what: str) -> None:
    """Not more than when the limit was set."""
    print(f"{what}: {counted[what]:.2f} (limit {LIMITS[what]})")
    if HERE_COUNTED or "calls" not in what:
        assert counted[what] <= LIMITS[what], f"{what}: {counted[what]:.2f}"
