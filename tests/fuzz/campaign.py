"""So many cases of some kinds, from a seed; a failure is shrunk by hypothesis and kept."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed as seeded, settings

from tests.fuzz.commands import HangFound, WrongResultFound
from tests.fuzz.kinds import Kind, Template


@dataclass
class Tally:
    """What was tried and what was found. One finding a kind: hypothesis shows the smallest."""

    cases: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in self.cases.items())
        return (
            f"cases {self.cases.total()} ({kinds}): tracebacks {self.found['traceback']}, "
            f"hangs {self.found['hang']}, wrong results {self.found['wrong result']}"
        )


def campaign(kinds: Sequence[Kind], *, cases: int, seed: int, place: Path) -> Tally:
    """Try about so many cases, divided by the kinds' shares; `place` is an empty folder."""
    tally = Tally()
    template = Template(place)
    whole = sum(kind.share for kind in kinds)
    for kind in kinds:
        most = max(1, cases * kind.share // whole)
        _try_kind(template, kind, most, seed, tally)
    return tally


def _try_kind(template: Template, kind: Kind, most: int, seed: int, tally: Tally) -> None:
    last: list[Any] = [None]

    def check(case: Any) -> None:
        tally.cases[kind.name] += 1
        last[0] = case
        kind.check(template, case)

    chosen = settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    try:
        seeded(seed)(chosen(given(kind.strategy)(check)))()
    except HangFound as error:
        _keep(tally, kind, "hang", last[0], error)
    except WrongResultFound as error:
        _keep(tally, kind, "wrong result", last[0], error)
    except BaseExceptionGroup as group:
        for error in group.exceptions:
            what = "wrong result" if isinstance(error, WrongResultFound) else "traceback"
            _keep(tally, kind, what, "see above", error)
    except Exception as error:
        _keep(tally, kind, "traceback", last[0], error)


def _keep(tally: Tally, kind: Kind, what: str, case: Any, error: BaseException) -> None:
    tally.found[what] += 1
    # Where it was raised, and the small case; hypothesis's own frames say nothing here.
    told = "".join(traceback.format_exception(error))[-3500:]
    tally.findings.append(f"{kind.name}: {what}\ncase: {case!r}\n{told}")
