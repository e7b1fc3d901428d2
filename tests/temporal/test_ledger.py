"""What an activity's attempts hand on: deaths are found, and nobody is blamed for another's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from belugawf.model.errors import Failure
from belugawf.model.outcomes import Outcome
from belugawf.temporal.ledger import AttemptLedger


def handed_on(ledger: AttemptLedger) -> AttemptLedger:
    """The ledger as the next attempt reads it."""
    return AttemptLedger.read([None, json.loads(json.dumps(ledger.to_json()))])


def died(ledger: AttemptLedger, attempt: int, max_crashes: int = 3) -> AttemptLedger:
    """The ledger at the start of `attempt`, of which nothing more is heard."""
    return handed_on(ledger.opened(attempt, max_crashes))


def failed(attempt: int) -> Outcome:
    return Outcome(
        run=1, seq=0, attempt=attempt, status="failed", at=0, started_at=0, failure=Failure("X", "")
    )


def test_shared_deaths_never_count_up() -> None:
    """However often its worker dies, an activity that was not alone is not the culprit."""
    ledger = AttemptLedger()
    for attempt in range(1, 30):
        ledger = handed_on(ledger.opened(attempt, 3))
        assert not ledger.is_deadly(3)
        if ledger.mode == "waiting":
            # It died before it was alone.
            assert ledger.crashes == 2


def test_one_more_death_alone_is_the_last() -> None:
    """After two deaths it runs alone; that death names it."""
    ledger = AttemptLedger()
    for attempt in (1, 2):
        ledger = died(ledger, attempt)
    third = ledger.opened(3, 3)
    assert (third.crashes, third.mode) == (2, "waiting")
    alone = AttemptLedger.read([None, third.to_json() | {"doing": "alone"}])
    assert alone.opened(4, 3).is_deadly(3)


def test_who_survived_alone_is_innocent() -> None:
    """It ended, and its worker died before that was reported: it is run again, not blamed."""
    alone = AttemptLedger(accounted=2, crashes=2, mode="alone")
    again = handed_on(alone.ended(3)).opened(4, 3)
    assert (again.crashes, again.mode, again.is_deadly(3)) == (0, "shared", False)


def test_failures_are_told_apart_from_deaths() -> None:
    """A failure counts as such, and clears what died before."""
    ledger = died(AttemptLedger(), 1).opened(2, 3)
    ledger = handed_on(ledger.failed(failed(2), retry_at=0))
    third = ledger.opened(3, 3)
    assert (third.failures, third.crashes, third.accounted) == (1, 0, 2)
    assert [entry["attempt"] for entry in third.attempts] == [2]


@pytest.mark.parametrize("max_crashes", [0, 1])
def test_limits_at_the_edges(max_crashes: int) -> None:
    """0 isn't a limit; 1 lets a death that is shared pass, and the next one not."""
    ledger = died(AttemptLedger(), 1, max_crashes).opened(2, max_crashes)
    assert ledger.mode == ("shared" if max_crashes == 0 else "waiting")
    assert not ledger.is_deadly(max_crashes)
    alone = AttemptLedger.read([None, ledger.to_json() | {"doing": "alone"}])
    assert alone.opened(3, max_crashes).is_deadly(max_crashes) is (max_crashes == 1)
    assert not AttemptLedger(crashes=99).is_deadly(0)


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
