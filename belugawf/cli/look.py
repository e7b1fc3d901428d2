"""status, waiting, list, history: looking, without changing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import completion, exits, options, render, telling
from belugawf.cli.app import Command, command_group
from belugawf.cli.driving import other_owner
from belugawf.cli.live import EventTeller, failure_text, progress_text
from belugawf.cli.render import escape, json_line
from belugawf.cli.session import Session, leave
from belugawf.cli.streams import STREAMS
from belugawf.executor import Summary, TypedRun
from belugawf.model.durations import format_instant
from belugawf.model.errors import RunNotFoundError, UsageError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, OpenWait, RunInfo
    from belugawf.model.events import Event

app = command_group()

_LIST_LIMIT = 20
_FOLLOW_EVERY_S = 0.25
_NO_RUNS = Summary(counts={}, waits=(), waits_total=0, next_due_at=None, attention=())


async def chosen_run(session: Session, executor: DurableExecutor, run: str | None) -> RunInfo:
    """The run that is named; else the only open one, else the latest, which stderr then names."""
    if run is not None:
        return await executor.describe(TypedRun(run))
    found = await executor.list(status="running", limit=2)
    if len(found) != 1:
        found = await executor.list(limit=1)
    if not found:
        raise RunNotFoundError("there is no run yet", hint="start one with: belugawf run")
    session.say(f"run {escape(found[0].workflow_id)}")
    return found[0]


# -- status --------------------------------------------------------------------------------------


@app.command("status", cls=Command)
def status_command(
    ctx: typer.Context,
    run: options.OptionalRun = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show where things are, and what moves them on.

    Without RUN: how many runs there are, who is waited for, what is due next. With RUN: where it
    is and why, with the command that moves it on.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    if run is None:
        summary = _NO_RUNS if session.nothing_stored else session.run(lambda e: e.summary())
        if json:
            session.print_json(_summary_json(session, summary))
        else:
            _print_summary(session, summary)
        leave(exits.OK)

    async def look(executor: DurableExecutor) -> tuple[RunInfo, Mapping[str, int]]:
        info = await executor.describe(TypedRun(run))
        return info, await telling.awaiting_runs(executor, [info])

    info, waiting_runs = session.run(look)
    if json:
        session.print_json(info.to_json())
    else:
        _print_rows(session, _run_rows(session, info, waiting_runs))
    leave(exits.OK)


def _summary_json(session: Session, summary: Summary) -> dict[str, Any]:
    counts = _waiting_runs(summary)
    due = summary.next_due_at
    return {
        "schema": "belugawf.status/1",
        "counts": dict(summary.counts),
        "waiting": [_wait_json(session, wait, counts) for wait in summary.waits],
        "waiting_total": summary.waits_total,
        "next_due_at": None if due is None else format_instant(due),
        "problems": [info.to_json() for info in summary.attention],
    }


def _waiting_runs(summary: Summary) -> Counter[str]:
    """How many runs wait for each signal; where not all waits are known, take it for several."""
    counts = telling.count_waits(summary.waits)
    if summary.waits_total > len(summary.waits):
        counts.update(counts.keys())
    return counts


def _print_summary(session: Session, summary: Summary) -> None:
    paint = session.paint
    rows: list[tuple[str, str]] = []
    counts = [(status, count) for status, count in summary.counts.items() if count]
    if session.data_terminal:
        shown = ", ".join(f"{count} {paint.status(_words(status))}" for status, count in counts)
        rows.append(("runs", shown or "none"))
    else:
        rows += [(status, str(count)) for status, count in counts]
    if summary.next_due_at is not None:
        rows.append(("next due", render.moment(summary.next_due_at, session.data_terminal)))
    waiting_runs = _waiting_runs(summary)
    # An answer would not move them on.
    stuck = {info.run_id for info in summary.attention}
    for wait in summary.waits:
        line = _wait_line(session, wait)
        if wait.run_id not in stuck:
            line += f": {_answer(session, wait, waiting_runs)}"
        rows.append(("waiting", line))
        if wait.prompt and session.data_terminal:
            rows.append(("", escape(wait.prompt)))
    more = summary.waits_total - len(summary.waits)
    if more:
        rows.append(("waiting", f"{more} more: {escape(session.command('waiting'))}"))
    for info in summary.attention:
        rows.append(("problem", telling.problem_line(info)))
        if session.data_terminal:
            rows.append(("", telling.resume_command(session, info)))
    if not rows or (not counts and session.data_terminal):
        session.say("there is no run yet; start one with: belugawf run")
    _print_rows(session, rows)


def _words(status: str) -> str:
    return status.replace("_", " ")


def _wait_line(session: Session, wait: OpenWait) -> str:
    terminal = session.data_terminal
    until = "" if wait.until is None else f" until {render.moment(wait.until, terminal)}"
    return (
        f"{escape(wait.workflow_id)}: signal {escape(wait.signal)}"
        f" since {render.moment(wait.since, terminal)}{until}"
    )


def _answer(session: Session, wait: OpenWait, waiting_runs: Mapping[str, int]) -> str:
    run = wait.workflow_id if waiting_runs[wait.signal] > 1 else None
    return telling.answer(session, wait.signal, wait.expected, run)


def _print_rows(session: Session, rows: Sequence[tuple[str, str]]) -> None:
    if not session.data_terminal:
        STREAMS.write("".join(f"{key}\t{value}\n" for key, value in rows))
        return
    width = max((len(key) for key, _ in rows), default=0)
    STREAMS.write(
        "".join(f"{session.paint(key.ljust(width), 'dim')}  {value}\n" for key, value in rows)
    )


def _run_rows(
    session: Session, info: RunInfo, waiting_runs: Mapping[str, int]
) -> list[tuple[str, str]]:
    def at(instant: int) -> str:
        return render.moment(instant, session.data_terminal)

    rows = [
        ("run", escape(info.workflow_id)),
        ("run id", escape(info.run_id)),
        ("workflow", escape(info.workflow)),
        ("status", session.paint.status(_words(info.status))),
        ("started", at(info.created_at)),
    ]
    if info.closed_at is not None:
        rows.append(("ended", at(info.closed_at)))
    if info.deadline is not None and info.open:
        rows.append(("deadline", at(info.deadline)))
    if info.parent:
        rows.append(("parent", escape(info.parent)))
    rows += [("label", escape(f"{key}={value}")) for key, value in info.labels.items()]
    if info.progress is not None:
        rows.append(("progress", progress_text(info.progress)))
    if info.cancel_requested and info.open:
        rows.append(("cancel", "requested; it is cleaning up"))
    rows += _ending_rows(info)
    if info.open:
        rows += _waiting_rows(session, info, waiting_runs)
        rows += _holding_rows(info)
        rows += _next_rows(session, info)
    return rows


def _ending_rows(info: RunInfo) -> list[tuple[str, str]]:
    rows = []
    if info.status == "completed":
        text = info.result if isinstance(info.result, str) else json_line(info.result)
        rows.append(("result", escape(text)))
    if info.error is not None:
        where = f" (activity {info.error.activity})" if info.error.activity else ""
        rows.append(("error", escape(f"{info.error.type}: {info.error.message}{where}")))
        for line in (telling.user_traceback(info.error.traceback) or "").splitlines():
            rows.append(("", render.escape_lines(line)))
    return rows


def _waiting_rows(
    session: Session, info: RunInfo, waiting_runs: Mapping[str, int]
) -> list[tuple[str, str]]:
    terminal = session.data_terminal
    rows = []
    for wait in info.waiting_for:
        since = f" since {render.moment(wait.since, terminal)}"
        until = "" if wait.until is None else f" until {render.moment(wait.until, terminal)}"
        text = f"{wait.kind} {escape(wait.name)}{telling.attempts(wait)}{since}"
        if wait.kind == "activity":
            if wait.state == "retrying" and wait.until is not None:
                text += f"; next try {render.moment(wait.until, terminal)}"
            text += telling.last_error(wait)
        else:
            text += until
        rows.append(("waits for", text))
        if wait.prompt:
            rows.append(("asks", escape(wait.prompt)))
        if wait.kind == "signal" and info.problem is None:
            run = info.workflow_id if waiting_runs.get(wait.name, 0) > 1 else None
            rows.append(("answer", telling.answer(session, wait.name, wait.expected, run)))
    return rows


def _holding_rows(info: RunInfo) -> list[tuple[str, str]]:
    rows = []
    if info.owner is not None:
        verb = "driven by" if info.owner.alive and not info.owner.frozen else "held by"
        rows.append((verb, telling.owner_text(info.owner)))
    if info.problem is not None:
        rows.append(("problem", escape(f"{info.problem.code}: {info.problem.message}")))
        if info.problem.hint:
            rows.append(("hint", escape(info.problem.hint)))
    if info.unattended is not None:
        rows.append(("waits for", f"a worker: {escape(info.unattended)}"))
    return rows


def _next_rows(session: Session, info: RunInfo) -> list[tuple[str, str]]:
    """The command that moves the run on, where somebody has to type one."""
    owner = info.owner
    if owner is not None and owner.alive:
        return [("next", f"kill -CONT {owner.pid}")] if owner.frozen else []
    if info.unattended is not None:
        return [("next", escape(session.command("worker")))]
    now = render.now_ns()
    waits = [w.until for w in info.waiting_for if w.kind == "timer" or w.state == "retrying"]
    sleeping = info.waiting_for and all(
        wait.kind == "signal" or (wait.until is not None and wait.until > now)
        for wait in info.waiting_for
    )
    command = telling.resume_command(session, info)
    if info.problem is None and sleeping:
        if any(wait.kind == "signal" for wait in info.waiting_for) and not waits:
            return []
        due = min(until for until in waits if until is not None) if waits else now
        return [("next", f"{command} (from {render.moment(due, session.data_terminal)})")]
    return [("next", command)]


# -- waiting -------------------------------------------------------------------------------------


@app.command("waiting", cls=Command)
def waiting_command(
    ctx: typer.Context,
    limit: Annotated[
        str | None,
        typer.Option("-n", "--limit", metavar="N", help="At most N waits; all by default."),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """List every open wait for a signal.

    Longest waiting first; with the question it asks, and the command that answers it.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    most = options.whole_number(limit, "--limit")

    async def find(executor: DurableExecutor) -> tuple[Sequence[OpenWait], Counter[str]]:
        waits = await executor.waiting(limit=most)
        if most is None:
            return waits, telling.count_waits(waits)
        return waits, await telling.awaited_by(executor, (wait.signal for wait in waits))

    waits, counts = ((), Counter()) if session.nothing_stored else session.run(find)
    if json:
        session.print_json([_wait_json(session, wait, counts) for wait in waits])
        leave(exits.OK)
    if not waits:
        if session.talk_terminal:
            session.say("no run waits for a signal")
        leave(exits.OK)
    terminal = session.data_terminal
    rows = [
        (
            escape(wait.workflow_id),
            escape(wait.signal),
            _when(wait.since, terminal),
            "" if wait.until is None else _when(wait.until, terminal),
            escape(wait.expected or ""),
            escape(wait.prompt or ""),
            _answer(session, wait, counts),
        )
        for wait in waits
    ]
    headers = ("RUN", "SIGNAL", "SINCE", "UNTIL", "TYPE", "PROMPT", "ANSWER")
    if not terminal:
        render.table(headers, rows, paint=session.paint)
        leave(exits.OK)
    render.table(headers[:-1], [cells[:-1] for cells in rows], paint=session.paint)
    # Under the table, because a command that is folded cannot be copied.
    STREAMS.write("\nanswer with:\n" + "".join(f"  {cells[-1]}\n" for cells in rows))
    leave(exits.OK)


