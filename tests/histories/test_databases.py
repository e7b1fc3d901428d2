"""Databases of every schema that there was: today's code opens them, and drives their runs on."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from belugawf import Signal
from belugawf.local.file.database import APPLICATION_ID, SCHEMA_VERSION
from belugawf.local.file.migrations import copy_name, migrations
from belugawf.model.soundness import check_history
from tests.histories.scenarios import Place

DATABASES = Path(__file__).parent / "databases"
VERSIONS = range(1, SCHEMA_VERSION + 1)


def restore(version: int, db: Path) -> None:
    """Make the database that was kept of that schema, as belugawf has it on disk."""
    with closing(sqlite3.connect(db)) as connection:
        connection.executescript((DATABASES / f"schema-{version}.sql").read_text())
        connection.execute("PRAGMA journal_mode = WAL")
        found = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        ]
    assert found == [APPLICATION_ID, version]


def test_every_schema_is_kept() -> None:
    """One file for each version, and a migration for each."""
    assert {path.name for path in DATABASES.iterdir()} == {
        f"schema-{version}.sql" for version in VERSIONS
    }
    assert len(migrations._migrations) == SCHEMA_VERSION


@pytest.mark.parametrize("version", VERSIONS)
def test_kept_databases(version: int, tmp_path: Path) -> None:
    """Each run is there with its history; open ones go on to their end; nothing runs again."""
    place = Place(tmp_path / "state.db")
    restore(version, place.db)

    async def use() -> dict[str, Any]:
        async with place.open() as executor:
            before = await executor.list(limit=None)
            for info in before:
                check_history(await executor.history(info.run_id))
            counts = {info.workflow_id: info.status for info in before}
            assert counts == {
                "waits": "running",
                "waits_for_its_retry": "running",
                "signals": "running",
                "retries": "completed",
                "cleans_up": "cancelled",
                "labelled": "running",
            }
            assert [i.workflow_id for i in await executor.list(labels={"team": "a"})] == [
                "labelled"
            ]
            # Long after: what was due while nothing ran is due now.
            place.skip("400d")
            yes = Signal("a", {"yes": True, "note": "n"})
            for signal in (yes, Signal("b", 2), Signal("c", "last")):
                await executor.signal("signals", signal, drive=False)
            await executor.signal("waits", "b", drive=False)
            await executor.terminate("labelled")
            await executor.resume(patience=1)
            return {i.workflow_id: (i.status, i.result) for i in await executor.list(limit=None)}

    ended = asyncio.run(use())
    assert ended == {
        "waits": ("completed", "True"),
        "waits_for_its_retry": ("completed", 2),
        "signals": ("completed", ["n", 2, "last", "nobody"]),
        "retries": ("completed", ended["retries"][1]),
        "cleans_up": ("cancelled", None),
        "labelled": ("terminated", None),
    }
    assert copy_name(place.db, version).exists() == (version < SCHEMA_VERSION)
