"""What code under a run logs: whose each line is, and what is kept of it until it is stored.

A record that is enabled and not filtered comes to `logging.Logger.callHandlers`, which gives it to
the handlers that its program has set up. While something is driven here, it passes through us on
its way: other places are too early (a record factory, before filters), or change what the program
does (with a handler of ours on the root logger, `logging.basicConfig` would do nothing).

* What an activity logs is marked with its run (`workflow_id`, `run_id`, `activity`, `attempt`: a
  formatter of the program may use them), kept, and goes on.
* What workflow code logs waits for the end of its turn, and is dropped on replay.
* All else goes on as it came.

Nothing here raises, whatever a record's own code does, and nothing waits.
"""

from __future__ import annotations

import logging
import sys
from asyncio import events
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from belugawf.authoring.activity import Attempt, current_attempt
from belugawf.authoring.runtime import unformatted
from belugawf.host.border import is_interrupt, log
from belugawf.host.calling import failure_of
from belugawf.model.durations import SECOND_NS

# A line as it is stored: run, time in microseconds, level, logger, seq, activity, attempt, message.
Line: TypeAlias = tuple[int, int, int, str, int | None, str | None, int | None, str]

# Of a longer message the middle is left out.
MOST_CHARACTERS = 8_000
_LONGEST_NAME = 200
_LARGEST = 2**53
# Lines that wait to be stored; so many are stored at a time: that takes some 5 ms.
_MOST_WAITING, _MOST_AT_ONCE = 10_000, 2_000
# How long lines wait for a transaction that is made anyway, and until one is made for them.
_INTERVAL_NS, _LATE_NS = SECOND_NS // 4, SECOND_NS
# How long turns are written without lines after a transaction with some has failed.
_RESPITE_NS = 10 * SECOND_NS

# Under these names users' code logs; under others that begin so, we do.
_USERS = ("belugawf.activity", "belugawf.workflow")


# -- texts ---------------------------------------------------------------------------------------


def text_of(record: logging.LogRecord) -> str:
    """The message, with traceback and stack if there are any; not too long."""
    try:
        text = record.getMessage()
    except BaseException as error:
        if is_interrupt(error):
            raise
        text = unformatted(record, error)
    if not (record.exc_info or record.exc_text or record.stack_info):  # most have none
        return shortened(text)
    traceback = record.exc_text
    if not traceback and record.exc_info and record.exc_info[1] is not None:
        traceback = failure_of(record.exc_info[1])[0].traceback
    parts = (text, traceback, record.stack_info)
    return shortened("\n".join(str(part).rstrip("\n") for part in parts if part))


def shortened(text: str) -> str:
    """The text, without its middle if it is too long."""
    left_out = len(text) - MOST_CHARACTERS
    if left_out <= 0:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n... {left_out:,} characters left out ...\n{text[-half:]}"


def mark(
    record: logging.LogRecord,
    workflow_id: str,
    run_id: str,
    activity: str | None = None,
    attempt: int | None = None,
) -> None:
    """Say in the record whose it is; what the code itself has put there under such a name stays."""
    put = record.__dict__.setdefault
    put("workflow_id", workflow_id)
    put("run_id", run_id)
    put("activity", activity)
    put("attempt", attempt)


# -- what waits to be stored ---------------------------------------------------------------------


