"""Workers of these tests report often, so that an activity that is cancelled hears of it soon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.devserver import DevServer

os.environ.setdefault("BELUGAWF_TEST_LIVENESS", "2")


@pytest.fixture(params=["default", "temporal"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What `new_executor` is given for each provider in turn."""
    if request.param == "default":
        return {"provider": "default", "db": tmp_path / "state.db"}
    server: DevServer = request.getfixturevalue("temporal_server")
    namespace = request.getfixturevalue("temporal_namespace")
    return {"provider": "temporal", "host": server.address, "namespace": namespace}
