"""belugawf with one rule broken: what the simulator must find.

A mutant changes the source of a method or two at one place, and names the words of the checks that
may catch it. Where the source does not hold that place any more, the mutant has to be mended.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

from belugawf.host.launcher import AttemptLauncher
from belugawf.local.drive.attempts import AttemptQueue
from belugawf.local.drive.cache import ReplayCache
from belugawf.local.drive.demand import Demand
from belugawf.local.drive.polling import Poller
from belugawf.local.drive.processing import TurnProcessor
from belugawf.local.drive.table import RunTable
from belugawf.local.drive.turns import TurnBuilder
from belugawf.local.file.database import Database
from belugawf.local.store import retries
from belugawf.local.store.appending import Appending, Known
from belugawf.local.store.store import Store
from tests.simulation.world import Faults


@dataclass(frozen=True)
class Change:
    """`new` in place of `old` in that method, or in that function as a module knows it."""

    owner: type | ModuleType
    method: str
    old: str
    new: str

    def applied(self) -> Any:
        """A context manager while which it is made."""
        function = getattr(self.owner, self.method)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) == 1, f"{self.method} has changed"
        names: dict[str, Any] = {}
        code = "from __future__ import annotations\n" + source.replace(self.old, self.new)
        exec(code, function.__globals__, names)
        return mock.patch.object(self.owner, self.method, names[self.method])


class Mutant:
    """`rule` is what is broken by the changes. `faults`: those that it takes, where it is rare."""

    def __init__(
        self, rule: str, caught_by: str, *changes: Change, faults: Faults | None = None
    ) -> None:
        self.rule = rule
        self.caught_by = caught_by
        self.faults = faults
        self._changes = changes

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While this lasts the rule is broken."""
        with ExitStack() as stack:
            for change in self._changes:
                stack.enter_context(change.applied())
            yield


