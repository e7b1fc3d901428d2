"""What travels beside a message: an activity's options, who sent a signal, when and with which key.

The SDK hands its dynamic handlers no headers: `Headers` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    HandleSignalInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from belugawf.model import codec
from belugawf.model.durations import parse_instant
from belugawf.model.errors import PayloadTypeError
from belugawf.temporal.payloads import to_payload, to_text

HEADER = "belugawf"

# Those of the message that is being handled.
headers_of_message: ContextVar[Any] = ContextVar("belugawf_headers")


def header(data: Mapping[str, Any]) -> dict[str, Payload]:
    """A header of ours, without what is `None`."""
    present = {key: value for key, value in data.items() if value is not None}
    return {HEADER: to_payload(codec.encode(present))} if present else {}


def read_header(headers: Mapping[str, Payload]) -> dict[str, Any]:
    """What `header` wrote; empty if others sent the message, or wrote something else there."""
    payload = headers.get(HEADER)
    try:
        data = None if payload is None else json.loads(to_text(payload))
    except (PayloadTypeError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def sent_at(data: Mapping[str, Any]) -> int | None:
    """When a signal was sent, by its header, in nanoseconds since 1970; `None`: it does not say."""
    try:
        return parse_instant(data["sent_at"])
    except (KeyError, TypeError, ValueError):
        return None


class Headers(Interceptor):
    """Sets `headers_of_message` for signals and activities."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        return _SignalHeaders

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _ActivityHeaders(next)


class _SignalHeaders(WorkflowInboundInterceptor):
    async def handle_signal(self, input: HandleSignalInput) -> None:
        headers_of_message.set(input.headers)
        await super().handle_signal(input)


class _ActivityHeaders(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        headers_of_message.set(input.headers)
        return await super().execute_activity(input)
