"""run: start a run and drive it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from belugawf.cli import completion, options
from belugawf.cli.options import Text, Texts, option
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.started import Follow, Followed, follow_and_print, started, stored
from belugawf.cli.starting import Given, Start
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import UsageError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, IfExists

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
    log_level: options.LogLevel = None,
) -> None:
    """Start a run and drive it until it ends or waits.

    Its result is printed when it completes. When it waits, it is saved, and stderr says for what
    and what to type.
    """
    given = Given.of(session, input, arg, input_file)
    if if_exists not in _IF_EXISTS:
        raise UsageError(f"--if-exists is {if_exists!r}", hint="expected fail, skip or replace")
    follow = Follow.of(detach, wait, max_wait)
    start = Start(
        workflow=workflow,
        given=given,
        id=id,
        if_exists=cast("IfExists", if_exists),
        timeout=options.duration(timeout, "--timeout"),
        labels=options.pairs(label, "--label"),
        detach=detach,
    )
    follow_and_print(
        session,
        lambda e: _run(session, e, start, follow),
        log_level,
        check=lambda e: start.check(session, e),
    )


async def _run(
    session: Session,
    executor: DurableExecutor,
    start: Start,
    follow: Follow,
) -> Followed:
    """Start and drive, unless it is there already."""
    found = await start.existing(executor)
    if found is not None:
        async for what in start.differences(session, executor, found):
            if not session.json:
                STREAMS.say(
                    f"warning: {escape(found.workflow_id)} is left as it is: {escape(what)}; to "
                    "start anew: --if-exists replace"
                )
        return found, await stored(session, executor, found)
    return await started(session, executor, lambda: start.begin(session, executor), follow)
