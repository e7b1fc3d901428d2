"""Who watches the simulated machine: after each commit, at each beginning of an activity, and when
all is over.

It reads the database through a connection of its own, right after each COMMIT and so before anybody
can act on it, and knows by itself what was acknowledged, what ran, and which process lives.
"""

from __future__ import annotations

import itertools
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from belugawf.authoring.activity import ActivityInfo, current_attempt
from belugawf.model import events as e
from belugawf.model.codec import decode, encode
from belugawf.model.history import is_recorded_command, options_of
from belugawf.replay.replayer import Replayer
from tests.powercut.checks import Corrupt, check_consistent, read_snapshot
from tests.simulation import programs

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

_ENDS = (e.ActivityCompleted, e.ActivityFailed, e.ActivityTimedOut)


class Violation(Exception):
    """A promise was broken."""


class _Run(NamedTuple):
    run_id: str
    length: int
    status: str
    owner: str | None
    problem: str | None


class _Message(NamedTuple):
    run: int
    kind: str
    payload: str | None


@dataclass
class _Execution:
    """An attempt that has begun: whose, and how it ended (`result` is `None` until it returned)."""

    process: Process
    attempt: Any
    number: int
    over: bool = False
    result: int | None = None


@dataclass
class Sent:
    """What a caller was told of a message: from when to when it was being sent."""

    run_id: str
    payload: str
    begun: int
    acknowledged: int


