"""run: start a run and drive it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import completion, exits, options, render, telling
from belugawf.cli.app import Command, command_group
from belugawf.cli.driving import (
    described,
    interrupted_error,
    live_worker,
    other_owner,
    to_rest,
)
from belugawf.cli.exits import CommandError, outcome_error
from belugawf.cli.render import escape
from belugawf.cli.session import Session, leave, unredacted
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import (
    PayloadTypeError,
    RunNotFoundError,
    UsageError,
    WorkflowLoadError,
    WorkflowNotFoundError,
)

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, IfExists, RunInfo

app = command_group()

_IF_EXISTS = ("fail", "skip", "replace")


# -- run -----------------------------------------------------------------------------------------


@app.command("run", cls=Command)
def run_command(
    ctx: typer.Context,
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
        str | None,
        typer.Option("-i", "--input", metavar="VALUE", help="The input: JSON, or text for a str."),
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option("-a", "--arg", metavar="KEY=VALUE", help="One parameter; repeat for more."),
    ] = None,
    input_file: Annotated[
        str | None,
        typer.Option("--input-file", metavar="FILE|-", help="Read the input; - is stdin."),
    ] = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Your name for the run.")
    ] = None,
    if_exists: Annotated[
        str,
        typer.Option(
            "--if-exists", metavar="HOW", help="For an id that is stored: fail, skip or replace."
        ),
    ] = "fail",
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DUR", help="The run ends after DUR.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until it ends, whatever it waits for.")
    ] = False,
    max_wait: options.MaxWait = None,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Only record it; resume or a worker drives it.")
    ] = False,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="A label; repeat for more."),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Start a run and drive it until it ends or waits.

    Its result is printed when it completes. When it waits, it is saved, and stderr says for what
    and what to type.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
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
    text = input if input_file is None else options.read_text(input_file, "--input-file")
    patience = options.duration(max_wait, "--max-wait")
    start = _Start(
        workflow=workflow,
        text=text,
        arguments=options.pairs(arg, "--arg"),
        id=id,
        if_exists=if_exists,
        timeout=options.duration(timeout, "--timeout"),
        labels=options.pairs(label, "--label"),
        detach=detach,
    )
    with STREAMS.diverted():
        until = "done" if wait or patience is not None else "rest"
        info, drove = session.run(lambda e: _run(session, e, start, until, patience), create=True)
        if session.interrupted is not None and info.open:
            # It was drained while the executor was left: look again.
            (info,) = session.run(lambda e: described(e, [info.run_id]))
        _finish_run(session, info, drove=drove)


class _Start:
    """What is to be started, before the workflow's parameters are known."""

    def __init__(
        self,
        *,
        workflow: str | None,
        text: str | None,
        arguments: Mapping[str, str],
        id: str | None,
        if_exists: str,
        timeout: timedelta | None,
        labels: Mapping[str, str],
        detach: bool,
    ) -> None:
        self.workflow = workflow
        self.text = text
        self.arguments = arguments
        self.id = id
        self.if_exists: IfExists = if_exists  # type: ignore[assignment]
        self.timeout = timeout
        self.labels = labels
        self.detach = detach

    def input_for(self, definition: Any) -> Any:
        """The input in the form that `execute` takes. Raises `UsageError`."""
        from belugawf.executor import UNSET

        if self.arguments:
            return definition.parse_arguments(self.arguments)
        return UNSET if self.text is None else definition.parse_input(self.text)


