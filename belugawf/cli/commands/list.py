"""list: runs, newest first."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from belugawf.cli import options
from belugawf.cli.options import Text, Texts, option
from belugawf.cli.session import Session
from belugawf.cli.tables import run_table
from belugawf.model.errors import UsageError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo

_LIST_LIMIT = 20


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
    limit: Annotated[Text, option("-n", "--limit", "N", "At most N runs; 20 by default.")] = None,
    all_runs: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """List runs, newest first.

    Their ids, workflows, statuses, and what they wait for.
    """
    options.only_one({"--limit": limit is not None, "--all": all_runs})
    most = None if all_runs else options.whole_number(limit, "--limit") or _LIST_LIMIT
    _check_status(status)
    labels = options.pairs(label, "--label")
    started_since = options.duration(since, "--since")

    # One more than is shown, to know whether there are more.
    def find(executor: DurableExecutor) -> Awaitable[Sequence[RunInfo]]:
        return executor.list(
            status=status,
            workflow=workflow,
            labels=labels or None,
            since=started_since,
            limit=None if most is None else most + 1,
        )

    found = () if session.nothing_stored else session.run(find)
    shown = found[:most]
    if session.json:
        session.print_json([info.to_json() for info in shown])
    else:
        run_table(session, shown)
    if session.talk_terminal:
        if not found:
            session.say("no run was found")
        elif len(found) > len(shown):
            session.say(f"these are the newest {most}; --all lists all")


def _check_status(status: str | None) -> None:
    from belugawf.executor import STATUSES

    if status is None or status in STATUSES:
        return
    import difflib

    near = difflib.get_close_matches(status, STATUSES, n=1)
    hint = f"did you mean {near[0]}?" if near else "expected one of " + ", ".join(STATUSES)
    raise UsageError(f"--status is {status!r}", hint=hint)
