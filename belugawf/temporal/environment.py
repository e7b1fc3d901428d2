"""What a worker's workflow code and its activities share: the catalog, options, and who is told."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, TypeAlias

from temporalio.api.failure.v1 import Failure as ProtoFailure
from temporalio.api.history.v1 import HistoryEvent

from belugawf.authoring.loader import Catalog
from belugawf.executor import Hooks, Problem, RunId
from belugawf.executor.options import EngineOptions
from belugawf.host.border import Border, Raised, call
from belugawf.host.hooks import HookCaller
from belugawf.model.errors import CodeError
from belugawf.temporal.payloads import recorded_in

logger = logging.getLogger("belugawf.temporal")

FetchHistory: TypeAlias = Callable[[str, str], Coroutine[Any, Any, Sequence[HistoryEvent]]]

# How many runs a worker remembers to have touched.
_REMEMBERED = 10_000
# A turn may take a few seconds in all.
_FETCH_S = 1.0


class Environment:
    """Shared by everything that runs in one worker. Workflow code runs on several threads.

    `problems` are the runs whose last turn here could not be taken, `functions` the activities
    that workflow code passed as functions, `touched` the workflow ids of the runs for which
    something was done, by their run ids, `active_at` when something last happened, by the
    monotonic clock in seconds. Runs begin in a copy of `context`; by default that is an empty one.
    Their code is reached through `border` only.
    """

    def __init__(
        self,
        catalog: Catalog,
        options: EngineOptions,
        hooks: Sequence[Hooks],
        fetch: FetchHistory,
        context: Context | None = None,
    ) -> None:
        self.border = Border(context)
        self.catalog = catalog
        self._fetch = fetch
        self.options = options
        self.problems: dict[str, Problem] = {}
        self.functions: dict[str, Callable[..., Any]] = {}
        self.touched: dict[str, str] = {}
        self.active_at = time.monotonic()
        self._hooks = HookCaller(hooks, logger)
        self._loop = asyncio.get_running_loop()

    def find_activity(self, name: str, path: str | None, key: str) -> Callable[..., Any] | None:
        """The function that an attempt is to run. `path` is what `import_path` said of it.

        `None`: the workflow named a text, and the catalog knows. Empty: no other worker can find
        it, and only the one that ran the workflow has it, under the attempt's `key`. A name alone
        would do for neither: several modules and runs may have functions of one name.
        """
        if path is None:
            return self.catalog.activity(name)
        if not path:
            return self.functions.get(key)
        known = self.functions.get(path) or _imported(path)
        if known is None:
            # A module under a private name has another one in each process.
            return self.catalog.activity(name)
        return known

    def active(self, workflow_id: str, run_id: str) -> None:
        """Something was done for that run."""
        self.active_at = time.monotonic()
        self.touched[run_id] = workflow_id
        if len(self.touched) > _REMEMBERED:
            self.touched.pop(next(iter(self.touched)), None)

    def note_problem(
        self, run_id: str, problem: Problem | None, is_replaying: bool = False
    ) -> None:
        """The last turn of that run could not be taken; `None`: it could.

        That it could be replayed is no news: the turn that could not be taken is tried after that.
        """
        if problem is not None:
            self.problems[run_id] = problem
        elif not is_replaying:
            self.problems.pop(run_id, None)

    def history(self, workflow_id: str, run_id: str) -> Sequence[HistoryEvent] | None:
        """The run's history, asked for on a thread of workflow code; `None`: not to be had soon."""
        work = self._fetch(workflow_id, run_id)
        try:
            fetching = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            return None
        try:
            return fetching.result(_FETCH_S)
        except Exception:
            fetching.cancel()
            return None

    def call_hooks(
        self,
        hook: str,
        workflow_id: str | None,
        run_id: str | None,
        workflow: str | None,
        **more: Any,
    ) -> None:
        """Call the hooks of that name on the worker's loop, from any thread."""
        if self._hooks:
            about = {"workflow_id": workflow_id, "run_id": RunId(run_id), "workflow": workflow}
            self._loop.call_soon_threadsafe(self._hooks.call, hook, {**about, **more})

    async def close(self) -> None:
        """Wait for the hooks that are still running."""
        await self._hooks.close()


def _imported(path: str) -> Callable[..., Any] | None:
    module, _, qualname = path.partition(":")

    def find() -> Callable[..., Any]:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
        function: Callable[..., Any] = found
        return function

    found = call(find)
    return None if isinstance(found, Raised) else found


def problem_of(failure: ProtoFailure, *, new: bool = False) -> Problem:
    """Why a turn could not be taken, from the failure of its workflow task."""
    ours = recorded_in(failure)
    if ours is not None:
        recorded, beside = ours
        return Problem(
            code=recorded.type,
            message=recorded.message,
            hint=beside.get("hint"),
            exit_code=beside.get("exit_code", 13),
            traceback=recorded.traceback if recorded.type == CodeError.code else None,
            new=new,
        )
    return eviction_problem(failure.message, new=new)


def eviction_problem(message: str, *, new: bool = False) -> Problem:
    """Why a turn could not be taken, from what the SDK or the server says of it."""
    if "deadlock" in message.lower():
        return Problem(
            code="workflow_blocked",
            message="the workflow does not come back from a call that blocks its worker",
            hint="move what takes long into an activity, and use asyncio.sleep to wait",
            new=new,
        )
    if "ondeterminis" not in message:
        return Problem(
            code="turn_refused",
            message=f"the turn was refused: {message}",
            hint="fix the workflow's code, then restart its workers",
            new=new,
        )
    return Problem(
        code="nondeterminism",
        message=f"the code no longer matches the history: {_plain(message)}",
        hint="the workflow's code was changed while this run was open: put the old code back, or "
        "start a new run",
        new=new,
    )


def _plain(message: str) -> str:
    """The SDK's message without its error number and its words for its own machinery."""
    for prefix in ("[TMPRL1100]", "Nondeterminism error:"):
        message = message.replace(prefix, "")
    return message.strip().rstrip(".")
