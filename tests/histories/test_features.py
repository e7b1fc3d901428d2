"""Every recorded history of a feature fits today's code; code that was changed is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from belugawf import NondeterminismError
from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.model import events as e
from belugawf.model.history import OpenWork, effective
from belugawf.model.soundness import check_history
from belugawf.replay.replayer import Replayer
from tests.histories import changed, features, status
from tests.histories.rows import recorded
from tests.histories.scenarios import SCENARIOS

RECORDED = Path(__file__).parent / "recorded"
CHANGED = {
    "reminders": (2, "a wait for signal 'answer'", "activity 'echo'"),
    "fan-out": (2, "activity 'echo'", "activity 'echo' with other arguments"),
    # Another delay alone does no harm: what is on record counts.
    "timers": (4, "a timer of 0.002 s", "the workflow's end with a result"),
    "waits-open": (4, "a wait for signal 'a'", "a wait for signal 'c'"),
    "wait-until": (2, "a wait for signal 'vote'", "the workflow's end with a result"),
    "cancelled-with-cleanup": (None, "activity 'echo'", "the workflow's end as cancelled"),
    "retries": (None, "activity 'refuses'", "the workflow's end with ActivityError"),
}


def load(name: str) -> list[e.Event]:
    return [e.from_row(row) for row in recorded(RECORDED / f"{name}.json")]


def replayer_of(module: Any, history: list[e.Event]) -> Replayer:
    started = history[0]
    assert isinstance(started, e.WorkflowStarted)
    function: Callable[..., Any] = getattr(module, started.name)
    return Replayer(WorkflowDefinition(function), started)


def test_every_feature_is_recorded() -> None:
    """The files are those that the table names, and each workflow of `features` is among them."""
    assert {path.stem for path in RECORDED.glob("*.json")} == set(SCENARIOS)
    assert {workflow for workflow, _, _ in SCENARIOS.values()} == {
        function.__name__ for function in features.WORKFLOWS
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_recorded_histories_replay(name: str) -> None:
    """Today's code asks for just what was recorded, and for nothing more at the end."""
    history = load(name)
    _, expected, _ = SCENARIOS[name]
    check_history(history)
    assert status(history) == expected
    replayer = replayer_of(features, history)
    assert replayer.replay(effective(history)) == []
    assert replayer.closed == (expected not in ("running", "terminated", "timed_out"))
    assert OpenWork.of(effective(history)).closed == (expected != "running")
    replayer.evict()


@pytest.mark.parametrize("name", SCENARIOS)
def test_rows_are_written_as_they_were(name: str) -> None:
    """Reading and writing changes no row."""
    assert [e.to_row(event) for event in load(name)] == recorded(RECORDED / f"{name}.json")


def test_every_kind_of_event_is_recorded() -> None:
    """Between them the files have each type of event that there is."""
    assert {type(event) for name in SCENARIOS for event in load(name)} == set(
        e.EVENT_TYPES.values()
    )


@pytest.mark.parametrize("name", CHANGED)
def test_changed_code_is_refused(name: str) -> None:
    """The event, what was recorded, what is asked now, and the line of the changed code."""
    history = load(name)
    replayer = replayer_of(changed, history)
    with pytest.raises(NondeterminismError) as caught:
        replayer.replay(history)
    error = caught.value
    position, recorded, requested = CHANGED[name]
    assert error.recorded == recorded
    assert error.requested.startswith(requested)
    assert position in (None, error.position)
    assert error.location is None or "histories/" in error.location
    assert f"event {error.position} recorded" in error.message
    replayer.evict()
