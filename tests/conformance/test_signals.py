"""Scenarios 25 to 31 and 42: signals and queries."""

from __future__ import annotations

import json

import pytest

from tests.conformance.harness import Project, wait_for

WAITING = """
    @activity
    def before() -> None:
        note("before")


    @workflow
    async def waiting(ctx: WorkflowContext) -> dict:
        await ctx.execute_activity(before)
        signal = await ctx.wait_for_signal("go", timeout="24h")
        return {"payload": signal.payload, "sender": signal.sender}


    @workflow
    async def ordered(ctx: WorkflowContext) -> list:
        first = await ctx.wait_for_signal("first")
        second = await ctx.wait_for_signal("second")
        again = await ctx.wait_for_signal("first")
        return [first.payload, second.payload, again.payload]
"""


def test_25_sent_before_the_wait(project: Project) -> None:
    """A signal sent before the wait is delivered at once when it is awaited, in order."""
    project.write_module("waiting", WAITING)
    project.cli("run", "waiting", "--id", "w", "-d")
    project.cli("signal", "go", "w", "--payload", "[1, 2]", "--by", "Ada", "--no-resume")
    project.cli("signal", "go", "w", "--payload", "3", "--no-resume")
    shown = project.finish("w", check=0)
    assert shown["status"] == "completed"
    assert shown["result"] == {"payload": [1, 2], "sender": "Ada"}


def test_26_two_names_other_order(project: Project) -> None:
    """Signals of two names sent in the other order reach the right waits."""
    project.write_module("waiting", WAITING)
    project.cli("run", "ordered", "--id", "o")
    project.cli("signal", "second", "o", "--payload", '"b"')
    assert project.status("o")["status"] == "running"
    assert project.status("o")["waiting_for"][0]["name"] == "first"
    project.cli("signal", "first", "o", "--payload", '"a"')
    project.cli("signal", "first", "o", "--payload", '"c"')
    assert project.result("o") == ["a", "b", "c"]


def test_27_sent_while_nothing_runs(project: Project) -> None:
    """A signal that was only put down is delivered by the next resume."""
    project.write_module("waiting", WAITING)
    project.cli("run", "waiting", "--id", "w")
    project.cli("signal", "go", "w", "--text", "later", "--no-resume")
    if project.provider.local:
        assert project.status("w")["status"] == "running"
    project.cli("resume")
    assert project.result("w")["payload"] == "later"
    assert project.log() == ["before"]


def test_28_to_an_ended_run(project: Project) -> None:
    """To an ended run: refused with 9, and its history stays as it was."""
    project.write_module("waiting", WAITING)
    project.cli("run", "waiting", "--id", "w")
    project.cli("signal", "go", "w", "--payload", "1")
    before = project.history("w")
    refused = project.cli("signal", "go", "w", "--payload", "2", "--json", check=9)
    assert refused.error["code"] == "run_ended"
    assert "w" in refused.error["message"]
    assert project.history("w") == before
    assert project.result("w")["payload"] == 1


def test_28_to_an_unknown_run(project: Project) -> None:
    """To an unknown run: refused with 10 and the nearest name; nothing is created."""
    project.write_module("waiting", WAITING)
    project.cli("run", "waiting", "--id", "quarterly-report")
    refused = project.cli("signal", "go", "quartely-report", "--payload", "1", "--json", check=10)
    assert refused.error["code"] == "run_not_found"
    assert "quartely-report" in refused.error["message"]
    assert "quarterly-report" in refused.error["message"] + (refused.error["hint"] or "")
    assert [run["workflow_id"] for run in project.cli("list", "--json").json] == [
        "quarterly-report"
    ]
    assert not project.events("quarterly-report", "SignalReceived")


def test_29_null_payload(project: Project) -> None:
    """A null payload is a signal, not a timeout."""
    project.write_module("waiting", WAITING)
    project.cli("run", "waiting", "--id", "w")
    project.cli("signal", "go", "w", "--payload", "null")
    shown = project.status("w")
    assert shown["status"] == "completed"
    assert project.result("w")["payload"] is None


