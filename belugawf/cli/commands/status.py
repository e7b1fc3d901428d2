"""status: where things are, and what moves them on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from belugawf.cli import options, render, sentences
from belugawf.cli.naming import find_run
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.tables import print_rows, run_rows
from belugawf.executor import Summary
from belugawf.model.durations import format_instant
from belugawf.model.errors import DamagedError, RefusedError
from belugawf.model.events import to_json

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, LogLine, OpenWait, RunInfo

# So many lines of what has failed are shown.
_SHOWN_LINES = 5
_NO_RUNS = Summary(counts={}, waits=(), waits_total=0, next_due_at=None, attention=())


def command(session: Session, run: options.OptionalRun = None) -> None:
    """Show where things are, and what moves them on.

    Without RUN: how many runs there are, who is waited for, what is due next. With RUN: where it
    is and why, with the command that moves it on.
    """
    if run is None:
        nothing = session.nothing_stored
        summary = _NO_RUNS if nothing else session.run(lambda e: e.summary())
        if session.json:
            session.print_json(_summary_json(session, summary))
        else:
            _print_summary(session, summary)
        if nothing:
            session.say_nothing_stored()
        elif not any(summary.counts.values()):
            session.say(f"there is no run in {escape(session.place)}")
        return

    async def find(
        executor: DurableExecutor,
    ) -> tuple[RunInfo, Mapping[str, int], Sequence[sentences.Message], Sequence[LogLine]]:
        info = await find_run(session, executor, run)
        messages: Sequence[sentences.Message] = ()
        # A history that cannot be read is the run's problem, which is shown.
        with suppress(DamagedError):
            messages = await sentences.messages_of(executor, info)
        waiting_runs = await sentences.awaiting_runs(executor, [info])
        return info, waiting_runs, messages, await _last_lines(executor, info)

    info, waiting_runs, messages, lines = session.run(find)
    if session.json:
        shown = [to_json(event) for event in messages]
        session.print_json({**info.to_json(), "messages": shown})
    else:
        print_rows(session, run_rows(session, info, waiting_runs, messages, lines))


async def _last_lines(executor: DurableExecutor, info: RunInfo) -> Sequence[LogLine]:
    """The last lines of what has failed: of the activity that the error names, else of the
    workflow's own code. None where nothing has failed, or the provider keeps none."""
    if info.error is None and info.problem is None:
        return ()
    activity = None if info.error is None else info.error.activity
    with suppress(RefusedError, DamagedError):
        if activity is not None:
            return await executor.logs(info.run_id, activity=activity, limit=_SHOWN_LINES)
        lines = await executor.logs(info.run_id)
        return [line for line in lines if line.activity is None][-_SHOWN_LINES:]
    return ()


def _summary_json(session: Session, summary: Summary) -> dict[str, Any]:
    counts = _waiting_runs(summary)
    return {
        "schema": "belugawf.status/1",
        "counts": dict(summary.counts),
        "states": dict(summary.states),
        "waiting": [sentences.wait_json(session, wait, counts) for wait in summary.waits],
        "waiting_total": summary.waits_total,
        "next_due_at": _instant(summary.next_due_at),
        "due_since": _instant(summary.due_since),
        "problems": [info.to_json() for info in summary.attention],
        "problems_total": _problems(summary),
    }


def _instant(moment: int | None) -> str | None:
    return None if moment is None else format_instant(moment)


def _problems(summary: Summary) -> int:
    """How many open runs have a problem."""
    total = summary.attention_total
    return len(summary.attention) if total is None else total


def _waiting_runs(summary: Summary) -> Counter[str]:
    """How many runs wait for each signal; if not all waits are known, several."""
    counts = sentences.count_waits(summary.waits)
    if summary.waits_total > len(summary.waits):
        counts.update(counts.keys())
    return counts


def _print_summary(session: Session, summary: Summary) -> None:
    paint = session.paint
    rows: list[tuple[str, str]] = []
    counts = [(status, count) for status, count in summary.counts.items() if count]
    if session.data_terminal:
        shown = ", ".join(
            f"{count} {paint.status(status.replace('_', ' '))}" for status, count in counts
        )
        rows.append(("runs", shown or "none"))
    else:
        rows += [(status, str(count)) for status, count in counts]
    if summary.states:
        open_runs = ", ".join(f"{count:,} {state}" for state, count in summary.states.items())
        rows.append(("open", open_runs))
    if summary.due_since is not None:
        since = render.moment(summary.due_since, session.data_terminal)
        command = escape(session.command("resume"))
        rows.append(("due", f"since {since}, and nobody drives it: {command}"))
    if summary.next_due_at is not None:
        rows.append(("next due", render.moment(summary.next_due_at, session.data_terminal)))
    waiting_runs = _waiting_runs(summary)
    # An answer would not move them on.
    stuck = {info.run_id for info in summary.attention}
    for wait in summary.waits:
        line = _wait_line(session, wait)
        if wait.run_id not in stuck:
            line += f": {sentences.answer_open(session, wait, waiting_runs)}"
        rows.append(("waiting", line))
        if wait.prompt and session.data_terminal:
            rows.append(("", escape(wait.prompt)))
    more = summary.waits_total - len(summary.waits)
    if more:
        rows.append(("waiting", f"{more} more: {escape(session.command('waiting'))}"))
    for info in summary.attention:
        rows.append(("problem", sentences.problem_line(info)))
        if session.data_terminal:
            rows.append(("", sentences.resume_command(session, info)))
    more = _problems(summary) - len(summary.attention)
    if more:
        command = session.command("list", options=("--state", "parked", "--all"))
        rows.append(("problem", f"{more:,} more: {escape(command)}"))
    print_rows(session, rows)


def _wait_line(session: Session, wait: OpenWait) -> str:
    terminal = session.data_terminal
    until = "" if wait.until is None else f" until {render.moment(wait.until, terminal)}"
    return (
        f"{escape(wait.workflow_id)}: signal {escape(wait.signal)}"
        f" since {render.moment(wait.since, terminal)}{until}"
    )
