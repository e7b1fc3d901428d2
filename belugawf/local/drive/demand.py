"""What this process was asked to drive, and which of that it may take over now.

A request names runs, or asks for everything that can move; it counts until its scope ends. What is
due or has mail is a candidate; it may be taken if nobody alive holds it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from enum import IntEnum

from belugawf.local.drive.presence import Presence
from belugawf.local.store.rows import RunRow, Start, Started
from belugawf.local.store.store import Store
from belugawf.model.values import frozen, mutable

# Runs that one look claims at most; the next look comes at once when any were found.
CLAIM_AT_ONCE = 500
# While so many are driven, only runs that somebody here has asked for are claimed: 5 KB each.
MOST_DRIVEN = 20_000
# With more named runs than that, those that others have ended are looked for.
MANY_NAMED = 100


class Stop(IntEnum):
    """How far a request has been stopped."""

    NO = 0
    DRAIN = 1  # nothing is claimed and nothing starts any more; attempts in flight go on
    CUT = 2  # attempts in flight are interrupted too


@mutable(kw_only=True)
class Request:
    """Somebody wants runs driven, and waits of up to `idle_wait_ns` slept through.

    Those `named`, each with its own such wait; or, if that is `None`, all that can move (only runs
    of `workflow`, if given). `persistent`: as a worker, also while the disk refuses. `driven` are
    the named runs, and those that came to be driven, or were refused, meanwhile.
    """

    idle_wait_ns: int = 0
    named: dict[int, int] | None = None
    workflow: str | None = None
    persistent: bool = False
    driven: set[int] = field(default_factory=set)
    stopped: Stop = Stop.NO
    released_at_end: asyncio.Future[None] | None = None

    def name(self, run: int, idle_wait_ns: int) -> None:
        """This run too."""
        assert self.named is not None
        self.named[run] = max(self.named.get(run, 0), idle_wait_ns)

    def released(self, error: Exception | None) -> None:
        """What nobody else asks for was let go; or that error has kept it from that."""
        assert self.released_at_end is not None
        if self.released_at_end.done():
            return
        if error is None:
            self.released_at_end.set_result(None)
        else:
            self.released_at_end.set_exception(error)


class Demand:
    """All requests of one engine. `own` is its executor's: it ends with the engine."""

    def __init__(self, store: Store, presence: Presence) -> None:
        self._store = store
        self._presence = presence
        self.own = Request(named={})
        self._requests = [self.own]
        self._unseen: dict[int, None] = {}
        self._seen: set[int] = set()
        self._many_named = MANY_NAMED
        self.stopped = Stop.NO
        self.to_release: list[Request] = []

    # -- requests --------------------------------------------------------------------------------

    def add(self, request: Request) -> None:
        """This is asked for from now on."""
        self._requests.append(request)

    def remove(self, request: Request) -> None:
        """Its scope has ended: nothing is driven for it any more."""
        self._requests.remove(request)
        self.stopped = max(other.stopped for other in self._requests)

    @property
    def everything(self) -> bool:
        """Whether whatever can move is wanted: by a worker, or by a resume that goes on."""
        return any(request.named is None for request in self._requests)

    @property
    def persistent(self) -> bool:
        """Whether we are a worker."""
        return any(request.persistent for request in self._requests)

    def stop(self, request: Request, stop: Stop) -> None:
        """Stop what is driven for it, and whatever else this process drives, until it ends."""
        request.stopped = max(request.stopped, stop)
        self.stopped = max(self.stopped, stop)

    def is_stopped_by(self, request: Request) -> bool:
        """Whether that request was stopped, and no other."""
        return [other for other in self._requests if other.stopped] == [request]

    def release(self, request: Request) -> asyncio.Future[None]:
        """The next tick lets go what nobody else asks for; the future is told when it has."""
        request.released_at_end = asyncio.get_running_loop().create_future()
        self.to_release.append(request)
        return request.released_at_end

    @property
    def _workflow(self) -> str | None:
        """The workflow whose runs alone are wanted."""
        wanted = {request.workflow for request in self._requests if request.named is None}
        return next(iter(wanted)) if len(wanted) == 1 else None

    def _named(self, *, without: Request | None = None) -> Mapping[int, int]:
        """The runs that were asked for by name, each with how long its waits are slept through."""
        named = self.own.named or {}
        for request in self._requests:
            if request.named and request is not self.own and request is not without:
                named = named | {k: max(ns, named.get(k, 0)) for k, ns in request.named.items()}
        return named

    def follows(self, run: int) -> bool:
        """Whether the run is driven here when it can move."""
        return self.everything or any(r.named and run in r.named for r in self._requests)

    def extend_idle_wait(self, run: int, idle_wait_ns: int) -> None:
        """Sleep through longer waits of that run, for as long as it is asked for by name."""
        for request in self._requests:
            if request.named and run in request.named:
                request.name(run, idle_wait_ns)

    def kept(self, request: Request) -> Callable[[int], bool]:
        """Whether a run is asked for by any request but that one."""
        if any(r.named is None and r is not request for r in self._requests):
            return lambda run: True
        return self._named(without=request).__contains__

    def idle_wait(self, run: int) -> int:
        """How long a wait of that run is slept through, in nanoseconds."""
        named = [r.named[run] for r in self._requests if r.named and run in r.named]
        return max(named or (r.idle_wait_ns for r in self._requests))

    def forget(self, runs: Iterable[int]) -> None:
        """These runs have ended."""
        for run in runs:
            for request in self._requests:
                if request.named:
                    request.named.pop(run, None)

    def note(self, run: int) -> None:
        """That run came to be driven, or was refused."""
        for request in self._requests:
            if request.named is None:
                request.driven.add(run)

    # -- what may be taken over ------------------------------------------------------------------

    @property
    def unseen(self) -> bool:
        """Whether there are runs that the next look is to see whatever they wait for."""
        return bool(self._unseen)

    def see(self, run: int) -> None:
        """Take this run over with the next look, if it can be had."""
        self._unseen[run] = None
        self._seen.discard(run)

    def is_unseen(self, run: int) -> bool:
        """Whether the next look may take that run over."""
        return run in self._unseen

    def look(
        self,
        now: int,
        driven: Collection[int],
        refused: Collection[int],
        leaving: Collection[int],
    ) -> Found:
        """The runs that may be taken over now; those `leaving` can be had when they are gone."""
        self._seen = set(self._unseen).difference(leaving)
        rows = self._store.by_keys(self._seen) if self._seen else []
        named = self._named()
        if len(named) > self._many_named:
            # Others may have ended them, and nobody told us.
            self.forget(self._store.ended(named))
            named = self._named()
            self._many_named = MANY_NAMED + 2 * len(named)
        everything = self.everything
        candidates: list[RunRow] = []
        has_more = False
        room = CLAIM_AT_ONCE if named else 0
        if everything:
            room = max(0, min(CLAIM_AT_ONCE, MOST_DRIVEN - len(driven)))
        if room:
            # What is ours on disk and not driven was claimed by a commit that seemed to fail.
            others = [owner for owner in self._presence.living() if owner != self._presence.id]
            candidates = self._store.candidates(
                now=now,
                limit=room,
                excluding=[*driven, *refused, *self._unseen],
                among=None if everything else named,
                workflow=self._workflow,
                owners=others,
            )
            has_more = len(candidates) == room
            candidates = [row for row in candidates if self.is_free(row)]
        rows = [
            row
            for row in rows
            if row.status == "running" and row.key not in driven and self.is_free(row)
        ]
        return Found([*rows, *candidates], has_more, everything and not room)

    def looked(self) -> None:
        """What the look was to see has been taken, or cannot be had."""
        for run in self._seen:
            del self._unseen[run]
        self._seen.clear()

    def next_due(self, now: int) -> int | None:
        """When the next run is due that may be ours to take, in nanoseconds since 1970."""
        if not self.everything and not self._named():
            return None
        return self._store.next_due(now)

    def is_free(self, row: RunRow) -> bool:
        """Whether nobody else who lives holds it."""
        ours = row.owner == self._presence.id
        return row.owner is None or ours or not self._presence.is_alive(row.owner)


