"""What a run costs on a server that somebody pays for: heartbeats, bytes of memo, questions."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHandle

from belugawf import WorkflowContext, activity, new_executor, workflow
from belugawf.executor import DurableExecutor
from belugawf.model import events as e
from belugawf.temporal import attempts
from belugawf.temporal.payloads import WAITS_MEMO, to_payload, waits_in
from belugawf.temporal.scheduling import PULSE_S
from belugawf.temporal.server import Server
from tests.devserver import DevServer

LONGEST_S = 60


@activity
async def quick(number: int) -> int:
    return number


@activity
async def beats() -> None:
    activity.heartbeat("here")
    await asyncio.sleep(1)


@activity
async def long() -> None:
    await asyncio.sleep(2.5 * PULSE_S)


@workflow
async def several(ctx: WorkflowContext, count: int) -> int:
    return sum(await asyncio.gather(*(ctx.execute_activity(quick, n) for n in range(count))))


@workflow
async def reports(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(beats)
    await ctx.execute_activity(long)


@workflow
async def waits_often(ctx: WorkflowContext, count: int) -> int:
    async def wait(name: str) -> None:
        await ctx.wait_for_signal(name, prompt="x" * 100)

    tasks = [asyncio.create_task(wait(f"go-{number}")) for number in range(count)]
    await asyncio.gather(*tasks)
    return count


@asynccontextmanager
async def opened(server: DevServer, namespace: str) -> AsyncIterator[DurableExecutor]:
    executor = new_executor(
        "temporal",
        host=server.address,
        namespace=namespace,
        workflows=[several, reports, waits_often],
    )
    async with executor:
        yield executor


async def test_only_what_runs_long_sends_heartbeats(
    temporal_server: DevServer, temporal_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what reports by itself."""
    # FINDINGS P10
    sent: Counter[str] = Counter()
    report = attempts._Running.report

    def counted(self: attempts._Running) -> None:
        sent[self.info.activity_type] += 1
        report(self)

    monkeypatch.setattr(attempts._Running, "report", counted)
    async with opened(temporal_server, temporal_namespace) as executor:
        handle = await executor.execute(several, input=50)
        assert await asyncio.wait_for(handle.result(), LONGEST_S) == sum(range(50))
        assert sent == {}
        handle = await executor.execute(reports)
        await asyncio.wait_for(handle.result(), LONGEST_S)
        assert sent["beats"] >= 1
        assert sent["long"] == 2


async def test_a_wait_writes_itself_alone(
    temporal_server: DevServer, temporal_namespace: str
) -> None:
    """As it begins and as it ends, however many others are open; all of them are seen."""
    # FINDINGS P10
    count = 20
    async with opened(temporal_server, temporal_namespace) as executor:
        handle = await executor.execute(waits_often, id="waits", input=count)
        await executor.wait("waits", until="signal:go-7", max_wait=LONGEST_S)
        info = await executor.describe("waits")
        assert {wait.name for wait in info.waiting_for} == {f"go-{n}" for n in range(count)}
        for number in range(count):
            await executor.signal("waits", f"go-{number}")
        assert await asyncio.wait_for(handle.result(), LONGEST_S) == count
        events = await executor.history("waits")
        assert sum(isinstance(event, e.WaitEnded) for event in events) == count
        written = await _memo_bytes(executor, "waits")
    assert written < count * 600


async def _memo_bytes(executor: Any, run: str) -> int:
    handle: WorkflowHandle[Any, Any] = executor._driving.server.client.get_workflow_handle(run)
    written = 0
    async for event in handle.fetch_history_events():
        if event.HasField("workflow_properties_modified_event_attributes"):
            written += event.workflow_properties_modified_event_attributes.upserted_memo.ByteSize()
    return written


def test_waits_as_older_versions_wrote_them() -> None:
    """All in one value; what is over is not in it."""
    wait = {"seq": 3, "signal": "go"}
    assert waits_in({WAITS_MEMO: to_payload(json.dumps([wait]))}) == {3: wait}
    assert waits_in({WAITS_MEMO: to_payload("null")}) == {}
    assert waits_in({"belugawf.wait.4": to_payload("null"), WAITS_MEMO: Payload()}) == {4: None}
    assert waits_in({"belugawf.wait.x": to_payload("1"), "other": Payload()}) is None


async def test_following_reads_what_is_new(
    temporal_server: DevServer, temporal_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows a run is handed each event once, and asks no oftener than it moves."""
    # FINDINGS P7
    asked: Counter[str] = Counter()
    read, describe = Server.next_events, Server._describe

    async def counted(self: Server, *args: Any) -> Any:
        events, token = await read(self, *args)
        asked["events"] += len(events)
        return events, token

    async def described(self: Server, *args: Any) -> Any:
        asked["describe"] += 1
        return await describe(self, *args)

    monkeypatch.setattr(Server, "next_events", counted)
    monkeypatch.setattr(Server, "_describe", described)
    async with opened(temporal_server, temporal_namespace) as executor:
        handle = await executor.execute(waits_often, id="waits", input=1)
        following = [asyncio.create_task(executor.wait("waits")) for _ in range(3)]
        results = [asyncio.create_task(handle.result()) for _ in range(20)]
        await executor.wait("waits", until="waiting", max_wait=LONGEST_S)
        asked.clear()
        await asyncio.sleep(3)
        # Three that look once a second; the results are told.
        assert asked["describe"] <= 12
        assert asked["events"] == 0
        await executor.signal("waits", "go-0")
        assert await asyncio.wait_for(asyncio.gather(*results), LONGEST_S) == [1] * 20
        await asyncio.wait_for(asyncio.gather(*following), LONGEST_S)
        length = len([event async for event in _raw(executor, "waits")])
    assert asked["events"] < length


def _raw(executor: Any, run: str) -> Any:
    return executor._driving.server.client.get_workflow_handle(run).fetch_history_events()
