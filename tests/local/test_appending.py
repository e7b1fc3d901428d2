"""What the store remembers of its runs, and what makes it forget: see `store/appending.py`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from belugawf.executor.info import NewRun
from belugawf.host.clock import SystemClock
from belugawf.local.file.database import Database
from belugawf.local.store.appending import Appending, Known
from belugawf.local.store.rows import AppendOutcome, Start
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.errors import BelugaError
from tests.local.test_store import OWNER, new_run, turn

OTHER_PROCESS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    db.execute(statement)
"""
A_NOTE = "INSERT INTO labels (name, value, run) VALUES ('x', hex(randomblob(8)), 1)"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store on a new file."""
    database = Database(tmp_path / "state.db")
    yield Store(database, SystemClock())
    database.close()


def timer(position: int) -> e.TimerStarted:
    return e.TimerStarted(
        position=position, time=0, seq=position, delay=timedelta(hours=1), due_at=10**18
    )


class Steps:
    """Turns of one run, one after the other, of one event each."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.run = new_run(store)
        self.length = 1
        self.statements: list[str] = []
        store.database.writer.set_trace_callback(self.statements.append)
        self.step()  # after which the run is known

    def step(self) -> AppendOutcome:
        made = turn(self.run, timer(self.length + 1), length=self.length, moves=False)
        self.statements.clear()
        self.store.commit([made], OWNER)
        if made.outcome is AppendOutcome.COMMITTED:
            self.length += 1
        return made.outcome

    @property
    def asked(self) -> bool:
        """Whether the last turn asked the database whether its run is still ours."""
        return any("FROM runs r LEFT JOIN live l" in statement for statement in self.statements)


def by_connection(*statements: str) -> Callable[[Store], None]:
    """By another connection of this process."""

    def act(store: Store) -> None:
        with closing(sqlite3.connect(store.database.path, isolation_level=None)) as db:
            for statement in statements:
                db.execute(statement)

    return act


def by_process(*statements: str) -> Callable[[Store], None]:
    """By another process."""

    def act(store: Store) -> None:
        command = [sys.executable, "-c", OTHER_PROCESS, str(store.database.path), *statements]
        subprocess.run(command, check=True)

    return act


def after_a_log_reset(store: Store) -> None:
    """The log is started anew by us, and another process writes its first frames."""
    store.database.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    by_process(A_NOTE)(store)


def by_a_failing_commit(store: Store) -> None:
    """It may be on disk, whatever was reported."""
    with suppress(BelugaError), store.database.write():
        raise sqlite3.OperationalError("disk I/O error")


FORGETTING: dict[str, Callable[[Store], None]] = {
    "a commit of another connection of this process": by_connection(A_NOTE),
    "a commit of another process": by_process(A_NOTE),
    "a commit after the log was started anew": after_a_log_reset,
    "a commit after another's checkpoint": by_process("PRAGMA wal_checkpoint(TRUNCATE)", A_NOTE),
    "a vacuum by another process": by_process("VACUUM"),
    "a change of the schema by another tool": by_process("CREATE TABLE mine (x)"),
    "a message sent by this process": lambda store: store.send(1, "signal", name="go") and None,
    "another transaction of this process": lambda store: store.forget_dead([]),
    "a transaction that failed": by_a_failing_commit,
    "another owner's turns": lambda store: store.commit([turn(1, timer(9))], "1" * 32) and None,
}
KEEPING: dict[str, Callable[[Store], None]] = {
    "nothing": lambda store: None,
    "a look": lambda store: store.counts() and None,
    "a look of another process": by_process("SELECT count(*) FROM runs"),
    "what another has taken back": by_process("BEGIN IMMEDIATE", A_NOTE, "ROLLBACK"),
    "our own checkpoint": lambda store: (
        store.database.writer.execute("PRAGMA wal_checkpoint(PASSIVE)") and None
    ),
}


@pytest.mark.parametrize("event", FORGETTING)
def test_what_makes_it_forget(store: Store, event: str) -> None:
    """The next turn asks once more, and is written; the one after that need not ask."""
    steps = Steps(store)
    assert steps.step() is AppendOutcome.COMMITTED
    assert not steps.asked
    FORGETTING[event](store)
    assert steps.step() is AppendOutcome.COMMITTED
    assert steps.asked
    assert steps.step() is AppendOutcome.COMMITTED
    # But for a message that is still unread: over that no run may end, so it is always asked.
    assert steps.asked is (event == "a message sent by this process")


@pytest.mark.parametrize("event", KEEPING)
def test_what_does_not(store: Store, event: str) -> None:
    """A turn of a known run takes four statements, a transaction's own included."""
    steps = Steps(store)
    KEEPING[event](store)
    assert steps.step() is AppendOutcome.COMMITTED
    assert [statement.split()[0] for statement in steps.statements] == [
        "BEGIN", "PRAGMA", "INSERT", "COMMIT",
    ]  # fmt: skip


def test_a_commit_in_between(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another commits between our COMMIT and our next statement is not taken for known."""
    steps = Steps(store)
    committed = Appending.committed

    def others_first(appending: Appending) -> None:
        by_connection(A_NOTE)(store)
        committed(appending)

    with monkeypatch.context() as patched:
        patched.setattr(Appending, "committed", others_first)
        steps.step()
    steps.step()
    assert steps.asked


def test_a_wrong_belief_appends_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it forgot nothing, the place of an event that another has taken would refuse ours."""
    steps = Steps(store)
    monkeypatch.setattr(Known, "at", _believing)
    with closing(Database(store.database.path)) as other:
        Store(other, SystemClock()).terminate(steps.run, "enough", None)
    ended = store.history(steps.run)
    assert steps.step() is AppendOutcome.FENCED
    assert store.history(steps.run) == ended


def _believing(known: Known, now: tuple[str, int, int]) -> dict[int, int]:
    """`Known.at`, which forgets nothing the first time."""
    lengths = dict(known._lengths)
    known._lengths = {}
    return lengths


def test_turns_without_events_ask(store: Store) -> None:
    """They have no place in the history that could refuse them."""
    steps = Steps(store)
    steps.statements.clear()
    store.commit([turn(steps.run, length=steps.length, release=True)], OWNER)
    assert steps.asked


def test_a_run_is_known_from_its_birth(store: Store) -> None:
    """It was created by our commit, so its next turn need not ask; one by another way must."""
    steps = Steps(store)
    for ours in (True, False):
        new = NewRun(
            run_id=f"r-{ours}", workflow_id=f"w-{ours}", workflow="flow", input=None,
            timeout_ns=None, labels={}, python="3", belugawf="0",
        )  # fmt: skip
        if ours:
            ((row, _),) = store.commit([], OWNER, [Start(new, "fail")])  # type: ignore[misc]
        else:
            row, _ = store.create(new, "fail", OWNER)
        steps.statements.clear()
        store.commit([turn(row.key, timer(2))], OWNER)
        assert steps.asked is not ours


def test_a_run_that_is_replaced_is_known_no_more(store: Store) -> None:
    """Not by the transaction that ends it."""
    steps = Steps(store)
    new = NewRun(
        run_id="r2", workflow_id="a", workflow="flow", input=None,
        timeout_ns=None, labels={}, python="3", belugawf="0",
    )  # fmt: skip
    store.commit([], OWNER, [Start(new, "replace")])
    assert steps.step() is AppendOutcome.FENCED
    assert steps.asked
