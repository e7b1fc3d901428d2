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

import pytest

from belugawf.local.file import database, migrations
from belugawf.local.file.database import SCHEMA_VERSION, Database
from belugawf.local.file.migrations import copy_name
from belugawf.local.file.ownership import OwnerLock
from belugawf.model.errors import BusyError, UnavailableError
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
