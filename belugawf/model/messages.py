"""What callers pass: signals, hooks, and the mark of an argument that was not given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from belugawf.model.values import frozen


class Unset:
    """The type of `UNSET`, the default of `input`, where None is a value."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


@frozen()
class Signal:
    """A named message to a run.

    `payload` is any value that JSON can hold; in workflow code it is already decoded. `sent_at`
    (UTC) and `sender` are filled in by delivery. Two signals with the same `key` to one run are
    delivered once.
    """

    name: str
    payload: Any = None
    sent_at: datetime | None = None
    sender: str | None = None
    key: str | None = None


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
