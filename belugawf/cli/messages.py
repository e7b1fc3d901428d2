"""What the commands that send a message to runs share: several of them, and what follows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from belugawf.cli import exits, sentences
from belugawf.cli.exits import CommandError, describe_error
from belugawf.cli.follow import described, follow_other, to_rest
from belugawf.cli.naming import explained
from belugawf.cli.render import escape
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import BelugaError

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import DurableExecutor, Owner, RunInfo

# A run that another process drives, its owner if known, and whether its message was received.
Elsewhere: TypeAlias = "tuple[RunInfo, Owner | None, Callable[[RunInfo], bool]]"


class Outcome:
    """What became of a message to several runs: the runs, and the errors of the others."""

    def __init__(self) -> None:
        self.infos: list[RunInfo] = []
        self.errors: list[BelugaError] = []

    async def collect(
        self,
        session: Session,
        executor: DurableExecutor,
        runs: Sequence[str],
        send: Callable[[str], Awaitable[RunInfo]],
    ) -> None:
        """Send to each, as people name them; one that refuses does not stop the others."""
        for run in dict.fromkeys(runs):
            try:
                self.infos.append(await explained(session, executor, run, send))
            except BelugaError as error:
                self.errors.append(error)

    async def follow(
        self,
        session: Session,
        executor: DurableExecutor,
        mine: Sequence[str],
        others: Sequence[Elsewhere],
    ) -> None:
        """See `follow_messages`."""
        self.infos = await follow_messages(session, executor, self.infos, mine, others)

    def finish(self, session: Session) -> None:
        """Print the JSON, an array however many runs there are, or end with the first error."""
        documents = [info.to_json() for info in self.infos]
        if self.errors:
            first = describe_error(self.errors[0])
            assert first is not None
            if not session.json:
                for other in self.errors[1:]:
                    STREAMS.say(f"error: {escape(other.message)}")
            extra = {**first.extra, "runs": documents}
            raise CommandError(
                first.exit_code, first.code, first.message, hint=first.hint, extra=extra
            )
        if session.json:
            session.print_json(documents)


@contextmanager
def warned() -> Iterator[None]:
    """Make a warning of an error. The messages are on disk: after an error, a script would send
    them again."""
    try:
        yield
    except BelugaError as error:
        STREAMS.say(f"warning: {escape(error.message)}")


async def follow_messages(
    session: Session,
    executor: DurableExecutor,
    runs: Sequence[RunInfo],
    mine: Sequence[str],
    others: Sequence[Elsewhere],
) -> list[RunInfo]:
    """Follow runs until they rest, then report their state. This executor drives `mine`."""
    pending: set[str] = set()
    await to_rest(session, executor, mine)
    for before, owner, received in others:
        if session.interrupted is None:
            info = await follow_other(session, executor, before, owner, received=received)
            if info.open and not received(info):
                pending.add(info.run_id)
    infos = await described(executor, [info.run_id for info in runs])
    await _report(session, executor, infos, pending)
    return infos


async def _report(
    session: Session, executor: DurableExecutor, infos: Sequence[RunInfo], pending: Container[str]
) -> None:
    """Report runs after a message: how they ended, what they wait for, why they were refused.

    Runs in `pending` have not received their message yet. They still seem to wait for it, and a
    reader of that would send it again. So nothing is reported of them.
    """
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
        elif info.run_id in pending and info.unattended is None:
            continue
        elif (await executor.driver_of(info.run_id)).kind != "process":
            sentences.say_waits(session, info, waiting_runs)
