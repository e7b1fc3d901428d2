"""The states of runs: replayed from their histories, and cached while they rest.

A run that rests is let go in the database at once, so that any process may take it. Its replayed
state is cached, and used again only if the history is exactly as long as it was. The cache has a
bound: the run that has rested longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context
from functools import partial

from belugawf.authoring.loader import Catalog
from belugawf.executor.options import EngineOptions
from belugawf.host.border import Border
from belugawf.local.drive.problems import unknown_activity
from belugawf.local.drive.run import OwnedRun, RunState
from belugawf.local.store.rows import RunRow
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.errors import BelugaError, DamagedError
from belugawf.model.history import OpenWork, is_fact
from belugawf.replay.replayer import Replayer

# With the states of so many driven runs in memory, 20 KB each, that of a further one is dropped
# after its turn. Attempts start in order, so those that came first are needed again first.
MOST_REPLAYED = 2_000
# Events that are read at one time, at most.
_PIECE = 1_000


class ReplayCache:
    """The replayers of one engine. Their code is reached through its `border` only.

    Runs begin in a copy of `context`; by default that is an empty one.
    """

    def __init__(
        self,
        store: Store,
        catalog: Callable[[], Catalog],
        options: EngineOptions,
        context: Context | None = None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._options = options
        self.border = Border(context)
        self._cached: OrderedDict[int, RunState] = OrderedDict()
        self._held = 0

    def load(self, run: OwnedRun, owner: str) -> bool:
        """Get a run's state back from its history, or from the cache; whether `owner` has it.

        The history is read and replayed piece by piece: the whole is never in memory.
        Raises `TurnError` if the code does not fit the history, or cannot be had.
        """
        row = self._store.by_key(run.key)
        if not run.is_had(row, owner):
            return False
        try:
            state = self._from_cache(row) or self._from_history(row)
        except Exception:
            if self._store.by_key(run.key).history_length != row.history_length:
                return False  # it was nobody's, and was moved on or taken up again meanwhile
            raise
        self._held += 1
        run.read(row, state)
        self.check_functions(run, state.work.activities)
        return True

    def has(self, row: RunRow) -> bool:
        """Whether the run's state is cached, and nothing has happened to it meanwhile."""
        state = self._cached.get(row.key)
        return state is not None and state.length == row.history_length

    def _from_cache(self, row: RunRow) -> RunState | None:
        """The run's state, if it was cached, and nothing has happened to it meanwhile."""
        state = self._cached.pop(row.key, None)
        if state is not None and state.length != row.history_length:
            self.border.evict(state.replayer)
            return None
        return state

    def _from_history(self, row: RunRow) -> RunState:
        replayer: Replayer | None = None
        work = OpenWork()
        last: e.Event | None = None
        try:
            for piece in pieces(self._store, row.key, row.history_length):
                for last in piece:
                    work.fold(last)
                if replayer is None:
                    replayer = self._new(row, piece[0])
                if row.begun:
                    # Only replay is watched: a slow disk is not the workflow's fault.
                    self.border.turn(replayer, partial(replayer.replay, piece))
            assert replayer is not None
            assert last is not None
        except BaseException as error:
            if replayer is not None:
                self.border.evict(replayer)
            if not isinstance(error, DamagedError):
                self._store.sound_history(row.key)  # before the code is blamed, or we are
            raise
        return RunState(replayer, work, row.history_length, last.time, row.due_at, bool(row.begun))

    def begin(self, run: OwnedRun, started: e.WorkflowStarted, length: int = 1) -> None:
        """A run that was just created has no more history than that; its code runs later.

        `length` is 0 if that is not on disk yet. A workflow that cannot be had is said by `load`,
        at the first turn.
        """
        state: RunState | None = None
        with suppress(BelugaError):
            replayer = self._new(run.row, started)
            state = RunState(replayer, OpenWork(), length, started.time, started.time, False)
            self._held += 1
        run.born(state)

    def _new(self, row: RunRow, started: e.Event) -> Replayer:
        assert isinstance(started, e.WorkflowStarted)
        return Replayer(
            self._catalog().workflow(row.workflow),
            started,
            defaults=self._options.defaults,
            payload_limit=self._options.payload_limit,
            context=self.border.new_context(),
        )

    def check_functions(self, run: OwnedRun, scheduled: Iterable[int]) -> None:
        """Activities that were named by a text are looked up before anything is written.

        Raises `UnknownActivityError`, and what the catalog says of names that two modules use.
        """
        assert run.state is not None
        functions = run.state.replayer.functions
        for seq in scheduled:
            activity = run.state.work.activities.get(seq)
            if activity is None:
                continue
            name = activity.scheduled.name
            self._catalog().check_activity(name)
            if seq in functions:
                continue
            function = self._catalog().activity(name)
            if function is None:
                raise unknown_activity(run.row, name)
            functions[seq] = function

    def evict(self, run: OwnedRun) -> None:
        """Forget the run's state: it is read again when it is needed."""
        state = run.take_state()
        if state is not None:
            self._held -= 1
            self.border.evict(state.replayer)

    def trim(self, run: OwnedRun) -> None:
        """A turn of the run is on disk: its state is kept for the next one, if there is room.

        With `cache_runs: 0` it never is.
        """
        if self._options.cache_runs == 0 or self._held > MOST_REPLAYED:
            self.evict(run)

    def keep(self, run: OwnedRun) -> None:
        """The run was let go: keep its state for when it moves again."""
        if self._options.cache_runs == 0:
            self.evict(run)
            return
        state = run.take_state()
        if state is None:
            return
        self._held -= 1
        self._cached[run.key] = state
        while len(self._cached) > self._options.cache_runs:
            self.border.evict(self._cached.popitem(last=False)[1].replayer)

    def clear(self, runs: Iterable[OwnedRun]) -> None:
        """Unwind whatever is in memory."""
        for run in runs:
            self.evict(run)
        while self._cached:
            self.border.evict(self._cached.popitem()[1].replayer)

    def close(self) -> None:
        """Nothing is watched any more."""
        self.border.close()


def pieces(store: Store, run: int, length: int) -> Iterator[list[e.Event]]:
    """The run's first `length` events, read when they are asked for.

    What does not count of them any more is left out. Each piece begins with a fact and ends before
    another, so that replay takes them one by one. A history only grows: read in one go or in many,
    these events are the same.
    """
    read: list[e.Event] = []
    position = 0
    while position < length:
        more = store.counting_history(run, position, min(_PIECE, length - position))
        while more and more[-1].position > length:
            more.pop()
        if not more:
            raise ValueError("the history is shorter than its run says")
        read += more
        position = more[-1].position
        facts = (i for i in range(len(read) - 1, 0, -1) if is_fact(read[i]))
        cut = len(read) if position >= length else next(facts, 0)
        if cut:
            yield read[:cut]
            del read[:cut]
