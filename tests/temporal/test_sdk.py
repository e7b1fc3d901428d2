"""What is used of the SDK that it does not call public: each name is listed, and is there."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import temporalio
from temporalio.worker import Worker
from temporalio.worker._workflow import _WorkflowWorker
from temporalio.worker._workflow_instance import _TimerHandle, _WorkflowInstanceImpl

from belugawf import new_executor
from belugawf.model.errors import UnavailableError
from belugawf.temporal import factory
from belugawf.temporal.instance import Instance

PACKAGE = Path(factory.__file__).parent
ROOT = PACKAGE.parents[1]

IMPORTED = {"_TimerHandle", "_WorkflowInstanceImpl"}
OF_THE_WORKER = {"_workflow_worker"}
OF_ITS_WORKFLOWS = {"_deadlock_timeout_seconds"}
OF_THE_INSTANCE = {
    "_add_command",
    "_assert_not_read_only",
    "_check_condition",
    "_conditions",
    "_current_activation_error",
    "_current_completion",
    "_deleting",
    "_info",
    "_is_replaying",
    "_object",
    "_outbound",
    "_read_only",
    "_ready",
    "_register_task",
    "_run_once",
    "_set_workflow_failure",
    "_tasks",
    "_timer_handle_cancelled",
    "_workflow_context_failure_converter",
    "_workflow_context_payload_converter",
}
# It names these as well, and we mean asyncio's.
OF_ASYNCIO = {"_run", "_set_running_loop"}


def names_of(source: str) -> set[str]:
    """All private attributes that the code reads, writes or defines."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return {name for name in found if re.match(r"_[a-z]", name)}


def has(thing: type[Any]) -> set[str]:
    """The private names of a class: its methods, and what its own code sets."""
    return set(vars(thing)) | names_of(inspect.getsource(thing))


def test_what_is_used_is_listed() -> None:
    """Of the SDK's run in memory: whatever it has, and our code names."""
    # FINDINGS P12
    used = names_of((PACKAGE / "instance.py").read_text())
    assert used & has(_WorkflowInstanceImpl) == OF_THE_INSTANCE | OF_ASYNCIO


def test_what_is_used_is_there() -> None:
    """In the version that is installed."""
    # FINDINGS P12
    assert has(_WorkflowInstanceImpl) >= OF_THE_INSTANCE
    assert has(Worker) >= OF_THE_WORKER
    assert has(_WorkflowWorker) >= OF_ITS_WORKFLOWS
    assert issubclass(Instance, _WorkflowInstanceImpl)
    assert _TimerHandle.__mro__[1].__name__ == "TimerHandle"


def test_nothing_else_is_imported() -> None:
    """Private modules and names of the SDK, in the whole package."""
    # FINDINGS P12
    found = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("temporalio"):
                found |= {alias.name for alias in node.names if alias.name.startswith("_")}
    assert found - {"__version__"} == IMPORTED


@pytest.mark.parametrize("version", ["1.34.9", "1.36.0", "2.0", "1.350.1"])
def test_another_version_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one sentence, before anything of it is used."""
    # FINDINGS P12
    monkeypatch.setattr(temporalio, "__version__", version)
    with pytest.raises(UnavailableError, match=rf"needs the Temporal SDK 1\.35, and {version} is"):
        new_executor("temporal")


def test_pip_installs_that_version() -> None:
    """The extra and the check say the same."""
    # FINDINGS P12
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    major, minor = factory._SDK.split(".")
    wanted = [f"temporalio>={factory._SDK},<{major}.{int(minor) + 1}"]
    assert project["optional-dependencies"]["temporal"] == wanted
