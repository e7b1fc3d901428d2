"""Pruning: what goes, what stays, and who is not harmed by it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from belugawf import BusyError, RunNotFoundError, UsageError, WorkflowContext, workflow
from belugawf.executor import Pruned
from belugawf.host.clock import SystemClock
from belugawf.local.executor import LocalExecutor
from belugawf.local.file.database import Database
from belugawf.local.file.writer import Writer
from belugawf.local.store import pieces
from belugawf.local.store.pruning import Pruner, Selection
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.durations import datetime_ns, to_micros
from tests.local.processes import Child
from tests.local.test_store import OWNER, new_run, turn, waits

OLD, NEW = (datetime_ns(datetime(2020, month, 1, tzinfo=UTC)) for month in (1, 2))
BETWEEN = datetime_ns(datetime(2020, 1, 15, tzinfo=UTC))
# Every table in which a run leaves rows.
TABLES = ("runs", "events", "waits", "inbox", "message_keys", "labels", "live", "heartbeats")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store on a new file."""
    database = Database(tmp_path / "state.db")
    yield Store(database, SystemClock())
    database.close()


def ended_run(store: Store, name: str, at: int, status: str = "completed", **more: Any) -> int:
    """A run with a label, a message with a key and a wait behind it, that ended at that moment."""
    run = new_run(store, name, labels={"team": "red"}, **more)
    store.send(run, "signal", name="go", payload="1", key="k")
    store.save_heartbeats([(run, 1, "1")])
    store.commit([turn(run, waits())], OWNER)
    store.terminate(run, None, None)
    store.free_ended([run], OWNER)
    with store.database.write() as db:
        db.execute(
            "UPDATE runs SET created_at = ?, closed_at = ?, status = ? WHERE key = ?",
            (to_micros(at), to_micros(at), status, run),
        )
    return run


def pruner_of(store: Store, before: int = BETWEEN, **chosen: Any) -> Pruner:
    return Pruner(store.database, Selection(before=before, **chosen), Writer(store.database))


def prune(store: Store, before: int = BETWEEN, **chosen: Any) -> Pruned:
    return asyncio.run(pruner_of(store, before, **chosen).prune())


def left(store: Store) -> dict[str, int]:
    """How many rows each table has, where it has any."""
    with store.database.reading() as db:
        rows = {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in TABLES}
    return {table: count for table, count in rows.items() if count}


def test_nothing_is_left_of_it(store: Store) -> None:
    """Rows of a pruned run stay in no table, and the space is free."""
    for number in range(50):
        ended_run(store, f"run-{number}", OLD)
    size, free = store.database.sizes()
    pruned = prune(store)
    assert (pruned.runs, pruned.events, pruned.dry_run) == (50, 200, False)
    assert left(store) == {}
    assert pruned.file_bytes == size
    assert pruned.free_bytes > free


def test_what_stays(store: Store) -> None:
    """Open runs, younger ones, and those of another status or workflow."""
    keys = {
        "old": ended_run(store, "old", OLD),
        "young": ended_run(store, "young", NEW),
        "failed": ended_run(store, "failed", OLD, "failed"),
        "other": ended_run(store, "other", OLD, workflow="other"),
        "long": ended_run(store, "long", NEW),
        "open": new_run(store, "open"),
    }
    with store.database.write() as db:
        for name in ("open", "long"):
            db.execute("UPDATE runs SET created_at = ? WHERE key = ?", (to_micros(OLD), keys[name]))

    def stored() -> set[str]:
        found = {row.key for row in store.by_keys(keys.values())}
        return {name for name, key in keys.items() if key in found}

    counted = pruner_of(store).count()
    assert (counted.runs, counted.dry_run) == (3, True)
    assert stored() == set(keys)
    assert prune(store, status="failed").runs == 1
    assert stored() == set(keys) - {"failed"}
    assert prune(store, workflow="other").runs == 1
    assert stored() == {"old", "young", "long", "open"}
    assert prune(store).runs == 1
    assert stored() == {"young", "long", "open"}
    assert prune(store, before=datetime_ns(datetime(9000, 1, 1, tzinfo=UTC))).runs == 2
    assert stored() == {"open"}


