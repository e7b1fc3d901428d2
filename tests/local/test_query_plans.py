"""How SQLite finds what is asked: no statement reads all runs, or sorts them, to find a few.

Every statement of the store, of the short looks and of pruning is caught as it is run, and SQLite
says how it would answer. Without statistics that depends on the schema alone, not on how much
there is. Each index of the schema is dropped in turn to see that the check finds that out.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from belugawf.executor import STATES, TypedRun
from belugawf.host.clock import SystemClock
from belugawf.local.file.database import Database
from belugawf.local.file.writer import Writer
from belugawf.local.store.loglines import NewLines
from belugawf.local.store.probe import LocalProbe
from belugawf.local.store.pruning import Pruner, Selection
from belugawf.local.store.selecting import Doing
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.errors import UnavailableError
from tests.local.test_store import OWNER, new_run, turn, waits

SCHEMA = Path(__file__).parents[2] / "belugawf" / "local" / "file" / "schema.sql"
# Only keeps a second open run of an id out; nothing is looked for in it.
CONSTRAINTS = {"runs_open"}
INDEXES = sorted(
    set(re.findall(r"CREATE (?:UNIQUE )?INDEX (\w+)", SCHEMA.read_text())) - CONSTRAINTS
)

# What each run has, by the names and short names that statements use; `owners` is always small.
LARGE = r"(runs|events|waits|inbox|labels|live|heartbeats|message_keys|logs|r|w|i|l|p|n|e|z)"


class Caught:
    """A store whose statements are caught."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.statements: dict[str, None] = {}
        for connection in (store.database.writer, store.database.read):
            connection.set_trace_callback(self._catch)

    def _catch(self, statement: str) -> None:
        if statement.split(None, 1)[0] in ("SELECT", "WITH", "UPDATE", "DELETE", "INSERT"):
            self.statements.setdefault(statement)

    def complaints(self) -> list[tuple[str, str]]:
        """The slow steps, with their statements."""
        for connection in (self.store.database.writer, self.store.database.read):
            connection.set_trace_callback(None)
        return [
            (statement, step)
            for statement in self.statements
            for step in self._plan(statement)
            if is_slow(step, statement)
        ]

    def _plan(self, statement: str) -> list[str]:
        plan = self.store.database.read.execute(f"EXPLAIN QUERY PLAN {statement}")
        return [row[3] for row in plan]


def is_slow(step: str, statement: str) -> bool:
    """Whether a step reads or sorts what grows with the number of runs."""
    if "TEMP B-TREE FOR DISTINCT" in step and walks(statement):
        return False  # what was seen before it ends at the limit
    if "TEMP B-TREE" in step:
        return not sorts_few(statement)
    if re.match(r"SEARCH (runs|r) USING INDEX runs_by_status \(status=\?\)$", step):
        # All that are open, unless the newest of them are asked for.
        return not walks(statement)
    if not re.match(rf"SCAN {LARGE}\b", step):
        return False
    if re.match(rf"SCAN {LARGE} USING COVERING INDEX", step) and "count(*)" in statement:
        return False
    return not walks(statement)


def walks(statement: str) -> bool:
    """Whether it follows one order and ends at a limit, or at the first row that there is."""
    return bool(re.search(r"LIMIT \d+|EXISTS \(SELECT 1 FROM inbox\)", statement))


