"""Durable workflows for Python in one SQLite file.

The public names are resolved on first use, so that `import belugawf` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from belugawf.authoring.activity import activity as activity
    from belugawf.authoring.context import WorkflowContext as WorkflowContext
    from belugawf.authoring.workflow import workflow as workflow
    from belugawf.executor import (
        Delivery as Delivery,
        DurableExecutor as DurableExecutor,
        Hooks as Hooks,
        RunInfo as RunInfo,
        Signal as Signal,
        WorkflowHandle as WorkflowHandle,
        list_providers as list_providers,
        new_executor as new_executor,
        register_provider as register_provider,
    )
    from belugawf.model.endings import (
        NotFinishedError as NotFinishedError,
        RunParkedError as RunParkedError,
        WaitExpiredError as WaitExpiredError,
        WorkflowCancelledError as WorkflowCancelledError,
        WorkflowFailedError as WorkflowFailedError,
        WorkflowTerminatedError as WorkflowTerminatedError,
        WorkflowTimedOutError as WorkflowTimedOutError,
    )
    from belugawf.model.errors import (
        ActivityCancelledError as ActivityCancelledError,
        ActivityError as ActivityError,
        ActivityInterruptedError as ActivityInterruptedError,
        ActivityTimeoutError as ActivityTimeoutError,
        AlreadyExistsError as AlreadyExistsError,
        AmbiguousRunError as AmbiguousRunError,
        ApplicationError as ApplicationError,
        BelugaError as BelugaError,
        BusyError as BusyError,
        ChildWorkflowError as ChildWorkflowError,
        ConfigurationError as ConfigurationError,
        NondeterminismError as NondeterminismError,
        NotFoundError as NotFoundError,
        PayloadEncodeError as PayloadEncodeError,
        PayloadTooLargeError as PayloadTooLargeError,
        PayloadTypeError as PayloadTypeError,
        RefusedError as RefusedError,
        RunEndedError as RunEndedError,
        RunNotFoundError as RunNotFoundError,
        SignalTimeoutError as SignalTimeoutError,
        UnavailableError as UnavailableError,
        UsageError as UsageError,
        WorkflowNotFoundError as WorkflowNotFoundError,
    )
    from belugawf.model.policy import RetryPolicy as RetryPolicy

__version__ = "0.1.0"

# Which names are where, parted by blanks.
_HOMES = {
    "belugawf.authoring.activity": "activity",
    "belugawf.authoring.context": "WorkflowContext",
    "belugawf.authoring.workflow": "workflow",
    "belugawf.executor": (
        "Delivery DurableExecutor Hooks RunInfo Signal WorkflowHandle list_providers "
        "new_executor register_provider"
    ),
    "belugawf.model.endings": (
        "NotFinishedError RunParkedError WaitExpiredError WorkflowCancelledError "
        "WorkflowFailedError WorkflowTerminatedError WorkflowTimedOutError"
    ),
    "belugawf.model.errors": (
        "ActivityCancelledError ActivityError ActivityInterruptedError "
        "ActivityTimeoutError AlreadyExistsError AmbiguousRunError ApplicationError "
        "BelugaError BusyError ChildWorkflowError ConfigurationError NondeterminismError "
        "NotFoundError PayloadEncodeError PayloadTooLargeError PayloadTypeError "
        "RefusedError RunEndedError RunNotFoundError SignalTimeoutError UnavailableError "
        "UsageError WorkflowNotFoundError"
    ),
    "belugawf.model.policy": "RetryPolicy",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'belugawf' has no attribute {name!r}")
    value: Any = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
