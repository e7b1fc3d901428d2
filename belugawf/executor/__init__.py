"""The seam between callers and providers: what every executor can do, and how one is made."""

from belugawf.executor.handle import WorkflowHandle as WorkflowHandle
from belugawf.executor.info import (
    OPEN as OPEN,
    STATES as STATES,
    STATUSES as STATUSES,
    ActivityState as ActivityState,
    BulkResult as BulkResult,
    Delivery as Delivery,
    Driver as Driver,
    LogLine as LogLine,
    OpenWait as OpenWait,
    Owner as Owner,
    Problem as Problem,
    Pruned as Pruned,
    RunFilters as RunFilters,
    RunId as RunId,
    RunInfo as RunInfo,
    Summary as Summary,
    TypedRun as TypedRun,
    Waiting as Waiting,
)
from belugawf.executor.protocol import (
    DurableExecutor as DurableExecutor,
    IfExists as IfExists,
)
from belugawf.executor.registry import (
    Factory as Factory,
    Middleware as Middleware,
    list_providers as list_providers,
    new_executor as new_executor,
    register_provider as register_provider,
)
from belugawf.model.messages import UNSET as UNSET, Hook as Hook, Hooks as Hooks, Signal as Signal
