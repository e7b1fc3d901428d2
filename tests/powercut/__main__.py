"""Many power cuts: `python -m tests.powercut --states 100000`.

Each batch records the workload anew, since no two recordings interleave alike, cuts the power many
times, and cuts it again while some of what is left is being resumed. The last line sums up; the
exit code is 1 if anything failed. A failure is printed with the command that repeats it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.powercut.campaign import Campaign, Cut, Report
from tests.powercut.checks import build
from tests.powercut.record import Entry, read_record, write_record
from tests.powercut.workload import Durability, record_workload

BATCH = 2_000
# One state in so many is resumed to its end, which takes as long as a hundred that are only read.
RESUME_EVERY = 200
# How many states of a batch are resumed under recording, and how many cuts each of these gets.
SECOND_LIVES = 2
SECOND_CUTS = 100


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for records and states: in memory where there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="belugawf-powercut-", dir=memory if memory.is_dir() else None
    ) as folder:
        yield Path(folder)


def record(folder: Path, durability: Durability) -> list[Entry]:
    """Record the workload in new files in `folder`."""
    recorded, log = folder / "recorded", folder / "recorded.log"
    recorded.mkdir()
    record_workload(recorded, log, durability)
    return read_record(log)


def batch(durability: Durability, count: int, seed: int) -> Report:
    """One record and its cuts; what fails is printed and its record is kept."""
    with scratch() as folder:
        entries = record(folder, durability)
        campaign = Campaign(entries, durability, folder / "state")
        report = campaign.run(count, seed, resume_every=RESUME_EVERY)
        tell(report, entries, durability, f"powercut-{durability}-{seed}.record")
        rng = random.Random(seed)
        for number in range(SECOND_LIVES if count > SECOND_CUTS else 0):
            if report.failures:
                break
            again = campaign.second_life(Cut(seed, rng.randint(1, len(entries)), 0))
            second = Campaign(again, durability, folder / "state").run(
                SECOND_CUTS, seed, resume_every=RESUME_EVERY
            )
            tell(second, again, durability, f"powercut-{durability}-{seed}-again-{number}.record")
            report.add(second)
    return report


def tell(report: Report, entries: list[Entry], durability: Durability, name: str) -> None:
    """Print what failed, and how to see it again."""
    if report.failures:
        write_record(entries, Path(name))
    for cut, reason in report.failures[:10]:
        print(f"{durability}, cut after entry {cut.point}: {reason}")
        print(
            f"  again: python -m tests.powercut --record {name} --durability {durability} "
            f"--seed {cut.seed} --point {cut.point} --number {cut.number} --keep FOLDER"
        )


def repeat(record_file: Path, durability: Durability, cut: Cut, keep: Path | None) -> Report:
    """Check one cut of a kept record; its files are put into `keep`."""
    with scratch() as folder:
        campaign = Campaign(read_record(record_file), durability, folder / "state")
        if keep is not None:
            print(f"the database: {build(campaign.state(cut), keep)}")
        report = campaign.check(cut)
    for _, reason in report.failures:
        print(reason)
    return report


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.powercut", description=__doc__)
    parser.add_argument("--states", type=int, default=10_000)
    parser.add_argument("--seed", type=int, help="else by chance, and printed")
    parser.add_argument("--durability", choices=("full", "normal"), help="else both in turn")
    parser.add_argument("--record", type=Path, help="a record kept by a failure: check one cut")
    parser.add_argument("--point", type=int, help="of that cut")
    parser.add_argument("--number", type=int, default=0, help="of that cut")
    parser.add_argument("--keep", type=Path, help="a new folder for its files")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if given.seed is None else given.seed
    if given.record is not None:
        cut = Cut(seed, given.point, given.number)
        return bool(repeat(given.record, given.durability or "full", cut, given.keep).failures)
    total, begun, number = Report(), time.monotonic(), 0
    print(f"seed {seed}")
    kinds: list[Durability] = [given.durability] if given.durability else ["full", "normal"]
    while total.states < given.states:
        count = min(BATCH, given.states - total.states)
        total.add(batch(kinds[number % len(kinds)], count, seed + number))
        number += 1
        print(f"{time.monotonic() - begun:.0f} s, {number} recordings: {total}", flush=True)
    return bool(total.failures)


if __name__ == "__main__":
    sys.exit(main())
