"""Appending the turns of runs that a process owns: each is judged, then all are written.

A turn may be written if its run is open, ours, and exactly as long as the turn says; and it may not
end its run over a message that it has not read. To ask SQLite for that costs as much as the turn.
So it is remembered of the runs whose turns were written, for as long as two numbers say that it
holds:

* `PRAGMA data_version` changes on a connection if, and only if, another connection has committed
  something, of this process or of any other. It is read within the transaction: from there to its
  end nobody else can commit.
* `Database.commits` counts what this process commits, or fails to commit, by the same connection.

As long as neither has moved but by our own appends, nobody has ended or taken a run, and nobody has
sent anything. If one has, all is forgotten, and each run is asked for once more. A belief that is
wrong all the same can append nothing: each event has one place (the primary key of `events`), and
whoever ends or moves a run takes the next one. Turns without events have no place, and are always
asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from belugawf.local.file.database import Database
from belugawf.local.store.histories import LENGTH, Connection
from belugawf.local.store.rows import AppendOutcome, RunRow, Turn
from belugawf.local.store.writing import (
    close_runs,
    insert_events,
    insert_runs,
    last_key,
    let_go,
    own,
    project_waits,
)
from belugawf.model import events as e
from belugawf.model.durations import to_micros

# The outcomes of turns that are part of the transaction.
WRITTEN = (AppendOutcome.COMMITTED, AppendOutcome.RELEASED)


class Known:
    """The lengths of runs that are open, ours, and without problem or message, as of `seen`."""

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}
        self._seen: tuple[str, int, int] | None = None

    def at(self, now: tuple[str, int, int]) -> dict[int, int]:
        """What is known within a transaction that begins with this owner and these numbers."""
        if self._seen != now:
            self._lengths = {}
        return self._lengths

    def add(self, made: dict[int, int | None], seen: tuple[str, int, int]) -> None:
        """A transaction is on disk, and has made this true."""
        self._seen = seen
        for run, length in made.items():
            if length is None:
                self._lengths.pop(run, None)
            else:
                self._lengths[run] = length


class Appending:
    """One transaction of an owner's, which has begun."""

    def __init__(self, known: Known, database: Database, db: Connection, owner: str) -> None:
        (version,) = db.execute("PRAGMA data_version").fetchone()
        self._db = db
        self._owner = owner
        self._places = database.places
        self._version, self._commits = version, database.commits
        self._memory = known
        self._known = known.at((owner, version, self._commits))
        self._born: list[RunRow] = []
        # What it makes true: lengths; `None`: nothing is known of that run any more.
        self._made: dict[int, int | None] = {}

    def committed(self) -> None:
        """It is on disk. If another one of ours has come since, what is known is forgotten."""
        self._memory.add(self._made, (self._owner, self._version, self._commits + 1))

    def replaced(self) -> None:
        """It ends a run that may be known."""
        self._made = dict.fromkeys({*self._known, *self._made})

    def born(self, run: int) -> None:
        """It creates that run, with its first event, as ours."""
        self._made[run] = 1

    def append(self, turns: Sequence[Turn]) -> bool:
        """Write these turns, or none of them; each is settled as it would be by itself."""
        self._born.clear()
        problems = set()
        written = True
        for turn in turns:
            if self._judge(turn):
                problems.add(turn.run)
            written = written and turn.outcome in WRITTEN
        if written:
            self._write(turns, problems)
        return written

    def _judge(self, turn: Turn) -> bool:
        """Settle that turn; whether its run has a problem on record."""
        if turn.born is not None:
            self._bear(turn, turn.born)
            return False
        self._made[turn.run] = None
        problem, newer = None, False
        if turn.read_to or not turn.events or self._known.get(turn.run) != turn.length:
            found = self._db.execute(_FENCE, (turn.run, turn.length)).fetchone()
            owner: str | None = self._owner
            if turn.claimed_at is not None:
                self._places.check(at_once=True)
                owner = None
            if found is None or found[0] != owner:
                turn.settle(AppendOutcome.FENCED)
                return False
            _, problem, newest = found
            newer = newest is not None and newest > turn.read_to
        if turn.closes:
            turn.settle(AppendOutcome.OVERTAKEN if newer else AppendOutcome.RELEASED)
        elif turn.release and not newer:
            turn.settle(AppendOutcome.RELEASED)
        else:
            turn.settle(AppendOutcome.COMMITTED)
            if not newer:
                self._made[turn.run] = turn.length + len(turn.events)
        return problem is not None

    def _bear(self, turn: Turn, row: RunRow) -> None:
        """Settle the first turn of a run that is not on disk yet, and give it its key."""
        if self._db.execute(_TAKEN, (row.workflow_id,)).fetchone():
            turn.settle(AppendOutcome.FENCED)
            return
        key = (self._born[-1].key if self._born else last_key(self._db)) + 1
        rests = turn.closes or turn.release
        self._born.append(turn.bear(key, None if rests else self._owner))
        self._made[key] = None if rests else len(turn.events)
        turn.settle(AppendOutcome.RELEASED if rests else AppendOutcome.COMMITTED)

    def _write(self, turns: Sequence[Turn], problems: set[int]) -> None:
        events: list[tuple[int, e.Event]] = []
        read, closed, claimed, moved, shown, released = [], [], [], [], [], []
        for turn in turns:
            run = turn.run
            events += [(run, event) for event in turn.events]
            if turn.read_to:
                read.append((run, turn.read_to))
            if turn.closes:
                closed.append((run, turn.events[-1], turn.keep))
                continue
            if turn.moves and turn.born is None:
                moved.append((to_micros(turn.due_at), run))
            if run in problems or turn.progress is not None or turn.open_work is not None:
                # Who takes a turn has no problem any more.
                position = turn.length + len(turn.events) if turn.open_work else None
                shown.append((turn.progress, position, turn.open_work, run))
            if turn.claimed_at is None:
                if turn.outcome is AppendOutcome.RELEASED and turn.born is None:
                    released.append(run)
            elif turn.outcome is AppendOutcome.COMMITTED:
                claimed.append((run, self._owner, to_micros(turn.claimed_at)))
        db = self._db
        if self._born:
            insert_runs(db, self._born)
        if claimed:
            own(db, claimed)
        insert_events(db, events)
        if read:
            db.executemany("DELETE FROM inbox WHERE run = ? AND id <= ?", read)
        if moved:
            db.executemany("UPDATE runs SET due_at = ?, begun = 1 WHERE key = ?", moved)
        project_waits(db, events)
        if shown:
            db.executemany(
                "UPDATE live SET problem = NULL, progress = coalesce(?, progress), "
                "open_at = coalesce(?, open_at), open_work = coalesce(?, open_work) "
                "WHERE run = ?",
                shown,
            )
        if released:
            let_go(db, released)
        if closed:
            close_runs(db, closed)


_TAKEN = "SELECT 1 FROM runs WHERE workflow_id = ? LIMIT 1"
_FENCE = f"""SELECT l.owner, l.problem, (SELECT max(id) FROM inbox WHERE run = r.key)
    FROM runs r LEFT JOIN live l ON l.run = r.key
    WHERE r.key = ? AND r.status = 'running'
    AND {LENGTH.format("r.key")} = ?"""
