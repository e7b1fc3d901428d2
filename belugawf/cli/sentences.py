"""Sentences about runs: what one waits for, how it ended, and what to type next."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from belugawf.cli import exits, render
from belugawf.cli.render import escape, moment, short_duration
from belugawf.cli.streams import STREAMS
from belugawf.model import events as ev
from belugawf.model.durations import SECOND_NS

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import ActivityState, DurableExecutor, OpenWait, Owner, RunInfo, Waiting

_FRAME = r'^\s*File "(?P<path>[^"]+)", line \d+'


# More activities than that are counted.
_MOST_ACTIVITIES = 10


# -- waits ---------------------------------------------------------------------------------------


def answer(session: Session, signal: str, expected: str | None, run: str | None) -> str:
    """The command that answers a wait; `run` if the signal's name alone is not enough."""
    # If the wait names no type, the example is the commonest answer: a yes.
    examples = {"bool": "true", "int": "1", "float": "1.5"}
    payload = ["--payload", examples.get(expected or "bool", "<JSON>")]
    if expected == "str":
        payload = ["--text", "..."]
    names = [signal] if run is None else [signal, run]
    return escape(session.command("signal", *names, options=payload))


def answer_open(session: Session, wait: OpenWait, waiting_runs: Mapping[str, int]) -> str:
    """The command that answers an open wait, if so many runs wait for each signal."""
    run = wait.workflow_id if waiting_runs[wait.signal] > 1 else None
    return answer(session, wait.signal, wait.expected, run)


def wait_json(session: Session, wait: OpenWait, waiting_runs: Mapping[str, int]) -> dict[str, Any]:
    """An open wait as JSON, with the command that answers it."""
    return {**wait.to_json(), "command": answer_open(session, wait, waiting_runs)}


async def awaiting_runs(executor: DurableExecutor, infos: Iterable[RunInfo]) -> Counter[str]:
    """How many open runs, from 0 to 2, wait for each signal that these runs wait for."""
    return await awaited_by(
        executor, (w.name for info in infos for w in info.waiting_for if w.kind == "signal")
    )


async def awaited_by(executor: DurableExecutor, signals: Iterable[str]) -> Counter[str]:
    """How many open runs, from 0 to 2, wait for each of these signals."""
    waits: list[OpenWait] = []
    for name in dict.fromkeys(signals):
        waits += await executor.waiting(signal=name, limit=2)
    return count_waits(waits)


def count_waits(waits: Iterable[OpenWait]) -> Counter[str]:
    """How many runs wait for each signal."""
    return Counter(name for name, _ in {(wait.signal, wait.run_id) for wait in waits})


def wait_text(session: Session, wait: Waiting) -> str:
    """What is waited for and until when, without the run and without the command."""
    terminal = session.talk_terminal
    bound = "" if wait.until is None else f" until {moment(wait.until, terminal)}"
    name = escape(wait.name)
    if wait.kind == "timer":
        return f"sleeping {name}{bound}"
    if wait.kind == "activity":
        name = activity_text(wait.name, wait.id)
        if wait.state == "retrying":
            retry = "" if wait.until is None else f", next try {render.relative(wait.until)}"
            return f"activity {name} to be tried again{attempts(wait)}{retry}{last_error(wait)}"
        return f"activity {name}{attempts(wait)}"
    if wait.answered:
        return f"signal {name} has been sent, and is not read yet"
    return f"waiting for {wait.kind} {name}{bound}"


def activity_text(name: str, given_id: str | None) -> str:
    """An activity's name, with the id that it was given: "load (order-17)"."""
    return f"{escape(name)} ({escape(given_id)})" if given_id else escape(name)


def count_activities(activities: Iterable[tuple[str, str]]) -> list[str]:
    """Pairs of name and state as "load: 194 completed, 6 failed"."""
    states: dict[str, Counter[str]] = {}
    for name, state in activities:
        states.setdefault(name, Counter())[state.replace("_", " ")] += 1
    return [
        f"{escape(name)}: " + ", ".join(f"{count:,} {state}" for state, count in counts.items())
        for name, counts in states.items()
    ]


def attempts(wait: Waiting) -> str:
    """ " (attempt 2 of 3)", "" if the attempt is not known."""
    return "" if wait.attempt is None else f" ({attempt_text(wait.attempt, wait.max_attempts)})"


def attempt_text(attempt: int, most: int | None) -> str:
    """ "attempt 2 of 3". Interrupted attempts count as well, so there may be more than `most`:
    then, and without a limit (0, `None`), it is "attempt 4"."""
    return f"attempt {attempt} of {most}" if most and attempt <= most else f"attempt {attempt}"


def last_error(wait: Waiting) -> str:
    return f"; last error: {escape(wait.error)}" if wait.error else ""