def test_message_keys_go_with_the_last_run_of_a_chain(store: Store) -> None:
    """As long as a run of the chain is stored, a key is not taken twice."""
    first, last = ended_run(store, "a", OLD), ended_run(store, "b", NEW)
    with store.database.write() as db:
        chain = store.by_key(first).chain_id
        db.execute("UPDATE runs SET chain_id = ? WHERE key = ?", (chain, last))
    assert prune(store).runs == 1
    assert left(store)["message_keys"] == 2  # one of them is what `b` had as a chain of its own
    assert prune(store, before=datetime_ns(datetime(9000, 1, 1, tzinfo=UTC))).runs == 1
    with store.database.reading() as db:
        assert db.execute(
            "SELECT count(*) FROM message_keys WHERE chain_id = ?", (chain,)
        ).fetchone() == (0,)


def test_keys_are_not_used_again(store: Store) -> None:
    """Who still knows a pruned run by its key finds no other one."""
    run = ended_run(store, "a", OLD)
    prune(store)
    assert new_run(store, "b") > run
    with pytest.raises(RunNotFoundError, match="pruned"):
        store.by_key(run)
    assert store.ended([run]) == [run]
    assert store.by_keys([run]) == []


def test_others_write_in_between(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction deletes for a bounded time, however much there is; then others write."""
    monkeypatch.setattr(pieces, "_HOLD_S", 0.0)
    runs = [ended_run(store, f"run-{number}", OLD) for number in range(20)]
    beside = Store(Database(store.database.path), SystemClock())
    seen: list[int] = []

    async def both() -> Pruned:
        pruner = asyncio.create_task(pruner_of(store).prune())
        while not pruner.done():
            await asyncio.to_thread(new_run, beside, f"new-{len(seen)}")
            seen.append(len(beside.by_keys(runs)))
        return await pruner

    assert asyncio.run(both()).runs == 20
    assert len({count for count in seen if 0 < count < 20}) > 3
    beside.database.close()


def test_two_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that prune the same count each run once between them."""
    monkeypatch.setattr(pieces, "_HOLD_S", 0.0)
    for number in range(30):
        ended_run(store, f"run-{number}", OLD)
    beside = Store(Database(store.database.path), SystemClock())
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: counts.append(prune(one).runs))  # type: ignore[misc]
        for one in (store, beside)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 30
    assert left(store) == {}
    beside.database.close()


PRUNER = """
    import asyncio, sys
    from pathlib import Path
    from belugawf.local.store import pieces, pruning
    from belugawf.local.file.database import Database
    from belugawf.local.file.writer import Writer

    pieces._HOLD_S = 0.0
    database = Database(Path(sys.argv[1]))
    selection = pruning.Selection(before=int(sys.argv[2]))
    asyncio.run(pruning.Pruner(database, selection, Writer(database)).prune())
"""


