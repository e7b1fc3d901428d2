"""What a run's code asks for, waits for and reports: where the calls of its context and loop end.

Each call is numbered (`seq`), kept in `commands` until the turn ends, and, if something will answer
it, in `results` or `timers` until that comes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import Context
from datetime import timedelta
from typing import Any, TypeVar

from belugawf.authoring.activity import ActivityMark
from belugawf.authoring.runtime import SignalWait, WorkflowInfo, emit_later
from belugawf.model import commands as c
from belugawf.model.durations import SECOND_NS
from belugawf.model.policy import ActivityDefaults, ActivityOptions
from belugawf.replay.calling import Condition, log_record, only_reads
from belugawf.replay.locating import left_pending, user_location
from belugawf.replay.loop import DeterministicLoop, DurableTimer
from belugawf.replay.numbering import CountedFuture

T = TypeVar("T")

# A workflow has a few activities; marks that are made anew for each call fill this.
_MOST_OPTIONS = 64


class _Result(CountedFuture):
    """What an activity will return; `seq` is the activity's number."""

    seq: int


class _Asked:
    """The options and ids of the activities that a run has asked for.

    The options are made once for one that is asked for again and again. An id that was given is
    never the number of an activity without one.
    """

    def __init__(self, defaults: ActivityDefaults) -> None:
        self._defaults = defaults
        # By identity, with the mark, so that no other one can have its number.
        self._known: dict[int, tuple[ActivityMark, ActivityOptions]] = {}
        self._given: set[str] = set()
        # A bit for each activity that has its number as its id.
        self._numbered = bytearray()

    def add(self, seq: int, mark: ActivityMark, given: str | None) -> tuple[str, ActivityOptions]:
        """The id and the options of the next one."""
        chosen = str(seq)
        if self._given or given is not None:
            chosen = self._unused(seq, chosen if given is None else given)
        if given is None:
            while len(self._numbered) <= seq >> 3:
                self._numbered.append(0)
            self._numbered[seq >> 3] |= 1 << (seq & 7)
        known = self._known.get(id(mark))
        if known is None:
            if len(self._known) >= _MOST_OPTIONS:
                self._known.clear()
            known = self._known[id(mark)] = (mark, mark.options(self._defaults))
        return chosen, known[1]

    def _unused(self, seq: int, base: str) -> str:
        chosen, more = base, 1
        while chosen in self._given or (more == 1 and self._is_numbered(base, seq)):
            more += 1
            chosen = f"{base}#{more}"
        self._given.add(chosen)
        return chosen

    def _is_numbered(self, text: str, before: int) -> bool:
        """Whether an activity without an id, before that one, has that number."""
        if not (text.isdecimal() and text[0] != "0" and len(text) < 20 and int(text) < before):
            return False
        number = int(text)
        held = self._numbered[number >> 3] if number >> 3 < len(self._numbered) else 0
        return bool(held >> (number & 7) & 1)


class Output:
    """Progress and log lines for people. What a replay repeats is dropped."""

    def __init__(self) -> None:
        self.progress: str | float | None = None
        self.logs: list[logging.LogRecord] = []
        self.replaying = False

    def take_progress(self) -> str | float | None:
        """The progress that the code has reported since the last call, if any."""
        progress, self.progress = self.progress, None
        return progress

    def begin_replay(self) -> None:
        """The code now repeats itself."""
        self.replaying = True

    def end_replay(self) -> None:
        """The code now goes on from here."""
        self.replaying, self.progress = False, None
        self.logs.clear()


