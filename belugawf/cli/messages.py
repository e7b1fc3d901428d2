"""What the commands that send a message to runs share: several of them, and what follows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from typing import TYPE_CHECKING

from belugawf.cli import exits, sentences
from belugawf.cli.exits import CommandError, describe_error
from belugawf.cli.follow import described
from belugawf.cli.render import escape
from belugawf.cli.streams import STREAMS
from belugawf.executor import TypedRun
from belugawf.model.errors import BelugaError

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import DurableExecutor, RunInfo


class Outcome:
    """What became of a message to several runs: the runs, and the errors of the others."""

    def __init__(self) -> None:
        self.infos: list[RunInfo] = []
        self.errors: list[BelugaError] = []

    async def collect(self, runs: Sequence[str], send: Callable[[str], Awaitable[RunInfo]]) -> None:
        """Send to each; one that refuses does not stop the others."""
        for run in dict.fromkeys(runs):
            try:
                self.infos.append(await send(run))
            except BelugaError as error:
                self.errors.append(error)

    async def read_again(self, executor: DurableExecutor) -> None:
        """The runs as they are now."""
        self.infos = await described(executor, [info.run_id for info in self.infos])

    def finish(self, session: Session, *, several: bool) -> None:
        """Print the JSON, or end with the first error."""
        documents = [info.to_json() for info in self.infos]
        if self.errors:
            first = describe_error(self.errors[0])
            assert first is not None
            if several and not session.json:
                for other in self.errors[1:]:
                    STREAMS.say(f"error: {escape(other.message)}")
            extra = {**first.extra, "runs": documents} if several else first.extra
            raise CommandError(
                first.exit_code, first.code, first.message, hint=first.hint, extra=extra
            )
        if session.json:
            session.print_json(documents if several else documents[0])


def typed(runs: Sequence[str]) -> list[str]:
    """The runs as people name them."""
    return [TypedRun(run) for run in runs]


async def say_where(session: Session, executor: DurableExecutor, infos: Sequence[RunInfo]) -> None:
    """Where runs are after a message: ended how, waiting for what, refused why."""
    if session.quiet or session.interrupted is not None:
        return
    waiting_runs = await sentences.awaiting_runs(executor, infos)
    for info in infos:
        if exits.outcome_code(info.status) in (exits.FAILED, exits.TIMED_OUT):
            sentences.say_failure(info)
        elif not info.open:
            session.say(f"{escape(info.workflow_id)} {info.status.replace('_', ' ')}")
        elif info.problem is not None:
            session.say(f"warning: {sentences.problem_line(info)}")
        elif (await executor.driver_of(info.run_id)).kind != "process":
            sentences.say_waits(session, info, waiting_runs)


def without_pending(infos: Sequence[RunInfo], pending: Container[str]) -> list[RunInfo]:
    """Without the runs that have not taken their message yet: they still seem to wait for it, and
    somebody who reads that sends it again."""

    def is_clear(info: RunInfo) -> bool:
        stuck = info.problem is not None or info.unattended is not None
        return info.run_id not in pending or not info.open or stuck

    return [info for info in infos if is_clear(info)]
