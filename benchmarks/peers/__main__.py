"""W1 to W3 in other engines, in one run with ours and with bare commits, each in its turn.

`python -m benchmarks.peers [--rounds N] [--scale X] [--only NAME ...] [--json FILE]`

What an engine does for a step, and how durable that is, its module here says: `of_dbos`,
`of_langgraph`, `of_restate`. Each is used as its guide says, in the way that was quickest; all
sync to the disk. A workload runs in a process of its own, on a new database, and a small one comes
before it: starting is not counted. Virtualenvs are made on use, in `.peers` of this checkout (or
BENCHMARK_PEERS), with the newest versions that there are; remove the folder for newer ones.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.measuring import RAW_COMMITS, environment, raw_commits
from benchmarks.peers.child import Answer, Workload, asked, told

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = Path(os.environ.get("BENCHMARK_PEERS", ROOT / ".peers"))
INSTALL_LIMIT_S = 600
LIMIT_S = 900


@dataclass(frozen=True)
class Peer:
    """An engine, in one of the ways in which it can be used."""

    module: str
    variant: str = ""
    packages: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()


PEERS = {
    "belugawf": Peer("of_belugawf"),
    "DBOS": Peer("of_dbos", packages=("dbos",)),
    "DBOS, WAL": Peer("of_dbos", "wal", packages=("dbos",)),
    "LangGraph": Peer("of_langgraph", "list", ("langgraph", "langgraph-checkpoint-sqlite")),
    "LangGraph, delta channel": Peer(
        "of_langgraph", "delta", ("langgraph", "langgraph-checkpoint-sqlite")
    ),
    "LangGraph, tasks": Peer("of_langgraph", "tasks", ("langgraph", "langgraph-checkpoint-sqlite")),
    "Restate": Peer(
        "of_restate",
        packages=("restate-sdk", "hypercorn"),
        npm=("@restatedev/restate-server",),
    ),
}
# (runs, steps each, in parallel), as in `benchmarks.throughput`.
WORKLOADS = {
    "W1 1 run x {each} steps in sequence": (1, 1_000, False),
    "W2 {runs} runs x 5 steps at once": (500, 5, False),
    "W3 1 run x {each} steps in parallel": (1, 500, True),
}


class MissingError(Exception):
    """An engine cannot be had on this machine, or fails on it."""


def python_of(peer: Peer) -> Path:
    """The Python that has the peer, installed now if it was not. Raises `MissingError`."""
    if not peer.packages:
        return Path(sys.executable)
    place = ENVIRONMENTS / peer.module
    ready, python = place / "ready", place / "bin" / "python"
    if not ready.exists():
        install([sys.executable, "-m", "venv", "--clear", str(place)])
        install([str(python), "-m", "pip", "install", "-q", *peer.packages])
        if peer.npm:
            # Without scripts: nothing of a package runs, or reports home, while it is installed.
            install(["npm", "install", "--ignore-scripts", "--prefix", str(place), *peer.npm])
        ready.touch()
    return python


def install(args: list[str]) -> None:
    try:
        subprocess.run(
            args, check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT_S
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "it failed").splitlines()[-1]
        raise MissingError(f"{Path(args[0]).name}: {last}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(str(error)) from None


def measured(peer: Peer, python: Path, workload: Workload) -> Answer:
    """One workload in one process. Raises `MissingError`, after what the process has said."""
    try:
        done = subprocess.run(
            [str(python), "-m", f"benchmarks.peers.{peer.module}", asked(workload)],
            cwd=ROOT,
            env=environment({"PYTHONPATH": str(ROOT)}),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
        )
    except subprocess.SubprocessError as error:
        raise MissingError(str(error)) from None
    return told(done.stdout)


def available(names: list[str]) -> Mapping[str, Path]:
    """Which peers there are, each with its Python; of the others it is said why not."""
    found = {}
    for name in names:
        try:
            found[name] = python_of(PEERS[name])
        except MissingError as error:
            print(f"{name}: not available here: {error}", flush=True)
    return found


def table(figures: Figures) -> None:
    """One line for each engine and workload; under it what each is."""
    print("| workload | engine | median (lowest to highest) | unit |\n| --- | --- | --- | --- |")
    for figure in figures:
        print(f"| {figure.name} | {figure.series} | {figure} | {figure.unit} |")
    for name, note in figures.notes.items():
        print(f"{name}: {note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1, help="0.1: a tenth of the steps")
    parser.add_argument("--only", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pythons = available(options.only)
    figures = Figures("Durable steps a second")
    commits = max(1, round(RAW_COMMITS * options.scale))
    for number in range(options.rounds):
        for title, (runs, each, parallel) in WORKLOADS.items():
            if runs > 1:
                runs = max(1, round(runs * options.scale))
            else:
                each = max(1, round(each * options.scale))
            group = title.format(runs=f"{runs:,}", each=f"{each:,}")
            for name, python in pythons.items():
                before = raw_commits(commits)
                peer = PEERS[name]
                try:
                    answer = measured(peer, python, Workload(peer.variant, parallel, runs, each))
                except MissingError as error:
                    print(f"{name}, {group}: no figure: {error}", flush=True)
                    continue
                raw = (before + raw_commits(commits)) / 2
                figures.add(group, "bare commits of SQLite", raw, "steps/s")
                figures.add(group, name, answer.rate, "steps/s")
                figures.add(f"{group}, to raw", name, answer.rate / raw, "x raw")
                note = f"{answer.versions}; {answer.durability}"
                if note not in figures.notes.values():  # not for each way to use an engine
                    figures.note(name, note)
            print(f"round {number + 1}: {group[:2]}", file=sys.stderr, flush=True)
    table(figures)
    if options.json:
        figures.write(options.json)


if __name__ == "__main__":
    main()
