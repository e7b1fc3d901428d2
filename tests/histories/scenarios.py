"""What happens to each workflow of `features` while its history is recorded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from belugawf import Signal
from belugawf.host.clock import SystemClock
from belugawf.local.executor import LocalExecutor
from belugawf.model.durations import duration_ns, parse_duration
from tests.histories.features import WORKFLOWS


class ShiftedClock(SystemClock):
    """The wall clock, so much later."""

    shift_ns = 0

    def now(self) -> int:
        return super().now() + self.shift_ns


class Place:
    """A database in which a run is recorded, and time that can be skipped."""

    def __init__(self, db: Path) -> None:
        self.db = db
        self.clock = ShiftedClock()

    def open(self) -> LocalExecutor:
        """An executor that knows all workflows; runs rest when it is left."""
        return LocalExecutor(self.db, WORKFLOWS, clock=self.clock)

    def skip(self, duration: str) -> None:
        """Let time pass while nothing runs."""
        self.clock.shift_ns += duration_ns(parse_duration(duration))

    async def start(self, name: str, *signals: Signal, **options: Any) -> None:
        """Start the run `name` of that workflow, send it signals, drive it until it rests."""
        async with self.open() as executor:
            await executor.execute(name, id=name, detach=True, **options)
            for signal in signals:
                await executor.signal(name, signal, drive=False)
            await executor.resume(name, patience=1)

    async def resume(self, name: str, *signals: Signal) -> None:
        """Send it more, and drive it on."""
        async with self.open() as executor:
            for signal in signals:
                await executor.signal(name, signal, drive=False)
            await executor.resume(name, patience=1)

    def die_in(self, name: str) -> None:
        """Drive the run in a process that its activity takes down."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.histories", "drive", name, str(self.db)],
            env={**os.environ, "HISTORIES_DIE": "1"},
            check=False,
        )
        assert done.returncode == -9, done


Scenario: TypeAlias = Callable[[Place], Awaitable[None]]


async def _signals(place: Place) -> None:
    yes = Signal("a", {"yes": True, "note": "ü𝔘"}, sender="ada")
    await place.start("signals", Signal("c", 1), Signal("b", [1.5, None]), yes)
    await place.resume("signals", Signal("c", 2, key="k"), Signal("c", "last"))


async def _timers(place: Place) -> None:
    await place.start("timers")
    place.skip("31d")
    await place.resume("timers")


async def _leaves_signals_unread(place: Place) -> None:
    await place.start("leaves_signals_unread", Signal("other", 1))
    await place.resume("leaves_signals_unread", Signal("go"), Signal("go", "again"))


async def _conditions(place: Place) -> None:
    await place.start("conditions", Signal("vote", "yes"))
    await place.resume("conditions", Signal("vote", "no"))


async def _reminds(place: Place) -> None:
    await place.start("reminds")
    place.skip("25h")
    await place.resume("reminds")
    place.skip("12h")
    async with place.open() as executor:
        await executor.signal("reminds", Signal("answer", "in time"), drive=False)
    # The answer came in time, and is found with a timer that is overdue by then.
    place.skip("3d")
    await place.resume("reminds")


async def _late(place: Place) -> None:
    await place.start("catches_up")
    place.skip("9d")
    await place.resume("catches_up")


async def _cancelled(place: Place, name: str) -> None:
    await place.start(name)
    async with place.open() as executor:
        await executor.cancel(name, "no longer needed", drive=False)
        await executor.resume(name)


async def _died(place: Place, name: str) -> None:
    async with place.open() as executor:
        await executor.execute(name, id=name, detach=True)
    place.die_in(name)
    await place.resume(name)


async def _terminated(place: Place) -> None:
    await place.start("waits", Signal("z", "unread"))
    async with place.open() as executor:
        await executor.terminate("waits", "enough")


async def _reopened(place: Place) -> None:
    await place.start("fails", input="a text")
    async with place.open() as executor:
        await executor.retry("fails", timeout="1h", reason="once more", by="ada", drive=False)
    await place.resume("fails")


async def _deadline(place: Place) -> None:
    await place.start("has_a_deadline", timeout="2h")
    place.skip("3h")
    await place.resume("has_a_deadline")


async def _values(place: Place) -> None:
    values = {"number": 2**80, "names": ["ü", "\u2028", ""], "answer": {"yes": False}}
    await place.start("values", input=values)


def _plain(name: str, **options: Any) -> Scenario:
    return lambda place: place.start(name, **options)


# The recorded file: the workflow whose run it is, the run's status, and how it is recorded.
SCENARIOS: dict[str, tuple[str, str, Scenario]] = {
    "signals": ("signals", "completed", _signals),
    "signals-open": ("signals", "running", _plain("signals")),
    "timers": ("timers", "completed", _timers),
    "timers-open": ("timers", "running", _plain("timers")),
    "retries": ("retries", "completed", _plain("retries")),
    "retry-open": ("waits_for_its_retry", "running", _plain("waits_for_its_retry")),
    "timeouts": ("timeouts", "completed", _plain("timeouts")),
    "heartbeats": ("heartbeats", "completed", _plain("heartbeats")),
    "fan-out": ("fan_out", "completed", _plain("fan_out")),
    "wait-until": ("conditions", "completed", _conditions),
    "cancelled-with-cleanup": ("cleans_up", "cancelled", lambda p: _cancelled(p, "cleans_up")),
    "cancel-swallowed": (
        "finishes_all_the_same",
        "completed",
        lambda p: _cancelled(p, "finishes_all_the_same"),
    ),
    "progress": ("progresses", "completed", _plain("progresses")),
    "unread-signals": ("leaves_signals_unread", "completed", _leaves_signals_unread),
    "reminders": ("reminds", "completed", _reminds),
    "late-timers": ("catches_up", "running", _late),
    "interrupted": ("interrupted", "completed", lambda p: _died(p, "interrupted")),
    "at-most-once": ("at_most_once", "completed", lambda p: _died(p, "at_most_once")),
    "failed": ("fails", "failed", _plain("fails", input="a text")),
    "reopened": ("fails", "failed", _reopened),
    "deadline": ("has_a_deadline", "timed_out", _deadline),
    "terminated": ("waits", "terminated", _terminated),
    "waits-open": ("waits", "running", _plain("waits")),
    "values": ("values", "completed", _values),
}


async def drive(place: Place, name: str) -> None:
    """Drive a run that is stored."""
    async with place.open() as executor:
        await asyncio.wait_for(executor.resume(name, patience=1), 60)
