"""Record: `python -m tests.histories record NAME [NAME...]`, or `database` for today's schema.

A NAME is one of `scenarios.SCENARIOS`. What is there already is not recorded anew.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from belugawf.local.file.database import APPLICATION_ID, SCHEMA_VERSION, Database
from belugawf.local.store.store import Store
from belugawf.model import events as e
from tests.histories.scenarios import SCENARIOS, Place, drive

HERE = Path(__file__).parent
# Runs of the kept databases: ended and open ones, with mail, heartbeats and labels.
IN_DATABASES = ("waits-open", "retry-open", "signals-open", "retries", "cancelled-with-cleanup")


def record(name: str, place: Path) -> None:
    """Record the history of one scenario as a new file, one row of it a line."""
    file = HERE / "recorded" / f"{name}.json"
    if file.exists():
        raise SystemExit(f"{file} is kept as it is; give the new one another name")
    workflow, _, scenario = SCENARIOS[name]
    recording = Place(place / "state.db")
    asyncio.run(scenario(recording))
    with closing(Database(recording.db)) as database:
        store = Store(database, recording.clock)
        (row,) = store.find(workflow)
        rows = [json.dumps(e.to_row(event)) for event in store.history(row.key)]
    file.write_text(_anywhere("[\n" + ",\n".join(rows) + "\n]\n"))
    print(file)


def record_database(place: Path) -> None:
    """Keep a database of today's schema, as SQL that any SQLite reads."""
    file = HERE / "databases" / f"schema-{SCHEMA_VERSION}.sql"
    if file.exists():
        raise SystemExit(f"{file} is kept as it is")
    recording = Place(place / "state.db")

    async def fill() -> None:
        for name in IN_DATABASES:
            await SCENARIOS[name][2](recording)
        async with recording.open() as executor:
            await executor.execute("waits", id="labelled", labels={"team": "a"}, detach=True)
            await executor.signal("waits", "a", True, drive=False)

    asyncio.run(fill())
    with closing(sqlite3.connect(recording.db)) as db:
        db.execute(
            "INSERT INTO heartbeats SELECT key, 1, '{\"page\": 7}', created_at FROM runs "
            "WHERE workflow_id = 'waits_for_its_retry'"
        )
        lines = [
            f"PRAGMA application_id = {APPLICATION_ID};",
            f"PRAGMA user_version = {SCHEMA_VERSION};",
            *db.iterdump(),
        ]
    file.write_text(_anywhere("\n".join(lines) + "\n"))
    print(file)


def _anywhere(text: str) -> str:
    """Without the place of this clone, which stands in tracebacks."""
    return text.replace(f"{HERE.parents[1]}/", "")


def main() -> None:
    """See the module's docstring."""
    match sys.argv[1:]:
        case ["record", *names] if names and all(name in SCENARIOS for name in names):
            for name in names:
                with tempfile.TemporaryDirectory() as place:
                    record(name, Path(place))
        case ["database"]:
            with tempfile.TemporaryDirectory() as place:
                record_database(Path(place))
        case ["drive", name, db]:
            asyncio.run(drive(Place(Path(db)), name))
        case _:
            raise SystemExit(f"{__doc__}\nNames: {', '.join(SCENARIOS)}")


if __name__ == "__main__":
    main()
