"""Histories that were recorded once, by the examples as they are, replayed against today's code.

`examples/*.json` are the rows of finished and of open runs, as the store held them; they stay as
they are for ever. A change that breaks one of them strands the open runs of every user. Those in
`examples/refused` differ from the code, and must be found out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from belugawf import NondeterminismError
from belugawf.authoring.loader import Catalog
from belugawf.model import events as e
from belugawf.model.history import OpenWork
from belugawf.replay.replayer import Replayer
from tests.histories import status
from tests.histories.rows import recorded

ROOT = Path(__file__).parents[2]
HISTORIES = Path(__file__).parent / "examples"
STATUSES = {
    "greeting-completed": "completed",
    "nightly-report": "completed",
    "onboarding-cancelled": "cancelled",
    "onboarding-completed": "completed",
    "onboarding-unanswered": "completed",
    "research-approved": "completed",
    "research-rejected": "completed",
    "research-unanswered": "failed",
    "research-waiting": "running",
}
MISMATCHES = {
    "a-timer-in-place-of-the-wait": (4, "a timer of 60 s", "a wait for signal 'approval'"),
    "a-wait-too-many": (4, "nothing more", "a wait for signal 'approval'"),
    "an-activity-in-place-of-the-wait": (
        4,
        "activity 'summarise'",
        "a wait for signal 'approval'",
    ),
    "another-activity": (2, "activity 'report'", "activity 'research'"),
    "another-result": (
        4,
        "the workflow's end with a result",
        "the workflow's end with a result that differs: "
        'result was "Hi, Ada!" and is "Hello, Ada!"',
    ),
    "other-arguments": (
        2,
        "activity 'research'",
        "activity 'research' with other arguments: "
        'arguments[0] was "Q3 revenue analysis" and is "Q4 revenue analysis"',
    ),
    "reordered-fan-out": (
        2,
        "activity 'fetch_figure'",
        "activity 'fetch_figure' with other arguments: "
        'arguments[0] was "warehouse" and is "shop"',
    ),
    "reordered-waits": (4, "a wait for signal 'laptop'", "a wait for signal 'contract'"),
}


@pytest.fixture(scope="module")
def examples() -> Catalog:
    catalog = Catalog.from_folder(ROOT / "workflows")
    assert catalog.problems == ()
    return catalog


def load(path: Path) -> list[e.Event]:
    return [e.from_row(row) for row in recorded(path)]


def replayer_of(examples: Catalog, history: list[e.Event]) -> Replayer:
    started = history[0]
    assert isinstance(started, e.WorkflowStarted)
    return Replayer(examples.workflow(started.name), started)


def test_every_file_is_tried() -> None:
    """The two tables name all files that there are."""
    assert {path.stem for path in HISTORIES.glob("*.json")} == set(STATUSES)
    assert {path.stem for path in (HISTORIES / "refused").glob("*.json")} == set(MISMATCHES)


@pytest.mark.parametrize("name", STATUSES)
def test_recorded_histories_replay(examples: Catalog, name: str) -> None:
    """Today's code asks for just what was recorded, and the history adds up to its status."""
    history = load(HISTORIES / f"{name}.json")
    replayer = replayer_of(examples, history)
    assert replayer.replay(history) == []
    assert status(history) == STATUSES[name]
    assert replayer.closed == (STATUSES[name] != "running")
    work = OpenWork.of(history)
    assert work.closed == replayer.closed
    assert set(work.timers) == (set() if work.closed else {3})
    replayer.evict()


@pytest.mark.parametrize("name", STATUSES)
def test_rows_are_written_as_they_were(name: str) -> None:
    """Reading and writing changes no row."""
    path = HISTORIES / f"{name}.json"
    assert [e.to_row(event) for event in load(path)] == recorded(path)


@pytest.mark.parametrize("name", MISMATCHES)
def test_histories_of_other_code_are_refused(examples: Catalog, name: str) -> None:
    """What differs is found at its event, with both sides and the example's own line."""
    history = load(HISTORIES / "refused" / f"{name}.json")
    replayer = replayer_of(examples, history)
    with pytest.raises(NondeterminismError) as caught:
        replayer.replay(history)
    error = caught.value
    assert (error.position, error.recorded, error.requested) == MISMATCHES[name]
    assert error.location is not None
    assert error.location.startswith(str(ROOT / "workflows"))
    replayer.evict()