def sorts_few(statement: str) -> bool:
    """Whether what is sorted is bounded by what the caller names: runs, or one run's waits."""
    return bool(re.search(r"json_each\('\[|w\.run = \d+", statement))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store on a new file."""
    database = Database(tmp_path / "state.db")
    yield Store(database, SystemClock())
    database.close()


def use(store: Store) -> Caught:
    """Everything that is asked of a store, and everything that is done to it."""
    caught = Caught(store)
    run, other = new_run(store, labels={"team": "red"}), new_run(store, "b")
    store.candidates(now=1, limit=10, excluding=[run], owners=[OWNER])
    store.candidates(now=1, limit=10, workflow="flow")
    store.candidates(now=1, limit=10, among=[run, other])
    store.next_due(1)
    store.mail([run])
    store.ended([run])
    for text in ("a", "some-name", "@latest"):
        store.find(text)
        store.find(TypedRun(text))
    store.recent_ids()
    narrowings: list[tuple[str, object]] = [
        ("status", "running"), ("workflow", "flow"), ("labels", {"team": "red"}), ("since", 0),
        ("until", 2**62), ("awaiting", "go"),
        *(("doing", Doing(state, 1, [OWNER])) for state in STATES),
    ]  # fmt: skip
    for first in narrowings:
        for second in narrowings:
            both = dict([first, second])
            store.runs(**both, limit=20)  # type: ignore[arg-type]
            store.count_runs(**both, limit=20)  # type: ignore[arg-type]
    store.states(1, [OWNER])
    store.runs(limit=20)
    store.runs(status="failed", workflow="none", limit=20)
    store.counts()
    store.waits(limit=20)
    store.waits(signal="go", limit=20)
    store.waits(since=0, limit=20)
    store.waits(run=run)
    store.waits(run=run, signal="go")
    store.count_waits()
    store.unread_signals(run)
    store.runs_awaiting("go", 1)
    store.awaited_signals()
    store.by_keys([run])
    store.history(run)
    store.history(run, 1, limit=5)
    store.heartbeat(run, 1)
    row = store.by_key(run)
    store.logs(row)
    store.logs(row, level="info", activity="act", after=1, limit=5)
    store.owner(OWNER)

    store.send(run, "signal", name="go", payload="1", key="k")
    store.read_inbox([run], locked=False)
    store.mail([run])
    lines = NewLines([(run, 0, 20, "x", None, None, None, "m")] * 3, 2, 1)
    store.commit([turn(run, waits())], OWNER, lines=lines)
    store.keep_lines(lines)
    store.save_heartbeats([(run, 1, "1")])
    store.refuse({run: ({"code": "x"}, 1)}, OWNER, is_free=lambda row: False)
    store.claim({run: None}, OWNER)
    store.abandon([other], OWNER)
    store.unregister(OWNER, [run])
    store.forget_dead([OWNER])
    store.runs_awaiting("go", 1)
    store.terminate(run, None, None)
    store.claim({other: None}, OWNER)
    store.commit([turn(other, e.WorkflowCompleted(position=2, time=0, payload="1"))], OWNER)
    pruner = Pruner(store.database, Selection(before=2**62), Writer(store.database))
    assert pruner.count().runs == 2
    asyncio.run(pruner.prune())
    return caught


def test_found_through_an_index(store: Store) -> None:
    """Nothing scans or sorts what grows with the number of runs, but for what is counted."""
    caught = use(store)
    assert len(caught.statements) > 80
    assert caught.complaints() == []


@pytest.mark.parametrize("index", INDEXES)
def test_every_index_is_needed(store: Store, index: str) -> None:
    """Without it some statement is slow, or refused because it names it."""
    with store.database.write() as db:
        db.execute(f"DROP INDEX {index}")
    try:
        complaints = use(store).complaints()
    except (sqlite3.Error, UnavailableError) as error:
        complaints = [("", str(error))]
    assert complaints, index


def test_short_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """So do the looks for cron and the shell, on connections of their own."""
    new_run(store)
    statements: list[str] = []
    connect = sqlite3.connect

    def connected(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connected)
    probe, settings = LocalProbe(), SimpleNamespace(db=store.database.path)
    probe.nothing_due(settings, 1)
    assert probe.run_ids(settings, "a") == ["a"]
    assert probe.run_ids(settings, "a", only_open=True) == ["a"]
    probe.awaited_signals(settings)
    asked = [text for text in statements if text.startswith(("SELECT", "WITH"))]
    assert len(asked) == 5
    for statement in asked:
        plan = store.database.read.execute(f"EXPLAIN QUERY PLAN {statement}")
        assert [row[3] for row in plan if is_slow(row[3], statement)] == [], statement
