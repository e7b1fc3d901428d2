"""One case: runs of one example, driven by processes that die, until all have come to their end.

Callers repeat what was not acknowledged, as anybody would whose command died. One process that
drives dies at the step of the case; the others at steps, or moments, chosen by the seed.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.cast import CAST, Errand, Part
from tests.kills.checks import judge, kept, unended
from tests.kills.processes import Process, end_leftovers

# A case takes a few seconds; who has not ended after so many waits for ever.
PATIENCE_S = 60.0
# Processes that have lived for so long leave room for one more, if somebody has an errand.
BLOCKED_AFTER_S = 2.0
# So many deaths are enough for a case: after them processes live, and must come to the end.
MOST_KILLS = 25
LATEST_STEP = 16
RIGHT_CODES = {
    "start": {0, 4},
    "signal": {0},
    "cancel": {0, 9},
    "drive": {0, 143},
}


@dataclass(frozen=True)
class Case:
    """What a case is made of; the same ones make the same choices."""

    example: str
    processes: int
    point: int
    seed: str

    def command(self) -> str:
        """How to see it again; what processes do at the same time differs."""
        return (
            f"python -m tests.kills --example {self.example} --processes {self.processes} "
            f"--point {self.point} --seed {self.seed}"
        )


@dataclass
class Report:
    """What came of one case, or of many."""

    cases: int = 0
    kills: int = 0
    runs: int = 0
    processes: int = 0
    executions: int = 0
    acknowledged: int = 0
    repeated: int = 0
    lost: int = 0
    failures: list[tuple[Case, str]] = field(default_factory=list)
    survived: bool = False

    def add(self, other: Report) -> None:
        """Add what came of other cases."""
        for name in ("cases", "kills", "runs", "processes", "executions", "acknowledged"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.repeated += other.repeated
        self.lost += other.lost
        self.failures += other.failures

    def __str__(self) -> str:
        return (
            f"{self.kills:,} kills, {self.processes:,} processes, {self.runs:,} runs in "
            f"{self.cases:,} cases, {self.executions:,} activities executed, "
            f"{self.acknowledged:,} acknowledgements: {self.repeated} repeated after their record, "
            f"{self.lost} lost, {len(self.failures)} failures"
        )


class Stuck(Exception):
    """Not all runs came to their end."""


class _Play:
    """The processes of one case."""

    def __init__(
        self, case: Case, root: Path, prepare: Callable[[], object], patience_s: float
    ) -> None:
        self.patience_s = patience_s
        self.case = case
        self.root = root
        self.prepare = prepare
        self.rng = random.Random(case.seed + case.example + str((case.processes, case.point)))
        part = CAST[case.example]
        self.parts = [part(f"{case.example}-{n}") for n in range(max(2, case.processes))]
        self.open: list[tuple[Part, Errand]] = [
            (part, errand) for part in self.parts for errand in (part.start, *part.messages)
        ]
        self.acknowledged: list[tuple[Part, Errand]] = []
        self.alive: list[tuple[Process, tuple[Part, Errand] | None]] = []
        self.doomed: dict[int, float] = {}
        self.report = Report(cases=1, runs=len(self.parts))
        self.complaints: list[str] = []
        self.ending = False
        self.said: list[str] = []
        self.sweeper: Process | None = None

    def run(self) -> Report:
        """Play it to its end, and judge."""
        try:
            self._until_all_ended()
            self._end_workers()
            verdict = judge(self.root, self.parts, self.acknowledged)
        except Stuck as stuck:
            verdict = kept(self.root, self.acknowledged)
            verdict.wrong.append(str(stuck))
        finally:
            for process, _ in self.alive:
                process.end()
        self.complaints += end_leftovers(self.root)
        report, case = self.report, self.case
        report.executions = verdict.executions
        report.acknowledged = len(self.acknowledged)
        report.repeated, report.lost = len(verdict.repeated), len(verdict.lost)
        complaints = [*self.complaints, *verdict.complaints()]
        if complaints:
            report.failures = [(case, "\n".join([*complaints, *self.said[-6:]]))]
        return report

    def _until_all_ended(self) -> None:
        deadline = time.monotonic() + self.patience_s
        while self.open or self._in_flight() or unended(self.root):
            if self.complaints:
                return
            if time.monotonic() > deadline:
                raise Stuck(self._stuck())
            while len(self.alive) < self.case.processes or self._is_blocked():
                self._begin()
            self._wait()

    def _in_flight(self) -> bool:
        return any(errand is not None for _, errand in self.alive)

    def _is_blocked(self) -> bool:
        """Whether an errand waits, and those alive are workers who may not end by themselves."""
        if not self._possible() or self._in_flight():
            return False
        now = time.monotonic()
        return all(now - process.began > BLOCKED_AFTER_S for process, _ in self.alive)

    def _stuck(self) -> str:
        for process, _ in self.alive:
            process.send(signal.SIGABRT)
            while process.poll() is None:
                time.sleep(0.001)
        shown = "\n".join(str(process) for process, _ in self.alive)
        return f"not ended after {self.patience_s:g} s: {unended(self.root)}, {self.open}\n{shown}"

    # -- processes -------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start one more process: an errand, or one that drives."""
        errand, possible = None, self._possible()
        starting = any(errand.kind == "start" for _, errand in self.open) or self._in_flight()
        if self.sweeper is None and not starting and self.rng.random() < 0.5:
            # The runs are there, and perhaps some messages: now for the step of this case.
            self.sweeper = self._start(("resume",), None, self.case.point, 0.0)
            return
        if possible and (self.sweeper is None or self.rng.random() < 0.6):
            errand = self.rng.choice(possible)
            self.open.remove(errand)
            args = self._varied(errand[1])
        else:
            args = self._driving()
        self._start(args, errand, *self._end_of_next())

    def _start(
        self,
        args: tuple[str, ...],
        errand: tuple[Part, Errand] | None,
        kill_at: int,
        moment_s: float,
    ) -> Process:
        process = Process(self.root, args, kill_at, prepare=self.prepare, witness=True)
        self.report.processes += 1
        if moment_s:
            self.doomed[process.pid] = time.monotonic() + moment_s
        self.alive.append((process, errand))
        return process

    def _possible(self) -> list[tuple[Part, Errand]]:
        """Open errands whose run is known to be there; starts first of all."""
        started = {part.run for part, errand in self.acknowledged if errand.kind == "start"}
        return [
            (part, errand)
            for part, errand in self.open
            if errand.kind == "start" or part.run in started
        ]

    def _varied(self, errand: Errand) -> tuple[str, ...]:
        quiet = self.sweeper is None or self.rng.random() < 0.5
        if errand.kind == "start" and quiet:
            return (*errand.args, "--detach")
        if errand.kind == "signal" and quiet:
            return (*errand.args, "--no-resume")
        return errand.args

    def _driving(self) -> tuple[str, ...]:
        if self.acknowledged and self.rng.random() < 0.3:
            return ("resume", self.rng.choice(self.acknowledged)[0].run)
        return self.rng.choice((("resume",), ("worker",)))

    def _end_of_next(self) -> tuple[int, float]:
        """At which step, or after how many seconds, the next process dies (0: it lives)."""
        if self.report.kills >= MOST_KILLS:
            return 0, 0.0
        if self.rng.random() < 0.2:
            return 0, self.rng.uniform(0.0, self.parts[0].latest_moment_s)
        return self.rng.randint(1, LATEST_STEP), 0.0

    def _wait(self) -> None:
        """Until a process has ended, or what was to be looked at may have changed."""
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            for process, errand in list(self.alive):
                if time.monotonic() > self.doomed.get(process.pid, float("inf")):
                    process.kill()
                if process.poll() is not None:
                    self.alive.remove((process, errand))
                    self._ended(process, errand)
                    return
            time.sleep(0.001)

    def _ended(self, process: Process, errand: tuple[Part, Errand] | None) -> None:
        self.doomed.pop(process.pid, None)
        self.said.append(str(process))
        if "Traceback" in process.said or "a bug" in process.said:
            self.complaints.append(f"a traceback\n{process}")
        if process.code == -signal.SIGKILL:
            self.report.kills += 1
            if errand is not None:
                self.open.append(errand)
            return
        kind = "drive" if errand is None else errand[1].kind
        if process is self.sweeper:
            self.report.survived = True
        # Before a command can drain it is simply ended.
        early = self.ending and process.code == -signal.SIGTERM
        if process.code not in RIGHT_CODES[kind] and not early:
            self.complaints.append(f"it ended wrongly\n{process}")
        elif errand is not None and not early:
            self.acknowledged.append(errand)

    def _end_workers(self) -> None:
        """SIGTERM to who is left: it ends by itself."""
        deadline = time.monotonic() + self.patience_s
        self.ending = True
        for process, _ in self.alive:
            process.send(signal.SIGTERM)
        while self.alive:
            if time.monotonic() > deadline:
                raise Stuck(f"a worker did not end\n{self._stuck()}")
            self._wait()


