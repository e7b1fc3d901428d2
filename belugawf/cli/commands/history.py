"""history: the events of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from belugawf.cli import layout, options, render
from belugawf.cli.follow import chosen_run
from belugawf.cli.render import escape
from belugawf.cli.sentences import EventFormatter, failure_text
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor
    from belugawf.model.events import Event

_FOLLOW_EVERY_S = 0.25
# What a signal carries is shown without --full if it is no longer than this.
_SHORT = 60


def command(
    session: Session,
    run: options.OptionalRun = None,
    full: Annotated[bool, typer.Option("--full", help="With the payloads.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on showing events until the run ends.")
    ] = False,
) -> None:
    """Show the events of a run.

    Without RUN: of the only open run, else of the latest.
    """
    printer = _JsonPrinter() if session.json else _TextPrinter(session, full=full)

    async def show(executor: DurableExecutor) -> None:
        info = await chosen_run(session, executor, run)
        await _print_events(executor, info.run_id, printer, follow=follow)

    try:
        session.run(show)
        printer.begin()
    finally:
        # Also after Ctrl-C: an array that was started must end.
        printer.close()


async def _print_events(
    executor: DurableExecutor, run_id: str, printer: _JsonPrinter | _TextPrinter, *, follow: bool
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


class _JsonPrinter:
    """One JSON array, written as the events come; nothing before the first one."""

    def __init__(self) -> None:
        self._started = False

    def print(self, event: Event) -> None:
        from belugawf.model.events import to_json

        if self._started:
            STREAMS.write(",\n")
        self.begin()
        STREAMS.write(render.json_line(to_json(event)))

    def begin(self) -> None:
        """Begin the array, which may be empty, if that was not done."""
        if not self._started:
            STREAMS.write("[\n")
            self._started = True

    def close(self) -> None:
        if self._started:
            STREAMS.write("\n]\n")


class _TextPrinter:
    """One line an event: position, local time, type, details; and payloads where asked for."""

    def __init__(self, session: Session, *, full: bool) -> None:
        self._session = session
        self._full = full
        self._formatter = EventFormatter(session)

    def begin(self) -> None:
        """There is nothing above the lines."""

    def close(self) -> None:
        """Every line has ended."""

    def print(self, event: Event) -> None:
        session = self._session
        kind = type(event).__name__
        detail = _detail(event, self._formatter, payloads=session.data_terminal)
        payload = getattr(event, "payload", None) if self._full else None
        if session.data_terminal:
            when = f"{render.local(event.time):%Y-%m-%d %H:%M:%S}"
            shown = f"{event.position:>4}  {session.paint(when, 'dim')}  {kind:<22}  {detail}"
            lines = [shown.rstrip()]
            if payload is not None:
                lines.append(f"      {event.payload_key}: {escape(payload)}")
            width = layout.columns(STREAMS.data)
            STREAMS.write("".join(layout.fit(line, width, indent=4) + "\n" for line in lines))
            return
        cells = [str(event.position), render.iso_local(event.time), kind, detail]
        if self._full:
            cells.append(escape(payload or ""))
        STREAMS.write("\t".join(cells) + "\n")


def _detail(event: Event, formatter: EventFormatter, *, payloads: bool) -> str:
    """What an event says besides its type, for people; with what signals carry, if it is short."""
    from belugawf.model import events as ev
    from belugawf.model.durations import format_duration

    line = formatter.format(event)
    match event:
        case ev.AttemptStarted():
            alone = ", alone" if event.alone else ""
            return f"{formatter.name(event.seq)} attempt {event.attempt}{alone}"
        case ev.ActivityCancelRequested():
            return formatter.name(event.seq)
        case ev.WorkflowFailed():
            return failure_text(event.payload)
        case ev.WorkflowTerminated() | ev.CancelRequested():
            by = f"by {escape(event.sender)}" if event.sender else ""
            return ": ".join(part for part in (by, escape(event.reason or "")) if part)
        case ev.RunReopened():
            by = f" by {escape(event.sender)}" if event.sender else ""
            why = f": {escape(event.reason)}" if event.reason else ""
            return f"after event {event.to}{by}{why}"
        case ev.TimerStarted():
            return f"timer {event.seq}: {format_duration(event.delay)}"
        case ev.TimerFired() | ev.TimerCancelled():
            return f"timer {event.seq}"
        case ev.SignalReceived():
            sender = f" from {escape(event.sender)}" if event.sender else ""
            payload = (
                f": {escape(event.payload)}" if payloads and len(event.payload) <= _SHORT else ""
            )
            return f"{escape(event.name)}{sender}{', unread' if event.unread else ''}{payload}"
        case ev.WaitEnded():
            return escape(event.outcome)
        case ev.ActivityScheduled():
            return formatter.name(event.seq)
        case ev.WorkflowStarted() | ev.WaitStarted():
            return escape(event.name)
    return line if line is not None else escape(getattr(event, "name", None) or "")
