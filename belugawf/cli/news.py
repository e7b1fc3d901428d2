"""What a worker tells people while it works: runs that cannot move on, questions to a person, and
modules that were edited after it had read them.

Each once. It is read from outside, as the views of other commands are.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from belugawf.cli import sentences
from belugawf.cli.render import escape
from belugawf.cli.streams import STREAMS
from belugawf.host.loops import hidden_task
from belugawf.model.errors import BelugaError

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import DurableExecutor, OpenWait

# A server is asked less often than a file.
_EVERY_S = {"default": 2.0}
_SELDOM_S = 30.0
# A wait is on disk so long after it began, at most: each look goes back beyond the last one by
# that. Beside a busy worker a look must not take long, so it has a limit too.
_LATE_S = 10.0
_MOST = 1_000
# More waits than that at once are counted.
_SHOWN = 5
# `attention` has so many at most; runs with a problem beyond that are counted, up to that many.
_NAMED = 20
_COUNTED = 100_000


@asynccontextmanager
async def telling(session: Session, executor: DurableExecutor) -> AsyncIterator[None]:
    """Tell of the runs while the body drives them; nothing under --quiet and --json."""
    if session.quiet:
        yield
        return
    every = _EVERY_S.get(session.settings.provider, _SELDOM_S)
    news = _News(session, executor, every + _LATE_S)
    files = _Files(session)
    stop = asyncio.Event()
    task = hidden_task(asyncio.get_running_loop(), _tell_until(news, files, stop, every))
    try:
        yield
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await task


async def _tell_until(news: _News, files: _Files, stop: asyncio.Event, every: float) -> None:
    while not stop.is_set():
        files.tell()
        # If the disk or the server does not answer, the worker itself says so.
        with suppress(BelugaError):
            await news.tell()
        with suppress(TimeoutError):
            async with asyncio.timeout(every):
                await stop.wait()


class _News:
    """What has been told already. Waits that began `recent_s` ago may be news."""

    def __init__(self, session: Session, executor: DurableExecutor, recent_s: float) -> None:
        self._session = session
        self._executor = executor
        self._recent_s = recent_s
        self._waits: set[tuple[str, str, int]] | None = None
        self._problems: set[tuple[str, str]] = set()
        self._counted = 0

    async def tell(self) -> None:
        """Tell what is new."""
        attention = await self._executor.attention()
        now: set[tuple[str, str]] = {
            (info.run_id, sentences.problem_line(info)) for info in attention
        }
        for _, line in sorted(now - self._problems):
            STREAMS.say(f"warning: {line}")
        self._problems = now
        if len(attention) >= _NAMED:
            await self._count_problems()
        found = await self._executor.waiting(since=self._recent_s, limit=_MOST)
        new = [wait for wait in found if self._waits is not None and _key(wait) not in self._waits]
        more = max(0, len(new) - _SHOWN)
        if self._waits is None:
            more = (await self._executor.summary()).waits_total
        self._waits = {_key(wait) for wait in found}
        counts = await sentences.awaited_by(self._executor, [wait.signal for wait in new[:_SHOWN]])
        for wait in new[:_SHOWN]:
            sentences.say_open_wait(self._session, wait, counts)
        if more:
            what = "1 question is" if more == 1 else f"{more:,} questions are"
            self._session.say(f"{what} open: {escape(self._session.command('waiting'))}")

    async def _count_problems(self) -> None:
        """Tell how many there are if there are more than can be named; again when they double."""
        parked = await self._executor.count(state="parked", limit=_COUNTED)
        if parked > _NAMED and parked >= 2 * self._counted:
            self._counted = parked
            STREAMS.say(f"warning: {sentences.parked_runs(self._session, parked)}")


class _Files:
    """The files of the modules that this process has imported from the folder, as it met them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._folder = f"{session.settings.workflows.resolve()}/"
        self._met: dict[str, tuple[int, int] | None] = {}
        self.tell()

    def tell(self) -> None:
        """Tell which have changed, each once; a file that is gone may come back."""
        for module in list(sys.modules.values()):
            # Anything may stand there, and what it is asked for is the user's code.
            file = module.__dict__.get("__file__") if type(module) is ModuleType else None
            if isinstance(file, str) and file.startswith(self._folder):
                self._met.setdefault(file, _stamp(file))
        for file, met in list(self._met.items()):
            now = _stamp(file)
            if met is not None and now is not None and now != met:
                self._met[file] = None  # it is told
                STREAMS.say(
                    f"warning: {escape(file)} has changed since this worker read it; to use it, "
                    f"restart the worker: {escape(self._session.command('worker'))}"
                )


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _key(wait: OpenWait) -> tuple[str, str, int]:
    return wait.run_id, wait.signal, wait.since
