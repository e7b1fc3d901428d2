"""Scenarios beyond the numbered ones, each as a user would meet it."""

from __future__ import annotations

import json
import shlex
import signal
from collections import Counter

import pytest

from tests.conformance.harness import Project, wait_for

MINUTE = 60

AT_ONCE = """
    @activity
    def busy() -> int:
        attempt = activity.info().attempt
        note(f"attempt {attempt}")
        if attempt == 1:
            raise ApplicationError("come again at once", retry_after=0)
        return attempt


    @workflow
    async def at_once(ctx: WorkflowContext) -> int:
        retry = RetryPolicy(max_attempts=2, initial_delay="1h")
        return await ctx.execute_activity(busy, retry=retry)
"""


def test_retry_after_of_nothing(project: Project) -> None:
    """`retry_after=0` asks for the next attempt at once, not for the policy's delay."""
    project.write_module("at_once", AT_ONCE)
    done = project.cli("run", "at_once", "--id", "r")
    assert done.out.strip() == "2"
    assert project.log() == ["attempt 1", "attempt 2"]


OUT_OF_TIME = """
    @activity
    def flaky() -> None:
        note(f"attempt {activity.info().attempt}")
        raise ConnectionError("no line")


    @workflow
    async def out_of_time(ctx: WorkflowContext) -> int:
        retry = RetryPolicy(max_attempts=0, initial_delay="10m", backoff_coefficient=1)
        try:
            await ctx.execute_activity(flaky, retry=retry, total_timeout="1h")
        except ActivityTimeoutError as error:
            return error.attempts
        return 0
"""


@pytest.mark.local_only
def test_attempts_that_never_ran_do_not_count(project: Project) -> None:
    """`total_timeout` passes while nothing runs: no further attempt, and none is counted."""
    project.write_module("out_of_time", OUT_OF_TIME)
    driver = project.start("run", "out_of_time", "--id", "o")
    wait_for(lambda: project.has_event("o", "AttemptFailed"), "it failed", process=driver)
    driver.wait()
    project.cli("resume", clock=11 * MINUTE)
    assert project.log() == ["attempt 1", "attempt 2"]
    project.cli("resume", clock=90 * MINUTE)
    assert project.log() == ["attempt 1", "attempt 2"]
    assert project.result("o") == 2
    (timed_out,) = project.events("o", "ActivityTimedOut")
    assert (timed_out["limit"], timed_out["attempt"]) == ("total_timeout", 2)


ASKING = """
    @workflow
    async def asking(ctx: WorkflowContext, name: str) -> str:
        return (await ctx.wait_for_signal(name)).payload
"""


def test_names_that_look_like_options(project: Project) -> None:
    """The command that answers can be typed as it is shown, whatever the names look like."""
    project.write_module("asking", ASKING)
    for run in ("-a", "--json"):
        project.cli("run", "asking", "--input=--by", f"--id={run}")
        wait_for(lambda run=run: project.waits(run, "--by"), "it waits")
    shown = {wait["workflow_id"]: wait["command"] for wait in project.cli("waiting", "--json").json}
    project.cli(*shlex.split(shown["-a"])[1:])
    wait_for(lambda: project.cli("result", "--", "-a", check=None).out.strip() == "true")
    (last,) = project.cli("waiting", "--json").json
    assert last["workflow_id"] == "--json"
    project.cli(*shlex.split(last["command"])[1:])
    assert project.cli("waiting", "--json").json == []


def test_reason_of_a_termination(project: Project) -> None:
    """Why a run was terminated is its error, and is said to whoever asks for the result."""
    project.write_module("asking", ASKING)
    project.cli("run", "asking", "-i", "go", "--id", "a")
    project.cli("terminate", "a", "--reason", "wrong topic")
    error = project.status("a")["error"]
    assert (error["type"], error["message"]) == ("Terminated", "wrong topic")
    assert "wrong topic" in project.cli("result", "a", check=4).err


COLLECTING = """
    @activity
    def held() -> None:
        note("held")
        pass_gate("held")


    @workflow
    async def collecting(ctx: WorkflowContext) -> list:
        await ctx.execute_activity(held)
        payloads = []
        async for signal in ctx.signals("item"):
            if signal.payload == "stop":
                return payloads
            payloads.append(signal.payload)
"""


@pytest.mark.local_only
def test_keys_over_a_kill(project: Project) -> None:
    """Signals sent again with their keys after a kill are delivered once, and in order."""
    project.write_module("collecting", COLLECTING)
    driver = project.start("run", "collecting", "--id", "c")
    wait_for(lambda: project.count("held") == 1, "it is held", process=driver)
    send = ("signal", "item", "c", "--no-resume", "--payload")
    project.cli(*send, "1", "--key", "k1")
    driver.kill()
    for number in ("1", "2"):
        project.cli(*send, number, "--key", f"k{number}")
    project.open_gate("held")
    project.cli("resume", "c")
    for number in ("2", "3"):
        project.cli(*send, number, "--key", f"k{number}")
    project.cli(*send, '"stop"')
    assert project.finish("c", check=0)["result"] == [1, 2, 3]


