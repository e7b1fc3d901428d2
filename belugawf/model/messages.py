"""Signals, and the mark of an argument that was not given."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from belugawf.model.values import frozen


class Unset:
    """The type of `UNSET`, the default of `input`, where None is a value."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


@frozen()
class Signal:
    """A named message to a run.

    `payload` is any value that JSON can hold; in workflow code it is already decoded. `sent_at`
    (UTC) and `sender` are filled in by delivery. Two signals with the same `key` to one run are
    delivered once.
    """

    name: str
    payload: Any = None
    sent_at: datetime | None = None
    sender: str | None = None
    key: str | None = None
