"""What is handed on to the SDK: a client that is connected, a codec that encrypts, interceptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.fernet import Fernet
from temporalio import client as client_side, worker as worker_side
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
)

from belugawf import (
    ApplicationError,
    RetryPolicy,
    Signal,
    WorkflowContext,
    activity,
    new_executor,
    workflow,
)
from belugawf.executor import DurableExecutor
from belugawf.model.errors import ActivityError, QueryFailedError, QueryNotFoundError, UsageError
from tests.devserver import DevServer
from tests.local.test_arguments import VALUES

LONGEST_S = 60
SECRET = "platypus"


class Encrypting(PayloadCodec):
    """As Temporal's own example: whatever it has not encrypted itself it leaves as it is."""

    def __init__(self) -> None:
        self._fernet = Fernet(Fernet.generate_key())

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(
                metadata={"encoding": b"binary/encrypted"},
                data=self._fernet.encrypt(payload.SerializeToString()),
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload.FromString(self._fernet.decrypt(payload.data))
            if payload.metadata["encoding"] == b"binary/encrypted"
            else payload
            for payload in payloads
        ]


@activity
def repeats(text: str) -> str:
    if activity.info().attempt == 1:
        activity.heartbeat(f"{SECRET} beats")
        raise ValueError(f"{text} failed")
    return f"{text} again"


@activity
def fails(text: str) -> None:
    raise ValueError(f"{text} failed for good")


@workflow
async def keeps_secrets(ctx: WorkflowContext, text: str) -> dict[str, Any]:
    def refuses() -> None:
        raise ValueError(f"{SECRET} is not told")

    ctx.set_query("text", lambda prefix: prefix + text)
    ctx.set_query("refuses", refuses)
    ctx.set_progress(f"{SECRET} in progress")
    said = await ctx.execute_activity(repeats, text, retry=RetryPolicy(initial_delay=0.1))
    try:
        await ctx.execute_activity(fails, text)
    except ActivityError as error:
        said += f", {error.cause.message}"
    signal = await ctx.wait_for_signal("word", prompt=f"Which {SECRET}?", type=str)
    if signal.payload == "fail":
        raise ApplicationError(f"{SECRET} has failed")
    return {"said": said, "word": signal.payload}


class Both(client_side.Interceptor, worker_side.Interceptor):
    """Notes what passes, and sends a header along, as tracing does."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def intercept_client(
        self, next: client_side.OutboundInterceptor
    ) -> client_side.OutboundInterceptor:
        return _Sending(next, self.seen)

    def intercept_activity(
        self, next: worker_side.ActivityInboundInterceptor
    ) -> worker_side.ActivityInboundInterceptor:
        return _Executing(next, self.seen)


class OfWorker(worker_side.Interceptor):
    """Is not for clients."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def intercept_activity(
        self, next: worker_side.ActivityInboundInterceptor
    ) -> worker_side.ActivityInboundInterceptor:
        return _Executing(next, self.seen)


class _Sending(client_side.OutboundInterceptor):
    def __init__(self, next: client_side.OutboundInterceptor, seen: list[str]) -> None:
        super().__init__(next)
        self._seen = seen

    async def start_workflow(self, input: client_side.StartWorkflowInput) -> Any:
        self._seen.append(f"start {input.workflow}")
        input.headers = {**input.headers, "trace": Payload(data=b"one")}
        return await super().start_workflow(input)

    async def signal_workflow(self, input: client_side.SignalWorkflowInput) -> None:
        self._seen.append(f"signal {input.signal}")
        input.headers = {**input.headers, "trace": Payload(data=b"two")}
        await super().signal_workflow(input)

    async def query_workflow(self, input: client_side.QueryWorkflowInput) -> Any:
        self._seen.append(f"query {input.query}")
        return await super().query_workflow(input)


class _Executing(worker_side.ActivityInboundInterceptor):
    def __init__(self, next: worker_side.ActivityInboundInterceptor, seen: list[str]) -> None:
        super().__init__(next)
        self._seen = seen

    async def execute_activity(self, input: worker_side.ExecuteActivityInput) -> Any:
        self._seen.append("activity")
        return await super().execute_activity(input)


def executing(server: DevServer, namespace: str, **options: Any) -> DurableExecutor:
    where = {} if "client" in options else {"host": server.address, "namespace": namespace}
    return new_executor("temporal", workflows=[keeps_secrets], **where, **options)


async def on_the_server(server: DevServer, namespace: str, run_id: str, workflow_id: str) -> bytes:
    """All that the server has of a run, as it has it."""
    client = await Client.connect(server.address, namespace=namespace)
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    description = await handle.describe()
    kept = [description.raw_description.SerializeToString()]
    kept += [event.SerializeToString() async for event in handle.fetch_history_events()]
    kept += [run.raw_info.SerializeToString() async for run in client.list_workflows()]
    return b"".join(kept)


