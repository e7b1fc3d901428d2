"""The suite's parameter, its fixtures and its summary."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.conformance.harness import PROVIDERS, Project, Provider

_SCENARIO = re.compile(r"conformance.*::test_(\d\d)_")
_PASSED: dict[str, dict[int, bool]] = defaultdict(dict)
_NOTES: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "local_only: concerns the local store alone")
    config.addinivalue_line("markers", "cached_only: tried with the default memory alone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a provider, without those that it does not concern."""
    if "provider" not in metafunc.fixturenames:
        return
    markers = {mark.name for mark in metafunc.definition.iter_markers()}
    providers = [
        provider
        for provider in PROVIDERS.values()
        if (provider.local or "local_only" not in markers)
        and (provider.name != "uncached" or "cached_only" not in markers)
    ]
    metafunc.parametrize("provider", providers, ids=[p.name for p in providers])


@pytest.fixture
def project(tmp_path: Path, provider: Provider) -> Iterator[Project]:
    """An empty project folder; its processes are killed after the test."""
    project = Project(tmp_path / "project", provider)
    yield project
    project.close()


@pytest.fixture
def report() -> Callable[[str], None]:
    """Adds a line to the summary at the end."""
    return _NOTES.append


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember which scenarios passed, per provider."""
    outcome = yield
    found = _SCENARIO.search(item.nodeid.replace("/", "_"))
    callspec = getattr(item, "callspec", None)
    if found and callspec and (call.when == "call" or outcome.failed or outcome.skipped):
        scenarios = _PASSED[callspec.params["provider"].name]
        number = int(found[1])
        scenarios[number] = scenarios.get(number, True) and outcome.passed
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many scenarios hold for each provider, and what tests wanted said."""
    if not _PASSED and not _NOTES:
        return
    terminalreporter.section("conformance")
    for provider, scenarios in _PASSED.items():
        passed = sum(scenarios.values())
        line = f"{provider}: {passed} of {len(scenarios)} scenarios passed"
        failed = [str(number) for number, good in sorted(scenarios.items()) if not good]
        terminalreporter.write_line(line + (f"; failed: {', '.join(failed)}" if failed else ""))
    for note in _NOTES:
        terminalreporter.write_line(note)
