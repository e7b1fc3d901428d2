"""The ledger that an activity's attempts on Temporal carry along.

The server counts every attempt that it starts; ours count failures, and a worker that dies uses up
none. So an attempt carries a ledger in the details of its heartbeats, which the server hands to the
next one: which attempts failed, and how many were cut by a shutdown. In the history it ends in the
metadata of the result, or beside the failure.

An attempt that the ledger does not account for has died, or the network has lost it: the server
cannot tell. So such attempts never count up to `max_crashes`. They only make a suspect, which runs
in a process of its own where that is possible, and the death of that one is its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from belugawf.model.durations import format_instant
from belugawf.model.outcomes import Outcome
from belugawf.model.values import frozen

# What is kept of failed attempts for the history, together some 60 KB: an activity may fail for
# months, and the server refuses a large ledger.
_KEPT = 20
_LONGEST_TEXT = 1_500


@frozen()
class AttemptLedger:
    """What attempts before this one came to.

    `failures` are counted, `attempts` show the last of them. `accounted` is how many attempts the
    ledger accounts for. `crashes` are those that nobody has heard of, less than `max_crashes`.
    """

    failures: int = 0
    accounted: int = 0
    crashes: int = 0
    attempts: tuple[dict[str, Any], ...] = ()

    @classmethod
    def read(cls, details: Sequence[Any]) -> AttemptLedger:
        """The ledger in the details of a heartbeat; empty if others wrote them."""
        data = details[1] if len(details) > 1 else None
        if not isinstance(data, dict):
            return cls()
        return cls(
            failures=data.get("failures", 0),
            accounted=data.get("told", 0),
            crashes=data.get("crashes", 0),
            attempts=tuple(data.get("attempts", ())),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "failures": self.failures,
            "told": self.accounted,
            "crashes": self.crashes,
            "attempts": list(self.attempts),
        }

    def opened(self, attempt: int, max_crashes: int, survived: bool) -> AttemptLedger:
        """At the start of an attempt, with those before it that nobody has heard of.

        `survived`: this process ran one of them, and lives.
        """
        lost = 0 if survived else attempt - 1 - self.accounted
        crashes = self.crashes + max(lost, 0)
        if max_crashes:
            crashes = min(crashes, max(max_crashes - 1, 1))
        return replace(self, accounted=attempt - 1, crashes=crashes)

    def failed(self, outcome: Outcome, retry_at: int) -> AttemptLedger:
        """With one more failure, after which the next attempt is due at `retry_at`."""
        entry = {
            "attempt": outcome.attempt,
            "at": format_instant(outcome.at),
            "retry_at": format_instant(retry_at),
            "started_at": format_instant(outcome.started_at),
            "error": {key: _cut(value) for key, value in json.loads(outcome.payload).items()},
        }
        kept = (*self.attempts, entry)[-_KEPT:]
        return replace(
            self, accounted=outcome.attempt, crashes=0, failures=self.failures + 1, attempts=kept
        )

    def interrupted(self, attempt: int) -> AttemptLedger:
        """With this attempt, which came to nothing: the deaths before it still count."""
        return replace(self, accounted=attempt)


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return value[:_LONGEST_TEXT] + " ..."
    return value
