"""The local provider through its Python interface: what callers may rely on."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from belugawf import (
    ActivityError,
    ActivityTimeoutError,
    AlreadyExistsError,
    AmbiguousRunError,
    ApplicationError,
    ConfigurationError,
    Hooks,
    NotFinishedError,
    PayloadTypeError,
    RetryPolicy,
    RunEndedError,
    RunNotFoundError,
    Signal,
    UnavailableError,
    UsageError,
    WaitExpiredError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowTerminatedError,
    WorkflowTimedOutError,
    activity,
    list_providers,
    new_executor,
    register_provider,
    workflow,
)
from belugawf.executor import RunId, TypedRun

TRIES: list[int] = []


@activity
def double(number: int) -> int:
    return number * 2


@activity(retry=RetryPolicy(max_attempts=3, initial_delay=0.01))
async def flaky() -> str:
    TRIES.append(activity.info().attempt)
    if len(TRIES) < 3:
        raise ConnectionError("no line")
    return "at last"


@activity
def picky() -> None:
    raise ApplicationError("never", type="Picky", non_retryable=True)


@workflow
async def doubled(ctx: WorkflowContext, number: int) -> int:
    result: int = await ctx.execute_activity(double, number)
    return result


@workflow
async def persistent(ctx: WorkflowContext) -> str:
    result: str = await ctx.execute_activity(flaky)
    return result


@workflow
async def refused(ctx: WorkflowContext) -> str:
    try:
        await ctx.execute_activity(picky, retry=RetryPolicy(max_attempts=9))
    except ActivityError as error:
        return f"{error.activity} {error.attempts} {error.cause.type}"
    return "not refused"


@workflow
async def asking(ctx: WorkflowContext) -> bool:
    ctx.set_query("mood", lambda loud=False: "FINE" if loud else "fine")
    signal = await ctx.wait_for_signal("approval", type=bool, prompt="Go on?")
    return signal.payload is True


@activity
async def doze() -> None:
    await asyncio.sleep(60)


@workflow
async def dozing(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(doze)


@workflow
async def failing(ctx: WorkflowContext) -> None:
    raise ValueError("as told")


WORKFLOWS = [doubled, persistent, refused, asking, dozing, failing]


def open_executor(tmp_path: Path, **options: Any) -> Any:
    return new_executor("default", db=tmp_path / "state.db", workflows=WORKFLOWS, **options)


async def test_execute_and_result(tmp_path: Path) -> None:
    """A run is started, driven in the background, and its result is decoded."""
    async with open_executor(tmp_path) as executor:
        handle = await executor.execute(doubled, id="one", input=21)
        assert (handle.id, await handle.result()) == ("one", 42)
        assert await handle.status() == "completed"
        assert await executor.query("one", "result") == 42


async def test_by_name_and_generated_id(tmp_path: Path) -> None:
    """A workflow may be named by text; without an id the run gets one from its name."""
    async with open_executor(tmp_path) as executor:
        handle = await executor.execute("doubled", input={"number": 1} and 1)
        assert handle.id.startswith("doubled-")
        assert await handle.result() == 2


@pytest.mark.parametrize(
    ("if_exists", "status", "runs"), [("skip", "running", 1), ("replace", "terminated", 2)]
)
async def test_if_exists(tmp_path: Path, if_exists: str, status: str, runs: int) -> None:
    """An id that is stored: refused, shown, or replaced."""
    async with open_executor(tmp_path) as executor:
        first = await executor.execute(asking, id="a")
        with pytest.raises(AlreadyExistsError, match="'a' exists already"):
            await executor.execute(asking, id="a")
        again = await executor.execute(asking, id="a", if_exists=if_exists)
        assert (again.run_id == first.run_id) == (runs == 1)
        assert await first.status() == status
        assert len(await executor.list(limit=None)) == runs


@pytest.mark.parametrize(
    ("target", "given", "error", "message"),
    [
        (doubled, {}, UsageError, "needs number"),
        (doubled, {"input": "three"}, PayloadTypeError, "input: expected int"),
        (doubled, {"input": True}, PayloadTypeError, "input: expected int"),
        (persistent, {"input": 3}, UsageError, "takes no input"),
        (doubled, {"input": 1, "id": ""}, UsageError, "cannot be empty"),
        (doubled, {"input": 1, "id": "@latest"}, UsageError, "cannot begin with '@'"),
        (doubled, {"input": 1, "timeout": "soon"}, UsageError, "'soon' isn't a duration"),
        (doubled, {"input": 1, "if_exists": "maybe"}, UsageError, "'maybe'"),
        ("doubel", {"input": 1}, WorkflowNotFoundError, "no workflow 'doubel'"),
    ],
)
async def test_nothing_is_started_of_bad_input(
    tmp_path: Path, target: Any, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    """What does not fit is refused before anything is written."""
    async with open_executor(tmp_path) as executor:
        with pytest.raises(error, match=message):
            await executor.execute(target, **given)
        assert await executor.list() == []


async def test_retries_and_attempts(tmp_path: Path) -> None:
    """Failed attempts are noted with their delays; the third one counts as the third."""
    TRIES.clear()
    async with open_executor(tmp_path) as executor:
        handle = await executor.execute(persistent)
        assert await handle.result() == "at last"
        history = await executor.history(handle.run_id)
    assert TRIES == [1, 2, 3]
    kinds = [type(event).__name__ for event in history]
    assert kinds.count("AttemptFailed") == 2
    (completed,) = [e for e in history if type(e).__name__ == "ActivityCompleted"]
    assert completed.attempt == 3


async def test_non_retryable(tmp_path: Path) -> None:
    """An ApplicationError may say that no attempt follows."""
    async with open_executor(tmp_path) as executor:
        handle = await executor.execute(refused)
        assert await handle.result() == "picky 1 Picky"


async def test_signal_queries_and_waiting(tmp_path: Path) -> None:
    """What a run waits for is seen from outside, and a typed wait refuses early."""
    async with open_executor(tmp_path) as executor:
        handle = await executor.execute(asking, id="a")
        info = await executor.wait("a", until="signal:approval", max_wait=5)
        (waiting,) = info.waiting_for
        assert (waiting.kind, waiting.name, waiting.prompt) == ("signal", "approval", "Go on?")
        assert await executor.query("a", "mood") == "fine"
        assert await executor.query("a", "mood", True) == "FINE"
        with pytest.raises(PayloadTypeError, match="expected bool"):
            await executor.signal(None, Signal("approval", "yes"))
        delivery = await executor.signal(None, Signal("approval", True, sender="ada"))
        assert delivery.run.workflow_id == "a"
        assert await handle.result() is True
        with pytest.raises(RunEndedError):
            await executor.signal("a", "approval")


async def test_same_key_once(tmp_path: Path) -> None:
    """A key that was seen is a duplicate: nothing is delivered again."""
    async with open_executor(tmp_path) as executor:
        handle = await executor.execute(asking, id="a")
        first = await executor.signal("a", Signal("other", 1, key="k"))
        again = await executor.signal("a", Signal("other", 1, key="k"))
        assert (first.duplicate, again.duplicate) == (False, True)
        await executor.signal("a", Signal("approval", False))
        assert await handle.result() is False
        received = [e for e in await executor.history("a") if type(e).__name__ == "SignalReceived"]
        assert [event.name for event in received] == ["other", "approval"]
        late = await executor.signal("a", Signal("other", 1, key="k"))
        assert late.duplicate


BEATS: list[Any] = []


@activity(retry=RetryPolicy(max_attempts=4, initial_delay=0.01))
def beating() -> int:
    seen = activity.info().heartbeat_details or 0
    BEATS.append(seen)
    activity.heartbeat(seen + 1)
    if seen < 3:
        raise ConnectionError("again")
    return int(seen)


@activity(heartbeat_timeout=0.2)
async def silent() -> None:
    await asyncio.sleep(30)


@workflow
async def beaten(ctx: WorkflowContext) -> str:
    count = await ctx.execute_activity(beating)
    try:
        await ctx.execute_activity(silent)
    except ActivityTimeoutError as error:
        return f"{count} {error.cause.message}"
    return "not silent"


async def test_heartbeats(tmp_path: Path) -> None:
    """What an attempt reported last goes to the next; silence over the timeout ends an attempt."""
    BEATS.clear()
    async with new_executor("default", db=tmp_path / "b.db", workflows=[beaten]) as executor:
        handle = await executor.execute(beaten)
        assert await handle.result() == "3 heartbeat_timeout of 200ms is over"
    assert BEATS == [0, 1, 2, 3]


class TheirError(Exception):
    retry_after = "soon"


@activity(timeout=0.4, retry=RetryPolicy(max_attempts=2, initial_delay=0.01))
def waits_for_a_thread(number: int) -> int:
    time.sleep(0.2)
    if number == 0 and activity.info().attempt == 1:
        raise TheirError("of a library")
    return number


@workflow
async def crowded(ctx: WorkflowContext) -> int:
    calls = (ctx.execute_activity(waits_for_a_thread, number) for number in range(5))
    return sum(await asyncio.gather(*calls))


async def test_limits_count_from_the_thread(tmp_path: Path) -> None:
    """An attempt's timeout does not run while it waits for a thread; odd wishes are ignored."""
    options = {"db": tmp_path / "c.db", "workflows": [crowded], "threads": 1}
    async with new_executor("default", **options) as executor:
        handle = await executor.execute(crowded)
        assert await handle.result() == 10
        kinds = [type(event).__name__ for event in await executor.history(handle.run_id)]
    assert kinds.count("AttemptFailed") == 1


