"""Payloads and failures in Temporal's form: the same JSON, and the same `Failure`, inside.

A payload is JSON text as `json/plain`, so Temporal's web UI shows it and clients of other languages
can read and write it. It travels as `RawValue`: the SDK's converters are never asked, and our codec
decodes strictly. Failures of user code carry our `Failure` as their first detail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure as ProtoFailure
from temporalio.common import RawValue
from temporalio.converter import (
    DefaultFailureConverter,
    PayloadConverter,
)
from temporalio.exceptions import (
    ActivityError as TemporalActivityError,
    ApplicationError as TemporalApplicationError,
    CancelledError as TemporalCancelledError,
    FailureError,
    RetryState,
    TimeoutError as TemporalTimeoutError,
    TimeoutType,
)

from belugawf.authoring.failures import describe_failure
from belugawf.model import codec
from belugawf.model.errors import (
    ActivityError,
    BelugaError,
    CodeError,
    Failure,
    PayloadTypeError,
    QueryFailedError,
    QueryNotFoundError,
    failure_error,
)

JSON_PLAIN = b"json/plain"
# So many bytes of the text of a query's error are kept.
_MAX_IN_HEADER = 2_400
# Under this key a result's metadata holds the attempts that failed before.
ATTEMPTS = "belugawf-attempts"
# What stands in a run's memo: each of its open waits for signals, its progress, its labels.
WAIT_MEMO = "belugawf.wait."
# All open waits in one value, as runs have it that began with an older version.
WAITS_MEMO = "belugawf.waits"
PROGRESS_MEMO = "belugawf.progress"
LABELS_MEMO = "belugawf.labels"


def to_payload(text: str, **metadata: bytes) -> Payload:
    """JSON text as a payload."""
    return Payload(metadata={"encoding": JSON_PLAIN, **metadata}, data=text.encode())


def to_text(payload: Payload) -> str:
    """A payload's JSON text. Raises `PayloadTypeError` if it holds something else."""
    encoding = payload.metadata.get("encoding", b"")
    if encoding == b"binary/null":
        return "null"
    if encoding not in (JSON_PLAIN, b"json/protobuf"):
        raise PayloadTypeError("payload", "JSON", f"encoding {encoding.decode(errors='replace')}")
    return payload.data.decode()


def raw(text: str) -> RawValue:
    """JSON text as the value that the SDK passes on as it is."""
    return RawValue(to_payload(text))


def join(payloads: Sequence[Payload]) -> str:
    """The JSON array of several payloads: the arguments of an activity."""
    return f"[{','.join(to_text(payload) for payload in payloads)}]"


def split(array: str) -> list[RawValue]:
    """The elements of a JSON array, each as a payload."""
    return [raw(codec.encode(item)) for item in json.loads(array)]


def one(payloads: Sequence[Payload]) -> str | None:
    """A message's JSON text: `None` if it has none, an array if others sent several."""
    if not payloads:
        return None
    return to_text(payloads[0]) if len(payloads) == 1 else join(payloads)


def waits_in(memo: Mapping[str, Payload]) -> dict[int, Any] | None:
    """The waits in a memo or in a change of it, by their number; `None` for one that is over.

    No dict if it says nothing of them. Values that are not ours are passed over.
    """
    found: dict[int, Any] = {}
    for key, payload in memo.items():
        if key.startswith(WAIT_MEMO):
            with suppress(PayloadTypeError, ValueError):
                found[int(key.removeprefix(WAIT_MEMO))] = json.loads(to_text(payload))
    if found or WAITS_MEMO not in memo:
        return dict(sorted(found.items())) or None
    with suppress(PayloadTypeError, ValueError):
        return {wait["seq"]: wait for wait in json.loads(to_text(memo[WAITS_MEMO])) or ()}
    return None


# -- failures ------------------------------------------------------------------------------------


class RecordedFailure(TemporalApplicationError):
    """A failure of user code on its way to the server; `beside` is what goes along with it."""

    def __init__(
        self,
        failure: Failure,
        *,
        non_retryable: bool = True,
        beside: Mapping[str, Any] | None = None,
        next_retry_delay: timedelta | None = None,
    ) -> None:
        super().__init__(
            failure.message,
            failure.to_json(),
            beside or {},
            type=failure.type,
            non_retryable=non_retryable,
            next_retry_delay=next_retry_delay,
        )
        self.recorded = failure


class FailureConverter(DefaultFailureConverter):
    """Shows the user's own frames as the stack trace, and no causes of ours."""

    def to_failure(
        self,
        exception: BaseException,
        payload_converter: PayloadConverter,
        failure: ProtoFailure,
    ) -> None:
        if type(exception) is QueryNotFoundError:
            # Only the message comes back, and nothing of it is the user's: it is never encoded.
            failure.MergeFrom(ProtoFailure(message=_in_header(exception.message)))
            failure.application_failure_info.SetInParent()
            return
        if isinstance(exception, QueryFailedError):
            exception = TemporalApplicationError(_in_header(exception.message))
        if isinstance(exception, BelugaError) and not isinstance(exception, FailureError):
            exception = _problem_failure(exception)
        if isinstance(exception, RecordedFailure):
            traceback = exception.recorded.traceback
            exception.__traceback__ = None
            exception.__cause__ = None
            exception.__suppress_context__ = True
            super().to_failure(exception, payload_converter, failure)
            failure.ClearField("stack_trace")
            failure.MergeFrom(ProtoFailure(source="belugawf", stack_trace=traceback or ""))
            if failure.HasField("encoded_attributes"):
                self._tell_in_code(exception.recorded, failure)
        else:
            super().to_failure(exception, payload_converter, failure)

    def _tell_in_code(self, recorded: Failure, failure: ProtoFailure) -> None:
        told = {"message": recorded.message, "stack_trace": recorded.traceback or ""}
        failure.ClearField("encoded_attributes")
        failure.MergeFrom(ProtoFailure(encoded_attributes=to_payload(codec.encode(told))))
        failure.ClearField("stack_trace")


