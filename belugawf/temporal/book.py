"""The book that an activity's attempts on Temporal carry along.

The server counts every attempt it starts; ours count failures, and a worker that dies uses up none.
So an attempt carries a book along, in the details of its heartbeats, which the server hands to the
next one: which attempts failed, and how many were cut by a shutdown. What is missing in the count
died. The book ends in the history: in the metadata of the result, or beside the failure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from belugawf.host.attempts import Outcome
from belugawf.model.durations import format_instant

# How many failed attempts are kept for the history; an activity may fail for months.
_KEPT = 50


@dataclass(frozen=True, slots=True)
class Book:
    """What attempts before this one came to. `failures` are counted, `attempts` show the last."""

    failures: int = 0
    shutdowns: int = 0
    attempts: tuple[dict[str, Any], ...] = ()

    @classmethod
    def read(cls, details: Sequence[Any]) -> Book:
        """The book in the details of a heartbeat; empty where others wrote them."""
        data = details[1] if len(details) > 1 else None
        if not isinstance(data, dict):
            return cls()
        attempts = tuple(data.get("attempts", ()))
        return cls(data.get("failures", 0), data.get("shutdowns", 0), attempts)

    def to_json(self) -> dict[str, Any]:
        return {
            "failures": self.failures,
            "shutdowns": self.shutdowns,
            "attempts": list(self.attempts),
        }

    def failed(self, outcome: Outcome, retry_at: int) -> Book:
        """With one more failure, after which the next attempt is due at `retry_at`."""
        entry = {
            "attempt": outcome.attempt,
            "at": format_instant(outcome.at),
            "retry_at": format_instant(retry_at),
            "started_at": format_instant(outcome.started_at),
            "error": json.loads(outcome.payload),
        }
        kept = (*self.attempts, entry)[-_KEPT:]
        return replace(self, failures=self.failures + 1, attempts=kept)
