"""What all tests share: coroutine functions are tests too, each on an event loop of its own."""

from __future__ import annotations

import asyncio
import compileall
import inspect
from pathlib import Path

import pytest

from tests.conformance.summary import (
    pytest_runtest_logreport as pytest_runtest_logreport,
)
from tests.conformance.summary import pytest_terminal_summary as pytest_terminal_summary
from tests.devserver import pytest_collection_modifyitems as pytest_collection_modifyitems
from tests.devserver import pytest_configure as pytest_configure
from tests.devserver import pytest_unconfigure as pytest_unconfigure
from tests.devserver import temporal_namespace as temporal_namespace
from tests.devserver import temporal_server as temporal_server


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the package once: the many processes that tests start write no bytecode."""
    if not hasattr(session.config, "workerinput"):
        compileall.compile_dir(Path(__file__).parents[1] / "belugawf", quiet=1)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests; a plugin for that would be one more dependency."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True
