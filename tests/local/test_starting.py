"""Which attempts start when, beside suspects and stops."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from belugawf.executor.options import EngineOptions
from belugawf.host.attempt import AttemptSpec
from belugawf.host.attempts import AttemptRunner
from belugawf.host.suspects import Manner
from belugawf.local.drive.attempts import AttemptQueue
from belugawf.local.drive.run import NOT_STARTED, OwnedRun, RunState, SlotPhase
from belugawf.local.store.rows import RunRow
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.durations import SECOND_NS
from belugawf.model.history import OpenWork
from belugawf.model.outcomes import Outcome
from belugawf.replay.replayer import Replayer
from tests.host import odd_functions

FUNCTIONS: dict[Manner, Callable[..., Any]] = {
    "shared": odd_functions.plain,
    "isolated": odd_functions.plain,
    "alone": odd_functions.closure(),
}


class Attempts:
    """What was started, and goes on until the test says that it has ended."""

    def __init__(self) -> None:
        self.specs: dict[tuple[int, int], AttemptSpec] = {}

    @property
    def count(self) -> int:
        return len(self.specs)

    def start(self, spec: AttemptSpec) -> None:
        self.specs[spec.key] = spec


class Reports:
    """A store in which each activity has reported that it has come to 7."""

    def heartbeat(self, run: int, seq: int) -> Any:
        return 7


class Scene:
    """A queue and the runs that it starts attempts for: `manners` of one activity each."""

    def __init__(self, *manners: Manner, room: int = 8) -> None:
        self.attempts = Attempts()
        self.queue = AttemptQueue(
            cast(AttemptRunner, self.attempts),
            cast(Store, Reports()),
            EngineOptions(concurrency=room),
            started=lambda run, activity: None,
            mark_ready=lambda run: None,
            isolates=True,
        )
        self.runs = {key: _run(key, manner) for key, manner in enumerate(manners, 1)}
        for run in self.runs.values():
            self.queue.queue(run, 0)

    def start(self, seconds: float = 0) -> list[int]:
        """The runs whose attempts start at that moment, or would once that is on disk."""
        before = set(self.attempts.specs)
        self.queue.start(int(seconds * SECOND_NS))
        begun = [key for key, run in self.runs.items() if run.by_phase[SlotPhase.RECORDING]]
        return [*(key for key, _ in self.attempts.specs if (key, 2) not in before), *begun]

    def record(self) -> None:
        """What was to be noted of starts is on disk: these attempts start."""
        for run in self.runs.values():
            for slot in list(run.by_phase[SlotPhase.RECORDING].values()):
                self.queue.launch(slot)

    def end(self, key: int) -> None:
        """That run's attempt is over."""
        del self.attempts.specs[(key, 2)]
        self.runs[key].slots[2].end(cast(Outcome, None))


def _run(key: int, manner: Manner) -> OwnedRun:
    history: list[e.Event] = [
        e.WorkflowStarted(position=1, time=0, name="w", workflow_id=f"w{key}", run_id=f"r{key}"),
        e.ActivityScheduled(position=2, time=0, seq=2, name="a", payload="[]"),
    ]
    if manner != "shared":
        history.append(
            e.AttemptInterrupted(position=3, time=0, seq=2, attempt=1, reason="crash", crashes=2)
        )
    work = OpenWork.of(history)
    run = OwnedRun(
        row=RunRow(
            **dict.fromkeys(("parent_run_id", "input", "result", "error", "closed_at")),
            **dict.fromkeys(("owned_since", "problem", "progress", "due_at", "deadline")),
            **dict.fromkeys(("run_id", "chain_id", "workflow_id", "owner", "workflow"), "r"),
            **dict.fromkeys(("created_at", "updated_at"), 0),
            key=key,
            status="running",
            labels="{}",
            begun=1,
            history_length=len(history),
        ),
        claimed_at=0,
        idle_wait_ns=0,
        interrupted=None,
    )
    replayer = cast(Replayer, SimpleNamespace(functions={2: FUNCTIONS[manner]}))
    run.read(run.row, RunState(replayer, work, len(history), 0, None, True))
    run.open_all()
    return run


def test_a_suspect_that_nobody_waits_for_holds_up_nobody() -> None:
    """One that was cancelled, or timed out, while it let others go first."""
    # FINDINGS B13
    scene = Scene("alone", "shared", "shared", room=2)
    assert scene.start() == [2, 3]
    scene.queue.close(scene.runs[1].slots[2])
    scene.runs[4] = _run(4, "shared")
    scene.queue.queue(scene.runs[4], 0)
    scene.end(2)
    assert scene.start(1000) == [4]


def test_one_that_runs_alone_does_so_until_its_end() -> None:
    """Also where its run is refused meanwhile: others that kill the process would be its deaths."""
    # FINDINGS B13
    scene = Scene("alone", "shared")
    assert scene.start() == [2]
    scene.end(2)
    assert scene.start() == [1]
    scene.record()
    scene.queue.close_all(scene.runs[1], NOT_STARTED)
    scene.runs[3] = _run(3, "shared")
    scene.queue.queue(scene.runs[3], 0)
    assert scene.start() == []
    scene.end(1)
    assert scene.start() == [3]


def test_one_that_was_to_run_alone_and_is_forgotten_holds_up_nobody() -> None:
    """Its start was to be noted, and is not."""
    scene = Scene("alone")
    assert scene.start() == [1]
    scene.queue.close_all(scene.runs[1], NOT_STARTED)
    assert not scene.runs[1].by_phase[SlotPhase.RECORDING]
    scene.runs[2] = _run(2, "shared")
    scene.queue.queue(scene.runs[2], 0)
    assert scene.start() == [2]


@pytest.mark.parametrize(("manner", "crashes"), [("isolated", 2), ("alone", None)])
def test_a_stop_while_a_start_is_written_changes_nothing_of_it(
    manner: Manner, crashes: int | None
) -> None:
    """It has its heartbeat's details, and a suspect still runs by itself."""
    # FINDINGS B13
    scene = Scene(manner)
    assert scene.start() == [1]
    scene.queue.stop()  # while that is being committed
    assert scene.attempts.count == 0
    scene.record()
    spec = scene.attempts.specs[(1, 2)]
    assert (spec.heartbeat_details, spec.crashes) == (7, crashes)
    scene.queue.go_on()
    scene.runs[2] = _run(2, "shared")
    scene.queue.queue(scene.runs[2], 0)
    assert scene.start() == ([] if manner == "alone" else [2])
