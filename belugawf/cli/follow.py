"""What the commands that drive runs share: interruption, rest, and leaving it to another."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from belugawf.cli import exits, sentences
from belugawf.cli.exits import CommandError
from belugawf.cli.live import watching
from belugawf.cli.naming import find_run
from belugawf.cli.render import escape
from belugawf.cli.streams import STREAMS
from belugawf.model.endings import NotFinishedError, RunParkedError, WaitExpiredError
from belugawf.model.errors import RunNotFoundError

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import DurableExecutor, Owner, RunInfo

# How long a run that another process drives is followed before that process is named.
_FOLLOW_S = 5.0
_POLL_INTERVAL_S = 0.05
# Waits of up to so many seconds are slept through (CLI.md).
IDLE_WAIT_S = 60
# The third Ctrl-C ends the process at once: the state is on disk.
_DRAINING_PRESSES = 2


def drain_on_signals(session: Session, executor: DurableExecutor) -> None:
    """Let SIGINT, SIGTERM and SIGHUP drain; a second one cuts, a third one leaves at once."""
    presses = 0

    def on_signal(number: int) -> None:
        nonlocal presses
        presses += 1
        if presses > _DRAINING_PRESSES and STREAMS.final:
            os._exit(exits.INTERRUPTED if number == 2 else exits.TERMINATED)
        running = executor.in_flight()
        if running and presses > 1:
            session.say("cutting the activities in flight")
        elif running:
            what = "1 activity" if running == 1 else f"{running} activities"
            again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
            session.say(f"finishing {what} in flight; {again} cuts")
        executor.interrupt()

    session.on_signal(on_signal)


async def to_rest(
    session: Session, executor: DurableExecutor, runs: Sequence[str]
) -> list[RunInfo]:
    """Follow runs that this executor drives until each ended or rests."""
    if not runs:
        return []
    drain_on_signals(session, executor)
    async with watching(session, executor) as view:
        await view.add(runs)
        return [await executor.wait(run, until="rest", patience=IDLE_WAIT_S) for run in runs]


async def follow_other(
    session: Session,
    executor: DurableExecutor,
    info: RunInfo,
    owner: Owner | None,
    *,
    received: Callable[[RunInfo], bool] = lambda info: True,
) -> RunInfo:
    """Follow a run that another process drives for a moment, then say who goes on.

    `owner` is who drove it before, if known. Until `received`, the run seems to be at rest.
    """
    deadline = time.monotonic() + _FOLLOW_S
    while info.open and not received(info) and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_INTERVAL_S)
        info = await executor.describe(info.run_id)
    if info.open and received(info):
        left = max(_POLL_INTERVAL_S, deadline - time.monotonic())
        with suppress(WaitExpiredError):
            return await executor.wait(info.run_id, until="rest", max_wait=left)
    if info.open:
        driver = await executor.driver_of(info.run_id)
        _say_who_goes_on(session, info, driver.owner or owner)
    return info


def _say_who_goes_on(session: Session, info: RunInfo, owner: Owner | None) -> None:
    name = escape(info.workflow_id)
    if owner is None:
        command = sentences.resume_command(session, info)
        session.say(f"{name}: the message is kept until the run is driven: {command}")
    elif owner.frozen:
        session.say(
            f"{name}: held by {sentences.owner_text(owner)}; let it go on: kill -CONT {owner.pid}"
        )
    else:
        session.say(f"{name}: {sentences.owner_text(owner)} goes on with it")


async def wait_for(
    session: Session,
    executor: DurableExecutor,
    info: RunInfo,
    until: str,
    max_wait: timedelta | None,
) -> RunInfo:
    """Wait for a run that another process drives; say what to type if nobody does."""
    driver = await executor.driver_of(info.run_id)
    if info.open and session.talk_terminal and driver.kind == "nobody":
        command = sentences.moving_command(session, info)
        session.say(f"nobody drives {escape(info.workflow_id)} now; it goes on with: {command}")
    try:
        return await executor.wait(info.run_id, until=until, max_wait=max_wait)
    except RunParkedError:
        raise sentences.parked(session, await executor.describe(info.run_id)) from None
    except WaitExpiredError as error:
        if max_wait == timedelta(0):
            raise await not_finished(session, executor, info) from None
        raise WaitExpiredError(
            error.message, hint=error.hint or "the run goes on where it is driven"
        ) from None


async def not_finished(session: Session, executor: DurableExecutor, info: RunInfo) -> CommandError:
    """The error of a run that is still open: who drives it, and what it waits for."""
    waits = "; ".join(sentences.wait_text(session, wait) for wait in info.waiting_for)
    driver = await executor.driver_of(info.run_id)
    if info.problem is not None and driver.kind == "nobody":
        return sentences.parked(session, info)
    state = ""
    if driver.kind == "process" and driver.owner is not None:
        state = f", driven by {sentences.owner_text(driver.owner)}"
    return CommandError(
        exits.NOT_FINISHED,
        NotFinishedError.code,
        f"run {info.workflow_id} has not ended{state}" + (f": {waits}" if waits else ""),
        hint=f"see what moves it on: {session.command('status', info.workflow_id)}",
        extra={"run": info.to_json()},
    )


def interrupted_error(session: Session, infos: Sequence[RunInfo]) -> CommandError:
    """The error after a signal: the state is saved, and how to go on."""
    assert session.interrupted is not None
    code = exits.INTERRUPTED if session.interrupted == 2 else exits.TERMINATED
    open_runs = [info for info in infos if info.open]
    words = [info.workflow_id for info in open_runs] if len(open_runs) <= 3 else []
    command = session.command("resume", *words)
    if len(open_runs) == 1:
        command = sentences.moving_command(session, open_runs[0])
    hint = f"go on with: {command}"
    return CommandError(
        code,
        "interrupted" if code == exits.INTERRUPTED else "terminated",
        "interrupted; the state is saved",
        hint=hint,
        extra={"runs": [info.to_json() for info in infos]},
    )


async def chosen_run(session: Session, executor: DurableExecutor, run: str | None) -> RunInfo:
    """The run that is named; else the only open one, else the latest, which stderr then names."""
    if run is not None:
        return await find_run(session, executor, run)
    found = await executor.list(status="running", limit=2)
    if len(found) != 1:
        found = await executor.list(limit=1)
    if not found:
        raise RunNotFoundError(
            f"there is no run in {session.place}",
            hint=f"start one with: {session.command('run')}",
        )
    session.say(f"run {escape(found[0].workflow_id)}")
    return found[0]


async def described(executor: DurableExecutor, runs: Sequence[str]) -> list[RunInfo]:
    """The runs as they are now."""
    return [await executor.describe(run) for run in runs]
