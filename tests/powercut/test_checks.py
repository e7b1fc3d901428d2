"""The checks see what they are there to see: sound databases are spoilt one statement at a time."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.powercut.checks import Corrupt, Snapshot, build, check_consistent, holds, look
from tests.powercut.disk import Disk, everything
from tests.powercut.record import Entry, Mark, State
from tests.powercut.workload import DATABASE, Durability

# The workload's run that has everything.
ORDER = "(SELECT key FROM runs WHERE workflow_id = 'order-0')"


@pytest.fixture
def entries(recorded: Callable[[Durability], list[Entry]]) -> list[Entry]:
    return recorded("full")


@pytest.fixture
def last(entries: list[Entry]) -> State:
    """What is on the disk after the workload's end."""
    disk = Disk()
    for entry in entries:
        disk.feed(entry)
    return disk.after(everything, random.Random(0))


def spoilt(state: State, folder: Path, statement: str) -> Snapshot:
    """The state after one more statement."""
    path = build(state, folder / "spoilt")
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount > 0, statement
    return look({**state, str(DATABASE): path.read_bytes()}, folder / "state")


def test_a_sound_database_passes(last: State, entries: list[Entry], folder: Path) -> None:
    """At the end everything is consistent, and every mark holds."""
    snapshot = look(last, folder / "state")
    check_consistent(snapshot)
    assert [e for e in entries if isinstance(e, Mark) and not holds(e, snapshot)] == []


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM events WHERE run = {ORDER} AND position = 5",
        f"DELETE FROM events WHERE run = {ORDER} AND position = 1",
        "DELETE FROM events WHERE type = 'WorkflowCompleted'",
        "UPDATE events SET time = 2000 WHERE position = 3",
        "UPDATE events SET type = 'TimerFired' WHERE type = 'ActivityCompleted'",
        "UPDATE events SET seq = 99 WHERE type = 'WaitEnded'",
        "UPDATE events SET data = 'x' WHERE type = 'TimerStarted'",
        "UPDATE runs SET status = 'failed' WHERE status = 'completed'",
        "UPDATE runs SET result = '0' WHERE workflow_id = 'order-0'",
        f"INSERT INTO waits (run, seq, signal, since) VALUES ({ORDER}, 1, 'go', 2000)",
        f"INSERT INTO inbox (run, kind, sent_at) VALUES ({ORDER}, 'cancel', 2000)",
        f"INSERT INTO live (run) VALUES ({ORDER})",
    ],
)
def test_contradictions_are_seen(last: State, folder: Path, statement: str) -> None:
    """Histories that are not legal, and tables that do not agree with them."""
    with pytest.raises(Corrupt):
        check_consistent(spoilt(last, folder, statement))


def test_damage_is_seen(last: State, folder: Path) -> None:
    """A page of the database that holds something else."""
    content = last[str(DATABASE)]
    assert content is not None
    page = bytes(4096)
    with closing(sqlite3.connect(build(last, folder / "asked"))) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'").fetchone()
    for number in (0, 4, root - 1):  # the last page may be a free one
        damaged = content[: number * 4096] + page + content[(number + 1) * 4096 :]
        with pytest.raises(Corrupt):
            check_consistent(look({**last, str(DATABASE): damaged}, folder / "state"))


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("started", "UPDATE runs SET run_id = 'another' WHERE workflow_id = 'doomed'"),
        ("signalled", "UPDATE events SET payload = '0' WHERE type = 'SignalReceived'"),
        ("cancelled", "DELETE FROM events WHERE type = 'CancelRequested'"),
        ("terminated", "UPDATE runs SET status = 'failed' WHERE status = 'terminated'"),
        ("completed", "UPDATE runs SET result = '0' WHERE workflow_id = 'order-2'"),
        ("begun", "DELETE FROM events WHERE type = 'AttemptStarted'"),
        ("begun", "UPDATE events SET seq = 99 WHERE type = 'ActivityScheduled'"),
        ("told", "DELETE FROM events WHERE type = 'ActivityCompleted'"),
        ("seen", f"DELETE FROM events WHERE run = {ORDER}"),
    ],
)
def test_losses_are_seen(
    last: State, entries: list[Entry], folder: Path, kind: str, statement: str
) -> None:
    """Each kind of acknowledgement has a record that is missed."""
    snapshot = spoilt(last, folder, statement)
    lost = {e.kind for e in entries if isinstance(e, Mark) and not holds(e, snapshot)}
    assert kind in lost
