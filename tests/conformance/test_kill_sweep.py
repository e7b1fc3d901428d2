"""Scenario 9: SIGKILL at every commit and before every effect, each in turn.

`BELUGAWF_TEST_KILL_AT=N` lets a process kill itself at its N-th such point. Each sweep counts N
upward until the process survives to its end. After each kill the run is resumed to its end; its
result must be the same, no activity whose completion was recorded runs again, and no signal that
was acknowledged is lost.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.conformance.harness import Project, Result
from tests.forking import POSSIBLE

# Far above what the flow needs (about a hundred): a sweep that does not end is a failure.
MOST_POINTS = 2000

FLOW = """
    @activity
    def prepare() -> int:
        note("prepare")
        return 1


    @activity
    def flaky(number: int) -> int:
        note(f"flaky {number}")
        if activity.info().attempt < 3:
            raise ConnectionError("no line")
        return number


    @activity
    async def piece(number: int) -> int:
        note(f"piece {number}")
        return number


    @activity(at_most_once=True)
    def once() -> int:
        note("once")
        return 0


    @workflow
    async def flow(ctx: WorkflowContext) -> dict:
        total = await ctx.execute_activity(prepare)
        total += await ctx.execute_activity(
            flaky, 10, retry=RetryPolicy(max_attempts=4, initial_delay=0.02)
        )
        await ctx.sleep(0.05)
        total += sum(await asyncio.gather(*(ctx.execute_activity(piece, n) for n in range(3))))
        signal = await ctx.wait_for_signal("go", timeout="24h")
        await asyncio.sleep(0.02)
        total += sum(await asyncio.gather(*(ctx.execute_activity(piece, n) for n in range(3, 6))))
        try:
            total += await ctx.execute_activity(once)
        except ActivityInterruptedError:
            note("once was interrupted")
        return {"total": total, "signal": signal.payload}
"""

RESULT = {"total": 1 + 10 + sum(range(6)), "signal": "on"}
SIGNAL = ("signal", "go", "f", "--text", "on", "--key", "the-one")


def recorded_activities(project: Project) -> list[str]:
    """The log lines of the activities whose completion is in the history."""
    if not project.db.exists() or not project.query_db(
        "SELECT 1 FROM sqlite_schema WHERE name = 'events'"
    ):
        return []
    rows = project.query_db("SELECT type, seq, name, payload FROM events ORDER BY run, position")
    lines = {
        seq: " ".join([name, *map(str, json.loads(arguments))])
        for kind, seq, name, arguments in rows
        if kind == "ActivityScheduled"
    }
    return [lines[seq] for kind, seq, _, _ in rows if kind == "ActivityCompleted"]


def stored_run(project: Project) -> tuple[str, str | None, str] | None:
    """Status, result and awaited signals of the run, read by SQLite: a sweep looks many times."""
    if not project.db.exists() or not project.query_db(
        "SELECT 1 FROM sqlite_schema WHERE name = 'runs_view'"
    ):
        return None
    rows = project.query_db(
        "SELECT status, result, coalesce(waiting_for, '') FROM runs_view WHERE workflow_id = 'f'"
    )
    return rows[0] if rows else None


def finish_after_kill(project: Project, killed: Result, *, acknowledged: bool) -> None:
    """Resume, signal where nobody has, and check what must hold."""
    recorded = recorded_activities(project)
    before = Counter(project.log())
    if stored_run(project) is None:
        assert not recorded, f"a run was lost\n{killed}"
        project.cli("run", "flow", "--id", "f")
    project.cli("resume", "f")
    status, result, awaited = stored_run(project) or ("", None, "")
    if status == "running":
        assert not acknowledged, f"an acknowledged signal was lost\n{killed}"
        assert awaited == "go", f"{killed}\n{awaited}"
        project.cli(*SIGNAL)
        status, result, _ = stored_run(project) or ("", None, "")
    assert status == "completed", f"{killed}\n{status}"
    assert result is not None
    assert json.loads(result) == RESULT, killed
    after = Counter(project.log())
    for line in recorded:
        assert after[line] == before[line], f"{line!r} was recorded and ran again\n{killed}"
    assert after["once"] <= 1, f"an at-most-once activity ran twice\n{killed}"
    received = project.query_db("SELECT count(*) FROM events WHERE type = 'SignalReceived'")
    assert received == [(1,)], killed


def sweep(base: Project, *command: str, acknowledged: bool) -> tuple[int, Counter[str]]:
    """Kill `command` at every point, on copies of `base`; how many points there were, by name."""
    with ThreadPoolExecutor(2) as pool:
        for first in count(1, 2):
            assert first < MOST_POINTS
            points = (first, first + 1)
            survived = list(pool.map(_attempt(base, command, acknowledged), points))
            if any(survived):
                points_tried = points[survived.index(True)] - 1
                return points_tried, _names(base, command, points_tried)
    raise AssertionError


def _attempt(base: Project, command: tuple[str, ...], acknowledged: bool) -> Callable[[int], bool]:
    def attempt(point: int) -> bool:
        project = base.copy_to(base.root.parent / f"{base.root.name}-{command[0]}-{point}")
        log = project.root / "points.log"
        env = {"BELUGAWF_TEST_KILL_AT": str(point), "BELUGAWF_TEST_KILL_LOG": str(log)}
        done = project.cli(*command, check=None, env=env)
        assert done.code in (0, -signal.SIGKILL), f"killed at point {point}\n{done}"
        killed = done.code != 0
        sent = acknowledged or (command == SIGNAL and not killed)
        finish_after_kill(project, done, acknowledged=sent)
        return not killed

    return attempt


def _names(base: Project, command: tuple[str, ...], points: int) -> Counter[str]:
    """The names of the points, as the last killed process has written them."""
    log = Path(base.root.parent / f"{base.root.name}-{command[0]}-{points}" / "points.log")
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(line.split(" ", 1)[1] for line in lines)


@pytest.fixture
def base(project: Project) -> Project:
    """A project with the flow, in which deaths are not counted against activities.

    Its processes are forked: what a sweep needs is many of them, each killed as any other.
    """
    project.provider = replace(project.provider, forked=POSSIBLE)
    project.configure("max_crashes: 0\n")
    project.write_module("flow", FLOW)
    return project


@pytest.mark.local_only
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.cached_only
def test_09_kill_sweep_of_a_start(base: Project, report: Callable[[str], None]) -> None:
    """Killed anywhere between the start and the wait: all or nothing, then the same result."""
    points, names = sweep(base, "run", "flow", "--id", "f", acknowledged=False)
    report(f"kill sweep of run: {points} kill points; {dict(names)}")
    assert points >= 10


@pytest.mark.local_only
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.cached_only
def test_09_kill_sweep_of_a_signal(base: Project, report: Callable[[str], None]) -> None:
    """Killed anywhere while a signal is delivered and acted on: it counts once, or not at all."""
    base.cli("run", "flow", "--id", "f")
    points, names = sweep(base, *SIGNAL, acknowledged=False)
    report(f"kill sweep of signal: {points} kill points; {dict(names)}")
    assert points >= 10


@pytest.mark.local_only
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_09_kill_sweep_of_a_resume(base: Project, report: Callable[[str], None]) -> None:
    """Killed anywhere in a resume after a signal was acknowledged: the signal is never lost."""
    base.cli("run", "flow", "--id", "f", "-d")
    base.cli(*SIGNAL, "--no-resume")
    points, names = sweep(base, "resume", "f", acknowledged=True)
    report(f"kill sweep of resume: {points} kill points; {dict(names)}")
    assert points >= 10
