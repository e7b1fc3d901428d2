"""What `resume` does when something is due: drive, report, and choose the exit code."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from belugawf.cli import exits, render, sentences
from belugawf.cli.exits import CommandError
from belugawf.cli.follow import described, drain_on_signals, follow_other, interrupted_error
from belugawf.cli.live import NoView, watching
from belugawf.cli.naming import find_run
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS
from belugawf.cli.tables import run_table
from belugawf.executor import TypedRun
from belugawf.model.errors import WorkflowBlockedError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo

# Waits of up to so many seconds are slept through (CLI.md).
_IDLE_WAIT_S = 5


class Resume:
    """One `resume`: what it drives, and what it says about it.

    `given` are the flags that `DurableExecutor.resume` takes.
    """

    def __init__(
        self, session: Session, named: Sequence[str], given: Mapping[str, Any], *, dry_run: bool
    ) -> None:
        self._session = session
        self._named = list(named)
        self._given = given
        self._dry_run = dry_run
        self._runs: list[str] = []
        self._ended_before: set[str] = set()

    @property
    def _talkative(self) -> bool:
        """Whether a person looks; cron hears of each problem once."""
        return bool(self._named) or self._session.talk_terminal or self._session.verbose

    def run(self) -> None:
        """Drive, report, and end the command with its exit code."""
        session = self._session
        infos = session.run(self._drive)
        if session.interrupted is not None:
            # They were drained while the executor was left: read them again.
            infos = session.run(lambda e: described(e, [info.run_id for info in infos]))
        self._finish(infos)

    async def _drive(self, executor: DurableExecutor) -> Sequence[RunInfo]:
        """Drive, and say what waits."""
        session = self._session
        if self._dry_run:
            return await self._resume(executor, dry_run=True)
        watched = await self._before(executor)
        if not self._talkative:
            await _mute_known_blocks(executor)
        drain_on_signals(session, executor)
        view = watching(session, executor, lines=session.verbose)
        async with view if watched else nullcontext(NoView()) as shown:
            await shown.add(watched)
            infos = list(await self._resume(executor))
        if self._named:
            # Ended runs among them were not driven.
            infos = await described(executor, self._runs)
        if session.interrupted is None:
            infos = [await self._follow(executor, info) for info in infos]
            await self._say(executor, infos)
        return infos

    async def _resume(
        self, executor: DurableExecutor, *, dry_run: bool = False
    ) -> Sequence[RunInfo]:
        return await executor.resume(
            [TypedRun(run) for run in self._named] or None,
            patience=_IDLE_WAIT_S,
            dry_run=dry_run,
            **self._given,
        )

    async def _before(self, executor: DurableExecutor) -> list[str]:
        """Read the named runs; the runs that a view should show."""
        session = self._session
        if self._named:
            infos = [await find_run(session, executor, run) for run in self._named]
            self._runs = list(dict.fromkeys(info.run_id for info in infos))
            self._ended_before = {info.run_id for info in infos if not info.open}
            return [info.run_id for info in infos if info.open]
        if session.quiet or not (session.talk_terminal or session.verbose):
            return []
        return [info.run_id for info in await self._resume(executor, dry_run=True)]

    async def _follow(self, executor: DurableExecutor, info: RunInfo) -> RunInfo:
        """Follow a named run that another process holds, and so was not driven here."""
        if not self._named:
            return info
        driver = await executor.driver_of(info.run_id)
        if driver.kind != "process":
            return info
        return await follow_other(self._session, executor, info, driver.owner)

    async def _say(self, executor: DurableExecutor, infos: Sequence[RunInfo]) -> None:
        session = self._session
        if session.json:
            return
        waiting_runs = await sentences.awaiting_runs(executor, infos)
        for info in infos:
            self._say_run(info, waiting_runs)
        if not infos and (session.talk_terminal or session.verbose):
            summary = await executor.summary()
            due, parked = summary.next_due_at, summary.states.get("parked", 0)
            when = f"; next {render.moment(due, session.talk_terminal)}" if due else ""
            session.say(f"nothing is due{when}")
            if parked:
                session.say(sentences.parked_runs(session, parked))

    def _say_run(self, info: RunInfo, waiting_runs: Mapping[str, int]) -> None:
        session = self._session
        name = escape(info.workflow_id)
        talkative = self._talkative
        if info.run_id in self._ended_before:
            session.say(f"{name} has ended already: {info.status.replace('_', ' ')}")
        elif self._failed_now(info):
            if talkative:
                sentences.say_failure(info)
            else:
                STREAMS.say(f"error: {escape(exits.outcome_message(info))}")
        elif info.problem is not None:
            if talkative or info.problem.new:
                STREAMS.say(f"error: {sentences.problem_line(info)}")
                sentences.say_traceback(info.problem.traceback)
        elif not talkative:
            return
        elif info.open:
            sentences.say_waits(session, info, waiting_runs)
        else:
            session.say(f"{name} {info.status.replace('_', ' ')}")

    def _failed_now(self, info: RunInfo) -> bool:
        return info.status in ("failed", "timed_out") and info.run_id not in self._ended_before

    def _finish(self, infos: Sequence[RunInfo]) -> None:
        """Print the JSON, or list what a dry run found, and end with the exit code."""
        session = self._session
        if session.interrupted is not None:
            raise interrupted_error(session, infos)
        error = None if self._dry_run else self._error(infos)
        if error is not None:
            raise error
        if session.json:
            session.print_json([info.to_json() for info in infos])
        elif self._dry_run:
            run_table(session, infos)

    def _error(self, infos: Sequence[RunInfo]) -> CommandError | None:
        extra = {"runs": [info.to_json() for info in infos]}
        failed = [info for info in infos if self._failed_now(info)]
        if failed:
            message = exits.outcome_message(failed[0])
            if len(failed) > 1:
                message += f" (and {len(failed) - 1} more)"
            return CommandError(exits.FAILED, "workflow_failed", message, extra=extra, printed=True)
        refused = [info for info in infos if info.problem is not None and info.open]
        for code in (exits.MISMATCH, exits.NOT_LOADED, exits.UNAVAILABLE):
            for info in refused:
                problem = info.problem
                if problem is not None and problem.exit_code == code:
                    message = f"{info.workflow_id}: {problem.message}"
                    return CommandError(
                        code, problem.code, message, hint=problem.hint, extra=extra, printed=True
                    )
        return None


async def _mute_known_blocks(executor: DurableExecutor) -> None:
    """Keep the guard's warning of code that does not come back from a call out of cron's mail, if
    that has been reported as a problem: it comes before that is known of the turn."""
    known = (info.problem for info in await executor.attention())
    if any(problem is not None and problem.code == WorkflowBlockedError.code for problem in known):
        logging.getLogger("belugawf.engine").addFilter(_is_no_block)


def _is_no_block(record: logging.LogRecord) -> bool:
    return record.module != "guard"
