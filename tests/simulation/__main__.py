"""Simulated histories for as long as you like: `python -m tests.simulation --seeds 100000`.

`--first N` starts at that seed. Ends with a line that sums up, and a table of how often each
situation was reached that matters most; the exit code is 1 if a promise was broken. A seed that
fails does so again: `--first SEED --seeds 1`.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation import situations
from tests.simulation.observer import Violation
from tests.simulation.scenario import simulate
from tests.simulation.storage import Storage

_BATCH = 1000
_FAULTS = {
    "processes killed": ("kills",),
    "frozen": ("freezes",),
    "interrupted": ("interrupts",),
    "clock jumps": ("clock jumps",),
    "disk errors": ("full", "unreadable", "commit_fails", "commit_unknown", "hit"),
    "locks refused or held": ("busy", "contended", "held"),
    "bad deploys": ("bad deploys",),
    "datagrams lost or late": ("lost", "late"),
}


@dataclass
class Report:
    """What happened in some histories, and the seeds that broke a promise, with how."""

    seeds: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, Violation]] = field(default_factory=list)

    def __str__(self) -> str:
        seen = self.happened
        faults = [f"{sum(seen[n] for n in names):,} {what}" for what, names in _FAULTS.items()]
        return (
            f"{self.seeds:,} seeds, {seen['processes']:,} processes, {seen['steps']:,} steps, "
            f"{seen['commits']:,} commits, {seen['attempts']:,} attempts; {', '.join(faults)}; "
            f"{len(self.failures)} violations"
        )

    def run(self, first: int, count: int, storage: Storage) -> None:
        """Simulate these seeds."""
        for seed in range(first, first + count):
            try:
                self.happened += simulate(seed, storage).stats
            except Violation as violation:
                self.happened += violation.stats
                self.failures.append((seed, violation))
            self.seeds += 1


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    report, begun, told = Report(), time.monotonic(), 0
    with Storage() as storage:
        while report.seeds < given.seeds:
            count = min(_BATCH, given.seeds - report.seeds)
            report.run(given.first + report.seeds, count, storage)
            for seed, violation in report.failures[told:]:
                print(f"seed {seed}: {violation}")
                print(f"  again: python -m tests.simulation --first {seed} --seeds 1")
                if given.seeds == 1:
                    traceback.print_exception(violation)
            told = len(report.failures)
            print(f"{time.monotonic() - begun:.0f} s: {report}", flush=True)
    print(situations.table(report.happened, report.seeds))
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
