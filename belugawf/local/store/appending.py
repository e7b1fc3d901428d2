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
from belugawf.local.store.rows import AppendOutcome, Turn
from belugawf.local.store.writing import close_runs, insert_events, let_go, project_waits
from belugawf.model import events as e
from belugawf.model.durations import to_micros

# The outcomes of turns that are part of the transaction.
WRITTEN = (AppendOutcome.COMMITTED, AppendOutcome.RELEASED)


class Appender:
    """Appends turns for one store, in transactions that it is told of."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owner = ""
        # The lengths of runs that are open, ours, and without problem or message, as of `_seen`.
        self._known: dict[int, int] = {}
        self._seen: tuple[str, int, int] | None = None
        # What the transaction that goes on makes true.
        self._made: dict[int, int | None] = {}
        self._version = self._commits = 0

    def begin(self, db: Connection, owner: str) -> None:
        """A transaction of that owner's has begun."""
        (self._version,) = db.execute("PRAGMA data_version").fetchone()
        self._commits = self._database.commits
        if self._seen != (owner, self._version, self._commits):
            self._known.clear()
        self._owner = owner
        self._made.clear()

    def committed(self) -> None:
        """It is on disk."""
        self._seen = self._owner, self._version, self._commits + 1
        for run, length in self._made.items():
            if length is None:
                self._known.pop(run, None)
            else:
                self._known[run] = length

    def forget(self, run: int) -> None:
        """That run is not open any more."""
        self._made[run] = None

    def born(self, run: int, owner: str | None) -> None:
        """That run was created, with its first event, as that owner's."""
        self._made[run] = 1 if owner == self._owner else None

    def append(self, db: Connection, turns: Sequence[Turn]) -> bool:
        """Write these turns, or none of them; each is settled as it would be by itself."""
        problems = {turn.run for turn in turns if self._judge(db, turn)}
        if not all(turn.outcome in WRITTEN for turn in turns):
            return False
        self._write(db, turns, problems)
        return True

    def _judge(self, db: Connection, turn: Turn) -> bool:
        """Settle that turn; whether its run has a problem on record."""
        self._made[turn.run] = None
        problem, newer = None, False
        if turn.read_to or not turn.events or self._known.get(turn.run) != turn.length:
            found = db.execute(_FENCE, (turn.run, turn.length)).fetchone()
            if found is None or found[0] != self._owner:
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

    def _write(self, db: Connection, turns: Sequence[Turn], problems: set[int]) -> None:
        events: list[tuple[int, e.Event]] = []
        read, closed, moved, shown, released = [], [], [], [], []
        for turn in turns:
            run = turn.run
            events += [(run, event) for event in turn.events]
            if turn.read_to:
                read.append((run, turn.read_to))
            if turn.closes:
                closed.append((run, turn.events[-1], turn.keep))
                continue
            if turn.moves:
                moved.append((to_micros(turn.due_at), run))
            if run in problems or turn.progress is not None or turn.open_work is not None:
                # Who takes a turn has no problem any more.
                position = turn.length + len(turn.events) if turn.open_work else None
                shown.append((turn.progress, position, turn.open_work, run))
            if turn.outcome is AppendOutcome.RELEASED:
                released.append(run)
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


_FENCE = f"""SELECT l.owner, l.problem, (SELECT max(id) FROM inbox WHERE run = r.key)
    FROM runs r JOIN live l ON l.run = r.key
    WHERE r.key = ? AND r.status = 'running'
    AND {LENGTH.format("r.key")} = ?"""
