"""Scenarios 17 to 23: code that is missing, changed, or must not notice that it is replayed."""

from __future__ import annotations

import json

import pytest

from tests.conformance.harness import Project, wait_for

WAITING = """
    @activity
    def before() -> str:
        note("before")
        return "before"


    @activity
    def after(text: str) -> str:
        note("after")
        return f"{text} after"


    @workflow
    async def waiting(ctx: WorkflowContext) -> str:
        text = await ctx.execute_activity(before)
        await ctx.wait_for_signal("go")
        return await ctx.execute_activity(after, text)
"""


def without_signals(history: list[dict[str, object]]) -> list[dict[str, object]]:
    """The history without what an inbox may still hold: on Temporal a signal is in it at once."""
    return [event for event in history if event["type"] != "SignalReceived"]


def test_17_missing_module(project: Project) -> None:
    """A run whose module is gone is untouched and says so; it resumes when the file is back."""
    project.write_module("waiting", WAITING)
    project.cli("run", "waiting", "--id", "w")
    before = without_signals(project.history("w"))
    project.cli("signal", "go", "w", "--no-resume")
    project.remove_module("waiting")
    refused = project.cli("resume", "w", check=14).no_traceback()
    assert "waiting" in refused.err
    assert project.status("w")["status"] == "running"
    assert without_signals(project.history("w")) == before
    assert project.log() == ["before"]

    project.write_module("waiting", WAITING)
    shown = project.finish("w", check=0)
    assert (shown["status"], shown["result"]) == ("completed", "before after")
    assert project.log() == ["before", "after"]


def test_17_module_that_does_not_import(project: Project) -> None:
    """The same for a module that does not import: the reason is named, nothing is lost."""
    project.write_module("waiting", WAITING)
    project.cli("run", "waiting", "--id", "w")
    before = without_signals(project.history("w"))
    project.cli("signal", "go", "w", "--no-resume")
    project.write_module("waiting", "\n    import a_library_that_is_not_installed\n" + WAITING)
    refused = project.cli("resume", "w", check=14)
    assert "waiting.py" in refused.err
    assert "a_library_that_is_not_installed" in refused.err
    assert without_signals(project.history("w")) == before

    project.write_module("waiting", WAITING)
    assert project.finish("w", check=0)["result"] == "before after"


SWAP = """
    @activity
    def first() -> str:
        note("first")
        return "first"


    @activity
    def second(text: str) -> str:
        note("second")
        pass_gate("second")
        return f"{text} second"


    @activity
    def other(text: str) -> str:
        note("other")
        return f"{text} other"


    @workflow
    async def swap(ctx: WorkflowContext) -> str:
        text = await ctx.execute_activity(first)
        return await ctx.execute_activity(second, text)
"""


def kill_in_second(project: Project) -> list[dict[str, object]]:
    """Start `swap`, kill it in its second activity, and return its history."""
    project.write_module("swap", SWAP)
    driver = project.start("run", "swap", "--id", "swap")
    wait_for(lambda: project.count("second") == 1, "second runs", process=driver)
    driver.kill()
    project.open_gate("second")
    return project.history("swap")


def asked(history: list[dict[str, object]]) -> list[dict[str, object]]:
    """What the code asked for."""
    return [event for event in history if event["type"] in ("ActivityScheduled", "TimerStarted")]


def assert_refused(project: Project, history: list[dict[str, object]], *names: str) -> None:
    """Resuming is refused, naming both sides; nothing runs and nothing is recorded."""
    refused = project.cli("resume", "swap", check=13).no_traceback()
    for name in (*names, "swap"):
        assert name in refused.err, refused
    assert asked(project.history("swap")) == asked(history)
    if project.provider.local:
        assert project.log() == ["first", "second"]
        assert project.history("swap") == history
    else:
        # The server goes on with what was scheduled, whether the workflow can go on or not.
        assert set(project.log()) == {"first", "second"}
    shown = project.status("swap")
    assert shown["status"] == "running"
    assert shown["problem"]["code"] == "nondeterminism"
    for name in names:
        assert name in shown["problem"]["message"]
    assert "swap.py:" in shown["problem"]["message"]


def test_18_swapped_activity(project: Project) -> None:
    """A swapped activity raises NondeterminismError naming both; the history stays as it was."""
    history = kill_in_second(project)
    changed = SWAP.replace(
        "ctx.execute_activity(second, text)", "ctx.execute_activity(other, text)"
    )
    project.write_module("swap", changed)
    assert_refused(project, history, "'second'", "'other'")


def test_19_activity_became_a_timer(project: Project) -> None:
    """An activity that became a timer is found likewise."""
    history = kill_in_second(project)
    changed = SWAP.replace("return await ctx.execute_activity(second, text)", "await ctx.sleep(1)")
    project.write_module("swap", changed)
    assert_refused(project, history, "'second'", "timer")


@pytest.mark.parametrize(
    "changed",
    [
        SWAP.replace("execute_activity(second, text)", "execute_activity(second, 'new')"),
        SWAP.replace("text = await", "return await", 1),
        SWAP.replace(
            "text = await ctx", "await ctx.wait_for_signal('new')\n        text = await ctx"
        ),
    ],
    ids=["other-argument", "left-over", "new-wait"],
)
def test_19_other_changes(project: Project, changed: str) -> None:
    """Other arguments, a command less and a command more are found as well."""
    history = kill_in_second(project)
    assert changed != SWAP
    project.write_module("swap", changed)
    assert_refused(project, history)


