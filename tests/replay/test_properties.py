"""Laws of replay, tried on generated workflows and generated orders of facts."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from belugawf.model import events as e
from belugawf.model.history import is_fact, record
from tests.replay.driving import Run, briefs
from tests.replay.programs import BRANCHES, LEAVES, Program, digest, drive, grow_all, interpreter


def law(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


@pytest.fixture(autouse=True, scope="module")
def silent() -> Iterator[None]:
    """No destructor complains: no pending task, no coroutine that was never awaited."""
    gc.collect()  # what other tests have dropped is theirs
    unraised: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, unraised.append
    yield
    while made:
        made.pop().replayer.evict()
    gc.collect()
    sys.unraisablehook = hook
    assert [item.exc_value for item in unraised] == []


made: list[Run] = []


@st.composite
def runs(draw: st.DrawFn, *, facts: int = 30) -> Run:
    """A run of a generated program, after generated facts.

    Both come from a seed: chance reaches more kinds of programs than choices one by one do.
    """
    # Examples that hypothesis gave up are let go here: to drop one would run its code.
    while made:
        made.pop().replayer.evict()
    chance = random.Random(draw(st.integers(0, 2**32)))
    run = Run(interpreter, grow_all(chance.randrange, draw(st.integers(0, 3))))
    made.append(run)
    drive(run, chance.randrange, draw(st.integers(0, facts)))
    return run


def as_recorded(run: Run, length: int) -> list[e.Event]:
    """What a prefix's pending commands come to, as events."""
    prefix = run.history[:length]
    pending = run.replay(prefix, partial=True)
    assert briefs(run.replay(prefix, partial=True)) == briefs(pending)
    time = prefix[-1].time
    return [record(c, length + 1 + n, time, clock=time) for n, c in enumerate(pending)]


def recorded_next(run: Run, length: int) -> list[e.Event]:
    """What the history recorded from there to the next fact."""
    events = []
    for event in run.history[length:]:
        if is_fact(event):
            break
        events.append(event)
    return events


@law(400)
@given(runs(), st.data())
def test_a_longer_history_only_adds(run: Run, data: st.DataObject) -> None:
    """Replaying a prefix twice asks for the same, and for just what the history recorded next."""
    lengths = st.lists(st.integers(1, len(run.history)), min_size=5, max_size=5, unique=True)
    for length in data.draw(lengths) if len(run.history) > 5 else range(1, len(run.history) + 1):
        assert as_recorded(run, length) == recorded_next(run, length)


@law(400)
@given(runs(facts=60))
def test_nothing_is_pending_after_a_full_history(run: Run) -> None:
    """The whole history replays strictly; so it does after a round trip through rows."""
    assert run.replay() == []
    stored = [e.from_row(e.to_row(event)) for event in run.history]
    assert stored == run.history
    assert run.replay(stored) == []


@law(400)
@given(runs(), st.data())
def test_a_replayed_run_goes_on_as_the_other(run: Run, data: st.DataObject) -> None:
    """A run that was let go and replayed answers the next facts as the one kept in memory.

    It is replayed in pieces that begin with a fact.
    """
    kept, replayed = run.replayer, run.fresh()
    starts = [i for i, event in enumerate(run.history) if i and is_fact(event)]
    cuts = sorted(data.draw(st.sets(st.sampled_from(starts)))) if starts else []
    for start, end in pairwise([0, *cuts, len(run.history)]):
        assert replayed.replay(run.history[start:end]) == []
    assert replayed.closed == kept.closed
    clock = run.clock
    for name in ("a", "b"):
        if not kept.closed:
            signal = e.SignalReceived(
                position=run.next, time=clock, name=name, payload="null", at=clock
            )
            assert briefs(replayed.apply(signal)) == briefs(kept.apply(signal))
    if not kept.closed:
        cancel = e.CancelRequested(position=run.next, time=clock, at=clock)
        assert briefs(replayed.apply(cancel)) == briefs(kept.apply(cancel))
    kept.evict()
    replayed.evict()


@law(400)
@given(runs())
def test_letting_go_takes_no_command(run: Run) -> None:
    """Evicting at any point raises nothing, asks for nothing, and cannot be undone."""
    run.replayer.evict()
    assert run.replayer._runtime.commands == []
    assert run.replayer.take_logs() == []


@law(400)
@given(runs())
def test_what_is_open_is_what_the_code_waits_for(run: Run) -> None:
    """The history's open activities and timers are those that the replayer can answer."""
    if not run.closed:
        assert set(run.work.activities) == set(run.replayer._runtime.results)
        assert set(run.work.timers) == set(run.replayer._runtime.timers)
    run.replayer.evict()


def test_programs_are_of_every_kind() -> None:
    """The generator reaches every kind of step, so that the laws say something."""
    seen: set[str] = set()

    def collect(program: Program) -> None:
        seen.add(program[0])
        for part in program[1:]:
            if isinstance(part, list):
                collect(part)

    endings: set[str] = set()
    for seed in range(150):
        chance = random.Random(seed)
        program = grow_all(chance.randrange)
        collect(program)
        run = Run(interpreter, program)
        drive(run, chance.randrange, 10 + seed % 30)
        endings.add(type(run.history[-1]).__name__ if run.closed else "open")
        run.replayer.evict()
    assert seen == {*LEAVES, *BRANCHES}
    assert endings == {"WorkflowCompleted", "WorkflowFailed", "WorkflowCancelled", "open"}


def test_hash_seeds_change_nothing() -> None:
    """The same programs ask for the same commands whatever PYTHONHASHSEED is."""
    root = Path(__file__).parents[2]
    script = "from tests.replay.programs import digest; print(digest(range(60)))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "4294967295")
    ]
    digests = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert digests == {digest(range(60))}
