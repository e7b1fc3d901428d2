"""How runs leave this process: refused, let go, or lost to somebody else.

A run that is *refused* (its turn cannot be taken) gets its problem at once. What is in flight for
it ends, and each end is kept in its inbox: the first ones together with the problem. It is let go
when nothing is at work for it, so that whoever takes it up next starts nothing beside it, and
nothing anew. A refusal counts as long as the history has not grown, and nobody asks for the run.

A run that *ended* stays ours while a thread works for it that cannot be stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from belugawf.host.attempts import AttemptRunner
from belugawf.local.drive.agenda import Agenda
from belugawf.local.drive.claiming import Claims, Noted
from belugawf.local.drive.memory import Memory
from belugawf.local.drive.problems import Refused, problem_of
from belugawf.local.drive.run import EXITS, Exit, OwnedRun, Phase, SlotPhase
from belugawf.local.drive.starting import AttemptQueue
from belugawf.local.file.writer import Writer
from belugawf.local.store.store import Store
from belugawf.model.errors import BelugaError
from belugawf.model.values import frozen


@frozen()
class _Refusal:
    """Why a run cannot be moved on here, for as long as its history has `length` events."""

    reason: BelugaError
    length: int
    is_news: bool


class Exits:
    """The doors of one engine, whose `runs` these are.

    `gone` is told of each run that is not driven any more (as `Engine._gone`), `want` asks for one.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        owner: str,
        runs: dict[int, OwnedRun],
        *,
        attempts: AttemptRunner,
        queue: AttemptQueue,
        memory: Memory,
        agenda: Agenda,
        claims: Claims,
        touched: Noted,
        gone: Callable[[int, Exit | None], None],
        want: Callable[[int, int], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._owner = owner
        self._runs = runs
        self._attempts = attempts
        self._queue = queue
        self._memory = memory
        self._agenda = agenda
        self._claims = claims
        self._touched = touched
        self._gone = gone
        self._want = want
        self._refused: dict[int, _Refusal] = {}
        self.ended_at_work: set[int] = set()

    # -- refusals --------------------------------------------------------------------------------

    def refusal(self, run: int) -> BelugaError | None:
        """Why that run is not driven here; `None` where there is no reason."""
        refusal = self._refused.get(run)
        return None if refusal is None else refusal.reason

    def is_news(self, run: int) -> bool:
        """Whether this process was the first to see the run's problem."""
        refusal = self._refused.get(run)
        return refusal is not None and refusal.is_news

    def forget_refusal(self, run: int) -> None:
        """Somebody asks for the run: it is tried again."""
        self._refused.pop(run, None)

    def forget_refusals(self) -> None:
        """Somebody asks for all runs."""
        self._refused.clear()

    def still_refused(self) -> set[int]:
        """The runs that are refused; not those that somebody else has moved on since."""
        if self._refused:
            for key, length in self._store.lengths(self._refused).items():
                if length != self._refused[key].length:
                    del self._refused[key]
        return set(self._refused)

    async def refuse(self, reasons: Refused) -> None:
        """These runs cannot be moved on here."""
        if not reasons:
            return
        runs = [self._runs[key] for key in reasons if key in self._runs]
        for run in runs:
            run.begin_commit()
        kept = {run.key for run in runs if self.is_needed(run)}
        ended = [slot for run in runs for slot in run.ended]
        ends = [slot.outcome for slot in ended if slot.outcome is not None]
        problems = {key: (problem_of(why), length) for key, (why, length) in reasons.items()}
        try:
            # Written first: a run that is still ours on disk must not be missing here.
            news = await self._writer.write(
                lambda: self._store.refuse(problems, self._owner, keep=kept, ends=ends),
                size=len(reasons) + len(ends),
            )
        except BaseException:
            for run in runs:
                run.receive()
            raise
        for key, (reason, length) in reasons.items():
            self._refused[key] = _Refusal(reason, length, key in news or self.is_news(key))
            self._touched.add(key)
            self._gone(key, None)
        for run in runs:
            run.stored(ended)
            self._queue.forget(run)
            self._memory.evict(run)
            asked = run.has_mail
            if run.key not in kept:
                self.retire(run, Exit.REFUSED)
            elif not asked:
                run.leave(reasons[run.key][0])
            if asked:
                self._want(run.key, run.idle_wait_ns)

    # -- leaving ---------------------------------------------------------------------------------

    async def leave(self, runs: Sequence[OwnedRun]) -> None:
        """These runs are not driven here any more: they are let go when nothing works for them."""
        if not runs:
            return
        for run in runs:
            if run.refused is None:
                self._attempts.cancel_run(run.key)
                for slot in [s for s in run.slots.values() if s.phase is SlotPhase.RUNNING]:
                    self._queue.close(slot)
            self._queue.forget(run)
            run.leave(run.refused)
        free = [run for run in runs if not self.is_needed(run)]
        ended = [slot for run in runs for slot in run.ended]
        ends = [slot.outcome for slot in ended if slot.outcome is not None]
        if not free and not ends:
            return
        # Until it is known that they are let go, they are still to be.
        for run in free:
            run.receive()
        self._agenda.add(free)
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
                self._claims.name(run.key, run.idle_wait_ns)

    def retire(self, run: OwnedRun, exit: Exit, *, kept: bool = False) -> None:
        """That run is not driven here any more; `kept`: it is ours while a thread works for it."""
        rule = EXITS[exit]
        self._runs.pop(run.key, None)
        run.move(Phase.GONE)
        self._attempts.cancel_run(run.key)
        self._queue.retire(run)
        if rule.forgotten:
            self._claims.forget((run.key,))
        if rule.cached:
            self._memory.shelve(run)
        else:
            self._memory.evict(run)
        if rule.frees or kept:
            self.ended_at_work.add(run.key)
        self._gone(run.key, exit)

    def check(self) -> None:
        """Raise AssertionError if what is held contradicts the tables of `run.py`."""
        in_flight: dict[int, set[int]] = {key: set() for key in self._runs}
        for attempt in self._attempts.all():
            assert attempt.spec.run in in_flight, "an attempt is in flight for a run that is gone"
            in_flight[attempt.spec.run].add(attempt.spec.seq)
        for key, run in self._runs.items():
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
        return [key for key in (*self._runs, *self.ended_at_work) if self._attempts.at_work(key)]