async def test_endings(tmp_path: Path) -> None:
    """`result` says how a run ended that did not complete."""
    async with open_executor(tmp_path) as executor:
        with pytest.raises(WorkflowFailedError, match="ValueError: as told") as failed:
            await (await executor.execute(failing)).result()
        assert failed.value.failure is not None
        assert "raise ValueError" in (failed.value.failure.traceback or "")
        cancelled = await executor.execute(asking)
        await cancelled.cancel("no more")
        with pytest.raises(WorkflowCancelledError):
            await cancelled.result()
        terminated = await executor.execute(asking)
        await terminated.terminate("enough")
        with pytest.raises(WorkflowTerminatedError, match="enough"):
            await terminated.result()
        late = await executor.execute(asking, timeout=0.05)
        with pytest.raises(WorkflowTimedOutError):
            await late.result()


async def test_who_cannot_drive_says_so(tmp_path: Path) -> None:
    """Without the workflow an executor can signal and ask, but says that nobody drives."""
    async with open_executor(tmp_path) as executor:
        await executor.execute(asking, id="a", detach=True)
    async with new_executor("default", db=tmp_path / "state.db") as outsider:
        assert await outsider.query("a", "status") == "running"
        with pytest.raises(NotFinishedError, match="nobody drives it"):
            await outsider.handle("a").result()
        with pytest.raises(RunNotFoundError, match="no run 'b'"):
            outsider.handle("b")
        with pytest.raises(WaitExpiredError, match="not there yet; nobody drives it"):
            await outsider.wait("a", max_wait=0.01)
    async with open_executor(tmp_path) as executor:
        assert (await executor.describe("a")).history_length == 1


