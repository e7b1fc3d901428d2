"""Activities that are no plain functions of a module, on Temporal."""

from __future__ import annotations

import asyncio

from belugawf import new_executor
from tests.devserver import DevServer
from tests.host.test_callables import ALL, calls, cannot


async def test_whatever_can_be_called(temporal_server: DevServer, temporal_namespace: str) -> None:
    """The worker finds each of them, and what none finds fails at once.

    FINDINGS A9
    """
    async with (
        asyncio.timeout(60),
        new_executor(
            "temporal",
            host=temporal_server.address,
            namespace=temporal_namespace,
            workflows=[calls, cannot],
        ) as executor,
    ):
        started = [await executor.execute(workflow) for workflow in (calls, cannot)]
        assert await started[0].result() == [2] * len(ALL)
        ended = await executor.wait(started[1].id)
        assert "isn't at the top of a module" in str(ended.error)
