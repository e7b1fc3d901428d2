"""The records that these tests share: the workload once for each kind of durability."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.powercut.__main__ import record, scratch
from tests.powercut.record import Entry
from tests.powercut.vfs import Unavailable
from tests.powercut.workload import Durability


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder for records and states, in memory where that is possible."""
    with scratch() as path:
        yield path


@cache
def _recorded(durability: Durability) -> list[Entry]:
    with scratch() as path:
        return record(path, durability)


@pytest.fixture
def recorded() -> Callable[[Durability], list[Entry]]:
    """What the workload does with this durability; skips where SQLite cannot be recorded."""

    def get(durability: Durability) -> list[Entry]:
        try:
            return _recorded(durability)
        except Unavailable as error:
            pytest.skip(str(error))

    return get
