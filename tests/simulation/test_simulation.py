"""Whatever happens to the processes of a database, its promises hold: tried on seeded histories."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from tests.simulation.__main__ import Report
from tests.simulation.scenario import simulate
from tests.simulation.situations import PLACES, REFUSED_AT_WORK, SITUATIONS, UNKNOWN
from tests.simulation.storage import Storage
from tests.simulation.world import Faults

ROOT = Path(__file__).parents[2]
SEEDS = 700
# These were not tried yesterday; a failure names its seed.
TODAY = 1_000_000 + date.today().toordinal() * SEEDS
REFUSALS = (
    *("workflow_load", "activity_not_found", "nondeterminism"),
    *("workflow_blocked", "unwritable"),
)
# A limit, or somebody who ends the run, stops what the refusal lets end.
RARE = (REFUSED_AT_WORK + "was stopped",)
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
@pytest.mark.parametrize("first", [0, SEEDS, 2 * SEEDS, TODAY], ids=["0", "1", "2", "today"])
def test_no_history_breaks_a_promise(storage: Storage, first: int) -> None:
    """Each kind of fault and each situation is met, often, and costs nothing that was promised."""
    report = Report()
    report.run(first, SEEDS, storage)
    assert not report.failures, "\n".join(
        f"{violation}\n  again: python -m tests.simulation --first {seed} --seeds 1"
        for seed, violation in report.failures
    )
    if first == TODAY:
        return  # what others happen to meet is not asked
    for what in (
        *("kills", "killed", "freezes", "interrupts", "clock jumps", "bad deploys", "reboots"),
        *("full", "unreadable", "commit_fails", "commit_unknown", "busy", "contended", "held"),
        *("slow_disk", "preempted", "lost", "late", "stalled", "no_thread", "hit"),
        *("signal", "cancel", "terminate", "resume", "retry", "worker", "start", "wait"),
        *(f"refused: {code}" for code in REFUSALS),
    ):
        assert report.happened[what] > 10, what
    for what in SITUATIONS:
        assert report.happened[what] or what in RARE, what


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_nobody_knows_whether_it_was_committed(storage: Storage, place: str) -> None:
    """At each place that commits; sometimes it was, and sometimes not."""
    unknown = 0
    for seed in range(1000):
        world = simulate(seed, storage, Faults(preempted=0.05, aimed=place, hit=0.5))
        unknown += world.stats[UNKNOWN + place]
        if unknown > 3 and seed > 20:
            return
    pytest.fail(f"not in 1000 seeds, but {unknown} times")


def test_a_report_that_comes_late(storage: Storage) -> None:
    """A heartbeat of what a retry has left out is not told to what stands in its place then."""
    simulate(514159, storage)


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