TYPED = """
    @activity
    def held() -> None:
        note("held")
        pass_gate("held")


    @workflow
    async def typed(ctx: WorkflowContext, hold: bool = False) -> list:
        refused = 0
        if hold:
            await ctx.execute_activity(held)
        while True:
            try:
                signal = await ctx.wait_for_signal("amount", type=int)
            except PayloadTypeError:
                refused += 1
            else:
                return [refused, signal.payload]
"""


@pytest.mark.parametrize("payload", ['"5"', "5.5", "true", "null", "[5]"])
def test_30_wrong_type_refused(project: Project, payload: str) -> None:
    """Where the awaited type is known, another one is refused when sent, and never stored."""
    project.write_module("typed", TYPED)
    project.cli("run", "typed", "--id", "t")
    before = project.history("t")
    refused = project.cli("signal", "amount", "t", "--payload", payload, "--json", check=2)
    assert refused.error["code"] == "payload_type"
    assert "int" in refused.error["message"]
    assert project.history("t") == before
    assert project.waits("t", "amount")
    project.cli("signal", "amount", "t", "--payload", "5")
    assert project.result("t") == [0, 5]


def test_30_wrong_type_raises(project: Project) -> None:
    """Where it is not known yet, the wait raises, and the run is not poisoned."""
    project.write_module("typed", TYPED)
    driver = project.start("run", "typed", "--id", "t", "-i", "true")
    wait_for(lambda: project.count("held") == 1, "it is held", process=driver)
    driver.kill()
    project.cli("signal", "amount", "t", "--text", "five", "--no-resume")
    project.open_gate("held")
    project.cli("resume", "t")
    shown = project.status("t")
    assert (shown["status"], shown["problem"]) == ("running", None)
    project.cli("signal", "amount", "t", "--payload", "5")
    assert project.result("t") == [1, 5]


def test_31_same_key_twice(project: Project) -> None:
    """Two signals with the same key are delivered once, also after the first was taken."""
    project.write_module(
        "counting",
        """
        @workflow
        async def counting(ctx: WorkflowContext) -> list:
            payloads = []
            async for signal in ctx.signals("item"):
                if signal.payload == "stop":
                    return payloads
                payloads.append(signal.payload)
        """,
    )
    project.cli("run", "counting", "--id", "c")
    for options in (("--no-resume",), ("--no-resume",), (), ()):
        project.cli("signal", "item", "c", "--payload", "1", "--key", "k1", *options)
    project.cli("signal", "item", "c", "--payload", "2", "--key", "k2")
    project.cli("signal", "item", "c", "--payload", "1")
    project.cli("signal", "item", "c", "--text", "stop")
    assert project.result("c") == [1, 2, 1]
    payloads = [event["payload"] for event in project.events("c", "SignalReceived")]
    assert payloads == [1, 2, 1, "stop"]


QUERIED = """
    @activity
    def before() -> None:
        note("before")


    @workflow
    async def queried(ctx: WorkflowContext) -> int:
        state = {"count": 0}
        ctx.set_query("count", lambda: state["count"])
        ctx.set_query("plus", lambda other: state["count"] + other)
        await ctx.execute_activity(before)
        async for signal in ctx.signals("add"):
            if signal.payload == 0:
                return state["count"]
            state["count"] += signal.payload
"""


def test_42_query_changes_nothing(project: Project) -> None:
    """Queries answer from the run's state; the history and the whole database stay the same."""
    project.write_module("queried", QUERIED)
    project.cli("run", "queried", "--id", "q")
    project.cli("signal", "add", "q", "--payload", "5")
    history = project.history("q")
    dump = project.dump_db() if project.provider.local else None

    assert json.loads(project.cli("query", "q", "count").out) == 5
    assert json.loads(project.cli("query", "q", "plus", "--args", "[2]").out) == 7
    assert "running" in project.cli("query", "q", "status").out
    assert "add" in project.cli("query", "q", "waiting").out
    unknown = project.cli("query", "q", "cuont", check=10)
    assert "count" in unknown.err

    assert project.history("q") == history
    assert dump is None or project.dump_db() == dump
    project.cli("signal", "add", "q", "--payload", "0")
    assert project.result("q") == 5
    assert json.loads(project.cli("query", "q", "count").out) == 5
    assert project.log() == ["before"]