@pytest.mark.parametrize("step", [1, 2, 8, 9])
def test_killed_in_the_middle(store: Store, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """kill -9 before or after a commit leaves each run whole, or nothing of it."""
    runs = [ended_run(store, f"run-{number}", OLD) for number in range(10)]
    monkeypatch.setenv("BELUGAWF_TEST_KILL_AT", str(step))
    with Child(PRUNER, store.database.path, BETWEEN) as child:
        assert child.process.wait(timeout=60) == -9
    there = store.by_keys(runs)
    assert len(there) == 10 - step // 2
    for row in there:
        assert [event.position for event in store.history(row.key)] == [1, 2, 3, 4]
    with store.database.reading() as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert left(store) == {"runs": len(there), "events": 4 * len(there)} | {
        table: len(there) for table in ("labels", "message_keys")
    }
    assert prune(store).runs == len(there)
    assert left(store) == {}


@workflow
async def ending(ctx: WorkflowContext) -> None:
    pass


@workflow
async def waiting(ctx: WorkflowContext) -> str:
    return str((await ctx.wait_for_signal("go")).payload)


async def test_beside_runs_that_are_driven(tmp_path: Path) -> None:
    """What has ended is pruned at once; what is driven or followed meanwhile goes on."""
    db = tmp_path / "state.db"
    async with LocalExecutor(db, [waiting]) as executor:
        ended = await executor.execute(waiting, id="ended")
        await executor.signal("ended", "go", 1)
        assert await ended.result() == "1"
        handle = await executor.execute(waiting, id="open")
        await executor.wait("open", until="waiting")
        async with LocalExecutor(db) as beside:
            pruned = await beside.prune(older_than=0)
            assert pruned.runs == 1
            with pytest.raises(RunNotFoundError):
                await beside.describe("ended")
            with pytest.raises(BusyError, match="at work"):
                await beside.prune(older_than=0, vacuum=True)
        with pytest.raises(RunNotFoundError):
            await executor.describe(ended.run_id)
        await executor.signal("open", "go", 2)
        assert await handle.result() == "2"


async def test_driven_elsewhere_ended_and_pruned(tmp_path: Path) -> None:
    """A run that others ended and pruned while we drive it is dropped, and the rest goes on."""
    db = tmp_path / "state.db"
    async with LocalExecutor(db, [waiting]) as executor, LocalExecutor(db) as beside:
        await executor.execute(waiting, id="one")
        await executor.wait("one", until="waiting")
        one = executor._resolve("one")
        await beside.terminate("one")
        assert (await beside.prune(older_than=0)).runs == 1
        (await executor._driving.begun()).want(one.key, 1)
        handle = await executor.execute(waiting, id="two")
        await executor.signal("two", "go", 2)
        assert await handle.result() == "2"
        assert (await executor._driving.begun()).table.standing(one.key) != "driven"
        with pytest.raises(RunNotFoundError):
            await executor.wait(one.run_id)


async def test_vacuum(tmp_path: Path) -> None:
    """The file becomes smaller, and stays the same database."""
    store = Store(Database(tmp_path / "state.db"), SystemClock())
    for number in range(300):
        ended_run(store, f"run-{number}", OLD)
    kept = new_run(store, "kept")
    before = store.database.sizes()[0]
    store.database.close()
    async with LocalExecutor(tmp_path / "state.db") as executor:
        pruned = await executor.prune(older_than="1d", vacuum=True)
        assert pruned.runs == 300
        assert pruned.file_bytes < before // 2
        assert pruned.free_bytes == 0
        assert (tmp_path / "state.db").stat().st_size == pruned.file_bytes
        row = executor._resolve("kept")
        assert row.key == kept
        assert isinstance(executor._store.history(kept)[0], e.WorkflowStarted)


@pytest.mark.parametrize(
    ("status", "message"),
    [("running", "an open run is never pruned"), ("complete", "there is no status")],
)
async def test_status_must_be_of_ended_runs(tmp_path: Path, status: str, message: str) -> None:
    """Open runs cannot be asked for, nor can what does not exist."""
    async with LocalExecutor(tmp_path / "state.db") as executor:
        with pytest.raises(UsageError, match=message):
            await executor.prune(older_than="1d", status=status)


@pytest.mark.parametrize("vacuum", [False, True])
async def test_pruning_waits_for_no_lock_on_the_event_loop(tmp_path: Path, vacuum: bool) -> None:
    """While another process writes, what runs beside it in the program goes on."""
    # FINDINGS E2
    db = tmp_path / "state.db"
    async with LocalExecutor(db, [ending]) as executor, asyncio.timeout(20):
        if not vacuum:
            await (await executor.execute(ending)).result()
        other = Database(db)
        with other.write():
            pruning = asyncio.create_task(executor.prune(older_than="0s", vacuum=vacuum))
            began = time.monotonic()
            await asyncio.sleep(0.2)
            assert not pruning.done()
            assert time.monotonic() - began < 2
        other.close()
        assert (await pruning).runs == (not vacuum)


def test_filters(store: Store) -> None:
    """By labels, all of them, and by when they began: from one moment on, and before another."""
    old, new = ended_run(store, "a", OLD), ended_run(store, "b", NEW)

    def count(**chosen: Any) -> int:
        return pruner_of(store, 2**62, **chosen).count().runs

    assert count(labels={"team": "red"}) == 2
    assert count(labels={"team": "blue"}) == count(labels={"team": "red", "more": "x"}) == 0
    assert (count(since=OLD), count(since=NEW), count(since=NEW + 1_000)) == (2, 1, 0)
    assert (count(until=OLD), count(until=NEW), count(until=NEW + 1_000)) == (0, 1, 2)
    assert prune(store, 2**62, until=NEW).runs == 1
    assert [row.key for row in store.by_keys([old, new])] == [new]
