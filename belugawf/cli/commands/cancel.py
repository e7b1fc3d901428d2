"""cancel: ask runs to stop and clean up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from belugawf.cli import options
from belugawf.cli.follow import follow_other, interrupted_error, to_rest
from belugawf.cli.messages import Outcome, say_where, typed, without_pending
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import AmbiguousRunError, BelugaError, RunNotFoundError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo


def command(
    session: Session,
    runs: options.OptionalRuns = None,
    reason: options.Reason = None,
) -> None:
    """Ask runs to stop and clean up.

    Without RUN: the only open run. Ends with 0 once the request is on disk.
    """
    with STREAMS.diverted():
        outcome = session.run(lambda e: _cancel(session, e, runs, reason))
        if session.interrupted is not None and any(info.open for info in outcome.infos):
            raise interrupted_error(session, outcome.infos)
        outcome.finish(session, several=len(runs or ()) > 1)


async def _cancel(
    session: Session, executor: DurableExecutor, runs: Sequence[str] | None, reason: str | None
) -> Outcome:
    targets = typed(runs) if runs else [await _only_open_run(executor)]
    outcome = Outcome()
    await outcome.collect(targets, lambda run: executor.cancel(run, reason))
    for info in outcome.infos:
        session.say(f"{escape(info.workflow_id)} is asked to cancel")
    try:
        await _after_cancel(session, executor, outcome)
    except BelugaError as error:
        # The requests are on disk: a script that sees an error would ask again.
        STREAMS.say(f"warning: {escape(error.message)}")
    return outcome


async def _after_cancel(session: Session, executor: DurableExecutor, outcome: Outcome) -> None:
    drivers = {info.run_id: await executor.driver_of(info.run_id) for info in outcome.infos}
    mine = [run for run, driver in drivers.items() if driver.kind == "us"]
    pending: set[str] = set()
    await to_rest(session, executor, mine)
    for run, driver in drivers.items():
        info = await executor.describe(run)
        elsewhere = info.open and run not in mine and info.problem is None
        if elsewhere and session.interrupted is None:
            info = await follow_other(session, executor, info, driver.owner, received=_received)
            if not _received(info):
                pending.add(run)
    await outcome.read_again(executor)
    await say_where(session, executor, without_pending(outcome.infos, pending))


def _received(info: RunInfo) -> bool:
    return info.cancel_requested


async def _only_open_run(executor: DurableExecutor) -> str:
    found = await executor.list(status="running", limit=20)
    if len(found) == 1:
        return found[0].run_id
    if not found:
        raise RunNotFoundError("no run is open", hint="belugawf list shows the ended ones")
    raise AmbiguousRunError(
        f"{len(found)} runs are open" if len(found) < 20 else "many runs are open",
        [info.workflow_id for info in found],
        hint="name the run: belugawf cancel RUN",
    )
