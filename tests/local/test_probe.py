"""What Python callers can ask of a provider without an executor, as the command line does."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

from belugawf import WorkflowContext, new_executor, workflow
from belugawf.probe import FAIL, OK, Probe, probe_of


@workflow
async def asking(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("approval")


async def test_answers_of_the_local_provider(tmp_path: Path) -> None:
    """Nothing is stored, nor created by asking; then ids and signals are found, nothing is due."""
    probe, settings = probe_of("default"), SimpleNamespace(db=tmp_path / "state.db")
    assert probe.nothing_stored(settings)
    assert probe.nothing_due(settings, 0)
    assert list(probe.run_ids(settings, "")) == list(probe.awaited_signals(settings)) == []
    assert list(tmp_path.iterdir()) == []
    async with new_executor(db=settings.db, workflows=[asking]) as executor:
        run = await executor.execute(asking, id="one")
        await executor.wait(run.id, until="waiting")
        await executor.execute(asking, id="other", detach=True)
    assert not probe.nothing_stored(settings)
    assert probe.nothing_due(settings, 0)
    assert not probe.nothing_due(settings, 2**62)
    assert list(probe.run_ids(settings, "o")) == ["other", "one"]
    assert list(probe.run_ids(settings, "ot")) == ["other"]
    assert list(probe.awaited_signals(settings)) == ["approval"]


async def test_checks_of_the_local_provider(tmp_path: Path) -> None:
    """A sound database is all OK, a damaged one FAIL; the journal mode is looked at afterwards."""
    probe, settings = probe_of("default"), SimpleNamespace(db=tmp_path / "state.db")
    assert probe.system().state == OK
    async with new_executor(db=settings.db):
        pass
    # Some versions of SQLite have a fault: see tests/local/test_wal.py.
    found = [finding for finding in probe.checks(settings) if finding.check != "sqlite"]
    assert [finding.check for finding in found] == [
        *("file system", "disk", "permissions", "database"),
    ]
    assert {finding.state for finding in found} == {OK}
    assert list(probe.checks_in_use(settings)) == []
    with sqlite3.connect(settings.db) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    assert [finding.check for finding in probe.checks_in_use(settings)] == ["journal"]
    settings.db.write_bytes(b"no database at all" * 100)
    assert [f.check for f in probe.checks(settings) if f.state == FAIL] == ["database"]
    assert not probe.nothing_due(settings, 0), "a command that opens it says why"


def test_nothing_is_known_of_other_providers(tmp_path: Path) -> None:
    """There, runs may be stored and due; no name is offered, and nothing is checked."""
    settings = SimpleNamespace(db=tmp_path / "state.db")
    for name in ("temporal", "nobody's"):
        probe = probe_of(name)
        assert type(probe) is Probe
        assert not probe.nothing_stored(settings)
        assert not probe.nothing_due(settings, 0)
        assert not [*probe.run_ids(settings, ""), *probe.awaited_signals(settings)]
        assert not [*probe.checks(settings), *probe.checks_in_use(settings)]
