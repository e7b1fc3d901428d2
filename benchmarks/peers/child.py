"""What every peer's process does: it says its versions, and times a workload on a new database.

Runs in the peer's own virtualenv, so it uses nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.measuring import folder


@dataclass(frozen=True)
class Workload:
    """So many runs at once, each with so many steps in sequence or in parallel."""

    variant: str
    parallel: bool
    runs: int
    each: int


@dataclass(frozen=True)
class Answer:
    """What a child says."""

    rate: float
    durability: str
    versions: str


def main(
    measure: Callable[[Path, Workload], tuple[float, str]], packages: Sequence[str], more: str = ""
) -> None:
    """Print the answer of a measurement, which gives seconds and what it found to be durable.

    `more` is said with the versions of the packages.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", type=json.loads)
    workload = Workload(**parser.parse_args().workload)
    with folder() as root:
        seconds, durability = measure(root, workload)
    versions = [*(f"{name} {version(name)}" for name in packages), more]
    rate = workload.runs * workload.each / seconds
    print(json.dumps(asdict(Answer(rate, durability, ", ".join(filter(None, versions))))))


def asked(workload: Workload) -> str:
    """The workload as `main` reads it."""
    return json.dumps(asdict(workload))


def told(output: str) -> Answer:
    """What a child has said last, after what its engine may have printed."""
    return Answer(**json.loads(output.splitlines()[-1]))
