"""What goes into the store and comes out of it, as values: rows, messages, turns and their fate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, replace
from enum import Enum
from typing import Any, TypeAlias

from belugawf.executor import IfExists
from belugawf.executor.info import NewRun
from belugawf.local.store.damage import or_else, reading
from belugawf.model import events as e
from belugawf.model.durations import MICROSECOND_NS, from_micros
from belugawf.model.history import OpenWork
from belugawf.model.outcomes import Outcome
from belugawf.model.values import frozen, mutable


@frozen()
class RunRow:
    """A run as it is stored. Times are nanoseconds since 1970; what is JSON is still text.

    `history_length` and `updated_at` are those of its last event.
    """

    key: int
    run_id: str
    workflow_id: str
    chain_id: str
    parent_run_id: str | None
    workflow: str
    status: str
    begun: int
    labels: str
    input: str | None
    result: str | None
    error: str | None
    owner: str | None
    problem: str | None
    progress: str | None
    history_length: int
    created_at: int
    updated_at: int
    closed_at: int | None
    deadline: int | None
    due_at: int | None
    owned_since: int | None
    named_keys: int = 1

    @classmethod
    def of(cls, columns: Sequence[Any]) -> RunRow:
        """The run of a row of `RUN_COLUMNS`."""
        *texts, length, created, updated, closed, deadline, due, owned, named_keys = columns
        values = (
            *texts,
            length,
            *map(_instant, (created, created if updated is None else updated)),
            *map(_instant, (closed, deadline, due)),
            or_else(None, from_micros, owned),
            named_keys,
        )
        return cls(*values)


def new_run(
    new: NewRun, now: int, key: int = 0, owner: str | None = None
) -> tuple[RunRow, e.WorkflowStarted]:
    """A run that begins now, with its first event; its key may be known later."""
    deadline = None if new.timeout_ns is None else now + new.timeout_ns
    started = e.WorkflowStarted(
        position=1,
        time=now,
        name=new.workflow,
        payload=new.input,
        workflow_id=new.workflow_id,
        run_id=new.run_id,
        deadline=deadline,
        python=new.python,
        belugawf=new.belugawf,
    )
    row = RunRow(
        key=key,
        run_id=new.run_id,
        workflow_id=new.workflow_id,
        chain_id=new.run_id,
        parent_run_id=None,
        workflow=new.workflow,
        status="running",
        begun=0,
        labels=json.dumps(dict(new.labels), ensure_ascii=False) if new.labels else "{}",
        input=new.input,
        result=None,
        error=None,
        owner=owner,
        problem=None,
        progress=None,
        history_length=started.position,
        created_at=now,
        updated_at=now,
        closed_at=None,
        deadline=deadline,
        due_at=now,
        owned_since=now if owner else None,
    )
    return row, started


def _instant(stored: int | None) -> int | None:
    """Whatever is there: a row that makes no sense is shown all the same, with a problem."""
    return None if stored is None else stored * MICROSECOND_NS


@frozen()
class Message:
    """What a run has not taken in yet: a row of its inbox. `sent_at` is nanoseconds since 1970.

    The kinds are "signal", "cancel" and "attempt": the end of an attempt that could not be applied
    when it came; its payload is an `Outcome`.
    `sound` is false for a row that we cannot have written: the run is not to act on it.
    """

    id: int
    run: int
    kind: str
    name: str | None
    payload: str | None
    sender: str | None
    key: str | None
    sent_at: int
    sound: bool = True

    @classmethod
    def of(cls, columns: Sequence[Any]) -> Message:
        """The message of a row of `inbox`."""
        id, run, kind, name, payload, sender, key, sent_at = columns
        at = or_else(None, from_micros, sent_at)
        message = cls(id, run, kind, name, payload, sender, key, at or 0)
        sound = at is not None and or_else(False, message._is_sound)
        return message if sound else replace(message, sound=False)

    def _is_sound(self) -> bool:
        if self.kind == "signal":
            json.loads(self.payload or "null")
            return bool(self.name)
        return self.kind == "cancel" or (self.kind == "attempt" and bool(self.outcome()))

    def outcome(self) -> Outcome:
        """The end of an attempt that a sound message of that kind tells of."""
        return Outcome.of_text(self.payload or "", run=self.run, at=self.sent_at)


@frozen()
class Letter:
    """A message before it is in an inbox; see `Store.send`."""

    kind: str
    name: str | None = None
    payload: str | None = None
    sender: str | None = None
    key: str | None = None
    check: Callable[[Sequence[WaitRow]], None] | None = None


@frozen()
class OwnerRow:
    """A process that drives runs, as it registered itself."""

    id: str
    pid: int
    host: str
    boot_id: str
    since: int
    socket: str | None
    role: str
    workflows: frozenset[str]

    @classmethod
    def of(cls, columns: Sequence[Any]) -> OwnerRow:
        """The owner of a row of `owners`."""
        id, pid, host, boot_id, since, socket, role, workflows = columns
        # No history: whoever edited it, it may be lost. What counts is the lock of that id.
        names: frozenset[str] = or_else(frozenset(), lambda: frozenset(json.loads(workflows)))
        began = or_else(None, from_micros, since) or 0
        return cls(id, pid, host, boot_id, began, socket, role, names)


@frozen()
class WaitRow:
    """An open wait for a signal, with its run's names. Times are nanoseconds since 1970."""

    run: int
    workflow_id: str
    run_id: str
    workflow: str
    signal: str
    since: int
    until: int | None
    prompt: str | None
    expected: str | None
    schema: str | None

    @classmethod
    def of(cls, columns: Sequence[Any]) -> WaitRow:
        """The wait of a row of `waits` with its run's names. Raises `DamagedError`."""
        run, workflow_id, run_id, workflow, signal, since, until, *rest = columns
        with reading(lambda: workflow_id):
            moments = (from_micros(since) or 0, from_micros(until))
        return cls(run, workflow_id, run_id, workflow, signal, *moments, *rest)


