"""How an executor drives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import timedelta
from typing import Any

from belugawf.host import test_hooks
from belugawf.model import checking
from belugawf.model.durations import Duration, parse_duration
from belugawf.model.policy import ActivityDefaults
from belugawf.model.values import frozen

_LEAST = {
    "payload_limit": 1,
    "max_crashes": 0,
    "concurrency": 1,
    "threads": 1,
    "cache_runs": 0,
    "keep_logs": 0,
}


@frozen(kw_only=True)
class EngineOptions:
    """How an executor drives. `concurrency` bounds attempts in flight.

    `threads` is how many plain-function activities run at a time, `payload_limit` is in bytes,
    `cache_runs` is how many runs are kept in memory between turns. `keep_logs` is how many lines of
    each run's log are kept (0: none), `keep_logs_for` how long (`None`: as long as the run).
    """

    defaults: ActivityDefaults = field(default_factory=ActivityDefaults)
    payload_limit: int = 2 * 1024 * 1024
    max_crashes: int = 3
    concurrency: int = 100
    threads: int = 64
    cache_runs: int = test_hooks.CACHE_RUNS
    keep_logs: int = 1000
    keep_logs_for: Duration | None = timedelta(days=30)

    def __post_init__(self) -> None:
        checking.instance("defaults", self.defaults, ActivityDefaults, "give ActivityDefaults")
        for name, least in _LEAST.items():
            checking.whole(name, getattr(self, name), least=least)
        if self.keep_logs_for is not None:
            parse_duration(self.keep_logs_for, what="keep_logs_for")

    @classmethod
    def of(cls, settings: Any, given: Mapping[str, Any]) -> EngineOptions:
        """Those of a `config.Settings`, if there is one, but for what was given by name."""
        read: dict[str, Any] = {}
        if settings is not None:
            read = {
                "defaults": settings.activity_defaults,
                "payload_limit": settings.payload_limit,
                "max_crashes": settings.max_crashes,
                "concurrency": settings.worker_concurrency,
                "threads": settings.threads,
                "keep_logs": settings.logging.keep,
                "keep_logs_for": settings.logging.keep_for,
            }
        return cls(**{**read, **given})

    def with_concurrency(self, concurrency: int) -> EngineOptions:
        """These, with so many attempts at once."""
        return replace(self, concurrency=concurrency)
