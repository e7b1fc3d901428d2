"""What runs log is kept, with bounds; and whatever it is, no run suffers by it. FINDINGS L7"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from belugawf import WorkflowContext, activity, new_executor, workflow
from belugawf.executor import LogLine
from belugawf.host import logs as host_logs
from belugawf.local.drive import reports
from belugawf.local.executor import LocalExecutor
from belugawf.local.store import loglines, store
from belugawf.model.durations import SECOND_NS
from belugawf.model.errors import UsageError

library = logging.getLogger("a.library")


def open_executor(tmp_path: Path, **options: Any) -> LocalExecutor:
    executor: LocalExecutor = new_executor(db=tmp_path / "state.db", **options)  # type: ignore[assignment]
    return executor


async def logged(
    tmp_path: Path, code: Callable[[], Any], **options: Any
) -> tuple[str, list[LogLine]]:
    """How a run ended that has this activity, and what was kept of it."""

    @workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(activity(name="act")(code))

    async with open_executor(tmp_path, workflows=[flow], **options) as executor:
        await executor.execute(flow, id="x")
        status = (await executor.wait("x")).status
    async with open_executor(tmp_path) as executor:
        return status, list(await executor.logs("x"))


@pytest.fixture(autouse=True)
def level() -> Any:
    """The program's level is INFO."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    yield
    root.setLevel(before)


# -- what is kept --------------------------------------------------------------------------------


async def test_fields(tmp_path: Path) -> None:
    """Time, level, logger, activity, attempt, number; the message with its traceback."""

    def act() -> None:
        try:
            raise ValueError("inside")
        except ValueError:
            library.exception("it %s", "failed", stack_info=True)

    _, (line,) = await logged(tmp_path, act)
    assert (line.level, line.logger, line.activity, line.attempt, line.seq) == (
        "ERROR", "a.library", "act", 1, 1
    )  # fmt: skip
    assert line.workflow_id == "x"
    first, *rest = line.message.splitlines()
    assert first == "it failed"
    assert "ValueError: inside" in rest
    assert any(text.startswith("Stack (most recent") for text in rest)
    assert abs(line.time - time.time_ns()) < 60 * SECOND_NS


async def test_newest_lines_of_each_run(tmp_path: Path) -> None:
    """As many as are to be kept, whatever other runs log."""

    @activity
    def act(name: str, count: int) -> None:
        for number in range(count):
            activity.logger.info("%s %d", name, number)

    @workflow
    async def flow(ctx: WorkflowContext, count: int) -> None:
        for _ in range(2):
            await ctx.execute_activity(act, "line", count)

    async with open_executor(tmp_path, workflows=[flow], keep_logs=5) as executor:
        await (await executor.execute(flow, id="few", input=2)).result()
        await (await executor.execute(flow, id="many", input=20)).result()
    async with open_executor(tmp_path) as executor:
        few, many = await executor.logs("few"), await executor.logs("many")
        assert [line.message for line in few] == ["line 0", "line 1"] * 2
        assert [line.message for line in many] == [f"line {n}" for n in range(15, 20)]
        newest = await executor.logs("many", limit=2)
        assert [line.message for line in newest] == ["line 18", "line 19"]
        assert await executor.logs("many", after=newest[0].position) == [newest[1]]
        with pytest.raises(UsageError, match="level of logs"):
            await executor.logs("many", level="loud")


async def test_old_lines_go(tmp_path: Path) -> None:
    """What is older than it is to be is deleted, of whatever run, when others are stored."""
    await logged(tmp_path, lambda: activity.logger.info("old"))
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute("UPDATE logs SET time = time - 7200 * 1000000")
    db.close()

    @workflow
    async def other(ctx: WorkflowContext) -> None:
        ctx.logger.info("new")

    options = {"workflows": [other], "keep_logs_for": timedelta(hours=1)}
    async with open_executor(tmp_path, **options) as executor:
        await (await executor.execute(other, id="y")).result()
    async with open_executor(tmp_path) as executor:
        assert await executor.logs("x") == []
        assert [line.message for line in await executor.logs("y")] == ["new"]


