"""In how many shapes runs are held, and their open activities: `python -m tests.simulation.shapes`.

After each tick of many histories, each attribute of each run and each slot is reduced to what code
can tell apart: whether it is there, whether it is true or empty, which member of an enumeration it
is. A shape is the tuple of these. The fewer there are, the fewer cases there are to think of.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from enum import Enum
from typing import Any
from unittest import mock

from belugawf.local.drive.table import RunTable
from tests.simulation.scenario import simulate
from tests.simulation.storage import Storage


def shape_of(thing: Any) -> tuple[str, ...]:
    """What code can tell of each attribute; not of a run's slots, which are counted apart."""
    names = [field.name for field in fields(thing) if field.name not in ("slots", "by_phase")]
    return tuple(_told(getattr(thing, name)) for name in names)


def _told(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, (dict, list, set)):
        return "some" if value else "empty"
    return "set"


def count(seeds: Iterable[int]) -> tuple[Counter[tuple[str, ...]], Counter[tuple[str, ...]]]:
    """How often each shape of a run, and of a slot, was met at the end of a tick."""
    runs: Counter[tuple[str, ...]] = Counter()
    slots: Counter[tuple[str, ...]] = Counter()
    check = RunTable.check

    def counted(self: RunTable) -> None:
        check(self)
        for run in self.runs.values():
            runs[shape_of(run) + (() if run.state is None else shape_of(run.state))] += 1
            slots.update(shape_of(slot) for slot in run.slots.values())

    with Storage() as storage, mock.patch.object(RunTable, "check", counted):
        for seed in seeds:
            simulate(seed, storage)
    return runs, slots


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.shapes", description=__doc__)
    parser.add_argument("--seeds", type=int, default=6000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    for what, shapes in zip(
        ("runs", "slots"), count(range(given.first, given.first + given.seeds)), strict=True
    ):
        print(f"{what}: {len(shapes)} shapes in {shapes.total():,} at the end of a tick")
        for shape, times in shapes.most_common(5):
            print(f"  {times:9,}  {' '.join(shape)}")


if __name__ == "__main__":
    main()
