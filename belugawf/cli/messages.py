"""signal, cancel, terminate, query: what is said to a run from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import completion, exits, options, telling
from belugawf.cli.app import Command, command_group
from belugawf.cli.drive import print_value
from belugawf.cli.driving import (
    described,
    follow_other,
    interrupted_error,
    other_owner,
    to_rest,
)
from belugawf.cli.exits import CommandError, describe_error
from belugawf.cli.render import escape
from belugawf.cli.session import Session, leave, os_user
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import (
    AmbiguousRunError,
    BelugaError,
    RunNotFoundError,
    SignalNotAwaitedError,
    UsageError,
)

if TYPE_CHECKING:
    from belugawf.executor import Delivery, DurableExecutor, OpenWait, RunInfo

app = command_group()


# -- signal --------------------------------------------------------------------------------------


@app.command("signal", cls=Command)
def signal_command(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The signal's name.", autocompletion=completion.complete_signal
        ),
    ],
    run: options.OptionalRun = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="What it carries, as JSON.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="STR", help="What it carries, as text.")
    ] = None,
    payload_file: Annotated[
        str | None,
        typer.Option("--payload-file", metavar="FILE|-", help="Read the JSON; - is stdin."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="WHO", help="Who sends it; you, unless given."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="The same key twice is delivered once."),
    ] = None,
    all_runs: Annotated[
        bool, typer.Option("--all", help="To every run that waits for it.")
    ] = False,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Deliver only; do not drive the run.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Deliver a signal to a run, then move the run on.

    Without RUN: to the one run that waits for it. Ends with 0 once the signal is on disk,
    whatever the run does next.
    """
    from belugawf.executor import Signal

    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
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
    leave(exits.OK)


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
        """Deliver, drive and tell; the deliveries with the runs as they are then."""
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


def _heard(before: RunInfo, signal: str) -> Callable[[RunInfo], bool]:
    """Whether the run has taken the signal that it awaited; at once, where it awaited none."""
    awaited = {(w.name, w.since) for w in before.waiting_for if w.name == signal}

    def heard(info: RunInfo) -> bool:
        return not awaited & {(wait.name, wait.since) for wait in info.waiting_for}

    return heard if awaited else lambda info: True


async def _move_on(
    session: Session, executor: DurableExecutor, signal: str, deliveries: Sequence[Delivery]
) -> list[RunInfo]:
    """Follow the runs until they rest. What goes wrong now is told and raised no more."""
    mine = [d.run.run_id for d in deliveries if d.driven_by is None and d.run.open]
    unheard: set[str] = set()
    try:
        await to_rest(session, executor, mine)
        for delivery in deliveries:
            if delivery.driven_by is not None and session.interrupted is None:
                before, owner = delivery.run, delivery.driven_by
                heard = _heard(before, signal)
                info = await follow_other(session, executor, before, owner, heard=heard)
                if not heard(info):
                    unheard.add(info.run_id)
        infos = await described(executor, [d.run.run_id for d in deliveries])
        await say_where(session, executor, _but(infos, unheard))
    except BelugaError as error:
        STREAMS.say(f"warning: {escape(error.message)}")
        return [delivery.run for delivery in deliveries]
    return infos


def _but(infos: Sequence[RunInfo], unheard: Container[str]) -> list[RunInfo]:
    """Without those that only have to take their message yet: they look as if it were still to
    come, and whoever is told so sends it again."""

    def tells(info: RunInfo) -> bool:
        stuck = info.problem is not None or info.unattended is not None
        return info.run_id not in unheard or not info.open or stuck

    return [info for info in infos if tells(info)]


async def say_where(session: Session, executor: DurableExecutor, infos: Sequence[RunInfo]) -> None:
    """Where runs are after a message: ended how, waiting for what, refused why."""
    if session.quiet or session.interrupted is not None:
        return
    waiting_runs = await telling.awaiting_runs(executor, infos)
    for info in infos:
        if exits.outcome_code(info.status) in (exits.FAILED, exits.TIMED_OUT):
            telling.say_failure(info)
        elif not info.open:
            session.say(f"{escape(info.workflow_id)} {info.status.replace('_', ' ')}")
        elif info.problem is not None:
            session.say(f"warning: {telling.problem_line(info)}")
        elif other_owner(info) is None:
            telling.say_waits(session, info, waiting_runs)


# -- cancel and terminate ------------------------------------------------------------------------