class LineBuffer:
    """Lines that runs of one executor have logged, until they are stored. Any thread may add.

    No lock, which a fork might inherit: `waiting` has a bound, and drops its oldest line.
    """

    def __init__(self) -> None:
        self.waiting: deque[Line] = deque(maxlen=_MOST_WAITING)
        self._dropped = 0
        self._taken_at = 0
        self._next_at = 0

    def add(
        self,
        record: logging.LogRecord,
        run: int,
        seq: int | None = None,
        activity: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """Keep what that record says."""
        message = _storable(text_of(record))
        name = _storable(str(record.name)[:_LONGEST_NAME])
        time, level = int(record.created * 1_000_000), int(record.levelno)
        if not (0 <= time <= _LARGEST and 0 <= level <= _LARGEST):
            # Some programs set them by themselves; a column takes 64 bits.
            time, level = (min(max(number, 0), _LARGEST) for number in (time, level))
        if len(self.waiting) == _MOST_WAITING:
            self._dropped += 1
        self.waiting.append((run, time, level, name, seq, activity, attempt, message))

    def take(self, now: int) -> list[Line]:
        """Lines to be stored with what is written now; none if the last were just written."""
        if self._taken_at <= now < self._next_at and len(self.waiting) < _MOST_AT_ONCE:
            return []
        if self._is_in_respite(now):
            return []
        self._taken_at, self._next_at = now, now + _INTERVAL_NS
        return self.take_all()

    def take_all(self) -> list[Line]:
        """Lines to be stored, however soon."""
        waiting = self.waiting
        taken = [waiting.popleft() for _ in range(min(len(waiting), _MOST_AT_ONCE))]
        if self._dropped and not waiting:
            dropped, self._dropped = self._dropped, 0
            log(
                logging.WARNING,
                "%d lines that runs have logged are not kept: they came faster than they can be "
                "stored",
                dropped,
            )
        return taken

    def is_late(self, now: int) -> bool:
        """Whether lines have waited too long for a transaction that is made anyway."""
        return not self._taken_at <= now < self._taken_at + _LATE_NS and not self._is_in_respite(
            now
        )

    def put_back(self, lines: Sequence[Line], now: int) -> None:
        """The transaction with these has failed: the next ones go without."""
        self._taken_at, self._next_at = now, now + _RESPITE_NS
        room = _MOST_WAITING - len(self.waiting)
        self._dropped += max(0, len(lines) - room)
        self.waiting.extendleft(reversed(lines[max(0, len(lines) - room) :]))

    def _is_in_respite(self, now: int) -> bool:
        return self._taken_at <= now < self._next_at > self._taken_at + _INTERVAL_NS


def _storable(text: str) -> str:
    """The text without halves of characters, which no encoding can write."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


# -- where records pass --------------------------------------------------------------------------


class Display(Protocol):
    """Who shows what no handler of the program shows."""

    def look(self) -> None:
        """The program may have configured logging just now."""
        ...

    def show(self, logger: logging.Logger, record: logging.LogRecord) -> bool:
        """Show the record, if it is not the program's to show; false if it is."""
        ...


class _Passage:
    """What stands in the place of `Logger.callHandlers` for as long as it has users."""

    def __init__(self) -> None:
        self.users = 0
        self.display: Display | None = None
        # Of a process that is one attempt: its threads and tasks are, too.
        self.attempt: Attempt | None = None
        self._found: Any = None

    def enter(self) -> None:
        self.users += 1
        if self._found is None:
            self._found = logging.Logger.callHandlers
            logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign]

    def leave(self) -> None:
        self.users -= 1
        # Somebody may have put themselves around us since: then we stay, and only hand on.
        if not self.users and logging.Logger.callHandlers is _call_handlers:
            logging.Logger.callHandlers = self._found  # type: ignore[method-assign]
            self._found = None

    def give(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        found, display = self._found, self.display
        if self.users:
            if display is not None:
                display.look()
                if not logger.isEnabledFor(record.levelno):
                    return
            if self._is_taken(logger, record):
                return
            if display is not None and display.show(logger, record):
                return
        found(logger, record)

    def _is_taken(self, logger: logging.Logger, record: logging.LogRecord) -> bool:
        """Whether it waits for the end of a turn, or another process shows it."""
        if is_own(logger.name):
            return False
        loop: Any = events._get_running_loop()
        if getattr(loop, "runs_workflow_code", False):
            loop.log(record)
            return True
        attempt = current_attempt.get(None) or self.attempt
        if attempt is None:
            return False
        try:
            return attempt.log(record, logger)
        except BaseException as error:  # a record may be anything
            if is_interrupt(error):
                raise
            return False


_PASSAGE = _Passage()


def _call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
    _PASSAGE.give(self, record)


def enter_passage(attempt: Attempt | None = None) -> None:
    """From now on records pass through us; `attempt` is the one that this process is for."""
    if attempt is not None:
        _PASSAGE.attempt = attempt
    _PASSAGE.enter()


def leave_passage() -> None:
    """They pass as before, if nobody else has entered."""
    _PASSAGE.leave()


@contextmanager
def displayed(display: Display) -> Iterator[None]:
    """Meanwhile records pass through us, and `display` shows what the program does not."""
    before, _PASSAGE.display = _PASSAGE.display, display
    _PASSAGE.enter()
    try:
        yield
    finally:
        _PASSAGE.leave()
        _PASSAGE.display = before


def is_own(name: str) -> bool:
    """Whether we log under that name, and not code under a run."""
    return (name == "belugawf" or name.startswith("belugawf.")) and not name.startswith(_USERS)


@contextmanager
def only_configured_by_name() -> Iterator[None]:
    """Meanwhile `logging.info` and its kin configure nothing: they call `basicConfig` by
    themselves where there is no handler. For processes of ours; who calls it by its name is heard.
    """
    found = logging.basicConfig

    def configure(**options: Any) -> None:
        if sys._getframe(1).f_globals is not vars(logging):
            found(**options)

    logging.basicConfig = configure
    try:
        yield
    finally:
        if logging.basicConfig is configure:
            logging.basicConfig = found


def modules_imported() -> None:
    """Workflow modules were imported: they may have configured logging."""
    if _PASSAGE.display is not None:
        _PASSAGE.display.look()


def has_handlers(logger: logging.Logger) -> bool:
    """Whether a handler shows what this logger is given: not one that only exists (NullHandler)."""
    at: logging.Logger | None = logger
    while at is not None:
        if any(type(handler) is not logging.NullHandler for handler in at.handlers):
            return True
        at = at.parent if at.propagate else None
    return False