def test_20_put_back(project: Project) -> None:
    """The code that fits the history is put back: the run completes."""
    history = kill_in_second(project)
    project.write_module("swap", SWAP.replace("(second, text)", "(other, text)"))
    assert_refused(project, history, "'second'", "'other'")
    project.write_module("swap", SWAP)
    shown = project.finish("swap", check=0)
    assert (shown["status"], shown["result"]) == ("completed", "first second")
    assert shown["problem"] is None
    assert project.log() == ["first", "second", "second"]


FAN_OUT = """
    import random


    @activity
    async def piece(number: int) -> int:
        note(f"start {number}")
        await asyncio.sleep(random.uniform(0.05, 0.5))
        note(f"end {number}")
        return number


    async def too_slow(number):
        await asyncio.sleep(3600 + number)


    @workflow
    async def fan_out(ctx: WorkflowContext) -> list[int]:
        numbers = await asyncio.gather(*(ctx.execute_activity(piece, n) for n in range(12)))
        for round in range(20):
            await ctx.wait_for_signal("next")
            try:
                async with asyncio.timeout(0.01), asyncio.TaskGroup() as group:
                    for number in range(12):
                        group.create_task(too_slow(number))
            except TimeoutError:
                pass
            quick = [asyncio.create_task(ctx.execute_activity(piece, n)) for n in (12, 13)]
            done, late = await asyncio.wait(
                [*quick, *(asyncio.create_task(too_slow(n)) for n in range(6))],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in late:
                task.cancel()
        return numbers
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_21_fan_out_order(project: Project) -> None:
    """Killed midway and replayed with twenty hash seeds: no false alarm, finished ones once."""
    project.write_module("fan_out", FAN_OUT)
    driver = project.start("run", "fan_out", "--id", "fan", env={"PYTHONHASHSEED": "100"})
    wait_for(lambda: project.has_event("fan", "ActivityCompleted"), "some ended", process=driver)
    driver.kill()
    completed = {event["seq"] for event in project.events("fan", "ActivityCompleted")}
    scheduled = {e["seq"]: e["arguments"][0] for e in project.events("fan", "ActivityScheduled")}
    finished = {scheduled[seq] for seq in completed}
    project.cli("resume", "fan", env={"PYTHONHASHSEED": "101"})
    for number in finished:
        assert project.count(f"start {number}") == 1
    for seed in range(20):
        env = {"PYTHONHASHSEED": str(seed)}
        shown = json.loads(project.cli("signal", "next", "fan", "--json", env=env).out)
        assert shown["problem"] is None, shown
    shown = project.finish("fan", env={"PYTHONHASHSEED": "102"})
    assert (shown["status"], shown["result"]) == ("completed", list(range(12)))
    for number in finished:
        assert project.count(f"start {number}") == 1


def test_22_now_random_uuid(project: Project) -> None:
    """now, random and uuid4 read before a kill have the same values after it."""
    project.write_module(
        "values",
        """
        @activity
        def write(text: str) -> None:
            note(text)


        @activity
        def held() -> None:
            note("held")
            pass_gate("held")


        @workflow
        async def values(ctx: WorkflowContext) -> str:
            first = f"{ctx.now().isoformat()} {ctx.random.random()} {ctx.uuid4()}"
            await ctx.execute_activity(write, first)
            second = f"{ctx.now().isoformat()} {ctx.random.random()} {ctx.uuid4()}"
            await ctx.execute_activity(held)
            await ctx.execute_activity(write, first)
            await ctx.execute_activity(write, second)
            return first + " " + second
        """,
    )
    driver = project.start("run", "values", "--id", "values")
    wait_for(lambda: project.count("held") == 1, "it is held", process=driver)
    driver.kill()
    project.open_gate("held")
    shown = project.finish("values", check=0)
    log = project.log()
    assert len(log) == 5
    first, second = log[0], log[4]
    assert log[3] == first
    assert shown["result"] == f"{first} {second}"
    assert len({*first.split()[1:], *second.split()[1:]}) == 4, "the values repeat themselves"
    assert first.split()[0] <= second.split()[0]


def test_23_log_lines(project: Project) -> None:
    """Log lines of the workflow are emitted once, however often its code is replayed."""
    project.write_module(
        "logging_workflow",
        """
        class ToLog(logging.Handler):
            def emit(self, record):
                if record.getMessage().startswith("line "):
                    note(record.getMessage())


        logging.getLogger().addHandler(ToLog())


        @activity
        def held(number: int) -> None:
            note(f"held {number}")
            pass_gate(f"held {number}")


        @workflow
        async def logging_workflow(ctx: WorkflowContext) -> None:
            ctx.logger.warning("line %d", 1)
            await ctx.execute_activity(held, 1)
            ctx.logger.warning("line %d", 2)
            await ctx.wait_for_signal("go")
            ctx.logger.warning("line %d", 3)
            await ctx.execute_activity(held, 2)
            ctx.logger.warning("line %d", 4)
        """,
    )
    driver = project.start("run", "logging_workflow", "--id", "l")
    wait_for(lambda: project.count("held 1") == 1, "it is held", process=driver)
    driver.kill()
    project.open_gate("held 1")
    project.cli("resume", "l")
    sender = project.start("signal", "go", "l")
    wait_for(lambda: project.count("held 2") == 1, "it is held", process=sender)
    sender.kill()
    project.open_gate("held 2")
    assert project.finish("l", check=0)["status"] == "completed"
    lines = [line for line in project.log() if line.startswith("line ")]
    assert lines == ["line 1", "line 2", "line 3", "line 4"]
