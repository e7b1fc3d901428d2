"""How an activity's options become the server's, and travel to the worker that runs it.

The worker keeps the limits itself, so that they mean the same as on the local provider; the server
is told enough to find a dead worker, and to keep what outlives every worker. So:

* It may start attempts without limit, unless `at_most_once`: an attempt whose worker died uses up
  none of `max_attempts`, and the server cannot tell. The worker makes the last failure that counts
  one that is not retried, and refuses an activity that has killed `max_crashes` workers.
* `timeout` is kept by the worker. The server's start-to-close is a little longer.
* Every attempt is reported alive by its worker, whatever the user's code does. So silence on the
  server means that the worker is dead. `heartbeat_timeout` is kept by the worker.
* `total_timeout` is kept by the worker, and a little later by the server's schedule-to-close: it
  may pass while no worker is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from belugawf.host.knobs import number
from belugawf.model.durations import format_duration, parse_duration
from belugawf.model.policy import ActivityOptions, RetryPolicy
from belugawf.model.values import frozen

# After this silence of a worker the server takes its attempts for dead.
LIVENESS = timedelta(seconds=number("BELUGAWF_TEST_LIVENESS", 10))
# How often a worker reports each of its attempts, in seconds.
PULSE_S = LIVENESS.total_seconds() / 4
# How much longer than the worker the server waits: it counts from when a worker took the attempt,
# the worker from when there was a thread for it.
_SLACK = timedelta(hours=1)
# How much longer it waits for all attempts: the worker's own word says more.
_TOTAL_SLACK = timedelta(seconds=5)
# No timeout at all is none that the server knows: it wants one.
_ENDLESS = timedelta(days=36_500)
# The shortest delay that the server can keep.
_SHORTEST = timedelta(milliseconds=1)


@frozen(kw_only=True)
class ServerLimits:
    """What the server is told. `attempts` is 0 for no limit."""

    attempts: int
    start_to_close: timedelta
    heartbeat: timedelta
    initial_interval: timedelta
    schedule_to_close: timedelta | None


def limits_on_server(options: ActivityOptions) -> ServerLimits:
    """The server's limits for these options."""
    return ServerLimits(
        attempts=1 if options.at_most_once else 0,
        start_to_close=_ENDLESS if options.timeout is None else options.timeout + _SLACK,
        heartbeat=LIVENESS,
        initial_interval=max(options.retry.initial_delay, _SHORTEST),
        schedule_to_close=None
        if options.total_timeout is None
        else options.total_timeout + _TOTAL_SLACK,
    )


def import_path(function: Callable[..., Any]) -> str | None:
    """How another worker finds a function, as "module:name"; `None` where it cannot."""
    qualname = function.__qualname__
    return None if "<" in qualname else f"{function.__module__}:{qualname}"


def options_header(options: ActivityOptions, max_crashes: int) -> dict[str, Any]:
    """The options as JSON, without what has its default. The inverse is `read_options`."""
    retry, usual = options.retry, RetryPolicy()
    said: dict[str, Any] = {"max_attempts": retry.max_attempts, "max_crashes": max_crashes}
    for name in ("timeout", "total_timeout", "heartbeat_timeout"):
        limit = getattr(options, name)
        if limit is not None:
            said[name] = format_duration(limit)
    for name in ("initial_delay", "max_delay"):
        if getattr(retry, name) != getattr(usual, name):
            said[name] = format_duration(getattr(retry, name))
    for name in ("backoff_coefficient", "jitter"):
        if getattr(retry, name) != getattr(usual, name):
            said[name] = getattr(retry, name)
    if retry.non_retryable:
        said["non_retryable"] = list(retry.non_retryable)
    if options.at_most_once:
        said["at_most_once"] = True
    if options.isolation != "none":
        said["isolation"] = options.isolation
    return said


def read_options(data: Mapping[str, Any]) -> ActivityOptions:
    """The options of a header; without one (another SDK scheduled it) the server's limits hold."""
    retry = {
        name: data[name]
        for name in (
            "initial_delay",
            "max_delay",
            "backoff_coefficient",
            "jitter",
            "non_retryable",
        )
        if name in data
    }
    if "max_delay" not in retry:
        retry["max_delay"] = RetryPolicy().max_delay
    return ActivityOptions(
        retry=RetryPolicy(max_attempts=data.get("max_attempts", 0), **retry),
        timeout=_duration(data.get("timeout")),
        total_timeout=_duration(data.get("total_timeout")),
        heartbeat_timeout=_duration(data.get("heartbeat_timeout")),
        at_most_once=bool(data.get("at_most_once", False)),
        isolation=data.get("isolation", "none"),
    )


def _duration(text: str | None) -> timedelta | None:
    return None if text is None else parse_duration(text)
