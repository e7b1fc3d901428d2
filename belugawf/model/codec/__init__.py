"""Payloads: values as JSON text and back, strictly, by type hints.

What JSON cannot hold is refused when it is written, with the path to it; what does not fit its
type hint is refused when it is read. No message ever holds a value: it may be a secret.

One direction is `encode`: values to text. The other has two steps: text to JSON data
(`parse_json` for what people type, `decode` for what was recorded), and JSON data to values
(`convert`). `describe` and `schema` tell people and other processes what `convert` accepts;
`check` needs only the schema, so that a process without the user's code is just as strict.
"""

from belugawf.model.codec._encode import encode as encode
from belugawf.model.codec._hints import (
    convert as convert,
    describe as describe,
    encode_as as encode_as,
    fits as fits,
    is_type as is_type,
    require as require,
    schema as schema,
    type_of as type_of,
)
from belugawf.model.codec._resolving import Unresolved as Unresolved, signature_of as signature_of
from belugawf.model.codec._schema import check as check
from belugawf.model.codec._shapes import is_equal as is_equal
from belugawf.model.codec._text import (
    decode as decode,
    difference as difference,
    listen as listen,
    of_arguments as of_arguments,
    parse_json as parse_json,
    same as same,
)
