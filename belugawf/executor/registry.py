"""The providers by their names, and how an executor of one is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

from belugawf.executor.arguments import checked
from belugawf.executor.protocol import DurableExecutor
from belugawf.model.errors import ConfigurationError, UnavailableError
from belugawf.model.messages import Hooks

Middleware: TypeAlias = Callable[[DurableExecutor], DurableExecutor]
Factory: TypeAlias = Callable[..., DurableExecutor]

_FACTORIES: dict[str, Factory] = {}
_BUILT_IN = {
    "default": "belugawf.local.factory:make_executor",
    "temporal": "belugawf.temporal.factory:make_executor",
}
_ENTRY_POINTS = "belugawf.providers"


@checked
def register_provider(name: str, factory: Factory) -> None:
    """Make `new_executor(name, ...)` call `factory(...)` with the same keyword arguments."""
    _FACTORIES[name] = factory


def list_providers() -> list[str]:
    """The names that `new_executor` takes, in order."""
    from importlib.metadata import entry_points

    found = {point.name for point in entry_points(group=_ENTRY_POINTS)}
    return sorted({*_BUILT_IN, *_FACTORIES, *found})


@partial(checked, others=False)
def new_executor(
    provider: str = "default",
    *,
    hooks: Hooks | Sequence[Hooks] | None = None,
    middleware: Middleware | Sequence[Middleware] = (),
    **options: Any,
) -> DurableExecutor:
    """An executor of that provider; imports the provider only now. Use it as `async with`.

    `default` takes `db` (a path), `workflows` (a folder, or the functions themselves), `settings`
    (of `belugawf.config`), `durability`, `concurrency`, `threads`, `max_crashes`, `payload_limit`.
    Each middleware is called with the executor and returns the one to use. Raises
    `ConfigurationError` for a provider or an option that does not exist.
    """
    factory = _factory(provider)
    chosen = (hooks,) if isinstance(hooks, Hooks) else tuple(hooks or ())
    executor = factory(hooks=chosen, **options)
    for wrap in (middleware,) if callable(middleware) else tuple(middleware):
        executor = wrap(executor)
    return executor


def _factory(provider: str) -> Factory:
    if provider in _FACTORIES:
        return _FACTORIES[provider]
    if provider in _BUILT_IN:
        return _load(_BUILT_IN[provider], provider)
    from importlib.metadata import entry_points

    for point in entry_points(group=_ENTRY_POINTS, name=provider):
        loaded: Factory = point.load()
        return loaded
    raise ConfigurationError(
        f"there is no provider {provider!r}", hint=f"there are: {', '.join(list_providers())}"
    )


def _load(target: str, provider: str) -> Factory:
    module, _, name = target.partition(":")
    try:
        loaded: Factory = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise UnavailableError(
            f"provider {provider!r} is not part of this version of belugawf",
            hint="use provider: default",
        ) from None
    return loaded
