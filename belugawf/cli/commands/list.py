"""list: runs, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import options
from belugawf.cli.options import Text, Texts, option
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.tables import run_table
from belugawf.model.errors import UsageError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo

_LIST_LIMIT = 20
# So many more are counted.
_COUNTED = 10_000


def command(
    session: Session,
    status: Annotated[
        Text,
        option(
            "--status",
            "STATUS",
            "running, completed, failed, cancelled, terminated, timed_out, continued_as_new.",
        ),
    ] = None,
    workflow: options.Workflow = None,
    label: Annotated[
        Texts, option("--label", "KEY=VALUE", "Only runs so labelled; repeat for more.")
    ] = None,
    since: Annotated[Text, option("--since", "DUR", "Only runs started in the last DUR.")] = None,
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
    _check_status(status)
    labels = options.pairs(label, "--label")
    started_since = options.duration(since, "--since")
    filters: dict[str, Any] = {
        "status": status,
        "workflow": workflow,
        "labels": labels or None,
        "since": started_since,
    }

    async def find(executor: DurableExecutor) -> tuple[Sequence[RunInfo], int]:
        found = await executor.list(**filters, limit=most)
        if most is None or len(found) < most:
            return found, 0
        return found, await executor.count(**filters, limit=most + _COUNTED) - most

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


def _check_status(status: str | None) -> None:
    from belugawf.executor import STATUSES

    if status is None or status in STATUSES:
        return
    import difflib

    near = difflib.get_close_matches(status, STATUSES, n=1)
    hint = f"did you mean {near[0]}?" if near else "expected one of " + ", ".join(STATUSES)
    raise UsageError(f"--status is {status!r}", hint=hint)
