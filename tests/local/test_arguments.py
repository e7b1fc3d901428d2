"""Arguments of wrong types from callers: a UsageError at the call that names the parameter."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import belugawf
from belugawf import (
    DurableExecutor,
    Hooks,
    PayloadEncodeError,
    RetryPolicy,
    Signal,
    UsageError,
    WorkflowContext,
    WorkflowHandle,
    activity,
    new_executor,
    workflow,
)
from belugawf.executor.info import LogFilters, RunFilters
from belugawf.executor.options import EngineOptions
from belugawf.local.executor import LocalExecutor
from belugawf.local.factory import make_executor
from tests.authoring.test_arguments import DECORATORS, RETRY, VALUES

DURATIONS = {"none", "int"}
REQUIRED_DURATION = {"int"}
FLAG = {"bool"}
TEXT = {"text"}
TEXT_OR_NONE = {"none", "text"}
ANY_TEXT_OR_NONE = {"none", "text", "empty"}
COUNT_OR_NONE = {"none", "int"}
# Payloads: what JSON cannot hold is a UsageError of the codec's, which names them too.
JSON = {"none", "bool", "int", "negative", "text", "empty", "bytes", "list", "dict"}
CALLABLE = {"function", "async"}
FILTERS = {
    "status": {"none"},
    "state": {"none"},
    "workflow": TEXT_OR_NONE,
    "labels": {"none"},
    "since": DURATIONS,
    "until": DURATIONS,
}


@workflow
async def resting(ctx: WorkflowContext, given: Any = None) -> None:
    await ctx.wait_for_signal("x")


# What each parameter of an executor's methods takes of VALUES; "none" where it may be left out.
# A run "x" and its signal "x" are there.
METHODS: dict[str, dict[str, set[str]]] = {
    "execute": {
        "workflow": {"text", *CALLABLE},
        "id": TEXT_OR_NONE,
        "input": JSON,
        "timeout": DURATIONS,
        "if_exists": set(),
        "labels": {"none"},
        "detach": FLAG,
    },
    "rerun": {
        "run": TEXT, "id": TEXT_OR_NONE, "input": JSON, "timeout": DURATIONS, "detach": FLAG
    },
    "signal": {"run": TEXT_OR_NONE, "signal": TEXT, "payload": JSON, "drive": FLAG},
    "query": {"run": TEXT, "name": TEXT},
    "cancel": {
        "run": TEXT, "reason": ANY_TEXT_OR_NONE, "by": ANY_TEXT_OR_NONE, "drive": FLAG
    },
    "terminate": {"run": TEXT, "reason": ANY_TEXT_OR_NONE, "by": ANY_TEXT_OR_NONE},
    "retry": {
        "run": TEXT,
        "from_position": COUNT_OR_NONE,
        "timeout": DURATIONS,
        "discard": FLAG,
        "reason": ANY_TEXT_OR_NONE,
        "by": ANY_TEXT_OR_NONE,
        "drive": FLAG,
    },
    "resume": {
        "id": TEXT_OR_NONE,
        "max_time": DURATIONS,
        "grace": DURATIONS,
        "workflow": TEXT_OR_NONE,
        "patience": REQUIRED_DURATION,
        "dry_run": FLAG,
    },
    "work": {"concurrency": COUNT_OR_NONE, "grace": DURATIONS},
    "workers": {"workflow": TEXT_OR_NONE},
    "driver_of": {"run": TEXT},
    "handle": {"run": TEXT},
    "describe": {"run": TEXT},
    "result_of": {"run": TEXT},
    "activities": {"run": TEXT},
    "list": {"limit": COUNT_OR_NONE, **FILTERS},
    "count": {"limit": {"int"}, **FILTERS},
    "select": {"awaiting": TEXT_OR_NONE, **FILTERS},
    "cancel_many": {"runs": set(), "reason": ANY_TEXT_OR_NONE, "by": ANY_TEXT_OR_NONE},
    "terminate_many": {"runs": set(), "reason": ANY_TEXT_OR_NONE, "by": ANY_TEXT_OR_NONE},
    "signal_many": {"runs": set(), "signal": set()},
    "retry_many": {"runs": set(), "reason": ANY_TEXT_OR_NONE, "by": ANY_TEXT_OR_NONE},
    "waiting": {"signal": TEXT_OR_NONE, "since": DURATIONS, "limit": COUNT_OR_NONE},
    "prune": {
        "older_than": REQUIRED_DURATION,
        "status": {"none"},
        "workflow": TEXT_OR_NONE,
        "labels": {"none"},
        "since": DURATIONS,
        "until": DURATIONS,
        "dry_run": FLAG,
        "vacuum": FLAG,
    },
    "history": {"run": TEXT, "after": COUNT_OR_NONE},
    "logs": {
        "run": TEXT,
        "level": {"none"},
        "activity": TEXT_OR_NONE,
        "after": COUNT_OR_NONE,
        "limit": COUNT_OR_NONE,
    },
    "wait": {
        "run": TEXT, "until": set(), "max_wait": DURATIONS, "patience": REQUIRED_DURATION
    },
    "sync": {}, "in_flight": {}, "interrupt": {}, "summary": {}, "attention": {},
}  # fmt: skip
# What a call needs besides the argument that is tried.
NEEDED: dict[str, dict[str, Any]] = {
    "execute": {"workflow": resting, "id": "other"},
    "signal": {"run": "x", "signal": "x"},
    "query": {"run": "x", "name": "status"},
    "count": {"limit": 1},
    "signal_many": {"runs": [], "signal": Signal("x")},
    "cancel_many": {"runs": []},
    "terminate_many": {"runs": []},
    "retry_many": {"runs": []},
    "prune": {"older_than": 1},
    **{
        name: {"run": "x"}
        for name, wanted in METHODS.items()
        if "run" in wanted and name not in ("signal", "query")
    },
}
HANDLE: dict[str, dict[str, set[str]]] = {
    "signal": {"signal": TEXT, "payload": JSON},
    "query": {"name": TEXT},
    "cancel": {"reason": ANY_TEXT_OR_NONE},
    "terminate": {"reason": ANY_TEXT_OR_NONE},
    "status": {}, "describe": {}, "result": {},
}  # fmt: skip
FUNCTIONS: dict[Callable[..., Any], dict[str, set[str]]] = {
    Signal: {
        "name": TEXT,
        "payload": set(VALUES),
        "sent_at": {"none"},
        "sender": ANY_TEXT_OR_NONE,
        "key": ANY_TEXT_OR_NONE,
    },
    Hooks: {name: {"none", *CALLABLE, "class"} for name in (x.name for x in fields(Hooks))},
    belugawf.register_provider: {"name": TEXT, "factory": {*CALLABLE, "class"}},
    belugawf.list_providers: {},
    new_executor: {
        "provider": {"text"},
        "hooks": {"none"},
        "middleware": {"function", "async", "class"},
    },
    make_executor: {
        "db": TEXT_OR_NONE,
        "workflows": {"none", "text"},
        "settings": {"none"},
        "durability": {"none"},
        "create": FLAG,
        "own_process": FLAG,
        "hooks": {"none"},
        "context": {"none"},
        "clock": {"none"},
    },
    EngineOptions: {
        "defaults": set(),
        "max_crashes": {"int"},
        **{x: {"int"} for x in ("payload_limit", "concurrency", "threads", "cache_runs")},
        "keep_logs": {"int"},
        "keep_logs_for": DURATIONS,
    },
}
NEEDED_BY: dict[Callable[..., Any], dict[str, Any]] = {
    Signal: {"name": "x"},
    belugawf.register_provider: {"name": "swept", "factory": print},
}
# Public classes that callers are given and do not make, and what is swept elsewhere.
GIVEN = {"Delivery", "RunInfo", "WorkflowHandle", "DurableExecutor"}
NOT_SWEPT: dict[str, set[str]] = {"activity": set(), "workflow": set()}
AUTHORING = {"RetryPolicy", "WorkflowContext", "activity", "workflow"}


@pytest.fixture(autouse=True)
def no_providers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is gone afterwards."""
    from belugawf.executor import registry

    monkeypatch.setattr(registry, "_FACTORIES", {})


