"""result and wait: how a run ended, or whether it has."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from belugawf.cli import exits, options, telling
from belugawf.cli.app import Command, command_group
from belugawf.cli.drive import print_value
from belugawf.cli.driving import other_owner
from belugawf.cli.exits import CommandError, outcome_error
from belugawf.cli.look import chosen_run
from belugawf.cli.render import escape
from belugawf.cli.session import Session, leave, unredacted
from belugawf.model.errors import NotFinishedError, UsageError, WaitExpiredError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo

app = command_group()


@app.command("result", cls=Command)
def result_command(
    ctx: typer.Context,
    run: options.OptionalRun = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the run has ended.")] = False,
    max_wait: options.MaxWait = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Print the result of a run, and nothing else.

    Text as it is, anything else as JSON. Without RUN: of the only open run, else of the latest.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    patience = options.duration(max_wait, "--max-wait")

    async def look(executor: DurableExecutor) -> RunInfo:
        info = await chosen_run(session, executor, run)
        if info.open and (wait or patience is not None):
            info = await _wait(session, executor, info, "done", patience)
        if info.status != "completed":
            return info
        return await unredacted(executor).describe(info.run_id)

    info = session.run(look)
    if info.open:
        raise _not_finished(session, info)
    _require_completed(session, info)
    if json:
        session.print_json(info.result)
    else:
        print_value(session, info.result)
    leave(exits.OK)


@app.command("wait", cls=Command)
def wait_command(
    ctx: typer.Context,
    run: options.OptionalRun = None,
    target: Annotated[
        str,
        typer.Option("--for", metavar="WHAT", help="done, waiting (for a signal), or signal:NAME."),
    ] = "done",
    max_wait: options.MaxWait = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Wait until a run ends, waits, or awaits a signal.

    Only looks: another process drives the run. Its exit code is the run's, once it has ended.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    kind, _, awaited = target.partition(":")
    if target not in ("done", "waiting") and not (kind == "signal" and awaited):
        raise UsageError(f"--for is {target!r}", hint="expected done, waiting or signal:NAME")
    patience = options.duration(max_wait, "--max-wait")

    async def look(executor: DurableExecutor) -> RunInfo:
        info = await chosen_run(session, executor, run)
        return await _wait(session, executor, info, target, patience)

    info = session.run(look)
    _require_completed(session, info)
    if json:
        session.print_json(info.to_json())
    else:
        session.say(f"{escape(info.workflow_id)} {_where(info)}")
    leave(exits.OK)


def _where(info: RunInfo) -> str:
    if not info.open:
        return info.status.replace("_", " ")
    names = [escape(wait.name) for wait in info.waiting_for if wait.kind == "signal"]
    return "waits for signal " + ", ".join(names) if names else "is running"


async def _wait(
    session: Session,
    executor: DurableExecutor,
    info: RunInfo,
    until: str,
    max_wait: timedelta | None,
) -> RunInfo:
    workers_drive = session.settings.provider == "temporal" and info.unattended is None
    if info.open and info.owner is None and session.talk_terminal and not workers_drive:
        command = telling.moving_command(session, info)
        session.say(f"nobody drives {escape(info.workflow_id)} now; it goes on with: {command}")
    try:
        return await executor.wait(info.run_id, until=until, max_wait=max_wait)
    except WaitExpiredError as error:
        if max_wait == timedelta(0):
            raise _not_finished(session, info) from None
        raise WaitExpiredError(
            error.message, hint=error.hint or "the run goes on where it is driven"
        ) from None


def _require_completed(session: Session, info: RunInfo) -> None:
    if exits.outcome_code(info.status):
        if not session.json:
            telling.say_failure(info)
        raise outcome_error(info, said=True)


def _not_finished(session: Session, info: RunInfo) -> CommandError:
    waits = "; ".join(telling.wait_text(session, wait) for wait in info.waiting_for)
    owner = other_owner(info)
    state = f", driven by {telling.owner_text(owner)}" if owner else ""
    return CommandError(
        exits.NOT_FINISHED,
        NotFinishedError.code,
        f"run {info.workflow_id} has not ended{state}" + (f": {waits}" if waits else ""),
        hint=f"see what moves it on: {session.command('status', info.workflow_id)}",
        extra={"run": info.to_json()},
    )
