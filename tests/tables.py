"""The tables of `local/drive/run.py`, as docs/architecture.md shows them.

`python -m tests.tables` prints them, `--write` puts them into the document; a test compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from belugawf.local.drive import run

DOCUMENT = Path(__file__).parents[1] / "docs" / "architecture.md"
_PLACE = re.compile(r"(?<=<!-- generated -->\n).*?(?=<!-- end of generated -->)", re.DOTALL)


def rendered() -> str:
    """The three tables: phases of a run, its exits, and phases of a slot."""
    return "\n".join(
        [
            *_transitions("phase", "what it says of the run", run._PHASES),
            *_exits(),
            *_transitions("slot", "what is done about an open activity", run._NEXT),
        ]
    )


def in_document() -> str:
    """What the document has of them."""
    found = _PLACE.search(DOCUMENT.read_text())
    assert found is not None
    return found[0]


def _transitions(name: str, meaning: str, table: dict[Enum, set[Enum]]) -> Iterator[str]:
    yield f"\n| {name} | {meaning} | goes to |\n| --- | --- | --- |"
    for phase, following in table.items():
        names = ", ".join(member.name for member in type(phase) if member in following)
        yield f"| {phase.name} | {_meaning(phase)} | {names or '-'} |"


def _exits() -> Iterator[str]:
    yield "\n| exit | when | its state | demand | what else |\n| --- | --- | --- | --- | --- |"
    for exit, rule in run.EXITS.items():
        state = "cached" if rule.cached else "dropped"
        demand = "forgotten" if rule.forgotten else "kept"
        more = {"polls for others": rule.polls, "its row is freed later": rule.frees}
        rest = ", ".join(text for text, holds in more.items() if holds)
        yield f"| {exit.name} | {_meaning(exit)} | {state} | {demand} | {rest} |"


def _meaning(member: Enum) -> str:
    """What the docstring of `run.py` says of it, in the list of its kind."""
    assert run.__doc__ is not None
    lists = re.split(r"\n\n(?=\S)", run.__doc__)
    index = {"Phase": 1, "Exit": 2, "SlotPhase": 3}[type(member).__name__]
    text = re.search(rf"^    {member.name} +((?:.|\n {{10}})*)", lists[index], re.MULTILINE)
    assert text is not None, member
    return re.sub(r"\s+", " ", text[1]).strip()


if __name__ == "__main__":
    if "--write" in sys.argv:
        DOCUMENT.write_text(_PLACE.sub(lambda _: rendered() + "\n\n", DOCUMENT.read_text()))
    else:
        print(rendered())
