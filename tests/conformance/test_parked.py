"""Scenario 64: a run whose code is wrong is parked, and goes on once that is mended."""

from __future__ import annotations

import pytest

from tests.conformance.harness import Project, wait_for

ALONE = """
    @activity
    def pay() -> str:
        note("pay")
        return "paid"


    @activity
    def ship() -> str:
        note("ship")
        return "shipped"


    @workflow
    async def order(ctx: WorkflowContext) -> str:
        paid = await ctx.execute_activity(pay)
        return piad
"""
IN_GROUP = ALONE.replace(
    "    return piad",
    """
        async def last() -> str:
            return piad

        async with asyncio.TaskGroup() as group:
            told = group.create_task(last())
            group.create_task(ctx.sleep(0.1))
        return told.result()
    """,
)
FORMS = {"alone": ALONE, "in a TaskGroup": IN_GROUP}
# Each waits until the server hands out the refused turn once more.
RESUMES = {True: 10, False: 3}


@pytest.mark.parametrize("form", FORMS)
def test_64_parked_not_failed(project: Project, form: str) -> None:
    """Open, with the line; nothing is done again, whoever waits is told; mended, it goes on."""
    module = project.write_module("order", FORMS[form])
    lines = module.read_text().splitlines()
    (line,) = [number for number, text in enumerate(lines, 1) if "return piad" in text]
    told = project.cli("run", "order", "--id", "o", check=13).no_traceback()
    assert "NameError: name 'piad' is not defined" in told.err
    assert f"{module}:{line}" in told.err
    assert f'File "{module}", line {line}' in told.err
    assert "return piad" in told.err
    assert told.out == ""

    before = project.history("o")
    for _ in range(RESUMES[project.provider.local]):
        project.cli("resume", "o", check=13)
    assert project.log() == ["pay"]
    assert project.history("o") == before
    shown = project.status("o")
    assert (shown["status"], shown["problem"]["code"]) == ("running", "code_error")
    assert f"{module}:{line}" in shown["problem"]["message"]
    assert f"line {line}" in shown["problem"]["traceback"]
    (listed,) = project.cli("list", "--json").json
    assert listed["problem"] == shown["problem"]
    for waiting in (["wait", "o"], ["result", "o", "--wait"], ["result", "o"]):
        error = project.cli(*waiting, "--json", check=13).error
        assert error["code"] == "code_error"
        assert "piad" in error["message"]
        text = project.cli(*waiting, check=13).err
        assert f'File "{module}", line {line}' in text

    project.write_module("order", FORMS[form].replace("piad", "paid"))
    mended = project.finish("o", check=0)
    assert (mended["status"], mended["result"]) == ("completed", "paid")
    assert mended["problem"] is None
    assert project.log() == ["pay"]


def test_64_a_cancellation_is_kept(project: Project) -> None:
    """It is acknowledged as such, and acted upon by the code once that is mended."""
    project.write_module("order", ALONE)
    project.cli("run", "order", "--id", "o", check=13)
    assert "kept until the code is mended" in project.cli("cancel", "o").err
    assert project.status("o")["problem"]["code"] == "code_error"
    project.write_module("order", ALONE.replace("return piad", 'await ctx.sleep("1h")'))
    assert project.finish("o", check=0)["status"] == "cancelled"
    assert project.log() == ["pay"]


def test_64_at_its_deadline(project: Project) -> None:
    """A parked run times out as others do, and the error says why it had not ended."""
    project.write_module("order", ALONE)
    project.cli("run", "order", "--id", "o", "--timeout", "8s", check=13)
    if project.provider.local:
        project.cli("resume", clock=60, check=3)
    else:
        wait_for(lambda: project.status("o")["status"] != "running")
    shown = project.status("o")
    assert shown["status"] == "timed_out"
    assert shown["error"]["type"] == "RunParkedError"
    assert "name 'piad' is not defined" in shown["error"]["message"]
    assert "return piad" in shown["error"]["traceback"]
    assert "piad" in project.cli("result", "o", check=5).err


def test_64_terminated(project: Project) -> None:
    """`terminate` ends a parked run."""
    project.write_module("order", ALONE)
    project.cli("run", "order", "--id", "o", check=13)
    project.cli("terminate", "o")
    assert project.status("o")["status"] == "terminated"


RAISING = """
    class OutOfStock(Exception):
        pass


    @workflow(park=False)
    async def careless(ctx: WorkflowContext) -> None:
        return missing


    @workflow
    async def refused(ctx: WorkflowContext) -> None:
        raise OutOfStock("none left")


    @workflow
    async def caused(ctx: WorkflowContext) -> None:
        try:
            missing
        except NameError as error:
            raise ValueError("told apart") from error


    @workflow
    async def grouped(ctx: WorkflowContext) -> None:
        inner = ExceptionGroup("inner", [TypeError("wrong")])
        raise ExceptionGroup("several", [ValueError("no"), inner])


    @workflow
    async def called(ctx: WorkflowContext) -> None:
        work()


    @activity
    def work() -> None:
        pass
"""


@pytest.mark.parametrize("name", ["careless", "refused", "caused"])
def test_64_what_fails(project: Project, name: str) -> None:
    """An author's own class, whatever caused it; and everything, if the author wants that."""
    project.write_module("raising", RAISING)
    project.cli("run", name, "--id", "r", check=3)
    shown = project.status("r")
    types = {"careless": "NameError", "refused": "OutOfStock", "caused": "ValueError"}
    assert (shown["status"], shown["error"]["type"]) == ("failed", types[name])


@pytest.mark.parametrize("name", ["grouped", "called"])
def test_64_what_parks_too(project: Project, name: str) -> None:
    """A group with one of them, however deep; and an activity that is called."""
    project.write_module("raising", RAISING)
    error = project.cli("run", name, "--id", "r", "--json", check=13).error
    assert error["code"] == "code_error"
    assert error["run"]["status"] == "running"