async def test_labels_and_list(tmp_path: Path) -> None:
    """Runs are listed newest first, by status, workflow, label and age."""
    async with open_executor(tmp_path) as executor:
        await executor.execute(asking, id="a", labels={"team": "red"})
        await (await executor.execute(doubled, id="b", input=1)).result()
        assert [run.workflow_id for run in await executor.list()] == ["b", "a"]
        assert [r.workflow_id for r in await executor.list(status="running")] == ["a"]
        assert [r.workflow_id for r in await executor.list(workflow="doubled")] == ["b"]
        assert [r.workflow_id for r in await executor.list(labels={"team": "red"})] == ["a"]
        assert await executor.list(labels={"team": "blue"}) == []
        assert len(await executor.list(since="1h", limit=1)) == 1


async def test_naming_a_run(tmp_path: Path) -> None:
    """A workflow id, a run id and @latest name a run; prefixes do only as a person types them."""
    async with open_executor(tmp_path) as executor:
        handle = await executor.execute(asking, id="report-1")
        for text in ("report-1", str(handle.run_id), handle.run_id, "@latest"):
            assert (await executor.describe(text)).run_id == handle.run_id
        for text in ("repo", handle.run_id[:8]):
            assert (await executor.describe(TypedRun(text))).run_id == handle.run_id
            with pytest.raises(RunNotFoundError):
                await executor.describe(text)
            with pytest.raises(RunNotFoundError):
                await executor.describe(RunId(text))
        with pytest.raises(RunNotFoundError, match="no run 'rep'"):
            await executor.describe(TypedRun("rep"))
        with pytest.raises(RunNotFoundError):
            await executor.describe(RunId("report-1"))


