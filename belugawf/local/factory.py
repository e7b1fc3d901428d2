"""How `new_executor("default", ...)` makes its executor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from belugawf.executor import Hooks
from belugawf.executor.arguments import checked
from belugawf.executor.options import EngineOptions
from belugawf.local.executor import LocalExecutor
from belugawf.model.errors import ConfigurationError

if TYPE_CHECKING:
    from belugawf.config import Settings

_DEFAULT_DB = Path(".belugawf") / "state.db"


@partial(checked, name="new_executor")
def make_executor(
    *,
    db: str | Path | None = None,
    workflows: str | Path | Sequence[Callable[..., Any]] | None = None,
    settings: Settings | None = None,
    durability: Literal["full", "normal"] | None = None,
    create: bool = True,
    own_process: bool = False,
    hooks: Sequence[Hooks] = (),
    context: Context | None = None,
    **options: Any,
) -> LocalExecutor:
    """See `belugawf.new_executor` and `LocalExecutor`.

    `create=False`: a missing database is an error.
    """
    known = [field.name for field in fields(EngineOptions)]
    unknown = options.keys() - {*known, "clock"}
    if unknown:
        raise ConfigurationError(
            f"provider 'default' has no option {sorted(unknown)[0]!r}",
            hint=f"it has db, workflows, durability, {', '.join(known)}",
        )
    clock = options.pop("clock", None)
    if settings is not None:
        db = settings.db if db is None else db
        workflows = settings.workflows if workflows is None else workflows
        durability = durability or settings.durability
    if db is None:
        from belugawf.config.trust import Trust

        db = _DEFAULT_DB
        Trust(os.environ).require_database(db.absolute())
    if isinstance(workflows, str):
        workflows = Path(workflows)
    return LocalExecutor(
        Path(db),
        workflows,
        options=EngineOptions.of(settings, options),
        durability=durability or "full",
        create=create,
        own_process=own_process,
        hooks=hooks,
        clock=clock,
        context=context,
    )
