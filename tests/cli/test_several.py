"""Filters in place of RUN, and what is said of runs that nobody moves. FINDINGS L3, L9"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from belugawf.cli.live import LineView
from belugawf.cli.resuming import _is_no_block, _mute_known_blocks
from belugawf.executor import BulkResult, Problem, Summary
from belugawf.host import guard
from belugawf.model.errors import BelugaError, DamagedError, RunEndedError
from belugawf.model.events import CancelRequested
from tests.cli.conftest import Cli, MakeTerminal
from tests.cli.fake import FakeExecutor, run_info, signal_wait
from tests.conformance.harness import FORKED, Project, wait_for

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import DurableExecutor

MODULE = """
@workflow
async def asking(ctx: WorkflowContext) -> object:
    return (await ctx.wait_for_signal("answer")).payload


@workflow
async def sleeping(ctx: WorkflowContext) -> None:
    await ctx.sleep("1h")
"""
MANY = """
import asyncio, sys
from belugawf import new_executor

async def main():
    async with new_executor(workflows="workflows", db=".belugawf/state.db") as executor:
        for number in range(int(sys.argv[1])):
            await executor.execute("asking", id=f"run-{number:03}", detach=True)
        await executor.resume()

asyncio.run(main())
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path, FORKED)
    project.write_module("asks", MODULE)
    yield project
    project.close()


def ids(documents: Sequence[dict[str, Any]]) -> set[str]:
    return {document["workflow_id"] for document in documents}


# -- which runs ----------------------------------------------------------------------------------