async def test_an_id_that_reads_like_another_run(tmp_path: Path) -> None:
    """A workflow id that equals another run's run id takes nobody's place. FINDINGS S4"""
    async with asyncio.timeout(60), open_executor(tmp_path) as executor:
        first = await executor.execute(asking, id="first")
        second = await executor.execute(asking, id=first.run_id)
        assert second.id == first.run_id
        assert type(second.id) is str
        await first.signal("approval", True)
        assert await first.result() is True
        assert await second.status() == "running"
        assert (await executor.describe(first.run_id)).workflow_id == "first"
        assert (await executor.describe(second.id)).run_id == second.run_id
        (info,) = await executor.list(status="completed")
        assert (await executor.handle(info.run_id).describe()).workflow_id == "first"
        (wait,) = await executor.waiting()
        await executor.signal(wait.run_id, "approval", False)
        assert await second.result() is False
        with pytest.raises(AmbiguousRunError) as several:
            await executor.describe(TypedRun(first.run_id))
        assert set(several.value.candidates) == {"first", first.run_id}
        assert (await executor.describe(TypedRun(second.run_id))).run_id == second.run_id


async def test_hooks_name_the_run_itself(tmp_path: Path) -> None:
    """A hook can hand on its run id, whatever other runs are called."""
    told: list[Any] = []
    hooks = Hooks(on_workflow_complete=told.append)
    async with open_executor(tmp_path, hooks=[hooks]) as executor:
        first = await executor.execute(doubled, input=1)
        await executor.execute(asking, id=first.run_id)
        assert await first.result() == 2
        assert (await executor.describe(told[0]["run_id"])).status == "completed"


async def test_hooks_are_told_once(tmp_path: Path) -> None:
    """Each hook hears of what was committed, once; one that raises touches no run."""
    heard: list[tuple[str, Any]] = []

    def hears(name: str, key: str = "workflow") -> Any:
        def hook(told: Mapping[str, Any]) -> None:
            heard.append((name, told[key]))

        return hook

    async def late(told: Mapping[str, Any]) -> None:
        await asyncio.sleep(0)
        heard.append(("complete", told["workflow"]))
        raise RuntimeError("of no consequence")

    TRIES.clear()
    hooks = Hooks(
        on_workflow_start=hears("start"),
        on_workflow_complete=late,
        on_workflow_fail=hears("fail"),
        on_activity_start=hears("attempt", "attempt"),
        on_activity_complete=hears("activity", "activity"),
        on_retry=hears("retry", "attempt"),
        on_signal=hears("signal", "signal"),
    )
    async with open_executor(tmp_path, hooks=hooks) as executor:
        await (await executor.execute(persistent)).result()
        asked = await executor.execute(asking)
        await asked.signal("approval", True)
        await asked.result()
        with pytest.raises(WorkflowFailedError):
            await (await executor.execute(failing)).result()
    assert heard.count(("attempt", 1)) == 1
    assert [h for h in heard if h[0] == "retry"] == [("retry", 1), ("retry", 2)]
    assert ("activity", "flaky") in heard
    assert [h for h in heard if h[0] == "signal"] == [("signal", "approval")]
    assert [h[1] for h in heard if h[0] == "start"] == ["persistent", "asking", "failing"]
    assert sorted(h[1] for h in heard if h[0] == "complete") == ["asking", "persistent"]
    assert ("fail", "failing") in heard


