"""cancel: ask runs to stop and clean up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from belugawf.cli import options
from belugawf.cli.filters import Filters
from belugawf.cli.follow import interrupted_error
from belugawf.cli.logs import driving
from belugawf.cli.messages import Elsewhere, Outcome, warned
from belugawf.cli.render import escape
from belugawf.cli.session import Session, os_user
from belugawf.cli.several import Several
from belugawf.model.errors import AmbiguousRunError, RunNotFoundError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor

# So many open runs are named.
_SHOWN = 20


def command(
    session: Session,
    filters: Filters,
    several: Several,
    runs: options.OptionalOpenRuns = None,
    reason: options.Reason = None,
    by: options.By = None,
    log_level: options.LogLevel = None,
) -> None:
    """Ask runs to stop and clean up.

    Without RUN and filters: the only open run. Ends with 0 once the request is on disk.
    """
    who = os_user() if by is None else by
    named = several.runs(
        session,
        filters,
        runs or (),
        "asked to cancel",
        lambda executor, many: executor.cancel_many(many, reason, by=who),
    )
    if named is None:
        return
    with driving(session, log_level):
        outcome = session.run(lambda e: _cancel(session, e, named, reason, who))
        if session.interrupted is not None and any(info.open for info in outcome.infos):
            raise interrupted_error(session, outcome.infos)
        outcome.finish(session)


async def _cancel(
    session: Session,
    executor: DurableExecutor,
    runs: Sequence[str],
    reason: str | None,
    by: str | None,
) -> Outcome:
    targets = runs or [await _only_open_run(session, executor)]
    outcome = Outcome()
    await outcome.collect(
        session, executor, targets, lambda run: executor.cancel(run, reason, by=by)
    )
    mine: list[str] = []
    others: list[Elsewhere] = []
    for info in outcome.infos:
        kept = "" if info.problem is None else "; it is kept until the code is mended"
        session.say(f"{escape(info.workflow_id)}: cancellation requested{kept}")
    with warned():
        for info in outcome.infos:
            driver = await executor.driver_of(info.run_id)
            if driver.kind == "us":
                mine.append(info.run_id)
            elif info.problem is None:
                others.append((info, driver.owner, lambda info: info.cancel_requested))
        await outcome.follow(session, executor, mine, others)
    return outcome


async def _only_open_run(session: Session, executor: DurableExecutor) -> str:
    found = await executor.list(status="running", limit=_SHOWN + 1)
    if len(found) == 1:
        return found[0].run_id
    if not found:
        raise RunNotFoundError(
            f"no run is open in {session.place}",
            hint=f"the ended ones: {session.command('list')}",
        )
    raise AmbiguousRunError(
        f"{len(found)} runs are open" if len(found) <= _SHOWN else f"over {_SHOWN} runs are open",
        [info.workflow_id for info in found[:_SHOWN]],
        hint=f"name the run: {session.command('cancel')} RUN",
    )