def rows_of(db: Path) -> list[str]:
    """All that the tables hold, but for what a process notes of itself."""
    with sqlite3.connect(db) as connection:
        return [line for line in connection.iterdump() if "INSERT" in line and "owner" not in line]


def check_refused(call: Callable[[Any], Any], name: str, taken: set[str]) -> None:
    """Every other value is, and the error names the parameter."""
    for kind in VALUES.keys() - taken:
        with pytest.raises(UsageError) as caught:
            call(VALUES[kind])
            pytest.fail(f"{name} takes {kind}")
        message = caught.value.message
        assert name in message, (kind, message)
        assert caught.value.hint or isinstance(caught.value, PayloadEncodeError), (kind, message)
        assert "\n" not in message, kind
        assert len(message) < 300, kind


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A database with the run "x", which waits for signal "x"."""
    path = tmp_path / "state.db"
    with new_executor(db=path, workflows=[resting]).sync() as executor:
        executor.execute(resting, id="x")
        executor.wait("x", until="waiting")
    return path


def test_of_methods(db: Path) -> None:
    """What does not fit is refused at the call, and nothing was written."""
    before = rows_of(db)
    with new_executor(db=db, workflows=[resting]).sync() as executor:
        handle = executor.handle("x")
        for target, table, needed in (
            (executor, METHODS, NEEDED),
            (handle, HANDLE, {"signal": {"signal": "x"}, "query": {"name": "status"}}),
        ):
            for method, wanted in table.items():
                for name, taken in wanted.items():
                    call = partial(_call, getattr(target, method), needed.get(method, {}), name)
                    check_refused(call, name, taken)  # FINDINGS E7
    assert rows_of(db) == before


def _call(function: Callable[..., Any], needed: dict[str, Any], name: str, value: Any) -> Any:
    return function(**{**needed, name: value})


FUNCTION_CELLS = [(function, name) for function, wanted in FUNCTIONS.items() for name in wanted]


@pytest.mark.parametrize(("function", "name"), FUNCTION_CELLS)
def test_of_functions_and_values(function: Callable[..., Any], name: str) -> None:
    """Those that make an executor, and those that are passed to one: the rest is taken."""
    call = partial(_call, function, NEEDED_BY.get(function, {}), name)
    taken = FUNCTIONS[function][name]
    check_refused(call, name, taken)  # FINDINGS E7
    if function is not new_executor:
        for kind in taken:
            call(VALUES[kind])


def test_a_run_is_named_in_the_message(db: Path) -> None:
    """As callers know the function, with a hint."""
    with new_executor(db=db).sync() as executor, pytest.raises(UsageError) as caught:
        executor.list(limit="x")
    assert caught.value.message == "limit of list() is 'x'"  # FINDINGS E7
    assert caught.value.hint == "give a whole number, 0 or more"


# -- whether all is swept ------------------------------------------------------------------------


def parameters(function: Callable[..., Any]) -> set[str]:
    """Those by name, those of `**filters` among them."""
    if is_dataclass(function) and function is not RetryPolicy:
        return {field.name for field in fields(function)}
    found = set(inspect.signature(function).parameters) - {"self", "options"}
    filters = LogFilters if function.__name__ == "logs" else RunFilters
    return (found - {"filters"}) | filters.__annotations__.keys() if "filters" in found else found


def public_methods(kind: type) -> dict[str, Callable[..., Any]]:
    return {
        name: member
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("kind", "table"),
    [(DurableExecutor, METHODS), (LocalExecutor, METHODS), (WorkflowHandle, HANDLE)],
)
def test_every_parameter_of_methods_is_swept(kind: type, table: dict[str, Any]) -> None:
    """A new one must be put into the table."""
    for name, method in public_methods(kind).items():
        beside = {"payload", "args"}
        assert parameters(method) - beside == table[name].keys() - beside, name  # FINDINGS E7
    assert public_methods(kind).keys() == table.keys()


def test_every_public_name_is_swept() -> None:
    """Here, in the sweep of workflow code, or no caller passes it anything."""
    swept = {function.__name__ for function in FUNCTIONS} | GIVEN | AUTHORING
    for name in belugawf.__all__:
        value = getattr(belugawf, name)
        error = isinstance(value, type) and issubclass(value, Exception)
        assert error or name in swept or name == "__version__", name  # FINDINGS E7
    for function, wanted in FUNCTIONS.items():
        assert parameters(function) == wanted.keys() - {"clock"}, function
    decorators = [(x.__name__ if x is not activity else "activity", n) for x, n, _ in DECORATORS]
    for name, decorator in (("activity", type(activity).__call__), ("workflow", workflow)):
        known = {n for found, n in decorators if found == name} | {"function"}
        assert parameters(decorator) - known == NOT_SWEPT[name], name
    assert parameters(RetryPolicy) == RETRY.keys()