class EncodedFailureConverter(FailureConverter):
    """The same, with messages and stack traces where a codec reaches them."""

    def __init__(self) -> None:
        super().__init__(encode_common_attributes=True)


def _in_header(text: str) -> str:
    """The text of a query's error, cut: it comes back in a header, twice and encoded, of 16 KB."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= _MAX_IN_HEADER:
        return text
    return data[:_MAX_IN_HEADER].decode(errors="ignore") + " [...]"


def _problem_failure(error: BelugaError) -> RecordedFailure:
    """An error of ours that keeps a turn from being taken, with its code, hint and exit code."""
    failure = replace(describe_failure(error), type=error.code)
    if isinstance(error, CodeError):
        failure = replace(failure, traceback=error.traceback)
    beside = {"hint": error.hint, "exit_code": error.exit_code}
    return RecordedFailure(failure, non_retryable=False, beside=beside)


def recorded_in(proto: ProtoFailure) -> tuple[Failure, dict[str, Any]] | None:
    """Our `Failure` in a recorded failure, and what stands beside it; `None` if it is not ours."""
    payloads = proto.application_failure_info.details.payloads
    if not proto.HasField("application_failure_info") or proto.source != "belugawf" or not payloads:
        return None
    beside = json.loads(to_text(payloads[1])) if len(payloads) > 1 else {}
    return Failure.from_json(json.loads(to_text(payloads[0]))), beside


def failure_of(proto: ProtoFailure) -> Failure:
    """Any recorded failure as ours; what other SDKs wrote keeps its type, message and trace."""
    ours = recorded_in(proto)
    if ours is not None:
        return ours[0]
    kind = proto.WhichOneof("failure_info") or ""
    if kind == "application_failure_info":
        info = proto.application_failure_info
        return Failure(
            type=info.type or "ApplicationError",
            message=proto.message,
            traceback=proto.stack_trace or None,
            non_retryable=info.non_retryable,
        )
    if kind == "activity_failure_info":
        inner = failure_of(proto.cause)
        return replace(inner, activity=proto.activity_failure_info.activity_type.name)
    kinds = {"timeout_failure_info": "timeout", "canceled_failure_info": "cancelled"}
    names = {"timeout_failure_info": "TimeoutError", "canceled_failure_info": "CancelledError"}
    return Failure(
        type=names.get(kind, "ServerError"),
        message=proto.message,
        traceback=proto.stack_trace or None,
        kind=kinds.get(kind, "application"),
    )


_LIMITS: dict[int | None, str] = {
    TimeoutType.SCHEDULE_TO_CLOSE: "total_timeout",
    TimeoutType.SCHEDULE_TO_START: "total_timeout",
}


def activity_error(error: BaseException, name: str) -> ActivityError:
    """What workflow code sees of an activity that the SDK says has failed."""
    cause = error.cause if isinstance(error, TemporalActivityError) else error
    if isinstance(cause, FailureError) and cause.failure is not None:
        ours = recorded_in(cause.failure)
        if ours is not None:
            failure = replace(ours[0], activity=name, attempts=ours[0].attempts or 1)
            if _out_of_time(error):
                failure = replace(failure, kind="timeout")
            return failure_error(failure)
    if isinstance(cause, TemporalTimeoutError):
        _, failure = timeout_failure(cause.type)
        return failure_error(replace(failure, activity=name))
    if isinstance(cause, TemporalCancelledError):
        failure = Failure("CancelledError", "the activity was cancelled", kind="cancelled")
        return failure_error(replace(failure, activity=name))
    if isinstance(cause, TemporalApplicationError):
        failure = Failure(
            cause.type or "ApplicationError", cause.message, non_retryable=cause.non_retryable
        )
        return failure_error(replace(failure, activity=name))
    return failure_error(Failure(type(cause).__name__, str(cause), activity=name))


def _out_of_time(error: BaseException) -> bool:
    """Whether another attempt was due, and there was no time left for it."""
    return isinstance(error, TemporalActivityError) and error.retry_state is RetryState.TIMEOUT


def timeout_failure(kind: int | None) -> tuple[str, Failure]:
    """A limit that the server kept, by its name, and the failure in our words.

    A silent attempt is one whose worker died: silence of the user's own code is found in the
    worker itself, before the server sees it.
    """
    if kind == TimeoutType.HEARTBEAT:
        message = "the worker of the activity died in the middle"
        return "", Failure("Interrupted", message, kind="interrupted")
    limit = _LIMITS.get(kind, "timeout")
    return limit, Failure("TimeoutError", f"{limit} is over", kind="timeout")
