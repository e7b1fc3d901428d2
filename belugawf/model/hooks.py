"""What a caller wants to be told of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from belugawf.model.values import frozen


@frozen(kw_only=True)
class Hooks:
    """Callables told of what was committed, each at most once; `None` is not told.

    Each gets one `RunInfo`-like mapping: workflow_id, run_id, workflow, and `activity`, `attempt`,
    `signal`, `error` if they apply. They run on the engine's loop; an exception in one is
    logged and does not touch the run. Coroutine functions are awaited in the background.
    """

    on_workflow_start: Hook | None = None
    on_workflow_complete: Hook | None = None
    on_workflow_fail: Hook | None = None
    on_activity_start: Hook | None = None
    on_activity_complete: Hook | None = None
    on_signal: Hook | None = None
    on_retry: Hook | None = None


Hook: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None] | None]
