"""terminate: end runs at once, without running their code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from belugawf.cli import exits, options
from belugawf.cli.exits import CommandError
from belugawf.cli.filters import Filters
from belugawf.cli.messages import Outcome
from belugawf.cli.render import escape
from belugawf.cli.session import Session, os_user
from belugawf.cli.several import Several
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import UsageError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor


def command(
    session: Session,
    filters: Filters,
    several: Several,
    runs: options.OptionalOpenRuns = None,
    reason: options.Reason = None,
    by: options.By = None,
) -> None:
    """End runs at once, without running their code.

    Cleanup in the workflow does not happen: `cancel` asks for that.
    """
    who = os_user() if by is None else by
    if runs and not several.yes:
        _confirm(runs)
    named = several.runs(
        session,
        filters,
        runs or (),
        "terminated",
        lambda executor, many: executor.terminate_many(many, reason, by=who),
        moves=False,
    )
    if named is None:
        return
    if not named:
        raise UsageError("RUN is missing", hint="name runs, or give filters or --all")
    with STREAMS.diverted():
        outcome = session.run(lambda e: _terminate(session, e, named, reason, who))
        outcome.finish(session)


def _confirm(runs: Sequence[str]) -> None:
    if not STREAMS.can_prompt():
        if len(set(runs)) > 1:
            raise options.yes_is_missing(f"{len(set(runs))} runs would be terminated")
        return
    names = ", ".join(escape(run) for run in runs)
    if not typer.confirm(f"Terminate {names}, without cleanup?", err=True):
        raise CommandError(
            exits.REFUSED, "refused", "nothing was terminated", hint="--yes does not ask"
        )


async def _terminate(
    session: Session,
    executor: DurableExecutor,
    runs: Sequence[str],
    reason: str | None,
    by: str | None,
) -> Outcome:
    outcome = Outcome()
    await outcome.collect(
        session, executor, runs, lambda run: executor.terminate(run, reason, by=by)
    )
    for info in outcome.infos:
        session.say(f"{escape(info.workflow_id)} {info.status.replace('_', ' ')}")
    return outcome
