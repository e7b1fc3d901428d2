"""What a provider says of the place that its settings name, without an executor.

For cron, which asks every minute and mostly finds nothing due, for Tab, and for `doctor`. Nothing
is changed, and nothing imported but the provider's own probe, when it is asked for by name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from belugawf.model.errors import UnavailableError
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from pathlib import Path

OK, WARN, FAIL = "OK", "WARN", "FAIL"

_BUILT_IN = {"default": "belugawf.local.store.probe"}


@frozen()
class Finding:
    """What was checked, how it is, and the fix (`None` if nothing is to be done)."""

    check: str
    state: str
    message: str
    fix: str | None = None
    exit_code: int = UnavailableError.exit_code

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("check", "state", "message", "fix")}


class Place(Protocol):
    """What a probe reads of the settings."""

    @property
    def db(self) -> Path: ...


class Probe:
    """The answers for a provider of which nothing is known; others override what they know."""

    def nothing_stored(self, settings: Place) -> bool:
        """Whether no run was stored yet. Whoever only asks or sends must not create the place."""
        return False

    def nothing_due(self, settings: Place, now: int) -> bool:
        """Whether no open run can move at `now` (since 1970, in ns), as far as can be seen."""
        return False

    def run_ids(self, settings: Place, prefix: str, *, only_open: bool = False) -> Iterable[str]:
        """Workflow ids that begin so, those of the newest runs first; not all of many.

        `only_open`: of runs that have not ended.
        """
        return ()

    def open_workflows(self, settings: Place) -> Iterable[str]:
        """The names of the workflows that have open runs."""
        return ()

    def awaited_signals(self, settings: Place) -> Iterable[str]:
        """The names of signals that open runs wait for."""
        return ()

    def system(self) -> Finding:
        """Whether this machine will do, whatever the settings."""
        version = ".".join(str(part) for part in sys.version_info[:3])
        return Finding("system", OK, f"Python {version}")

    def checks(self, settings: Place) -> Iterable[Finding]:
        """Whether the place will do."""
        return ()

    def checks_in_use(self, settings: Place) -> Iterable[Finding]:
        """What is still wrong after an executor was opened there, which mends what it can."""
        return ()


def probe_of(provider: str) -> Probe:
    """The probe of that provider; imports it only now."""
    if provider not in _BUILT_IN:
        return Probe()
    probe: Probe = import_module(_BUILT_IN[provider]).LocalProbe()
    return probe
