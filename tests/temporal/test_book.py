"""What an activity's attempts hand on: deaths are found, and nobody is blamed for another's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from belugawf.model.outcomes import Outcome
from belugawf.temporal.book import Book


def handed_on(book: Book) -> Book:
    """The book as the next attempt reads it."""
    return Book.read([None, json.loads(json.dumps(book.to_json()))])


def died(book: Book, attempt: int, max_crashes: int = 3) -> Book:
    """The book at the start of `attempt`, of which nothing more is heard."""
    return handed_on(book.opened(attempt, max_crashes))


def failed(attempt: int) -> Outcome:
    return Outcome(
        run=1, seq=0, attempt=attempt, status="failed", at=0, started_at=0, payload='{"type":"X"}'
    )


def test_shared_deaths_never_count_up() -> None:
    """However often its worker dies, an activity that was not alone is not the culprit."""
    book = Book()
    for attempt in range(1, 30):
        book = handed_on(book.opened(attempt, 3))
        assert not book.is_deadly(3)
        if book.doing == "waiting":
            # It died before it was alone.
            assert book.crashes == 2


def test_one_more_death_alone_is_the_last() -> None:
    """After two deaths it runs alone; that death names it."""
    book = Book()
    for attempt in (1, 2):
        book = died(book, attempt)
    third = book.opened(3, 3)
    assert (third.crashes, third.doing) == (2, "waiting")
    alone = Book.read([None, third.to_json() | {"doing": "alone"}])
    assert alone.opened(4, 3).is_deadly(3)


def test_who_survived_alone_is_innocent() -> None:
    """It ended, and its worker died before that was reported: it is run again, not blamed."""
    alone = Book(told=2, crashes=2, doing="alone")
    again = handed_on(alone.ended(3)).opened(4, 3)
    assert (again.crashes, again.doing, again.is_deadly(3)) == (0, "shared", False)


def test_failures_are_told_apart_from_deaths() -> None:
    """A failure counts as such, and clears what died before."""
    book = died(Book(), 1).opened(2, 3)
    book = handed_on(book.failed(failed(2), retry_at=0))
    third = book.opened(3, 3)
    assert (third.failures, third.crashes, third.told) == (1, 0, 2)
    assert [entry["attempt"] for entry in third.attempts] == [2]


@pytest.mark.parametrize("max_crashes", [0, 1])
def test_limits_at_the_edges(max_crashes: int) -> None:
    """0 is no limit; 1 lets a death that is shared pass, and the next one not."""
    book = died(Book(), 1, max_crashes).opened(2, max_crashes)
    assert book.doing == ("shared" if max_crashes == 0 else "waiting")
    assert not book.is_deadly(max_crashes)
    alone = Book.read([None, book.to_json() | {"doing": "alone"}])
    assert alone.opened(3, max_crashes).is_deadly(max_crashes) is (max_crashes == 1)
    assert not Book(crashes=99).is_deadly(0)


@pytest.mark.parametrize("details", [[], [None], ["x"], [None, "x"], [{"a": 1}, None]])
def test_details_of_others(details: list[Any]) -> None:
    """What somebody else wrote is no book."""
    assert Book.read(details) == Book()


def test_a_long_book_is_cut() -> None:
    """An activity may fail for months: the last failures are kept, all are counted."""
    book = Book()
    for attempt in range(1, 200):
        book = book.failed(failed(attempt), retry_at=0)
    assert book.failures == 199
    assert len(book.attempts) == 20
    assert book.attempts[-1]["attempt"] == 199
