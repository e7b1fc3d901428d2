"""signal: deliver a signal to a run, then move the run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import completion, options
from belugawf.cli.answering import (
    Sent,
    chosen_runs,
    require_no_question,
    send_to_whoever_waits,
)
from belugawf.cli.filters import Filters
from belugawf.cli.follow import described, interrupted_error
from belugawf.cli.logs import driving
from belugawf.cli.messages import follow_messages, warned
from belugawf.cli.options import Text, option
from belugawf.cli.render import escape
from belugawf.cli.session import Session, os_user
from belugawf.cli.several import Several
from belugawf.executor import Signal
from belugawf.model.errors import SignalNotAwaitedError, UsageError

if TYPE_CHECKING:
    from belugawf.executor import BulkResult, Delivery, DurableExecutor, RunId, RunInfo


def command(
    session: Session,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The signal's name.", autocompletion=completion.complete_signal
        ),
    ],
    filters: Filters,
    several: Several,
    run: options.OptionalOpenRun = None,
    payload: Annotated[Text, option("--payload", "JSON", "What it carries, as JSON.")] = None,
    text: Annotated[Text, option("--text", "STR", "What it carries, as text.")] = None,
    payload_file: Annotated[
        Text, option("--payload-file", "FILE|-", "Read the JSON; - is stdin.")
    ] = None,
    by: Annotated[Text, option("--by", "WHO", "Who sends it; you, unless given.")] = None,
    key: Annotated[Text, option("--key", "KEY", "The same key twice is delivered once.")] = None,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Deliver only; do not drive the run.")
    ] = False,
    log_level: options.LogLevel = None,
) -> None:
    """Deliver a signal to a run, then move the run on.

    Without RUN: to the one run that waits for it; with filters or --all, to all that do. Ends with
    0 once the signal is on disk, whatever the run does next.
    """
    value = _payload(session, payload, text, payload_file)
    is_answer = not (payload is text is payload_file is None)
    sent = Signal(name, value, sender=by if by is not None else os_user(), key=key)
    if run is None and session.nothing_stored:
        raise SignalNotAwaitedError(
            f"no run waits for signal {name!r}: {session.settings.db} does not exist",
            hint=f"start a run with: {session.command('run')}",
        )

    async def send_to_many(executor: DurableExecutor, many: Sequence[RunId]) -> BulkResult:
        if not is_answer:
            require_no_question(session, name, await described(executor, many))
        return await executor.signal_many(many, sent)

    chosen_by_filters = several.are_meant(filters)
    named = several.runs(
        session,
        filters,
        () if run is None else (run,),
        f"sent signal {escape(name)}",
        send_to_many,
        awaiting=name,
    )
    if named is None:
        return

    async def send(executor: DurableExecutor) -> tuple[list[Delivery], dict[str, Sent]]:
        chosen = await chosen_runs(session, executor, name, named)
        if not is_answer:
            require_no_question(session, name, chosen)
        deliveries: list[Delivery] = []
        told: dict[str, Sent] = {}
        for before in chosen:
            about = await Sent.of(executor, before, sent)
            delivery = await executor.signal(before.run_id, sent, drive=not no_resume)
            about.say(session, delivery)
            told[before.run_id] = about
            deliveries.append(delivery)
        if not chosen:
            delivery = await send_to_whoever_waits(session, executor, sent, drive=not no_resume)
            told[delivery.run.run_id] = Sent(signal=name, run=delivery.run, awaited=True)
            told[delivery.run.run_id].say(session, delivery)
            deliveries = [delivery]
        if not no_resume:
            deliveries = await _follow(session, executor, name, deliveries)
        return deliveries, told

    with driving(session, log_level):
        deliveries, told = session.run(send)
        infos = [delivery.run for delivery in deliveries]
        if session.interrupted is not None and any(info.open for info in infos):
            raise interrupted_error(session, infos)
        if session.json:
            documents = [
                {
                    **delivery.run.to_json(),
                    "duplicate": delivery.duplicate,
                    "awaited": told[delivery.run.run_id].awaited,
                }
                for delivery in deliveries
            ]
            session.print_json(documents if chosen_by_filters else documents[0])


def _payload(
    session: Session, payload: str | None, text: str | None, payload_file: str | None
) -> Any:
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
        most = session.settings.payload_limit
        payload = options.read_text(payload_file, "--payload-file", most)
    if payload is None:
        return None
    try:
        return parse_json(payload, what="payload")
    except UsageError as error:
        hint = f"{error.hint}; plain text is sent with --text"
        raise UsageError(error.message, hint=hint) from None


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


def _received(before: RunInfo, signal: str) -> Callable[[RunInfo], bool]:
    """Whether the run has received the signal that it awaited; true if it awaited none."""
    awaited = {(w.name, w.since) for w in before.waiting_for if w.name == signal}

    def received(info: RunInfo) -> bool:
        return not awaited & {(wait.name, wait.since) for wait in info.waiting_for}

    return received if awaited else lambda info: True