class ReplayRuntime:
    """Implements `Runtime` for a run's context, `TimerDriver` for its loop.

    `asked` counts the activities, timers and waits so far. `functions` are the callables that the
    code passed for activities still open.
    """

    def __init__(
        self,
        info: WorkflowInfo,
        defaults: ActivityDefaults,
        payload_limit: int,
        context: Context | None,
    ) -> None:
        self.info = info
        self.payload_limit = payload_limit
        self.asked = 0
        self.commands: list[c.Command] = []
        self.timers: dict[int, DurableTimer] = {}
        self.results: dict[int, _Result] = {}
        self.functions: dict[int, Callable[..., Any]] = {}
        self.conditions: OrderedDict[asyncio.Future[None], Condition] = OrderedDict()
        self.output = Output()
        self.loop = DeterministicLoop(self, context)  # type: ignore[abstract]
        self._asked = _Asked(defaults)
        self._now = 0
        self._cancel_requested = False
        self._read_only = False

    # -- what the replayer calls -----------------------------------------------------------------

    def begin_turn(self, now: int, *, after_timer: bool) -> list[c.Command]:
        """A fact of that time comes next; returns what will hold the commands of its turn."""
        self._now = now
        self.loop.begin_turn(now / SECOND_NS, after_timer=after_timer)
        self.commands = []
        return self.commands

    def pop_result(self, seq: int) -> _Result | None:
        """What waits for that activity; `None` if nothing does."""
        self.functions.pop(seq, None)
        return self.results.pop(seq, None)

    def request_cancel(self) -> bool:
        """Cancellation is requested; returns whether for the first time."""
        first, self._cancel_requested = not self._cancel_requested, True
        return first

    def check_conditions(self) -> None:
        """Nothing is ready: look at the conditions, and run until none has come true."""
        while self.conditions and self.loop.exit is None and self._wake_one():
            self.loop.run_ready()

    def _wake_one(self) -> bool:
        """Wake whoever has waited longest of those whose condition holds: it may change that.

        Whether there is something to run now; a condition that does not hold may have seen to that.
        """
        over = []
        for future, condition in self.conditions.items():
            if future.done() or condition.settle(future):
                over.append(future)
            if self.loop.has_ready:
                break
        for future in over:
            del self.conditions[future]
        return self.loop.has_ready

    def read(self, question: Callable[[], T]) -> T:
        """Run a query: its code may only read."""
        self._read_only = True
        self.loop.set_open(False)
        try:
            return question()
        finally:
            self._read_only = False

    def warn_of(self, pending: Sequence[asyncio.Task[Any]], location: str) -> None:
        """The code has ended: say which of these it has not waited for."""
        left = left_pending(pending)
        if left is not None:
            self.emit_log(log_record(self.info, location, logging.WARNING, left))

    def forget(self) -> None:
        """Drop what the code has asked for: the run was let go."""
        self.commands.clear()
        self.output.logs.clear()
        self.loop.unhandled.clear()
        self.conditions.clear()

    # -- Runtime: what the context calls ---------------------------------------------------------

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked the run to stop."""
        self._check_alive()
        return self._cancel_requested

    def schedule_activity(
        self,
        mark: ActivityMark,
        function: Callable[..., Any] | None,
        arguments: str,
        types: tuple[Any, ...],
        activity_id: str | None,
        location: str,
    ) -> asyncio.Future[str]:
        seq = self._next_seq()
        chosen, options = self._asked.add(seq, mark, activity_id)
        self.commands.append(
            c.ScheduleActivity(
                seq=seq,
                name=mark.name,
                arguments=arguments,
                types=types,
                activity_id=chosen,
                options=options,
                function=function,
                location=location,
            )
        )
        if function is not None:
            self.functions[seq] = function
        result = self.loop.new_future(_Result)
        result.seq = seq
        self.results[seq] = result
        return result

    def cancel_activity(self, result: asyncio.Future[str]) -> None:
        assert isinstance(result, _Result)
        if not self._hears():
            return
        seq = result.seq
        if self.results.pop(seq, None) is not None:
            self.functions.pop(seq, None)
            self.commands.append(c.RequestActivityCancel(seq=seq, location=user_location(2)))

    def begin_wait(self, wait: SignalWait) -> int:
        seq = self._next_seq()
        self.commands.append(
            c.StartWait(
                seq=seq,
                name=wait.name,
                timeout=wait.timeout,
                prompt=wait.prompt,
                expected=wait.expected,
                schema=wait.schema,
                location=wait.location,
            )
        )
        return seq

    def end_wait(self, token: int, outcome: str) -> None:
        if self._hears():
            self.commands.append(c.EndWait(seq=token, outcome=outcome, location=user_location(2)))

    def wait_condition(self, predicate: Callable[[], bool]) -> asyncio.Future[None]:
        self._check()
        future: asyncio.Future[None] = self.loop.create_future()
        self.conditions[future] = Condition(predicate)
        return future

    def new_future(self) -> asyncio.Future[Any]:
        return self.loop.create_future()

    def call_at(self, moment: int, callback: Callable[..., object], *args: Any) -> Any:
        return self.loop.call_at_moment(moment, callback, *args)

    def now(self) -> int:
        self._check_alive()
        return self._now

    def random(self, purpose: str) -> random.Random:
        return random.Random(f"{self.info.run_id}:{purpose}")  # noqa: S311 - to be repeated

    def is_replaying(self) -> bool:
        return self.output.replaying

    def emit_log(self, record: logging.LogRecord) -> None:
        if self.loop.open and not self.output.replaying:
            self.output.logs.append(record)

    def publish_progress(self, progress: str | float) -> None:
        self._check()
        self.output.progress = progress

    # -- TimerDriver: what the loop calls --------------------------------------------------------

    def start_timer(self, timer: DurableTimer, delay: timedelta) -> int:
        seq = self._next_seq()
        self.timers[seq] = timer
        self.commands.append(
            c.StartTimer(seq=seq, delay=delay, moment=timer.moment, location=user_location(2))
        )
        return seq

    def cancel_timer(self, timer: DurableTimer) -> None:
        if self.timers.pop(timer.seq, None) is not None:
            self.commands.append(c.CancelTimer(seq=timer.seq, location=user_location(2)))

    def log(self, record: logging.LogRecord) -> None:
        emit_later(self, record)

    def _next_seq(self) -> int:
        if self._read_only or not self.loop.open:
            self._check()
        self.asked += 1
        return self.asked

    def _hears(self) -> bool:
        """Whether the end of something counts. What the collector closes ends without a word."""
        if self.loop.evicting or self._read_only:
            self._check()
        return self.loop.open

    def _check(self) -> None:
        self._check_alive()
        if self._read_only:
            raise only_reads()

    def _check_alive(self) -> None:
        if not self._read_only:
            self.loop.check()
