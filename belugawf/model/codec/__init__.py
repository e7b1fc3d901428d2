"""Payloads: values as JSON text and back, strictly, by type hints.

What JSON cannot hold is refused when it is written, with the path to it; what does not fit its
type hint is refused when it is read. No message ever holds a value: it may be a secret.

One direction is `encode`: values to text. The other has two steps: text to JSON data
(`parse_json` for what people type, `decode` for what was recorded), and JSON data to values
(`convert`). `describe` and `schema` tell people and other processes what `convert` accepts;
`check` needs only the schema, so that a process without the user's code is just as strict.
"""

from belugawf.model.codec._encode import encode
from belugawf.model.codec._hints import convert, describe, fits, schema
from belugawf.model.codec._schema import check
from belugawf.model.codec._text import decode, listen, parse_json, same

__all__ = [
    "check",
    "convert",
    "decode",
    "describe",
    "encode",
    "fits",
    "listen",
    "parse_json",
    "same",
    "schema",
]
