"""The store: schema, guards, and what is found without a scan."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from belugawf.executor.info import NewRun
from belugawf.host.clock import SystemClock
from belugawf.local.drive.cache import pieces
from belugawf.local.drive.run import OwnedRun
from belugawf.local.file.database import APPLICATION_ID, SCHEMA_VERSION, Database
from belugawf.local.store.probe import LocalProbe
from belugawf.local.store.rows import AppendOutcome, Turn
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.errors import (
    AlreadyExistsError,
    DisplacedError,
    RunEndedError,
    UnavailableError,
)
from belugawf.model.history import is_fact
from tests.local.processes import Child

OWNER = "0" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store on a new file."""
    database = Database(tmp_path / "state.db")
    yield Store(database, SystemClock())
    database.close()


def new_run(store: Store, workflow_id: str = "a", **more: Any) -> int:
    """A recorded run, owned by OWNER."""
    values: dict[str, Any] = {
        "run_id": f"run-of-{workflow_id}",
        "workflow_id": workflow_id,
        "workflow": "flow",
        "input": None,
        "timeout_ns": None,
        "labels": {},
        "python": "3",
        "belugawf": "0",
    }
    row, _ = store.create(NewRun(**(values | more)), "fail", OWNER)
    return row.key


def turn(run: int, *events: e.Event, length: int = 1, **more: Any) -> Turn:
    """A turn that appends these events."""
    values: dict[str, Any] = {"read_to": 0, "due_at": None}
    return Turn(run=run, length=length, events=events, **(values | more))


def waits(position: int = 2) -> e.WaitStarted:
    return e.WaitStarted(position=position, time=0, seq=1, name="go", prompt="Go?")


def outcome(store: Store, turn: Turn, owner: str) -> AppendOutcome:
    """What becomes of that turn, which is committed by itself."""
    store.commit([turn], owner)
    return turn.outcome


def test_pragmas(store: Store) -> None:
    """WAL, a sync for each commit, foreign keys, and the marks of whose database it is."""

    def pragma(name: str) -> Any:
        return store.database.writer.execute(f"PRAGMA {name}").fetchone()[0]

    assert (pragma("journal_mode"), pragma("synchronous"), pragma("foreign_keys")) == ("wal", 2, 1)
    assert (pragma("application_id"), pragma("user_version")) == (APPLICATION_ID, SCHEMA_VERSION)


def test_normal_durability(tmp_path: Path) -> None:
    """`durability: normal` leaves the sync to the checkpoints."""
    database = Database(tmp_path / "state.db", durability="normal")
    assert database.writer.execute("PRAGMA synchronous").fetchone()[0] == 1
    database.close()


def test_views_are_readable(store: Store) -> None:
    """A person finds runs, waits and activities under names, not keys."""
    run = new_run(store)
    scheduled = e.ActivityScheduled(position=3, time=0, seq=2, name="work", payload="[1]")
    done = e.ActivityCompleted(position=4, time=1_000, seq=2, payload='"ok"', at=1_000)
    store.commit([turn(run, waits(), scheduled, done)], OWNER)
    with store.database.reading() as db:
        (wait,) = db.execute("SELECT workflow_id, signal, prompt FROM waiting_view")
        (shown,) = db.execute("SELECT workflow_id, status, waiting_for FROM runs_view")
        (work,) = db.execute("SELECT activity, state, attempts, outcome FROM activities_view")
        assert db.execute("SELECT count(*) FROM events_view").fetchone() == (4,)
    assert wait == ("a", "go", "Go?")
    assert shown == ("a", "running", "go")
    assert work == ("work", "completed", 1, '"ok"')


def test_guard(store: Store) -> None:
    """An owner who was overtaken, by length, status or ownership, writes nothing."""
    run = new_run(store)
    assert outcome(store, turn(run, waits(), length=7), OWNER) is AppendOutcome.FENCED
    assert outcome(store, turn(run, waits()), "1" * 32) is AppendOutcome.FENCED
    store.terminate(run, "enough", None)
    assert outcome(store, turn(run, waits(), length=2), OWNER) is AppendOutcome.FENCED
    assert [type(event).__name__ for event in store.history(run)] == [
        "WorkflowStarted",
        "WorkflowTerminated",
    ]


def test_end_over_a_message(store: Store) -> None:
    """A turn that would end the run over an unread message is refused, and can be made again."""
    run = new_run(store)
    store.send(run, "signal", name="go", payload="1")
    end = e.WorkflowCompleted(position=2, time=0, payload="1")
    assert outcome(store, turn(run, end), OWNER) is AppendOutcome.OVERTAKEN
    (message,), _ = store.read_inbox([run], locked=False)
    assert outcome(store, turn(run, end, read_to=message.id), OWNER) is AppendOutcome.RELEASED
    assert store.by_key(run).status == "completed"
    assert store.mail([run]) == set()
    with pytest.raises(RunEndedError):
        store.send(run, "signal", name="go", payload="1")


