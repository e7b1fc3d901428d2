"""How often each situation was reached that a change of the engine must walk through.

Seen from outside: by what is committed, by what the methods of `Store` are asked and answer, and by
the attempts that are at work meanwhile. So this does not change when the engine does.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any
from unittest import mock

from belugawf.local.store.owners import Owners
from belugawf.local.store.retries import Retries
from belugawf.local.store.rows import AppendOutcome
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.durations import ns_datetime

if TYPE_CHECKING:
    from tests.simulation.observer import Execution, Run
    from tests.simulation.world import Process, World

UNKNOWN = "commit of unknown outcome: "
REFUSED_AT_WORK = "refused with something at work, that then: "

_REFUSED = (AppendOutcome.FENCED, AppendOutcome.OVERTAKEN, AppendOutcome.UNWRITABLE)

# What each history counts of these: see `Situations`.
CLAIM_IN_DOUBT = "claim in doubt after a failed commit"
CLAIMED_BY_TURN = "claim by a turn"
CLAIM_TOO_LATE = "claim by a turn that was refused"
BORN = "run born with its first turn"
NOT_BORN = "run that was not born with its first turn"
RETRY = "retry"
START_REFUSED = "AttemptStarted that was not written"
START_IN_DOUBT = "AttemptStarted found after a doubtful commit"
GRACE_OVER = "grace over with a thread that does not stop"
LEFT = "executor left with a thread that does not stop"
CLOSED = "run that closes with such a thread"
LET_GO = "let go with such a thread at work"
TAKEN = "run that somebody waits for, taken by another process"
DRAIN = "drain"
LIMIT = "resume that came to its limit"
NEVER_HELD = "refusal of a run that was never held"
HELD = "refusal of a run that was held"
TWO_REASONS = "two reasons to leave at once"
ENDED = "refused over an end that is not on record"
REOPENED = "a retry of a {} run"
BESIDE_WORKER = "a retry beside a live worker"

SITUATIONS = (
    CLAIM_IN_DOUBT,
    CLAIMED_BY_TURN,
    CLAIM_TOO_LATE,
    BORN,
    NOT_BORN,
    RETRY,
    START_REFUSED,
    START_IN_DOUBT,
    GRACE_OVER,
    LEFT,
    CLOSED,
    TAKEN,
    DRAIN,
    LIMIT,
    NEVER_HELD,
    HELD,
    ENDED,
    *(REFUSED_AT_WORK + end for end in ("completed", "failed", "timed out", "was stopped")),
    REFUSED_AT_WORK + "ended, at most once",
    TWO_REASONS,
    *(REOPENED.format(what) for what in ("failed", "timed out", "cancelled", "parked")),
    BESIDE_WORKER,
)

# What writes, by the name of the method of `Store` that does.
PLACES = (
    *("commit", "claim", "refuse", "abandon", "create", "send", "terminate"),
    "reopen",
    *("read_inbox", "save_heartbeats", "register", "unregister", "forget_dead"),
)


def table(seen: Counter[str], seeds: int) -> str:
    """The situations, with how often each was reached in 1,000 seeds."""
    names = [*SITUATIONS, *(UNKNOWN + place for place in PLACES)]
    names += sorted(name for name in seen if name.startswith(UNKNOWN) and name not in names)
    width = max(map(len, names))
    lines = [f"{'reached per 1,000 seeds':{width}}"]
    lines += [f"{name:{width}} {seen[name] * 1000 / max(seeds, 1):>10,.1f}" for name in names]
    return "\n".join(lines)


class Situations:
    """Counts them in the world's statistics."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._doubtful_starts: set[tuple[str, int, int]] = set()
        self._leaving: dict[str, Process] = {}
        self._waiting: list[tuple[Process, str]] = []

    def _count(self, what: str) -> None:
        self._world.stats[what] += 1

    # -- what the storage and the store say ------------------------------------------------------

    def outcome_unknown(self, process: Process) -> None:
        """A commit was made, and reported as failed."""
        self._count(UNKNOWN + process.place)

    def failed(self, process: Process, place: str, arguments: Sequence[Any]) -> None:
        """A method of the store has raised: nobody knows whether it was in vain."""
        if place == "claim" or any(
            getattr(turn, "claimed_at", None) is not None
            for argument in arguments
            for turn in (argument if isinstance(argument, list) else ())
        ):
            self._count(CLAIM_IN_DOUBT)
        for run, start in _starts_in(arguments):
            if self._is_on_record(run, start):
                run_id = self._world.observer.run_id_of(run)
                self._doubtful_starts.add((run_id, start.seq, start.attempt))
            else:
                self._count(START_REFUSED)

    def returned(self, arguments: Sequence[Any], value: Any) -> None:
        """A method of the store has returned."""
        turns = next((a for a in arguments if isinstance(a, list) and a), ())
        refused = [getattr(turn, "outcome", None) in _REFUSED for turn in turns]
        for turn, missed in zip(turns, refused, strict=True):
            if getattr(turn, "claimed_at", None) is not None:
                self._count(CLAIM_TOO_LATE if missed else CLAIMED_BY_TURN)
            if getattr(turn, "born", None) is not None:
                self._count(NOT_BORN if missed else BORN)
        if any(refused):
            started = {run for run, _ in _starts_in(arguments)}
            for turn, missed in zip(turns, refused, strict=True):
                if missed and turn.run in started:
                    self._count(START_REFUSED)

    def _is_on_record(self, run: int, start: e.AttemptStarted) -> bool:
        history = self._world.observer.histories.get(self._world.observer.run_id_of(run), [])
        return any(
            isinstance(x, e.AttemptStarted) and (x.seq, x.attempt) == (start.seq, start.attempt)
            for x in history
        )

    # -- what the observer sees ------------------------------------------------------------------

    def changed(
        self, process: Process, run: Run, old: Run | None, at_work: Sequence[Execution]
    ) -> None:
        """A commit has changed that run; `at_work` is what works for it anywhere."""
        before = None if old is None else old.owner
        if run.problem is not None and (old is None or run.problem != old.problem):
            self._refused(process, run, before)
        if run.status != "running" and (old is None or old.status == "running"):
            if any(x.in_thread for x in at_work):
                self._count(CLOSED)
            if run.run_id in self._leaving:
                self._count(TWO_REASONS)
        if run.owner is not None and run.owner != before:
            for other, run_id in self._waiting:
                if run_id == run.run_id and other is not process and other.alive:
                    self._count(TAKEN)
        if run.owner is None:
            self._leaving.pop(run.run_id, None)

    def reopened(self, process: Process, old: Run) -> None:
        """That process has taken up a run again, which was `old` before."""
        what = "parked" if old.status == "running" else old.status.replace("_", " ")
        self._count(REOPENED.format(what))
        if any(other.is_worker for other in self._world.processes if other is not process):
            self._count(BESIDE_WORKER)

    def _refused(self, process: Process, run: Run, before: str | None) -> None:
        assert run.problem is not None
        self._count(f"refused: {json.loads(run.problem)['code']}")
        if before not in process.ids:
            self._count(NEVER_HELD)
            return
        self._count(HELD)
        if process.stops:
            self._count(TWO_REASONS)
        executions = self._world.observer.executions_of(run.run_id)
        for x in executions:
            if x.process is not process:
                continue
            if not x.over:
                x.refused = True
                self._leaving[run.run_id] = process
            elif not x.attempt.cancelled() and not x.on_record(self._world.observer.histories):
                self._count(ENDED)

    def asked_to_stop(self, process: Process) -> None:
        """Somebody interrupts that process, or its time is up."""
        for run_id, leaving in list(self._leaving.items()):
            if leaving is process and any(
                not x.over for x in self._world.observer.executions_of(run_id)
            ):
                self._count(TWO_REASONS)

    def began(self, execution: Execution) -> None:
        """An attempt begins."""
        info = execution.info
        if info.attempt > 1:
            self._count(RETRY)
        if (info.run_id, int(info.activity_id), info.attempt) in self._doubtful_starts:
            self._count(START_IN_DOUBT)

    def ended(self, execution: Execution) -> None:
        """An attempt's function is over."""
        process, stopped = execution.process, execution.attempt.cancelled()
        if not process.alive:
            return
        if execution.refused:
            end = "completed" if execution.result is not None else "failed"
            if stopped:
                deadline = execution.info.deadline
                late = deadline is not None and deadline <= ns_datetime(self._world.now())
                end = "timed out" if late else "was stopped"
            self._count(REFUSED_AT_WORK + end)
            if execution.at_most_once:
                self._count(REFUSED_AT_WORK + "ended, at most once")
        stop_at = process.stop_at
        if stop_at is not None and execution.began_at < stop_at <= self._world.seconds():
            self._count(DRAIN)

    # -- what the scenario says ------------------------------------------------------------------

    @contextmanager
    def waiting(self, process: Process, run_id: str) -> Iterator[None]:
        """While this lasts somebody in that process waits for that run."""
        wait = (process, run_id)
        self._waiting.append(wait)
        try:
            yield
        finally:
            self._waiting.remove(wait)

    def limit_reached(self, process: Process) -> None:
        """A resume with a limit has come back after it."""
        self._count(LIMIT)
        if self._threads(process):
            self._count(GRACE_OVER)

    def left(self, process: Process) -> None:
        """Its executor was left."""
        if self._threads(process):
            self._count(LEFT)

    def _threads(self, process: Process) -> bool:
        return any(x.in_thread for x in self._world.observer.at_work(process))


