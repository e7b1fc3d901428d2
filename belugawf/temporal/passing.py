"""What is handed on to the SDK as it was given: a client, interceptors, a data converter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field, replace
from typing import Any, TypeAlias, TypeVar

from temporalio import client as client_side, worker as worker_side
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    SignalWorkflowInput,
    StartWorkflowInput,
    WorkflowHandle,
)
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverter,
    DefaultFailureConverterWithEncodedAttributes,
    DefaultPayloadConverter,
)

from belugawf.model.checking import shown
from belugawf.model.errors import UsageError
from belugawf.model.values import frozen
from belugawf.temporal.payloads import EncodedFailureConverter, FailureConverter

Deliver: TypeAlias = Callable[[SignalWorkflowInput], Awaitable[None]]

# What `Messages` adds to the next run's headers, and how it sends the next signal.
beside_of_start: ContextVar[Mapping[str, Payload]] = ContextVar("belugawf_beside")
delivery: ContextVar[Deliver] = ContextVar("belugawf_delivery")

_Value = TypeVar("_Value")

_CONNECTION = ("host", "namespace", "tls", "api_key")
_FAILURES = (DefaultFailureConverter, DefaultFailureConverterWithEncodedAttributes)


@frozen()
class Passing:
    """A `client` of the user's is used as it is connected, and is not closed."""

    client: Client | None = None
    interceptors: Sequence[Any] = ()
    data_converter: DataConverter | None = field(default=None, repr=False)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Passing:
        """The options of `new_executor`. Raises `UsageError`, which names the parameter."""
        client, converter = given.get("client"), given.get("data_converter")
        interceptors = given.get("interceptors")
        interceptors = () if interceptors is None else interceptors
        if client is not None and not isinstance(client, Client):
            raise UsageError(
                f"client must be a connected temporalio Client, not {shown(client)}",
                hint="client=await Client.connect(...)",
            )
        for name in _CONNECTION:
            if client is not None and name in given:
                raise UsageError(
                    f"client and {name} cannot both be given: a client is connected already",
                    hint=f"leave out {name}, or client",
                )
        if not isinstance(interceptors, Sequence) or isinstance(interceptors, str | bytes):
            raise UsageError(
                f"interceptors must be a list of the SDK's interceptors, not {shown(interceptors)}",
                hint="interceptors=[TracingInterceptor()]",
            )
        for one in interceptors:
            if not isinstance(one, client_side.Interceptor | worker_side.Interceptor):
                raise UsageError(
                    f"interceptors must be those of temporalio.client or temporalio.worker, "
                    f"not {shown(one)}",
                    hint="interceptors=[TracingInterceptor()]",
                )
        if converter is not None:
            _check_converter(converter)
        return cls(client, tuple(interceptors), converter)

    def converter(self) -> DataConverter:
        """Ours, with the codec that was given: by itself, or with the client."""
        given = self.data_converter
        if given is None and self.client is not None:
            given = self.client.data_converter
        given = given or DataConverter.default
        encoded = issubclass(
            given.failure_converter_class, DefaultFailureConverterWithEncodedAttributes
        )
        return replace(
            given,
            payload_converter_class=DefaultPayloadConverter,
            failure_converter_class=EncodedFailureConverter if encoded else FailureConverter,
        )

    def of_client(self) -> list[Interceptor]:
        """The interceptors of a client; a worker takes over those that are for it, too."""
        ours = [one for one in self.interceptors if isinstance(one, Interceptor)]
        return [*ours, Messages()]

    def of_worker(self) -> list[worker_side.Interceptor]:
        """Those that a worker has not from its client."""
        return [one for one in self.interceptors if not isinstance(one, Interceptor)]

    def own_client(self) -> Client | None:
        """The client that was given, with our converter; both share the connection."""
        if self.client is None:
            return None
        theirs = self.client.config(active_config=True)["interceptors"]
        return Client(
            self.client.service_client,
            namespace=self.client.namespace,
            data_converter=self.converter(),
            interceptors=[*theirs, *self.of_client()],
        )


def _check_converter(converter: object) -> None:
    if not isinstance(converter, DataConverter):
        raise UsageError(
            f"data_converter must be a temporalio DataConverter, not {shown(converter)}",
            hint="data_converter=DataConverter(payload_codec=...)",
        )
    if converter.payload_converter_class is not DefaultPayloadConverter:
        raise UsageError(
            "data_converter has a payload converter of its own, and values are always turned into "
            "JSON by belugawf",
            hint="give it a payload_codec only: DataConverter(payload_codec=...)",
        )
    if converter.failure_converter_class not in _FAILURES:
        raise UsageError(
            "data_converter has a failure converter of its own",
            hint="failure_converter_class may be DefaultFailureConverterWithEncodedAttributes",
        )


@contextmanager
def set_to(variable: ContextVar[_Value], value: _Value) -> Iterator[None]:
    """While in it, the variable has that value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


class Messages(Interceptor):
    """The last interceptor of a client: others see a run or signal before it is sent."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Outbound(next)


class _Outbound(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        input.headers = {**input.headers, **beside_of_start.get()}
        return await super().start_workflow(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        await delivery.get()(input)
