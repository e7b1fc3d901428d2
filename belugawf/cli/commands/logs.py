"""logs: what the code of a run has logged."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from belugawf.cli import options, render
from belugawf.cli.follow import chosen_run
from belugawf.cli.logs import line_text
from belugawf.cli.options import Text, option
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, LogLine

_FOLLOW_EVERY_S = 0.25
# When a run has ended, its last lines may come so much later.
_LAST_S = 1.5


def command(
    session: Session,
    run: options.OptionalRun = None,
    activity: Annotated[
        Text, option("--activity", "A", "Only what activities of this name have logged.")
    ] = None,
    level: Annotated[
        Text, option("--level", "LEVEL", "Only lines of LEVEL and above: debug to critical.")
    ] = None,
    limit: Annotated[Text, option("-n", "--limit", "N", "Only the last N lines.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on showing lines until the run ends.")
    ] = False,
) -> None:
    """Show what the code of a run has logged.

    Without RUN: of the only open run, else of the latest.
    """
    options.level(level, "--level")
    count = options.whole_number(limit, "--limit")

    async def show(executor: DurableExecutor) -> None:
        info = await chosen_run(session, executor, run)
        shown = await executor.logs(info.run_id, level=level, activity=activity, limit=count)
        if session.json and not follow:
            session.print_json([line.to_json() for line in shown])
            return
        _print(session, shown)
        if follow:
            last = shown[-1].position if shown else 0
            await _follow(session, executor, info.run_id, last, level, activity)
        elif not shown:
            session.say(f"{escape(info.workflow_id)}: nothing that it has logged is kept")

    session.run(show)


async def _follow(
    session: Session,
    executor: DurableExecutor,
    run_id: str,
    last: int,
    level: str | None,
    activity: str | None,
) -> None:
    import asyncio

    ends_at = None
    while ends_at is None or time.monotonic() < ends_at:
        if ends_at is None and not (await executor.describe(run_id)).open:
            ends_at = time.monotonic() + _LAST_S
        lines = await executor.logs(run_id, level=level, activity=activity, after=last)
        _print(session, lines)
        last = lines[-1].position if lines else last
        await asyncio.sleep(_FOLLOW_EVERY_S)


def _print(session: Session, lines: Iterable[LogLine]) -> None:
    for line in lines:
        if session.json:
            text = render.json_line(line.to_json())
        elif session.data_terminal:
            text = line_text(line.to_json(), line.time, session.paint, terminal=True, named=False)
        else:
            attempt = "" if line.attempt is None else str(line.attempt)
            cells = (line.level, line.activity or "", attempt, line.logger, line.message)
            text = "\t".join([render.iso_local(line.time), *map(escape, cells)])
        STREAMS.write(text + "\n")
