"""What an engine's runs report, on its way into the database: heartbeats, and what they log.

Lines go along with turns that are committed anyway, at most four times a second; if there are none,
in a transaction of their own once a second. After one that has failed, turns go without for a
while: a full disk has room for them first. In the end lines may be lost, and no turn is.
"""

from __future__ import annotations

import logging

from belugawf.executor.options import EngineOptions
from belugawf.host.attempts import AttemptRunner
from belugawf.host.border import log
from belugawf.host.logs import Line, LineBuffer, enter_passage, leave_passage
from belugawf.local.file.writer import Writer
from belugawf.local.store.loglines import NewLines
from belugawf.local.store.store import Store
from belugawf.model.durations import duration_ns, parse_duration, to_micros
from belugawf.model.errors import BusyError, UnavailableError

# So many take as long to write as what else a transaction has for one run.
_LINES_A_ROW = 100


class Reports:
    """Those of one engine's runs. `lines` has the lines that wait, `None` if none are kept."""

    def __init__(self, store: Store, writer: Writer, options: EngineOptions) -> None:
        self._store = store
        self._writer = writer
        self._keep = options.keep_logs
        age = options.keep_logs_for
        self._keep_ns = None if age is None else duration_ns(parse_duration(age))
        self.lines = LineBuffer() if self._keep else None
        self.waiting = () if self.lines is None else self.lines.waiting

    async def save_heartbeats(self, attempts: AttemptRunner) -> None:
        """Store what they have reported since the last time. Raises what the disk says."""
        beats = attempts.take_heartbeats()
        if not beats:
            return
        try:
            await self._writer.write(lambda: self._store.save_heartbeats(beats))
        except BaseException:
            attempts.put_back_heartbeats(beats)
            raise

    def open(self) -> None:
        """From now on what runs log comes here."""
        enter_passage()

    def close(self) -> None:
        """Nothing is driven here any more."""
        leave_passage()

    def take(self, now: int) -> NewLines | None:
        """What is to be stored with the turns that are committed now."""
        return self._new(self.lines.take(now), now) if self.lines is not None else None

    def put_back(self, new: NewLines | None, now: int) -> None:
        """The transaction with these has failed."""
        if new is not None and self.lines is not None:
            self.lines.put_back(new.lines, now)

    async def save_late(self, now: int) -> None:
        """Store what has waited for turns for too long. Raises nothing of the disk's."""
        if self.waiting and self.lines is not None and self.lines.is_late(now):
            await self._save(self.take(now), now)

    async def flush(self) -> None:
        """Store what is left. Raises nothing of the disk's."""
        now = self._store.clock.now()
        while self.waiting and self.lines is not None:
            if not await self._save(self._new(self.lines.take_all(), now), now):
                log(logging.WARNING, "%d lines that runs have logged are lost", len(self.waiting))
                return

    async def _save(self, new: NewLines | None, now: int) -> bool:
        if new is None:
            return True
        try:
            await self._writer.write(
                lambda: self._store.keep_lines(new), size=len(new.lines) // _LINES_A_ROW
            )
        except (BusyError, UnavailableError):
            self.put_back(new, now)
            return False
        except Exception as error:
            log(logging.ERROR, "a bug in belugawf: what runs have logged is lost", error=error)
        return True

    def _new(self, lines: list[Line], now: int) -> NewLines | None:
        since = None if self._keep_ns is None else to_micros(max(0, now - self._keep_ns))
        return NewLines(lines, self._keep, since) if lines else None
