"""What runs log on Temporal: the worker shows it as on one file; nothing is kept. FINDINGS L7"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_logs import MODULE, ORDER, shown
from tests.conformance.harness import PROVIDERS, Process, Project, wait_for, with_env
from tests.devserver import DevServer


@pytest.fixture
def project(
    tmp_path: Path, temporal_server: DevServer, temporal_namespace: str
) -> Iterator[Project]:
    """A project on a namespace of its own, and no worker."""
    provider = with_env(
        replace(PROVIDERS["temporal"], forked=False),
        BELUGAWF_TEMPORAL_HOST=temporal_server.address,
        BELUGAWF_TEMPORAL_NAMESPACE=temporal_namespace,
    )
    project = Project(tmp_path / "project", provider)
    project.write_module("flow", MODULE)
    yield project
    project.close()


def worked(project: Project, seen: str, *options: str) -> str:
    """What a worker says until that is seen, with runs that were started before."""
    worker = project.start("worker", *options)
    assert isinstance(worker, Process)
    wait_for(lambda: seen in worker.err, lambda: worker.err)
    worker.send(signal.SIGTERM)
    return worker.wait(check=143).err


def test_the_worker_logs_the_same_lines(project: Project) -> None:
    """Each once, in the same form; and `logs` says where they are."""
    project.cli("run", "order", "--id", "o", "-i", "3", "-d")
    assert shown(worked(project, "from a thread")) == ORDER
    # The next worker replays the run.
    project.cli("signal", "go", "o", "--no-resume")
    assert shown(worked(project, "completed")) == [("", "WARNING", "done")]
    refused = project.cli("logs", "o", "--json", check=9).error
    assert "keeps no logs" in refused["message"]
    assert "belugawf worker --log-format json" in refused["hint"]
    assert "log\t" not in project.cli("status", "o").out


def test_as_json(project: Project) -> None:
    """A line of a run has its ids, as on one file."""
    project.cli("run", "order", "--id", "o", "-i", "3", "-d")
    said = worked(project, "from a thread", "--log-format", "json")
    lines: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    (line,) = (line for line in lines if line["message"] == "apart 3")
    assert (line["workflow_id"], line["activity"], line["attempt"]) == ("o", "apart", 1)
    assert line["run_id"]


def test_turn_that_cannot_be_taken(project: Project) -> None:
    """Its lines are shown once, although the server tries it again and again."""
    project.cli("run", "blocked", "--id", "b", "-d")
    worker = project.start("worker")
    assert isinstance(worker, Process)
    wait_for(lambda: project.count("spins") > 2, lambda: worker.err)
    worker.send(signal.SIGTERM)
    assert shown(worker.wait(check=143).err, "b") == [("", "INFO", "about to spin")]


def test_turn_of_wrong_code(project: Project) -> None:
    """The same, though what came before it is replayed each time."""
    project.write_module(
        "mistaken",
        """
        @activity
        def quick() -> None:
            pass

        @workflow
        async def mistaken(ctx: WorkflowContext) -> None:
            await ctx.execute_activity(quick)
            note("again")
            ctx.logger.info("about to raise")
            undefined
        """,
    )
    project.cli("run", "mistaken", "--id", "m", "-d")
    worker = project.start("worker")
    assert isinstance(worker, Process)
    wait_for(lambda: project.count("again") > 2, lambda: worker.err)
    worker.send(signal.SIGTERM)
    assert shown(worker.wait(check=143).err, "m") == [("", "INFO", "about to raise")]