def say_waits(session: Session, info: RunInfo, waiting_runs: Mapping[str, int]) -> None:
    """Say what the run waits for, until when, and what to type."""
    if info.unattended is not None:
        command = escape(session.command("worker"))
        session.say(f"{escape(info.workflow_id)}: {escape(info.unattended)}; start one: {command}")
        return
    shown, rest = most_waits(info)
    for wait in shown:
        line = f"{escape(info.workflow_id)}: {wait_text(session, wait)}"
        if wait.kind == "signal" and not wait.answered:
            run = info.workflow_id if waiting_runs.get(wait.name, 0) > 1 else None
            line += f": {answer(session, wait.name, wait.expected, run)}"
        elif wait.kind != "child" and wait is shown[-1] and not rest:
            line += f": {resume_command(session, info)}"
        session.say(line)
        if wait.prompt and not wait.answered:
            session.say(f"  {escape(wait.prompt)}")
    for number, line in enumerate(rest, 1):
        command = f": {resume_command(session, info)}" if number == len(rest) else ""
        session.say(f"{escape(info.workflow_id)}: activities of {line}{command}")


def most_waits(info: RunInfo) -> tuple[list[Waiting], list[str]]:
    """What a run waits for, as much as fits on a screen; the activities beyond it, counted."""
    others = [wait for wait in info.waiting_for if wait.kind != "activity"]
    activities = [wait for wait in info.waiting_for if wait.kind == "activity"]
    if len(activities) <= _MOST_ACTIVITIES:
        return list(info.waiting_for), []
    # Those that have failed say more than the others.
    first = sorted(activities, key=lambda wait: (wait.error is None, wait.since))
    shown, rest = first[:_MOST_ACTIVITIES], first[_MOST_ACTIVITIES:]
    counted = count_activities((wait.name, f"more {wait.state or 'open'}") for wait in rest)
    return [*others, *shown], counted


def say_open_wait(session: Session, wait: OpenWait, waiting_runs: Mapping[str, int]) -> None:
    """Say that a run has begun to wait, with its question and the command that answers it."""
    until = "" if wait.until is None else f" until {moment(wait.until, session.talk_terminal)}"
    session.say(
        f"{escape(wait.workflow_id)}: waiting for signal {escape(wait.signal)}{until}: "
        f"{answer_open(session, wait, waiting_runs)}"
    )
    if wait.prompt:
        session.say(f"  {escape(wait.prompt)}")


def moving_command(session: Session, info: RunInfo) -> str:
    """What to type if nobody drives the run: a worker or an answer, if it waits for one."""
    if info.unattended is not None:
        return escape(session.command("worker"))
    if info.problem is None and not info.cancel_requested and info.waiting_for:
        wait = info.waiting_for[0]
        if all(_for_an_answer(other) for other in info.waiting_for):
            return answer(session, wait.name, wait.expected, info.workflow_id)
    return resume_command(session, info)


def _for_an_answer(wait: Waiting) -> bool:
    """Whether only an answer ends the wait now: `resume` would do nothing."""
    due = wait.until is not None and wait.until <= render.now_ns()
    return wait.kind == "signal" and not wait.answered and not due


def resume_command(session: Session, info: RunInfo) -> str:
    return escape(session.command("resume", info.workflow_id))


# What comes to a run from outside, as its history has it.
Message: TypeAlias = ev.SignalReceived | ev.CancelRequested | ev.WorkflowTerminated
# So many events of a history are looked through for them.
_LOOKED_AT = 1_000


async def messages_of(executor: DurableExecutor, info: RunInfo) -> list[Message]:
    """The signals and requests that are among the last events of a run."""
    begin = max(0, info.history_length - _LOOKED_AT)
    events = await executor.history(info.run_id, after=begin or None)
    return [event for event in events if isinstance(event, Message)]


# -- events -------------------------------------------------------------------------------------


