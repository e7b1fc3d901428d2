"""The runs that this process owns, and the one function by which they leave.

A run that is *refused* (its turn cannot be taken) gets its problem at once. What is in flight for
it ends, and each end is kept in its inbox: the first ones together with the problem. It is let go
when nothing is at work for it, so that whoever takes it up next starts nothing beside it, and
nothing anew. A refusal counts as long as the history has not grown, and nobody asks for the run.

A run that *ended* stays ours while a thread works for it that cannot be stopped.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from belugawf.host.attempts import AttemptRunner
from belugawf.local.drive.attempts import AttemptQueue
from belugawf.local.drive.cache import ReplayCache
from belugawf.local.drive.demand import Demand
from belugawf.local.drive.problems import Refused, problem_of
from belugawf.local.drive.run import EXITS, NOT_STARTED, Exit, OwnedRun, Phase, SlotPhase
from belugawf.local.file.writer import Writer
from belugawf.local.store.rows import RunRow
from belugawf.local.store.store import Store
from belugawf.model.errors import BelugaError
from belugawf.model.values import frozen

# With more moments than that, those of runs that are gone are forgotten.
_MANY_MOMENTS = 1_000


class ReadyQueue:
    """Which of `runs` may have something to do now, and when the others may.

    A tick looks at these only: what a worker holds costs nothing while nothing happens to it.
    """

    def __init__(self, runs: Mapping[int, OwnedRun]) -> None:
        self._runs = runs
        self._marked: dict[int, None] = {}
        self._moments: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._marked)

    def mark(self, run: OwnedRun) -> None:
        """Something may have happened to that run: the next tick sees whether it is ready."""
        self._marked[run.key] = None

    def schedule(self, run: OwnedRun) -> None:
        """Mark the run when it is due next; a moment that is too early does no harm."""
        at = run.next_at
        if at is not None and (run.wake_at is None or at < run.wake_at):
            run.wake(at)
            heapq.heappush(self._moments, (at, run.key))
            if len(self._moments) > _MANY_MOMENTS and len(self._moments) > 4 * len(self._runs):
                self._forget_moments()

    def _forget_moments(self) -> None:
        """Forget those of runs that are gone: a deadline may be months away."""
        self._moments = [
            (at, key)
            for at, key in self._moments
            if (run := self._runs.get(key)) is not None and run.wake_at == at
        ]
        heapq.heapify(self._moments)

    def next_moment(self) -> int | None:
        """When the next run may be due, in nanoseconds since 1970."""
        return self._moments[0][0] if self._moments else None

    def take(self, now: int) -> list[OwnedRun]:
        """The runs to which something has happened, or falls due by `now`."""
        while self._moments and self._moments[0][0] <= now:
            at, key = heapq.heappop(self._moments)
            run = self._runs.get(key)
            if run is not None and run.wake_at == at:
                run.wake(None)
                self._marked[key] = None
        marked, self._marked = self._marked, {}
        ready = []
        for key in marked:
            run = self._runs.get(key)
            if run is None:
                continue
            if run.is_ready(now):
                ready.append(run)
            else:
                self.schedule(run)
        return ready


# What a run is to a process. "driven": it is driven, or is about to be. "resting": it is ours, and
# only something that cannot be stopped keeps it from being let go. "asked for": it is driven when
# it can move.
Standing: TypeAlias = Literal["driven", "resting", "asked for"]


@frozen()
class Refusal:
    """Why a run cannot be moved on here, for as long as its history has `length` events.

    `is_news`: this process was the first to see it.
    """

    reason: BelugaError
    length: int
    is_news: bool


class RunTable:
    """The runs of one engine. `left` is told of each that is not driven any more.

    Its exit is `None` if it is LEAVING: it is ours until what is at work for it has ended. With the
    exit comes when it can move again, as far as is known.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        owner: str,
        runs: dict[int, OwnedRun],
        *,
        ready: ReadyQueue,
        queue: AttemptQueue,
        attempts: AttemptRunner,
        cache: ReplayCache,
        demand: Demand,
        left: Callable[[int, Exit | None, int | None], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._owner = owner
        self.runs = runs
        self.ready = ready
        self.queue = queue
        self._attempts = attempts
        self.cache = cache
        self._demand = demand
        self._left = left
        self.refused: dict[int, Refusal] = {}
        self.ended_at_work: set[int] = set()

    def add(
        self, row: RunRow, now: int, *, interrupted: str | None = None, claims: bool = False
    ) -> OwnedRun:
        """That run is about to be ours; `interrupted` says how its last owner ended.

        `claims`: it is nobody's, and its next turn claims it.
        """
        run = OwnedRun(
            row=row,
            claimed_at=now,
            idle_wait_ns=self._demand.idle_wait(row.key),
            interrupted=interrupted,
            claims=claims,
        )
        self.enter(run)
        self.ready.mark(run)
        return run

    def enter(self, run: OwnedRun) -> None:
        """That run is driven here."""
        self.runs[run.key] = run
        self._demand.note(run.key)

    def want(self, key: int, idle_wait_ns: int) -> None:
        """Somebody asks for that run: it is driven, or taken over if it can be had."""
        self.refused.pop(key, None)
        run = self.runs.get(key)
        if run is not None and run.want(idle_wait_ns):
            self.ready.mark(run)
        else:
            self._demand.see(key)

    def standing(self, key: int) -> Standing | None:
        """What that run is to this process; `None`: nothing."""
        run = self.runs.get(key)
        if self._demand.is_unseen(key) or (run is not None and not run.rests):
            return "driven"
        if run is not None:
            return "resting"
        return "asked for" if self._demand.follows(key) else None

    def extend_idle_wait(self, key: int, idle_wait_ns: int) -> None:
        """Sleep through longer waits of a run that is driven here."""
        self._demand.extend_idle_wait(key, idle_wait_ns)
        if key in self.runs:
            self.runs[key].extend_idle_wait(idle_wait_ns)

    def set_back(self, run: OwnedRun, interrupted: str | None) -> None:
        """Its turn is not on disk: the run is read again; what has happened to it is kept."""
        run.doubt(interrupted)
        self.cache.evict(run)
        self.queue.close_all(run, (SlotPhase.WAITING, SlotPhase.QUEUED))
        self.ready.mark(run)

    # -- refusals --------------------------------------------------------------------------------

    def forget_refusals(self) -> None:
        """Somebody asks for all runs."""
        self.refused.clear()

    def still_refused(self, now: int) -> set[int]:
        """The runs that are refused; not those that somebody else has moved on since, nor those
        whose time is over: they are ended.
        """
        if self.refused:
            for key, length, deadline in self._store.lengths(self.refused):
                if length != self.refused[key].length or (deadline is not None and deadline <= now):
                    del self.refused[key]
        return set(self.refused)

    async def refuse(self, reasons: Refused) -> set[int]:
        """These runs cannot be moved on here; returns those whose problem is new."""
        if not reasons:
            return set()
        runs = [self.runs[key] for key in reasons if key in self.runs]
        for run in runs:
            run.begin_commit()
        kept = {run.key for run in runs if self.is_needed(run)}
        ended = [slot for run in runs for slot in run.by_phase[SlotPhase.ENDED].values()]
        ends = [slot.outcome for slot in ended if slot.outcome is not None]
        problems = {key: (problem_of(why), length) for key, (why, length) in reasons.items()}
        try:
            # Written first: a run that is still ours on disk must not be missing here.
            news = await self._writer.write(
                lambda: self._store.refuse(
                    problems, self._owner, keep=kept, ends=ends, is_free=self._demand.is_free
                ),
                size=len(reasons) + len(ends),
            )
        except BaseException:
            for run in runs:
                run.receive()
            raise
        for key, (reason, length) in reasons.items():
            before = self.refused.get(key)
            is_news = key in news or (before is not None and before.is_news)
            self.refused[key] = Refusal(reason, length, is_news)
            self._demand.note(key)
            self._left(key, None, None)
        for run in runs:
            run.stored(ended)
            self.queue.close_all(run, NOT_STARTED)
            self.cache.evict(run)
            asked = run.has_mail
            if run.key not in kept:
                self.retire(run, Exit.REFUSED)
            elif not asked:
                run.leave(reasons[run.key][0])
            if asked:
                self.want(run.key, run.idle_wait_ns)
        return news

    # -- leaving ---------------------------------------------------------------------------------

    async def leave(self, runs: Sequence[OwnedRun]) -> None:
        """These runs are not driven here any more: they are let go when nothing works for them."""
        if not runs:
            return
        for run in runs:
            if run.refused is None:
                self._attempts.cancel_run(run.key)
                self.queue.close_all(run, (SlotPhase.RUNNING,))
            self.queue.close_all(run, NOT_STARTED)
            run.leave(run.refused)
        free = [run for run in runs if not self.is_needed(run)]
        ended = [slot for run in runs for slot in run.by_phase[SlotPhase.ENDED].values()]
        ends = [slot.outcome for slot in ended if slot.outcome is not None]
        if not free and not ends:
            return
        # Until it is known that they are let go, they are still to be.
        for run in free:
            run.receive()
            self.ready.mark(run)
        keys = [run.key for run in free]
        await self._writer.write(
            lambda: self._store.abandon(keys, self._owner, ends), size=len(free) + len(ends)
        )
        for run in runs:
            run.stored(ended)
        for run in free:
            asked = run.phase is not Phase.LEAVING  # while this was written
            self.retire(run, Exit.LIMITED)
            if asked:
                self._demand.see(run.key)

    def retire(self, run: OwnedRun, exit: Exit, *, kept: bool = False) -> None:
        """That run is not driven here any more; `kept`: it is ours while a thread works for it."""
        rule = EXITS[exit]
        due_at = None if run.state is None else run.state.due_at
        self.runs.pop(run.key, None)
        run.move(Phase.GONE)
        self._attempts.cancel_run(run.key)
        if exit in (Exit.CLOSED, Exit.LOST):
            # If it is taken up again, another activity may stand in the same place.
            self._attempts.forget_heartbeats(run.key)
        self.queue.close_all(run)
        if rule.forgotten:
            self._demand.forget((run.key,))
        if rule.cached:
            self.cache.keep(run)
        else:
            self.cache.evict(run)
        if rule.frees or kept:
            self.ended_at_work.add(run.key)
        self._left(run.key, exit, due_at)

    def check(self) -> None:
        """Raise AssertionError if what is held contradicts the tables of `run.py`."""
        in_flight: dict[int, set[int]] = {key: set() for key in self.runs}
        for attempt in self._attempts.all():
            assert attempt.spec.run in in_flight, "an attempt is in flight for a run that is gone"
            in_flight[attempt.spec.run].add(attempt.spec.seq)
        for key, run in self.runs.items():
            run.check(in_flight[key])

    def is_needed(self, run: OwnedRun) -> bool:
        """Whether something is at work for it, so that it must stay ours."""
        return run.is_running() or self._attempts.is_ending(run.key)

    async def free_ended(self) -> None:
        """Runs that have ended are nobody's any more, once nothing is at work for them."""
        free = [key for key in self.ended_at_work if not self._attempts.at_work(key)]
        if free:
            await self._writer.write(
                lambda: self._store.free_ended(free, self._owner), size=len(free)
            )
            self.ended_at_work.difference_update(free)

    def lingering(self) -> list[int]:
        """The runs that stay ours, because something cannot be stopped that works for them."""
        return [key for key in (*self.runs, *self.ended_at_work) if self._attempts.at_work(key)]