async def test_pruned_with_the_run(tmp_path: Path) -> None:
    """The lines of a run that is deleted are, too."""
    await logged(tmp_path, lambda: activity.logger.info("line"))
    async with open_executor(tmp_path) as executor:
        await executor.prune(older_than=0)
    with sqlite3.connect(tmp_path / "state.db") as db:
        assert db.execute("SELECT count(*) FROM logs").fetchone() == (0,)
    db.close()


async def test_long_message(tmp_path: Path) -> None:
    """Its middle is left out, and that is said."""
    _, (line,) = await logged(tmp_path, lambda: activity.logger.info("a" * 50_000 + "z" * 50_000))
    assert len(line.message) < host_logs.MOST_CHARACTERS + 100
    assert (line.message[0], line.message[-1]) == ("a", "z")
    assert "92,000 characters left out" in line.message


async def test_nothing_is_kept(tmp_path: Path) -> None:
    """If nothing is to be."""
    assert await logged(tmp_path, lambda: activity.logger.info("x"), keep_logs=0) == (
        "completed", []
    )  # fmt: skip


# -- whose it is ---------------------------------------------------------------------------------


async def test_threads_and_tasks(tmp_path: Path) -> None:
    """Tasks, and threads that run in a copy of the context; no others can be known."""

    async def act() -> None:
        async def task() -> None:
            library.info("task")

        await asyncio.gather(task(), asyncio.to_thread(library.info, "to_thread"))
        context = contextvars.copy_context()
        for target in (lambda: context.run(library.info, "own"), lambda: library.info("lost")):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()

    _, lines = await logged(tmp_path, act)
    assert sorted(line.message for line in lines) == ["own", "task", "to_thread"]
    assert {line.activity for line in lines} == {"act"}


async def test_workflow_code_is_not_repeated(tmp_path: Path) -> None:
    """By whatever logger it logs: what a replay repeats is neither given to handlers nor kept."""

    @activity
    def act() -> None: ...

    @workflow
    async def flow(ctx: WorkflowContext) -> None:
        for number in range(3):
            ctx.logger.info("context %d", number)
            library.info("library %d", number)
            await ctx.execute_activity(act)

    handled: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            handled.append(f"{record.workflow_id} {record.getMessage()}")  # type: ignore[attr-defined]

    handler = Handler()
    logging.getLogger().addHandler(handler)
    try:
        # Without a cache each turn is replayed from the beginning.
        async with open_executor(tmp_path, workflows=[flow], cache_runs=0) as executor:
            await (await executor.execute(flow, id="x")).result()
    finally:
        logging.getLogger().removeHandler(handler)
    expected = [f"{kind} {n}" for n in range(3) for kind in ("context", "library")]
    assert [text for text in handled if text.startswith("x ")] == [f"x {e}" for e in expected]
    async with open_executor(tmp_path) as executor:
        lines = await executor.logs("x")
    assert [line.message for line in lines] == expected
    assert {line.activity for line in lines} == {None}


# -- nothing of it harms a run -------------------------------------------------------------------


class Odd:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def __str__(self) -> str:
        if self.error is not None:
            raise self.error
        return "\ud800 half a character, and a NUL \0"

    __repr__ = __str__


async def test_odd_records(tmp_path: Path) -> None:
    """Arguments that do not fit, `__str__` that raises anything, odd characters and fields."""

    def act() -> None:
        library.info("%d and %d", 1)
        library.info("%s", Odd(ValueError("no")))
        library.info("%s", Odd(SystemExit("no")))
        library.info("%s", Odd(KeyboardInterrupt()))
        library.info("%s", Odd())
        library.info(Odd(RecursionError()))
        library.log(10**30, "level", exc_info=(Odd, Odd(OSError()), None))  # type: ignore[arg-type]
        for changes in ({"name": 7}, {"created": None}, {"exc_info": 7}, {"args": 7}):
            library.handle(logging.makeLogRecord({"msg": "m", "levelno": 20, **changes}))

    library.propagate = False  # pytest's own handlers raise
    try:
        status, lines = await logged(tmp_path, act)
    finally:
        library.propagate = True
    assert status == "completed"
    assert [line.message.partition(" (it")[0] for line in lines[:4]] == ["%d and %d", *["%s"] * 3]
    assert "\\ud800 half" in lines[4].message
    assert lines[6].message.startswith("level")


