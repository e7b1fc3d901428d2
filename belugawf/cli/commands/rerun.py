"""rerun: start the workflow of a run anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from belugawf.cli import options
from belugawf.cli.naming import find_run
from belugawf.cli.options import Text, Texts, option
from belugawf.cli.session import Session, unredacted
from belugawf.cli.started import Follow, Followed, follow_and_print, started
from belugawf.cli.starting import Given, definition_of, explained

if TYPE_CHECKING:
    from datetime import timedelta

    from belugawf.executor import DurableExecutor, WorkflowHandle


def command(
    session: Session,
    run: options.Run,
    input: Annotated[Text, option("-i", "--input", "VALUE", "Another input.")] = None,
    arg: Annotated[
        Texts,
        option("-a", "--arg", "KEY=VALUE", "Another value of one parameter; repeatable."),
    ] = None,
    input_file: Annotated[
        Text, option("--input-file", "FILE|-", "Read another input; - is stdin.")
    ] = None,
    id: Annotated[Text, option("--id", "ID", "Your name for it; else ID-2, ID-3 ...")] = None,
    timeout: Annotated[
        Text, option("--timeout", "DUR", "It ends after DUR; else after the time RUN had.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until it ends, whatever it waits for.")
    ] = False,
    max_wait: options.MaxWait = None,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Only record it; resume or a worker drives it.")
    ] = False,
    log_level: options.LogLevel = None,
) -> None:
    """Start the workflow of a run anew, with the same input.

    That run may have ended or not, and stays as it is. The new run has its labels, and is driven as
    belugawf run does.
    """
    given = Given.of(session, input, arg, input_file)
    follow = Follow.of(detach, wait, max_wait)
    limit = options.duration(timeout, "--timeout")
    follow_and_print(
        session, lambda e: _rerun(session, e, run, given, id, limit, follow), log_level
    )


async def _rerun(
    session: Session,
    executor: DurableExecutor,
    run: str,
    given: Given,
    id: str | None,
    timeout: timedelta | None,
    follow: Follow,
) -> Followed:
    first = await find_run(session, executor, run)
    definition = definition_of(session, executor, first.workflow)

    async def begin() -> WorkflowHandle:
        recorded = (await unredacted(executor).describe(first.run_id)).input
        with explained(session, first.workflow):
            return await executor.rerun(
                first.run_id,
                id=id,
                input=given.value(definition, recorded),
                timeout=timeout,
                detach=follow.detach,
            )

    return await started(session, executor, begin, follow)
