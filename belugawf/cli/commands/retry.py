"""retry: take up runs again that have failed, timed out, were cancelled, or are parked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from belugawf.cli import exits, options
from belugawf.cli.exits import CommandError
from belugawf.cli.follow import interrupted_error
from belugawf.cli.messages import Elsewhere, Outcome, warned
from belugawf.cli.options import option
from belugawf.cli.render import escape
from belugawf.cli.session import Session, os_user
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import UsageError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo


def command(
    session: Session,
    runs: options.Runs,
    position: Annotated[
        options.Text, option("--from", "POSITION", "From this event of its history on.")
    ] = None,
    timeout: Annotated[
        options.Text, option("--timeout", "DUR", "Its new deadline; the old one is gone.")
    ] = None,
    reason: options.Reason = None,
    by: options.By = None,
    yes: Annotated[
        bool,
        typer.Option("-y", "--yes", help="Even if what was done after that point is forgotten."),
    ] = False,
) -> None:
    """Take up runs again that failed, were cancelled, or are parked.

    Also those that ran out of time. What has completed is not done again; what failed is.
    """
    number = options.whole_number(position, "--from")
    if number is not None and len(runs) > 1:
        raise UsageError("--from is of one run's history", hint="name one run")
    limit = options.duration(timeout, "--timeout")
    with STREAMS.diverted():
        outcome = session.run(lambda e: _retry(session, e, runs, number, limit, reason, by, yes))
        if session.interrupted is not None and any(info.open for info in outcome.infos):
            raise interrupted_error(session, outcome.infos)
        _require_well(outcome)
        outcome.finish(session)


def _require_well(outcome: Outcome) -> None:
    """End with the exit code of the first run that has failed again, or is parked."""
    for info in () if outcome.errors else outcome.infos:
        code = exits.outcome_code(info.status)
        if info.open and info.problem is not None:
            code = info.problem.exit_code
        if code:
            extra = {"runs": [one.to_json() for one in outcome.infos]}
            said = exits.outcome_message(info)
            raise CommandError(code, "not_mended", said, extra=extra, printed=True)


async def _retry(
    session: Session,
    executor: DurableExecutor,
    runs: Sequence[str],
    position: int | None,
    timeout: timedelta | None,
    reason: str | None,
    by: str | None,
    discard: bool,
) -> Outcome:
    outcome = Outcome()

    async def send(run: str) -> RunInfo:
        return await executor.retry(
            run,
            from_position=position,
            timeout=timeout,
            discard=discard,
            reason=reason,
            by=os_user() if by is None else by,
        )

    await outcome.collect(session, executor, runs, send)
    mine: list[str] = []
    others: list[Elsewhere] = []
    for info in outcome.infos:
        session.say(f"{escape(info.workflow_id)}: taken up again")
    with warned():
        for info in outcome.infos:
            driver = await executor.driver_of(info.run_id)
            if driver.kind == "us":
                mine.append(info.run_id)
            else:
                others.append((info, driver.owner, lambda info: True))
        await outcome.follow(session, executor, mine, others)
    return outcome
