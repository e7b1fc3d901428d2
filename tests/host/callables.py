"""Activities that are no plain functions of a module, for processes that import this one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from belugawf import activity

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PRICE = Decimal("1.50")


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """As tenacity does it: a plain function around whatever there is."""

    @functools.wraps(function)
    def around(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return around


def nameless(function: Callable[..., Any]) -> Callable[..., Any]:
    """As careless decorators do it."""

    def around(number: int) -> Any:
        return function(number)

    return around


def make(kind: str, **options: Any) -> dict[str, Callable[..., Any]]:
    """All sorts of callables, each of which adds one; `options` are the decorator's."""
    mark = activity(**options)

    def marked(function: Any) -> Any:
        return activity(name=f"{kind}{len(made)}", **options)(function)

    made: dict[str, Callable[..., Any]] = {}
    made["around async"] = marked(decorated(add_async))
    made["around a function"] = marked(decorated(add))
    made["decorated outside"] = decorated(mark(decorated(add_async)))
    made["without a name"] = marked(nameless(add_async))
    made["cached"] = marked(functools.lru_cache(decorated(add)))
    made["a partial"] = marked(functools.partial(sums, 1))
    made["a partial of async"] = marked(functools.partial(sums_async, 1))
    made["an object"] = marked(Adding(1))
    made["an object with async"] = marked(AddingLater(1))
    return made


def add(number: int) -> int:
    return number + 1


async def add_async(number: int) -> int:
    return number + 1


def sums(one: int, other: int) -> int:
    return one + other


async def sums_async(one: int, other: int) -> int:
    return one + other


class Adding:
    """An object that is called, and whose methods are."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, number: int) -> int:
        return number + self.number

    @activity
    def method(self, number: int) -> int:
        return number + self.number

    @activity(isolation="process")
    async def isolated_method(self, number: int) -> int:
        return number + self.number

    @classmethod
    @activity(isolation="process")
    def of_class(cls, number: int) -> int:
        return number + 1

    @staticmethod
    @activity(isolation="process")
    def static(number: int) -> int:
        return number + 1


class AddingLater(Adding):
    async def __call__(self, number: int) -> int:  # type: ignore[override]
        return number + self.number


ADDING = Adding(1)
METHODS = {
    "method": ADDING.method,
    "isolated method": ADDING.isolated_method,
    "of a class": Adding.of_class,
    "static": Adding.static,
}
HERE = make("here")
ISOLATED = make("isolated", isolation="process")
# Another process finds them under names of this module.
for _index, _function in enumerate(ISOLATED.values()):
    globals()[f"isolated_{_index}"] = _function


@activity(isolation="process")
def beats(number: int) -> object:
    """Reports what JSON has no form for; the next attempt has it."""
    if activity.info().attempt == 1:
        activity.heartbeat({"at": NOON, "price": PRICE, "of": (1, {2})})
        raise ValueError("once more")
    return activity.info().heartbeat_details
