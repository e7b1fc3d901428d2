"""How `new_executor("temporal", ...)` makes its executor. Imports `temporalio` only then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from belugawf.config import temporal_settings
from belugawf.executor import Hooks
from belugawf.executor.arguments import checked
from belugawf.executor.options import EngineOptions
from belugawf.model.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from belugawf.config import Settings
    from belugawf.temporal.executor import TemporalExecutor

_PLACE = ("host", "namespace", "task_queue", "tls", "api_key")
_PASSING = ("client", "interceptors", "data_converter")
_DRIVING = tuple(field.name for field in fields(EngineOptions))

# The version of the SDK that this was made for.
_SDK = "1.35"

# The server ends a run with a payload of more than 2 MiB, what we write beside it included.
_LARGEST_PAYLOAD = 2 * 1024 * 1024 - 64 * 1024


@partial(checked, name="new_executor")
def make_executor(
    *,
    workflows: str | Path | Sequence[Callable[..., Any]] | None = None,
    settings: Settings | None = None,
    hooks: Sequence[Hooks] = (),
    drives: bool = True,
    own_process: bool = False,
    context: Context | None = None,
    **options: Any,
) -> TemporalExecutor:
    """See `belugawf.new_executor` and `TemporalExecutor`.

    Raises `ConfigurationError` for an option that does not exist, `UnavailableError` if the
    extra is not installed.
    """
    unknown = sorted(options.keys() - {*_PLACE, *_PASSING, *_DRIVING})
    if unknown:
        raise ConfigurationError(
            f"provider 'temporal' has no option {unknown[0]!r}",
            hint=f"it has workflows, {', '.join((*_PLACE, *_PASSING, *_DRIVING))}",
        )
    try:
        _check_version()
        from belugawf.temporal.executor import TemporalExecutor
        from belugawf.temporal.passing import Passing
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "temporalio":
            raise
        raise UnavailableError(
            "provider 'temporal' needs the Temporal SDK, which is not installed",
            hint="pip install 'belugawf[temporal]'",
        ) from None
    passing = Passing.of(options)
    place = temporal_settings() if settings is None else settings.temporal
    place = replace(place, **{name: options[name] for name in _PLACE if name in options})
    if passing.client is not None:
        host = passing.client.service_client.config.target_host
        place = replace(place, host=host, namespace=passing.client.namespace)
    if settings is not None:
        workflows = settings.workflows if workflows is None else workflows
    given = {name: options[name] for name in _DRIVING if name in options}
    driving = EngineOptions.of(settings, given)
    driving = replace(driving, payload_limit=min(driving.payload_limit, _LARGEST_PAYLOAD))
    if isinstance(workflows, str):
        workflows = Path(workflows)
    return TemporalExecutor(
        place,
        workflows,
        options=driving,
        passing=passing,
        hooks=hooks,
        drives=drives,
        own_process=own_process,
        context=context,
    )


def _check_version() -> None:
    """Raise `UnavailableError` for another SDK: much of what we change in it is not public."""
    from temporalio import __version__ as found

    if not found.startswith(f"{_SDK}."):
        raise UnavailableError(
            f"provider 'temporal' needs the Temporal SDK {_SDK}, and {found} is installed",
            hint="pip install 'belugawf[temporal]'",
        )
