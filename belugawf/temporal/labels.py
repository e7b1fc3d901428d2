"""Labels as search attributes, by which the server's own queries find runs. The memo has all."""

from __future__ import annotations

from collections.abc import Mapping

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from belugawf.temporal.connection import CALL_TIMEOUT

# A label is a text: what it can be, of what a namespace has.
_KEYS = {
    IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD: SearchAttributeKey.for_keyword,
    IndexedValueType.INDEXED_VALUE_TYPE_TEXT: SearchAttributeKey.for_text,
}
# In bytes. The server refuses more than 2 KiB, and some of its databases much less.
_LONGEST = 255


class SearchableLabels:
    """Which labels a namespace has search attributes for; the server is asked once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: Mapping[str, SearchAttributeKey[str]] | None = None

    async def attributes(self, labels: Mapping[str, str]) -> TypedSearchAttributes:
        """These labels as far as they are search attributes. No codec ever encodes one."""
        if not labels or self._client.data_converter.payload_codec is not None:
            return TypedSearchAttributes.empty
        if self._known is None:
            request = ListSearchAttributesRequest(namespace=self._client.namespace)
            try:
                registered = await self._client.operator_service.list_search_attributes(
                    request, retry=True, timeout=CALL_TIMEOUT
                )
            except RPCError:
                return TypedSearchAttributes.empty  # not everybody may ask
            self._known = {
                name: _KEYS[kind](name)
                for name, kind in registered.custom_attributes.items()
                if kind in _KEYS
            }
        return TypedSearchAttributes(
            [
                SearchAttributePair(self._known[name], label)
                for name, label in labels.items()
                if name in self._known and len(label.encode()) <= _LONGEST
            ]
        )