async def _run(
    session: Session,
    executor: DurableExecutor,
    start: _Start,
    until: str,
    max_wait: timedelta | None,
) -> tuple[RunInfo, bool]:
    """Start and drive; the run as it is then, and whether it was started at all."""
    if start.if_exists == "skip" and start.id is not None:
        found = await _existing(executor, start.id)
        if found is not None:
            return found, False
    name = start.workflow or _only_workflow(session, executor)
    definition = executor.catalog.workflow(name)
    try:
        handle = await executor.execute(
            name,
            id=start.id,
            input=start.input_for(definition),
            timeout=start.timeout,
            if_exists=start.if_exists,
            labels=start.labels,
            detach=start.detach,
        )
    except PayloadTypeError as error:
        error.hint = error.hint or f"see what {name!r} takes: {session.command('workflows')}"
        raise
    if start.detach:
        return await handle.describe(), False
    session.say(f"{escape(handle.id)} started")
    (info,) = await to_rest(session, executor, [handle.run_id], until=until, max_wait=max_wait)
    if info.status == "completed" and not session.json:
        # It is printed: the data that was asked for.
        info = replace(info, result=(await unredacted(executor).describe(info.run_id)).result)
    rests = info.open and info.problem is None
    if rests and not session.quiet and session.interrupted is None:
        telling.say_waits(session, info, await telling.awaiting_runs(executor, [info]))
    return info, True


async def _existing(executor: DurableExecutor, workflow_id: str) -> RunInfo | None:
    try:
        info = await executor.describe(workflow_id)
    except RunNotFoundError:
        return None
    # Not a run that has it as its run id.
    return info if info.workflow_id == workflow_id else None


def _only_workflow(session: Session, executor: DurableExecutor) -> str:
    if session.settings.default_workflow:
        return session.settings.default_workflow
    catalog = executor.catalog
    names = list(catalog.workflows)
    if len(names) == 1:
        return names[0]
    if names:
        raise UsageError("name the workflow to run", hint="there are: " + ", ".join(names))
    if catalog.problems:
        raise WorkflowLoadError(
            f"no workflow could be loaded: {catalog.problems[0]}",
            hint="mend that module, then try again: belugawf workflows",
        )
    raise WorkflowNotFoundError(
        f"there is no workflow in {session.settings.workflows}",
        hint="make an example with: belugawf init",
    )


def _finish_run(session: Session, info: RunInfo, *, drove: bool) -> None:
    """Print the outcome and end with its exit code."""
    if not drove:
        if session.json:
            session.print_json(info.to_json())
        else:
            _show_stored(session, info)
        leave(exits.OK)
    if session.interrupted is not None and info.open:
        raise interrupted_error(session, [info])
    if info.problem is not None and info.open:
        problem = info.problem
        raise CommandError(
            problem.exit_code,
            problem.code,
            f"{info.workflow_id}: {problem.message}",
            hint=problem.hint,
            extra={"run": info.to_json()},
        )
    if exits.outcome_code(info.status):
        if not session.json:
            telling.say_failure(info)
        raise outcome_error(info, said=True)
    if session.json:
        session.print_json(info.to_json())
    elif info.status == "completed":
        print_value(session, info.result)
    leave(exits.OK)


def _show_stored(session: Session, info: RunInfo) -> None:
    """A run that this command does not drive: its id as data, the rest as talk."""
    STREAMS.write(f"{escape(info.workflow_id)}\n")
    line = f"{escape(info.workflow_id)} is {info.status.replace('_', ' ')}"
    if info.open:
        driver = other_owner(info) or live_worker(session, info.workflow)
        if driver is None and session.settings.provider == "temporal":
            line += f"; a worker takes it: {escape(session.command('worker'))}"
        elif driver is None:
            line += f"; drive it with: {telling.resume_command(session, info)}"
        else:
            line += f"; {telling.owner_text(driver)} takes it"
    session.say(line)


def print_value(session: Session, value: Any) -> None:
    """A result on stdout: text as it is, anything else as JSON."""
    if isinstance(value, str):
        # A terminal would obey control characters; a pipe gets what the workflow returned.
        text = render.escape_lines(value) if session.data_terminal else value
        STREAMS.write(text if text.endswith("\n") else text + "\n")
    else:
        STREAMS.write(render.json_text(value) + "\n")
