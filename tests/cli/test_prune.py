"""prune: what it asks, deletes and says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.cli.conftest import Cli, MakeTerminal
from tests.cli.fake import FakeExecutor, run_info


@pytest.fixture
def stored(cli: Cli) -> Cli:
    """One open run, one that completed and one that failed."""
    cli.executor = FakeExecutor(
        run_info("open"), run_info("done", status="completed"), run_info("bad", status="failed")
    )
    return cli


def test_prune(stored: Cli) -> None:
    """Ended runs go; stderr says how many, and what became of their space."""
    done = stored("prune", "--older-than", "30d", "--yes")
    assert (done.code, done.out) == (0, "")
    assert done.err == (
        "pruned 2 runs with 2 events; 81.9 kB of the file's 2 MB are free for new runs "
        "(--vacuum makes it smaller)\n"
    )
    assert stored.executor.calls == [("prune", {"older_than": timedelta(days=30), "vacuum": False})]
    assert [info.workflow_id for info in stored.executor.runs.values()] == ["open"]


def test_status_is_checked_before_there_is_a_database(cli: Cli) -> None:
    """A mistake in a cron line is told on the first night, not once something has been stored."""
    cli.settings.db.unlink()
    done = cli("prune", "--older-than", "30d", "--status", "complete", "--json")
    assert (done.code, done.error["message"]) == (2, "there is no status 'complete'")
    assert cli("prune", "--older-than", "30d", "--status", "completed").code == 0


def test_json_and_vacuum(stored: Cli) -> None:
    """One document with the numbers."""
    done = stored("prune", "--older-than", "12h", "--status", "failed", "--vacuum", "--json")
    assert done.json == {
        "schema": "belugawf.prune/1",
        "pruned": 1,
        "events": 1,
        "dry_run": False,
        "file_bytes": 2_000_000,
        "free_bytes": 81_920,
    }
    assert stored.executor.calls[0][1]["vacuum"] is True
    again = stored("prune", "--older-than", "12h", "--vacuum")
    assert again.err == "pruned 1 run with 1 events; the file has 2 MB now\n"


def test_dry_run(stored: Cli) -> None:
    """Nothing is deleted, and nobody is asked."""
    done = stored("prune", "--older-than", "30d", "--dry-run")
    assert done.err == "2 runs would be pruned, with 2 events\n"
    assert len(stored.executor.runs) == 3
    assert stored("prune", "--older-than", "30d", "--dry-run", "--json").json["dry_run"] is True


def test_age_is_required(stored: Cli) -> None:
    """No age is taken for granted."""
    assert stored("prune", "--yes", "--json").error["exit_code"] == 2
    assert "--older-than 30d" in stored("prune").err
    assert "--older-than" in stored("prune", "--older-than", "30").err
    assert len(stored.executor.runs) == 3


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked(
    stored: Cli, terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    """On terminals, with the number of runs; --yes answers."""
    asked: list[str] = []

    def confirm(text: str, **options: object) -> bool:
        asked.append(text)
        return answer

    monkeypatch.setattr("typer.confirm", confirm)
    terminal(prompt=True)
    done = stored("prune", "--older-than", "30d")
    assert asked == ["Delete 2 runs that ended more than 30d ago?"]
    assert (done.code, len(stored.executor.runs)) == ((0, 1) if answer else (9, 3))
    assert stored("prune", "--older-than", "30d", "--yes").code == 0
    assert (
        stored("prune", "--older-than", "30d", "--yes").code == 0
    )  # nothing is left to be asked about
    assert len(asked) == 1
    assert len(stored.executor.runs) == 1


def test_nothing_stored(stored: Cli) -> None:
    """Without a database there is nothing to prune, and none is created."""
    stored.settings.db.unlink()
    assert stored("prune", "--older-than", "0s", "--json").json["pruned"] == 0
    assert not stored.settings.db.exists()


def test_nobody_can_be_asked(stored: Cli) -> None:  # FINDINGS L14
    """Away from a terminal several runs are deleted, or terminated, with --yes alone."""
    done = stored("prune", "--older-than", "30d")
    assert done.code == 2
    assert "2 runs that ended more than 30d ago would be deleted" in done.err
    assert "--yes" in done.err
    assert stored("prune", "--older-than", "30d", "--json").error["exit_code"] == 2
    assert stored("prune", "--older-than", "30d", "--dry-run").code == 0
    assert not [call for call in stored.executor.calls if call[0] == "prune"]
    assert stored("prune", "--older-than", "30d", "--status", "failed").code == 0
    stored.executor = type(stored.executor)(run_info("one"), run_info("two"))
    assert stored("terminate", "one", "two").code == 2
    assert [info.open for info in stored.executor.runs.values()] == [True, True]
    assert stored("terminate", "one", "one").code == 0
    assert stored("terminate", "two").code == 0
