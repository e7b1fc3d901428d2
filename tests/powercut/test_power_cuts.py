"""What a power cut leaves, `python -m tests.powercut` in small; and that it would find a mistake.

docs/reliability.md says what is assumed of the disk and what is promised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from belugawf.local.executor import LocalExecutor
from belugawf.local.file import database
from tests.powercut.__main__ import record
from tests.powercut.campaign import Campaign, Cut, Report
from tests.powercut.record import Entry, Mark, SyncStarted, without_syncs, write_record
from tests.powercut.workload import Durability

SEED = 7

Recorded = Callable[[Durability], list[Entry]]


def cut_power(
    entries: list[Entry],
    durability: Durability,
    folder: Path,
    *,
    count: int = 100,
    resume_every: int = 10**9,
) -> Report:
    return Campaign(entries, durability, folder / "state").run(
        count, SEED, resume_every=resume_every
    )


def expect_no_failure(
    report: Report, entries: list[Entry], durability: Durability, tmp_path: Path
) -> None:
    """Nothing failed; otherwise the record is kept and the message says how to see it again."""
    if not report.failures:
        return
    kept = tmp_path / "powercut.record"
    write_record(entries, kept)
    cut, reason = report.failures[0]
    pytest.fail(
        f"{report}\n{reason}\npython -m tests.powercut --record {kept} --durability {durability} "
        f"--seed {cut.seed} --point {cut.point} --number {cut.number} --keep FOLDER"
    )


# -- the promises --------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_power_cuts(
    recorded: Recorded, durability: Durability, folder: Path, tmp_path: Path
) -> None:
    """`full` loses nothing acknowledged, `normal` only the last of it; neither corrupts."""
    entries = recorded(durability)
    report = cut_power(entries, durability, folder, count=300, resume_every=100)
    expect_no_failure(report, entries, durability, tmp_path)
    assert report.distinct > 100
    assert report.resumed > 0
    assert (report.forgone > 0) == (durability == "normal")


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_power_cuts_during_recovery(
    recorded: Recorded, durability: Durability, folder: Path, tmp_path: Path
) -> None:
    """What has survived one power cut survives the next, which comes while runs are resumed."""
    first = Campaign(recorded(durability), durability, folder / "state")
    entries = first.second_life(Cut(SEED, len(recorded(durability)) // 2, 0))
    report = cut_power(entries, durability, folder)
    expect_no_failure(report, entries, durability, tmp_path)


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_drive_caches(
    recorded: Recorded, durability: Durability, folder: Path, tmp_path: Path
) -> None:
    """The drive itself is told to write, not only the system: on macOS that must be asked for."""
    entries = without_syncs(recorded(durability), lambda sync: not sync.full)
    report = cut_power(entries, durability, folder)
    expect_no_failure(report, entries, durability, tmp_path)


def test_everything_is_acknowledged(recorded: Recorded) -> None:
    """The workload has every kind of acknowledgement, and the log was started over."""
    entries = recorded("full")
    kinds = {entry.kind for entry in entries if isinstance(entry, Mark)}
    assert kinds == {
        *("started", "signalled", "cancelled", "terminated", "completed"),
        *("begun", "told", "seen", "settling", "settled"),
    }


# -- would it find a mistake? --------------------------------------------------------------------


def test_a_disk_that_ignores_syncs_is_found(recorded: Recorded, folder: Path) -> None:
    """Without syncs, acknowledged operations are lost and databases torn."""
    report = cut_power(without_syncs(recorded("full")), "full", folder)
    assert report.lost > 0
    assert report.corrupt > 0


@pytest.mark.parametrize("suffix", ["-wal", ".db"])
def test_an_unsynced_checkpoint_is_found(recorded: Recorded, suffix: str, folder: Path) -> None:
    """`normal` syncs little; each of the two files must be synced for its checkpoints."""
    entries = without_syncs(recorded("normal"), lambda sync: sync.name.endswith(suffix))
    assert cut_power(entries, "normal", folder).corrupt > 0


def test_an_unsynced_folder_is_found(recorded: Recorded, folder: Path) -> None:
    """The name of the database's folder is in the one above, which must be synced too."""
    entries = without_syncs(recorded("full"), lambda sync: sync.name == "")
    assert cut_power(entries, "full", folder).lost > 0


def test_synchronous_off_is_found(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A database that never syncs, under the real workload."""
    connect = database.Database._connect

    def careless(self: database.Database) -> Any:
        connection = connect(self)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr(database.Database, "_connect", careless)
    report = cut_power(record(folder, "full"), "full", folder)
    assert report.lost > 0
    assert report.corrupt > 0


def test_a_hasty_acknowledgement_is_found(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A signal that is acknowledged a moment before it is committed."""
    signal = LocalExecutor.signal
    sending: set[asyncio.Task[Any]] = set()

    async def hasty(self: LocalExecutor, *arguments: Any, **options: Any) -> Any:
        async def later() -> None:
            await asyncio.sleep(0)
            await signal(self, *arguments, **options)

        sending.add(asyncio.create_task(later()))

    monkeypatch.setattr(LocalExecutor, "signal", hasty)
    report = cut_power(record(folder, "full"), "full", folder, count=200)
    assert report.lost > 0
    assert report.corrupt == 0


def test_a_failure_can_be_repeated(recorded: Recorded, folder: Path) -> None:
    """The numbers that are printed with a failure lead to the same one."""
    entries = without_syncs(recorded("full"))
    report = cut_power(entries, "full", folder)
    again = Campaign(entries, "full", folder / "state")
    cut, reason = report.failures[0]
    assert again.check(cut).failures == [(cut, reason)]
    assert again.state(cut) == again.state(cut)


def test_syncs_are_recorded(recorded: Recorded) -> None:
    """Both files and all folders above them, down from the recorded one, are synced."""
    synced = {entry.name for entry in recorded("full") if isinstance(entry, SyncStarted)}
    assert {"", ".belugawf", ".belugawf/state.db", ".belugawf/state.db-wal"} <= synced
