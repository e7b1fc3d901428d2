"""Input, payloads and results that do not fit."""

from __future__ import annotations

import pytest

from tests.conformance.harness import Project


@pytest.mark.parametrize("payload", ["yes", "{", "", "NaN", "Infinity", "{'a': 1}", "1 2"])
def test_payload_that_is_no_json(project: Project, payload: str) -> None:
    """A payload that isn't valid JSON is 2 and says what is; the run still waits."""
    project.cli("run", "asking", "--id", "a")
    history = project.history("a")
    refused = project.cli("signal", "approval", "a", "--payload", payload, "--json", check=2)
    assert "JSON" in refused.error["message"]
    assert "text" in refused.error["hint"]
    assert project.cli("signal", "approval", "a", "--payload", payload, check=2).no_traceback()
    assert project.history("a") == history
    assert project.query_db("SELECT count(*) FROM inbox") == [(0,)]
    project.cli("signal", "approval", "a", "--text", payload)
    assert project.result("a") == f"it {payload} is done"


def test_query_arguments_that_are_no_json(project: Project) -> None:
    """Likewise the arguments of a query."""
    project.cli("run", "asking", "--id", "a")
    refused = project.cli("query", "a", "status", "--args", "[1", "--json", check=2)
    assert "JSON" in refused.error["message"]


TYPED = """
    from dataclasses import dataclass


    @dataclass
    class Order:
        number: int
        items: list[str]


    @workflow
    async def typed(ctx: WorkflowContext, order: Order) -> str:
        return f"{order.number} {order.items}"


    @workflow
    async def several(ctx: WorkflowContext, count: int, flag: bool = False) -> str:
        return f"{count} {flag}"
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("typed", "-i", '{"number": "one", "items": []}'), ("number", "int")),
        (("typed", "-i", '{"number": 1, "items": [2]}'), ("items[0]", "str")),
        (("typed", "-i", '{"number": 1}'), ("items",)),
        (("typed", "-i", "just text"), ("Order",)),
        (("typed",), ("order",)),
        (("several", "-a", "count=many"), ("count", "int")),
        (("several", "-a", "count=1", "-a", "flag=yes"), ("flag", "bool")),
        (("several", "-a", "count=true"), ("count", "int")),
        (("several", "-a", "count=1", "-a", "flagg=true"), ("flagg", "flag")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_input_of_the_wrong_type(
    project: Project, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Input that does not fit is 2, names the place and the expected type, and starts nothing."""
    project.write_module("typed", TYPED)
    refused = project.cli("run", *arguments, "--json", check=2)
    told = f"{refused.error['message']} {refused.error['hint']}"
    for word in words:
        assert word in told, refused
    assert project.cli("list", "--json").json == []
    project.cli("run", *arguments, check=2).no_traceback()


LARGE = 2 * 1024 * 1024 + 10


def test_signal_over_the_limit(project: Project) -> None:
    """A payload over 2 MiB is 2 and names size and limit; the run still waits."""
    project.cli("run", "asking", "--id", "a")
    (project.root / "large.json").write_text('"' + "x" * LARGE + '"')
    refused = project.cli(
        "signal", "approval", "a", "--payload-file", "large.json", "--json", check=2
    )
    assert refused.error["code"] == "payload_too_large"
    assert "2,097,152" in refused.error["message"]
    assert project.waits("a", "approval")
    assert not project.events("a", "SignalReceived")
    assert project.query_db("SELECT count(*) FROM inbox") == [(0,)]


def test_input_over_the_limit(project: Project) -> None:
    """Input over the limit is 2 and starts nothing."""
    (project.root / "large.txt").write_text("x" * LARGE)
    refused = project.cli("run", "asking", "--input-file", "large.txt", "--json", check=2)
    assert refused.error["code"] == "payload_too_large"
    assert project.cli("list", "--json").json == []


def test_limit_that_is_configured(project: Project) -> None:
    """`payload_limit` moves the limit."""
    project.configure("payload_limit: 1KiB\n")
    project.cli("run", "asking", "--id", "a")
    refused = project.cli("signal", "approval", "a", "--text", "x" * 2000, "--json", check=2)
    assert refused.error["code"] == "payload_too_large"
    project.cli("signal", "approval", "a", "--text", "x" * 500)
    assert project.status("a")["status"] == "completed"


RESULTS = """
    VALUES = {
        "object": lambda: {"rows": [1, object()]},
        "nan": lambda: {"rows": [1, float("nan")]},
        "surrogate": lambda: {"rows": [1, "\\ud800"]},
        "keys": lambda: {"rows": [1, {(1, 2): 3}]},
        "large": lambda: "x" * (2 * 1024 * 1024 + 10),
    }


    @activity(retry=RetryPolicy(max_attempts=3, initial_delay=0.01))
    def give(kind: str):
        note(f"give {kind}")
        return VALUES[kind]()


    @workflow
    async def from_activity(ctx: WorkflowContext, kind: str) -> str:
        try:
            await ctx.execute_activity(give, kind)
        except ActivityError as error:
            return f"{error.cause.type}: {error.cause.message}"
        return "encoded"


    @workflow
    async def unhandled(ctx: WorkflowContext, kind: str) -> str:
        await ctx.execute_activity(give, kind)
        return "encoded"


    @workflow
    async def from_workflow(ctx: WorkflowContext, kind: str):
        return VALUES[kind]()


    @workflow
    async def as_argument(ctx: WorkflowContext, kind: str):
        return await ctx.execute_activity(give, VALUES[kind]())
"""

# The kind of value: the error's type, and what its message says of place and type.
UNFIT = [
    ("object", "PayloadEncodeError", ("rows[1]", "object")),
    ("nan", "PayloadEncodeError", ("rows[1]", "NaN")),
    ("surrogate", "PayloadEncodeError", ("rows[1]", "surrogate")),
    ("keys", "PayloadEncodeError", ("rows[1]", "tuple")),
    ("large", "PayloadTooLargeError", ("2,097,152",)),
]


@pytest.mark.parametrize(("kind", "error", "words"), UNFIT, ids=[kind for kind, _, _ in UNFIT])
def test_activity_result_without_json(
    project: Project, kind: str, error: str, words: tuple[str, ...]
) -> None:
    """A result that cannot be encoded fails its activity, with path and type, and is catchable."""
    project.write_module("results", RESULTS)
    project.cli("run", "from_activity", "-i", kind, "--id", "r")
    told = project.result("r")
    assert told.startswith(f"{error}: ")
    for word in words:
        assert word in told
    failed = project.cli("run", "unhandled", "-i", kind, "--id", "u", check=3).no_traceback()
    for word in ("give", *words):
        assert word in failed.err
    assert project.status("u")["error"]["activity"] == "give"


@pytest.mark.parametrize(("kind", "error", "words"), UNFIT, ids=[kind for kind, _, _ in UNFIT])
@pytest.mark.parametrize("workflow", ["from_workflow", "as_argument"])
def test_run_result_without_json(
    project: Project, workflow: str, kind: str, error: str, words: tuple[str, ...]
) -> None:
    """A run's result, or an argument in its code, that cannot be encoded parks that run."""
    project.write_module("results", RESULTS)
    parked = project.cli("run", workflow, "-i", kind, "--id", "r", check=13)
    assert parked.out == ""
    shown = project.status("r")
    assert (shown["status"], shown["problem"]["code"]) == ("running", "code_error")
    for word in (error, *words):
        assert word in shown["problem"]["message"]
        assert word in parked.err
    assert project.log() == []
