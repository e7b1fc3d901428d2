"""prune: deleting what ended long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from belugawf.cli import exits, options
from belugawf.cli.exits import CommandError
from belugawf.cli.options import Text, option
from belugawf.cli.session import Session
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

    Never an open one. Workers go on meanwhile, and the space is used for new runs.
    """
    age = options.duration(older_than, "--older-than")
    if age is None:
        raise UsageError("--older-than is missing", hint="for example: --older-than 30d")

    def prune(*, only_count: bool) -> Pruned:
        if session.nothing_stored:
            from belugawf.executor.checks import ended_status

            ended_status(status)
            return Pruned(runs=0, events=0, dry_run=only_count, file_bytes=0, free_bytes=0)
        return session.run(
            lambda executor: executor.prune(
                older_than=age,
                status=status,
                workflow=workflow,
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


def _confirm(count: int, age: timedelta) -> None:
    if not count or (count == 1 and not STREAMS.can_prompt()):
        return
    what = f"{_runs(count)} that ended more than {format_duration(age)} ago"
    if not STREAMS.can_prompt():
        raise options.yes_is_missing(f"{what} would be deleted")
    if not typer.confirm(f"Delete {what}?", err=True):
        raise CommandError(
            exits.REFUSED, "refused", "nothing was pruned", hint="--yes does not ask"
        )


def _summary(pruned: Pruned, *, vacuum: bool) -> str:
    if pruned.dry_run:
        return f"{_runs(pruned.runs)} would be pruned, with {pruned.events:,} events"
    text = f"pruned {_runs(pruned.runs)} with {pruned.events:,} events"
    if vacuum:
        return f"{text}; the file has {_size(pruned.file_bytes)} now"
    if not pruned.runs:
        return text
    free, size = _size(pruned.free_bytes), _size(pruned.file_bytes)
    return f"{text}; {free} of the file's {size} are free for new runs (--vacuum makes it smaller)"


def _runs(count: int) -> str:
    return f"{count:,} {'run' if count == 1 else 'runs'}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:,.1f} GB"
