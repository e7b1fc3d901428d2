"""From one schema to the next: under a lock, once, wholly or not at all, with a copy kept."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from belugawf.host.clock import SystemClock
from belugawf.local.executor import LocalExecutor
from belugawf.local.file import database, migrations
from belugawf.local.file.database import SCHEMA_VERSION, Database
from belugawf.local.file.migrations import copy_name
from belugawf.local.file.ownership import OwnerLock
from belugawf.local.store.probe import LocalProbe
from belugawf.local.store.store import Store
from belugawf.model.errors import BusyError, UnavailableError
from belugawf.model.history import OpenWork
from tests.histories.test_databases import restore

NEXT = SCHEMA_VERSION + 1

# A next belugawf, whose schema has a column more and every run's name in capitals.
NEXT_BELUGAWF = """
    import os, signal, sys
    from pathlib import Path
    from belugawf.local.file import database, migrations

    database.SCHEMA_VERSION += 1

    @migrations.migrations()
    def m999_fictitious(db):
        db.execute("ALTER TABLE runs ADD COLUMN colour TEXT")
        if os.environ.get("DIE") == "in the middle":
            os.kill(os.getpid(), signal.SIGKILL)
        db.execute("UPDATE runs SET colour = 'blue'")
        db["inks"].insert({"name": "blue"})
        print("migrated", flush=True)

    database.Database(Path(sys.argv[1])).close()
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A database of the present schema."""
    path = tmp_path / "state.db"
    restore(SCHEMA_VERSION, path)
    return path


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has the next schema."""
    monkeypatch.setattr(database, "SCHEMA_VERSION", NEXT)
    known = list(migrations.migrations._migrations)

    @migrations.migrations()
    def m999_fictitious(db: object) -> None:
        db.execute("ALTER TABLE runs ADD COLUMN colour TEXT")  # type: ignore[attr-defined]

    yield
    migrations.migrations._migrations[:] = known


def start(db: Path, **env: str) -> subprocess.Popen[str]:
    """Open it with the next belugawf, in a process."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(NEXT_BELUGAWF), str(db)],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def dump(db: Path) -> list[str]:
    """All that is in it, with its version."""
    with closing(sqlite3.connect(db)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [str(version), *connection.iterdump()]


def test_a_copy_is_kept(db: Path, upgraded: None) -> None:
    """The new schema; the old one beside it under a name that says so, private and whole."""
    before = dump(db)
    Database(db).close()
    after = dump(db)
    assert after[0] == str(NEXT)
    assert any("colour" in line for line in after)
    copy = copy_name(db, SCHEMA_VERSION)
    assert copy.name == f"state.db.schema-{SCHEMA_VERSION}.backup"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert dump(copy) == before
    assert sorted(path.name for path in db.parent.iterdir()) == [
        "state.db",
        "state.db-locks",
        copy.name,
    ]


def test_the_copy_is_a_way_back(db: Path, upgraded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older belugawf refuses the new file, and opens the copy."""
    Database(db).close()
    monkeypatch.setattr(database, "SCHEMA_VERSION", SCHEMA_VERSION)
    with pytest.raises(UnavailableError, match="newer belugawf"):
        Database(db)
    shutil.copy(copy_name(db, SCHEMA_VERSION), db)
    Database(db).close()


def test_a_new_database_has_no_copy(tmp_path: Path) -> None:
    """There is nothing to keep."""
    Database(tmp_path / "new.db").close()
    assert not list(tmp_path.glob("*.backup*"))


def test_two_processes_migrate_once(db: Path) -> None:
    """Opened at once by several processes, it is migrated by one of them."""
    processes = [start(db) for _ in range(3)]
    told = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    assert "".join(out for out, _ in told) == "migrated\n"
    assert dump(db)[0] == str(NEXT)


# Where it is killed, and whether the new schema is there afterwards.
STEPS = {"in the middle": False, "copy kept": False, "before migrated": False}


@pytest.mark.parametrize("step", STEPS)
def test_killed_on_the_way(db: Path, step: str, tmp_path: Path) -> None:
    """kill -9 at any step leaves the old schema as it was; the next one migrates."""
    before = dump(db)
    log = tmp_path / "steps"
    if step == "in the middle":
        killed = start(db, DIE=step)
    else:
        probe = tmp_path / "probe" / "state.db"
        probe.parent.mkdir()
        shutil.copy(db, probe)
        start(probe, BELUGAWF_TEST_KILL_LOG=str(log)).communicate(timeout=60)
        numbers = dict(line.split(" ", 1)[::-1] for line in log.read_text().splitlines())
        killed = start(db, BELUGAWF_TEST_KILL_AT=numbers[step])
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert dump(db) == before
    # What the killed one has copied is whole, or has no name yet.
    assert dump(copy_name(db, SCHEMA_VERSION)) == before
    again = start(db)
    assert again.communicate(timeout=60)[0] == "migrated\n"
    assert dump(db)[0] == str(NEXT)
    assert dump(copy_name(db, SCHEMA_VERSION)) == before


