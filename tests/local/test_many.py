"""Many runs: what they do, which are found, and changing them beside others. FINDINGS L9"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from belugawf import PayloadTypeError, RunEndedError, Signal, WorkflowContext, activity, workflow
from belugawf.executor import STATES
from belugawf.host.clock import SystemClock
from belugawf.local.executor import LocalExecutor
from belugawf.local.file.database import Database
from belugawf.local.store import pieces
from belugawf.local.store.store import Store
from belugawf.model import events as e
from belugawf.model.durations import datetime_ns
from tests.local.processes import Child
from tests.local.test_store import new_run

OPENED = asyncio.Event()


@activity
async def held() -> None:
    await OPENED.wait()


@workflow
async def working(ctx: WorkflowContext) -> None:
    await ctx.execute_activity(held)


@workflow
async def asking(ctx: WorkflowContext) -> object:
    return (await ctx.wait_for_signal("answer", type=bool)).payload


@workflow
async def sleeping(ctx: WorkflowContext) -> None:
    await ctx.sleep("1h")


@workflow
async def changing(ctx: WorkflowContext) -> None:
    await (ctx.sleep("1h") if CHANGED else ctx.wait_for_signal("go"))


WORKFLOWS = [working, asking, sleeping, changing]
CHANGED: list[bool] = []


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Path]:
    global OPENED
    OPENED = asyncio.Event()
    CHANGED.clear()
    yield tmp_path / "state.db"


@asynccontextmanager
async def opening() -> AsyncIterator[None]:
    """However the body ends, what is held may end."""
    try:
        yield
    finally:
        OPENED.set()


def executor_of(db: Path) -> LocalExecutor:
    return LocalExecutor(db, WORKFLOWS)


# -- what they do --------------------------------------------------------------------------------


async def test_states(db: Path) -> None:
    """Each open run does one of four things, what ended does none; all ways to ask agree."""
    async with executor_of(db) as before:
        for flow, run in ((asking, "asks"), (sleeping, "sleeps"), (changing, "parked")):
            await before.execute(flow, id=run)
            await before.wait(run, until="rest", patience=0)
        await before.execute(asking, id="sent")
        await before.wait("sent", until="rest")
    CHANGED.append(True)
    async with executor_of(db) as ours, executor_of(db) as other, opening():
        await other.signal("parked", "go", drive=False)
        await other.resume("parked")
        await other.signal("sent", Signal("answer", True), drive=False)
        await ours.execute(working, id="working")
        await ours.execute(asking, id="due", detach=True)
        await ours.execute(asking, id="ended", detach=True)
        await ours.terminate("ended")
        while not ours.in_flight():
            await asyncio.sleep(0)
        expected = {
            "working": "working", "asks": "waiting", "sleeps": "waiting", "parked": "parked",
            "due": "due", "sent": "due", "ended": None,
        }  # fmt: skip
        for executor in (ours, other):
            infos = await executor.list(limit=None)
            assert {info.workflow_id: info.state for info in infos} == expected
            for state in STATES:
                runs = [run for run, theirs in expected.items() if theirs == state]
                found = await executor.list(state=state)
                assert sorted(info.workflow_id for info in found) == sorted(runs)
                assert await executor.count(state=state, limit=9) == len(runs)
                assert len(await executor.select(state=state)) == len(runs)
            summary = await executor.summary()
            assert summary.states == {"working": 1, "due": 2, "waiting": 2, "parked": 1}
            assert summary.due_since is not None
        with ours._store.database.reading() as view:
            shown = dict(view.execute("SELECT workflow_id, state FROM runs_view"))
        del shown["due"], expected["due"]  # the view's clock has whole seconds
        assert shown == expected


OWNER = """
    import asyncio, sys
    from pathlib import Path
    from tests.local import test_many
    from tests.local.test_many import executor_of, working

    async def main():
        async with executor_of(Path(sys.argv[1])) as executor:
            await executor.execute(working, id="held")
            while not executor.in_flight():
                await asyncio.sleep(0.01)
            print("working", flush=True)
            await asyncio.sleep(600)  # its process is killed long before

    asyncio.run(main())
