"""Scenarios 43, 47 and 48: runs that are let go from memory, and rows that cannot be written."""

from __future__ import annotations

import json

import pytest

from tests.conformance.harness import Project, wait_for

COUNTING = """
    @workflow
    async def counting(ctx: WorkflowContext, total: int) -> int:
        seen = []
        for _ in range(total):
            seen.append((await ctx.wait_for_signal("go")).payload)
        assert sorted(seen) == list(range(total)), seen
        return total
"""

STARTER = """
    import asyncio, sys
    from belugawf import new_executor

    async def main():
        async with new_executor("default", db=".belugawf/state.db", workflows="workflows") as one:
            for run in range(int(sys.argv[1])):
                await one.execute("counting", id=f"r{run}", input=int(sys.argv[2]), detach=True)

    asyncio.run(main())
"""

# Each executor drives what it signals until that rests, and is gone. So two of these processes pass
# every run to and fro: a signal meets it while the other process drives it, lets it go, or ends.
# Nobody resumes: whatever is left behind when all signals are sent was lost.
SENDER = """
    import asyncio, random, sys
    from belugawf import Signal, new_executor

    RUNS, TOTAL, FIRST = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

    async def send(executor, run, number):
        await asyncio.sleep(random.random() * 0.2)
        await executor.signal(run, Signal("go", number))
        await executor.wait(run, until="rest")

    async def main():
        for number in range(FIRST, TOTAL, 2):
            async with new_executor(
                "default", db=".belugawf/state.db", workflows="workflows"
            ) as executor:
                runs = [f"r{run}" for run in range(RUNS)]
                await asyncio.gather(*(send(executor, run, number) for run in runs))

    asyncio.run(main())
"""


@pytest.mark.local_only
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.cached_only
def test_43_lost_wake_up(project: Project) -> None:
    """Ten thousand signals from two processes that pass the runs to and fro: none sleeps on."""
    runs, each = 500, 20
    project.write_module("counting", COUNTING)
    project.configure("durability: normal\n")
    project.python(STARTER, str(runs), str(each))
    senders = [
        project.start_python(
            SENDER, str(runs), str(each), str(first), env={"BELUGAWF_CACHE_RUNS": "0"}
        )
        for first in (0, 1)
    ]
    for sender in senders:
        assert sender.wait(timeout=200).err == ""
    assert project.query_db("SELECT count(*) FROM inbox") == [(0,)]
    statuses = project.query_db("SELECT status, result, count(*) FROM runs GROUP BY 1, 2")
    assert statuses == [("completed", str(each), runs)]


WRITING = """
    @activity
    def write(name: str) -> str:
        note(name)
        return name


    @workflow
    async def writing(ctx: WorkflowContext, name: str) -> str:
        await ctx.wait_for_signal("go")
        return await ctx.execute_activity(write, name)
"""


@pytest.mark.local_only
def test_47_a_row_that_cannot_be_written(project: Project) -> None:
    """It gives its own run a problem, and the other runs of the same commit go on."""
    project.write_module("writing", WRITING)
    names = [f"run-{number}" for number in range(5)]
    for name in names:
        project.cli("run", "writing", "-i", name, "--id", name)
        project.cli("signal", "go", name, "--no-resume")
    before = project.history("run-2")
    ((key,),) = project.query_db("SELECT key FROM runs WHERE workflow_id = 'run-2'")
    project.change_db(
        f"CREATE TRIGGER broken BEFORE INSERT ON events WHEN NEW.run = {key}"
        " BEGIN SELECT RAISE(ABORT, 'this row cannot be written'); END;"
    )
    resumed = project.cli("resume", "--json", check=13)
    by_id = {run["workflow_id"]: run for run in json.loads(resumed.out)} if resumed.out else {}
    assert "run-2" in resumed.err + "".join(by_id)
    for name in names:
        shown = project.status(name)
        if name == "run-2":
            assert shown["status"] == "running"
            assert "this row cannot be written" in shown["problem"]["message"]
        else:
            assert (shown["status"], shown["result"]) == ("completed", name)
    assert project.history("run-2") == before
    assert sorted(project.log()) == sorted(set(names) - {"run-2"})

    project.change_db("DROP TRIGGER broken;")
    shown = project.finish("run-2", check=0)
    assert (shown["status"], shown["result"], shown["problem"]) == ("completed", "run-2", None)
    assert project.count("run-2") == 1


LET_GO = """
    @activity
    def clean(name: str) -> None:
        note(name)


    async def inner(ctx):
        try:
            async for signal in ctx.signals("go"):
                if signal.payload == "stop":
                    return
        except BaseException as error:
            await ctx.execute_activity(clean, repr(error))
            raise
        finally:
            ctx.logger.warning("a finally block runs")
            await ctx.execute_activity(clean, "inner")


    @workflow
    async def let_go(ctx: WorkflowContext) -> str:
        task = asyncio.create_task(inner(ctx))
        try:
            await asyncio.shield(task)
        except BaseException:
            await ctx.wait_for_signal("never sent")
        finally:
            await ctx.execute_activity(clean, "outer")
        return "stopped"
"""

# Waits for each signal to be seen before the next, so that each one is a turn of its own.
ONE_BY_ONE = """
    import asyncio, os, sys
    from belugawf import Signal, new_executor

    async def main():
        provider = os.environ.get("BELUGAWF_PROVIDER", "default")
        where = {"db": ".belugawf/state.db"} if provider == "default" else {}
        async with new_executor(provider, workflows="workflows", **where) as executor:
            for number in range(100):
                await executor.signal("l", Signal("go", number))
                while True:
                    received = [
                        event for event in await executor.history("l")
                        if type(event).__name__ == "SignalReceived"
                    ]
                    if len(received) > number:
                        break
                    await asyncio.sleep(0.02)

    asyncio.run(main())
"""


@pytest.mark.slow
def test_48_let_go_from_memory(project: Project) -> None:
    """A waiting run with finally blocks is dropped and replayed a hundred times: none runs."""
    project.write_module("let_go", LET_GO)
    project.cli("run", "let_go", "--id", "l")
    driven = project.python(ONE_BY_ONE, env={"BELUGAWF_CACHE_RUNS": "0"})
    assert driven.err == ""
    assert len(project.events("l", "SignalReceived")) == 100
    assert project.log() == []
    project.cli("signal", "go", "l", "--text", "stop")
    if not project.provider.local:  # there the command has driven it to its end
        wait_for(lambda: project.status("l")["status"] != "running", "the worker has come to it")
    assert project.result("l") == "stopped"
    assert project.log() == ["inner", "outer"]