class AppendOutcome(Enum):
    """What became of a turn."""

    UNWRITTEN = "unwritten"
    COMMITTED = "committed"
    RELEASED = "released"  # committed, and the run was let go
    FENCED = "fenced"  # somebody else ended the run, or owns it
    OVERTAKEN = "overtaken"  # it would have ended the run over a message that it had not read
    UNWRITABLE = "unwritable"  # the database refuses this run's rows


@mutable(kw_only=True)
class Turn:
    """What one turn of one run writes, and what became of that.

    `length` is the history's length before, `read_to` the last inbox message that it took in.
    `claimed_at`: it takes over a run that is nobody's, since then; `None`: the run is ours already.
    `born`: it is the first turn of that run, which is recorded with it; its length is 0, and `run`
    is known when it is written.
    `due_at` is when the run can move again without a message (`None`: never); `moves` if that is to
    be stored. `release` lets the run go, unless something has come meanwhile. `keep`: it stays ours
    even if it ends, because a thread that cannot be stopped works for it. `progress` is JSON,
    `None` if it is unchanged; so is `open_work`, what is open after it: see `OpenWork.to_json`.
    `reason` is what the database said of an unwritable one.
    """

    run: int
    length: int
    events: list[e.Event] = field(default_factory=list)
    read_to: int = 0
    claimed_at: int | None = None
    born: RunRow | None = None
    due_at: int | None = None
    moves: bool = True
    release: bool = False
    keep: bool = False
    progress: str | None = None
    open_work: str | None = None
    outcome: AppendOutcome = AppendOutcome.UNWRITTEN
    reason: str | None = None

    @property
    def closes(self) -> bool:
        """Whether it ends the run."""
        return bool(self.events) and self.events[-1].kind is e.Kind.CLOSING

    def bear(self, key: int, owner: str | None) -> RunRow:
        """The run that it creates gets that key and owner, as it is after the turn."""
        assert self.born is not None
        since = None if owner is None else self.born.created_at
        row = self.born = replace(
            self.born, key=key, owner=owner, owned_since=since, begun=1, due_at=self.due_at
        )
        self.run = key
        return row

    def settle(self, outcome: AppendOutcome, reason: str | None = None) -> None:
        """That became of it."""
        self.outcome, self.reason = outcome, reason


@frozen()
class Start:
    """A run that somebody wants to start; `if_exists` as in `DurableExecutor.execute`."""

    new: NewRun
    if_exists: IfExists


# What became of it: the run, with its first event if it is new; or why it was refused.
Started: TypeAlias = tuple[RunRow, e.WorkflowStarted | None] | Exception


def unread(message: Message, position: int, time: int) -> e.Event | None:
    """The note that a message came before the run ended, and no code has seen it.

    `None` for what needs none: a request to cancel what has ended.
    """
    if not message.sound:
        return None
    if message.kind == "signal":
        return replace(signal_received(message, position, time), unread=True)
    return message.outcome().unread(position, time) if message.kind == "attempt" else None


def unread_notes(
    inbox: Iterable[Message], work: OpenWork, position: int, time: int
) -> list[e.Event]:
    """The notes of what a run that is ended now leaves unread, after that position.

    `work` is what the run has open, if ends of attempts are among it.
    """
    notes: list[e.Event] = []
    for message in inbox:
        note = unread(message, position + len(notes) + 1, time)
        if note is None or (message.kind == "attempt" and not work.is_open(note)):
            continue  # an end may be on record already: see `Outcome`
        work.fold(note)
        notes.append(note)
    return notes


def signal_received(message: Message, position: int, time: int) -> e.SignalReceived:
    """The fact that an inbox message becomes."""
    return e.SignalReceived(
        position=position,
        time=time,
        name=message.name or "",
        payload=message.payload or "null",
        at=message.sent_at,
        sender=message.sender,
        key=message.key,
    )
