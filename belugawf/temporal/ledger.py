"""The ledger that an activity's attempts on Temporal carry along.

The server counts every attempt that it starts; ours count failures, and a worker that dies uses up
none. So an attempt carries a ledger in the details of its heartbeats, which the server hands to the
next one: which attempts failed, how many were cut by a shutdown, and what this one is about to do.
An attempt that the ledger does not account for has died. The ledger ends in the history: in the
metadata of the result, or beside the failure.

Deaths count as on the local provider: one that is shared with other attempts never counts up to
`max_crashes`; an activity that one more death would bring there runs by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from belugawf.host.suspects import is_suspect
from belugawf.model.durations import format_instant
from belugawf.model.outcomes import Outcome
from belugawf.model.values import frozen

# What is kept of failed attempts for the history, together some 60 KB: an activity may fail for
# months, and the server refuses a large ledger.
_KEPT = 20
_LONGEST_TEXT = 1_500


Mode: TypeAlias = Literal["waiting", "shared", "alone"]


@frozen()
class AttemptLedger:
    """What attempts before this one came to.

    `failures` are counted, `attempts` show the last of them. `accounted` is how many attempts the
    ledger accounts for. `crashes` are the deaths that count. `mode` is what the present attempt
    does: "waiting" until a suspect may run, running "alone", or "shared": with others, or beside
    them in a process of its own.
    """

    failures: int = 0
    accounted: int = 0
    crashes: int = 0
    mode: Mode = "shared"
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
            mode=data.get("doing", "shared"),
            attempts=tuple(data.get("attempts", ())),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "failures": self.failures,
            "told": self.accounted,
            "crashes": self.crashes,
            "doing": self.mode,
            "attempts": list(self.attempts),
        }

    def opened(self, attempt: int, max_crashes: int) -> AttemptLedger:
        """At the start of an attempt, with the deaths before it."""
        deaths = attempt - 1 - self.accounted
        crashes = self.crashes
        if deaths > 0 and self.mode == "alone":
            crashes += deaths
        elif deaths > 0 and self.mode == "shared":
            most = max(max_crashes - 1, 1) if max_crashes else crashes + deaths
            crashes = max(crashes, min(crashes + deaths, most))
        ledger = replace(self, accounted=attempt - 1, crashes=crashes)
        suspect = is_suspect(crashes, max_crashes)
        return replace(ledger, mode="waiting" if suspect else "shared")

    def is_deadly(self, max_crashes: int) -> bool:
        """Whether it has killed as many workers as it may: two at least, one may be another's."""
        return max_crashes > 0 and max(max_crashes, 2) <= self.crashes

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
        return replace(self.ended(outcome.attempt), failures=self.failures + 1, attempts=kept)

    def interrupted(self, attempt: int) -> AttemptLedger:
        """With this attempt, which came to nothing: the deaths before it still count."""
        return replace(self, accounted=attempt, mode="shared")

    def ended(self, attempt: int) -> AttemptLedger:
        """With this attempt, which did not die."""
        return replace(self, accounted=attempt, crashes=0, mode="shared")


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return value[:_LONGEST_TEXT] + " ..."
    return value