@pytest.mark.parametrize("by", ["data_converter", "client"])
async def test_a_codec_that_encrypts(
    by: str, temporal_server: DevServer, temporal_namespace: str
) -> None:
    """Nothing of a payload or failure is readable on the server, and all is as without it here."""
    # FINDINGS P11
    converter = DataConverter(
        payload_codec=Encrypting(),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
    options: dict[str, Any] = {"data_converter": converter}
    if by == "client":
        options = {
            "client": await Client.connect(
                temporal_server.address, namespace=temporal_namespace, data_converter=converter
            )
        }
    async with executing(temporal_server, temporal_namespace, **options) as executor:
        handle = await executor.execute(
            keeps_secrets, id="secrets", input=SECRET, labels={"animal": SECRET}
        )
        info = await executor.wait(handle.run_id, until="signal:word", max_wait=LONGEST_S)
        assert await executor.query("secrets", "text", "a ") == f"a {SECRET}"
        with pytest.raises(QueryFailedError, match="why is encoded"):
            await executor.query("secrets", "refuses")
        with pytest.raises(QueryNotFoundError, match="has no query 'else'"):
            await executor.query("secrets", "else")
        assert info.progress == f"{SECRET} in progress"
        assert info.waiting_for[0].prompt == f"Which {SECRET}?"
        assert [wait.prompt for wait in await executor.waiting()] == [f"Which {SECRET}?"]
        assert [run.labels for run in await executor.list(labels={"animal": SECRET})] == [
            {"animal": SECRET}
        ]
        kept = await on_the_server(temporal_server, temporal_namespace, handle.run_id, handle.id)
        assert SECRET.encode() not in kept
        await executor.signal("secrets", Signal("word", f"the {SECRET}", sender="ada"))
        assert await handle.result() == {
            "said": f"{SECRET} again, {SECRET} failed for good",
            "word": f"the {SECRET}",
        }
        history = str(list(await executor.history("secrets")))
        for text in (f"{SECRET} failed", f"{SECRET} again", f"the {SECRET}", "ada"):
            assert text in history
        failed = await executor.execute(keeps_secrets, id="fails", input=SECRET)
        await executor.signal("fails", Signal("word", "fail"))
        ended = await executor.wait(failed.run_id, max_wait=LONGEST_S)
        assert ended.status == "failed"
        assert ended.error is not None and ended.error.message == f"{SECRET} has failed"
        for run in (handle, failed):
            kept = await on_the_server(temporal_server, temporal_namespace, run.run_id, run.id)
            assert SECRET.encode() not in kept


async def test_interceptors(temporal_server: DevServer, temporal_namespace: str) -> None:
    """They see what is sent and executed; their headers travel, and ours beside them."""
    # FINDINGS P11
    both, of_worker = Both(), OfWorker()
    async with executing(
        temporal_server, temporal_namespace, interceptors=[both, of_worker]
    ) as executor:
        handle = await executor.execute(keeps_secrets, id="seen", input="b")
        await executor.wait(handle.run_id, until="signal:word", max_wait=LONGEST_S)
        assert await executor.query("seen", "text", "a") == "ab"
        await executor.signal("seen", Signal("word", "c", sender="ada"))
        await executor.wait(handle.run_id, max_wait=LONGEST_S)
        assert of_worker.seen == ["activity"] * 3
        assert both.seen == [
            "start keeps_secrets",
            *["activity"] * 3,
            "query text",
            "signal word",
        ]
        events = await on_the_server(temporal_server, temporal_namespace, handle.run_id, "seen")
        for text in (b"trace", b"one", b"two", b'"sender":"ada"'):
            assert text in events


async def test_a_client_is_not_closed(temporal_server: DevServer, temporal_namespace: str) -> None:
    """It says where the server is, and is as it was afterwards, also for the next executor."""
    # FINDINGS P11
    client = await Client.connect(
        temporal_server.address,
        namespace=temporal_namespace,
        data_converter=pydantic_data_converter,
    )
    for number in range(2):
        async with executing(temporal_server, "", client=client) as executor:
            assert temporal_server.address in repr(executor)
            handle = await executor.execute(keeps_secrets, id=f"run-{number}", input="b")
            await executor.signal(handle.run_id, Signal("word", "c"))
            assert (await executor.wait(handle.run_id, max_wait=LONGEST_S)).status == "completed"
        assert await client.get_workflow_handle(handle.id).result() == {
            "said": "b again, b failed for good",
            "word": "c",
        }
    assert client.data_converter is pydantic_data_converter


class Theirs(DefaultFailureConverterWithEncodedAttributes):
    """Ours is needed."""


@pytest.mark.parametrize(
    "options, message",
    [
        ({"client": "localhost"}, "client must be a connected temporalio Client, not 'localhost'"),
        ({"interceptors": [object()]}, "interceptors must be those of temporalio"),
        ({"interceptors": 3}, "interceptors must be a list"),
        ({"data_converter": Encrypting()}, "data_converter must be a temporalio DataConverter"),
        ({"data_converter": pydantic_data_converter}, "data_converter has a payload converter"),
        (
            {"data_converter": DataConverter(failure_converter_class=Theirs)},
            "data_converter has a failure converter",
        ),
    ],
)
def test_what_cannot_be_passed(options: dict[str, Any], message: str) -> None:
    """It is said at once, with the parameter's name."""
    # FINDINGS P11
    with pytest.raises(UsageError, match=message):
        new_executor("temporal", **options)


OPTIONS = {
    "host": {"text"},
    "namespace": {"text"},
    "task_queue": {"text"},
    "tls": {"bool"},
    "api_key": {"none", "text"},
    "drives": {"bool"},
    "client": {"none"},
    "interceptors": {"none"},
    "data_converter": {"none"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_wrong_types(name: str) -> None:
    """Each is told by its name, with what to write."""
    # FINDINGS E7
    taken = set()
    for kind, value in VALUES.items():
        try:
            new_executor("temporal", workflows=[], **{name: value})
        except UsageError as error:
            assert name in error.message
            assert error.hint
        else:
            taken.add(kind)
    assert taken == OPTIONS[name]


@pytest.mark.parametrize("name", ["host", "namespace", "tls", "api_key"])
async def test_a_client_says_where_it_is_itself(
    name: str, temporal_server: DevServer, temporal_namespace: str
) -> None:
    # FINDINGS P11
    client = await Client.connect(temporal_server.address, namespace=temporal_namespace)
    with pytest.raises(UsageError, match=f"client and {name} cannot both be given"):
        new_executor("temporal", client=client, **{name: True if name == "tls" else "x"})