def test_a_migration_that_fails(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error leaves the old schema, with nothing half done."""
    before = dump(db)
    monkeypatch.setattr(database, "SCHEMA_VERSION", NEXT)
    known = list(migrations.migrations._migrations)

    @migrations.migrations()
    def m999_fictitious(db: object) -> None:
        db.execute("ALTER TABLE runs ADD COLUMN colour TEXT")  # type: ignore[attr-defined]
        db.execute("INSERT INTO no_such VALUES (1)")  # type: ignore[attr-defined]

    try:
        with pytest.raises(UnavailableError, match="no such table: no_such"):
            Database(db)
    finally:
        migrations.migrations._migrations[:] = known
    assert dump(db) == before


def test_a_live_process_of_the_old_schema(db: Path, upgraded: None) -> None:
    """While a process from before the upgrade works on it, it is not changed under its hands."""
    before = dump(db)
    folder = db.with_name("state.db-locks")
    folder.mkdir(mode=0o700)
    with OwnerLock.acquire(folder) as lock, closing(sqlite3.connect(db)) as connection:
        connection.execute(
            "INSERT INTO owners VALUES (?, 4711, 'h', 'b', 7, NULL, 'worker', '[]')",
            (lock.id,),
        )
        connection.commit()
        with pytest.raises(BusyError, match="process 4711 still works") as caught:
            Database(db)
        assert caught.value.hint is not None
        assert not copy_name(db, SCHEMA_VERSION).exists()
        connection.execute("DELETE FROM owners WHERE id = ?", (lock.id,))
        connection.commit()
    assert dump(db) == before
    Database(db).close()
    assert dump(db)[0] == str(NEXT)


# -- from the first schema to the second ---------------------------------------------------------


def first(path: Path, *statements: str) -> Path:
    """A database of the first schema, in which somebody has done that."""
    restore(1, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def asked(path: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_an_older_file_is_never_idle(tmp_path: Path) -> None:
    """Cron's short look, which opens no database, finds that there is something to do."""
    probe, settings = LocalProbe(), SimpleNamespace(db=first(tmp_path / "state.db"))
    assert not probe.nothing_due(settings, 0)
    Database(settings.db).close()
    with closing(sqlite3.connect(settings.db, isolation_level=None)) as connection:
        connection.execute("DELETE FROM inbox")
    assert probe.nothing_due(settings, 0)
    assert not probe.nothing_due(settings, 2**62)


def test_a_migrated_file_is_as_a_new_one(tmp_path: Path) -> None:
    """It has the same tables, indexes and views, and nothing that refers to nothing."""
    old, new = first(tmp_path / "old.db"), tmp_path / "new.db"
    for path in (old, new):
        Database(path).close()
    schema = "SELECT type, name, replace(sql, '\"', '') FROM sqlite_schema ORDER BY name"
    assert asked(old, schema) == asked(new, schema)
    assert asked(old, "PRAGMA foreign_key_check") == []
    assert asked(old, "PRAGMA integrity_check") == [("ok",)]


def test_keys_go_on_after_a_migration(tmp_path: Path) -> None:
    """Those of runs that were pruned are not given again, even of all."""
    numbers = "INSERT INTO sqlite_sequence VALUES ('runs', 107)"
    path = first(tmp_path / "a.db", numbers)
    before = asked(path, "SELECT name, seq FROM sqlite_sequence ORDER BY name")
    Database(path).close()
    assert asked(path, "SELECT name, seq FROM sqlite_sequence ORDER BY name") == before
    empty = first(tmp_path / "b.db", numbers, "PRAGMA foreign_keys = ON", "DELETE FROM runs")
    Database(empty).close()
    assert ("runs", 107) in asked(empty, "SELECT name, seq FROM sqlite_sequence")


def test_views_show_the_same(tmp_path: Path) -> None:
    """Names, times and states are the texts that they were."""
    path = first(tmp_path / "state.db")
    shown = {
        "runs_view": "workflow_id, status, waiting_for, created_at, updated_at, closed_at, "
        "deadline, due_at, history_length, progress",
        "waiting_view": "workflow_id, signal, prompt, expected, since, until",
        "events_view": "workflow_id, position, type, time, seq, name, payload",
        "activities_view": "workflow_id, seq, activity, state, attempts, scheduled_at, ended_at",
    }
    questions = [f"SELECT {columns} FROM {view} ORDER BY 1, 2" for view, columns in shown.items()]
    before = [asked(path, question) for question in questions]
    Database(path).close()
    assert [asked(path, question) for question in questions] == before
    assert all(before)


def test_what_a_person_added(tmp_path: Path) -> None:
    """Indexes, triggers and views on our tables are there again."""
    path = first(
        tmp_path / "state.db",
        "CREATE INDEX mine ON events (name)",
        "CREATE TABLE log (text)",
        "CREATE TRIGGER told AFTER INSERT ON events BEGIN INSERT INTO log VALUES (new.type); END",
        "CREATE VIEW my_view AS SELECT workflow_id, created_at FROM runs",
    )
    Database(path).close()
    found = asked(path, "SELECT name FROM sqlite_schema WHERE name IN ('mine', 'told', 'my_view')")
    assert {name for (name,) in found} == {"mine", "told", "my_view"}
    assert asked(path, "SELECT count(*) FROM my_view") == asked(path, "SELECT count(*) FROM runs")


async def test_what_was_damaged_stays_so(tmp_path: Path) -> None:
    """A time that cannot be read is none afterwards either: said of its run, and of no other."""
    path = first(
        tmp_path / "state.db",
        "UPDATE events SET time = 'x' WHERE run = 1 AND position = 2",
        "UPDATE events SET data = '{' WHERE run = 2 AND position = 2",
        "UPDATE runs SET due_at = 'soon' WHERE key = 3",
    )
    async with LocalExecutor(path, []) as executor:
        runs = await executor.list(limit=None)
        damaged = {i.workflow_id for i in runs if i.problem and i.problem.code == "damaged"}
        names = [row.workflow_id for row in executor._store.by_keys([1, 3])]
    assert damaged >= set(names)
    assert len(damaged) < len(runs)


def test_long_histories_are_looked_at_quickly(tmp_path: Path) -> None:
    """What an open run with a long history has open is stored by the migration."""
    steps = "WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n LIMIT 200) "
    path = first(
        tmp_path / "state.db",
        "DELETE FROM events WHERE run = 1 AND position > 3",
        f"{steps} INSERT INTO events (run, position, type, time, seq, name, payload) "
        "SELECT 1, 2 + 2 * k, 'ActivityScheduled', '2026-11-01T00:00:00.000000Z', 100 + k, 'x', "
        "'[]' FROM n",
        f"{steps} INSERT INTO events (run, position, type, time, seq, payload, data) "
        "SELECT 1, 3 + 2 * k, 'ActivityCompleted', '2026-11-01T00:00:00.000000Z', 100 + k, '1', "
        """'{"at":"2026-11-01T00:00:00.000000Z"}' FROM n""",
    )
    with closing(Database(path)) as opened:
        store = Store(opened, SystemClock())
        ((told,),) = asked(path, "SELECT open_at FROM live WHERE run = 1")
        assert told == 403
        whole = OpenWork.of(store.history(1))
        assert store.open_work(1)[0].to_json() == whole.to_json()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE events SET time = CAST(x'3230ad' AS TEXT) WHERE run = 1 AND position = 2",
        "UPDATE events SET data = '{\"at\": 5}' WHERE run = 1 AND position = 2",
        'UPDATE events SET data = \'{"at": true, "started_at": [1]}\' WHERE run = 1',
        "UPDATE events SET payload = CAST(x'22e922' AS TEXT) WHERE run = 1 AND position = 2",
        "UPDATE waits SET since = CAST(x'e9' AS TEXT)",
        "INSERT INTO message_keys VALUES ('c', 'k', CAST(x'e9' AS TEXT))",
        "INSERT INTO heartbeats VALUES (1, 1, '1', 'x')",
    ],
)
async def test_damage_keeps_no_other_run_out(tmp_path: Path, damage: str) -> None:
    """Whatever one row holds, the file is migrated, and the other runs are driven on."""
    path = first(tmp_path / "state.db", damage)
    async with LocalExecutor(path, []) as executor:
        row = executor._store.by_key(2)
        assert (await executor.describe(row.workflow_id)).history_length > 1
    assert asked(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]


