"""What the shell offers after Tab. Read-only, silent, and without importing users' modules.

Ids, signals and workflows have names from outside, and some shells insert what is offered as it is:
a name that a shell would take for anything but one word is not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from belugawf.model.shell import is_plain
from belugawf.probe import probe_of

if TYPE_CHECKING:
    from belugawf.cli.app import Globals
    from belugawf.config import Settings

# A folder of modules is parsed on each Tab; beyond this many bytes a file is no module by hand.
_LARGEST_MODULE_BYTES = 1_000_000


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of runs that begin so."""

    def find() -> Iterable[str]:
        settings = _settings(ctx)
        return probe_of(settings.provider).run_ids(settings, incomplete)

    return _offered(find, incomplete)


def complete_signal(ctx: typer.Context, incomplete: str) -> list[str]:
    """The signals that open runs wait for."""

    def find() -> Iterable[str]:
        settings = _settings(ctx)
        return probe_of(settings.provider).awaited_signals(settings)

    return _offered(find, incomplete)


def complete_workflow(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of workflows in the folder."""

    def find() -> Iterable[str]:
        return workflow_names(Path(_settings(ctx).workflows))

    return _offered(find, incomplete)


def workflow_names(folder: Path) -> list[str]:
    """The names of `@workflow` functions in the modules of a folder, found without importing."""
    import ast

    names: set[str] = set()
    for path in sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")]):
        if path.name.startswith((".", "_")) and path.name != "__init__.py":
            continue
        if path.stat().st_size > _LARGEST_MODULE_BYTES:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue
        for node in tree.body:
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
                names.update(_workflow_name(node, decorator) for decorator in node.decorator_list)
    return sorted(names - {""})


def _workflow_name(function: Any, decorator: Any) -> str:
    import ast

    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    label = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    if label != "workflow":
        return ""
    for keyword in getattr(decorator, "keywords", ()):
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return str(function.name)


def _settings(ctx: typer.Context) -> Settings:
    from belugawf.cli.session import settings_of

    flags = _globals(ctx.find_root())
    return settings_of(flags, directory=flags.directory)


def _globals(root: Any) -> Globals:
    from belugawf.cli.app import Globals

    if isinstance(root.obj, Globals):
        return root.obj

    # While completing, the group's callback does not run; only its parameters are parsed.
    def path(key: str) -> Path | None:
        value = root.params.get(key)
        return Path(value) if value else None

    return Globals(
        config=path("config"),
        directory=path("directory"),
        db=path("db"),
        workflows=path("workflows"),
        provider=root.params.get("provider"),
    )


def _offered(find: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    # A broken configuration, database or module is no reason to write into somebody's prompt.
    try:
        names = list(find())
    except Exception:
        return []
    return [name for name in names if name.startswith(incomplete) and is_plain(name)]
