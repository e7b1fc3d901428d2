"""The recorder sees everything that SQLite does to a database's files."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import pytest

from tests.powercut.disk import Disk, everything
from tests.powercut.record import Create, Delete, SyncEnded, SyncStarted, Write, read_record
from tests.powercut.vfs import Unavailable, recording


@pytest.fixture(autouse=True)
def can_record(tmp_path: Path) -> None:
    """Skips where SQLite cannot be recorded."""
    try:
        with recording(tmp_path, tmp_path / "unused.log"):
            pass
    except Unavailable as error:
        pytest.skip(str(error))


def replayed(log: Path) -> dict[str, bytes | None]:
    """What the record says is in the files."""
    disk = Disk()
    for entry in read_record(log):
        disk.feed(entry)
    return dict(disk.after(everything, random.Random(0)))


@pytest.mark.parametrize("mode", ["WAL", "DELETE", "TRUNCATE", "PERSIST"])
def test_record_and_files_agree(tmp_path: Path, mode: str) -> None:
    """Carrying out the record gives the very files, in every journal mode, at every commit."""
    folder, log = tmp_path / "recorded", tmp_path / "log"
    folder.mkdir()
    with recording(folder, log):
        connection = sqlite3.connect(folder / "a.db", isolation_level=None)
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE t (x)")
        for number in range(8):
            connection.execute("INSERT INTO t VALUES (randomblob(3000))")
            if number % 4 == 3:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.execute("DELETE FROM t")
            files = {
                path.name: path.read_bytes()
                for path in _copies(folder, tmp_path)
                if not path.name.endswith("-shm")
            }
            assert replayed(log) == files
        connection.close()
    assert replayed(log).keys() == {path.name for path in folder.iterdir()}


def _copies(folder: Path, tmp_path: Path) -> list[Path]:
    """Copies made by another process: opening a file here would drop SQLite's locks on it."""
    copies = tmp_path / "copies"
    os.spawnlp(os.P_WAIT, "rm", "rm", "-rf", str(copies))
    os.spawnlp(os.P_WAIT, "cp", "cp", "-r", str(folder), str(copies))
    return sorted(copies.iterdir())


def test_syncs_end_after_they_started(tmp_path: Path) -> None:
    """A commit syncs the log before it returns, and a new log's folder."""
    folder, log = tmp_path / "recorded", tmp_path / "log"
    folder.mkdir()
    with recording(folder, log) as recorder:
        connection = sqlite3.connect(folder / "a.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        recorder.mark("created")
        connection.close()
    entries = read_record(log)
    started = {e.ticket: e.name for e in entries if isinstance(e, SyncStarted)}
    ended = [started[e.ticket] for e in entries if isinstance(e, SyncEnded)]
    assert {"", "a.db", "a.db-wal", "a.db-journal"} == set(ended)
    names = [e.name for e in entries if isinstance(e, Create | Delete)]
    assert names == ["a.db", "a.db-journal", "a.db-journal", "a.db-wal", "a.db-wal"]


def test_only_the_folder_is_recorded(tmp_path: Path) -> None:
    """Other databases, temporary ones and those in memory are not."""
    folder, log = tmp_path / "recorded", tmp_path / "log"
    folder.mkdir()
    with recording(folder, log):
        for place in (tmp_path / "recorded-not.db", ":memory:", ""):
            connection = sqlite3.connect(place)
            connection.execute("CREATE TABLE t (x)")
            connection.close()
    assert read_record(log) == []


def test_nothing_is_recorded_afterwards(tmp_path: Path) -> None:
    """The standard VFS is the default again."""
    log = tmp_path / "log"
    with recording(tmp_path, log):
        pass
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    (tmp_path / "folder").mkdir()
    assert read_record(log) == []


def test_another_library_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A libsqlite3 that the module `sqlite3` does not use would record nothing, and is refused."""

    def unknown(*arguments: object, **options: object) -> None:
        raise sqlite3.OperationalError("no such vfs: recording")

    monkeypatch.setattr(sqlite3, "connect", unknown)
    with pytest.raises(Unavailable, match="needs a sqlite3 module"):  # noqa: SIM117
        with recording(tmp_path, tmp_path / "log"):
            pass


def test_a_record_that_fails_is_an_error(tmp_path: Path) -> None:
    """What cannot be recorded does not happen: SQLite reports an I/O error."""
    with recording(tmp_path, tmp_path / "log") as recorder:
        connection = sqlite3.connect(tmp_path / "a.db")
        readonly = os.open(os.devnull, os.O_RDONLY)
        kept = os.dup(recorder._descriptor)
        os.dup2(readonly, recorder._descriptor)
        with pytest.raises(sqlite3.OperationalError, match=r"disk I/O error|unable to open"):
            connection.execute("CREATE TABLE t (x)")
        os.dup2(kept, recorder._descriptor)
        connection.close()
        os.close(kept)
        os.close(readonly)
    assert not [entry for entry in read_record(tmp_path / "log") if isinstance(entry, Write)]
