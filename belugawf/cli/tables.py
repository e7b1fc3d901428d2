"""What is printed as rows: tables of runs, and one run by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from belugawf.cli import layout, render, sentences
from belugawf.cli.render import STATUS_STYLES, escape, json_line, progress_text
from belugawf.cli.streams import STREAMS
from belugawf.executor.info import REOPENED
from belugawf.model import events as ev

if TYPE_CHECKING:
    from belugawf.cli.render import Paint
    from belugawf.cli.sentences import Message
    from belugawf.cli.session import Session
    from belugawf.executor import LogLine, RunInfo

# Of more signals the last ones are shown, and so much of what each carries.
_SHOWN_SIGNALS = 10
_SHOWN_PAYLOAD = 500

# More things that a run waits for are counted in a note.
_NAMED_WAITS = 5


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, paint: Paint, prose: int
) -> None:
    """Print rows as data: a table on a terminal, tab-separated without headers in a pipe.

    A cell is already escaped. Nothing is cut: on a wide terminal column `prose` is folded, and if
    the table does not fit, each row stands by itself.
    """
    if not STREAMS.data_is_terminal():
        STREAMS.write("".join("\t".join(row) + "\n" for row in rows))
        return
    width = layout.columns(STREAMS.data)
    lines = layout.lay_out(headers, rows, width, prose=prose)
    if lines is None:
        records = (layout.stacked(headers, row, width) for row in rows)
        STREAMS.write("\n\n".join(records) + "\n")
        return
    for number, cells in enumerate(lines):
        shown = [paint(cell, "bold") if number == 0 else _painted(cell, paint) for cell in cells]
        STREAMS.write("  ".join(shown).rstrip() + "\n")


def _painted(cell: str, paint: Paint) -> str:
    return paint(cell, STATUS_STYLES.get(cell.rstrip(), ""))


def print_rows(session: Session, rows: Sequence[tuple[str, str]]) -> None:
    """Print what things are called, and what they are, as data."""
    if not session.data_terminal:
        STREAMS.write("".join(f"{key}\t{value}\n" for key, value in rows))
        return
    width = max((len(key) for key, _ in rows), default=0)
    columns = layout.columns(STREAMS.data)
    for key, value in rows:
        label = key.ljust(width)
        shown = session.paint(label, "dim") if key else label
        STREAMS.write(layout.labelled(label, shown, value, columns) + "\n")


def when(instant: int, terminal: bool) -> str:
    """An instant in a cell: its distance on a terminal, ISO 8601 in a pipe."""
    return render.relative(instant) if terminal else render.iso_local(instant)


# -- runs ----------------------------------------------------------------------------------------


def run_table(session: Session, infos: Sequence[RunInfo]) -> None:
    """The runs as a table."""
    if not infos and session.data_terminal:
        return
    terminal = session.data_terminal
    rows = [
        {
            "ID": escape(info.workflow_id),
            "WORKFLOW": escape(info.workflow),
            "STATUS": info.status,
            "STATE": info.state or "",
            "STARTED": when(info.created_at, terminal),
            "NOTE": _note(info),
            "RUN ID": escape(info.run_id),
        }
        for info in infos
    ]
    # Scripts count columns: what came later is last. A person types the workflow id; the run id
    # would only fold the table.
    headers = ["ID", "WORKFLOW", "STATUS", "STARTED", "NOTE", "RUN ID", "STATE"]
    if terminal:
        headers = ["ID", "WORKFLOW", "STATUS", "STATE", "STARTED", "NOTE"]
        headers += ["RUN ID"] if session.verbose else []
    cells = [[row[header] for header in headers] for row in rows]
    table(headers, cells, paint=session.paint, prose=headers.index("NOTE"))


def _note(info: RunInfo) -> str:
    """What matters most about a run, in a few words."""
    if info.problem is not None:
        return f"problem: {escape(info.problem.code)}"
    if info.error is not None:
        return escape(info.error.type)
    waits = ", ".join(
        f"{wait.kind} {escape(wait.name)}{' (sent)' if wait.answered else ''}"
        for wait in info.waiting_for
        if wait.kind != "activity" or len(info.waiting_for) <= _NAMED_WAITS
    )
    if len(info.waiting_for) > _NAMED_WAITS:
        names = Counter(wait.name for wait in info.waiting_for if wait.kind == "activity")
        counted = (f"{count} x {escape(name)}" for name, count in names.items())
        waits = ", ".join(part for part in (waits, *counted) if part)
    return f"waits for {waits}" if waits and info.state != "working" else waits


def run_rows(
    session: Session,
    info: RunInfo,
    waiting_runs: Mapping[str, int],
    messages: Sequence[Message] = (),
    lines: Sequence[LogLine] = (),
) -> list[tuple[str, str]]:
    """One run: its state, the reason for it, and the command that continues it.

    `messages` are those of its events that came from outside, `lines` what its code logged last.
    """

    def at(instant: int) -> str:
        return render.moment(instant, session.data_terminal)

    rows = [
        ("run", escape(info.workflow_id)),
        ("run id", escape(info.run_id)),
        ("workflow", escape(info.workflow)),
        ("status", session.paint.status(info.status.replace("_", " "))),
        *([("state", info.state)] if info.state else ()),
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
    rows += _message_rows(session, info, messages)
    rows += _ending_rows(info)
    rows += _log_rows(session, info, lines)
    if info.open:
        rows += _waiting_rows(session, info, waiting_runs)
        rows += _holding_rows(info)
        rows += _next_rows(session, info)
    elif info.status in REOPENED:
        rows.append(("next", escape(session.command("retry", info.workflow_id))))
    return rows


def _log_rows(session: Session, info: RunInfo, lines: Sequence[LogLine]) -> list[tuple[str, str]]:
    """Lines that its code has logged, and how to see all."""
    rows = []
    for line in lines:
        shown_at = render.clock if session.data_terminal else render.iso_local
        when = shown_at(line.time)
        who = "" if line.activity is None else f"{escape(line.activity)}[{line.attempt}] "
        first, *more = render.escape_lines(line.message).split("\n")
        # Of a traceback, what was raised; the error has the rest.
        last = f" ... {more[-1].strip()}" if more else ""
        rows.append(("log", f"{when} {escape(line.level)} {who}{first}{last}"))
    if rows and session.data_terminal:
        rows.append(("", escape(session.command("logs", info.workflow_id))))
    return rows


def _message_rows(
    session: Session, info: RunInfo, messages: Sequence[Message]
) -> list[tuple[str, str]]:
    """What came from outside: signals, a cancellation, the end; who sent it, when, and why."""
    rows = []
    signals = [event for event in messages if isinstance(event, ev.SignalReceived)]
    hidden = len(signals) - _SHOWN_SIGNALS
    if hidden > 0:
        history = session.command("history", info.workflow_id)
        rows.append(("signal", f"{hidden:,} earlier ones: {escape(history)}"))
    for event in [*signals[-_SHOWN_SIGNALS:], *(m for m in messages if m not in signals)]:
        who = f" by {escape(event.sender)}" if event.sender else ""
        when = render.moment(event.time, session.data_terminal)
        if isinstance(event, ev.SignalReceived):
            unread = "; the code never read it" if event.unread else ""
            text = f"{escape(event.name)} sent{who} {when}: {_payload_text(event.payload)}{unread}"
            rows.append(("signal", text))
        else:
            what = "cancelled" if isinstance(event, ev.CancelRequested) else "terminated"
            why = f": {escape(event.reason)}" if event.reason else ""
            rows.append((what, f"{who.removeprefix(' ')} {when}{why}".lstrip()))
    return rows


def _payload_text(payload: str) -> str:
    shown = escape(payload)
    if len(shown) <= _SHOWN_PAYLOAD:
        return shown
    return f"{shown[:_SHOWN_PAYLOAD]}... ({len(shown):,} characters; history --full has all)"


def _ending_rows(info: RunInfo) -> list[tuple[str, str]]:
    rows = []
    if info.status == "completed":
        text = info.result if isinstance(info.result, str) else json_line(info.result)
        rows.append(("result", escape(text)))
    if info.error is not None:
        where = f" (activity {info.error.activity})" if info.error.activity else ""
        rows.append(("error", escape(f"{info.error.type}: {info.error.message}{where}")))
        for line in (sentences.user_traceback(info.error.traceback) or "").splitlines():
            rows.append(("", render.escape_lines(line)))
    return rows


def _waiting_rows(
    session: Session, info: RunInfo, waiting_runs: Mapping[str, int]
) -> list[tuple[str, str]]:
    terminal = session.data_terminal
    rows = []
    shown, rest = (info.waiting_for, []) if not terminal else sentences.most_waits(info)
    for wait in shown:
        since = f" since {render.moment(wait.since, terminal)}"
        until = "" if wait.until is None else f" until {render.moment(wait.until, terminal)}"
        name = sentences.activity_text(wait.name, wait.id)
        text = f"{wait.kind} {name}{sentences.attempts(wait)}{since}"
        if wait.kind == "activity":
            if wait.state == "retrying" and wait.until is not None:
                text += f"; next try {render.moment(wait.until, terminal)}"
            text += sentences.last_error(wait)
        else:
            text += until
        if wait.answered:
            text += "; it has been sent, and is not read yet"
        rows.append(("waits for", text))
        if wait.prompt and not wait.answered:
            rows.append(("asks", escape(wait.prompt)))
        if wait.kind == "signal" and info.problem is None and not wait.answered:
            run = info.workflow_id if waiting_runs.get(wait.name, 0) > 1 else None
            rows.append(("answer", sentences.answer(session, wait.name, wait.expected, run)))
    return rows + [("waits for", f"activities of {line}") for line in rest]


def _holding_rows(info: RunInfo) -> list[tuple[str, str]]:
    rows = []
    if info.owner is not None:
        verb = "driven by" if info.owner.alive and not info.owner.frozen else "held by"
        rows.append((verb, sentences.owner_text(info.owner)))
    if info.problem is not None:
        rows.append(("problem", escape(f"{info.problem.code}: {info.problem.message}")))
        if info.problem.hint:
            rows.append(("hint", escape(info.problem.hint)))
    if info.unattended is not None:
        rows.append(("waits for", f"a worker: {escape(info.unattended)}"))
    return rows


def _next_rows(session: Session, info: RunInfo) -> list[tuple[str, str]]:
    """The command that continues the run, if one has to be typed."""
    owner = info.owner
    if owner is not None and owner.alive:
        return [("next", f"kill -CONT {owner.pid}")] if owner.frozen else []
    if info.unattended is not None:
        return [("next", escape(session.command("worker")))]
    now = render.now_ns()
    waits = [w.until for w in info.waiting_for if w.kind == "timer" or w.state == "retrying"]
    sleeping = info.waiting_for and all(
        (wait.kind == "signal" and not wait.answered)
        or (wait.until is not None and wait.until > now)
        for wait in info.waiting_for
    )
    command = sentences.resume_command(session, info)
    if info.problem is None and sleeping:
        if any(wait.kind == "signal" for wait in info.waiting_for) and not waits:
            return []
        due = min(until for until in waits if until is not None) if waits else now
        return [("next", f"{command} (from {render.moment(due, session.data_terminal)})")]
    return [("next", command)]