MUTANTS = (
    Mutant(
        "effects come after their commit",
        "began before it was on record",
        Change(
            TurnProcessor,
            "commit",
            "births, starts = self._bear(now) if self._starts else ([], [])\n",
            "births, starts = self._bear(now) if self._starts else ([], [])\n"
            "    for turn in turns:\n"
            "        for x in turn.events:\n"
            "            if isinstance(x, e.ActivityScheduled):\n"
            "                turn.owned.open(x.seq)\n"
            "        self._table.queue.queue(turn.owned, turn.now)\n"
            "    self._table.queue.start(self._clock.now())\n"
            "    import asyncio\n"
            "    await asyncio.get_running_loop().run_in_executor(None, lambda: None)\n",
        ),
    ),
    Mutant(
        "a message leaves the inbox in the transaction that records it",
        "is gone unrecorded",
        Change(
            Store,
            "read_inbox",
            "return self._inbox(db, runs), self.clock.now()\n    with",
            "messages = self._inbox(db, runs)\n"
            "    if not locked:\n"
            "        def consume():\n"
            "            with self.database.write() as db:\n"
            "                for message in messages:\n"
            '                    db.execute("DELETE FROM inbox WHERE id = ?", (message.id,))\n'
            "        try:\n"
            "            self.database.without_blocking(consume)\n"
            "        except Exception:\n"
            "            pass\n"
            "        return messages, self.clock.now()\n"
            "    with",
        ),
    ),
    Mutant(
        "only the owner drives a run, and appends to it",
        "appended to|and the run is|while it was running",
        Change(ReplayCache, "load", "not run.is_had(row, owner)", "False"),
        Change(Appending, "_judge", "found is None or found[0] != owner", "found is None"),
        faults=Faults(commit_unknown=0.3, preempted=0.3, stalled=0.3),
    ),
    Mutant(
        "the commands of a fact come before the next fact",
        "cannot be replayed",
        Change(
            TurnBuilder,
            "_apply",
            "self._record(self._replayer.apply(fact))",
            "self._owed = [*getattr(self, '_owed', ()), *self._replayer.apply(fact)]\n"
            "    heap = self._pending._heap\n"
            "    if not heap or not isinstance(heap[0][4], Message):\n"
            "        owed, self._owed = self._owed, []\n"
            "        self._record(owed)",
        ),
    ),
    Mutant(
        "a fenced run is dropped",
        "began before it was on record|without its AttemptStarted|and the run is|ran again|"
        "is not what counts",
        Change(
            TurnProcessor,
            "_settle",
            "self._table.retire(turn.owned, Exit.LOST)",
            "self._act(turn)",
        ),
    ),
    Mutant(
        "memory is never ahead of the disk",
        "is gone unrecorded|ends nothing that is open|cannot be replayed|a bug in belugawf|"
        "does not end|AssertionError",
        Change(RunTable, "set_back", "self.cache.evict(run)", "pass"),
    ),
    Mutant(
        "no run is let go with a message unread",
        "left a message unread",
        Change(Appending, "_judge", "elif turn.release and not newer:", "elif turn.release:"),
        faults=Faults(held=0.3, preempted=0.2),
    ),
    Mutant(
        "no run ends over a message unread",
        "is gone unrecorded",
        Change(Appending, "_judge", "AppendOutcome.OVERTAKEN if newer", "None if False"),
    ),
    Mutant(
        "no run is taken from an owner who lives",
        "who lives",
        Change(Demand, "is_free", "return row.owner is None or ours or", "return True or ours or"),
    ),
    Mutant(
        "no message is stamped earlier than the one before",
        "sent earlier",
        Change(
            Store,
            "_stamp",
            "max(self.clock.now() // MICROSECOND_NS, last or 0)",
            "self.clock.now() // MICROSECOND_NS",
        ),
    ),
    Mutant(
        "what is known of a run is forgotten when somebody else has committed",
        "is gone unrecorded",
        Change(Known, "at", "self._lengths = {}", "pass"),
    ),
    Mutant(
        "a turn without events is checked too",
        "left a message unread|contradicts itself",
        Change(
            Appending,
            "_judge",
            "turn.read_to or not turn.events or self._known",
            "turn.events and self._known",
        ),
    ),
    Mutant(
        "a key is delivered once",
        "delivered twice",
        Change(
            Store,
            "deliver",
            "if key is not None:\n        db.execute(",
            "if key is None:\n        db.execute(",
        ),
    ),
    Mutant(
        "messages and due timers are read under the lock",
        "came in time",
        Change(
            TurnProcessor,
            "_read_messages",
            "locked=True",
            "locked=False",
        ),
        faults=Faults(held=0.3, preempted=0.1),
    ),
    Mutant(
        "AttemptStarted is on record before a retry begins",
        "without its AttemptStarted",
        Change(AttemptQueue, "start", "activity.attempt > 1 or activity", "activity"),
    ),
    Mutant(
        "what may run once is noted before it begins",
        "without its AttemptStarted",
        Change(AttemptQueue, "start", " or activity.scheduled.at_most_once", ""),
    ),
    Mutant(
        "what may run once does not begin again after a crash",
        "runs at most once, and began again",
        Change(
            TurnBuilder, "_note_interruptions", "if activity.options.at_most_once:", "if False:"
        ),
    ),
    Mutant(
        "an outcome that is used counts once",
        "began|ended with|a bug in belugawf|failed at attempts|does not end|ran again",
        Change(TurnProcessor, "_act", "self._table.queue.close(slot)", "pass"),
    ),
    Mutant(
        "a claim whose commit seemed to fail is not forgotten",
        "does not end",
        Change(
            Poller,
            "_take_over",
            "    claimed = await self._writer.write(\n"
            "        lambda: self._store.claim(owners, self._presence.id), size=len(rows)\n"
            "    )\n",
            "    try:\n"
            "        claimed = await self._writer.write(\n"
            "            lambda: self._store.claim(owners, self._presence.id), size=len(rows)\n"
            "        )\n"
            "    except BaseException:\n"
            "        for key in owners:\n"
            "            table.retire(table.runs[key], Exit.LOST)\n"
            "        raise\n",
        ),
        Change(
            Demand, "is_free", "return row.owner is None or ours or", "return row.owner is None or"
        ),
    ),
    Mutant(
        "a turn that claims its run writes that it is ours",
        "began, and the run is",
        Change(Appending, "_write", "if claimed:", "if claimed and False:"),
    ),
    Mutant(
        "a run that is born acts after its commit",
        "began|ended with|for a run that is gone|AssertionError",
        Change(
            TurnProcessor,
            "commit",
            "    written = [",
            "    for _, turn in births:\n"
            "        for event in turn.events:\n"
            "            if isinstance(event, _STARTABLE):\n"
            "                turn.owned.open(event.seq)\n"
            "        self._table.queue.queue(turn.owned, turn.now)\n"
            "    self._table.queue.start(now)\n"
            "    written = [",
        ),
        faults=Faults(commit_fails=0.2, contended=0.2),
    ),
    Mutant(
        "what is decided is undone if its run is not born",
        "is lost|RunNotFoundError",
        Change(TurnProcessor, "_settle_birth", "if turn.outcome not in WRITTEN:", "if False:"),
    ),
    Mutant(
        "a run that is born and does not rest is ours",
        "began, and the run is",
        Change(Appending, "_bear", "None if rests else self._owner))", "None))"),
    ),
    Mutant(
        "what has ended is kept when its turn is refused",
        "had completed|had ended|began after",
        Change(RunTable, "refuse", "keep=kept, ends=ends,", "keep=kept,"),
    ),
    Mutant(
        "a refusal lets what is at work end",
        "was stopped because its run was refused",
        Change(
            RunTable,
            "refuse",
            "kept = {run.key",
            "for run in runs:\n        self._attempts.cut(run.key)\n    kept = {run.key",
        ),
    ),
    Mutant(
        "a refusal does not outlive its reason",
        "does not end",
        Change(RunTable, "still_refused", "length != self.refused[key].length", "False"),
    ),
    Mutant(
        "a run retires by its own row of the table",
        "nobody owns the closed run|is nobody's",
        Change(Poller, "poll", "Exit.LOST", "Exit.RELEASED"),
    ),
    Mutant(
        "nothing is in flight for a run that is gone",
        "in flight for a run that is gone",
        Change(RunTable, "retire", "self._attempts.cancel_run(run.key)", "pass"),
    ),
    Mutant(
        "nothing that an activity raises passes the border",
        "came out of its event loop|ended with",
        Change(
            AttemptLauncher,
            "_on_loop",
            "if is_interrupt(error):",
            "if isinstance(error, SystemExit):",
        ),
    ),
    Mutant(
        "a signal counts again when its run is taken up again",
        "is dropped",
        Change(retries, "plan", "signals.append(event)", "pass"),
    ),
    Mutant(
        "so does the end of an activity that was open",
        "the end of activity .* is dropped",
        Change(
            retries,
            "plan",
            "{seq: _outcome(event, run) for seq, event in completed.items()}",
            "dict[int, Outcome]()",
        ),
    ),
    Mutant(
        "numbers of attempts go on when their run is taken up again",
        "is to begin, after",
        Change(retries, "plan", "else number + 1", "else number"),
    ),
    Mutant(
        "what may run once and has begun is over when its run is taken up again",
        "runs at most once, and began again",
        Change(retries, "plan", "begun.intersection(work.once)", "set(ends)"),
    ),
    Mutant(
        "what was left out has no end in the inbox",
        "is kept, which is not open",
        Change(
            retries,
            "_write",
            "db.execute(\"DELETE FROM inbox WHERE run = ? AND kind = 'attempt'\", (run,))",
            "pass",
        ),
    ),
    Mutant(
        "no state is used across a retry",
        "is not what counts|ends nothing that is open|cannot be replayed|does not end",
        Change(
            ReplayCache,
            "_from_cache",
            "if state is not None and state.length != row.history_length:",
            "last = self._store.latest_events(row.key, 1)\n"
            "    if state is not None and isinstance(last[0], e.RunReopened):\n"
            "        state.length = row.history_length\n"
            "    if state is not None and state.length != row.history_length:",
        ),
    ),
    Mutant(
        "nothing waits for the lock on the event loop",
        "waits for the write lock on its event loop",
        Change(Database, "without_blocking", "blocking = False", "blocking = True"),
    ),
)
