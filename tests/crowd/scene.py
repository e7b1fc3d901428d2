"""The crowd: who does what on the one file, and what must hold when all have left.

Most members are commands of the CLI, one after the other; two are Python programs, which signal as
fast as they can. Nobody is killed, so that every promise can be counted: a signal that was
acknowledged is consumed once, and an activity is executed once.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from belugawf import Signal, new_executor
from belugawf.authoring.loader import Catalog
from belugawf.model import events as e
from belugawf.model.codec import decode
from tests.crowd.tally import tally
from tests.kills.checks import look, replay_error, unended
from tests.kills.processes import DB, Process
from tests.powercut.checks import Corrupt, check_consistent

# Entries that a run gets before it is told to end, and how many runs are open at once.
ENTRIES, OPEN_RUNS = 30, 6
# Everything ends within this after the last entry, or somebody waits for ever.
PATIENCE_S = 90.0
END = -1


@dataclass
class Tally:
    """A run as the members know it: what was acknowledged, and what is on its way."""

    name: str
    doomed: bool
    started: bool = False
    handed_out: int = 0
    on_the_way: int = 0
    acknowledged: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def open(self) -> bool:
        """Whether it can be sent something now."""
        return self.started and not self.ended and self.handed_out < ENTRIES


@dataclass
class Task:
    """A command, the exit codes that are right for it, and what its success means."""

    args: tuple[str, ...]
    codes: frozenset[int]
    then: Callable[[int], None] = lambda code: None


class Crowd:
    """A crowd of `processes` in `root`, for `seconds`; `prepare` is called in each command."""

    def __init__(
        self,
        root: Path,
        processes: int,
        seconds: float,
        seed: int,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self.root = root
        self.prepare = prepare
        self.seconds = seconds
        self.processes = processes
        self.rng = random.Random(seed)
        self.tallies: list[Tally] = []
        self.numbers = iter(range(10**9))
        self.members: list[tuple[Process, Task, str]] = []
        self.commands: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        self.complaints: list[str] = []
        self.signals = 0
        self.worst_call_s = 0.0

    def run(self) -> None:
        """Play the scene; `complaints` holds what was wrong."""
        (self.root / "workflows").mkdir()
        shutil.copy(Path(__file__).with_name("tally.py"), self.root / "workflows")
        # Nobody dies here; where the living are taken for dead, that shows by what is done twice.
        (self.root / ".belugawf.yaml").write_text("max_crashes: 0\n")
        began = time.monotonic()
        roles = self._roles()
        try:
            while time.monotonic() < began + self.seconds and not self.complaints:
                busy = Counter(role for _, _, role in self.members)
                for role, wanted in roles.items():
                    for _ in range(wanted - busy[role]):
                        self._begin(role)
                self._wait()
            self._finish()
        finally:
            for process, _, _ in self.members:
                process.end()
        if not self.complaints:
            self._judge()

    def _roles(self) -> Counter[str]:
        """How many do what; most send signals."""
        roles = Counter(worker=2, caller=2, resume=2, start=1, cancel=1, look=2, query=1)
        roles["signal"] = max(1, self.processes - roles.total())
        return roles

    # -- members ---------------------------------------------------------------------------------

    def _begin(self, role: str) -> None:
        if role == "caller":
            number = next(self.numbers)
            folder, end = self.root, time.time() + self.seconds
            process = Process(self.root, ("caller",), prepare=lambda: _call(folder, number, end))
            self.members.append((process, Task(("caller",), frozenset({0})), role))
            return
        task = self._task(role)
        if task is not None:
            self.members.append((self._process(task), task, role))

    def _process(self, task: Task) -> Process:
        return Process(self.root, task.args, prepare=self.prepare)

    def _task(self, role: str) -> Task | None:
        fine = frozenset({0})
        match role:
            case "worker":
                return Task(("worker",), frozenset({143}))
            case "resume":
                return Task(("resume", "--max-time", "2s"), fine)
            case "start":
                return self._start()
            case "signal":
                return self._signal()
            case "cancel":
                return self._cancel()
        started = [tally for tally in self.tallies if tally.started]
        if role == "look" or not started:
            one = self.rng.choice((("list",), ("status",), ("waiting",), ("list", "--all")))
            return Task((*one, "--json"), fine)
        name = self.rng.choice(started).name
        what = self.rng.choice((("query", name, "numbers"), ("status", name), ("history", name)))
        return Task((*what, "--json"), fine)

    def _start(self) -> Task | None:
        if sum(tally.open or not tally.started for tally in self.tallies) >= OPEN_RUNS:
            return None
        number = len(self.tallies)
        mine = Tally(f"tally-{number}", doomed=number % 5 == 4)
        self.tallies.append(mine)

        def started(code: int) -> None:
            mine.started = True

        detached = ("--detach",) if self.rng.random() < 0.8 else ()
        args = ("run", "tally", "--id", mine.name, *detached)
        return Task(args, frozenset({0, 4}), started)

    def _signal(self) -> Task | None:
        full = [
            tally
            for tally in self.tallies
            if tally.started and not (tally.ended or tally.doomed or tally.open or tally.on_the_way)
        ]
        if full:
            full[0].ended = True
            return self._entry(full[0], END)
        able = [tally for tally in self.tallies if tally.open]
        if not able:
            return None
        chosen = self.rng.choice(able)
        chosen.handed_out += 1
        return self._entry(chosen, next(self.numbers))

    def _entry(self, to: Tally, number: int) -> Task:
        to.on_the_way += 1

        def sent(code: int) -> None:
            to.on_the_way -= 1
            if code == 0:
                to.acknowledged.append(number)
                self.signals += 1

        left = ("--no-resume",) if self.rng.random() < 0.5 else ()
        args = ("signal", "entry", to.name, "--payload", str(number), *left)
        return Task(args, frozenset({0, 9}) if to.doomed else frozenset({0}), sent)

    def _cancel(self) -> Task | None:
        ready = [
            tally
            for tally in self.tallies
            if tally.doomed and tally.started and not tally.ended and tally.handed_out > ENTRIES / 2
        ]
        if not ready:
            return None
        ready[0].ended = True
        return Task(("cancel", ready[0].name), frozenset({0}))

    def _wait(self) -> None:
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            for member in list(self.members):
                if member[0].poll() is not None:
                    self.members.remove(member)
                    self._left(*member)
            time.sleep(0.001)

    def _left(self, process: Process, task: Task, role: str) -> None:
        self.commands[role] += 1
        took = time.monotonic() - process.began
        if role not in ("worker", "caller", "resume"):
            self.longest[role] = max(took, self.longest.get(role, 0.0))
        code = process.code
        assert code is not None
        said = process.said
        if code not in task.codes or any(word in said for word in ("Traceback", "locked", "a bug")):
            self.complaints.append(str(process))
            return
        if role == "caller" and code == 0:
            report = json.loads(said.splitlines()[-1])
            self.signals += report["signals"]
            self.worst_call_s = max(self.worst_call_s, report["worst"])
            for name, numbers in report["runs"].items():
                done = Tally(name, doomed=False, started=True, acknowledged=numbers, ended=True)
                self.tallies.append(done)
        task.then(code)
        process.forget()

    # -- the end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Nobody comes any more; what is open is told to end, and comes to its end."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.complaints and time.monotonic() < deadline:
            busy = Counter(role for _, _, role in self.members)
            if not any(role not in ("worker", "resume") for role in busy):
                waiting = [tally for tally in self.tallies if tally.started and not tally.ended]
                if not waiting and not unended(self.root):
                    break
                for one in waiting:
                    one.ended, one.doomed = True, False
                    task = self._entry(one, END)
                    self.members.append((self._process(task), task, "signal"))
            self._wait()
        if not self.complaints and unended(self.root):
            self.complaints.append(f"not ended: {unended(self.root)}")
        for process, _, _ in self.members:
            process.send(signal.SIGTERM)
        while self.members and time.monotonic() < deadline:
            for _, task, _ in self.members:
                # Before a command can drain it is simply ended.
                task.codes |= {143, -signal.SIGTERM}
            self._wait()
        if self.members:
            self.complaints.append("not ended after SIGTERM: " + str(self.members[0][0]))

    def _judge(self) -> None:
        snapshot = look(self.root)
        try:
            check_consistent(snapshot)
        except Corrupt as error:
            self.complaints.append(str(error))
            return
        catalog = Catalog.from_functions([tally])
        executed = Counter(int(line) for line in (self.root / "adds.log").read_text().splitlines())
        for known in self.tallies:
            row = snapshot.latest(known.name)
            if row is None:
                self.complaints.append(f"{known.name} is lost")
                continue
            history = snapshot.histories[row["run_id"]]
            self._judge_run(known, row, history, executed)
            error = replay_error(catalog, history)
            if error is not None:
                self.complaints.append(f"{known.name} cannot be replayed: {error}")
        if len(snapshot.runs) != len(self.tallies):
            self.complaints.append(f"{len(snapshot.runs)} runs, and not {len(self.tallies)}")
        twice = [number for number, times in executed.items() if times > 1]
        if twice:
            self.complaints.append(f"executed twice: {twice}")

    def _judge_run(
        self, known: Tally, row: Any, history: list[e.Event], executed: Counter[int]
    ) -> None:
        received = Counter(decode(x.payload) for x in history if isinstance(x, e.SignalReceived))
        sent = Counter(known.acknowledged)
        if received != sent:
            lost, more = sent - received, received - sent
            self.complaints.append(f"{known.name}: lost {[*lost]}, not acknowledged {[*more]}")
        if known.doomed:
            if row["status"] != "cancelled":
                self.complaints.append(f"{known.name}: {row['status']}, and not cancelled")
            return
        numbers = [number for number in known.acknowledged if number != END]
        if row["status"] != "completed" or sorted(json.loads(row["result"])) != sorted(numbers):
            self.complaints.append(f"{known.name}: {row['status']}, {row['result']!s:.200}")
        missing = [number for number in numbers if not executed[number]]
        if missing:
            self.complaints.append(f"{known.name}: never executed: {missing}")


def _call(root: Path, number: int, end: float) -> None:
    """A Python program: start a run, signal it as fast as can be, let it end; again and again."""
    report = asyncio.run(_calling(root, number, end))
    print(json.dumps(report), flush=True)
    # What follows a preparation is a command; this one is done.
    raise SystemExit(0)


async def _calling(root: Path, number: int, end: float) -> dict[str, Any]:
    runs: dict[str, list[int]] = {}
    worst, count = 0.0, 0
    # Numbers that nobody else uses.
    numbers = iter(range(10**9 * (number + 1), 10**9 * (number + 2)))
    options: dict[str, Any] = {"db": root / DB, "workflows": root / "workflows", "max_crashes": 0}
    async with new_executor("default", **options) as executor:
        while time.time() < end:
            name = f"caller-{number}-{len(runs)}"
            await executor.execute("tally", id=name)
            sent = runs[name] = []
            for payload in [next(numbers) for _ in range(ENTRIES)] + [END]:
                began = time.perf_counter()
                await executor.signal(name, Signal("entry", payload))
                worst = max(worst, time.perf_counter() - began)
                sent.append(payload)
                count += 1
    return {"runs": runs, "signals": count, "worst": worst}
