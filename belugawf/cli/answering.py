"""Whom a signal is for, and what it answers, as far as its sender must know."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from belugawf.cli import render, sentences
from belugawf.cli.naming import find_run, is_run
from belugawf.cli.render import escape
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import SignalNotAwaitedError, UsageError
from belugawf.model.events import SignalReceived
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import Delivery, DurableExecutor, RunInfo, Signal, Waiting

# So many events of a history are looked through for the sender's last answer.
_LOOKED_AT = 1_000
# So many signals are named.
_SHOWN = 20


async def chosen_runs(
    session: Session, executor: DurableExecutor, name: str, named: Sequence[str]
) -> list[RunInfo]:
    """The runs that the signal is for, as they are before it is sent.

    None if no run is named, and not exactly one is known to wait.
    """
    if named:
        return [await find_run(session, executor, run, beside=name) for run in named]
    waits = await executor.waiting(signal=name, limit=2)
    runs = dict.fromkeys(wait.run_id for wait in waits)
    return [await executor.describe(run) for run in runs] if len(runs) == 1 else []


async def send_to_whoever_waits(
    session: Session, executor: DurableExecutor, sent: Signal, *, drive: bool
) -> Delivery:
    """Send to the one run that waits, as the executor finds it; raises if it finds not one."""
    try:
        return await executor.signal(None, sent, drive=drive)
    except SignalNotAwaitedError:
        raise await not_awaited(session, executor, sent.name) from None


async def not_awaited(
    session: Session, executor: DurableExecutor, name: str
) -> SignalNotAwaitedError:
    """The error that says so, and which signals are awaited."""
    awaited = sorted({wait.signal for wait in await executor.waiting()})
    message = f"no open run waits for signal {name!r}"
    if name in awaited:
        return SignalNotAwaitedError(
            f"none of these runs waits for signal {name!r}",
            hint=f"others do: {session.command('waiting')}",
        )
    if await is_run(executor, name):
        given = awaited[0] if len(awaited) == 1 else "NAME"
        command = session.command("signal", given, name)
        return SignalNotAwaitedError(message, hint=f"{name!r} is a run; did you mean: {command}")
    if not awaited:
        return SignalNotAwaitedError(message, hint=f"none waits for any in {session.place}")
    near = difflib.get_close_matches(name, awaited, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    more = f" and {len(awaited) - _SHOWN} more" if len(awaited) > _SHOWN else ""
    return SignalNotAwaitedError(
        message, hint=f"{hint}awaited are: {', '.join(awaited[:_SHOWN])}{more}"
    )


def require_no_question(session: Session, name: str, runs: Sequence[RunInfo]) -> None:
    """Raise `UsageError` if a signal without a payload would answer a question."""
    for info in runs:
        for wait in info.waiting_for:
            if wait.kind == "signal" and wait.name == name and wait.prompt and not wait.answered:
                command = sentences.answer(session, name, wait.expected, info.workflow_id)
                raise UsageError(
                    f"signal {name!r} answers a question of {info.workflow_id}, and carries no "
                    f"answer: {wait.prompt}",
                    hint=f"give the answer (null, if it is none): {command}",
                )


@frozen(kw_only=True)
class Sent:
    """A signal and the run as it was before.

    `awaited`: the run waits for it, and has no answer yet. `wait` is what it answers, if that is
    known; `before` is when the same sender answered the last wait of that name.
    """

    signal: str
    run: RunInfo
    awaited: bool
    wait: Waiting | None = None
    before: int | None = None

    @classmethod
    async def of(cls, executor: DurableExecutor, run: RunInfo, signal: Signal) -> Sent:
        """What that signal will be to the run."""
        waits = [w for w in run.waiting_for if w.kind == "signal" and w.name == signal.name]
        wait = next((w for w in waits if not w.answered), None)
        before = None
        if wait is not None:
            begin = max(0, run.history_length - _LOOKED_AT)
            for event in await executor.history(run.run_id, after=begin):
                if isinstance(event, SignalReceived) and event.time <= wait.since:
                    same = (event.name, event.sender) == (signal.name, signal.sender)
                    before = event.time if same else before
        return cls(signal=signal.name, run=run, awaited=wait is not None, wait=wait, before=before)

    def say(self, session: Session, delivery: Delivery) -> None:
        """Say what became of it; and what its sender may not have meant, also to scripts."""
        name, run = escape(self.signal), escape(self.run.workflow_id)
        if delivery.duplicate:
            session.say(f"signal {name} was delivered to {run} before; nothing was sent")
            return
        signals = [wait for wait in self.run.waiting_for if wait.kind == "signal"]
        early = not self.awaited and not signals
        kept = "; it is kept until the code asks for it" if early else ""
        session.say(f"signal {name} delivered to {run}{kept}")
        if session.json or early:
            return  # the JSON has `awaited`
        if not self.awaited:
            STREAMS.say(f"warning: {run} {self._why_kept(session, signals)}")
        elif self.wait is not None and self.before is not None:
            asked = f": {escape(self.wait.prompt)}" if self.wait.prompt else ""
            before, since = render.relative(self.before), render.relative(self.wait.since)
            STREAMS.say(
                f"warning: you answered signal {name} of {run} {before}; this is the answer to the "
                f"next wait, which began {since}{asked}"
            )

    def _why_kept(self, session: Session, signals: Sequence[Waiting]) -> str:
        """Why the run, which waits for these, does not read it now, and what may be meant."""
        if any(wait.name == self.signal for wait in signals):
            return (
                "has an answer already, and has not read it yet: this one is kept for its next wait"
            )
        awaited = list(dict.fromkeys(wait.name for wait in signals))
        kept = (
            f"does not wait for signal {escape(self.signal)}: it is kept until the code asks for it"
        )
        near = difflib.get_close_matches(self.signal, awaited, n=1)
        if near:
            wait = next(wait for wait in signals if wait.name == near[0])
            run = self.run.workflow_id
            command = sentences.answer(session, wait.name, wait.expected, run)
            return f"{kept}; did you mean: {command}"
        return f"{kept}; awaited now: {escape(', '.join(awaited))}"
