"""resume: what cron calls every minute, and mostly finds nothing to do.

So this module imports no asyncio and no executor; `resuming` does, when something is due.
"""

from __future__ import annotations

from typing import Annotated

import typer

from belugawf.cli import options
from belugawf.cli.options import Text, option
from belugawf.cli.session import Session
from belugawf.probe import probe_of


def command(
    session: Session,
    runs: options.OptionalOpenRuns = None,
    max_time: Annotated[
        Text, option("--max-time", "DUR", "Start nothing new after DUR; what is in flight ends.")
    ] = None,
    grace: options.Grace = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be driven.")
    ] = False,
    workflow: options.Workflow = None,
    log_level: options.LogLevel = None,
) -> None:
    """Drive what can move on: recovered, signalled, due.

    Made for cron: away from a terminal there is one line for each run that failed, timed out or
    was refused, what activities and workflows log as a warning or worse, and else silence.
    """
    given = {
        "max_time": options.duration(max_time, "--max-time"),
        "grace": options.duration(grace, "--grace"),
        "workflow": workflow,
    }
    options.level(log_level)
    named = list(dict.fromkeys(runs or ()))
    if given["max_time"] is None:
        given["max_time"] = session.settings.resume_max_time
    nothing = session.nothing_stored
    if not named and (nothing or _is_idle(session)):
        if session.json:
            session.print_json([])
        if nothing:
            session.say_nothing_stored(always=session.talk_terminal or session.verbose)
        return
    from belugawf.cli.logs import driving
    from belugawf.cli.resuming import Resume

    # Cron mails whatever is printed.
    reserved = not (named or session.talk_terminal or session.verbose)
    with driving(session, log_level, reserved=reserved):
        Resume(session, named, given, dry_run=dry_run).run()


def _is_idle(session: Session) -> bool:
    """Whether nothing is due, found without an executor: cron asks every minute."""
    # On a terminal the next due time is shown, which needs the executor.
    if session.talk_terminal or session.verbose:
        return False
    from belugawf.host.clock import SystemClock

    probe = probe_of(session.settings.provider)
    return probe.nothing_due(session.settings, SystemClock().now())
