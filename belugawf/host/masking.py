"""Keeping secrets out of what a process logs, and out of what its isolated activities log.

The secrets are those that a payload of this process had under a matching key, in whatever run: a
worker that never shows an input has read it all the same, and its code may log a part of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from belugawf.model import codec
from belugawf.model.redaction import Redaction

_patterns: tuple[str, ...] = ()
_redaction: Redaction | None = None


def mask_logs(patterns: Sequence[str], secrets: Sequence[str] = ()) -> Redaction:
    """Mask what is logged from now on, with the secrets of every payload that is read from now on.

    `patterns` are those of `redact:`, `secrets` what is known already; returned is what masks, for
    whatever else is shown.
    """
    global _patterns, _redaction
    _patterns = tuple(patterns)
    _redaction = redaction = Redaction(patterns)
    redaction.remember(secrets)
    codec.listen(redaction.learn)
    make = logging.getLogRecordFactory()

    def masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            text = record.getMessage()
        except Exception:  # the arguments do not fit; the handler would print them as they are
            text = f"{record.msg} {record.args!r}"
        record.msg, record.args = redaction.text(text), ()
        if record.exc_info:
            # Handlers print this text in place of the traceback that they would make.
            record.exc_text = redaction.text(logging.Formatter().formatException(record.exc_info))
        return record

    logging.setLogRecordFactory(masked)
    return redaction


def masks() -> tuple[Sequence[str], Sequence[str]]:
    """The patterns that this process masks by, and the secrets that it knows: for its children.

    A child may be handed a secret without the key that says so.
    """
    return _patterns, [] if _redaction is None else _redaction.secrets
