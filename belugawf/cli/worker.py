"""worker: stay and drive everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import exits, options
from belugawf.cli.app import Command, command_group
from belugawf.cli.driving import interrupted_error, interruptible
from belugawf.cli.render import escape
from belugawf.cli.session import Interrupted, Session, leave
from belugawf.cli.streams import STREAMS

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, Hook, Hooks

app = command_group()


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
