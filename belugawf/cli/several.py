"""Filters in place of RUN: which runs a command is for, and whether that many are meant.

The runs are chosen first, and then changed: what was agreed to is what is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from belugawf.cli import exits, options
from belugawf.cli.answering import not_awaited
from belugawf.cli.exits import CommandError, describe_error
from belugawf.cli.filters import Filters
from belugawf.cli.follow import described, drain_on_signals
from belugawf.cli.render import escape
from belugawf.cli.streams import STREAMS
from belugawf.cli.tables import run_table
from belugawf.executor import OPEN
from belugawf.model.errors import RunEndedError, RunNotFoundError, UsageError

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import BulkResult, DurableExecutor, RunFilters, RunId

# So many runs are driven and followed by the command that sends to them, as if each were named.
# More are left to who drives them anyway.
_FOLLOWED = 100
# A terminal shows so many.
_SHOWN = 20

Change: TypeAlias = "Callable[[DurableExecutor, Sequence[RunId]], Awaitable[BulkResult]]"


class Several:
    """That filters stand in place of RUN, and whether to ask first."""

    def __init__(
        self,
        *,
        all_runs: Annotated[
            bool, typer.Option("--all", help="All open runs; a signal: all that wait for it.")
        ] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only list the runs that the filters find.")
        ] = False,
        yes: options.Yes = False,
    ) -> None:
        self.all_runs = all_runs
        self.dry_run = dry_run
        self.yes = yes

    def runs(
        self,
        session: Session,
        filters: Filters,
        named: Sequence[str],
        done: str,
        change: Change,
        *,
        takes: Sequence[str] = (OPEN,),
        awaiting: str | None = None,
        moves: bool = True,
    ) -> Sequence[str] | None:
        """The runs that the command is for: those named, or those that the filters find.

        `None` if all is done: after a dry run, if there is none, and if there are many, which
        `change` has then changed. `done` is what has been done to them: "terminated". Only runs of
        a status that it `takes`, and `awaiting` that signal. `moves`: there is something to do for
        them after that. Raises `UsageError` if runs are named as well.
        """
        if not self.are_meant(filters):
            if self.dry_run:
                raise UsageError("--dry-run is for filters", hint="give filters, or --all")
            return named
        if named:
            raise UsageError(
                "RUN and filters exclude each other", hint="name the runs, or give only filters"
            )
        runs = self._choose(session, filters, done, takes, awaiting)
        if awaiting is not None and not runs and not self.dry_run:
            raise session.run(lambda executor: not_awaited(session, executor, awaiting))
        if len(runs) > _FOLLOWED:
            _change_many(session, runs, done, change, moves=moves)
        elif runs:
            return runs
        elif session.json and not self.dry_run:
            session.print_json([])
        return None

    def are_meant(self, filters: Filters) -> bool:
        """Whether filters stand in place of RUN."""
        return bool(filters.asked) or self.all_runs

    def _choose(
        self,
        session: Session,
        filters: Filters,
        done: str,
        takes: Sequence[str],
        awaiting: str | None,
    ) -> Sequence[RunId]:
        """Those that the filters find, if they are meant; none after a dry run."""
        status = filters.asked.get("status")
        if status is not None and status not in takes:
            raise UsageError(
                f"--status is {status!r}: such a run cannot be {done}",
                hint=f"leave it out; taken are: {', '.join(takes)}",
            )

        async def select(executor: DurableExecutor) -> Sequence[RunId]:
            runs: list[RunId] = []
            for one in takes if status is None else (status,):
                asked: RunFilters = {**filters.asked, "status": one}
                runs += await executor.select(awaiting=awaiting, **asked)
            return runs

        runs = () if session.nothing_stored else session.run(select)
        what = f"{count_runs(len(runs))} would be {done}"
        if self.dry_run:
            self._list(session, runs)
            session.say(what)
            return ()
        if not runs and awaiting is None:
            session.say(f"no such run was found in {escape(session.place)}")
        elif runs and not self.yes:
            confirm(f"{what}. Go on?", what, "nothing was changed")
        return runs

    def _list(self, session: Session, runs: Sequence[RunId]) -> None:
        shown = runs[:_SHOWN] if session.data_terminal and not session.json else runs
        infos = session.run(lambda e: described(e, shown)) if shown else []
        if session.json:
            session.print_json([info.to_json() for info in infos])
        else:
            run_table(session, infos)


def confirm(question: str, what: str, nothing: str) -> None:
    """Ask on a terminal; raise if the answer is no, and elsewhere. `what` would be done, and
    `nothing` was then."""
    if not STREAMS.can_prompt():
        raise options.yes_is_missing(what)
    if not typer.confirm(question, err=True):
        raise CommandError(exits.REFUSED, "refused", nothing, hint="--yes does not ask")


def _change_many(
    session: Session, runs: Sequence[RunId], done: str, change: Change, *, moves: bool
) -> None:
    """Change them all, and say how many were; nobody is followed."""

    async def work(executor: DurableExecutor) -> tuple[BulkResult, list[dict[str, Any]], bool]:
        drain_on_signals(session, executor)
        result = await change(executor, runs)
        infos = await described(executor, result.done) if session.json else []
        return result, [info.to_json() for info in infos], bool(await executor.workers())

    result, documents, is_driven = session.run(work)
    was = "was" if len(result.done) == 1 else "were"
    reached = f"{count_runs(len(result.done))} {was} {done}"
    if session.interrupted is not None:
        code = exits.INTERRUPTED if session.interrupted == 2 else exits.TERMINATED
        word = "interrupted" if code == exits.INTERRUPTED else "terminated"
        left = f"{result.left:,} are as they were"
        raise CommandError(code, word, f"interrupted: {reached}, {left}", hint="run it again")
    session.say(reached)
    if moves and result.done and not is_driven:
        session.say(f"no worker is there; they go on with: {escape(session.command('resume'))}")
    errors = list(result.refused.values())
    refused = [x for x in errors if not isinstance(x, RunEndedError | RunNotFoundError)]
    if len(errors) > len(refused):
        session.say(f"{count_runs(len(errors) - len(refused))} had ended meanwhile")
    if refused:
        first = describe_error(refused[0])
        assert first is not None
        message = f"{count_runs(len(refused))} refused, the first: {first.message}"
        extra = {"runs": documents}
        raise CommandError(first.exit_code, first.code, message, hint=first.hint, extra=extra)
    if session.json:
        session.print_json(documents)


def count_runs(count: int) -> str:
    """ "1 run", "12,345 runs"."""
    return f"{count:,} {'run' if count == 1 else 'runs'}"
