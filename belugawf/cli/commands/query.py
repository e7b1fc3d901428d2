"""query: ask a run; changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import options
from belugawf.cli.options import Text, option
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor


def command(
    session: Session,
    run: options.Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Built in: status, result, waiting.")],
    args: Annotated[
        Text, option("--args", "JSON", "An array of arguments, or the only one.")
    ] = None,
) -> None:
    """Ask a run; changes nothing.

    Answered by replaying the run's history, whether or not it is being driven.
    """
    from belugawf.cli.naming import find_run
    from belugawf.model.codec import parse_json

    given = [] if args is None else parse_json(args, what="--args")
    arguments = given if isinstance(given, list) else [given]

    async def ask(executor: DurableExecutor) -> Any:
        info = await find_run(session, executor, run, beside=name)
        return await executor.query(info.run_id, name, *arguments)

    with STREAMS.diverted():
        answer = session.run(ask)
        if session.json:
            session.print_json(answer)
        else:
            session.print_value(answer)
