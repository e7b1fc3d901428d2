"""worker: stay and drive everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from belugawf.cli import exits, options
from belugawf.cli.follow import drain_on_signals, interrupted_error
from belugawf.cli.options import Text, option
from belugawf.cli.render import escape
from belugawf.cli.session import Interrupted, Session
from belugawf.cli.streams import STREAMS

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, Hook, Hooks


def command(
    session: Session,
    concurrency: Annotated[
        Text, option("--concurrency", "N", "At most N activities at once.")
    ] = None,
    grace: options.Grace = None,
) -> None:
    """Stay and drive everything until interrupted.

    SIGTERM and Ctrl-C drain: nothing new is started, activities in flight end and are recorded. A
    second one cuts them.
    """
    count = options.whole_number(concurrency, "--concurrency")
    if count is None:
        count = session.settings.worker_concurrency
    limit = options.duration(grace, "--grace")

    log = _Log(session)

    async def work() -> None:
        async with session.executor(hooks=[log.hooks()], create=True) as executor:
            log.executor = executor
            _say_what_is_driven(session, executor)
            drain_on_signals(session, executor)
            await executor.work(concurrency=count, grace=limit)

    with STREAMS.diverted():
        session.run_loop(work())
        if session.interrupted is not None:
            session.say("drained; the state is saved")
            if not session.json:
                raise Interrupted(session.interrupted)
            raise interrupted_error(session, ())


def _say_what_is_driven(session: Session, executor: DurableExecutor) -> None:
    catalog = executor.catalog
    for problem in catalog.problems:
        STREAMS.say(f"error: {escape(problem)}")
    names = ", ".join(escape(name) for name in catalog.workflows) or "no workflows"
    session.say(f"driving {names} {_where(session)}")


def _where(session: Session) -> str:
    settings = session.settings
    if settings.provider == "default":
        return f"on {escape(settings.db)}"
    if settings.provider == "temporal":
        place = settings.temporal
        return f"from task queue {escape(place.task_queue)} at {escape(place.host)}"
    return f"on {escape(settings.provider)}"


class _Log:
    """The worker's lines: one for each run that ended, and with --verbose for each step."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.executor: DurableExecutor | None = None

    def hooks(self) -> Hooks:
        """The hooks that print them."""
        from belugawf.executor import Hooks

        if not self._session.verbose:
            return Hooks(
                on_workflow_complete=self._line("completed"), on_workflow_fail=self._failed
            )
        return Hooks(
            on_workflow_start=self._line("started"),
            on_workflow_complete=self._line("completed"),
            on_workflow_fail=self._failed,
            on_activity_start=self._line("started"),
            on_activity_complete=self._line("done"),
            on_signal=self._line("received"),
            on_retry=self._line("will be tried again"),
        )

    def _line(self, what: str) -> Hook:
        def say(event: Mapping[str, Any]) -> None:
            step = event.get("activity") or event.get("signal")
            about = f" {escape(step)}" if step else ""
            self._session.say(f"{escape(event['workflow_id'])}:{about} {what}")

        return say

    async def _failed(self, event: Mapping[str, Any]) -> None:
        assert self.executor is not None
        info = await self.executor.describe(event["run_id"])
        self._session.say(escape(exits.outcome_message(info)))
