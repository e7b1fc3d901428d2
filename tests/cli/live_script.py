"""Runs the CLI of this process on a fake executor whose run takes a second and prints a lot.

Started by the tests of the live view on a terminal of their own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import belugawf.executor
from belugawf.__main__ import main
from belugawf.cli import session
from belugawf.executor import ActivityState
from tests.cli.fake import FakeExecutor, signal_wait, soon

FINISH = Path(sys.argv.pop(1))


def state(number: int, name: str, phase: str, **changes: object) -> ActivityState:
    values: dict[str, object] = {
        "seq": number,
        "activity_id": str(number),
        "name": name,
        "state": phase,
        "attempt": 1,
        "max_attempts": 3,
        "since": soon(-3),
        **changes,
    }
    return ActivityState(**values)  # type: ignore[arg-type]


async def drive(executor: FakeExecutor, run_id: str) -> None:
    executor.states[run_id] = [
        state(1, "research", "completed", until=soon(-2)),
        state(2, "rese\x1b[31march", "retrying", attempt=2, until=soon(40), error="boom [red]"),
        state(3, "report", "running"),
    ]
    executor.change(run_id, progress=0.5)
    await asyncio.sleep(0.4)
    print("printed by python")
    os.write(1, b"written to descriptor 1\n")
    os.write(2, b"written to descriptor 2\n")
    subprocess.run([sys.executable, "-c", "print('printed by a child')"], check=True)
    print("x" * 300)
    sys.stdout.write("an unfinished line")
    sys.stdout.flush()
    while not FINISH.exists() and ("interrupt", None) not in executor.calls:
        await asyncio.sleep(0.02)
    executor.change(run_id, waiting_for=(signal_wait(until=soon(3_605), expected="bool"),))


executor = FakeExecutor()
executor.on_drive = drive
settings = SimpleNamespace(
    provider="default",
    workflows=Path(),
    db=FINISH.parent,
    default_workflow=None,
    redact=(),
    logging=SimpleNamespace(level="info"),
)
session.settings_of = lambda flags, **_: settings  # type: ignore[assignment]
belugawf.executor.new_executor = lambda *_, **__: executor  # type: ignore[assignment]
main()
