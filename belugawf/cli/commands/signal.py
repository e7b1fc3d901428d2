"""signal: deliver a signal to a run, then move the run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import completion, options
from belugawf.cli.follow import interrupted_error
from belugawf.cli.messages import follow_messages, warned
from belugawf.cli.options import Text, option
from belugawf.cli.render import escape
from belugawf.cli.session import Session, os_user
from belugawf.cli.streams import STREAMS
from belugawf.executor import Signal, TypedRun
from belugawf.model.errors import SignalNotAwaitedError, UsageError

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
    options.only_one({"RUN": run is not None, "--all": all_runs})
    value = _payload(payload, text, payload_file)
    sent = Signal(name, value, sender=by if by is not None else os_user(), key=key)
    if run is None and session.nothing_stored:
        raise _not_awaited(name, ())

    async def send(executor: DurableExecutor) -> list[Delivery]:
        runs: Sequence[str | None] = [None if run is None else TypedRun(run)]
        if all_runs:
            runs = await _waiting_runs(executor, name)
        deliveries = [await executor.signal(run, sent, drive=not no_resume) for run in runs]
        for delivery in deliveries:
            _say_delivered(session, name, delivery)
        return deliveries if no_resume else await _follow(session, executor, name, deliveries)

    with STREAMS.diverted():
        deliveries = session.run(send)
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


async def _waiting_runs(executor: DurableExecutor, signal: str) -> list[str]:
    waits = await executor.waiting(signal=signal)
    if not waits:
        raise _not_awaited(signal, await executor.waiting())
    return list(dict.fromkeys(wait.run_id for wait in waits))


def _say_delivered(session: Session, signal: str, delivery: Delivery) -> None:
    name, run = escape(signal), escape(delivery.run.workflow_id)
    if delivery.duplicate:
        session.say(f"signal {name} was delivered to {run} before; nothing was sent")
    else:
        session.say(f"signal {name} delivered to {run}")


async def _follow(
    session: Session, executor: DurableExecutor, signal: str, deliveries: Sequence[Delivery]
) -> list[Delivery]:
    """Follow the runs until they rest; the deliveries with the runs as they are then."""
    infos = [delivery.run for delivery in deliveries]
    mine = [d.run.run_id for d in deliveries if d.driven_by is None and d.run.open]
    others = [
        (delivery.run, delivery.driven_by, _received(delivery.run, signal))
        for delivery in deliveries
        if delivery.driven_by is not None
    ]
    with warned():
        infos = await follow_messages(session, executor, infos, mine, others)
    return [replace(sent, run=info) for sent, info in zip(deliveries, infos, strict=True)]


def _not_awaited(name: str, waits: Sequence[OpenWait]) -> SignalNotAwaitedError:
    names = ", ".join(sorted({wait.signal for wait in waits}))
    return SignalNotAwaitedError(
        f"no run waits for signal {name!r}",
        hint=f"signals that are awaited: {names}" if names else "no run waits for any",
    )


def _received(before: RunInfo, signal: str) -> Callable[[RunInfo], bool]:
    """Whether the run has received the signal that it awaited; true if it awaited none."""
    awaited = {(w.name, w.since) for w in before.waiting_for if w.name == signal}

    def received(info: RunInfo) -> bool:
        return not awaited & {(wait.name, wait.since) for wait in info.waiting_for}

    return received if awaited else lambda info: True
