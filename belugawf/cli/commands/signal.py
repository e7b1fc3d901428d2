"""signal: deliver a signal to a run, then move the run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import completion, options
from belugawf.cli.follow import described, follow_other, interrupted_error, to_rest
from belugawf.cli.messages import say_where, without_pending
from belugawf.cli.options import Text, option
from belugawf.cli.render import escape
from belugawf.cli.session import Session, os_user
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import BelugaError, SignalNotAwaitedError, UsageError

if TYPE_CHECKING:
    from belugawf.executor import Delivery, DurableExecutor, OpenWait, RunInfo


def command(
    session: Session,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The signal's name.", autocompletion=completion.complete_signal
        ),
    ],
    run: options.OptionalRun = None,
    payload: Annotated[Text, option("--payload", "JSON", "What it carries, as JSON.")] = None,
    text: Annotated[Text, option("--text", "STR", "What it carries, as text.")] = None,
    payload_file: Annotated[
        Text, option("--payload-file", "FILE|-", "Read the JSON; - is stdin.")
    ] = None,
    by: Annotated[Text, option("--by", "WHO", "Who sends it; you, unless given.")] = None,
    key: Annotated[Text, option("--key", "KEY", "The same key twice is delivered once.")] = None,
    all_runs: Annotated[
        bool, typer.Option("--all", help="To every run that waits for it.")
    ] = False,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Deliver only; do not drive the run.")
    ] = False,
) -> None:
    """Deliver a signal to a run, then move the run on.

    Without RUN: to the one run that waits for it. Ends with 0 once the signal is on disk,
    whatever the run does next.
    """
    from belugawf.executor import Signal

    options.only_one({"RUN": run is not None, "--all": all_runs})
    value = _payload(payload, text, payload_file)
    sent = Signal(name, value, sender=by if by is not None else os_user(), key=key)
    sending = _Sending(session, sent, drive=not no_resume)
    if run is None and session.nothing_stored:
        raise _not_awaited(name, ())
    with STREAMS.diverted():
        deliveries = session.run(lambda e: sending.send(e, run, to_all=all_runs))
        infos = [delivery.run for delivery in deliveries]
        if session.interrupted is not None and any(info.open for info in infos):
            raise interrupted_error(session, infos)
        if session.json:
            documents = [
                {**delivery.run.to_json(), "duplicate": delivery.duplicate}
                for delivery in deliveries
            ]
            session.print_json(documents if all_runs else documents[0])


def _payload(payload: str | None, text: str | None, payload_file: str | None) -> Any:
    from belugawf.model.codec import parse_json

    options.only_one(
        {
            "--payload": payload is not None,
            "--text": text is not None,
            "--payload-file": payload_file is not None,
        }
    )
    if text is not None:
        return text
    if payload_file is not None:
        payload = options.read_text(payload_file, "--payload-file")
    if payload is None:
        return None
    try:
        return parse_json(payload, what="payload")
    except UsageError as error:
        hint = f"{error.hint}; plain text is sent with --text"
        raise UsageError(error.message, hint=hint) from None


class _Sending:
    """Delivers one signal to one run or to many, and follows what they make of it."""

    def __init__(self, session: Session, signal: Any, *, drive: bool) -> None:
        self._session = session
        self._signal = signal
        self._drive = drive

    async def send(
        self, executor: DurableExecutor, run: str | None, *, to_all: bool
    ) -> list[Delivery]:
        """Deliver, drive and report; the deliveries with the runs as they are then."""
        from belugawf.executor import TypedRun

        targets: Sequence[str | None] = [None if run is None else TypedRun(run)]
        if to_all:
            targets = await self._waiting_runs(executor)
        deliveries = [
            await executor.signal(target, self._signal, drive=self._drive) for target in targets
        ]
        for delivery in deliveries:
            self._say_delivered(delivery)
        if self._drive:
            infos = await _move_on(self._session, executor, self._signal.name, deliveries)
            deliveries = [
                _with_run(delivery, info) for delivery, info in zip(deliveries, infos, strict=True)
            ]
        return deliveries

    async def _waiting_runs(self, executor: DurableExecutor) -> list[str]:
        waits = await executor.waiting(signal=self._signal.name)
        if not waits:
            raise _not_awaited(self._signal.name, await executor.waiting())
        return list(dict.fromkeys(wait.run_id for wait in waits))

    def _say_delivered(self, delivery: Delivery) -> None:
        name, run = escape(self._signal.name), escape(delivery.run.workflow_id)
        if delivery.duplicate:
            self._session.say(f"signal {name} was delivered to {run} before; nothing was sent")
        else:
            self._session.say(f"signal {name} delivered to {run}")


def _not_awaited(name: str, waits: Sequence[OpenWait]) -> SignalNotAwaitedError:
    names = ", ".join(sorted({wait.signal for wait in waits}))
    return SignalNotAwaitedError(
        f"no run waits for signal {name!r}",
        hint=f"signals that are awaited: {names}" if names else "no run waits for any",
    )


def _with_run(delivery: Delivery, info: RunInfo) -> Delivery:
    from dataclasses import replace

    return replace(delivery, run=info)


def _received(before: RunInfo, signal: str) -> Callable[[RunInfo], bool]:
    """Whether the run has taken the signal that it awaited; at once, where it awaited none."""
    awaited = {(w.name, w.since) for w in before.waiting_for if w.name == signal}

    def received(info: RunInfo) -> bool:
        return not awaited & {(wait.name, wait.since) for wait in info.waiting_for}

    return received if awaited else lambda info: True


async def _move_on(
    session: Session, executor: DurableExecutor, signal: str, deliveries: Sequence[Delivery]
) -> list[RunInfo]:
    """Follow the runs until they rest. What goes wrong now is a warning and no error."""
    mine = [d.run.run_id for d in deliveries if d.driven_by is None and d.run.open]
    pending: set[str] = set()
    try:
        await to_rest(session, executor, mine)
        for delivery in deliveries:
            if delivery.driven_by is not None and session.interrupted is None:
                before, owner = delivery.run, delivery.driven_by
                received = _received(before, signal)
                info = await follow_other(session, executor, before, owner, received=received)
                if not received(info):
                    pending.add(info.run_id)
        infos = await described(executor, [d.run.run_id for d in deliveries])
        await say_where(session, executor, without_pending(infos, pending))
    except BelugaError as error:
        STREAMS.say(f"warning: {escape(error.message)}")
        return [delivery.run for delivery in deliveries]
    return infos
