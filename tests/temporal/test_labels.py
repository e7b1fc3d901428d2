"""Labels are search attributes too, where the namespace has one of that name."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from belugawf import WorkflowContext, new_executor, workflow
from belugawf.executor import DurableExecutor
from tests.devserver import DevServer
from tests.temporal.test_passing import Encrypting

LONGEST_S = 30
LABELS = {"Customer": "ada", "Notes": "two words", "Count": "7", "other": "x"}
TYPES = {
    "Customer": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "Notes": IndexedValueType.INDEXED_VALUE_TYPE_TEXT,
    "Count": IndexedValueType.INDEXED_VALUE_TYPE_INT,
}


@workflow
async def waits(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("go")


async def registered(client: Client) -> None:
    """Register the attributes, and wait until the server knows them."""
    service, namespace = client.operator_service, client.namespace
    await service.add_search_attributes(
        AddSearchAttributesRequest(namespace=namespace, search_attributes=TYPES)
    )
    async with asyncio.timeout(LONGEST_S):
        while True:
            request = ListSearchAttributesRequest(namespace=namespace)
            found = await service.list_search_attributes(request)
            if TYPES.keys() <= found.custom_attributes.keys():
                return
            await asyncio.sleep(0.05)


async def found_by(client: Client, query: str) -> list[str]:
    """The runs that the server's own query finds, once they are visible."""
    async with asyncio.timeout(LONGEST_S):
        while True:
            runs = {run.id: run async for run in client.list_workflows()}
            if "last" in runs:
                return [run.id async for run in client.list_workflows(query)]
            await asyncio.sleep(0.05)


async def start(executor: DurableExecutor, id: str, labels: dict[str, str]) -> None:
    await executor.execute(waits, id=id, labels=labels)
    info = await executor.describe(id)
    assert info.labels == labels


async def test_registered_labels_are_search_attributes(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """Those that are texts; the memo has all of them."""
    # FINDINGS P11
    client = await Client.connect(temporal_server.address, namespace=temporal_namespace)
    await registered(client)
    async with new_executor("temporal", client=client, workflows=[waits]) as executor:
        await start(executor, "all", LABELS)
        await start(executor, "others", {"Count": "many", "other": "x"})
        await start(executor, "long", {"Customer": "x" * 5_000})
        await start(executor, "last", {"Customer": "bob"})
        assert await found_by(client, "Customer = 'ada'") == ["all"]
        assert await found_by(client, "Notes = 'words'") == ["all"]
        assert await found_by(client, "Count IS NOT NULL") == []
        assert {run.workflow_id for run in await executor.list(labels={"other": "x"})} == {
            "all",
            "others",
        }


async def test_a_codec_keeps_labels_secret(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """The server could read a search attribute."""
    # FINDINGS P11
    client = await Client.connect(temporal_server.address, namespace=temporal_namespace)
    await registered(client)
    converter = DataConverter(payload_codec=Encrypting())
    async with new_executor(
        "temporal", client=client, data_converter=converter, workflows=[waits]
    ) as executor:
        await start(executor, "last", LABELS)
        assert await found_by(client, "Customer IS NOT NULL") == []


async def test_where_nobody_may_ask_for_them(
    temporal_server: DevServer, temporal_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs start as they would without."""
    # FINDINGS P11
    client = await Client.connect(temporal_server.address, namespace=temporal_namespace)
    asked = []

    async def refuses(*_: object, **__: object) -> None:
        asked.append(1)
        raise RPCError("not allowed", RPCStatusCode.PERMISSION_DENIED, b"")

    monkeypatch.setattr(client.operator_service, "list_search_attributes", refuses)
    async with new_executor("temporal", client=client, workflows=[waits]) as executor:
        await executor.execute(waits, id="none")
        assert asked == []
        await start(executor, "some", LABELS)
        assert asked == [1]