def play(
    case: Case,
    modules: Path,
    folder: Path,
    *,
    prepare: Callable[[], object] = lambda: None,
    patience_s: float = PATIENCE_S,
) -> Report:
    """Play one case in a new folder, which is gone afterwards.

    `modules` is what `write_modules` has written, `prepare` is called in each process, and after
    `patience_s` seconds whoever has not ended is said to wait for ever.
    """
    folder.mkdir()
    try:
        # A kill is no crash of the activity's making here, however often it comes.
        (folder / ".belugawf.yaml").write_text(f"max_crashes: 0\nworkflows: {modules}\n")
        return _Play(case, folder, prepare, patience_s).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Campaign:
    """Sweeps: each example with each number of processes, from step to step, again and again."""

    def __init__(self, seed: str, examples: Sequence[str], processes: Sequence[int]) -> None:
        self._seed = seed
        places = [(example, count) for example in examples for count in processes]
        random.Random(seed).shuffle(places)
        self._places = {place: [1, 1] for place in places}
        self.sweeps = 0

    def next_cases(self) -> Iterator[Case]:
        """One case of each sweep, then the next one of each, without end."""
        while True:
            for (example, processes), (point, turn) in self._places.items():
                yield Case(example, processes, point, f"{self._seed}.{turn}")

    def played(self, case: Case, report: Report) -> None:
        """Go on to the next step, or begin the sweep anew where the process survived this one."""
        place = self._places[case.example, case.processes]
        if report.survived:
            self.sweeps += 1
            place[:] = [1, place[1] + 1]
        else:
            place[0] += 1