def test_no_lost_wake_up(store: Store) -> None:
    """A run is not let go while a message waits for it."""
    run = new_run(store)
    store.send(run, "signal", name="go", payload="1")
    assert outcome(store, turn(run, waits(), release=True), OWNER) is AppendOutcome.COMMITTED
    assert store.by_key(run).owner == OWNER
    (message,), _ = store.read_inbox([run], locked=True)
    released = turn(run, length=2, read_to=message.id, release=True)
    assert outcome(store, released, OWNER) is AppendOutcome.RELEASED
    assert store.by_key(run).owner is None


def test_terminate_keeps_what_was_sent(store: Store) -> None:
    """Signals that no code has seen are received and unread before the closing event."""
    run = new_run(store)
    store.send(run, "signal", name="go", payload="1", sender="ada")
    store.terminate(run, None, None)
    _, received, _ = store.history(run)
    assert isinstance(received, e.SignalReceived)
    assert (received.unread, received.sender) == (True, "ada")


def test_messages_in_order_of_sending(tmp_path: Path) -> None:
    """A message is never stamped before the one that was sent to the run before it."""

    class Backwards:
        moment = 2_000_000_000_000_000_000

        def now(self) -> int:
            self.moment -= 3_600_000_000_000
            return self.moment

    database = Database(tmp_path / "state.db")
    store = Store(database, Backwards())
    run = new_run(store)
    for number in range(3):
        store.send(run, "signal", name="go", payload=str(number))
    messages, _ = store.read_inbox([run], locked=False)
    assert [message.payload for message in messages] == ["0", "1", "2"]
    assert len({message.sent_at for message in messages}) == 1
    database.close()


