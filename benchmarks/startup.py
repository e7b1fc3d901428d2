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
from benchmarks.waiting import MODULE

THREE_LINES = """import typer
def main(name: str = "x") -> None: print(name)
typer.run(main)
"""
ROUNDS = 3
DATABASE = ("--db", "state.db")


async def prepare(root: Path) -> None:
    executor = new_executor("default", db=root / "state.db", workflows=root / "workflows")
    async with executor:
        for number in range(200):
            await executor.execute("waiting", id=f"run-{number}", detach=True)
        await executor.resume()


def main() -> None:
    with folder() as root:
        write_module(root, "waiting", MODULE)
        asyncio.run(prepare(root))
        (root / "three_lines.py").write_text(THREE_LINES)
        commands = {
            "bare Python": [sys.executable, "-c", "pass"],
            "three-line typer app": [sys.executable, "three_lines.py"],
            "three-line typer app --help": [sys.executable, "three_lines.py", "--help"],
            "--help": command("--help"),
            "status": command(*DATABASE, "status"),
            "idle resume": command(*DATABASE, "resume"),
            "signal, and no more": command(*DATABASE, "signal", "no", "run-1", "--no-resume"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, args in commands.items():
                seconds[name] += timed(args, root, 5)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, median in medians.items():
            show(name, median * 1000, "ms")
        floor = medians["three-line typer app"]
        for name in ("--help", "status", "idle resume", "signal, and no more"):
            show(f"W8 {name} to the typer app", medians[name] / floor, "x")


if __name__ == "__main__":
    main()