ODD_PAYLOADS = [
    None,
    -0.0,
    5e-324,
    2**53 + 1,
    -(10**30),
    "",
    "\x00\n",
    "ünï 🐋 \u2028",
    {"": [[], {}]},
]


def test_odd_payloads(project: Project) -> None:
    """Numbers, texts and nested values pass through signal, workflow and result as they are."""
    project.write_module("collecting", COLLECTING)
    project.open_gate("held")
    project.cli("run", "collecting", "--id", "c", "-d")
    for payload in (json.dumps(ODD_PAYLOADS), '"stop"'):
        project.cli("signal", "item", "c", "--payload", payload, "--no-resume")
    shown = project.finish("c", check=0)
    assert json.dumps(shown["result"]) == json.dumps([ODD_PAYLOADS])


@pytest.mark.local_only
def test_waits_for_one_name_in_parallel(project: Project) -> None:
    """Three waits for one name: first in, first out, past one that timed out and a kill."""
    project.write_module(
        "parallel",
        """
        @workflow
        async def parallel(ctx: WorkflowContext) -> list:
            async def wait(timeout):
                try:
                    return (await ctx.wait_for_signal("go", timeout=timeout)).payload
                except SignalTimeoutError:
                    return "nobody"

            return await asyncio.gather(wait(None), wait(1.5), wait(None))
        """,
    )
    driver = project.start("run", "parallel", "--id", "p")
    wait_for(lambda: project.waits("p"), "it waits", process=driver)
    project.cli("signal", "go", "p", "--payload", "1", "--no-resume")
    wait_for(lambda: project.has_event("p", "TimerFired"), "one has timed out", process=driver)
    driver.kill()
    project.cli("signal", "go", "p", "--payload", "2", "--no-resume")
    assert project.finish("p", check=0)["result"] == [1, "nobody", 2]


IN_TIME = """
    async def first(ctx):
        signalled = asyncio.create_task(ctx.wait_for_signal("go"))
        slept = asyncio.create_task(ctx.sleep("1h"))
        done, _ = await asyncio.wait({slept, signalled}, return_when=asyncio.FIRST_COMPLETED)
        return signalled in done


    async def until(ctx):
        seen = []

        async def read():
            async for signal in ctx.signals("go"):
                seen.append(signal)

        reading = asyncio.create_task(read())
        await ctx.wait_until(lambda: seen, timeout="1h")
        return True


    async def within(ctx):
        async with asyncio.timeout(3600):
            await ctx.wait_for_signal("go")
        return True


    @workflow
    async def in_time(ctx: WorkflowContext, how: str) -> bool:
        try:
            return await {"first": first, "until": until, "within": within}[how](ctx)
        except TimeoutError:
            return False
"""


@pytest.mark.local_only
@pytest.mark.parametrize("how", ["first", "until", "within"])
def test_in_time_counts_however_it_is_waited_for(project: Project, how: str) -> None:
    """A signal sent before the hour was over wins over asyncio's own limits, and later it loses."""
    project.write_module("in_time", IN_TIME)
    for name, minute in (("early", 59), ("late", 61)):
        project.cli("run", "in_time", "-i", how, "--id", name)
        project.cli("signal", "go", name, "--no-resume", clock=minute * MINUTE)
    project.cli("resume", clock=30 * 60 * MINUTE)
    assert (project.result("early"), project.result("late")) == (True, False)


ORDER = """
    @activity
    def ship() -> None:
        note("shipped")


    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.wait_for_signal("paid")
        await ctx.execute_activity(ship)
"""


@pytest.mark.local_only
@pytest.mark.parametrize(("minute", "status"), [(59, "completed"), (61, "timed_out")])
def test_deadline_and_signal_found_together(project: Project, minute: int, status: str) -> None:
    """A signal from before the run's deadline is worked off, activity included; a later one not."""
    project.write_module("order", ORDER)
    project.cli("run", "order", "--id", "o", "--timeout", "1h")
    project.cli("signal", "paid", "o", "--no-resume", clock=minute * MINUTE)
    project.cli("resume", clock=5 * 60 * MINUTE, check=None)
    assert project.status("o")["status"] == status
    assert project.log() == (["shipped"] if status == "completed" else [])


