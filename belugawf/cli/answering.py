"""What a signal answers, as far as its sender must know: which question, or none yet."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from belugawf.cli import render
from belugawf.cli.render import escape
from belugawf.cli.streams import STREAMS
from belugawf.model.events import SignalReceived
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import Delivery, DurableExecutor, RunInfo, Signal, Waiting

# So many events of a history are looked through for the sender's last answer.
_LOOKED_AT = 1_000


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
        session.say(f"signal {name} delivered to {run}")
        if session.json:
            return  # it has `awaited`
        if not self.awaited:
            STREAMS.say(f"warning: {run} {self._why_kept(session)}")
        elif self.wait is not None and self.before is not None:
            asked = f": {escape(self.wait.prompt)}" if self.wait.prompt else ""
            before, since = render.relative(self.before), render.relative(self.wait.since)
            STREAMS.say(
                f"warning: you answered signal {name} of {run} {before}; this is the answer to the "
                f"next wait, which began {since}{asked}"
            )

    def _why_kept(self, session: Session) -> str:
        """Why the run does not read it now, and what may have been meant."""
        signals = [wait for wait in self.run.waiting_for if wait.kind == "signal"]
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
            command = session.command("signal", near[0], self.run.workflow_id)
            return f"{kept}; did you mean: {escape(command)}"
        return f"{kept}; awaited now: {escape(', '.join(awaited))}" if awaited else kept
