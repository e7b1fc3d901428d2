"""What the shell offers after Tab. Read-only, silent, and without importing users' modules.

Ids, signals and workflows have names from outside, and some shells insert what is offered as it is:
a name that a shell would take for anything but one word is not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from belugawf.model.shell import is_plain
from belugawf.probe import probe_of

if TYPE_CHECKING:
    from belugawf.config import Settings

# A folder of modules is parsed on each Tab; beyond this many bytes a file is no module by hand.
_LARGEST_MODULE_BYTES = 1_000_000


Complete: TypeAlias = Callable[[typer.Context, str], list[str]]


def _completing(find: Callable[[Settings, str], Iterable[str]]) -> Complete:
    """What typer calls to complete a word; `find` gets the settings and the word so far."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from belugawf.cli.app import Globals
        from belugawf.cli.session import settings_of

        # A broken configuration, database or module must not write into the prompt.
        try:
            flags = Globals.of(ctx)
            names = list(find(settings_of(flags, directory=flags.directory), incomplete))
        except Exception:
            return []
        return [name for name in names if name.startswith(incomplete) and is_plain(name)]

    return complete


complete_run = _completing(lambda found, typed: probe_of(found.provider).run_ids(found, typed))
complete_open_run = _completing(
    lambda found, typed: probe_of(found.provider).run_ids(found, typed, only_open=True)
)
complete_signal = _completing(lambda found, _: probe_of(found.provider).awaited_signals(found))
complete_workflow = _completing(lambda found, _: workflow_names(Path(found.workflows)))


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
