"""Histories and databases that were recorded once and are kept for ever.

Today's code must replay and open each of them. `python -m tests.histories record NAME` records one
more, `... database` today's schema. None of the recorded files is ever edited or recorded anew: a
change that one of them does not survive strands runs of users.
"""

from __future__ import annotations

from collections.abc import Iterable

from belugawf.model import events as e
from belugawf.model.history import STATUS_OF, effective


def status(history: Iterable[e.Event]) -> str:
    """The status that a history adds up to."""
    for event in effective(list(history)):
        if event.kind is e.Kind.CLOSING:
            return STATUS_OF[type(event)]
    return "running"
