"""prune: deleting what ended long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from belugawf.cli import options
from belugawf.cli.options import Text, option
from belugawf.cli.session import Session
from belugawf.cli.several import confirm, count_runs
from belugawf.cli.streams import STREAMS
from belugawf.executor import Pruned
from belugawf.model.durations import format_duration
from belugawf.model.errors import UsageError


def command(
    session: Session,
    older_than: Annotated[
        Text, option("--older-than", "DUR", "What ended longer ago: 30d, 12h.")
    ] = None,
    status: Annotated[
        Text,
        option(
            "--status",
            "STATUS",
            "Only: completed, failed, cancelled, terminated, timed_out, continued_as_new.",
        ),
    ] = None,
    workflow: options.Workflow = None,
    label: options.Labels = None,
    since: options.Since = None,
    until: options.Until = None,
    all_runs: Annotated[bool, typer.Option("--all", help="Whatever has ended.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many runs would be deleted.")
    ] = False,
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum",
            help="Make the file smaller afterwards: rewrites it, while nobody works on it.",
        ),
    ] = False,
    yes: options.Yes = False,
) -> None:
    """Delete runs that ended long ago, with their histories.

    Or what has ended, and filters find; never an open run. Workers go on meanwhile, and the space
    is used for new runs.
    """
    filters: dict[str, Any] = {
        "status": status,
        "workflow": workflow,
        "labels": options.pairs(label, "--label") or None,
        "since": options.duration(since, "--since"),
        "until": options.duration(until, "--until"),
    }
    given = {name: value for name, value in filters.items() if value is not None}
    age = options.duration(older_than, "--older-than")
    if age is None and not (all_runs or given):
        raise UsageError(
            "--older-than is missing",
            hint="for example: --older-than 30d; or give filters, or --all",
        )

    def prune(*, only_count: bool) -> Pruned:
        if session.nothing_stored:
            from belugawf.executor.checks import ended_status

            ended_status(status)
            return Pruned(runs=0, events=0, dry_run=only_count, file_bytes=0, free_bytes=0)
        return session.run(
            lambda executor: executor.prune(
                older_than=age or timedelta(),
                **given,
                dry_run=only_count,
                vacuum=vacuum and not only_count,
            )
        )

    if not (yes or dry_run):
        _confirm(prune(only_count=True).runs, age)
    pruned = prune(only_count=dry_run)
    if session.json:
        session.print_json(pruned.to_json())
    else:
        session.say(_summary(pruned, vacuum=vacuum))
    if session.nothing_stored:
        session.say_nothing_stored()


def _confirm(count: int, age: timedelta | None) -> None:
    if not count or (count == 1 and not STREAMS.can_prompt()):
        return
    ago = "" if age is None else f" that ended more than {format_duration(age)} ago"
    what = f"{count_runs(count)}{ago}"
    confirm(f"Delete {what}?", f"{what} would be deleted", "nothing was pruned")


def _summary(pruned: Pruned, *, vacuum: bool) -> str:
    if pruned.dry_run:
        return f"{count_runs(pruned.runs)} would be pruned, with {pruned.events:,} events"
    text = f"pruned {count_runs(pruned.runs)} with {pruned.events:,} events"
    if vacuum:
        return f"{text}; the file has {_size(pruned.file_bytes)} now"
    if not pruned.runs:
        return text
    free, size = _size(pruned.free_bytes), _size(pruned.file_bytes)
    return f"{text}; {free} of the file's {size} are free for new runs (--vacuum makes it smaller)"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:,.1f} GB"
