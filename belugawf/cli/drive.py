"""run, resume, worker: the commands that drive runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import completion, exits, options, render, telling
from belugawf.cli.app import Command, command_group
from belugawf.cli.driving import (
    described,
    follow_other,
    interrupted_error,
    interruptible,
    other_owner,
    to_rest,
)
from belugawf.cli.exits import CommandError, outcome_error
from belugawf.cli.render import escape
from belugawf.cli.session import Interrupted, Session, leave
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import (
    AmbiguousRunError,
    RunNotFoundError,
    UsageError,
    WorkflowLoadError,
    WorkflowNotFoundError,
)

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, Hook, Hooks, IfExists, RunInfo

app = command_group()

_IF_EXISTS = ("fail", "skip", "replace")
# Waits of up to so many seconds are slept through (CLI.md).
_RUN_PATIENCE_S = 60
_RESUME_PATIENCE_S = 5


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
    handle = await executor.execute(
        name,
        id=start.id,
        input=start.input_for(definition),
        timeout=start.timeout,
        if_exists=start.if_exists,
        labels=start.labels,
        detach=start.detach,
    )
    if start.detach:
        return await handle.describe(), False
    session.say(f"{escape(handle.id)} started")
    (info,) = await to_rest(session, executor, [handle.run_id], until=until, max_wait=max_wait)
    if info.open and not session.quiet:
        telling.say_waits(session, info, await telling.awaiting_runs(executor, [info]))
    return info, True


async def _existing(executor: DurableExecutor, workflow_id: str) -> RunInfo | None:
    try:
        info = await executor.describe(workflow_id)
    except (RunNotFoundError, AmbiguousRunError):
        return None
    # Not a run whose id merely begins so.
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
    session.say(
        f"{escape(info.workflow_id)} is {info.status.replace('_', ' ')}"
        + (f"; drive it with: {telling.resume_command(session, info)}" if info.open else "")
    )


def print_value(session: Session, value: Any) -> None:
    """A result on stdout: text as it is, anything else as JSON."""
    if isinstance(value, str):
        # A terminal would obey control characters; a pipe gets what the workflow returned.
        text = render.escape_lines(value) if session.data_terminal else value
        STREAMS.write(text if text.endswith("\n") else text + "\n")
    else:
        STREAMS.write(render.json_text(value) + "\n")


# -- resume --------------------------------------------------------------------------------------


@app.command("resume", cls=Command)
def resume_command(
    ctx: typer.Context,
    runs: options.Runs = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            "--max-time", metavar="DUR", help="Start nothing new after DUR; attempts go on."
        ),
    ] = None,
    grace: options.Grace = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be driven.")
    ] = False,
    workflow: Annotated[
        str | None,
        typer.Option(
            "--workflow",
            metavar="NAME",
            help="Only runs of this workflow.",
            autocompletion=completion.complete_workflow,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Drive what can move on: recovered, signalled, due.

    Made for cron: silent when nothing is due, one line for each run that failed or was refused.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    limits = {
        "max_time": options.duration(max_time, "--max-time"),
        "grace": options.duration(grace, "--grace"),
    }
    named = list(dict.fromkeys(runs or ()))
    if limits["max_time"] is None:
        limits["max_time"] = session.settings.resume_max_time
    with STREAMS.diverted():
        resume = _Resume(session, named, workflow, limits, dry_run=dry_run)
        if not named and session.nothing_stored:
            resume.finish([])
        infos = session.run(resume.drive)
        if session.interrupted is not None:
            infos = session.run(lambda e: described(e, [info.run_id for info in infos]))
        resume.finish(infos)


class _Resume:
    """One `resume`: what it drives, and what it says about it."""

    def __init__(
        self,
        session: Session,
        named: Sequence[str],
        workflow: str | None,
        limits: Mapping[str, timedelta | None],
        *,
        dry_run: bool,
    ) -> None:
        self._session = session
        self._named = list(named)
        self._workflow = workflow
        self._limits = limits
        self._dry_run = dry_run
        self._ended_before: set[str] = set()

    async def drive(self, executor: DurableExecutor) -> Sequence[RunInfo]:
        """Drive, and say what waits."""
        session = self._session
        if self._dry_run:
            return await self._resume(executor, dry_run=True)
        watched = await self._before(executor)
        from belugawf.cli.live import watching

        with interruptible(session, executor, watched):
            async with watching(session, executor, watched, lines=session.verbose):
                infos = list(await self._resume(executor))
        if session.interrupted is None:
            infos = [await self._follow(executor, info) for info in infos]
        await self._say(executor, infos)
        return infos

    async def _resume(
        self, executor: DurableExecutor, *, dry_run: bool = False
    ) -> Sequence[RunInfo]:
        return await executor.resume(
            self._named or None,
            max_time=self._limits["max_time"],
            grace=self._limits["grace"],
            workflow=self._workflow,
            patience=_RESUME_PATIENCE_S,
            dry_run=dry_run,
        )

    async def _before(self, executor: DurableExecutor) -> list[str]:
        """Look at the named runs, and find what a view should show."""
        if self._named:
            infos = await described(executor, self._named)
            self._ended_before = {info.run_id for info in infos if not info.open}
            return [info.run_id for info in infos if info.open]
        session = self._session
        if session.quiet or not (session.talk_terminal or session.verbose):
            return []
        return [info.run_id for info in await self._resume(executor, dry_run=True)]

    async def _follow(self, executor: DurableExecutor, info: RunInfo) -> RunInfo:
        owner = other_owner(info)
        if not self._named or owner is None:
            return info
        return await follow_other(self._session, executor, info, owner)

    async def _say(self, executor: DurableExecutor, infos: Sequence[RunInfo]) -> None:
        session = self._session
        if session.json:
            return
        waiting_runs = await telling.awaiting_runs(executor, infos)
        for info in infos:
            self._say_run(info, waiting_runs)
        if not infos and (session.talk_terminal or session.verbose):
            due = (await executor.summary()).next_due_at
            when = f"; next {render.moment(due, session.talk_terminal)}" if due else ""
            session.say(f"nothing is due{when}")

    def _say_run(self, info: RunInfo, waiting_runs: Mapping[str, int]) -> None:
        session = self._session
        name = escape(info.workflow_id)
        talkative = bool(self._named) or session.talk_terminal or session.verbose
        if info.run_id in self._ended_before:
            session.say(f"{name} has ended already: {info.status.replace('_', ' ')}")
        elif self._driven_badly(info):
            if talkative:
                telling.say_failure(info)
            else:
                STREAMS.say(f"error: {escape(exits.outcome_message(info))}")
        elif info.problem is not None:
            if self._named or info.problem.new:
                STREAMS.say(f"error: {telling.problem_line(info)}")
        elif info.open:
            telling.say_waits(session, info, waiting_runs)
        elif talkative:
            session.say(f"{name} {info.status.replace('_', ' ')}")

    def _driven_badly(self, info: RunInfo) -> bool:
        return info.status in ("failed", "timed_out") and info.run_id not in self._ended_before

    def finish(self, infos: Sequence[RunInfo]) -> None:
        """Print the JSON, or list what a dry run found, and end with the exit code."""
        session = self._session
        if session.interrupted is not None:
            raise interrupted_error(session, infos)
        error = None if self._dry_run else self._error(infos)
        if error is not None:
            raise error
        if session.json:
            session.print_json([info.to_json() for info in infos])
        elif self._dry_run:
            from belugawf.cli.look import run_table

            run_table(session, infos)
        leave(exits.OK)

    def _error(self, infos: Sequence[RunInfo]) -> CommandError | None:
        extra = {"runs": [info.to_json() for info in infos]}
        failed = [info for info in infos if self._driven_badly(info)]
        if failed:
            message = exits.outcome_message(failed[0])
            if len(failed) > 1:
                message += f" (and {len(failed) - 1} more)"
            return CommandError(exits.FAILED, "workflow_failed", message, extra=extra, said=True)
        refused = [info for info in infos if info.problem is not None and info.open]
        for code in (exits.MISMATCH, exits.NOT_LOADED):
            for info in refused:
                problem = info.problem
                if problem is not None and problem.exit_code == code:
                    message = f"{info.workflow_id}: {problem.message}"
                    return CommandError(
                        code, problem.code, message, hint=problem.hint, extra=extra, said=True
                    )
        return None


# -- worker --------------------------------------------------------------------------------------


@app.command("worker", cls=Command)
def worker_command(
    ctx: typer.Context,
    concurrency: Annotated[
        str | None,
        typer.Option("--concurrency", metavar="N", help="At most N activities at once."),
    ] = None,
    grace: options.Grace = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Stay and drive everything until interrupted.

    SIGTERM and Ctrl-C drain: nothing new is started, activities in flight end and are recorded.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    count = options.whole_number(concurrency, "--concurrency")
    if count is None:
        count = session.settings.worker_concurrency
    limit = options.duration(grace, "--grace")

    async def work() -> None:
        async with session.executor(hooks=[_worker_hooks(session)], create=True) as executor:
            _say_what_is_driven(session, executor)
            with interruptible(session, executor, ()):
                await executor.work(concurrency=count, grace=limit)

    with STREAMS.diverted():
        session.run_loop(work())
        if session.interrupted is not None:
            session.say("drained; the state is saved")
            if not session.json:
                raise Interrupted(session.interrupted)
            raise interrupted_error(session, ())
    leave(exits.OK)


def _say_what_is_driven(session: Session, executor: DurableExecutor) -> None:
    catalog = executor.catalog
    for problem in catalog.problems:
        STREAMS.say(f"error: {escape(problem)}")
    names = ", ".join(escape(name) for name in catalog.workflows) or "no workflows"
    where = escape(session.settings.db) if executor.provider == "default" else executor.provider
    session.say(f"driving {names} on {where}")


def _worker_hooks(session: Session) -> Hooks:
    from belugawf.executor import Hooks

    def line(what: str) -> Hook:
        def say(event: Mapping[str, Any]) -> None:
            error = event.get("error")
            shown = f": {escape(_error_text(error))}" if error else ""
            subject = event.get("activity")
            about = f" {escape(subject)}" if subject else ""
            session.say(f"{escape(event.get('workflow_id'))}{about} {what}{shown}")

        return say

    told = Hooks(on_workflow_complete=line("completed"), on_workflow_fail=line("failed"))
    if not session.verbose:
        return told
    return Hooks(
        on_workflow_start=line("started"),
        on_workflow_complete=told.on_workflow_complete,
        on_workflow_fail=told.on_workflow_fail,
        on_activity_start=line("started"),
        on_activity_complete=line("done"),
        on_signal=line("received a signal"),
        on_retry=line("will be tried again"),
    )


def _error_text(error: Any) -> str:
    if isinstance(error, Mapping):
        return f"{error.get('type')}: {error.get('message')}"
    kind = getattr(error, "type", None)
    return f"{kind}: {getattr(error, 'message', '')}" if kind else str(error)
