"""What all tests share: coroutine functions are tests too, each on an event loop of its own."""

from __future__ import annotations

import asyncio
import compileall
import inspect
import signal
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import devserver
from tests.conformance.summary import (
    pytest_runtest_logreport as pytest_runtest_logreport,
    pytest_terminal_summary as pytest_terminal_summary,
)
from tests.devserver import (
    pytest_configure as pytest_configure,
    pytest_unconfigure as pytest_unconfigure,
    temporal_namespace as temporal_namespace,
    temporal_server as temporal_server,
)

# What holds of all values holds however slowly a busy machine draws them.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the package once: the many processes that tests start write no bytecode.

    And signals mean what they do in a terminal, also if a shell runs the tests in the background.
    """
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if not hasattr(session.config, "workerinput"):
        compileall.compile_dir(Path(__file__).parents[1] / "belugawf", quiet=1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What the dev server needs; and what is slow first, so that nobody waits for it in the end."""
    devserver.pytest_collection_modifyitems(items)
    workers = getattr(config, "workerinput", {}).get("workercount", 0)
    if workers:
        items[:] = _spread(items, workers)


def _spread(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Each worker is given one stretch of them first: those begin with as many slow ones each."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = iter([item for item in items if not item.get_closest_marker("slow")])
    spread: list[pytest.Item] = []
    for worker in range(workers):
        spread += slow[worker::workers]
        end = len(items) * (worker + 1) // workers
        spread += islice(quick, max(end - len(spread), 0))
    return [*spread, *quick]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests; a plugin for that would be one more dependency."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True