async def test_middleware_wraps(tmp_path: Path) -> None:
    """Middleware is a callable from executor to executor; the last one is outermost."""

    class Loud:
        def __init__(self, inner: Any, name: str) -> None:
            self._inner, self._name = inner, name

        async def __aenter__(self) -> Any:
            await self._inner.__aenter__()
            return self

        async def __aexit__(self, *exc: object) -> None:
            await self._inner.__aexit__(*exc)

        async def query(self, run: str, name: str, *args: Any) -> str:
            return f"{self._name}({await self._inner.query(run, name, *args)})"

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    wraps = [lambda inner: Loud(inner, "in"), lambda inner: Loud(inner, "out")]
    async with open_executor(tmp_path, middleware=wraps) as executor:
        await executor.execute(asking, id="a")
        assert await executor.query("a", "status") == "out(in(running))"


async def test_providers(tmp_path: Path) -> None:
    """Providers are made by name; one that is not there, and a wrong option, are said."""
    made: list[dict[str, Any]] = []

    def factory(**options: Any) -> Any:
        made.append(options)
        return object()

    register_provider("mine", factory)
    assert {"default", "mine"} <= set(list_providers())
    new_executor("mine", flavour="plain")
    assert made == [{"hooks": (), "flavour": "plain"}]
    with pytest.raises(ConfigurationError, match="no provider 'yours'"):
        new_executor("yours")
    with pytest.raises(ConfigurationError, match="no option 'flavour'"):
        new_executor("default", flavour="plain")
    with pytest.raises(UsageError, match="not open"):
        await open_executor(tmp_path).list()
    with pytest.raises(UnavailableError, match="no database"):
        async with new_executor("default", db=tmp_path / "none.db", create=False):
            pass


def test_blocking_twin(tmp_path: Path) -> None:
    """The same interface for scripts, driving between two calls."""
    with open_executor(tmp_path).sync() as executor:
        handle = executor.execute(asking, id="a")
        assert executor.wait("a", until="waiting").workflow_id == "a"
        executor.signal("a", Signal("approval", True))
        assert handle.result() is True
        assert executor.handle("a").status() == "completed"
        with pytest.raises(RunNotFoundError):
            executor.describe("none")


async def test_leaving_suspends_and_returning_goes_on(tmp_path: Path) -> None:
    """Entering changes no run; a run that was left waiting goes on with another executor."""
    async with open_executor(tmp_path) as executor:
        await executor.execute(asking, id="a")
    async with open_executor(tmp_path) as executor:
        before = await executor.history("a")
        assert await executor.history("a") == before
        assert (await executor.describe("a")).owner is None
        await executor.signal("a", Signal("approval", True))
        assert await executor.handle("a").result() is True


async def test_resume_by_name_tells_of_no_other(tmp_path: Path) -> None:
    """What the same executor has driven before, or drives now, is not what was named."""
    async with open_executor(tmp_path) as executor:
        await executor.execute(doubled, id="before", input=0)
        await executor.handle("before").result()
        await executor.execute(doubled, id="a", input=1, detach=True)
        await executor.execute(asking, id="now")
        assert [run.workflow_id for run in await executor.resume("a")] == ["a"]


async def test_resume_of_all_tells_of_what_is_driven(tmp_path: Path) -> None:
    """What the executor drives already is told of too; what it drove before is not."""
    async with open_executor(tmp_path) as executor:
        await executor.execute(doubled, id="before", input=0)
        await executor.handle("before").result()
        await executor.execute(doubled, id="a", input=1, detach=True)
        await executor.execute(doubled, id="now", input=2)
        told = [run.workflow_id for run in await executor.resume()]
        assert "a" in told and "before" not in told


