"""The summary at the end: how many scenarios hold for each provider.

Its hooks stand in `tests/conftest.py`, because where tests run in other processes, the one that
reports never loads the conftest of this folder.
"""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from tests.conformance.harness import PROVIDERS

_SCENARIO = re.compile(r"conformance.*::test_(\d\d)_")
_PASSED: dict[str, dict[int, bool]] = defaultdict(dict)
_NOTES: list[str] = []
NOTE = "conformance note"


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
    _NOTES.extend(str(line) for name, line in report.user_properties if name == NOTE)


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
