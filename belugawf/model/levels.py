"""The levels of log lines, by the names that Python's `logging` gives them."""

from __future__ import annotations

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def level_number(name: str) -> int | None:
    """The number of the level of that name, in which case does not count; `None`: there is none."""
    return LEVELS.get(name.lower())


def level_name(number: int) -> str:
    """The name of a level as it is shown; a number between two of them has none of its own."""
    named = {known: name.upper() for name, known in LEVELS.items()}
    return named.get(number, f"LEVEL {number}")
