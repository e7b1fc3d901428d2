"""Functions that another process finds by their names, or does not."""

from __future__ import annotations

from collections.abc import Callable


def plain() -> None: ...


class Holder:
    def method(self) -> None: ...

    def __call__(self) -> None: ...


def closure() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


unnamed: Callable[[], None] = lambda: None  # noqa: E731


def hidden() -> None: ...


hidden.__qualname__ = "plain"  # as a decorator does that keeps the name of what it replaces
