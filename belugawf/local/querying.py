"""Asking a run's own queries: its code is replayed to get its state back; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from belugawf.authoring.workflow import WorkflowDefinition
from belugawf.local.guard import TurnGuard
from belugawf.local.options import EngineOptions
from belugawf.model import events as e
from belugawf.model.errors import BelugaError, QueryFailedError
from belugawf.replay.replayer import Replayer


def ask(
    definition: WorkflowDefinition,
    history: Sequence[e.Event],
    name: str,
    args: Sequence[Any],
    options: EngineOptions,
) -> Any:
    """What the run of that history answers to a query.

    Raises `QueryNotFoundError`, `QueryFailedError`, and `TurnError` where its code does not fit.
    """
    started = history[0]
    assert isinstance(started, e.WorkflowStarted)
    replayer = Replayer(
        definition, started, defaults=options.defaults, payload_limit=options.payload_limit
    )
    guard = TurnGuard()
    try:
        guard.run(replayer, lambda: replayer.replay(history, partial=True))
        return json.loads(guard.run(replayer, lambda: replayer.query(name, args)))
    except BelugaError:
        raise
    except Exception as error:
        raise QueryFailedError(
            f"query {name!r} raised {type(error).__name__}: {error}",
            hint=f"look at the function that {definition.name!r} gave to ctx.set_query",
        ) from error
    finally:
        guard.close()
        replayer.evict()