"""


async def test_the_owner_must_live(db: Path) -> None:
    """A frozen process works on its runs; what a dead one had at work can be taken up."""
    async with executor_of(db) as executor:
        with Child(OWNER, db) as owner:
            assert owner.line() == "working"
            owner.stop()
            assert (await executor.describe("held")).state == "working"
            assert (await executor.summary()).due_since is None
            owner.kill()
        assert (await executor.describe("held")).state == "due"
        assert [i.workflow_id for i in await executor.list(state="due")] == ["held"]
        assert await executor.list(state="working") == []
        assert (await executor.summary()).due_since is not None


# -- which are found -----------------------------------------------------------------------------


async def test_filters(db: Path) -> None:
    """Together, also by age, whatever the clock did; a filter that there is not is no filter."""
    async with executor_of(db) as executor:
        store = executor._store
        old = datetime_ns(datetime(2020, 1, 1, tzinfo=UTC))
        for run, team in (("a", "red"), ("b", "red"), ("c", "blue")):
            await executor.execute(asking, id=run, labels={"team": team}, detach=True)
        with store.database.write() as db_:
            db_.execute(
                "UPDATE runs SET created_at = ? WHERE workflow_id IN ('b', 'c')", (old // 1_000,)
            )

        async def found(**filters: object) -> list[str]:
            infos = await executor.list(**filters)  # type: ignore[arg-type]
            return [info.workflow_id for info in infos]

        assert await found(until="1d") == ["c", "b"]
        assert await found(since="1d") == ["a"]
        assert await found(until="1d", labels={"team": "red"}) == ["b"]
        assert await found(state="due", labels={"team": "red"}) == ["b", "a"]
        assert await found(state="due", workflow="sleeping") == []
        assert await found(state="due", status="completed") == []
        assert await executor.select(awaiting="answer") == []
        await executor.resume()
        assert len(await executor.select(awaiting="answer", labels={"team": "red"})) == 2
        await executor.signal("a", Signal("answer", True), drive=False)
        ids = {(await executor.describe(run)).run_id for run in ("b", "c")}
        assert set(await executor.select(awaiting="answer")) == ids
        for call in (executor.list, executor.select):
            with pytest.raises(TypeError, match="lable"):
                await call(lable={"team": "red"})  # type: ignore[call-arg, operator]


# -- changing them -------------------------------------------------------------------------------


async def test_change_many(db: Path) -> None:
    """What is reached is on disk, with who and why; a run that refuses stops no other."""
    async with executor_of(db) as executor:
        for run in ("a", "b", "c"):
            await executor.execute(asking, id=run)
            await executor.wait(run, until="waiting")
        runs = await executor.select(status="running")
        await executor.terminate("b")
        wrong = await executor.signal_many(runs, Signal("answer", "yes"))
        assert (wrong.done, len(wrong.refused)) == ([], 3)
        assert {type(error) for error in wrong.refused.values()} == {
            *(PayloadTypeError, RunEndedError)
        }
        right = await executor.signal_many(runs, Signal("answer", False, key="k"))
        again = await executor.signal_many(runs[:1], Signal("answer", True, key="k"))
        assert (len(right.done), len(right.refused), right.left) == (2, 1, 0)
        assert again.done == runs[:1]
        await executor.resume()
        assert (await executor.describe("a")).result is False
        await executor.execute(asking, id="d")
        await executor.wait("d", until="waiting")
        (open_run,) = await executor.select(status="running")
        cancelled = await executor.cancel_many([open_run, "unknown"], "why", by="ada")
        assert (cancelled.done, list(cancelled.refused)) == ([open_run], ["unknown"])
        await executor.resume()
        assert (await executor.describe("d")).status == "cancelled"
        (asked,) = [x for x in await executor.history("d") if isinstance(x, e.CancelRequested)]
        assert (asked.reason, asked.sender) == ("why", "ada")
        await executor.execute(asking, id="e")
        ended = await executor.terminate_many(await executor.select(status="running"))
        assert len(ended.done) == 1
        assert (await executor.describe("e")).status == "terminated"


async def test_others_write_in_between(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction takes a bounded time, however many there are; then others write."""
    monkeypatch.setattr(pieces, "_HOLD_S", 0.0)
    async with executor_of(db) as executor:
        for number in range(20):
            new_run(executor._store, f"run-{number}")
        beside = Store(Database(db), SystemClock())
        seen: list[int] = []
        work = asyncio.create_task(executor.cancel_many(await executor.select()))
        while not work.done():
            await asyncio.to_thread(new_run, beside, f"new-{len(seen)}")
            with beside.database.reading() as read:
                seen += read.execute("SELECT count(*) FROM inbox").fetchone()
        assert len((await work).done) == 20
        assert len({count for count in seen if 0 < count < 20}) > 3
        beside.database.close()


async def test_an_interrupt_leaves_the_rest(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done is on disk and counted; the others are as they were."""
    monkeypatch.setattr(pieces, "_HOLD_S", 0.0)
    async with executor_of(db) as executor:
        for number in range(20):
            new_run(executor._store, f"run-{number}")
        wake_all = executor._driving.wake_all
        woken: list[int] = []

        def woke() -> None:
            woken.append(1)
            wake_all()
            if len(woken) == 5:
                executor.interrupt()

        monkeypatch.setattr(executor._driving, "wake_all", woke)
        result = await executor.terminate_many(await executor.select())
        assert (len(result.done), result.left) == (5, 15)
    async with executor_of(db) as executor:
        assert (await executor.summary()).counts == {"terminated": 5, "running": 15}