def _starts_in(arguments: Sequence[Any]) -> Iterator[tuple[int, e.AttemptStarted]]:
    """The AttemptStarted of the turns among these arguments, with their runs."""
    for argument in arguments:
        if isinstance(argument, list | tuple):
            for turn in argument:
                for event in getattr(turn, "events", ()):
                    if isinstance(event, e.AttemptStarted):
                        yield turn.run, event


@contextmanager
def watched_store(world: World) -> Iterator[None]:
    """While this lasts it is known which method of `Store` somebody is in."""
    with ExitStack() as stack:
        for owner in (Retries, Owners, Store):
            for name, method in vars(owner).items():
                if inspect.isfunction(method) and not name.startswith("_"):
                    watched = _watched(world, name, method)
                    stack.enter_context(mock.patch.object(owner, name, watched))
        yield


def _watched(world: World, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Store, *args: Any, **options: Any) -> Any:
        process = world.current
        outer = (process.place, process.place_depth, process.doubts)
        if process.place and process.place_depth == world.depth:
            return method(self, *args, **options)  # one method of the store calls another
        process.place, process.place_depth, process.doubts = name, world.depth, False
        arguments = (*args, *options.values())
        try:
            value = method(self, *args, **options)
        except Exception:
            if process.doubts:
                world.situations.failed(process, name, arguments)
            raise
        finally:
            process.place, process.place_depth, process.doubts = outer
        world.situations.returned(arguments, value)
        return value

    return call