class Observer:
    """Keeps the first `violation` that it sees."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._db = world.storage.observer
        self.violation: Violation | None = None
        self.digest = 0  # of what was committed when, by whom
        self.histories: dict[str, list[e.Event]] = {}
        self._runs: dict[int, _Run] = {}
        self._inbox: dict[int, _Message] = {}
        self._sent_to: set[tuple[str, str, str | None]] = set()
        self._executions: dict[tuple[str, int], list[_Execution]] = defaultdict(list)
        self._numbers = itertools.count(1)
        self.moments = itertools.count(1)
        self.started: list[str] = []
        self.signalled: list[Sent] = []
        self.cancelled: list[Sent] = []
        self.terminated: list[str] = []
        self.results: list[tuple[str, int]] = []

    def complain(self, text: str, error: BaseException | None = None) -> None:
        """Something is wrong; the first thing counts."""
        if self.violation is None:
            self.violation = Violation(text)
            self.violation.__cause__ = error

    # -- at each commit --------------------------------------------------------------------------

    def committed(self, process: Process) -> None:
        """That process has committed a transaction."""
        self._world.stats["commits"] += 1
        if self.violation is not None:
            return
        self._db.execute("BEGIN")
        try:
            self._compare(process)
        finally:
            self._db.execute("ROLLBACK")

    def _compare(self, process: Process) -> None:
        rows = self._db.execute(
            "SELECT r.key, r.run_id, r.history_length, r.status, l.owner, l.problem "
            "FROM runs r LEFT JOIN live l ON l.run = r.key"
        )
        now = {key: _Run(*columns) for key, *columns in rows.fetchall()}
        messages = self._db.execute("SELECT id, run, kind, payload FROM inbox")
        inbox = {number: _Message(*columns) for number, *columns in messages.fetchall()}
        news: dict[int, list[e.Event]] = {}
        for key, run in now.items():
            old = self._runs.get(key)
            if old != run:
                news[key] = self._read_on(key, run)
                self._check_owner(process, key, run, old, news[key], inbox)
        for number, message in self._inbox.items():
            if number not in inbox:
                self._check_taken(message, now[message.run], news.get(message.run, []))
        said = (self._world.seconds(), process.name, news, inbox)
        self.digest = zlib.crc32(repr(said).encode(), self.digest)
        self._sent_to |= {(now[m.run].run_id, m.kind, m.payload) for m in inbox.values()}
        self._runs, self._inbox = now, inbox

    def _read_on(self, key: int, run: _Run) -> list[e.Event]:
        history = self.histories.setdefault(run.run_id, [])
        if run.length < len(history):
            self.complain(f"{run.run_id} has become shorter")
        if run.length == len(history):
            return []
        rows = self._db.execute(
            "SELECT position, type, time, seq, name, payload, data FROM events "
            "WHERE run = ? AND position > ? ORDER BY position",
            (key, len(history)),
        )
        events = [e.from_row(row) for row in rows]
        history += events
        if [event.position for event in history] != list(range(1, run.length + 1)):
            self.complain(f"{run.run_id} has a hole, or not its length")
        return events

    def _check_owner(
        self,
        process: Process,
        key: int,
        run: _Run,
        old: _Run | None,
        events: list[e.Event],
        inbox: dict[int, _Message],
    ) -> None:
        """Only the owner appends; nobody takes a run from one that lives, or lets it go for it."""
        before = None if old is None else old.owner
        ends_it = bool(events) and isinstance(events[-1], e.WorkflowTerminated)
        if old is not None and events and not ends_it and before not in process.ids:
            self.complain(f"{process.name} appended to {run.run_id}, which is {before}'s")
        if run.owner == before or run.status != "running":
            return
        if run.owner is not None:
            if run.owner not in process.ids or (before is not None and before in self._world.locks):
                self.complain(f"{process.name} took {run.run_id} over from {before}, who lives")
            return
        if before not in process.ids:
            self.complain(f"{process.name} let {run.run_id} go, which is {before}'s")
        mail = any(message.run == key for message in inbox.values())
        if mail and run.problem is None and not process.stops:
            self.complain(f"{process.name} let {run.run_id} go, and left a message unread")

    def _check_taken(self, message: _Message, run: _Run, events: list[e.Event]) -> None:
        """A message leaves the inbox in the transaction that records it."""
        if message.kind == "signal":
            told = any(
                isinstance(x, e.SignalReceived) and x.payload == message.payload for x in events
            )
        elif message.kind == "attempt":
            told = bool(events) or run.status != "running"
        else:
            told = any(isinstance(x, e.CancelRequested) for x in events) or run.status != "running"
        if not told:
            self.complain(f"{message.kind} {message.payload} to {run.run_id} is gone unrecorded")

    # -- at each beginning of an activity --------------------------------------------------------

    @contextmanager
    def execution(self, info: ActivityInfo) -> Iterator[int]:
        """An attempt runs."""
        seq = int(info.activity_id)
        process = self._world.current
        self._check_begin(process, info, seq)
        execution = _Execution(process, current_attempt.get(), next(self._numbers))
        self._executions[info.run_id, seq].append(execution)
        self._world.stats["attempts"] += 1
        try:
            yield execution.number
            execution.result = execution.number
        finally:
            execution.over = True

    def _check_begin(self, process: Process, info: ActivityInfo, seq: int) -> None:
        what = f"{info.activity} {seq} of {info.run_id}, attempt {info.attempt}, in {process.name},"
        history = [x for x in self.histories[info.run_id] if getattr(x, "seq", None) == seq]
        scheduled = [x for x in history if isinstance(x, e.ActivityScheduled)]
        if not scheduled:
            self.complain(f"{what} began before it was on record")
            return
        if any(isinstance(x, _ENDS) for x in history):
            self.complain(f"{what} ran again after its end was recorded")
        begun = any(isinstance(x, e.AttemptStarted) and x.attempt == info.attempt for x in history)
        if not begun and (info.attempt > 1 or scheduled[0].at_most_once):
            self.complain(f"{what} began without its AttemptStarted")
        others = self._executions[info.run_id, seq]
        if scheduled[0].at_most_once and others:
            self.complain(f"{what} runs at most once, and began again")
        if any(x.process.alive and not x.over and not x.attempt.cancelled() for x in others):
            self.complain(f"{what} began while it was running")
        run = next(run for run in self._runs.values() if run.run_id == info.run_id)
        if run.status == "running" and run.owner not in process.ids:
            self.complain(f"{what} began, and the run is {run.owner}'s")

    # -- when all is over ------------------------------------------------------------------------

    def open_runs(self) -> dict[int, _Run]:
        """The runs that have not ended."""
        return {key: run for key, run in self._runs.items() if run.status == "running"}

    def check_all(self) -> None:
        """Raises `Violation`."""
        if self.violation is None:
            self._check_end()
        if self.violation is not None:
            raise self.violation

    def _check_end(self) -> None:
        snapshot = read_snapshot(self._db)
        try:
            check_consistent(snapshot)
        except Corrupt as error:
            self.complain(f"the database contradicts itself: {error}", error)
            return
        if snapshot.histories != self.histories:
            self.complain("a recorded event was changed")
        self._check_acknowledged()
        for run_id, history in self.histories.items():
            self._check_signals(run_id, history)
            self._check_attempts(run_id, history)
            self._check_replay(run_id, history)

    def _check_acknowledged(self) -> None:
        for run_id in self.started:
            if run_id not in self.histories:
                self.complain(f"the start of {run_id} is lost")
        for kind, messages in (("signal", self.signalled), ("cancel", self.cancelled)):
            for sent in messages:
                payload = encode(sent.payload) if kind == "signal" else sent.payload
                if (sent.run_id, kind, payload) not in self._sent_to:
                    self.complain(f"{kind} {sent.payload} to {sent.run_id} is lost")
        for run_id in self.terminated:
            if not isinstance(self.histories[run_id][-1], e.WorkflowTerminated):
                self.complain(f"{run_id} was terminated, and goes on")
        for run_id, result in self.results:
            last = self.histories[run_id][-1]
            if not isinstance(last, e.WorkflowCompleted) or decode(last.payload) != result:
                self.complain(f"{run_id} gave the result {result}, and now says {last}")

    def _check_signals(self, run_id: str, history: list[e.Event]) -> None:
        received = [event for event in history if isinstance(event, e.SignalReceived)]
        places = {decode(event.payload): event.position for event in received}
        if len(places) < len(received):
            self.complain(f"a signal to {run_id} was delivered twice")
        sent = [x for x in self.signalled if x.run_id == run_id and x.payload in places]
        for one, other in itertools.permutations(sent, 2):
            if one.acknowledged < other.begun and places[one.payload] > places[other.payload]:
                self.complain(f"{run_id} got {other.payload} before {one.payload}, sent earlier")
        if self._world.went_back:
            return
        for timer in history:
            late = [x for x in received if isinstance(timer, e.TimerFired) and x.at < timer.at]
            if any(x.position > timer.position for x in late):
                self.complain(f"a signal to {run_id} came in time, and was told after the timer")

    def _check_attempts(self, run_id: str, history: list[e.Event]) -> None:
        failures: dict[int, list[int]] = defaultdict(list)
        limits: dict[int, int] = {}
        for event in history:
            match event:
                case e.ActivityScheduled():
                    limits[event.seq] = options_of(event).retry.max_attempts
                case e.AttemptFailed():
                    failures[event.seq].append(event.attempt)
                case e.ActivityCompleted():
                    results = [x.result for x in self._executions[run_id, event.seq]]
                    if decode(event.payload) not in results:
                        self.complain(f"{event} of {run_id}, and no execution returned that")
        for seq, attempts in failures.items():
            if len(set(attempts)) < len(attempts) or len(attempts) >= limits[seq]:
                self.complain(f"activity {seq} of {run_id} failed at attempts {attempts}")

    def _check_replay(self, run_id: str, history: list[e.Event]) -> None:
        """One of the versions of the code asks for just what is recorded, and takes in order."""
        started = history[0]
        assert isinstance(started, e.WorkflowStarted)
        if not any(map(is_recorded_command, history)):
            return  # it was ended from outside before its code ever ran
        errors = []
        for version in ("sound", "changed"):
            replayer = Replayer(programs.CATALOGS[version].workflow(started.name), started)
            try:
                replayer.replay(history)
                self._check_taken_in_order(run_id, history)
                return
            except Exception as error:
                errors.append(error)
            finally:
                replayer.evict()
        self.complain(f"{run_id} cannot be replayed: {errors[0]}", errors[0])

    def _check_taken_in_order(self, run_id: str, history: list[e.Event]) -> None:
        for name in programs.SIGNALS:
            received = [
                decode(event.payload)
                for event in history
                if isinstance(event, e.SignalReceived) and event.name == name and not event.unread
            ]
            took = [payload for taken, payload in programs.taken[run_id] if taken == name]
            if took != received[: len(took)]:
                self.complain(f"{run_id} was sent {received} and took {took}")
