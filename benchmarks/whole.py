"""Every benchmark, in interleaved rounds, each figure with its median and spread as a table.

`python -m benchmarks.whole [--rounds N] [--without NAME ...]`

A round runs each script once, one after the other, so that a disk that drifts drifts for all. The
large databases (100,000 runs) are made once, after the rounds.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

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
LINE = re.compile(r"(?P<name>.+): (?P<value>-?[\d,]+(?:\.\d+)?) (?P<unit>.+)")


def run(script: str, arguments: tuple[str, ...]) -> dict[str, tuple[float, str]]:
    """What a script prints: name to value and unit."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", *arguments],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = [match for line in done.stdout.splitlines() if (match := LINE.fullmatch(line))]
    return {m["name"]: (float(m["value"].replace(",", "")), m["unit"]) for m in found}


def table(rounds: list[dict[str, tuple[float, str]]]) -> None:
    """One line a figure: median, lowest, highest."""
    for name, (_, unit) in rounds[0].items():
        values = sorted(figures[name][0] for figures in rounds if name in figures)
        spread = f" ({values[0]:,g} to {values[-1]:,g})" if len(values) > 1 else ""
        print(f"| {name} | {statistics.median(values):,g}{spread} | {unit} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], choices=[*ROUND, "once"])
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, tuple[float, str]]]] = {
        script: [] for script in ROUND if script not in options.without
    }
    for number in range(options.rounds):
        for script, results in rounds.items():
            began = time.monotonic()
            results.append(run(script, ROUND[script]))
            took = time.monotonic() - began
            print(f"round {number + 1}: {script} took {took:.0f} s", file=sys.stderr, flush=True)
    print("| figure | median (lowest to highest) | unit |\n| --- | --- | --- |")
    for results in rounds.values():
        table(results)
    if "once" not in options.without:
        for script, arguments in ONCE.items():
            table([run(script, arguments)])


if __name__ == "__main__":
    main()
