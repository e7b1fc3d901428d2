"""W8: start-up of commands that do little, beside a three-line typer app.

`python -m benchmarks.startup`
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from pathlib import Path

from belugawf import new_executor
from benchmarks.measuring import command, folder, show, timed, write_module
from benchmarks.waiting import MODULE, prepare

THREE_LINES = """import typer
def main(name: str = "x") -> None: print(name)
typer.run(main)
"""
ROUNDS = 15
SUSPENDED = 2_000
DATABASE = ("--db", "state.db")
EMPTY = ("--db", "empty.db")
COMPLETION = {
    "_BELUGAWF_COMPLETE": "complete_bash",
    "COMP_WORDS": "belugawf --db state.db status run-00000",
    "COMP_CWORD": "4",
}


async def prepare_none(root: Path) -> None:
    """A database without a run."""
    async with new_executor("default", db=root / "empty.db", workflows=root / "workflows"):
        pass


def main() -> None:
    with folder() as root:
        write_module(root, "waiting", MODULE)
        asyncio.run(prepare(root, SUSPENDED))
        asyncio.run(prepare_none(root))
        (root / "three_lines.py").write_text(THREE_LINES)
        commands = {
            "bare Python": [sys.executable, "-c", "pass"],
            "three-line typer app": [sys.executable, "three_lines.py"],
            "three-line typer app --help": [sys.executable, "three_lines.py", "--help"],
            "--help": command("--help"),
            "status": command(*DATABASE, "status"),
            "idle resume": command(*DATABASE, "resume"),
            "idle resume, no runs": command(*EMPTY, "resume"),
            "signal, and no more": command(*DATABASE, "signal", "no", "run-000001", "--no-resume"),
            "completion": command(),
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, args in commands.items():
                more = COMPLETION if name == "completion" else None
                seconds[name] += timed(args, root, 1, more)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, median in medians.items():
            show(name, median * 1000, "ms")
        floor = medians["three-line typer app"]
        for name in ("--help", "status", "idle resume", "signal, and no more", "completion"):
            show(f"W8 {name} to the typer app", medians[name] / floor, "x")
        ratio = medians["idle resume"] / medians["idle resume, no runs"]
        show(f"W8 idle resume, {SUSPENDED:,} runs that wait to none", ratio, "x")


if __name__ == "__main__":
    main()
