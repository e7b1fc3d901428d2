"""run: start a run and drive it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from belugawf.cli import completion, options, sentences
from belugawf.cli.follow import IDLE_WAIT_S, described, drain_on_signals, interrupted_error
from belugawf.cli.live import watching
from belugawf.cli.options import Text, Texts, option
from belugawf.cli.render import escape
from belugawf.cli.session import Session, unredacted
from belugawf.cli.starting import Start
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import UsageError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, IfExists, RunInfo

_IF_EXISTS = ("fail", "skip", "replace")


def command(
    session: Session,
    workflow: Annotated[
        str | None,
        typer.Argument(
            metavar="WORKFLOW",
            help="Its name; may be left out where there is only one, or a default.",
            show_default=False,
            autocompletion=completion.complete_workflow,
        ),
    ] = None,
    input: Annotated[
        Text, option("-i", "--input", "VALUE", "The input: JSON, or text for a str.")
    ] = None,
    arg: Annotated[
        Texts, option("-a", "--arg", "KEY=VALUE", "One parameter; repeat for more.")
    ] = None,
    input_file: Annotated[
        Text, option("--input-file", "FILE|-", "Read the input; - is stdin.")
    ] = None,
    id: Annotated[Text, option("--id", "ID", "Your name for the run.")] = None,
    if_exists: Annotated[
        str, option("--if-exists", "HOW", "For an id that is stored: fail, skip or replace.")
    ] = "fail",
    timeout: Annotated[Text, option("--timeout", "DUR", "The run ends after DUR.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until it ends, whatever it waits for.")
    ] = False,
    max_wait: options.MaxWait = None,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Only record it; resume or a worker drives it.")
    ] = False,
    label: Annotated[Texts, option("--label", "KEY=VALUE", "A label; repeat for more.")] = None,
) -> None:
    """Start a run and drive it until it ends or waits.

    Its result is printed when it completes. When it waits, it is saved, and stderr says for what
    and what to type.
    """
    options.only_one(
        {
            "--input": input is not None,
            "--arg": bool(arg),
            "--input-file": input_file is not None,
        }
    )
    options.only_one({"--detach": detach, "--wait": wait or max_wait is not None})
    if if_exists not in _IF_EXISTS:
        raise UsageError(f"--if-exists is {if_exists!r}", hint="expected fail, skip or replace")
    text = input
    if input_file is not None:
        most = session.settings.payload_limit
        text = options.read_text(input_file, "--input-file", most)
    limit = options.duration(max_wait, "--max-wait")
    start = Start(
        workflow=workflow,
        text=text,
        arguments=options.pairs(arg, "--arg"),
        id=id,
        if_exists=cast("IfExists", if_exists),
        timeout=options.duration(timeout, "--timeout"),
        labels=options.pairs(label, "--label"),
        detach=detach,
    )
    with STREAMS.diverted():
        until = "done" if wait or limit is not None else "rest"
        info, stored = session.run(
            lambda e: _run(session, e, start, until, limit),
            create=True,
            check=lambda e: start.check(session, e),
        )
        if session.interrupted is not None and info.open:
            # It was drained while the executor was left: read it again.
            (info,) = session.run(lambda e: described(e, [info.run_id]))
        if stored is None:
            _print_outcome(session, info)
        elif session.json:
            session.print_json(info.to_json())
        else:
            STREAMS.write(f"{escape(info.workflow_id)}\n")
            session.say(stored)


async def _run(
    session: Session,
    executor: DurableExecutor,
    start: Start,
    until: str,
    max_wait: timedelta | None,
) -> tuple[RunInfo, str | None]:
    """Start and drive; the run as it is then, and a sentence on one that is not driven here."""
    found = await start.existing(executor)
    if found is not None:
        async for what in start.differences(session, executor, found):
            if not session.json:
                STREAMS.say(
                    f"warning: {escape(found.workflow_id)} is left as it is: {escape(what)}; to "
                    "start anew: --if-exists replace"
                )
        return found, await _stored(session, executor, found)
    if start.detach:
        info = await (await start.begin(session, executor)).describe()
        return info, await _stored(session, executor, info)
    # What it starts may print at once.
    async with watching(session, executor, waits=until != "rest") as view:
        handle = await start.begin(session, executor)
        session.say(f"{escape(handle.id)} started")
        await view.add([handle.run_id], new=True)
        drain_on_signals(session, executor)
        info = await executor.wait(
            handle.run_id, until=until, max_wait=max_wait, patience=IDLE_WAIT_S
        )
    if info.status == "completed" and not session.json:
        # It is printed: the data that was asked for.
        info = replace(info, result=(await unredacted(executor).describe(info.run_id)).result)
    rests = info.open and info.problem is None
    if rests and not session.quiet and session.interrupted is None:
        if not info.waiting_for and info.unattended is None:
            session.say(
                f"{escape(info.workflow_id)}: its code waits for what nothing brings about: it has "
                "no activity, no timer and no wait for a signal open"
            )
        sentences.say_waits(session, info, await sentences.awaiting_runs(executor, [info]))
    return info, None


async def _stored(session: Session, executor: DurableExecutor, info: RunInfo) -> str:
    """How a run is that is not driven here, and who drives it or what to type."""
    line = f"{escape(info.workflow_id)} is {info.status.replace('_', ' ')}"
    if not info.open:
        return line
    driver = await executor.driver_of(info.run_id)
    if driver.owner is not None:
        return f"{line}; {sentences.owner_text(driver.owner)} takes it"
    if session.settings.provider == "temporal":
        return f"{line}; a worker takes it: {escape(session.command('worker'))}"
    return f"{line}; drive it with: {sentences.resume_command(session, info)}"


def _print_outcome(session: Session, info: RunInfo) -> None:
    """Print the result of a run that was driven here, or end with its exit code."""
    if session.interrupted is not None and info.open:
        raise interrupted_error(session, [info])
    if info.problem is not None and info.open:
        raise sentences.parked(session, info)
    sentences.require_completed(session, info)
    if session.json:
        session.print_json(info.to_json())
    elif info.status == "completed":
        session.print_value(info.result)
