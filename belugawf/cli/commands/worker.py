"""worker: stay and drive everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

from belugawf.cli import exits, options
from belugawf.cli.checks import check_open_workflows
from belugawf.cli.follow import drain_on_signals, interrupted_error
from belugawf.cli.logs import driving
from belugawf.cli.news import telling
from belugawf.cli.options import Text, option
from belugawf.cli.render import escape
from belugawf.cli.session import Interrupted, Session
from belugawf.cli.starting import require_folder
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import UsageError, WorkflowLoadError, WorkflowNotFoundError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, Hook, Hooks


def command(
    session: Session,
    concurrency: Annotated[
        Text, option("--concurrency", "N", "At most N activities at once.")
    ] = None,
    grace: options.Grace = None,
    log_level: options.LogLevel = None,
    log_format: Annotated[
        str, option("--log-format", "FORMAT", "text, or json: one object a line on stderr.")
    ] = "text",
) -> None:
    """Stay and drive everything until interrupted.

    SIGTERM and Ctrl-C drain: nothing new is started, activities in flight end and are recorded. A
    second one cuts them.
    """
    count = options.whole_number(concurrency, "--concurrency")
    if count is None:
        count = session.settings.worker_concurrency
    limit = options.duration(grace, "--grace")
    if log_format not in ("text", "json"):
        raise UsageError(f"--log-format is {log_format!r:.60}", hint="expected text or json")

    log = _Log(session)

    async def work() -> None:
        executor = session.executor(hooks=[log.hooks()], create=True)
        _require_workflows(session, executor)
        async with executor:
            log.executor = executor
            _say_what_is_driven(session, executor)
            drain_on_signals(session, executor)
            async with telling(session, executor):
                await executor.work(concurrency=count, grace=limit)

    format = cast("options.LogFormat", log_format)
    with driving(session, log_level, format=format):
        session.run_loop(work())
        if session.interrupted is not None:
            session.say("drained; the state is saved")
            if not session.json:
                raise Interrupted(session.interrupted)
            raise interrupted_error(session, ())


def _require_workflows(session: Session, executor: DurableExecutor) -> None:
    """Raise what is wrong if there is nothing that this worker could ever drive."""
    catalog = executor.catalog
    if catalog.workflows:
        return
    if catalog.problems:
        raise WorkflowLoadError(
            f"no workflow could be loaded: {catalog.problems[0]}",
            hint="fix that module, then start the worker again",
        )
    require_folder(session.settings, "there is no workflow to drive")
    raise WorkflowNotFoundError(
        f"there is no workflow to drive in {session.settings.workflows}",
        hint="make an example with: belugawf init",
    )


def _say_what_is_driven(session: Session, executor: DurableExecutor) -> None:
    catalog = executor.catalog
    for problem in catalog.problems:
        STREAMS.say(f"error: {escape(problem)}")
    for missing in check_open_workflows(session, catalog):
        STREAMS.say(f"warning: {escape(f'{missing.message}; {missing.fix}')}")
    names = ", ".join(escape(name) for name in catalog.workflows) or "no workflows"
    where = "from" if session.settings.provider == "temporal" else "on"
    session.say(f"driving {names} {where} {escape(session.place)}")


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
