"""A run that a command starts: driven until it ends or waits, and what is printed then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from belugawf.cli import options, sentences
from belugawf.cli.follow import IDLE_WAIT_S, described, drain_on_signals, interrupted_error
from belugawf.cli.live import watching
from belugawf.cli.logs import driving
from belugawf.cli.render import escape
from belugawf.cli.session import Session, unredacted
from belugawf.cli.streams import STREAMS
from belugawf.executor import RunInfo
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, WorkflowHandle

# A run as it is then, and a sentence on one that is not driven here.
Followed: TypeAlias = tuple[RunInfo, str | None]


@frozen()
class Follow:
    """How long the command stays: `until` as in `wait`; `detach`: it only records the run."""

    detach: bool
    until: str
    max_wait: timedelta | None

    @classmethod
    def of(cls, detach: bool, wait: bool, max_wait: str | None) -> Follow:
        """What the flags say. Raises `UsageError`."""
        options.only_one({"--detach": detach, "--wait": wait or max_wait is not None})
        limit = options.duration(max_wait, "--max-wait")
        return cls(detach, "done" if wait or limit is not None else "rest", limit)


def follow_and_print(
    session: Session,
    start: Callable[[DurableExecutor], Awaitable[Followed]],
    log_level: str | None,
    *,
    check: Callable[[DurableExecutor], None] | None = None,
) -> None:
    """Start a run and follow it, then print its result, or end with its exit code.

    `check`: the database may be created, after that.
    """
    with driving(session, log_level):
        info, told = session.run(start, create=check is not None, check=check)
        if session.interrupted is not None and info.open:
            # It was drained while the executor was left: read it again.
            (info,) = session.run(lambda e: described(e, [info.run_id]))
        if told is None:
            _print_outcome(session, info)
        elif session.json:
            session.print_json(info.to_json())
        else:
            STREAMS.write(f"{escape(info.workflow_id)}\n")
            session.say(told)


async def started(
    session: Session,
    executor: DurableExecutor,
    begin: Callable[[], Awaitable[WorkflowHandle]],
    follow: Follow,
) -> Followed:
    """Start and drive."""
    if follow.detach:
        info = await (await begin()).describe()
        return info, await stored(session, executor, info)
    # What it starts may print at once.
    async with watching(session, executor, waits=follow.until != "rest") as view:
        handle = await begin()
        session.say(f"{escape(handle.id)} started")
        await view.add([handle.run_id], new=True)
        drain_on_signals(session, executor)
        info = await executor.wait(
            handle.run_id, until=follow.until, max_wait=follow.max_wait, patience=IDLE_WAIT_S
        )
    if info.status == "completed" and not session.json:
        # It is printed: the data that was asked for.
        info = replace(info, result=(await unredacted(executor).describe(info.run_id)).result)
    rests = info.open and info.problem is None
    if rests and not session.quiet and session.interrupted is None:
        if not info.waiting_for and info.unattended is None:
            session.say(
                f"{escape(info.workflow_id)}: its code waits for what nothing brings about: it has "
                "no activity, no timer and no wait for a signal open"
            )
        sentences.say_waits(session, info, await sentences.awaiting_runs(executor, [info]))
    return info, None


async def stored(session: Session, executor: DurableExecutor, info: RunInfo) -> str:
    """How a run is that is not driven here, and who drives it or what to type."""
    line = f"{escape(info.workflow_id)} is {info.status.replace('_', ' ')}"
    if not info.open:
        return line
    driver = await executor.driver_of(info.run_id)
    if driver.owner is not None:
        return f"{line}; {sentences.owner_text(driver.owner)} takes it"
    if session.settings.provider == "temporal":
        return f"{line}; a worker takes it: {escape(session.command('worker'))}"
    return f"{line}; drive it with: {sentences.resume_command(session, info)}"


def _print_outcome(session: Session, info: RunInfo) -> None:
    """Print the result of a run that was driven here, or end with its exit code."""
    if session.interrupted is not None and info.open:
        raise interrupted_error(session, [info])
    if info.problem is not None and info.open:
        raise sentences.parked(session, info)
    sentences.require_completed(session, info)
    if session.json:
        session.print_json(info.to_json())
    elif info.status == "completed":
        session.print_value(info.result)
