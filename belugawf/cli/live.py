"""What a person sees while runs are driven: a live view on a terminal, plain lines elsewhere.

Both read the runs from outside, four times a second, through the executor: what they show is
what is on disk. The live view draws on stderr with rich; what user code prints meanwhile goes
through a pipe (`streams.LineCapture`) and is shown above the view, line by line.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from belugawf.cli import render, sentences
from belugawf.cli.render import escape, progress_text, short_duration
from belugawf.cli.sentences import EventFormatter
from belugawf.cli.streams import LineCapture
from belugawf.host.loops import hidden_task
from belugawf.model.durations import SECOND_NS
from belugawf.model.errors import BelugaError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from belugawf.cli.session import Session
    from belugawf.executor import ActivityState, DurableExecutor, RunInfo

_POLL_INTERVAL_S = 0.25
# A poll is followed by a pause of so many times its own duration.
_POLL_SHARE = 9
# Lines that the view leaves free on the screen, and the fewest that it draws all the same.
_SPARE_LINES = 4
_FEWEST_LINES = 6


@asynccontextmanager
async def watching(
    session: Session,
    executor: DurableExecutor,
    *,
    lines: bool = True,
    waits: bool = False,
) -> AsyncIterator[LiveView | LineView | NoView]:
    """Show the runs that are added, while the body drives them.

    On a terminal, what is printed goes above the view from here on: whoever starts something that
    prints does so in the body. Away from one, `lines` says whether events are printed at all, and
    `waits` whether waits are too, for bodies that do not return then. Shows nothing under --quiet
    and --json.
    """
    if session.quiet or not (session.talk_terminal or lines):
        yield NoView()
        return
    view: LiveView | LineView
    if session.talk_terminal:
        view = LiveView(session, executor)
    else:
        view = LineView(session, executor, waits=waits)
    stop = asyncio.Event()
    task = hidden_task(asyncio.get_running_loop(), _refresh_until(view, stop))
    try:
        yield view
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await task
        view.close()


async def _refresh_until(view: LiveView | LineView, stop: asyncio.Event) -> None:
    while True:
        stopping = stop.is_set()
        began = time.monotonic()
        # The view is no part of the work: if it can't read, it reads again later.
        with suppress(BelugaError):
            await view.refresh(last=stopping)
        if stopping:
            return
        # Nor may it slow the work down if a history is long.
        pause = max(_POLL_INTERVAL_S, (time.monotonic() - began) * _POLL_SHARE)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()


class NoView:
    """Nothing is shown."""

    async def add(self, runs: Sequence[str], *, new: bool = False) -> None:
        """Nor is it looked at."""


# -- plain lines ---------------------------------------------------------------------------------


class LineView:
    """One line for each event that is worth one, as it happens."""

    def __init__(self, session: Session, executor: DurableExecutor, *, waits: bool) -> None:
        self._session = session
        self._executor = executor
        self._waits = waits
        self._formatters: dict[str, EventFormatter] = {}
        self._seen: dict[str, int] = {}
        self._names: dict[str, str] = {}

    async def add(self, runs: Sequence[str], *, new: bool = False) -> None:
        """Show what happens to these from now on; if they are `new`, from their beginning."""
        for run in runs:
            formatter, seen, name = EventFormatter(self._session, waits=self._waits), 0, run
            if not new:
                info = await self._executor.describe(run)
                seen, name = info.history_length, info.workflow_id
                for activity in await self._executor.activities(run):
                    formatter.remember(activity)
            self._formatters[run] = formatter
            self._seen[run] = seen
            self._names[run] = name

    async def refresh(self, *, last: bool) -> None:
        for run in list(self._seen):
            for line in await self._read(run):
                prefix = "" if len(self._seen) == 1 else f"{escape(self._names[run])}: "
                self._session.say(prefix + line)

    async def _read(self, run: str) -> list[str]:
        lines = []
        for event in await self._executor.history(run, after=self._seen[run]):
            self._seen[run] = event.position
            line = self._formatters[run].format(event)
            if line is not None:
                lines.append(line)
        return lines

    def close(self) -> None:
        """Nothing is held."""


# -- the live view -------------------------------------------------------------------------------

_SIGNS = {
    "scheduled": ("·", ".", "dim"),
    "running": ("●", "*", "cyan"),
    "retrying": ("↻", "~", "yellow"),
    "completed": ("✓", "+", "green"),
    "failed": ("✗", "x", "red"),
    "timed_out": ("✗", "x", "red"),
    "cancelled": ("–", "-", "yellow"),
}
_FAILED = frozenset({"failed", "timed_out"})
_OTHERS = "other activities"
_CLOSED = frozenset({"completed", "failed", "timed_out", "cancelled"})


class LiveView:
    """A rich Live on stderr: every run with its activities, retries, waits and progress."""

    def __init__(self, session: Session, executor: DurableExecutor) -> None:
        from rich.console import Console
        from rich.live import Live

        self._session = session
        self._executor = executor
        self._runs: list[str] = []
        self._capture = LineCapture(self._print_above)
        self._console: Console = Console(
            file=self._capture.terminal,
            force_terminal=True,
            no_color=not session.talk_paint.on,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._unicode = "utf" in (self._console.encoding or "")
        self._whole = False
        self._fit()
        self._live: Live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="ellipsis",
        )
        self._live.start()

    async def add(self, runs: Sequence[str], *, new: bool = False) -> None:
        """Show these too."""
        self._runs += runs

    async def refresh(self, *, last: bool) -> None:
        seen = []
        for run in self._runs:
            seen.append((await self._executor.describe(run), await self._executor.activities(run)))
        self._fit()
        # What stays on the screen is whole. The command itself says what is waited for, with the
        # answer.
        self._whole = last
        self._live.update(self._draw(seen, waits=not last), refresh=True)

    def close(self) -> None:
        # First the pipe, so that the last printed lines still appear above the last picture.
        self._capture.close()
        self._live.stop()
        self._capture.terminal.close()

    def _print_above(self, line: str) -> None:
        from rich.text import Text

        self._console.print(Text.from_ansi(line), soft_wrap=True)

    def _fit(self) -> None:
        # rich would ask descriptors 1 and 2, which lead into the pipe.
        with suppress(OSError):
            columns, lines = os.get_terminal_size(self._capture.terminal.fileno())
            if columns and lines:
                self._console.width, self._console.height = columns, lines

    def _draw(self, seen: Sequence[tuple[RunInfo, Sequence[ActivityState]]], *, waits: bool) -> Any:
        from rich.console import Group

        room = max(_FEWEST_LINES, self._console.size.height - _SPARE_LINES)
        lines: list[Any] = []
        for number, (info, activities) in enumerate(seen):
            if len(lines) >= room - 1 and number < len(seen) - 1:
                lines.append(self._line((f"{len(seen) - number:,} more runs", "dim")))
                break
            share = max(3, (room - len(lines)) // max(1, len(seen)))
            lines += self._draw_run(info, activities, share, waits=waits)
        return Group(*lines[:room])

    def _draw_run(
        self, info: RunInfo, activities: Sequence[ActivityState], room: int, *, waits: bool
    ) -> list[Any]:
        now = render.now_ns()
        waiting = [w for w in info.waiting_for if w.kind != "activity" and waits]
        shown, counted = _most_interesting(activities, room - 1 - len(waiting))
        lines = [self._head(info, now)]
        lines += [self._counts(name, counts) for name, counts in counted.items()]
        lines += [self._activity(activity, now) for activity in shown]
        lines += [
            self._line(("  ", ""), (sentences.wait_text(self._session, w), "")) for w in waiting
        ]
        return lines

    def _head(self, info: RunInfo, now: int) -> Any:
        end = info.closed_at if info.closed_at is not None else now
        took = short_duration(max(0, end - info.created_at) // SECOND_NS)
        parts = [
            (escape(info.workflow_id), "bold"),
            (f" {info.status.replace('_', ' ')}", render.STATUS_STYLES.get(info.status, "")),
            (f" {took}", "dim"),
        ]
        if info.progress is not None:
            parts.append((f"  {progress_text(info.progress, unicode=self._unicode)}", ""))
        return self._line(*parts)

    def _sign(self, state: str) -> tuple[str, str]:
        wide, plain, style = _SIGNS.get(state, ("?", "?", ""))
        return wide if self._unicode else plain, style

    def _counts(self, name: str, counts: Counter[str]) -> Any:
        parts = [("  ", ""), (escape(name), "")]
        for state, count in counts.items():
            sign, style = self._sign(state)
            parts += [(f" {sign}", style), (f" {count:,}", "")]
        return self._line(*parts)

    def _activity(self, activity: ActivityState, now: int) -> Any:
        sign, style = self._sign(activity.state)
        given = None if activity.activity_id == str(activity.seq) else activity.activity_id
        parts = [(f"  {sign} ", style), (sentences.activity_text(activity.name, given), "")]
        if activity.attempt > 1 or activity.state == "retrying":
            shown = sentences.attempt_text(activity.attempt, activity.max_attempts)
            parts.append((f" {shown}", "yellow"))
        parts.append((f" {_activity_time(activity, now)}", "dim"))
        if activity.error and activity.state != "completed":
            parts.append((f"  {escape(activity.error)}", "red"))
        return self._line(*parts)

    def _line(self, *parts: tuple[str, str]) -> Any:
        from rich.text import Text

        if self._whole:
            return Text.assemble(*parts, overflow="fold")
        return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _most_interesting(
    activities: Sequence[ActivityState], room: int
) -> tuple[list[ActivityState], dict[str, Counter[str]]]:
    """The activities to draw one by one; and, if they do not all fit, how many there are of each
    name and state.

    Then only open ones are drawn, and failed ones if there is room. If even the names do not fit,
    those of the most activities are counted, and the rest as one.
    """
    if len(activities) <= max(1, room):
        return list(activities), {}
    names = Counter(activity.name for activity in activities).most_common()
    lines = min(len(names), max(1, room // 2))
    own_line = {name for name, _ in names[: lines if lines == len(names) else lines - 1]}
    counted: dict[str, Counter[str]] = {}
    for activity in activities:
        name = activity.name if activity.name in own_line else _OTHERS
        counted.setdefault(name, Counter())[activity.state] += 1
    worth_it = [a for a in activities if a.state not in _CLOSED or a.state in _FAILED]
    worth_it.sort(key=lambda a: (a.state in _CLOSED, -a.seq))
    return sorted(worth_it[: max(0, room - lines)], key=lambda a: a.seq), counted


def _activity_time(activity: ActivityState, now: int) -> str:
    if activity.state == "retrying" and activity.until is not None:
        left = max(0, activity.until - now) / SECOND_NS
        return f"next try in {short_duration(round(left))}"
    if activity.state in _CLOSED:
        end = activity.until if activity.until is not None else now
        return short_duration(max(0, end - activity.since) / SECOND_NS)
    return short_duration(max(0, now - activity.since) // SECOND_NS)
