"""query: ask a run; changes nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from belugawf.cli import options
from belugawf.cli.options import Text, option
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS


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
    from belugawf.executor import TypedRun
    from belugawf.model.codec import parse_json

    given = [] if args is None else parse_json(args, what="--args")
    arguments = given if isinstance(given, list) else [given]
    with STREAMS.diverted():
        answer = session.run(lambda e: e.query(TypedRun(run), name, *arguments))
        if session.json:
            session.print_json(answer)
        else:
            session.print_value(answer)
