"""retry: take up runs again that have failed, timed out, were cancelled, or are parked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from belugawf.cli import exits, options
from belugawf.cli.exits import CommandError
from belugawf.cli.filters import Filters
from belugawf.cli.follow import interrupted_error
from belugawf.cli.logs import driving
from belugawf.cli.messages import Elsewhere, Outcome, warned
from belugawf.cli.options import option
from belugawf.cli.render import escape
from belugawf.cli.session import Session, os_user
from belugawf.cli.several import Several
from belugawf.executor.info import OPEN, REOPENED
from belugawf.model.errors import UsageError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo


def command(
    session: Session,
    filters: Filters,
    several: Several,
    runs: options.SeveralRuns = None,
    position: Annotated[
        options.Text, option("--from", "POSITION", "From this event of its history on.")
    ] = None,
    timeout: Annotated[
        options.Text, option("--timeout", "DUR", "Its new deadline; the old one is gone.")
    ] = None,
    reason: options.Reason = None,
    by: options.By = None,
    log_level: options.LogLevel = None,
) -> None:
    """Take up runs again that failed, were cancelled, or are parked.

    Also those that ran out of time. What has completed is not done again; what failed is. --yes
    goes on even if what a run has done after that point is forgotten, or may be done twice.
    Filters find runs that failed or timed out, unless they ask for others.
    """
    number = options.whole_number(position, "--from")
    limit = options.duration(timeout, "--timeout")
    are_found = several.are_meant(filters)
    if (number is not None or limit is not None) and (are_found or len(runs or ()) > 1):
        raise UsageError("--from and --timeout are for one run", hint="name one run")
    who = os_user() if by is None else by
    named = several.runs(
        session,
        filters,
        runs or (),
        "taken up again",
        lambda executor, many: executor.retry_many(many, reason, by=who),
        takes=_taken(filters),
    )
    if named is None:
        return
    if not named:
        raise UsageError("no run is named", hint=f"{session.command('retry')} RUN, or filters")
    # To --yes with filters nobody has seen what would be forgotten.
    discard = several.yes and not are_found

    def again(executor: DurableExecutor, run: str) -> Awaitable[RunInfo]:
        return executor.retry(
            run, from_position=number, timeout=limit, discard=discard, reason=reason, by=who
        )

    with driving(session, log_level):
        outcome = session.run(lambda e: _retry(session, e, named, again))
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


def _taken(filters: Filters) -> Sequence[str]:
    """The statuses of the runs that filters find."""
    if filters.asked.get("state") is not None:
        return (OPEN,)
    return REOPENED if filters.asked.get("status") is not None else ("failed", "timed_out")


async def _retry(
    session: Session,
    executor: DurableExecutor,
    runs: Sequence[str],
    again: Callable[[DurableExecutor, str], Awaitable[RunInfo]],
) -> Outcome:
    outcome = Outcome()
    await outcome.collect(session, executor, runs, lambda run: again(executor, run))
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
