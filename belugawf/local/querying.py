"""Asking a run's own queries: its code is replayed to get its state back; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextvars import Context
from typing import Any

from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.executor.options import EngineOptions
from belugawf.host.border import Border
from belugawf.model import events as e
from belugawf.model.history import effective
from belugawf.replay.replayer import Replayer


def ask(
    definition: WorkflowDefinition,
    history: Sequence[e.Event],
    name: str,
    args: Sequence[Any],
    options: EngineOptions,
    context: Context | None = None,
) -> Any:
    """What the run of that history answers to a query.

    Raises `QueryNotFoundError`, `QueryFailedError`, and `TurnError` where its code does not fit.
    """
    started = history[0]
    assert isinstance(started, e.WorkflowStarted)
    border = Border(context)
    replayer = Replayer(
        definition,
        started,
        defaults=options.defaults,
        payload_limit=options.payload_limit,
        context=border.new_context(),
    )
    try:
        border.turn(replayer, lambda: replayer.replay(effective(history), partial=True))
        return json.loads(border.turn(replayer, lambda: replayer.query(name, args)))
    finally:
        border.evict(replayer)
        border.close()