async def test_resume_by_name_and_all(tmp_path: Path) -> None:
    """`resume` drives what is due and returns what it drove; nothing due is an empty list."""
    async with open_executor(tmp_path) as executor:
        await executor.execute(doubled, id="a", input=1, detach=True)
        await executor.execute(doubled, id="b", input=2, detach=True)
        assert [r.workflow_id for r in await executor.resume(dry_run=True)] == ["a", "b"]
        (driven,) = await executor.resume("b")
        assert (driven.workflow_id, driven.result) == ("b", 4)
        assert [run.workflow_id for run in await executor.resume()] == ["a"]
        assert await executor.resume() == []


async def test_a_dry_run_by_name_tells_only_what_would_be_driven(tmp_path: Path) -> None:
    """Neither what has ended nor what another process holds, nor all that is due instead."""
    async with open_executor(tmp_path) as executor, open_executor(tmp_path) as other:
        await executor.execute(doubled, id="ended", input=1)
        await executor.handle("ended").result()
        await executor.execute(doubled, id="due", input=1, detach=True)
        await other.execute(dozing, id="held")
        names = ["ended", "held"]
        assert await executor.resume(names, dry_run=True) == []
        told = await executor.resume([*names, "due"], dry_run=True)
        assert [run.workflow_id for run in told] == ["due"]
        await other.terminate("held")


async def test_waiting_for_a_signal_without_a_name(tmp_path: Path) -> None:
    """Refused: it would never come."""
    async with open_executor(tmp_path) as executor:
        await executor.execute(asking, id="a")
        with pytest.raises(UsageError, match="cannot wait for 'signal:'"):
            await executor.wait("a", until="signal:")


async def test_workers_are_named(tmp_path: Path) -> None:
    """Those in other executors, for the workflows that they know; none that is gone."""
    db = tmp_path / "state.db"
    async with new_executor(db=db) as executor:
        async with new_executor(db=db, workflows=[doubled]) as other:
            work = asyncio.create_task(other.work())
            async with asyncio.timeout(20):
                while not await executor.workers():
                    await asyncio.sleep(0.01)
            assert [owner.pid for owner in await executor.workers("doubled")] == [os.getpid()]
            assert await executor.workers("asking") == []
            assert await other.workers() == []
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        assert await executor.workers() == []


@workflow
async def counted(ctx: WorkflowContext) -> None:
    await ctx.wait_for_signal("go")


async def test_count_is_how_many_there_are_to_list(tmp_path: Path) -> None:  # FINDINGS L2
    """With every filter, alone and together; no further than to its limit."""
    async with new_executor(db=tmp_path / "state.db", workflows=[counted]) as executor:
        for number in range(6):
            labels = {"team": "red" if number % 2 else "blue"}
            await executor.execute(counted, labels=labels, detach=True)
        for run in (await executor.list(limit=2))[:2]:
            await executor.terminate(run.run_id)
        for status in (None, "running", "terminated", "failed"):
            for labels in (None, {"team": "red"}, {"team": "green"}):
                for workflow in (None, "counted", "other"):
                    for since in (None, "1h"):
                        filters = {
                            "status": status,
                            "labels": labels,
                            "workflow": workflow,
                            "since": since,
                        }
                        found = await executor.list(**filters, limit=None)
                        assert await executor.count(**filters, limit=100) == len(found)
                        assert await executor.count(**filters, limit=1) == min(1, len(found))
        assert await executor.count(limit=100) == 6


async def test_waits_of_late(tmp_path: Path) -> None:
    """`waiting` with `since` has those that began within it, and none that was answered."""
    async with new_executor(db=tmp_path / "state.db", workflows=[counted]) as executor:
        run = await executor.execute(counted)
        await executor.wait(run.id, until="waiting")
        assert len(await executor.waiting(since="1h")) == 1
        assert len(await executor.waiting(since="1h", signal="go", limit=5)) == 1
        await asyncio.sleep(0.02)
        assert list(await executor.waiting(since="10ms")) == []