CLEANING = """
    @activity
    def flaky() -> None:
        note("flaky")
        raise ConnectionError("no line")


    @activity
    async def clean(number: int) -> None:
        note(f"clean {number}")
        await await_gate("clean")
        note(f"cleaned {number}")


    async def waits(ctx, how):
        if how == "retry":
            await ctx.execute_activity(flaky, retry=RetryPolicy(0, initial_delay="1h"))
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep("1h"))
            group.create_task(ctx.wait_for_signal("go"))


    @workflow
    async def cleaning(ctx: WorkflowContext, how: str) -> None:
        try:
            await waits(ctx, how)
        finally:
            await ctx.execute_activity(clean, 1)
            await ctx.execute_activity(clean, 2)
"""


@pytest.mark.local_only
@pytest.mark.parametrize("how", ["retry", "group"])
def test_kill_in_a_cleanup(project: Project, how: str) -> None:
    """Killed while it cleans up, and cancelled again: the cleanup goes on to its end, once."""
    project.write_module("cleaning", CLEANING)
    waits = {"retry": lambda: project.has_event("c", "AttemptFailed")}
    driver = project.start("run", "cleaning", "-i", how, "--id", "c")
    wait_for(waits.get(how, lambda: project.waits("c", "go")), "it waits")
    driver.kill()
    canceller = project.start("cancel", "c")
    wait_for(lambda: project.count("clean 1") == 1, "it cleans up")
    canceller.kill()
    project.open_gate("clean")
    project.cli("cancel", "c")
    shown = project.finish("c")
    assert (shown["status"], shown["problem"]) == ("cancelled", None)
    assert [project.count(f"cleaned {number}") for number in (1, 2)] == [1, 1]
    assert project.count("flaky") == (how == "retry")


CHANGING = """
    @activity
    def one(number: int) -> int:
        note(f"one {number}")
        return number


    @activity
    def two(number: int) -> int:
        note(f"two {number}")
        return number


    @workflow
    async def changing(ctx: WorkflowContext) -> list:
        both = await asyncio.gather(ctx.execute_activity(one, 1), ctx.execute_activity(two, 2))
        signal = await ctx.wait_for_signal("go", timeout="24h")
        return [*both, signal.payload, await ctx.execute_activity(one, 3)]
"""

HARMLESS = {
    "@activity\n    def one": '@activity(name="one", isolation="process")\n    def first',
    "(one, 1)": '(first, 1, retry=RetryPolicy(5), timeout="1m")',
    "(one, 3)": '(first, 3, timeout="9s")',
    '"go", timeout="24h"': '"go", timeout="48h", prompt="Go?", type=int',
    "ctx: WorkflowContext)": "ctx: WorkflowContext, more: int = 5)",
    "        both =": '        ctx.logger.info("x"); ctx.set_query("q", int)\n        both =',
    "@workflow": '@workflow(timeout="5h")',
}


def test_changes_that_fit_open_runs(project: Project) -> None:
    """Names kept, but other functions, options, limits, log lines and queries: the run goes on."""
    project.write_module("changing", CHANGING)
    project.cli("run", "changing", "--id", "c")
    changed = CHANGING
    for old, new in HARMLESS.items():
        assert old in changed
        changed = changed.replace(old, new)
    project.write_module("changing", changed)
    project.cli("signal", "go", "c", "--payload", "7")
    assert project.result("c") == [1, 2, 7, 3]
    assert sorted(project.log()) == ["one 1", "one 3", "two 2"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "ctx.execute_activity(one, 1), ctx.execute_activity(two, 2)",
            "ctx.execute_activity(two, 2), ctx.execute_activity(one, 1)",
        ),
        ("        signal =", "        return []\n        signal ="),
        ("ctx: WorkflowContext)", "ctx: WorkflowContext, more: int)"),
    ],
    ids=["gather", "return", "parameter"],
)
@pytest.mark.local_only
def test_changes_that_do_not_fit(project: Project, old: str, new: str) -> None:
    """Another order, an early end, a new parameter: a problem; the history stays, nothing runs."""
    project.write_module("changing", CHANGING)
    project.cli("run", "changing", "--id", "c")
    project.cli("signal", "go", "c", "--payload", "7", "--no-resume")
    before = project.history("c")
    project.write_module("changing", CHANGING.replace(old, new))
    project.cli("resume", check=13)
    assert project.status("c")["problem"] is not None
    assert (project.history("c"), len(project.log())) == (before, 2)
    project.write_module("changing", CHANGING)
    project.cli("resume")
    assert project.result("c") == [1, 2, 7, 3]


