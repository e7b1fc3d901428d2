"""Who watches the simulated machine: after each commit, at each beginning of an activity, and when
all is over.

It reads the database through a connection of its own, right after each COMMIT and so before anybody
can act on it, and knows by itself what was acknowledged, what ran, and which process lives.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from belugawf.authoring.activity import ActivityInfo, current_attempt
from belugawf.executor.info import REOPENED
from belugawf.model import events as e
from belugawf.model.codec import decode, encode
from belugawf.model.durations import ns_datetime
from belugawf.model.history import OpenWork, effective, is_recorded_command, options_of
from belugawf.model.soundness import check_history
from belugawf.replay.replayer import Replayer
from tests.powercut.checks import Corrupt, check_consistent, read_snapshot
from tests.simulation import programs
from tests.simulation.reopenings import ATTEMPT_ENDS, complaints, incarnations

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

_ENDS = (e.ActivityCompleted, e.ActivityFailed, e.ActivityTimedOut)


class Violation(Exception):
    """A promise was broken. `stats`: what had happened until then."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.stats: Counter[str] = Counter()


class Run(NamedTuple):
    """A run as of a commit."""

    run_id: str
    workflow_id: str
    length: int
    status: str
    owner: str | None
    problem: str | None


class _Message(NamedTuple):
    run: int
    kind: str
    payload: str | None


