"""Environment variables by which tests reach what cannot be reached otherwise.

None is documented for users, and each is off unless it is set:

* `BELUGAWF_TEST_CLOCK_OFFSET`: seconds added to the wall clock.
* `BELUGAWF_TEST_KILL_AT`: SIGKILL to ourselves at that step (from 1); a step is the moment before
  or after a commit, or before an effect. `BELUGAWF_TEST_KILL_LOG`: a file for the steps' names.
* `BELUGAWF_TEST_BUSY_TIMEOUT`: seconds that a writer waits for the database, instead of 30.
* `BELUGAWF_TEST_MAX_PAGES`: the most pages that the database may grow to, as on a full disk.
* `BELUGAWF_TEST_LIVENESS`, `BELUGAWF_TEST_STICKY`: on Temporal, seconds of silence after which a
  worker's attempts, and its runs in memory, are taken for dead, instead of 10.
* `BELUGAWF_CACHE_RUNS`: how many runs are kept in memory between their turns, instead of 256.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path


def number(name: str, default: float) -> float:
    """The variable's value, or the default if it is not set."""
    text = os.environ.get(name)
    return float(text) if text else default


CLOCK_OFFSET_S = number("BELUGAWF_TEST_CLOCK_OFFSET", 0.0)
BUSY_TIMEOUT_S = number("BELUGAWF_TEST_BUSY_TIMEOUT", 30.0)
MAX_PAGES = int(number("BELUGAWF_TEST_MAX_PAGES", 0))
CACHE_RUNS = int(number("BELUGAWF_CACHE_RUNS", 256))

_KILL_AT = int(number("BELUGAWF_TEST_KILL_AT", 0))
_KILL_LOG = os.environ.get("BELUGAWF_TEST_KILL_LOG")
_steps = 0


def step(name: str) -> None:
    """A moment at which a process may die: tests let it die at each in turn."""
    if not _KILL_AT and not _KILL_LOG:
        return
    global _steps
    _steps += 1
    if _KILL_LOG:
        with Path(_KILL_LOG).open("a") as log:
            log.write(f"{_steps} {name}\n")
    if _steps == _KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)