class EventFormatter:
    """One run's events in words; remembers the names that later events refer to by seq."""

    def __init__(self, session: Session, *, waits: bool = False) -> None:
        self._session = session
        self._waits = waits
        # Name and id, most attempts, and when it was scheduled.
        self._scheduled: dict[int, tuple[str, int, int]] = {}

    def remember(self, activity: ActivityState) -> None:
        """An activity that was scheduled before the first event that comes."""
        given = None if activity.activity_id == str(activity.seq) else activity.activity_id
        shown = activity_text(activity.name, given)
        self._scheduled[activity.seq] = shown, activity.max_attempts, activity.since

    def format(self, event: ev.Event) -> str | None:
        """One line, `None` for what is not worth one."""
        match event:
            case ev.ActivityScheduled():
                shown = activity_text(event.name, event.activity_id)
                self._scheduled[event.seq] = shown, event.max_attempts, event.time
                return f"{shown} started"
            case ev.ActivityCompleted():
                return f"{self.name(event.seq)} done{self._took(event)}"
            case ev.AttemptFailed():
                wait = short_duration((event.retry_at - event.at) / SECOND_NS)
                tried = self._attempt(event.seq, event.attempt)
                error = failure_text(event.payload)
                return f"{self.name(event.seq)} failed{tried}: {error}; next try in {wait}"
            case ev.ActivityFailed():
                tried = self._attempt(event.seq, event.attempt)
                return f"{self.name(event.seq)} failed{tried}: {failure_text(event.payload)}"
            case ev.ActivityTimedOut():
                tried = self._attempt(event.seq, event.attempt)
                return f"{self.name(event.seq)} timed out{tried}: {failure_text(event.payload)}"
            case ev.AttemptInterrupted():
                tried = self._attempt(event.seq, event.attempt)
                return f"{self.name(event.seq)} was interrupted{tried}: {escape(event.reason)}"
            case ev.SignalReceived():
                return f"signal {escape(event.name)} received"
            case ev.CancelRequested():
                return "cancel requested"
            case ev.RunReopened():
                return f"taken up again after event {event.to}"
            case ev.WaitStarted() if self._waits:
                until = ""
                if event.until is not None:
                    shown = moment(event.until, self._session.talk_terminal)
                    until = f" until {shown}"
                command = answer(self._session, event.name, event.expected, None)
                return f"waiting for signal {escape(event.name)}{until}: {command}"
        return None

    def name(self, seq: int) -> str:
        """The name of the activity that has this number."""
        scheduled = self._scheduled.get(seq)
        return f"activity {seq}" if scheduled is None else scheduled[0]

    def _attempt(self, seq: int, attempt: int) -> str:
        scheduled = self._scheduled.get(seq)
        if scheduled is None or (scheduled[1] == 1 and attempt == 1):
            return ""
        return f" ({attempt_text(attempt, scheduled[1])})"

    def _took(self, event: ev.ActivityCompleted) -> str:
        started = event.started_at
        if started is None:
            scheduled = self._scheduled.get(event.seq)
            started = None if scheduled is None else scheduled[2]
        if started is None:
            return ""
        return f" in {short_duration(max(0, event.at - started) / SECOND_NS)}"


def failure_text(payload: str) -> str:
    """The "Type: message" of a recorded failure, on one line."""
    import json

    data = json.loads(payload)
    return escape(f"{data.get('type')}: {data.get('message')}")


# -- ends and problems ---------------------------------------------------------------------------


def say_failure(info: RunInfo) -> None:
    """The error of a run and the part of its traceback in the user's files, on stderr."""
    paint = render.Paint(STREAMS.color, STREAMS.talk_is_terminal())
    STREAMS.say(f"{paint('error:', 'red')} {escape(exits.outcome_message(info))}")
    say_traceback(info.error.traceback if info.error else None)


def say_traceback(text: str | None) -> None:
    """The part of a traceback in the user's files, on stderr."""
    shown = user_traceback(text)
    if shown:
        STREAMS.say("\n".join(f"  {line}" for line in render.escape_lines(shown).splitlines()))


def require_completed(session: Session, info: RunInfo) -> None:
    """Tell of a run that ended otherwise, and end the command with its exit code."""
    if exits.outcome_code(info.status):
        if not session.json:
            say_failure(info)
        raise exits.outcome_error(info)


def user_traceback(text: str | None) -> str | None:
    """The frames in the user's own files; `None` if there are none."""
    if not text:
        return None
    kept: list[str] = []
    keep = False
    for whole in text.splitlines():
        line = re.sub(r"^(  \| )+", "", whole)  # the margin of a member of a group
        frame = re.match(_FRAME, line)
        if frame is not None:
            keep = _is_users(frame["path"])
        elif not line.startswith("    "):
            keep = False
        if keep:
            kept.append(line)
    return "\n".join(kept) or None


def _is_users(path: str) -> bool:
    if path.startswith("<"):
        return False
    if "site-packages" in Path(path).parts:
        return False
    ours, pythons = Path(__file__).parent.parent, Path(os.__file__).parent
    resolved = str(Path(path).resolve())
    return resolved != sys.executable and not resolved.startswith(
        tuple(f"{folder.resolve()}{os.sep}" for folder in (ours, pythons))
    )


def parked(session: Session, info: RunInfo) -> exits.CommandError:
    """The error of a run that cannot go on before its code is mended, after its traceback."""
    problem = info.problem
    assert problem is not None
    if not session.json:
        say_traceback(problem.traceback)
    return exits.CommandError(
        problem.exit_code,
        problem.code,
        f"{info.workflow_id}: {problem.message}",
        hint=problem.hint,
        extra={"run": info.to_json()},
    )


def problem_line(info: RunInfo) -> str:
    """A run's problem with what to do about it, on one line."""
    assert info.problem is not None
    hint = f"; {info.problem.hint}" if info.problem.hint else ""
    return escape(f"{info.workflow_id}: {info.problem.message}{hint}")


def parked_runs(session: Session, count: int) -> str:
    """So many runs cannot move on, and the command that names them."""
    runs = "1 run" if count == 1 else f"{count:,} runs"
    command = session.command("list", options=("--state", "parked", "--all"))
    return f"{runs} cannot move on: {escape(command)}"


def owner_text(owner: Owner) -> str:
    """The process that holds a run, and whether it lives."""
    who = f"process {owner.pid} on {escape(owner.host)}"
    if not owner.alive:
        return f"{who}, which has ended"
    return f"{who}, which is stopped" if owner.frozen else who