@dataclass(eq=False)
class Execution:
    """An attempt that has begun: whose, and how it ended (`result` is `None` until it returned).

    Moments are in seconds of the monotonic clock. `refused`: its run was, while it was at work.
    `owned`: its run is its process's until it is over. `scheduled_at` is which event has scheduled
    its activity, and `epoch` how often its run had been taken up again, with `length` events.
    """

    process: Process
    attempt: Any
    info: ActivityInfo
    key: int
    number: int
    began_at: float
    owned: bool
    in_thread: bool
    at_most_once: bool
    scheduled_at: int = 0
    epoch: int = 0
    length: int = 0
    over: bool = False
    ended_at: float = 0.0
    result: int | None = None
    refused: bool = False

    @property
    def name(self) -> str:
        """What a person calls it."""
        info = self.info
        what = f"{info.activity} {info.activity_id} of {info.run_id}, attempt {info.attempt}"
        return f"{what}, in {self.process.name},"

    @property
    def seen(self) -> bool:
        """Whether its process has seen that it ended or was stopped, and could write that down.

        It could not if it was killed; nor if it left because the disk refused something: a worker
        goes on trying until it is stopped, others leave at once.
        """
        process = self.process
        if process.killed or not (process.leaving or not process.alive):
            return not process.killed
        if not process.is_worker:
            return process.hindered_at < 0
        since = self.began_at if self.attempt.cancelled() else self.ended_at
        stopped_at = process.interrupted_at
        return process.hindered_at < (since if stopped_at is None else min(since, stopped_at))

    def on_record(self, histories: dict[str, list[e.Event]]) -> bool:
        """Whether its end stands in the run's history."""
        seq, attempt = int(self.info.activity_id), self.info.attempt
        return any(
            isinstance(x, ATTEMPT_ENDS) and (x.seq, x.attempt) == (seq, attempt)
            for x in histories[self.info.run_id][self.scheduled_at :]
        )

    def was_lost(self, history: list[e.Event]) -> bool:
        """Whether its run has ended since it began, and was taken up again: its end may have come
        too late to be written down.
        """
        return any(x.kind is e.Kind.CLOSING for x in history[self.length :])

    def may_come_again(self, history: list[e.Event]) -> bool:
        """Whether it failed, and that counts no more since its run was taken up again."""
        seq, attempt = int(self.info.activity_id), self.info.attempt
        return any(
            isinstance(x, (e.ActivityFailed, e.ActivityTimedOut))
            and (x.seq, x.attempt) == (seq, attempt)
            for x in history[self.scheduled_at :]
        )


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
        self._runs: dict[int, Run] = {}
        self._inbox: dict[int, _Message] = {}
        self._sent_to: set[tuple[str, str, str | None]] = set()
        self._executions: dict[tuple[str, int], list[Execution]] = defaultdict(list)
        self._working: list[Execution] = []
        self._numbers = itertools.count(1)
        self.moments = itertools.count(1)
        self.started: list[str] = []
        self.signalled: list[Sent] = []
        self.cancelled: list[Sent] = []
        self.terminated: list[str] = []
        self.retried: list[tuple[str, str]] = []
        self.results: list[tuple[str, int]] = []
        self.down_until = 0.0
        self._keys: dict[tuple[str, str, str], str] = {}
        self._open_work: dict[int, tuple[int, Any]] = {}

    def chance(self) -> float:
        """From 0 to 1."""
        return self._world.rng.random()

    def check_up(self) -> None:
        """Raises while what some activities need is down."""
        if self._world.seconds() < self.down_until:
            raise ConnectionError("it is down")

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
            "SELECT r.key, r.run_id, r.workflow_id, "
            "(SELECT max(position) FROM events WHERE run = r.key), r.status, l.owner, l.problem "
            "FROM runs r LEFT JOIN live l ON l.run = r.key"
        )
        now = {key: Run(*columns) for key, *columns in rows.fetchall()}
        messages = self._db.execute("SELECT id, run, kind, payload FROM inbox")
        inbox = {number: _Message(*columns) for number, *columns in messages.fetchall()}
        news: dict[int, list[e.Event]] = {}
        for key, run in now.items():
            old = self._runs.get(key)
            if old != run:
                news[key] = self._read_on(key, run)
                self._check_owner(process, key, run, old, news[key], inbox)
                at_work = [x for x in self._working if x.info.run_id == run.run_id]
                self._world.situations.changed(process, run, old, at_work)
        for key, events in news.items():
            if any(isinstance(event, e.RunReopened) for event in events):
                self._check_reopened(process, now[key], self._runs[key], inbox)
        for number, message in self._inbox.items():
            if number not in inbox and message not in inbox.values():
                self._check_taken(message, now[message.run], news.get(message.run, []))
        self._check_threads(process, now)
        said = (self._world.seconds(), process.name, news, inbox)
        self.digest = zlib.crc32(repr(said).encode(), self.digest)
        self._sent_to |= {(now[m.run].run_id, m.kind, m.payload) for m in inbox.values()}
        self._runs, self._inbox = now, inbox

    def _read_on(self, key: int, run: Run) -> list[e.Event]:
        history = self.histories.setdefault(run.run_id, [])
        if run.length < len(history):
            self.complain(f"{run.run_id} has become shorter")
        if run.length == len(history):
            return []
        rows = self._db.execute(
            "SELECT position, type, time, at, started_at, seq, name, data, payload FROM events "
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
        run: Run,
        old: Run | None,
        events: list[e.Event],
        inbox: dict[int, _Message],
    ) -> None:
        """Only the owner appends, or who claims what is nobody's with what he appends; nobody takes
        a run from one that lives, or lets it go for it.
        """
        before = None if old is None else old.owner
        if events and isinstance(events[-1], e.RunReopened):
            if before in self._world.locks or run.owner is not None:
                self.complain(f"{process.name} took up {run.run_id} again, which is {before}'s")
            return
        ends_it = bool(events) and isinstance(events[-1], e.WorkflowTerminated)
        theirs = before is not None and before not in process.ids
        if theirs and before not in self._world.locks:
            # Of a dead owner's run that nobody can drive, whose time is over.
            last = events[-1] if events else None
            ends_it = ends_it or (isinstance(last, e.WorkflowTimedOut) and last.payload is not None)
        if old is not None and events and not ends_it and theirs:
            self.complain(f"{process.name} appended to {run.run_id}, which is {before}'s")
        if run.status != "running":
            return
        if before is None and run.owner is None and old is not None and events:
            self._check_rests(process, key, run, inbox)
        if run.owner == before:
            return
        if run.owner is not None:
            if run.owner not in process.ids or (before is not None and before in self._world.locks):
                self.complain(f"{process.name} took {run.run_id} over from {before}, who lives")
            return
        if before not in process.ids:
            self.complain(f"{process.name} let {run.run_id} go, which is {before}'s")
        self._check_rests(process, key, run, inbox)

    def _check_rests(
        self, process: Process, key: int, run: Run, inbox: dict[int, _Message]
    ) -> None:
        """Who lets a run go that can be moved on leaves it undone."""
        mail = any(message.run == key for message in inbox.values())
        if mail and run.problem is None and not process.stops:
            self.complain(f"{process.name} let {run.run_id} go, and left a message unread")

    def _check_reopened(
        self, process: Process, run: Run, old: Run, inbox: dict[int, _Message]
    ) -> None:
        """What counted of facts counts still, and nothing is done again that need not be."""
        self._world.situations.reopened(process, old)
        key = next(key for key, other in self._runs.items() if other is old)
        left = [(m.kind, m.payload) for _, m in sorted(inbox.items()) if m.run == key]
        history, executions = self.histories[run.run_id], self.executions_of(run.run_id)
        for complaint in complaints(history, left, executions):
            self.complain(f"{run.run_id} was taken up again: {complaint}")

    def check_memory(self, runs: dict[int, Any]) -> None:
        """What a process holds of its runs is what a fresh look at what counts of them gives."""
        for key, held in runs.items():
            if held.state is None or key not in self._runs:
                continue
            history, length = self.histories[self._runs[key].run_id], held.state.length
            if self._open_work.get(key, (0, None))[0] != length:
                work = OpenWork.of(effective(history[:length]))
                self._open_work[key] = (length, work.to_json())
            if held.state.work.to_json() != self._open_work[key][1]:
                self.complain(f"what is held of {self._runs[key].run_id} is not what counts")

    def hangs_in(self, process: Process) -> bool:
        """Whether a thread is at work there for nobody."""
        return any(x.process is process and x.attempt.cancelled() for x in self._working)

    def _check_threads(self, process: Process, now: dict[int, Run]) -> None:
        """What works for a run in a thread keeps the run its process's, also if the run ends."""
        for x in self._working:
            if not (x.owned and x.in_thread and x.process.alive):
                continue
            run = now[x.key]
            if run.owner in x.process.ids and run.owner in self._world.locks:
                continue
            x.owned = False
            if run.status == "running":
                self.complain(f"{x.name} is at work in a thread, and the run is {run.owner}'s")
            elif process is x.process:
                self.complain(f"{x.name} is at work in a thread, and nobody owns the closed run")

    def _check_taken(self, message: _Message, run: Run, events: list[e.Event]) -> None:
        """A message leaves the inbox in the transaction that records it."""
        if message.kind == "signal":
            told = any(
                isinstance(x, e.SignalReceived) and x.payload == message.payload for x in events
            )
        elif message.kind == "attempt":
            told = self._is_told(message, run, events) or run.status != "running"
        else:
            told = any(isinstance(x, e.CancelRequested) for x in events) or run.status != "running"
        if not told:
            self.complain(f"{message.kind} {message.payload} to {run.run_id} is gone unrecorded")

    def _is_told(self, message: _Message, run: Run, events: list[e.Event]) -> bool:
        """Whether that end of an attempt is on record, or its activity is over anyhow."""
        end = json.loads(message.payload or "")
        counting = effective(self.histories[run.run_id])
        if events and isinstance(events[-1], e.RunReopened):
            activity = OpenWork.of(counting).activities.get(end["seq"])
            stopped = end["status"] == "interrupted"
            if stopped or activity is None or activity.attempt != end["attempt"]:
                return True
        over = (*_ENDS, e.ActivityCancelRequested)
        return any(
            isinstance(x, over) or (x.attempt == end["attempt"])
            for x in counting
            if isinstance(x, (*over, e.AttemptFailed, e.AttemptInterrupted)) and x.seq == end["seq"]
        )

    # -- at each beginning of an activity --------------------------------------------------------

    @contextmanager
    def execution(
        self, info: ActivityInfo, *, in_thread: bool = False, at_most_once: bool = False
    ) -> Iterator[int]:
        """An attempt runs."""
        seq = int(info.activity_id)
        process = self._world.current
        key, run = next((key, r) for key, r in self._runs.items() if r.run_id == info.run_id)
        execution = Execution(
            process,
            current_attempt.get(),
            info,
            key,
            next(self._numbers),
            began_at=self._world.seconds(),
            owned=run.owner in process.ids,
            in_thread=in_thread,
            at_most_once=at_most_once,
            length=len(self.histories[info.run_id]),
        )
        self._check_begin(execution, seq, run)
        self._executions[info.run_id, seq].append(execution)
        self._working.append(execution)
        self._world.stats["attempts"] += 1
        self._world.situations.began(execution)
        try:
            yield execution.number
            execution.result = execution.number
        finally:
            execution.over, execution.ended_at = True, self._world.seconds()
            self._working.remove(execution)
            self._world.situations.ended(execution)
            self._check_stopped(execution, seq)

    def at_work(self, process: Process) -> list[Execution]:
        """What runs in that process, be it that nobody waits for it any more."""
        return [x for x in self._working if x.process is process and process.alive]

    def executions_of(self, run_id: str) -> list[Execution]:
        """All attempts of that run, whatever became of them."""
        return [x for (run, _), xs in self._executions.items() if run == run_id for x in xs]

    def workflow_id_of(self, key: int) -> str:
        """The workflow id of the run of that key."""
        return self._runs[key].workflow_id

    def run_id_of(self, key: int) -> str:
        """The run of that key, as of the last commit."""
        return self._runs[key].run_id if key in self._runs else ""

    def _check_begin(self, begins: Execution, seq: int, run: Run) -> None:
        process, info, what = begins.process, begins.info, begins.name
        whole = self.histories[info.run_id]
        begins.epoch = sum(isinstance(x, e.RunReopened) for x in whole)
        history = [x for x in effective(whole) if getattr(x, "seq", None) == seq]
        scheduled = [x for x in history if isinstance(x, e.ActivityScheduled)]
        if not scheduled:
            self.complain(f"{what} began before it was on record")
            return
        begins.scheduled_at = scheduled[-1].position
        before = [
            x for x in self._executions[info.run_id, seq] if x.number == info.heartbeat_details
        ]
        if any(x.scheduled_at != begins.scheduled_at for x in before):
            self.complain(f"{what} was told the heartbeat of {before[0].name}, which is another's")
        named = (info.run_id, info.activity, info.activity_id)
        if self._keys.setdefault(named, info.idempotency_key) != info.idempotency_key:
            self.complain(f"{what} began with another key")
        if any(isinstance(x, _ENDS) for x in history):
            self.complain(f"{what} ran again after its end was recorded")
        begun = any(isinstance(x, e.AttemptStarted) and x.attempt == info.attempt for x in history)
        if not begun and (info.attempt > 1 or scheduled[0].at_most_once):
            self.complain(f"{what} began without its AttemptStarted")
        if run.status == "running" and run.owner not in process.ids:
            self.complain(f"{what} began, and the run is {run.owner}'s")
        others = self._executions[info.run_id, seq]
        for other in others:
            self._check_beside(begins, other)
            self._check_again(begins, other)
        same = [x for x in others if x.scheduled_at == begins.scheduled_at]
        if scheduled[0].at_most_once and not all(
            x.epoch < begins.epoch and x.may_come_again(whole) for x in same
        ):
            self.complain(f"{what} runs at most once, and began again")
        same = [x for x in same if x.epoch == begins.epoch]
        self._check_failures(begins, same, options_of(scheduled[0]).retry.max_attempts)

    def _check_beside(self, begins: Execution, other: Execution) -> None:
        """No two at a time; in one process a thread that was told to stop is let alone."""
        if other.over or not other.process.alive:
            return
        if not other.attempt.cancelled():
            self.complain(f"{begins.name} began while it was running")
        elif other.in_thread and other.process is not begins.process:
            self.complain(f"{begins.name} began beside a thread of {other.process.name}")

    def _check_again(self, begins: Execution, other: Execution) -> None:
        """What has ended before the eyes of a process that did not die is not done again."""
        history = self.histories[begins.info.run_id]
        if other.scheduled_at != begins.scheduled_at:
            return  # it was asked for once more, after its run was taken up again from before that
        if other.epoch < begins.epoch:
            if begins.info.attempt <= other.info.attempt:
                self.complain(f"{begins.name} has the number of {other.name} from before a retry")
            seq = int(other.info.activity_id)
            since = history[other.scheduled_at :]
            told = any(isinstance(x, e.ActivityCompleted) and x.seq == seq for x in since)
            if not told and other.was_lost(history):
                return
        if not other.seen:
            return
        stopped = other.attempt.cancelled()
        if other.over and not stopped and other.result is not None:
            self.complain(f"{begins.name} ran again after {other.name} had completed")
        elif (other.over or stopped) and begins.info.attempt <= other.info.attempt:
            self.complain(f"{begins.name} ran again after {other.name} had ended")

    def _check_failures(self, begins: Execution, others: list[Execution], most: int) -> None:
        """A failure counts, unless its process was interrupted before, or soon after it."""
        failed = [
            x
            for x in others
            if x.over and x.result is None and not x.attempt.cancelled() and x.seen
            if x.process.interrupted_at is None or x.ended_at < x.process.interrupted_at - 5.0
        ]
        if len(failed) >= most:
            self.complain(f"{begins.name} began after {len(failed)} failures of {most}")

    def _check_stopped(self, execution: Execution, seq: int) -> None:
        """A refusal lets what is at work end."""
        process, info = execution.process, execution.info
        if not (execution.refused and execution.attempt.cancelled() and process.alive):
            return
        late = info.deadline is not None and info.deadline <= ns_datetime(self._world.latest_ns)
        others = late or process.leaving or process.stop_at is not None
        cancelled = any(
            isinstance(x, e.ActivityCancelRequested) and x.seq == seq
            for x in self.histories[info.run_id]
        )
        if not (others or cancelled) and self._runs[execution.key].status == "running":
            self.complain(f"{execution.name} was stopped because its run was refused")

    # -- when all is over ------------------------------------------------------------------------

    def open_runs(self) -> dict[int, Run]:
        """The runs that have not ended."""
        return {key: run for key, run in self._runs.items() if run.status == "running"}

    def to_be_retried(self) -> list[str]:
        """The workflow ids whose last run has ended, and not well."""
        last = {run.workflow_id: run for _, run in sorted(self._runs.items())}
        return [name for name, run in last.items() if run.status in REOPENED]

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
            try:
                check_history(history)
            except ValueError as error:
                self.complain(f"the history of {run_id} is not sound: {error}", error)
            self._check_attempts(run_id, history)
            counting = effective(history)
            self._check_signals(run_id, counting)
            self._check_replay(run_id, counting)

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
        for run_id, reason in self.retried:
            if not any(getattr(x, "reason", None) == reason for x in self.histories[run_id]):
                self.complain(f"{run_id} was taken up again, and that is lost")
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
        failures: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        limits: dict[int, int] = {}
        for event, place, times in incarnations(history):
            match event:
                case e.ActivityScheduled():
                    limits[place] = options_of(event).retry.max_attempts
                case e.AttemptFailed():
                    failures[place, event.seq, times].append(event.attempt)
                case e.ActivityCompleted():
                    results = [x.result for x in self._executions[run_id, event.seq]]
                    if decode(event.payload) not in results:
                        self.complain(f"{event} of {run_id}, and no execution returned that")
                case e.ActivityFailed():
                    for x in self._executions[run_id, event.seq]:
                        if x.scheduled_at != place or x.info.attempt > event.attempt:
                            continue
                        if x.epoch < times and x.was_lost(history):
                            continue
                        if x.result is not None and not x.attempt.cancelled() and x.seen:
                            self.complain(f"{x.name} had completed, and is recorded as failed")
        for (place, seq, _), attempts in failures.items():
            if len(set(attempts)) < len(attempts) or len(attempts) >= limits[place]:
                self.complain(f"activity {seq} of {run_id} failed at attempts {attempts}")

    def _check_replay(self, run_id: str, history: list[e.Event]) -> None:
        """One of the versions of the code asks for just what is recorded, and takes in order."""
        started = history[0]
        assert isinstance(started, e.WorkflowStarted)
        if not any(map(is_recorded_command, history)):
            return  # it was ended from outside before its code ever ran
        errors = []
        for version in programs.RECORDING:
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
