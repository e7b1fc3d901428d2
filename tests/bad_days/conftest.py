"""A project folder for bad days: bad input, bad code, bad disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.harness import FORKED, PROVIDERS, Project


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "new_interpreters: is about what a process is when it starts; nothing is forked"
    )


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A project folder with one good module; its processes are killed after the test."""
    as_users_do = request.node.get_closest_marker("new_interpreters") is not None
    project = Project(tmp_path / "project", PROVIDERS["default"] if as_users_do else FORKED)
    project.write_module("good", GOOD)
    yield project
    project.close()


GOOD = """
    @activity
    def work(text: str) -> str:
        note(f"work {text}")
        return f"{text} is done"


    @workflow
    async def simple(ctx: WorkflowContext, text: str = "it") -> str:
        return await ctx.execute_activity(work, text)


    @workflow
    async def asking(ctx: WorkflowContext, text: str = "it") -> str:
        answer = await ctx.wait_for_signal("approval", timeout="24h")
        return await ctx.execute_activity(work, f"{text} {answer.payload}")
"""