async def test_more_than_can_be_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """100,000 lines at once: the newest are kept, and one line says how many are not."""

    def act() -> None:
        for number in range(100_000):
            library.info("%d", number)

    library.propagate = False  # pytest keeps all that comes to the root logger
    try:
        status, lines = await logged(tmp_path, act)
    finally:
        library.propagate = True
    assert status == "completed"
    assert [line.message for line in lines] == [str(n) for n in range(99_000, 100_000)]
    (said,) = [r for r in caplog.records if "not kept" in r.getMessage()]
    assert said.name == "belugawf.engine"


async def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses transactions with lines: turns are written without, and the lines later."""
    monkeypatch.setattr(host_logs, "_RESPITE_NS", 0)
    refused = 0

    def insert(db: Any, new: loglines.NewLines) -> None:
        nonlocal refused
        refused += 1
        if refused <= 3:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorname = "SQLITE_FULL"
            raise error
        loglines.insert_lines(db, new)

    monkeypatch.setattr(store, "insert_lines", insert)
    await check_steps(tmp_path)
    assert refused > 3


async def test_lines_that_cannot_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger of somebody's refuses them: turns are written all the same, at the first try."""
    refused: list[Any] = []
    monkeypatch.setattr(reports.Reports, "put_back", lambda *lines: refused.append(lines))
    async with open_executor(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute(
            "CREATE TRIGGER no_logs BEFORE INSERT ON logs BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    db.close()
    await check_steps(tmp_path, kept=False)
    assert len(refused) <= 1  # as it is left, in a transaction of their own


async def check_steps(tmp_path: Path, *, kept: bool = True) -> None:
    """A run whose steps log, one after the other, ends; its lines are there, or not."""

    @activity
    async def act(number: int) -> int:
        activity.logger.info("step %d", number)
        return number

    @workflow
    async def flow(ctx: WorkflowContext) -> int:
        return sum([await ctx.execute_activity(act, number) for number in range(20)])

    async with open_executor(tmp_path, workflows=[flow]) as executor:
        assert await (await executor.execute(flow, id="x")).result() == 190
    async with open_executor(tmp_path) as executor:
        lines = await executor.logs("x")
    assert [line.message for line in lines] == [f"step {n}" for n in range(20) if kept]


# -- what is left as it was ----------------------------------------------------------------------


async def test_a_programs_logging(tmp_path: Path) -> None:
    """Nothing of it is changed: handlers, levels, factories; and at the end nothing passes us."""
    root = logging.getLogger()

    def state() -> tuple[Any, ...]:
        return (
            root.handlers[:], root.level, logging.lastResort, logging.getLogRecordFactory(),
            logging.basicConfig, activity.logger.level,
        )  # fmt: skip

    before, passage = state(), logging.Logger.callHandlers
    inside: list[tuple[Any, ...]] = []
    await logged(tmp_path, lambda: inside.append(state()))
    assert inside == [before]
    assert state() == before
    assert logging.Logger.callHandlers is passage


async def test_somebody_else_around_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who puts themselves around `callHandlers` later stays, and sees each record once."""
    seen: list[str] = []
    found: Callable[..., Any] = logging.Logger.callHandlers

    def around() -> None:
        nonlocal found
        found = logging.Logger.callHandlers

        def theirs(self: logging.Logger, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            found(self, record)

        logging.Logger.callHandlers = theirs  # type: ignore[method-assign]

    original = logging.Logger.callHandlers
    try:
        await logged(tmp_path / "a", around)
        library.warning("between")
        _, lines = await logged(tmp_path / "b", lambda: library.info("inside"))
    finally:
        logging.Logger.callHandlers = original  # type: ignore[method-assign]
        host_logs._PASSAGE._found = None
    assert seen == ["between", "inside"]
    assert [line.message for line in lines] == ["inside"]


async def test_blocking(tmp_path: Path) -> None:
    """The blocking executor has `logs`, too."""
    await logged(tmp_path, lambda: activity.logger.info("line"))
    assert await asyncio.to_thread(_read_blocking, tmp_path) == ["line"]


def _read_blocking(tmp_path: Path) -> list[str]:
    with open_executor(tmp_path).sync() as executor:
        return [line.message for line in executor.logs("x", activity="act")]
