"""How the command line shows what runs log: while it drives them, and what was kept.

A program's own logging configuration decides, if a workflow module (or `sitecustomize`) makes one:
its handlers show the lines, from its levels on. Ours are shown where no handler is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from belugawf.cli import options, render
from belugawf.cli.render import Paint, escape, escape_lines
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS
from belugawf.host.logs import displayed, has_handlers, is_own, only_configured_by_name, text_of
from belugawf.model.durations import format_instant
from belugawf.model.levels import level_name, level_number

_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
# They tell of their own work, to whoever works on them.
_MACHINERY = ("asyncio", "temporalio")


class _Level(int):
    """A level that we have set: whoever sets one of the same number is another."""


@contextmanager
def driving(
    session: Session,
    level: str | None,
    *,
    format: options.LogFormat = "text",
    reserved: bool = False,
) -> Iterator[None]:
    """Keep what is printed out of the results, and show what runs log, while the body drives them.

    `level` is what `--log-level` says. Without it the configuration's counts; with --quiet and
    --json, and if `reserved`, only warnings are shown then.
    """
    chosen = options.level(level) or level_number(session.settings.logging.level) or logging.INFO
    shown = (
        max(chosen, logging.WARNING) if level is None and (session.quiet or reserved) else chosen
    )
    root, before = logging.getLogger(), logging.lastResort
    display = _Display(session, shown, root.level, format)
    quiet = [logging.getLogger(name) for name in _MACHINERY]
    quiet = [logger for logger in quiet if logger.level == logging.NOTSET]
    if not root.handlers:
        root.setLevel(_Level(chosen))
        for logger in quiet:
            logger.setLevel(_Level(logging.WARNING))
    logging.lastResort = display
    STREAMS.speak_json(_message_json if format == "json" else None)
    try:
        with STREAMS.diverted(), only_configured_by_name(), displayed(display):
            yield
    finally:
        STREAMS.speak_json(None)
        logging.lastResort = before
        display.give_back_level()
        for logger in quiet:
            if type(logger.level) is _Level:
                logger.setLevel(logging.NOTSET)


class _Display(logging.Handler):
    """Shows on stderr what no handler of the program shows. `found` is the root logger's level."""

    def __init__(self, session: Session, level: int, found: int, format: options.LogFormat) -> None:
        super().__init__(level)
        self._found = found
        self._terminal = session.talk_terminal
        self._paint = session.talk_paint
        self._as_json = format == "json"

    def look(self) -> None:
        """See `host.logs.Display`."""
        if logging.getLogger().handlers:
            self.give_back_level()

    def show(self, logger: logging.Logger, record: logging.LogRecord) -> bool:
        """See `host.logs.Display`."""
        if has_handlers(logger):
            return False
        if record.levelno >= self.level:
            self.handle(record)
        return True

    def give_back_level(self) -> None:
        """Let the program's level count, unless somebody has set another one."""
        root = logging.getLogger()
        if type(root.level) is _Level:
            root.setLevel(self._found)

    def emit(self, record: logging.LogRecord) -> None:
        line = _as_json(record)
        if self._as_json:
            STREAMS.say_json(_one_line(line))
            return
        instant = int(record.created * 1_000_000) * 1_000
        STREAMS.say_json(line_text(line, instant, self._paint, terminal=self._terminal))


def _as_json(record: logging.LogRecord) -> dict[str, Any]:
    """What the record says, with the keys of `LogLine.to_json`."""
    about = record.__dict__.get
    message = text_of(record)
    return {
        "time": format_instant(int(record.created * 1_000_000) * 1_000),
        "workflow_id": about("workflow_id"),
        "run_id": about("run_id"),
        "level": level_name(record.levelno),
        "logger": record.name,
        "activity": about("activity"),
        "attempt": about("attempt"),
        "message": message if STREAMS.mask is None else STREAMS.mask(message),
    }


def _message_json(text: str) -> str:
    """A message of the command itself, as a line among those of runs."""
    record = logging.LogRecord("belugawf", logging.INFO, "", 0, text, None, None)
    return _one_line(_as_json(record))


def _one_line(line: dict[str, Any]) -> str:
    return json.dumps(line, default=str)


def line_text(
    line: dict[str, Any], instant: int, paint: Paint, *, terminal: bool, named: bool = True
) -> str:
    """A line for people: time, level, whose it is, and what it says, which may go on below.

    `named`: with the run's name, for those of the moment; else they may be old, and have a date. A
    logger of the code's own, or a library's, is named, too.
    """
    moment = render.local(instant)
    when = f"{moment:%H:%M:%S}" if named else f"{moment:%Y-%m-%d %H:%M:%S}"
    if not terminal:
        when = moment.isoformat(timespec="milliseconds")
    level = paint(f"{escape(line['level']):<7}", _STYLES.get(line["level"], ""))
    parts = [paint(when, "dim"), level]
    if named and line["workflow_id"] is not None:
        parts.append(escape(line["workflow_id"]))
    if line["activity"] is not None:
        parts.append(f"{escape(line['activity'])}[{escape(line['attempt'])}]")
    elif not named:
        parts.append("workflow")
    if is_own(line["logger"]) or not line["logger"].startswith("belugawf."):
        parts.append(escape(line["logger"]))
    first, *more = escape_lines(line["message"]).split("\n")
    return "\n".join([f"{' '.join(parts)}: {first}", *(f"    {text}" for text in more)])
