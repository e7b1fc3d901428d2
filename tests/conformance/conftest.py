"""The suite's parameter and its fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.harness import PROVIDERS, Project, Provider, with_env
from tests.conformance.summary import NOTE
from tests.devserver import DevServer


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
def project(
    tmp_path: Path, provider: Provider, request: pytest.FixtureRequest
) -> Iterator[Project]:
    """An empty project folder; its processes are killed after the test."""
    if provider.name == "temporal":
        server: DevServer = request.getfixturevalue("temporal_server")
        provider = with_env(
            provider,
            BELUGAWF_TEMPORAL_HOST=server.address,
            BELUGAWF_TEMPORAL_NAMESPACE=request.getfixturevalue("temporal_namespace"),
        )
    project = Project(tmp_path / "project", provider)
    yield project
    project.close()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds a line to the summary at the end."""
    return lambda line: record_property(NOTE, line)
