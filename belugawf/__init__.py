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
    )
    from belugawf.executor import (
        DurableExecutor as DurableExecutor,
    )
    from belugawf.executor import (
        Hooks as Hooks,
    )
    from belugawf.executor import (
        RunInfo as RunInfo,
    )
    from belugawf.executor import (
        Signal as Signal,
    )
    from belugawf.executor import (
        WorkflowHandle as WorkflowHandle,
    )
    from belugawf.executor import (
        list_providers as list_providers,
    )
    from belugawf.executor import (
        new_executor as new_executor,
    )
    from belugawf.executor import (
        register_provider as register_provider,
    )
    from belugawf.model.errors import (
        ActivityCancelledError as ActivityCancelledError,
    )
    from belugawf.model.errors import (
        ActivityError as ActivityError,
    )
    from belugawf.model.errors import (
        ActivityInterruptedError as ActivityInterruptedError,
    )
    from belugawf.model.errors import (
        ActivityTimeoutError as ActivityTimeoutError,
    )
    from belugawf.model.errors import (
        AlreadyExistsError as AlreadyExistsError,
    )
    from belugawf.model.errors import (
        AmbiguousRunError as AmbiguousRunError,
    )
    from belugawf.model.errors import (
        ApplicationError as ApplicationError,
    )
    from belugawf.model.errors import (
        BelugaError as BelugaError,
    )
    from belugawf.model.errors import (
        BusyError as BusyError,
    )
    from belugawf.model.errors import (
        ChildWorkflowError as ChildWorkflowError,
    )
    from belugawf.model.errors import (
        ConfigurationError as ConfigurationError,
    )
    from belugawf.model.errors import (
        NondeterminismError as NondeterminismError,
    )
    from belugawf.model.errors import (
        NotFinishedError as NotFinishedError,
    )
    from belugawf.model.errors import (
        NotFoundError as NotFoundError,
    )
    from belugawf.model.errors import (
        PayloadEncodeError as PayloadEncodeError,
    )
    from belugawf.model.errors import (
        PayloadTooLargeError as PayloadTooLargeError,
    )
    from belugawf.model.errors import (
        PayloadTypeError as PayloadTypeError,
    )
    from belugawf.model.errors import (
        RefusedError as RefusedError,
    )
    from belugawf.model.errors import (
        RunEndedError as RunEndedError,
    )
    from belugawf.model.errors import (
        RunNotFoundError as RunNotFoundError,
    )
    from belugawf.model.errors import (
        SignalTimeoutError as SignalTimeoutError,
    )
    from belugawf.model.errors import (
        UnavailableError as UnavailableError,
    )
    from belugawf.model.errors import (
        UsageError as UsageError,
    )
    from belugawf.model.errors import (
        WaitExpiredError as WaitExpiredError,
    )
    from belugawf.model.errors import (
        WorkflowCancelledError as WorkflowCancelledError,
    )
    from belugawf.model.errors import (
        WorkflowFailedError as WorkflowFailedError,
    )
    from belugawf.model.errors import (
        WorkflowNotFoundError as WorkflowNotFoundError,
    )
    from belugawf.model.errors import (
        WorkflowTerminatedError as WorkflowTerminatedError,
    )
    from belugawf.model.errors import (
        WorkflowTimedOutError as WorkflowTimedOutError,
    )
    from belugawf.model.policy import RetryPolicy as RetryPolicy

__version__ = "0.1.0"

_HOMES = {
    "belugawf.authoring.activity": ("activity",),
    "belugawf.authoring.context": ("WorkflowContext",),
    "belugawf.authoring.workflow": ("workflow",),
    "belugawf.executor": (
        "Delivery",
        "DurableExecutor",
        "Hooks",
        "RunInfo",
        "Signal",
        "WorkflowHandle",
        "list_providers",
        "new_executor",
        "register_provider",
    ),
    "belugawf.model.errors": (
        "ActivityCancelledError",
        "ActivityError",
        "ActivityInterruptedError",
        "ActivityTimeoutError",
        "AlreadyExistsError",
        "AmbiguousRunError",
        "ApplicationError",
        "BelugaError",
        "BusyError",
        "ChildWorkflowError",
        "ConfigurationError",
        "NondeterminismError",
        "NotFinishedError",
        "NotFoundError",
        "PayloadEncodeError",
        "PayloadTooLargeError",
        "PayloadTypeError",
        "RefusedError",
        "RunEndedError",
        "RunNotFoundError",
        "SignalTimeoutError",
        "UnavailableError",
        "UsageError",
        "WaitExpiredError",
        "WorkflowCancelledError",
        "WorkflowFailedError",
        "WorkflowNotFoundError",
        "WorkflowTerminatedError",
        "WorkflowTimedOutError",
    ),
    "belugawf.model.policy": ("RetryPolicy",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

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
