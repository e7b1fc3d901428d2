"""The suite's parameter, its fixtures and its summary."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.harness import PROVIDERS, Project, Provider

_SCENARIO = re.compile(r"conformance.*::test_(\d\d)_")
_PASSED: dict[str, dict[int, bool]] = defaultdict(dict)
_NOTES: list[str] = []
_NOTE = "conformance note"


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
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds a line to the summary at the end."""
    return lambda line: record_property(_NOTE, line)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember which scenarios passed, per provider; tests may run in other processes."""
    found = _SCENARIO.search(report.nodeid.replace("/", "_"))
    if not found or (report.when != "call" and report.passed):
        return
    parameters = re.split(r"[\[\]-]", report.nodeid)[1:]
    for provider in PROVIDERS.keys() & set(parameters):
        scenarios = _PASSED[provider]
        number = int(found[1])
        scenarios[number] = scenarios.get(number, True) and report.passed
    _NOTES.extend(str(line) for name, line in report.user_properties if name == _NOTE)


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
