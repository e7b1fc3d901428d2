"""What killed processes leave, and files that are changed or taken away under those that live."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from belugawf import WorkflowContext, new_executor, workflow
from belugawf.local.file import places as module
from belugawf.local.file.database import Database
from belugawf.local.file.places import FRESH_S, Places, identity_of
from belugawf.model.errors import DisplacedError
from tests.conformance.harness import Project, wait_for


def left(project: Project) -> tuple[list[str], int]:
    """The files beside the database, and the number of processes that it knows."""
    folder = project.db.parent / "state.db-locks"
    paths = folder.iterdir()
    names = sorted(path.name if path.suffix == ".lock" else path.suffix for path in paths)
    return names, project.query_db("SELECT count(*) FROM owners")[0][0]


# -- FINDINGS O2: rows, locks and sockets of killed processes --------------------------------------


def test_killed_processes_leave_nothing_for_ever(project: Project) -> None:
    """Whoever drives next sweeps what processes left that were killed while they owned nothing:
    their rows, locks and sockets. What owns a run, or lives, stays."""
    project.cli("run", "asking", "--id", "a")
    workers = [project.start("worker") for _ in range(3)]
    wait_for(lambda: left(project)[1] == 3, process=workers[0])
    living = project.start("worker")
    wait_for(lambda: left(project)[1] == 4, process=living)
    for worker in workers:
        worker.kill()
    # A file without a row is what a process leaves that dies before it registers.
    (project.db.parent / "state.db-locks" / f"{'0' * 32}.owner").touch()
    assert left(project)[0].count(".owner") == 5
    project.cli("resume")  # idle: cron pays nothing for it
    assert left(project)[1] == 4
    project.cli("run", "simple", "--id", "b")
    names, rows = left(project)
    assert rows == 1
    assert [name for name in names if name != ".sock"] == [".owner", "write.lock"]
    living.kill()
    project.cli("run", "simple", "--id", "c")
    assert left(project) == (["write.lock"], 0)


HOLDING = """
    @activity
    def hold() -> None:
        note("hold")
        pass_gate("go")


    @workflow
    async def holding(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(hold)
"""


def test_a_dead_owner_of_runs_is_remembered(project: Project) -> None:
    """The row of a dead process that owns a run stays until the run is taken over: it says how the
    process died."""
    project.write_module("holding", HOLDING)
    first = project.start("run", "holding", "--id", "h")
    wait_for(lambda: project.count("hold") == 1, process=first)
    first.kill()
    project.cli("run", "simple", "--id", "b")
    assert left(project)[1] == 1
    project.open_gate("go")
    project.cli("resume", "h")
    (interrupted,) = project.events("h", "AttemptInterrupted")
    assert interrupted["reason"] == "crash"
    assert left(project) == (["write.lock"], 0)


# -- FINDINGS O3: another journal mode -------------------------------------------------------------


def journal_mode(project: Project) -> str:
    with contextlib.closing(sqlite3.connect(project.db)) as db:
        return str(db.execute("PRAGMA journal_mode").fetchone()[0])


def set_journal_mode(project: Project, mode: str) -> None:
    with contextlib.closing(sqlite3.connect(project.db)) as db:
        assert db.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist"])
@pytest.mark.parametrize(
    "command", ["status", "signal approval a --text on", "run simple", "doctor"]
)
def test_another_journal_mode_is_put_right(project: Project, mode: str, command: str) -> None:
    """Whoever opens the database next switches back to WAL."""
    project.cli("run", "asking", "--id", "a")
    set_journal_mode(project, mode)
    project.cli(*command.split())
    assert journal_mode(project) == "wal"


def test_a_journal_mode_that_cannot_be_put_right(project: Project) -> None:
    """While another program reads, looking works all the same, and soon; `doctor` says it. Once
    that program has ended, the next command puts it right."""
    project.cli("run", "asking", "--id", "a")
    set_journal_mode(project, "delete")
    with contextlib.closing(sqlite3.connect(project.db, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM runs").fetchone()
        began = time.monotonic()
        assert project.status("a")["status"] == "running"
        assert time.monotonic() - began < 15
        checks = {check["check"]: check for check in project.cli("doctor", "--json").json["checks"]}
        assert checks["journal"]["state"] == "WARN"
        assert "delete" in checks["journal"]["message"]
    checks = project.cli("doctor", "--json").json["checks"]
    assert "journal" not in [check["check"] for check in checks]
    assert journal_mode(project) == "wal"


# -- FINDINGS O4: files that are taken away --------------------------------------------------------


@workflow
async def asking(ctx: WorkflowContext) -> Any:
    return (await ctx.wait_for_signal("go")).payload


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    with database.write() as db:
        db.execute("CREATE TABLE kept (x)")
    yield database
    database.places.forget(database.path)
    database.close()


def take_away(path: Path, how: str) -> None:
    """Remove a file, or put another one, or a copy, in its place."""
    if how == "moved":
        path.rename(path.with_name("moved"))
    elif how == "copied over":
        shutil.copy2(path, path.with_name("copy"))
        path.with_name("copy").rename(path)
    else:
        path.unlink()
        if how == "made anew":
            path.touch()


@pytest.mark.parametrize("how", ["removed", "moved", "made anew", "copied over"])
def test_a_database_that_was_taken_away(database: Database, how: str) -> None:
    """Nothing more is written or read, in the old file or the new one, and it is said which."""
    other = sqlite3.connect(database.path)
    assert other.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    take_away(database.path, how)
    time.sleep(FRESH_S)  # an earlier comparison is good for so long
    for _ in range(2):
        sentence = r"state\.db.* removed or replaced"
        with pytest.raises(DisplacedError, match=sentence), database.write() as db:
            db.execute("INSERT INTO kept VALUES (1)")
        with pytest.raises(DisplacedError), database.reading():
            pass
    assert other.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert not database.writer.in_transaction
    assert database.lock.try_acquire()  # and nobody waits for us
    database.lock.release()
    other.close()


def test_a_database_that_was_put_back(database: Database) -> None:
    """The same file under its name again is as good as before."""
    elsewhere = database.path.with_name("elsewhere")
    database.path.rename(elsewhere)
    time.sleep(FRESH_S)
    with pytest.raises(DisplacedError), database.write():
        pass
    elsewhere.rename(database.path)
    with database.write() as db:
        db.execute("INSERT INTO kept VALUES (1)")


def test_locks_whose_folder_was_removed(database: Database) -> None:
    """Without the folder no lock can be made, and nothing is written."""
    shutil.rmtree(database.folder)
    database.lock.close()
    with pytest.raises(DisplacedError), database.write():
        pass


def test_comparisons_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a tenth of a second one comparison is enough, unless it is asked for at once."""
    (tmp_path / "file").touch()
    places = Places()
    places.keep(tmp_path / "file", "the file")
    places.check()
    looked: list[str] = []
    now = time.monotonic()

    def look(name: str) -> tuple[int, int] | None:
        looked.append(name)
        return identity_of(name)

    monkeypatch.setattr(module, "identity_of", look)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    places.check(at_once=True)
    for _ in range(10):
        places.check()
    assert len(looked) == 1
    now += 2 * FRESH_S
    places.check()
    assert len(looked) == 2


async def test_claims_are_always_compared(tmp_path: Path) -> None:
    """A process whose lock was removed claims nothing, however short ago it was compared."""
    async with new_executor(db=tmp_path / "state.db", workflows=[asking]) as executor:
        handle = await executor.execute(asking, id="a", detach=True)
        await executor.resume("a")  # it has a lock now
        store, presence = executor._store, executor._driving.presence  # type: ignore[attr-defined]
        row = store.find("a")[0]
        assert row.owner is None
        (lock,) = (tmp_path / "state.db-locks").glob("*.owner")
        store.database.places.check(at_once=True)
        lock.unlink()
        with pytest.raises(DisplacedError, match=lock.name):
            store.claim({row.key: None}, presence.id)
        assert store.find("a")[0].owner is None
        assert await handle.status() == "running"


async def test_who_has_lost_its_lock_lets_go_of_what_it_has(tmp_path: Path) -> None:
    """Leaving the executor works; its runs go on elsewhere."""
    async with new_executor(db=tmp_path / "state.db", workflows=[asking]) as executor:
        await executor.execute(asking, id="a")
        await executor.wait("a", until="waiting")
        for lock in (tmp_path / "state.db-locks").glob("*.owner"):
            lock.unlink()
    async with (
        asyncio.timeout(60),
        new_executor(db=tmp_path / "state.db", workflows=[asking]) as executor,
    ):
        await executor.signal("a", "go", 1)
        assert await executor.handle("a").result() == 1


def test_a_worker_without_its_lock_takes_nothing(project: Project) -> None:
    """Others take it for dead, so it starts and records nothing more, and says why."""
    project.cli("run", "asking", "--id", "first")
    worker = project.start("worker")
    wait_for(lambda: left(project)[1] == 1, process=worker)
    (lock,) = (project.db.parent / "state.db-locks").glob("*.owner")
    lock.unlink()
    project.cli("run", "simple", "--id", "a", "-d")
    wait_for(lambda: "was removed or replaced" in worker.err, process=worker)
    assert project.status("a")["owner"] is None
    assert len(project.history("a")) == 1
    worker.kill()
    project.cli("resume")
    assert project.result("a") == "it is done"