@app.command("cancel", cls=Command)
def cancel_command(
    ctx: typer.Context,
    runs: options.Runs = None,
    reason: options.Reason = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Ask runs to stop and clean up.

    Without RUN: the only open run. Ends with 0 once the request is on disk.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    with STREAMS.diverted():
        outcome = session.run(lambda e: _cancel(session, e, runs, reason))
        if session.interrupted is not None and any(info.open for info in outcome.infos):
            raise interrupted_error(session, outcome.infos)
        outcome.finish(session, several=len(runs or ()) > 1)


class _Outcome:
    """What became of a message to several runs: the runs, and the errors of the others."""

    def __init__(self) -> None:
        self.infos: list[RunInfo] = []
        self.errors: list[BelugaError] = []

    async def collect(self, runs: Sequence[str], send: Callable[[str], Awaitable[RunInfo]]) -> None:
        """Send to each; one that refuses does not stop the others."""
        for run in dict.fromkeys(runs):
            try:
                self.infos.append(await send(run))
            except BelugaError as error:
                self.errors.append(error)

    def finish(self, session: Session, *, several: bool) -> None:
        """Print the JSON, or end with the first error."""
        documents = [info.to_json() for info in self.infos]
        if self.errors:
            first = describe_error(self.errors[0])
            assert first is not None
            if several and not session.json:
                for other in self.errors[1:]:
                    STREAMS.say(f"error: {escape(other.message)}")
            extra = {**first.extra, "runs": documents} if several else first.extra
            raise CommandError(
                first.exit_code, first.code, first.message, hint=first.hint, extra=extra
            )
        if session.json:
            session.print_json(documents if several else documents[0])
        leave(exits.OK)


async def _cancel(
    session: Session, executor: DurableExecutor, runs: Sequence[str] | None, reason: str | None
) -> _Outcome:
    targets = _typed(runs) if runs else [await _only_open_run(executor)]
    outcome = _Outcome()
    await outcome.collect(targets, lambda run: executor.cancel(run, reason))
    for info in outcome.infos:
        session.say(f"{escape(info.workflow_id)} is asked to cancel")
    try:
        await _after_cancel(session, executor, outcome)
    except BelugaError as error:
        # The requests are on disk: a script that sees an error would ask again.
        STREAMS.say(f"warning: {escape(error.message)}")
    return outcome


def _typed(runs: Sequence[str]) -> list[str]:
    from belugawf.executor import TypedRun

    return [TypedRun(run) for run in runs]


async def _after_cancel(session: Session, executor: DurableExecutor, outcome: _Outcome) -> None:
    mine = [info.run_id for info in outcome.infos if info.open and executor.drives(info.run_id)]
    unheard: set[str] = set()
    await to_rest(session, executor, mine)
    for before in outcome.infos:
        info = await executor.describe(before.run_id)
        elsewhere = info.open and info.run_id not in mine and info.problem is None
        if elsewhere and session.interrupted is None:
            owner = other_owner(before)
            info = await follow_other(session, executor, info, owner, heard=_cancel_heard)
            if not _cancel_heard(info):
                unheard.add(info.run_id)
    outcome.infos = await described(executor, [info.run_id for info in outcome.infos])
    await say_where(session, executor, _but(outcome.infos, unheard))


def _cancel_heard(info: RunInfo) -> bool:
    return info.cancel_requested


async def _only_open_run(executor: DurableExecutor) -> str:
    found = await executor.list(status="running", limit=20)
    if len(found) == 1:
        return found[0].run_id
    if not found:
        raise RunNotFoundError("no run is open", hint="belugawf list shows the ended ones")
    raise AmbiguousRunError(
        f"{len(found)} runs are open" if len(found) < 20 else "many runs are open",
        [info.workflow_id for info in found],
        hint="name the run: belugawf cancel RUN",
    )


@app.command("terminate", cls=Command)
def terminate_command(
    ctx: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Workflow ids, run ids, prefixes of either (4 or more characters), or @latest.",
            autocompletion=completion.complete_run,
        ),
    ],
    reason: options.Reason = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """End runs at once, without running their code.

    Cleanup in the workflow does not happen: `cancel` asks for that.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    if not yes and STREAMS.can_prompt():
        _confirm(runs)
    with STREAMS.diverted():
        outcome = session.run(lambda e: _terminate(session, e, runs, reason))
        outcome.finish(session, several=len(runs) > 1)


def _confirm(runs: Sequence[str]) -> None:
    names = ", ".join(escape(run) for run in runs)
    if not typer.confirm(f"Terminate {names}, without cleanup?", err=True):
        raise CommandError(
            exits.REFUSED, "refused", "nothing was terminated", hint="--yes does not ask"
        )


async def _terminate(
    session: Session, executor: DurableExecutor, runs: Sequence[str], reason: str | None
) -> _Outcome:
    outcome = _Outcome()
    await outcome.collect(_typed(runs), lambda run: executor.terminate(run, reason))
    for info in outcome.infos:
        session.say(f"{escape(info.workflow_id)} {info.status.replace('_', ' ')}")
    return outcome


# -- query ---------------------------------------------------------------------------------------


@app.command("query", cls=Command)
def query_command(
    ctx: typer.Context,
    run: options.Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Built in: status, result, waiting.")],
    args: Annotated[
        str | None,
        typer.Option("--args", metavar="JSON", help="An array of arguments, or the only one."),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Ask a run; changes nothing.

    Answered by replaying the run's history, whether or not it is being driven.
    """
    from belugawf.executor import TypedRun
    from belugawf.model.codec import parse_json

    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    given = [] if args is None else parse_json(args, what="--args")
    arguments = given if isinstance(given, list) else [given]
    with STREAMS.diverted():
        answer = session.run(lambda e: e.query(TypedRun(run), name, *arguments))
        if session.json:
            session.print_json(answer)
        else:
            print_value(session, answer)
    leave(exits.OK)
