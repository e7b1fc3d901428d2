"""result: what a run returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from belugawf.cli import options, sentences
from belugawf.cli.follow import chosen_run, not_finished, wait_for
from belugawf.cli.session import Session, unredacted

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo


def command(
    session: Session,
    run: options.OptionalRun = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the run has ended.")] = False,
    max_wait: options.MaxWait = None,
) -> None:
    """Print the result of a run, and nothing else.

    Text as it is, anything else as JSON. Without RUN: of the only open run, else of the latest.
    """
    limit = options.duration(max_wait, "--max-wait")

    async def find(executor: DurableExecutor) -> RunInfo:
        info = await chosen_run(session, executor, run)
        if info.open and (wait or limit is not None):
            info = await wait_for(session, executor, info, "done", limit)
        if info.open:
            raise await not_finished(session, executor, info)
        if info.status != "completed":
            return info
        return await unredacted(executor).describe(info.run_id)

    info = session.run(find)
    sentences.require_completed(session, info)
    if session.json:
        session.print_json(info.result)
    else:
        session.print_value(info.result)