@pytest.mark.local_only
def test_kill_in_a_wide_fan_out(project: Project) -> None:
    """Killed amid two hundred activities on the loop and in threads: recorded ones run once."""
    project.write_module(
        "wide",
        """
        @activity
        async def on_loop(number: int) -> int:
            note(f"begin {number}")
            await asyncio.sleep(number % 7 * 0.05)
            return number


        @activity
        def in_thread(number: int) -> int:
            note(f"begin {number}")
            time.sleep(number % 3 * 0.03)
            return number


        @workflow
        async def wide(ctx: WorkflowContext) -> int:
            return sum(await asyncio.gather(*(
                ctx.execute_activity(on_loop if number % 2 else in_thread, number)
                for number in range(200)
            )))
        """,
    )
    driver = project.start("run", "wide", "--id", "w")
    wait_for(lambda: len(project.log()) >= 100, "it is in the middle", process=driver)
    driver.kill()
    recorded = {event["result"] for event in project.events("w", "ActivityCompleted")}
    assert project.finish("w", env={"PYTHONHASHSEED": "7"})["result"] == sum(range(200))
    begun = Counter(project.log())
    assert {begun[f"begin {number}"] for number in recorded} <= {1}
    completed = [event["seq"] for event in project.events("w", "ActivityCompleted")]
    assert len(completed) == len(set(completed)) == 200


HELD = """
    @activity(at_most_once=True)
    def pay(number: int) -> str:
        note(f"pay {number}")
        pass_gate("pay")
        return "paid"


    @workflow
    async def held(ctx: WorkflowContext, number: int = 0) -> str:
        try:
            return await ctx.execute_activity(pay, number)
        except ActivityInterruptedError:
            return "interrupted"
"""


@pytest.mark.local_only
@pytest.mark.parametrize("cut", [False, True], ids=["drained", "cut"])
def test_at_most_once_is_stopped(project: Project, cut: bool) -> None:
    """What runs at most once is recorded when it is drained, and interrupted when it is cut."""
    project.write_module("held", HELD)
    driver = project.start("run", "held", "--id", "h")
    wait_for(lambda: project.count("pay 0") == 1, "it runs", process=driver)
    driver.send(signal.SIGTERM)
    wait_for(lambda: "cuts" in driver.err, "the signal was heard", process=driver)
    if cut:
        driver.send(signal.SIGTERM)
    else:
        project.open_gate("pay")
    driver.wait(check=None).no_traceback()
    project.open_gate("pay")
    assert project.finish("h")["result"] == ("interrupted" if cut else "paid")
    assert project.log() == ["pay 0"]


@pytest.mark.local_only
def test_frozen_owner_is_told_too_late(project: Project) -> None:
    """Runs of frozen owners can be replaced and terminated; once thawed, those drop them."""
    project.write_module("held", HELD)
    owners = {}
    for number, name in enumerate(("replaced", "terminated")):
        owners[name] = project.start("run", "held", "-i", str(number), "--id", name)
        line = f"pay {number}"
        wait_for(lambda line=line: project.count(line) == 1, "it runs", process=owners[name])
        owners[name].send(signal.SIGSTOP)
    project.cli("terminate", "terminated")
    project.open_gate("pay")
    project.cli("run", "held", "-i", "2", "--id", "replaced", "--if-exists", "replace")
    ended = {name: project.history(name) for name in owners}
    for owner in owners.values():
        owner.send(signal.SIGCONT)
        owner.wait(check=4).no_traceback()
    assert {name: project.history(name) for name in owners} == ended
    assert project.result("replaced") == "paid"
    assert project.log() == ["pay 0", "pay 1", "pay 2"]


@pytest.mark.local_only
@pytest.mark.cached_only
def test_one_id_at_once(project: Project) -> None:
    """Four processes start one id at the same time: one does, and the others are refused."""
    project.write_module("held", HELD)
    project.open_gate("pay")
    starts = [project.start("run", "held", "--id", "one") for _ in range(4)]
    assert sorted(start.wait(check=None).code for start in starts) == [0, 9, 9, 9]
    assert project.log() == ["pay 0"]


@pytest.mark.local_only
@pytest.mark.cached_only
def test_a_copy_goes_its_own_way(project: Project) -> None:
    """A project copied after a kill: both go on from there, and neither touches the other."""
    project.write_module("collecting", COLLECTING)
    driver = project.start("run", "collecting", "--id", "c")
    wait_for(lambda: project.count("held") == 1, "it is held", process=driver)
    driver.kill()
    project.open_gate("held")
    copy = project.copy_to(project.root.parent / "ein anderer Ort ü")
    for number, one in enumerate((project, copy)):
        one.cli("resume")
        one.cli("signal", "item", "c", "--payload", str(number))
    for number, one in enumerate((project, copy)):
        one.cli("signal", "item", "c", "--text", "stop")
        assert one.result("c") == [number]
        assert one.log() == ["held", "held"]
