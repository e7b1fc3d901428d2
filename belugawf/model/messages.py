"""What callers pass: signals, hooks, and the mark of an argument that was not given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final, TypeAlias

from belugawf.model import checking
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

    def __post_init__(self) -> None:
        checking.text("name of a signal", self.name)
        if self.sent_at is not None:
            checking.instance("sent_at", self.sent_at, datetime, "leave it to delivery")
        if self.sender is not None:
            checking.text("sender", self.sender, empty=True)
        if self.key is not None:
            checking.text("key", self.key, empty=True)


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

    def __post_init__(self) -> None:
        for field in fields(self):
            hook = getattr(self, field.name)
            if hook is not None:
                checking.function(field.name, hook)


Hook: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None] | None]
