"""What the server hands out, as it was before a codec changed it.

The SDK decodes what passes through its own calls; histories, memos and heartbeats it leaves as they
are. Headers and search attributes are never encoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.message import Message
from temporalio.api.common.v1 import Header, Payload, Payloads, SearchAttributes
from temporalio.api.failure.v1 import Failure
from temporalio.common import RawValue
from temporalio.converter import DataConverter

from belugawf.temporal.payloads import EncodedFailureConverter, to_text

Answer = TypeVar("Answer", bound=Message)


def changes(converter: DataConverter) -> bool:
    """Whether payloads are other bytes on the server than here, or may be."""
    return (
        converter.payload_codec is not None
        or converter.external_storage is not None
        or isinstance(converter.failure_converter, EncodedFailureConverter)
    )


async def decoded(message: Answer, converter: DataConverter) -> Answer:
    """The message itself, with its payloads decoded and its failures told in full."""
    if not changes(converter):
        return message
    failures = []
    for part in list(_parts(message)):
        if isinstance(part, Payload):
            part.CopyFrom((await _originals([part], converter))[0])
        elif isinstance(part, Payloads):
            originals = await _originals(list(part.payloads), converter)
            del part.payloads[:]
            part.payloads.extend(originals)
        elif isinstance(part, Failure):
            failures.append(part)
    for failure in failures:
        if failure.HasField("encoded_attributes"):
            told = json.loads(to_text(failure.encoded_attributes))
            failure.MergeFrom(Failure(**told))
    return message


async def _originals(payloads: list[Payload], converter: DataConverter) -> list[Payload]:
    if not payloads:
        return []
    values = await converter.decode(payloads, [RawValue] * len(payloads))
    return [value.payload for value in values]


def _parts(message: Message) -> Iterator[Message]:
    """The payloads and failures in a message, however deep; several in one `Payloads` as that."""
    if isinstance(message, Header | SearchAttributes):
        return
    if isinstance(message, Payload | Payloads | Failure):
        yield message
    if isinstance(message, Payload | Payloads):
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if isinstance(value, Message):
            yield from _parts(value)
            continue
        for one in value.values() if hasattr(value, "values") else value:
            if isinstance(one, Message):
                yield from _parts(one)
