"""What an activity's attempts hand on: deaths are found, and nobody is blamed for another's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from belugawf.host.suspects import is_suspect
from belugawf.model.errors import Failure
from belugawf.model.outcomes import Outcome
from belugawf.temporal.ledger import AttemptLedger


def handed_on(ledger: AttemptLedger) -> AttemptLedger:
    """The ledger as the next attempt reads it."""
    return AttemptLedger.read([None, json.loads(json.dumps(ledger.to_json()))])


def died(ledger: AttemptLedger, attempt: int, max_crashes: int = 3) -> AttemptLedger:
    """The ledger at the start of `attempt`, of which nothing more is heard."""
    return handed_on(ledger.opened(attempt, max_crashes, survived=False))


def failed(attempt: int) -> Outcome:
    return Outcome(
        run=1, seq=0, attempt=attempt, status="failed", at=0, started_at=0, failure=Failure("X", "")
    )


@pytest.mark.parametrize("reported", [True, False])
def test_what_is_lost_makes_a_suspect_and_nothing_worse(reported: bool) -> None:
    """However often nobody hears of an attempt, and whether it has said that it began."""
    # FINDINGS P2
    ledger = AttemptLedger()
    crashes = []
    for attempt in range(1, 30):
        opened = ledger.opened(attempt, 3, survived=False)
        crashes.append(opened.crashes)
        if reported:
            ledger = handed_on(opened)
    assert crashes == [0, 1] + [2] * 27
    assert is_suspect(crashes[-1], 3)


def test_who_survived_is_no_suspect() -> None:
    """It ran here, and this process lives: what was lost since says nothing of it."""
    # FINDINGS P2
    opened = AttemptLedger().opened(6, 3, survived=True)
    assert (opened.crashes, opened.accounted) == (0, 5)
    assert opened.opened(7, 3, survived=False).crashes == 1


def test_failures_are_told_apart_from_deaths() -> None:
    """A failure counts as such, and clears what died before."""
    ledger = died(AttemptLedger(), 1).opened(2, 3, survived=False)
    ledger = handed_on(ledger.failed(failed(2), retry_at=0))
    third = ledger.opened(3, 3, survived=False)
    assert (third.failures, third.crashes, third.accounted) == (1, 0, 2)
    assert [entry["attempt"] for entry in third.attempts] == [2]


def test_what_was_cut_counts_as_nothing() -> None:
    """The deaths before it still do."""
    ledger = died(AttemptLedger(), 1).opened(2, 3, survived=False).interrupted(2)
    assert handed_on(ledger).opened(3, 3, survived=False).crashes == 1


@pytest.mark.parametrize(("max_crashes", "suspect"), [(0, False), (1, True), (2, True), (3, False)])
def test_limits_at_the_edges(max_crashes: int, suspect: bool) -> None:
    """0 isn't a limit; with 1 and 2 the first death makes a suspect."""
    ledger = died(AttemptLedger(), 1, max_crashes).opened(2, max_crashes, survived=False)
    assert is_suspect(ledger.crashes, max_crashes) is suspect


@pytest.mark.parametrize("details", [[], [None], ["x"], [None, "x"], [{"a": 1}, None]])
def test_details_of_others(details: list[Any]) -> None:
    """What somebody else wrote is no ledger."""
    assert AttemptLedger.read(details) == AttemptLedger()


def test_a_long_book_is_cut() -> None:
    """An activity may fail for months: the last failures are kept, all are counted."""
    ledger = AttemptLedger()
    for attempt in range(1, 200):
        ledger = ledger.failed(failed(attempt), retry_at=0)
    assert ledger.failures == 199
    assert len(ledger.attempts) == 20
    assert ledger.attempts[-1]["attempt"] == 199
