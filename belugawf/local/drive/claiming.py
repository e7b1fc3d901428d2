"""What this process was asked to drive, and which of that it may take over now.

Three wishes: runs *named* (by `resume RUN`, a signal), runs that are *followed* because this
process has started or named them, and *everything* that can move. What is due or has mail is a
candidate; it may be taken if nobody alive holds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from belugawf.local.drive.presence import Presence
from belugawf.local.store.rows import RunRow
from belugawf.local.store.store import Store

# Runs that one look claims at most; the next look comes at once when any were found.
CLAIM_AT_ONCE = 500
# While so many are driven, only runs that somebody here has asked for are claimed: 5 KB each.
MOST_DRIVEN = 20_000
# With more followed runs than that, those that others have ended are looked for.
MANY_FOLLOWED = 100


class Claims:
    """Wishes, and what they come to. `idle_wait_ns` is for runs that nobody here has named."""

    def __init__(self, store: Store, presence: Presence) -> None:
        self._store = store
        self._presence = presence
        self._named: dict[int, int] = {}
        self._looked_at: set[int] = set()
        self._followed: dict[int, int] = {}
        self._many_followed = MANY_FOLLOWED
        self._resumes: list[str | None] = []
        self._idle_wait_ns = 0
        self.workers = 0

    @property
    def persistent(self) -> bool:
        """Whether we are a worker."""
        return self.workers > 0

    @property
    def everything(self) -> bool:
        """Whether whatever can move is wanted: by a worker, or by a resume that goes on."""
        return self.persistent or bool(self._resumes)

    @property
    def _only_workflow(self) -> str | None:
        """The workflow whose runs alone are wanted."""
        wanted = set(self._resumes)
        return self._resumes[0] if len(wanted) == 1 and not self.persistent else None

    @property
    def asked(self) -> bool:
        """Whether runs were named that have not been looked at yet."""
        return bool(self._named)

    def name(self, run: int, idle_wait_ns: int) -> None:
        """Take this run when it can be had."""
        self._named[run] = max(self._named.get(run, 0), idle_wait_ns)
        self._looked_at.discard(run)

    def is_named(self, run: int) -> bool:
        """Whether it was named, and has not been looked at yet."""
        return run in self._named

    def follow(self, run: int, idle_wait_ns: int) -> None:
        """Drive this run whenever it can move, with at least that patience."""
        self._followed[run] = max(self._followed.get(run, 0), idle_wait_ns)

    def follows(self, run: int) -> bool:
        """Whether the run is driven here when it can move."""
        return self.everything or run in self._followed

    def is_followed(self, run: int) -> bool:
        """Whether somebody here asked for this very run."""
        return run in self._followed

    def forget(self, runs: Iterable[int]) -> None:
        """These runs are not followed any more."""
        for run in runs:
            self._followed.pop(run, None)

    def patience(self, run: int) -> int:
        """How long a wait of that run is slept through, in nanoseconds."""
        return self._followed.get(run, self._idle_wait_ns)

    def want_everything(self, idle_wait_ns: int, workflow: str | None, persistent: bool) -> None:
        """Take whatever can move; only runs of `workflow` if given, unless we are a worker.

        Until `resumed`, or as one of the `workers` until it is counted down.
        """
        if persistent:
            self.workers += 1
        else:
            self._resumes.append(workflow)
        self._idle_wait_ns = idle_wait_ns

    def resumed(self, workflow: str | None) -> None:
        """A resume of everything is over; what others want is wanted still."""
        self._resumes.remove(workflow)

    def look(
        self,
        now: int,
        driven: Collection[int],
        refused: Collection[int],
        leaving: Collection[int],
    ) -> Found:
        """The runs that may be taken over now.

        The named ones are looked at once; those of `driven` that are `leaving`, when they are gone.
        """
        self._looked_at = set(self._named).difference(leaving)
        rows = self._store.by_keys(self._looked_at)
        if len(self._followed) > self._many_followed:
            # Others may have ended them, and nobody told us.
            self.forget(self._store.ended(self._followed))
            self._many_followed = MANY_FOLLOWED + 2 * len(self._followed)
        candidates: list[RunRow] = []
        room = self._room(len(driven))
        if room:
            # What is ours on disk and not driven was claimed by a commit that seemed to fail.
            others = [owner for owner in self._presence.living() if owner != self._presence.id]
            candidates = self._store.candidates(
                now=now,
                limit=room,
                excluding=[*driven, *refused, *self._named],
                among=None if self.everything else self._followed,
                workflow=self._only_workflow,
                owners=others,
            )
            candidates = [row for row in candidates if self._is_free(row)]
        rows = [
            row
            for row in rows
            if row.status == "running" and row.key not in driven and self._is_free(row)
        ]
        return Found([*rows, *candidates], more=bool(candidates), full=self.everything and not room)

    def _room(self, driven: int) -> int:
        """How many runs this look may take, beside the named ones."""
        if self.everything:
            return max(0, min(CLAIM_AT_ONCE, MOST_DRIVEN - driven))
        return CLAIM_AT_ONCE if self._followed else 0

    def looked(self) -> None:
        """What was named before the look has been taken, or cannot be had."""
        for run in self._looked_at:
            del self._named[run]
        self._looked_at.clear()

    def next_due(self, now: int) -> int | None:
        """When the next run is due that may be ours to take, in nanoseconds since 1970."""
        if not self.everything and not self._followed:
            return None
        return self._store.next_due(now)

    def _is_free(self, row: RunRow) -> bool:
        """Whether nobody else who lives holds it."""
        ours = row.owner == self._presence.id
        return row.owner is None or ours or not self._presence.is_alive(row.owner)


class Found:
    """What a look found: runs that may be taken, and whether there may be more of them.

    `full`: there was no room for what nobody named, so it was not looked for.
    """

    def __init__(self, rows: Sequence[RunRow], *, more: bool, full: bool) -> None:
        self.rows = rows
        self.more = more
        self.full = full


class Noted:
    """Runs that came to be driven, or were refused: noted only while somebody asks for them."""

    def __init__(self) -> None:
        self._asking: list[set[int]] = []

    def add(self, run: int) -> None:
        """That run did."""
        for runs in self._asking:
            runs.add(run)

    @contextmanager
    def into(self, runs: set[int]) -> Iterator[None]:
        """While this lasts, they are added to `runs`."""
        self._asking.append(runs)
        try:
            yield
        finally:
            self._asking = [other for other in self._asking if other is not runs]
