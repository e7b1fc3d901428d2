"""belugawf with one rule broken: what the simulator must find.

A mutant is a method whose source is changed at one place, and the words of the checks that may
catch it. Where the source does not hold that place any more, the mutant has to be mended.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from belugawf.local.claiming import Claims
from belugawf.local.engine import Engine
from belugawf.local.starting import Starter
from belugawf.local.store import Store
from belugawf.local.turns import TurnMaker


@dataclass(frozen=True)
class Mutant:
    """`rule` is what is broken, in `method` of `owner`: `new` in place of `old`."""

    rule: str
    owner: type
    method: str
    old: str
    new: str
    caught_by: str

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While this lasts the rule is broken."""
        original = getattr(self.owner, self.method)
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.old) == 1, f"{self.rule}: the source has changed"
        names: dict[str, Any] = {}
        code = "from __future__ import annotations\n" + source.replace(self.old, self.new)
        exec(code, sys.modules[self.owner.__module__].__dict__, names)
        with mock.patch.object(self.owner, self.method, names[self.method]):
            yield


MUTANTS = (
    Mutant(
        "effects come after their commit",
        Engine,
        "_commit",
        "starts, self._starts = self._starts, []\n",
        "starts, self._starts = self._starts, []\n"
        "    for m, turn in pairs:\n"
        "        m.run.unstarted.update(\n"
        "            (x.seq, None) for x in m.events if isinstance(x, e.ActivityScheduled)\n"
        "        )\n"
        "        self._starter.queue(m.run, m.now)\n"
        "    self._starter.start(self._runs)\n"
        "    await asyncio.sleep(0)\n",
        "began before it was on record",
    ),
    Mutant(
        "a message leaves the inbox in the transaction that records it",
        Store,
        "read_inbox",
        "return self._inbox(db, runs), self.clock.now()\n    with",
        "messages = self._inbox(db, runs)\n"
        "    if not locked:\n"
        "        with self.database.write() as db:\n"
        "            for message in messages:\n"
        '                db.execute("DELETE FROM inbox WHERE id = ?", (message.id,))\n'
        "        return messages, self.clock.now()\n"
        "    with",
        "is gone unrecorded",
    ),
    Mutant(
        "only the owner appends",
        Store,
        "_append",
        "found is None or found[0] != owner",
        "found is None",
        "appended to",
    ),
    Mutant(
        "the commands of a fact come before the next fact",
        TurnMaker,
        "_apply",
        "self._record(self._replayer.apply(fact))",
        "self._owed = [*getattr(self, '_owed', ()), *self._replayer.apply(fact)]\n"
        "    if not self._heap or not isinstance(self._heap[0][4], Message):\n"
        "        owed, self._owed = self._owed, []\n"
        "        self._record(owed)",
        "cannot be replayed",
    ),
    Mutant(
        "a fenced run is dropped",
        Engine,
        "_settle",
        "self._drop(run)",
        "self._act(made, turn, released=False)",
        "began before it was on record|began, and the run is",
    ),
    Mutant(
        "memory is never ahead of the disk",
        Engine,
        "_forget_turn",
        "self._memory.evict(run)",
        "pass",
        "cannot be replayed|a bug in belugawf",
    ),
    Mutant(
        "no run is let go with a message unread",
        Store,
        "_append",
        "if turn.release and not newer:",
        "if turn.release:",
        "left a message unread",
    ),
    Mutant(
        "no run ends over a message unread",
        Store,
        "_append",
        "if turn.closes and newer:",
        "if False:",
        "is gone unrecorded",
    ),
    Mutant(
        "no run is taken from an owner who lives",
        Claims,
        "_is_free",
        "return row.owner is None or ours or",
        "return True or ours or",
        "who lives",
    ),
    Mutant(
        "no message is stamped earlier than the one before",
        Store,
        "_stamp",
        'max(format_instant(self.clock.now()), last or "")',
        "format_instant(self.clock.now())",
        "sent earlier",
    ),
    Mutant(
        "a key is delivered once",
        Store,
        "send",
        "if key is not None:\n            db.execute(",
        "if key is None:\n            db.execute(",
        "delivered twice",
    ),
    Mutant(
        "messages and due timers are read under the lock",
        Engine,
        "_read_messages",
        "locked=True",
        "locked=False",
        "came in time",
    ),
    Mutant(
        "AttemptStarted is on record before a retry begins",
        Starter,
        "start",
        "alone or activity.attempt > 1 or",
        "alone or",
        "without its AttemptStarted",
    ),
    Mutant(
        "what may run once is noted before it begins",
        Starter,
        "start",
        " or activity.options.at_most_once",
        "",
        "without its AttemptStarted",
    ),
    Mutant(
        "an outcome that is used counts once",
        Engine,
        "_use_up",
        "run.outcomes = made.unused(run.outcomes)",
        "pass",
        "began|ended with|a bug in belugawf|failed at attempts|does not end",
    ),
    Mutant(
        "a claim whose commit seemed to fail is found again",
        Claims,
        "_is_free",
        "return row.owner is None or ours or",
        "return row.owner is None or",
        "does not end",
    ),
)
