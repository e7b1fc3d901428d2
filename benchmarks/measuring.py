"""What all benchmarks share: the raw limit, folders, processes, and how a figure is printed."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

RAW_COMMITS = 2_000


def show(name: str, value: float, unit: str) -> None:
    """One figure, as `name: value unit`."""
    digits = 0 if abs(value) >= 1_000 else 1 if abs(value) >= 100 else 2
    print(f"{name}: {value:,.{digits}f} {unit}", flush=True)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """An empty folder on the disk that is measured: BENCHMARK_DIR, else where temporary files go.

    A file system in memory would make every figure meaningless, so look before you trust.
    """
    where = os.environ.get("BENCHMARK_DIR")
    with tempfile.TemporaryDirectory(prefix="belugawf-", dir=where) as name:
        yield Path(name)


def raw_commits(count: int = RAW_COMMITS, durability: str = "FULL") -> float:
    """One-row commits a second of bare SQLite, WAL, one writer: what the disk allows."""
    with folder() as path:
        connection = sqlite3.connect(path / "raw.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {durability}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, payload TEXT)")
        payload = "x" * 200
        began = time.perf_counter()
        for _ in range(count):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t (payload) VALUES (?)", (payload,))
            connection.execute("COMMIT")
        elapsed = time.perf_counter() - began
        connection.close()
    return count / elapsed


def command(*args: str) -> list[str]:
    """The command line of this checkout, in this Python."""
    return [sys.executable, "-m", "belugawf", *args]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A child's environment, with nothing of belugawf's from outside."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BELUGAWF_", "TEMPORAL_"))}
    return {**env, "NO_COLOR": "1", **(more or {})}


def timed(
    args: Sequence[str], cwd: Path, runs: int = 7, more: Mapping[str, str] | None = None
) -> list[float]:
    """Wall seconds of a whole process, several times, the first one not counted.

    `more` goes into its environment.
    """
    seconds = []
    for run in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(
            args, cwd=cwd, env=environment(more), stdout=subprocess.DEVNULL, check=False,
            stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if run:
            seconds.append(time.perf_counter() - began)
    return seconds


def peak_memory_mb() -> float:
    """The largest this process has been, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_module(root: Path, name: str, source: str) -> None:
    """A workflow module in the folder's `workflows`."""
    modules = root / "workflows"
    modules.mkdir(exist_ok=True)
    (modules / f"{name}.py").write_text(source)