def test_one_row_that_cannot_be_written(store: Store) -> None:
    """A run whose rows the database refuses does not keep the others from their commit."""
    one, other = new_run(store, "one"), new_run(store, "other")
    with store.database.write() as db:
        db.execute(
            f"CREATE TRIGGER no BEFORE INSERT ON events WHEN new.run = {one} "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
    turns = [turn(one, waits()), turn(other, waits())]
    store.commit(turns, OWNER)
    assert [x.outcome for x in turns] == [AppendOutcome.UNWRITABLE, AppendOutcome.COMMITTED]
    assert turns[0].reason == "not this one"
    assert len(store.history(one)) == 1
    assert len(store.history(other)) == 2


@pytest.mark.parametrize(
    "edit",
    ["sent_at = -1", "payload = '{'", "name = NULL", "kind = 'attempt'"],
)
def test_a_message_that_was_edited(store: Store, edit: str) -> None:
    """It is read, and no run acts on it."""
    run = new_run(store)
    store.send(run, "signal", name="go", payload="1")
    (message,), _ = store.read_inbox([run], locked=False)
    assert message.sound
    with store.database.write() as db:
        db.execute(f"UPDATE inbox SET {edit}")
    (message,), _ = store.read_inbox([run], locked=False)
    assert not message.sound


def test_half_a_turn_is_not_written(store: Store) -> None:
    """If the database refuses a turn's second event, the first one is not kept either."""
    run = new_run(store)
    with store.database.write() as db:
        db.execute(
            "CREATE TRIGGER no BEFORE INSERT ON events WHEN new.position = 3 "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
    ended = e.WaitEnded(position=3, time=0, seq=1)
    assert outcome(store, turn(run, waits(), ended), OWNER) is AppendOutcome.UNWRITABLE
    assert len(store.history(run)) == 1


def test_claim_only_from_whom_it_was(store: Store) -> None:
    """A run is taken over only from the owner that was found dead."""
    run = new_run(store)
    assert store.claim({run: None}, "1" * 32) == []
    (claimed,) = store.claim({run: OWNER}, "1" * 32)
    assert claimed.owner == OWNER
    assert store.by_key(run).owner == "1" * 32
    assert store.claim({run: OWNER}, "2" * 32) == []


def test_nothing_due(store: Store) -> None:
    """A suspended run is nothing to do; a due one and a message are."""
    path, now = store.database.path, store.clock.now

    def nothing_due(path: Path, at: int) -> bool:
        return LocalProbe().nothing_due(SimpleNamespace(db=path), at)

    assert nothing_due(path.parent / "none.db", now())
    run = new_run(store)
    assert not nothing_due(path, now())
    store.commit([turn(run, waits(), release=True)], OWNER)
    assert nothing_due(path, now())
    store.send(run, "signal", name="go", payload="1")
    assert not nothing_due(path, now())


def test_same_id_while_open(store: Store) -> None:
    """One open run an id; a second one is refused."""
    new_run(store)
    with pytest.raises(AlreadyExistsError):
        new_run(store)


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 11, 12, 13, 1000])
def test_history_in_pieces(store: Store, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Pieces begin with a fact, make up the history, and have none that came after the look."""
    monkeypatch.setattr("belugawf.local.drive.cache._PIECE", piece)
    run = new_run(store)
    events: list[e.Event] = []
    for seq in range(1, 6):
        at = len(events) + 2
        events += [
            e.ActivityScheduled(position=at, time=0, seq=seq, name="work", payload="[]"),
            e.ActivityCompleted(position=at + 1, time=0, seq=seq, payload="1", at=0),
        ]
    note = e.AttemptStarted(position=12, time=0, seq=6, attempt=2)
    store.commit([turn(run, *events, note)], OWNER)
    length = store.by_key(run).history_length
    found = pieces(store, run, length)
    store.commit([turn(run, waits(position=13), length=12)], OWNER)
    read = list(found)
    assert length == 12
    assert [event for part in read for event in part] == store.history(run)[:12]
    assert all(is_fact(part[0]) for part in read)
    # Nothing larger is kept than a piece, and what one fact led to.
    assert max(map(len, read)) <= piece + 2


def test_projection_agrees_with_history(store: Store) -> None:
    """What `waits` and `runs` say can be read off the history."""
    run = new_run(store)
    ended = e.WaitEnded(position=3, time=0, seq=1)
    store.commit([turn(run, waits(), ended, waits(4))], OWNER)
    assert [wait.signal for wait in store.waits()] == ["go"]
    store.commit([turn(run, e.WorkflowCancelled(position=5, time=0), length=4)], OWNER)
    assert store.waits() == []
    assert store.by_key(run).status == "cancelled"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("PRAGMA user_version = 99", "newer belugawf"),
        ("PRAGMA application_id = 7; PRAGMA user_version = 0", "another program"),
    ],
)
def test_other_databases(tmp_path: Path, spoil: str, message: str) -> None:
    """A newer schema and another program's database are left alone."""
    path = tmp_path / "state.db"
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.executescript(spoil)
    connection.close()
    with pytest.raises(UnavailableError, match=message):
        Database(path)


def test_created_beside_a_writer(tmp_path: Path) -> None:
    """Where SQLite itself does not wait for who holds the new file, we do."""
    path = tmp_path / "state.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ending = threading.Timer(0.3, other.execute, ("ROLLBACK",))
    ending.start()
    with closing(Database(path)) as database:
        assert database.read.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    ending.join()
    other.close()


CREATOR = """
    import sys
    from pathlib import Path
    from belugawf.local.file import database

    acquire = database.WriteLock.acquire

    def acquired(self, timeout):
        acquire(self, timeout)
        print(len(sys.modules))

    database.WriteLock.acquire = acquired
    database.Database(Path(sys.argv[1]) / "state.db").close()
    print(len(sys.modules))
"""


def test_nothing_is_imported_under_the_lock(tmp_path: Path) -> None:
    """Whoever creates the database does not keep others waiting for imports, or for plugins."""
    with Child(CREATOR, tmp_path) as child:
        under_the_lock, after = child.line(), child.line()
    assert int(under_the_lock) == int(after)


@pytest.mark.parametrize("statement", [1, 2, 3])
def test_created_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: int
) -> None:
    """Another process creates the database between any two looks at it: that is no foreign one."""
    path = tmp_path / "state.db"
    looks = []

    def watched(database: Database) -> sqlite3.Connection:
        connection = connect(database)
        monkeypatch.setattr(Database, "_connect", connect)

        def before(sql: str) -> None:
            looks.append(sql)
            if len(looks) == statement:
                Database(path).close()

        connection.set_trace_callback(before)
        return connection

    connect = Database._connect
    monkeypatch.setattr(Database, "_connect", watched)
    with closing(Database(path)) as database:
        assert database.read.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert len(looks) >= statement


