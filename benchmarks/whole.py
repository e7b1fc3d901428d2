"""Every benchmark, in interleaved rounds, each figure with its median and spread as a table.

`python -m benchmarks.whole [--against PATH] [--rounds N] [--without NAME ...] [--json FILE]`

A round runs each script once, one after the other, so that a disk that drifts drifts for all. The
large databases (100,000 runs) are made once, after the rounds.

With `--against` each script is also run as it is in another clone of the repository, by turns, on
its own package: "before" beside "after". What one tree's scripts do not measure is left empty.
Bare commits are measured before and after each script, and said for each tree.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.measuring import environment, raw_commits

ROUND = {
    "throughput": ("--rounds", "1"),
    "replay": (),
    "wakeup": (),
    "waiting": ("10000",),
    "size": (),
    "startup": (),
    "crowd": (),
    "pruning": (),
}
ONCE = {"waiting": ("100000",), "pruning": ("100000",)}
LINE = re.compile(r"(?P<name>.+): (?P<value>-?[\d,]+(?:\.\d+)?) (?P<unit>.*)")
HERE = Path(__file__).parents[1]
# Bare commits on either side of a script.
COMMITS = 1_000
RAW = "bare commits"


def run(tree: Path, script: str, arguments: Sequence[str]) -> dict[str, tuple[float, str]]:
    """What a tree's script prints: name to value and unit; nothing if it fails, which is said."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", *arguments],
        cwd=tree,
        env=environment({"PYTHONPATH": str(tree)}),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"{script} of {tree} failed", file=sys.stderr)
        return {}
    found = [match for line in done.stdout.splitlines() if (match := LINE.fullmatch(line))]
    return {
        m["name"]: (float(m["value"].replace(",", "")), m["unit"])
        for m in found
        if "lowest to highest" not in m["name"]  # not one value
    }


def by_turns(
    figures: Figures, trees: dict[str, Path], script: str, arguments: Sequence[str]
) -> None:
    """A script in each tree, with bare commits beside it."""
    for series, tree in trees.items():
        began = time.monotonic()
        before = raw_commits(COMMITS)
        found = run(tree, script, arguments)
        raw = (before + raw_commits(COMMITS)) / 2
        for name, (value, unit) in found.items():
            figures.add(name, series, value, unit)
            figures.add(f"{name}: {RAW}", series, raw, "commits/s")
        took = time.monotonic() - began
        print(f"{script}, {series}: {took:.0f} s", file=sys.stderr, flush=True)


def table(figures: Figures, trees: Sequence[str]) -> None:
    """One line a figure: each tree's median, lowest, highest; how the trees compare; raw."""
    groups = figures.by_name()
    compared = ["after to before"] if len(trees) > 1 else []
    head = ["figure", *trees, *compared, *(f"{RAW}, {series}" for series in trees), "unit"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for name, group in groups.items():
        if name.endswith(RAW):
            continue
        cells = [str(group.get(series, "")) for series in trees]
        if compared:
            cells.append(ratios(*(group[s].values if s in group else [] for s in trees)))
        cells += [
            f"{raws[series].median:,.0f}" if series in raws else ""
            for raws in (groups[f"{name}: {RAW}"],)
            for series in trees
        ]
        print(f"| {' | '.join([name, *cells, next(iter(group.values())).unit])} |", flush=True)


def ratios(before: Sequence[float], after: Sequence[float]) -> str:
    """Of two that were taken in the same round, so that what drifts meanwhile counts little."""
    if len(before) != len(after) or not all(before):
        return ""
    each = [new / old for old, new in zip(before, after, strict=True)]
    if not each:
        return ""
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another clone: what was before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], choices=[*ROUND, "once"])
    parser.add_argument("--json", type=Path, help="keep the figures for benchmarks.chart")
    options = parser.parse_args()
    trees = {"here": HERE}
    if options.against:
        trees = {"before": options.against.resolve(), "after": HERE}
    figures = Figures("belugawf, before and after" if options.against else "belugawf")
    for number in range(options.rounds):
        # Who is first changes: it may find the disk busy with what the round before has left.
        turns = dict(list(trees.items())[:: 1 if number % 2 == 0 else -1])
        for script, arguments in ROUND.items():
            if script not in options.without:
                by_turns(figures, turns, script, arguments)
    if "once" not in options.without:
        for script, arguments in ONCE.items():
            by_turns(figures, trees, script, arguments)
    table(figures, list(trees))
    if options.json:
        figures.write(options.json)


if __name__ == "__main__":
    main()
