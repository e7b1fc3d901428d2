"""Whatever happens to the processes of a database, its promises hold: tried on seeded histories."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.__main__ import Report
from tests.simulation.scenario import simulate
from tests.simulation.storage import Storage

ROOT = Path(__file__).parents[2]
SEEDS = 700
_DIGESTS = """
from tests.simulation.scenario import simulate
from tests.simulation.storage import Storage

with Storage() as storage:
    print([simulate(seed, storage).observer.digest for seed in range(20)])
"""


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    with Storage() as storage:
        yield storage


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", [0, 1, 2])
def test_no_history_breaks_a_promise(storage: Storage, part: int) -> None:
    """Each kind of fault happens, often, and none of them costs anything that was promised."""
    report = Report()
    report.run(part * SEEDS, SEEDS, storage)
    assert not report.failures, "\n".join(f"seed {s}: {text}" for s, text in report.failures)
    for what in (
        *("kills", "killed", "freezes", "interrupts", "clock jumps", "bad deploys", "reboots"),
        *("full", "unreadable", "commit_fails", "commit_unknown", "busy", "contended", "held"),
        *("slow_disk", "preempted", "lost", "late", "stalled"),
        *("signal", "cancel", "terminate", "resume", "worker", "start"),
    ):
        assert report.happened[what] > 10, what


def test_a_seed_repeats_its_history(storage: Storage) -> None:
    """Also after others, and after itself."""
    first = simulate(7, storage)
    simulate(8, storage)
    again = simulate(7, storage)
    assert (first.stats, first.observer.digest) == (again.stats, again.observer.digest)
    assert first.observer.histories == again.observer.histories


def test_a_seed_repeats_its_history_in_another_process() -> None:
    """Nothing hangs on the order of sets, or on the real time."""
    told = [
        subprocess.run(
            [sys.executable, "-c", _DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert told[0].count(b",") == 19
