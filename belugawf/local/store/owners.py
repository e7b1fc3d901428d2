"""Who drives runs: processes that say so and leave, and claims. `Store` without the rest of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from belugawf.host.clock import Clock
from belugawf.local.store.queries import Queries
from belugawf.local.store.rows import OwnerRow, RunRow
from belugawf.local.store.writing import HAS_ENDED, own
from belugawf.model.durations import to_micros


class Owners(Queries):
    """See the module's docstring. Methods raise what `Database` raises."""

    clock: Clock

    def register(self, owner: OwnerRow) -> None:
        """Register this process as an owner. The caller already holds the owner's file lock."""
        with self.database.write() as db:
            db.execute(
                "INSERT INTO owners (id, pid, host, boot_id, since, socket, role, workflows) "
                "VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET "
                "role = excluded.role, workflows = excluded.workflows",
                (
                    owner.id,
                    owner.pid,
                    owner.host,
                    owner.boot_id,
                    to_micros(owner.since),
                    owner.socket,
                    owner.role,
                    json.dumps(sorted(owner.workflows)),
                ),
            )

    def unregister(self, owner: str, keeping: Sequence[int] = ()) -> None:
        """Release the runs that we still own, except `keeping`; none of them becomes a suspect.

        With runs in `keeping` this process stays registered, as one that has left.
        """
        with self.database.write() as db:
            db.execute(
                "DELETE FROM live WHERE owner = ? "
                f"AND run NOT IN (SELECT value FROM json_each(?)) AND {HAS_ENDED}",
                (owner, json.dumps(list(keeping))),
            )
            db.execute(
                "UPDATE live SET owner = NULL, owned_since = NULL WHERE owner = ? "
                "AND run NOT IN (SELECT value FROM json_each(?))",
                (owner, json.dumps(list(keeping))),
            )
            if keeping:
                db.execute(
                    "UPDATE owners SET role = 'left', socket = NULL, workflows = '[]' WHERE id = ?",
                    (owner,),
                )
            else:
                db.execute("DELETE FROM owners WHERE id = ?", (owner,))

    def forget_dead(self, dead: Iterable[str]) -> None:
        """Remove dead owners that own no run any more."""
        gone = list(dead)
        with self.database.write() as db:
            db.executemany(
                f"DELETE FROM live WHERE owner = ? AND {HAS_ENDED}",
                [(owner,) for owner in gone],
            )
            db.executemany(
                "DELETE FROM owners WHERE id = ? "
                "AND NOT EXISTS (SELECT 1 FROM live WHERE owner = owners.id)",
                [(owner,) for owner in gone],
            )

    def claim(self, runs: Mapping[int, str | None], owner: str) -> list[RunRow]:
        """Take over runs from these owners (`None`, or one known to be dead).

        Returns the runs that still had that owner, as they are now, with the old one as `owner`.
        """
        now = to_micros(self.clock.now())
        with self.database.write() as db:
            self.database.places.check(at_once=True)
            claimed = []
            for run, previous in runs.items():
                rows = self._rows(db, "WHERE r.key = ?", (run,))  # none: it was pruned
                if not rows or rows[0].status != "running" or rows[0].owner != previous:
                    continue
                claimed += rows
            own(db, [(row.key, owner, now) for row in claimed])
            return claimed