def _when(instant: int, terminal: bool) -> str:
    return render.relative(instant) if terminal else render.iso_local(instant)


def _wait_json(session: Session, wait: OpenWait, waiting_runs: Mapping[str, int]) -> dict[str, Any]:
    return {
        "workflow_id": wait.workflow_id,
        "run_id": wait.run_id,
        "workflow": wait.workflow,
        "signal": wait.signal,
        "since": format_instant(wait.since),
        "until": None if wait.until is None else format_instant(wait.until),
        "prompt": wait.prompt,
        "expected": wait.expected,
        "command": _answer(session, wait, waiting_runs),
    }


# -- list ----------------------------------------------------------------------------------------


@app.command("list", cls=Command)
def list_command(
    ctx: typer.Context,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="running, completed, failed, cancelled, terminated, timed_out, continued_as_new.",
        ),
    ] = None,
    workflow: Annotated[
        str | None,
        typer.Option(
            "--workflow",
            metavar="NAME",
            help="Only runs of this workflow.",
            autocompletion=completion.complete_workflow,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="KEY=VALUE", help="Only runs so labelled; repeat for more."
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DUR", help="Only runs started in the last DUR."),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option("-n", "--limit", metavar="N", help="At most N runs; 20 by default."),
    ] = None,
    all_runs: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """List runs, newest first.

    Their ids, workflows, statuses, and what they wait for.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    options.only_one({"--limit": limit is not None, "--all": all_runs})
    most = None if all_runs else options.whole_number(limit, "--limit") or _LIST_LIMIT
    _check_status(status)
    labels = options.pairs(label, "--label")
    started_since = options.duration(since, "--since")

    # One more than is shown, to know whether there are more.
    def find(executor: DurableExecutor) -> Awaitable[Sequence[RunInfo]]:
        return executor.list(
            status=status,
            workflow=workflow,
            labels=labels or None,
            since=started_since,
            limit=None if most is None else most + 1,
        )

    found = () if session.nothing_stored else session.run(find)
    shown = found[:most]
    if json:
        session.print_json([info.to_json() for info in shown])
    else:
        run_table(session, shown)
    if session.talk_terminal:
        if not found:
            session.say("no run was found")
        elif len(found) > len(shown):
            session.say(f"these are the newest {most}; --all lists all")
    leave(exits.OK)


def _check_status(status: str | None) -> None:
    from belugawf.executor import STATUSES

    if status is None or status in STATUSES:
        return
    import difflib

    near = difflib.get_close_matches(status, STATUSES, n=1)
    hint = f"did you mean {near[0]}?" if near else "expected one of " + ", ".join(STATUSES)
    raise UsageError(f"--status is {status!r}", hint=hint)


def run_table(session: Session, infos: Sequence[RunInfo]) -> None:
    """The runs as a table."""
    if not infos and session.data_terminal:
        return
    terminal = session.data_terminal
    rows = [
        (
            escape(info.workflow_id),
            escape(info.workflow),
            info.status,
            _when(info.created_at, terminal),
            _note(info),
            escape(info.run_id),
        )
        for info in infos
    ]
    # A person types the workflow id; the run id would only fold the table.
    columns = 6 if session.verbose or not terminal else 5
    headers = ("ID", "WORKFLOW", "STATUS", "STARTED", "NOTE", "RUN ID")
    render.table(headers[:columns], [row[:columns] for row in rows], paint=session.paint)


def _note(info: RunInfo) -> str:
    """What matters most about a run, in a few words."""
    if info.problem is not None:
        return f"problem: {escape(info.problem.code)}"
    if info.error is not None:
        return escape(info.error.type)
    waits = [f"{wait.kind} {escape(wait.name)}" for wait in info.waiting_for]
    if waits:
        return ("driven, " if other_owner(info) else "waits for ") + ", ".join(waits)
    return "driven" if other_owner(info) else ""


# -- history -------------------------------------------------------------------------------------


@app.command("history", cls=Command)
def history_command(
    ctx: typer.Context,
    run: options.OptionalRun = None,
    full: Annotated[bool, typer.Option("--full", help="With the payloads.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on showing events until the run ends.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show the events of a run.

    Without RUN: of the only open run, else of the latest.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    printer = _JsonPrinter() if json else _TextPrinter(session, full=full)

    async def show(executor: DurableExecutor) -> None:
        info = await chosen_run(session, executor, run)
        await _print_events(executor, info.run_id, printer, follow=follow)

    try:
        session.run(show)
    finally:
        # Also after Ctrl-C: the array that was begun must end.
        printer.close()
    leave(exits.OK)


async def _print_events(
    executor: DurableExecutor, run_id: str, printer: _Printer, *, follow: bool
) -> None:
    import asyncio

    seen = 0
    while True:
        # Asked before the events are read, so that the last ones are not missed.
        is_open = follow and (await executor.describe(run_id)).open
        for event in await executor.history(run_id, after=seen if follow else None):
            seen = event.position
            printer.print(event)
        if not is_open:
            return
        await asyncio.sleep(_FOLLOW_EVERY_S)


class _Printer:
    """Prints events one by one."""

    def print(self, event: Event) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """End what was begun."""


class _JsonPrinter(_Printer):
    """One JSON array, written as the events come; nothing before the first one."""

    def __init__(self) -> None:
        self._begun = False

    def print(self, event: Event) -> None:
        from belugawf.model.events import to_json

        STREAMS.write(",\n" if self._begun else "[\n")
        self._begun = True
        STREAMS.write(render.json_line(to_json(event)))

    def close(self) -> None:
        if self._begun:
            STREAMS.write("\n]\n")


class _TextPrinter(_Printer):
    """One line an event: position, local time, type, details; and payloads where asked for."""

    def __init__(self, session: Session, *, full: bool) -> None:
        self._session = session
        self._full = full
        self._teller = EventTeller(session, waits=False)

    def print(self, event: Event) -> None:
        session = self._session
        kind = type(event).__name__
        detail = _detail(event, self._teller)
        payload = getattr(event, "payload", None) if self._full else None
        if session.data_terminal:
            when = f"{render.local(event.time):%Y-%m-%d %H:%M:%S}"
            STREAMS.write(
                f"{event.position:>4}  {session.paint(when, 'dim')}  {kind:<22}  {detail}".rstrip()
                + "\n"
            )
            if payload is not None:
                STREAMS.write(f"      {event.payload_key}: {escape(payload)}\n")
            return
        cells = [str(event.position), render.iso_local(event.time), kind, detail]
        if self._full:
            cells.append(escape(payload or ""))
        STREAMS.write("\t".join(cells) + "\n")


def _detail(event: Event, teller: EventTeller) -> str:
    """What an event says besides its type, for people."""
    from belugawf.model import events as ev
    from belugawf.model.durations import format_duration

    told = teller.tell(event)
    match event:
        case ev.AttemptStarted():
            alone = ", alone" if event.alone else ""
            return f"{teller.name(event.seq)} attempt {event.attempt}{alone}"
        case ev.ActivityCancelRequested():
            return teller.name(event.seq)
        case ev.WorkflowFailed():
            return failure_text(event.payload)
        case ev.WorkflowTerminated() | ev.CancelRequested():
            return escape(event.reason or "")
        case ev.TimerStarted():
            return f"timer {event.seq}: {format_duration(event.delay)}"
        case ev.TimerFired() | ev.TimerCancelled():
            return f"timer {event.seq}"
        case ev.SignalReceived():
            sender = f" from {escape(event.sender)}" if event.sender else ""
            return f"{escape(event.name)}{sender}{', unread' if event.unread else ''}"
        case ev.WaitEnded():
            return escape(event.outcome)
        case ev.ActivityScheduled() | ev.WorkflowStarted() | ev.WaitStarted():
            return escape(event.name)
    return told if told is not None else escape(getattr(event, "name", None) or "")