def test_created_by_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited while another process created the database finds nothing left to do."""
    path = tmp_path / "state.db"
    refuse = Database._refuse_others

    def overtaken(database: Database) -> int:
        version = refuse(database)
        monkeypatch.setattr(Database, "_refuse_others", refuse)
        Database(path).close()
        monkeypatch.setattr("belugawf.local.file.migrations.migrate", None)
        return version

    monkeypatch.setattr(Database, "_refuse_others", overtaken)
    database = Database(path)
    assert new_run(Store(database, SystemClock()))
    database.close()


def test_what_an_attempt_reported_may_be_lost(store: Store) -> None:
    """It is no history: where a hand has edited it, the next attempt begins without it."""
    run = new_run(store)
    store.save_heartbeats([(run, 1, '"half"')])
    assert store.heartbeat(run, 1) == "half"
    with store.database.write() as db:
        db.execute("UPDATE heartbeats SET details = '{'")
    assert store.heartbeat(run, 1) is None


# -- claims by turns -------------------------------------------------------------------------------


def nobody_s(store: Store) -> int:
    """A run that nobody owns, with one event and one message."""
    run = new_run(store)
    store.abandon([run], OWNER)
    store.send(run, "signal", name="go", payload="true")
    return run


def claiming(run: int, *events: e.Event, **options: Any) -> Turn:
    return turn(run, *events, length=1, read_to=1, claimed_at=5_000, **options)


def test_a_turn_claims_a_run_that_is_nobody_s(store: Store) -> None:
    """With its events; and its owner goes on with it."""
    run = nobody_s(store)
    made = claiming(run, waits(2))
    store.commit([made], OWNER)
    assert made.outcome is AppendOutcome.COMMITTED
    row = store.by_key(run)
    assert (row.owner, row.owned_since, row.history_length) == (OWNER, 5_000, 2)
    over = e.WorkflowCompleted(position=3, time=0, payload="1")
    store.commit([again := turn(run, over, length=2)], OWNER)
    assert again.outcome is AppendOutcome.RELEASED


def test_a_turn_that_rests_leaves_its_run_nobody_s(store: Store) -> None:
    """No owner is ever written."""
    run = nobody_s(store)
    made = claiming(run, waits(2), release=True)
    store.commit([made], OWNER)
    assert made.outcome is AppendOutcome.RELEASED
    assert (store.by_key(run).owner, store.by_key(run).history_length) == (None, 2)


def test_a_turn_claims_a_run_whose_live_row_is_lost(store: Store) -> None:
    """`live` may be lost."""
    run = nobody_s(store)
    with store.database.write() as db:
        db.execute("DELETE FROM live")
    store.commit([made := claiming(run, waits(2))], OWNER)
    assert made.outcome is AppendOutcome.COMMITTED
    assert store.by_key(run).owner == OWNER


def test_a_turn_does_not_claim_in_a_file_that_is_gone(store: Store) -> None:
    """However lately the names of files were compared; and that is no fault of the run."""
    # FINDINGS O4
    run = nobody_s(store)
    store.database.path.rename(store.database.path.with_name("moved.db"))
    made = claiming(run, waits(2))
    with pytest.raises(DisplacedError):
        store.commit([made], OWNER)
    assert made.outcome is AppendOutcome.UNWRITTEN
    assert store.database.writer.execute("SELECT count(*) FROM events").fetchone() == (1,)


@pytest.mark.parametrize("meanwhile", ["claimed", "claimed by us", "moved on", "ended"])
def test_a_turn_that_claims_too_late_writes_nothing(store: Store, meanwhile: str) -> None:
    """Somebody has been faster: it is theirs, or not as it was."""
    run = nobody_s(store)
    if meanwhile == "claimed":
        store.claim({run: None}, "1" * 32)
    elif meanwhile == "claimed by us":
        store.claim({run: None}, OWNER)  # by a commit that seemed to fail: the disk is asked first
    elif meanwhile == "moved on":
        store.commit([turn(run, waits(2), length=1, claimed_at=1, release=True)], "1" * 32)
    else:
        store.terminate(run, None, None)
    before = store.by_key(run)
    store.commit([made := claiming(run, waits(2))], OWNER)
    assert made.outcome is AppendOutcome.FENCED
    assert store.by_key(run) == before


@pytest.mark.parametrize(
    ("now", "is_had"),
    [
        ({}, True),
        ({"owner": OWNER}, True),
        ({"owner": "1" * 32}, False),
        ({"history_length": 2}, False),
        ({"status": "completed"}, False),
    ],
)
def test_a_run_to_be_claimed_is_had_as_it_was_seen(
    store: Store, now: dict[str, Any], is_had: bool
) -> None:
    """Else the time up to which its limits are applied was not asked for under the lock."""
    row = store.by_key(nobody_s(store))
    run = OwnedRun(row=row, claimed_at=0, idle_wait_ns=0, interrupted=None, claims=True)
    assert run.is_had(replace(row, **now), OWNER) is is_had


def test_a_late_refusal_ends_no_run_that_somebody_else_drives(store: Store) -> None:
    """Its time is over, and it was claimed since it was looked at; or its owner is dead."""
    run, late = new_run(store, timeout_ns=1), {"code": "workflow_missing", "message": "no module"}
    store.refuse({run: (late, 1)}, "1" * 32, is_free=lambda row: row.owner != OWNER)
    assert store.by_key(run).status == "running"
    store.refuse({run: (late, 1)}, "1" * 32, is_free=lambda row: True)
    assert store.by_key(run).status == "timed_out"
