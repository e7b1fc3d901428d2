"""Many power cuts of one recorded workload, each rebuilt and checked.

The oracle is the record itself. Each transaction of the log that was written to its end gives one
*committed state*: the database as it would be with everything written so far. Whatever a power cut
leaves must be exactly one of those: so nothing is lost from the middle, and no transaction is there
in part. With `durability: full` it must also hold everything acknowledged before the cut; with
`normal`, what was acknowledged before the last clean close.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.powercut.checks import Corrupt, Snapshot, check_consistent, holds, look
from tests.powercut.disk import Disk, any_fate, everything
from tests.powercut.record import Before, Entry, Mark, State, Write, read_record
from tests.powercut.resuming import check_resumes, record_resuming
from tests.powercut.workload import Durability

_FRAME_HEADER = 24


@dataclass(frozen=True)
class Cut:
    """A power cut: after how many entries of the record, and its number among those there."""

    seed: int
    point: int
    number: int

    def state(self, disk: Disk) -> State:
        """What it leaves; `disk` has read the record so far."""
        return disk.after(any_fate, random.Random(f"{self.seed} {self.point} {self.number}"))


@dataclass
class Report:
    """What came out.

    `lost` counts acknowledged operations that were promised to survive; `forgone` is the most that
    a single state of `durability: normal` has lost beside those.
    """

    states: int = 0
    distinct: int = 0
    resumed: int = 0
    lost: int = 0
    forgone: int = 0
    corrupt: int = 0
    failures: list[tuple[Cut, str]] = field(default_factory=list)

    def add(self, other: Report) -> None:
        for name in ("states", "distinct", "resumed", "lost", "corrupt"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.forgone = max(self.forgone, other.forgone)
        self.failures += other.failures

    def __str__(self) -> str:
        return (
            f"states: {self.states} ({self.distinct} distinct, {self.resumed} resumed to their "
            f"end), lost acknowledged operations: {self.lost} (and {self.forgone} at most that "
            f"`normal` does not promise), corrupt: {self.corrupt}"
        )


class Campaign:
    """Checks power cuts of one record. `folder` is where states are rebuilt, one at a time."""

    def __init__(self, entries: Sequence[Entry], durability: Durability, folder: Path) -> None:
        self._entries = entries
        self._durability = durability
        self._folder = folder
        self._committed = {snapshot.digest: snapshot for snapshot in self._commits()}
        # What a state's files came to: a digest, or what is wrong. Many cuts leave the same files.
        self._seen: dict[str, str | Corrupt] = {}
        self._lost: dict[tuple[str, int], list[Mark]] = {}

    def _commits(self) -> Iterator[Snapshot]:
        """The committed states, in order; before the first transaction a new database is empty."""
        disk, rng = Disk(), random.Random(0)
        first = self._entries[0]
        yield look(first.state if isinstance(first, Before) else {}, self._folder)
        ends: tuple[str, int] | None = None
        for entry in self._entries:
            disk.feed(entry)
            if not isinstance(entry, Write) or not entry.name.endswith("-wal"):
                continue
            if (entry.name, entry.offset) == ends:
                snapshot = look(disk.after(everything, rng), self._folder)
                check_consistent(snapshot)
                yield snapshot
            ends = None
            if len(entry.data) == _FRAME_HEADER and any(entry.data[4:8]):
                # The header of a transaction's last frame; its page follows.
                ends = entry.name, entry.offset + _FRAME_HEADER

    def run(self, count: int, seed: int, *, resume_every: int) -> Report:
        """Cut the power `count` times, spread over the record, and resume some of what is left."""
        report = Report()
        rng = random.Random(seed)
        points = sorted(rng.randint(1, len(self._entries)) for _ in range(count))
        cuts = iter(
            Cut(seed, point, number)
            for point, group in itertools.groupby(points)
            for number, _ in enumerate(group)
        )
        cut = next(cuts, None)
        for point, disk in self._walk():
            while cut is not None and cut.point == point:
                resume = rng.randrange(resume_every) == 0
                self._check(cut, cut.state(disk), report, resume=resume)
                cut = next(cuts, None)
        report.distinct = len(self._seen)
        return report

    def state(self, cut: Cut) -> State:
        """What a cut leaves."""
        return next(cut.state(disk) for point, disk in self._walk() if point == cut.point)

    def check(self, cut: Cut) -> Report:
        """Check one cut alone, and resume what it leaves."""
        report = Report()
        self._check(cut, self.state(cut), report, resume=True)
        return report

    def _walk(self) -> Iterator[tuple[int, Disk]]:
        disk = Disk()
        for point, entry in enumerate(self._entries, 1):
            disk.feed(entry)
            yield point, disk

    def _check(self, cut: Cut, state: State, report: Report, *, resume: bool) -> None:
        report.states += 1
        try:
            snapshot = self._snapshot(state)
            if resume:
                report.resumed += 1
                folder = self._folder.with_name("resumed")
                shutil.rmtree(folder, ignore_errors=True)
                check_resumes(state, snapshot, folder)
        except Corrupt as error:
            report.corrupt += 1
            report.failures.append((cut, f"corrupt: {error}"))
            return
        lost = self._lost_marks(cut.point, snapshot)
        broken = [mark for mark in lost if mark in self._promised(cut.point)]
        report.forgone = max(report.forgone, len(lost) - len(broken))
        if broken:
            report.lost += len(broken)
            report.failures.append((cut, f"lost {len(broken)}, the first: {broken[0]!r}"))

    def _snapshot(self, state: State) -> Snapshot:
        key = _digest(state)
        if key not in self._seen:
            try:
                self._seen[key] = self._committed_digest(look(state, self._folder))
            except Corrupt as error:
                self._seen[key] = error
        found = self._seen[key]
        if isinstance(found, Corrupt):
            raise found
        return self._committed[found]

    def _committed_digest(self, snapshot: Snapshot) -> str:
        if snapshot.digest not in self._committed:
            check_consistent(snapshot)
            raise Corrupt("the database was never in this state: lost from the middle")
        return snapshot.digest

    def _lost_marks(self, point: int, snapshot: Snapshot) -> list[Mark]:
        marks = self._marks(point)
        key = snapshot.digest, len(marks)
        if key not in self._lost:
            self._lost[key] = [mark for mark in marks if not holds(mark, snapshot)]
        return self._lost[key]

    def _promised(self, point: int) -> list[Mark]:
        """What must not be lost by a cut here: with `normal`, only what was settled before."""
        marks = self._marks(point)
        if self._durability == "full":
            return marks
        kinds = [mark.kind for mark in marks]
        settled = len(kinds) - kinds[::-1].index("settled") if "settled" in kinds else 0
        begun = [number for number, kind in enumerate(kinds[:settled]) if kind == "settling"]
        return marks[: begun[-1]] if begun else []

    def _marks(self, point: int) -> list[Mark]:
        return [entry for entry in self._entries[:point] if isinstance(entry, Mark)]

    def second_life(self, cut: Cut) -> list[Entry]:
        """Resume what a cut leaves, recorded: a record whose beginning is that state.

        All that had survived the first cut was read from the disk, and must survive the next.
        """
        state = self.state(cut)
        snapshot = self._snapshot(state)
        lost = self._lost_marks(cut.point, snapshot)
        survived = [mark for mark in self._marks(cut.point) if mark not in lost]
        folder, log = self._folder.with_name("again"), self._folder.with_name("again.log")
        shutil.rmtree(folder, ignore_errors=True)
        log.unlink(missing_ok=True)
        record_resuming(state, snapshot, folder, log, self._durability)
        read = [Mark("settling", {}), Mark("settled", {})]
        return [Before(state), *survived, *read, *read_record(log)]


def _digest(state: State) -> str:
    digest = hashlib.blake2b()
    for name, content in state.items():
        length = "folder" if content is None else len(content)
        digest.update(f"{name}\0{length}\0".encode())
        digest.update(content or b"")
    return digest.hexdigest()
