"""list: runs, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from belugawf.cli import options
from belugawf.cli.filters import Filters
from belugawf.cli.options import Text, option
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.tables import run_table

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo

_LIST_LIMIT = 20
# So many more are counted.
_COUNTED = 10_000


def command(
    session: Session,
    filters: Filters,
    limit: Annotated[
        Text, option("-n", "--limit", "N", "At most N runs; 20 on a terminal, else all.")
    ] = None,
    all_runs: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """List runs, newest first.

    Their ids, workflows, statuses, and what they wait for.
    """
    options.only_one({"--limit": limit is not None, "--all": all_runs})
    most = options.whole_number(limit, "--limit")
    if most is None and session.data_terminal and not (all_runs or session.json):
        most = _LIST_LIMIT

    async def find(executor: DurableExecutor) -> tuple[Sequence[RunInfo], int]:
        found = await executor.list(**filters.asked, limit=most)
        if most is None or len(found) < most:
            return found, 0
        return found, await executor.count(**filters.asked, limit=most + _COUNTED) - most

    nothing = session.nothing_stored
    found, more = ((), 0) if nothing else session.run(find)
    if session.json:
        session.print_json([info.to_json() for info in found])
    else:
        run_table(session, found)
    if nothing:
        session.say_nothing_stored()
    elif not found and session.talk_terminal:
        session.say(f"no run was found in {escape(session.place)}")
    elif more > 0:
        least = "at least " if more == _COUNTED else ""
        session.say(f"these are the newest {most}; there are {least}{more:,} more: --all lists all")
