"""belugawf with one rule broken, in the processes that are killed: what must be found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from belugawf.host import children
from belugawf.local.drive.presence import Presence
from belugawf.local.drive.processing import TurnProcessor
from belugawf.local.drive.turns import OwnedTurn
from belugawf.local.store.rows import Message
from belugawf.local.store.store import Store
from belugawf.model import events as e


def effects_before_commit() -> None:
    """Attempts begin before ActivityScheduled is on record."""
    commit = TurnProcessor.commit

    async def early(self: TurnProcessor, turns: Sequence[OwnedTurn], *more: Any) -> None:
        queue = self._table.queue
        for turn in turns:
            scheduled = [x.seq for x in turn.events if isinstance(x, e.ActivityScheduled)]
            for seq in scheduled:
                turn.owned.open(seq)
            queue.queue(turn.owned, turn.now)
        queue.start(self._clock.now())
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        await commit(self, turns, *more)

    TurnProcessor.commit = early  # type: ignore[method-assign]


def nobody_lives() -> None:
    """Runs are taken over from owners who are alive."""
    Presence.is_alive = lambda self, owner_id: owner_id == self.id  # type: ignore[method-assign]


def messages_read_are_gone() -> None:
    """A message leaves the inbox when it is read, and not with the turn that records it."""
    read_inbox = Store.read_inbox

    def read(self: Store, runs: Sequence[int], *, locked: bool) -> tuple[list[Message], int]:
        messages, now = read_inbox(self, runs, locked=locked)
        if messages:
            with self.database.write() as db:
                gone = [(message.id,) for message in messages]
                db.executemany("DELETE FROM inbox WHERE id = ?", gone)
        return messages, now

    Store.read_inbox = read  # type: ignore[method-assign]


def lock_in_the_activity() -> None:
    """The activity's process inherits the owner's lock, and nobody ends what it leaves."""
    children._REAPER = children._REAPER.replace(
        "from belugawf.host.reaper import main; ",
        "from belugawf.host import reaper; main, be = reaper.main, reaper._be_the_activity; "
        "reaper._be_the_activity = lambda pid, keep: be(pid, ()); "
        "reaper._end_all = lambda *_: 0; ",
    )


# By name, with what is said of it.
MUTANTS: dict[str, Callable[[], None]] = {
    "effects-before-commit": effects_before_commit,
    "nobody-lives": nobody_lives,
    "messages-read-are-gone": messages_read_are_gone,
    "lock-in-the-activity": lock_in_the_activity,
}