@frozen()
class Found:
    """What a look found: runs that may be taken, and whether there may be more of them.

    `at_capacity`: there was no room for what nobody named, so it was not looked for.
    """

    rows: Sequence[RunRow]
    has_more: bool
    at_capacity: bool


@frozen()
class Asked:
    """A start that somebody waits for, who will sleep through waits of `idle_wait_ns`.

    `at_once`: it may be recorded with its first turn. What cannot be is recorded without one, and
    then it is known why.
    """

    start: Start
    idle_wait_ns: int
    answered: asyncio.Future[RunRow]
    at_once: bool = True

    def answer(self, started: Started) -> None:
        """Tell who waits."""
        if self.answered.done():
            return
        if isinstance(started, Exception):
            self.answered.set_exception(started)
        else:
            self.answered.set_result(started[0])


class Starts(deque[Asked]):
    """The starts that the next commits take, in order."""

    def take(self) -> Iterator[Asked]:
        """One after the other, without those whose askers have gone away."""
        while self:
            asked = self.popleft()
            if not asked.answered.done():
                yield asked

    def ask(self, start: Start, idle_wait_ns: int) -> asyncio.Future[RunRow]:
        """Record that run with the next commit; the future has it then, or why it was refused."""
        answered: asyncio.Future[RunRow] = asyncio.get_running_loop().create_future()
        # What another run's name may stand in the way of is asked for by itself.
        at_once = start.if_exists == "fail"
        self.append(Asked(start, idle_wait_ns, answered, at_once))
        return answered

    def refuse(self, error: Exception) -> None:
        """Nothing is started here any more."""
        for asked in self.take():
            asked.answer(error)
