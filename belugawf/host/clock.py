"""The one clock of the local provider."""

from __future__ import annotations

import time
from typing import Protocol

from belugawf.host.test_hooks import CLOCK_OFFSET_S
from belugawf.model.durations import MICROSECOND_NS, SECOND_NS

_OFFSET_NS = int(CLOCK_OFFSET_S * SECOND_NS)


class Clock(Protocol):
    """Where the local provider takes the time from."""

    def now(self) -> int:
        """Nanoseconds since 1970 in UTC, a whole number of microseconds."""
        ...


class SystemClock:
    """The wall clock."""

    def now(self) -> int:
        shifted = time.time_ns() + _OFFSET_NS
        return shifted - shifted % MICROSECOND_NS