def test_filters_in_place_of_run(project: Project) -> None:
    """--dry-run lists; away from a terminal --yes is needed; no other run is reached."""
    for run, team in (("a", "red"), ("b", "red"), ("c", "blue")):
        project.cli("run", "asking", "--id", run, "--label", f"team={team}")
    project.cli("run", "sleeping", "--id", "s")
    red = ("--label", "team=red")
    assert ids(project.cli("cancel", *red, "--dry-run", "--json").json) == {"a", "b"}
    refused = project.cli("cancel", *red, check=2)
    assert "2 runs would be asked to cancel, and nobody can be asked" in refused.err
    assert ids(project.cli("list", "--state", "waiting", "--json").json) == {"a", "b", "c", "s"}
    assert ids(project.cli("cancel", *red, "--yes", "--json").json) == {"a", "b"}
    assert ids(project.cli("list", "--status", "cancelled", "--json").json) == {"a", "b"}
    nobody = ("signal", "answer", "--workflow", "sleeping", "--payload", "1", "--yes")
    assert project.cli(*nobody, check=10).err == (
        "error: none of these runs waits for signal 'answer'\nhint: others do: belugawf waiting\n"
    )
    # A signal goes to those that wait for it: the others would keep it for a wait to come.
    sent = project.cli("signal", "answer", "--all", "--payload", "1", "--yes", "--json").json
    assert (ids(sent), sent[0]["status"], sent[0]["awaited"]) == ({"c"}, "completed", True)
    assert project.cli("signal", "answer", "--all", "--yes", check=10).out == ""
    ended = project.cli("terminate", "--state", "waiting", "--until", "0s", "--yes", "--json")
    assert ids(ended.json) == {"s"}
    again = project.cli("terminate", "--all", "--json")
    assert (again.json, again.code) == ([], 0)
    assert "4 runs would be deleted" in project.cli("prune", "--all", check=2).err
    assert project.cli("prune", *red, "--yes", "--json").json["pruned"] == 2
    assert ids(project.cli("list", "--json").json) == {"c", "s"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cancel", "a", "--all"], "RUN and filters exclude each other"),
        (["cancel", "a", "--dry-run"], "--dry-run is for filters"),
        (["cancel", "--status", "completed", "--yes"], "such a run cannot be asked to cancel"),
        (["terminate"], "RUN is missing"),
        (["list", "--state", "parkd"], "did you mean parked?"),
        (["signal", "go", "a", "--workflow", "x"], "RUN and filters exclude each other"),
        (["prune"], "--older-than is missing"),
    ],
)
def test_mistakes(cli: Cli, arguments: list[str], said: str) -> None:
    """Usage errors, with nothing done."""
    cli.executor = FakeExecutor(run_info("a"))
    done = cli(*arguments)
    assert (done.code, cli.executor.calls) == (2, [])
    assert said in done.err


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked(
    cli: Cli, terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    """On a terminal, with the number of runs; --yes answers."""
    cli.executor = FakeExecutor(run_info("a"), run_info("b"))
    asked: list[str] = []

    def confirm(text: str, **options: object) -> bool:
        asked.append(text)
        return answer

    monkeypatch.setattr("typer.confirm", confirm)
    terminal(prompt=True)
    done = cli("cancel", "--workflow", "research")
    assert asked == ["2 runs would be asked to cancel. Go on?"]
    cancelled = [call for call, _ in cli.executor.calls if call == "cancel"]
    assert (done.code, len(cancelled)) == ((0, 2) if answer else (9, 0))
    cli("cancel", "--all", "--yes")
    assert len(asked) == 1


def test_many(project: Project) -> None:
    """Beyond a hundred they are written down and left to who drives them; the JSON is an array."""
    project.python(MANY, "101")
    done = project.cli("cancel", "--all", "--yes")
    assert done.err == (
        "101 runs were asked to cancel\nno worker is there; they go on with: belugawf resume\n"
    )
    assert project.cli("status", "--json").json["states"] == {"due": 101}
    ended = project.cli("terminate", "--state", "due", "--yes", "--json").json
    assert (len(ended), {run["status"] for run in ended}) == (101, {"terminated"})
    project.python(MANY.replace("run-", "again-"), "101")
    ended_all = project.cli("terminate", "--all", "--yes")
    assert ended_all.err == "101 runs were terminated\n"


def test_an_interrupt_says_how_many(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk stays, and is counted."""
    monkeypatch.setattr("belugawf.cli.several._FOLLOWED", 2)
    cli.executor = FakeExecutor(*(run_info(f"r{n}") for n in range(5)))

    async def cancel_many(runs: Sequence[Any], *_: Any, **__: Any) -> BulkResult:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.1)  # until the loop has seen the signal
        return BulkResult(done=runs[:3], refused={}, left=2)

    cli.executor.cancel_many = cancel_many  # type: ignore[attr-defined]
    done = cli("cancel", "--all", "--yes")
    assert done.code == 130
    assert "interrupted: 3 runs were asked to cancel, 2 are as they were" in done.err


def test_what_has_ended_meanwhile_is_no_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted; what refuses for another reason ends the command with that."""
    monkeypatch.setattr("belugawf.cli.several._FOLLOWED", 2)
    cli.executor = FakeExecutor(*(run_info(f"r{n}") for n in range(5)))
    refused: dict[Any, BelugaError] = {"run-of-r4": RunEndedError("run 'r4' has ended")}

    async def cancel_many(runs: Sequence[Any], *_: Any, **__: Any) -> BulkResult:
        done = [run for run in runs if run not in refused]
        return BulkResult(done=done, refused=refused)

    cli.executor.cancel_many = cancel_many  # type: ignore[attr-defined]
    done = cli("cancel", "--all", "--yes")
    assert done.code == 0
    assert "4 runs were asked to cancel\n" in done.err
    assert "1 run had ended meanwhile\n" in done.err
    refused["run-of-r3"] = DamagedError("what is stored of run 'r3' is odd")
    failed = cli("cancel", "--all", "--yes", "--json")
    assert (failed.code, failed.error["code"], len(failed.error["runs"])) == (12, "damaged", 3)


# -- what people must know -----------------------------------------------------------------------


def test_what_a_worker_cannot_load(tmp_path: Path) -> None:  # FINDINGS L3
    """A worker names a workflow that open runs need at its start, before any of them is due."""
    project = Project(tmp_path)
    project.write_module("asks", MODULE)
    project.cli("run", "asking", "--id", "a")
    project.write_module("asks", MODULE.replace("asking", "other"))
    worker = project.start("worker")
    wait_for(lambda: "driving" in worker.err, process=worker)
    assert "warning: workflow 'asking' has open runs, and cannot be loaded" in worker.err
    worker.send(signal.SIGTERM)
    worker.wait(check=143)
    project.close()


def test_what_lies_there(project: Project) -> None:  # FINDINGS L3
    """Doctor and status say that something is due and that nobody comes; not while it is fresh."""
    project.cli("run", "sleeping", "--id", "s")
    assert "\ndue\t" not in project.cli("status").out
    fall_due(project, ago_s=60)
    assert "WARN\tdue" not in project.cli("doctor").out
    shown = project.cli("status")
    assert "open\t1 due\n" in shown.out
    assert "and nobody drives it: belugawf resume" in shown.out
    fall_due(project, ago_s=1_000)
    late = project.cli("doctor").out
    assert "WARN\tdue\t1 run is due, the first since 16m 40s ago, and nobody drives them" in late
    assert "drive them: belugawf resume" in late


def fall_due(project: Project, ago_s: int) -> None:
    """The only run could have moved so long ago."""
    with closing(sqlite3.connect(project.db)) as db, db:
        db.execute("UPDATE runs SET due_at = ?", (time.time_ns() // 1_000 - ago_s * 1_000_000,))


def test_parked_runs_are_said_at_a_terminal(cli: Cli, terminal: MakeTerminal) -> None:
    """Also if nothing is due: `resume` names the command that shows them."""
    executor = FakeExecutor(run_info("stuck", state="parked"))

    async def summary() -> Summary:
        counts = {"running": 1}
        return Summary(
            counts=counts, waits=(), waits_total=0, next_due_at=None, attention=(),
            states={"parked": 1},
        )  # fmt: skip

    executor.summary = summary  # type: ignore[method-assign]
    cli.executor = executor
    terminal()
    done = cli("resume", "-v")
    assert done.err == (
        "nothing is due\n1 run cannot move on: belugawf list --state parked --all\n"
    )


def test_states_are_shown(cli: Cli) -> None:  # FINDINGS L9
    """In list, where scripts find it last, and in status."""
    cli.executor = FakeExecutor(run_info("a", state="waiting", waiting_for=(signal_wait(),)))
    assert cli("list").out.rstrip().split("\t")[-1] == "waiting"
    assert "state\twaiting\n" in cli("status", "a").out
    assert cli("list", "--state", "due").out == ""
    assert cli("status", "a", "--json").json["state"] == "waiting"


@pytest.mark.parametrize(("code", "is_said"), [("workflow_blocked", False), ("bug", True)])
async def test_cron_hears_once_of_code_that_blocks(code: str, is_said: bool) -> None:  # FINDINGS L3
    """The guard's warning comes before the turn is refused: not again if that was reported."""
    logger = logging.getLogger("belugawf.engine")
    problem = Problem(code=code, message="it blocks")
    await _mute_known_blocks(FakeExecutor(run_info("a", problem=problem)))  # type: ignore[arg-type]
    try:
        record = logger.makeRecord(logger.name, logging.WARNING, guard.__file__, 1, "x", (), None)
        assert bool(logger.filter(record)) == is_said
        other = logger.makeRecord(logger.name, logging.WARNING, __file__, 1, "x", (), None)
        assert logger.filter(other)
    finally:
        logger.removeFilter(_is_no_block)


async def test_lines_of_several_runs_name_them() -> None:
    """By their workflow ids, however they were chosen."""
    executor = FakeExecutor(run_info("a"), run_info("b"))
    lines: list[str] = []
    view = LineView(
        cast("Session", SimpleNamespace(say=lines.append)),
        cast("DurableExecutor", executor),
        waits=False,
    )
    await view.add(list(executor.runs))
    executor.events["run-of-b"] = [CancelRequested(position=2, time=1, at=1)]
    await view.refresh(last=True)
    assert lines == ["b: cancel requested"]
