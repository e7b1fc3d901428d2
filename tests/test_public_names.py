"""The public names: what the documentation promises can be imported, and nothing by accident."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import belugawf

ROOT = Path(__file__).parents[1]

AUTHORING = {"RetryPolicy", "Signal", "WorkflowContext", "activity", "workflow"}
EXECUTING = {
    *("Delivery", "DurableExecutor", "Hooks", "RunInfo", "WorkflowHandle"),
    *("list_providers", "new_executor", "register_provider"),
}
# What workflow code may meet.
WORKFLOW_ERRORS = {
    *("ActivityError", "ActivityTimeoutError", "ActivityCancelledError"),
    *("ActivityInterruptedError", "ApplicationError", "ChildWorkflowError", "SignalTimeoutError"),
    *("PayloadTypeError", "PayloadTooLargeError", "PayloadEncodeError", "NondeterminismError"),
}
# What callers may meet.
CALLER_ERRORS = {
    *("BelugaError", "UsageError", "ConfigurationError", "BusyError", "UnavailableError"),
    *("NotFoundError", "RunNotFoundError", "WorkflowNotFoundError", "NotFinishedError"),
    *("RefusedError", "AlreadyExistsError", "AmbiguousRunError", "RunEndedError"),
    *("WaitExpiredError", "WorkflowCancelledError", "WorkflowFailedError"),
    *("WorkflowTerminatedError", "WorkflowTimedOutError", "RunParkedError"),
}
NAMES = {"__version__"} | AUTHORING | EXECUTING | WORKFLOW_ERRORS | CALLER_ERRORS


def test_the_list() -> None:
    """`__all__` is what is promised, sorted, each name once."""
    assert set(belugawf.__all__) == NAMES
    assert len(belugawf.__all__) == len(NAMES)
    assert belugawf.__all__ == sorted(belugawf.__all__, key=lambda n: (n != "__version__", n))


def test_dir() -> None:
    """Completion in a shell shows the same names."""
    assert dir(belugawf) == sorted(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_resolves(name: str) -> None:
    """Each can be imported, knows its own name, and is the same object every time."""
    value = getattr(belugawf, name)
    assert value is getattr(belugawf, name)
    if name not in ("__version__", "activity"):
        assert value.__name__ == name
        assert value.__doc__ or issubclass(value, belugawf.BelugaError)
    elif name == "activity":
        assert callable(value)


def test_import_star() -> None:
    """`from belugawf import *` gives them all."""
    names: dict[str, object] = {}
    exec("from belugawf import *", names)
    assert names.keys() >= NAMES


def test_type_checkers_see_them_too() -> None:
    """The imports under TYPE_CHECKING are those of `__all__`, from the same modules."""
    tree = ast.parse((ROOT / "belugawf" / "__init__.py").read_text())
    [guarded] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert seen == belugawf._HOME_OF
    assert set(seen) | {"__version__"} == NAMES


def test_errors_have_one_root() -> None:
    """Every public error is a BelugaError, with a code and an exit code of its own."""
    errors = [getattr(belugawf, name) for name in WORKFLOW_ERRORS | CALLER_ERRORS]
    assert all(issubclass(error, belugawf.BelugaError) for error in errors)
    assert len({error.code for error in errors}) == len(errors)


def test_unknown_name() -> None:
    """A name that is not there is an AttributeError as in any module."""
    with pytest.raises(AttributeError, match="module 'belugawf' has no attribute 'actvity'"):
        belugawf.actvity  # noqa: B018
    with pytest.raises(ImportError):
        exec("from belugawf import actvity")


def test_version_is_the_packages() -> None:
    """The version is said in two places, alike."""
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{belugawf.__version__}"' in text


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import belugawf", "asyncio sqlite3 typing_extensions rich typer yaml belugawf.model"),
        ("import belugawf; dir(belugawf)", "asyncio sqlite3 belugawf.model"),
        ("from belugawf import BelugaError, RetryPolicy", "asyncio sqlite3 belugawf.replay"),
        (
            "from belugawf import WorkflowContext, activity, workflow",
            "sqlite3 sqlite_utils typer rich yaml pydantic temporalio belugawf.replay"
            " belugawf.executor belugawf.local random",
        ),
        (
            "from belugawf import new_executor, register_provider, list_providers, Hooks",
            "sqlite3 sqlite_utils typer rich yaml pydantic temporalio belugawf.local belugawf.cli"
            " random",
        ),
        # What a process has that drives, beside what asyncio imports.
        (
            "import belugawf.local.factory, belugawf.local.drive.engine",
            "typer rich yaml pydantic temporalio belugawf.cli belugawf.temporal"
            " tempfile faulthandler concurrent.futures.thread",
        ),
    ],
)
def test_names_cost_what_they_need(statement: str, absent: str) -> None:
    """Importing a name imports its own module, and nothing slow besides."""
    script = f"{statement}\nimport sys\nprint(*(set({absent.split()!r}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == []
