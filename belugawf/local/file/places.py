"""Files that must stay where they are while this process works: the database and the locks.

Whoever removes or replaces one of them under us (a clean-up of old files, a restored copy) splits
us from the others: what we write they never see, or they take us for dead and our runs for theirs.
So before a commit the names are compared with the files that we hold.

Not before every commit: a comparison takes microseconds, and commits of a busy worker follow each
other within a tenth of a millisecond. What is committed shortly after a comparison might as well
have been committed just before the file went away. Claims, and whatever comes after a pause, as
everything does that a command writes, are always compared.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from belugawf.model.errors import DisplacedError

# For so long a comparison is good.
FRESH_S = 0.1


class Places:
    """The files of one executor that are in use, by their names."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[tuple[int, int] | None, str]] = {}
        self._compared_at = float("-inf")

    def keep(self, path: Path, what: str) -> None:
        """From now on `path` must lead to the file that it leads to now; `what` is its name."""
        name = os.fspath(path)
        self._files[name] = (identity_of(name), what)

    def forget(self, path: Path) -> None:
        """The file is no longer in use."""
        self._files.pop(os.fspath(path), None)

    def check(self, *, at_once: bool = False) -> None:
        """Raise `DisplacedError` if a file is gone, or another one has its name.

        Without `at_once` a comparison of the last tenth of a second is enough.
        """
        now = time.monotonic()
        if now - self._compared_at < FRESH_S and not at_once:
            return
        for name, (identity, what) in list(self._files.items()):  # a thread may be committing
            if identity_of(name) != identity:
                raise DisplacedError(
                    f"{what} {name!r} was removed or replaced while this process used it, "
                    "so it cannot go on",
                    hint="start it again; leave the files of a database alone while it is in use",
                )
        self._compared_at = now


def identity_of(name: str) -> tuple[int, int] | None:
    """What the file of that name is, whatever its name; `None` if there is none."""
    try:
        found = os.stat(name)  # noqa: PTH116 - not a Path: this is called before commits
    except OSError:
        return None
    return found.st_dev, found.st_ino