def test_names_that_a_person_chose(tmp_path: Path) -> None:
    """An archive of their own, or a name with a quote in it, is in nobody's way."""
    path = first(
        tmp_path / "state.db",
        "CREATE TABLE old_runs AS SELECT * FROM runs",
        "CREATE VIEW old_events AS SELECT * FROM events",
        'CREATE TRIGGER "my""own" AFTER INSERT ON runs BEGIN SELECT 1; END',
        "ALTER TABLE runs ADD COLUMN note TEXT DEFAULT 'none'",
        "UPDATE runs SET note = 'mine' WHERE key = 1",
        "CREATE UNIQUE INDEX noted ON runs (note, key)",
    )
    Database(path).close()
    found = "SELECT name FROM sqlite_schema WHERE name IN ('old_runs', 'my\"own', 'noted')"
    assert len(asked(path, found)) == 3
    assert asked(path, "SELECT note FROM runs WHERE key < 3") == [("mine",), ("none",)]


def test_what_cannot_be_kept_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A trigger that names a column that is gone would keep every write out."""
    path = first(
        tmp_path / "state.db",
        "CREATE TABLE log (text)",
        "CREATE TRIGGER longer AFTER UPDATE OF history_length ON runs "
        "BEGIN INSERT INTO log VALUES (new.updated_at); END",
        "CREATE TRIGGER later AFTER UPDATE ON runs WHEN new.updated_at > old.updated_at "
        "BEGIN INSERT INTO log VALUES (1); END",
        "CREATE INDEX by_length ON runs (history_length)",
    )
    with closing(Database(path)) as opened:
        store = Store(opened, SystemClock())
        store.send(store.find("waits")[0].key, "signal", name="a", payload="1")
    for what in ("trigger later", "index by_length"):  # the other one never fires any more
        assert f"the {what} that was added to the table runs could not be kept" in caplog.text
