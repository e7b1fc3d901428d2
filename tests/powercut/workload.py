"""What is recorded: real belugawf, from the creation of its database to its last close.

Every kind of operation is acknowledged at least once, and marked in the record at that moment.
Checkpoints come in between, so that the log starts over, and another process sends a signal.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from belugawf import (
    Hooks,
    RetryPolicy,
    Signal,
    SignalTimeoutError,
    WorkflowContext,
    activity,
    new_executor,
    workflow,
)
from belugawf.local.file.database import Database
from tests.powercut.record import Recorder
from tests.powercut.vfs import recording

Durability: TypeAlias = Literal["full", "normal"]

DATABASE = Path(".belugawf") / "state.db"
# Two pages and more: such a row continues on pages of its own.
LONG_TEXT = "beluga " * 1300
RETRY = RetryPolicy(max_attempts=4, initial_delay=0.01)

AttemptBegins: TypeAlias = Callable[[str, str, int], None]
_told: list[AttemptBegins] = []


@contextmanager
def on_attempts(tell: AttemptBegins) -> Iterator[None]:
    """Meanwhile, call `tell` with run id, activity id and attempt as each attempt begins."""
    _told.append(tell)
    try:
        yield
    finally:
        _told.remove(tell)


def _begun() -> int:
    info = activity.info()
    for tell in _told:
        tell(info.run_id, info.activity_id, info.attempt)
    return info.attempt


@activity
async def piece(number: int) -> int:
    _begun()
    return number


@activity
def essay(text: str) -> str:
    _begun()
    return text + LONG_TEXT


@activity(retry=RETRY)
async def flaky(number: int) -> int:
    if _begun() < 3:
        raise ConnectionError("no line")
    return number


@workflow
async def order(ctx: WorkflowContext, number: int) -> int:
    """Everything that a run usually does."""
    total: int = await ctx.execute_activity(piece, number)
    total += await ctx.execute_activity(flaky, 10)
    await ctx.sleep(0.02)
    total += sum(await asyncio.gather(*(ctx.execute_activity(piece, n) for n in range(3))))
    signal = await ctx.wait_for_signal("go", timeout="24h")
    text: str = await ctx.execute_activity(essay, str(signal.payload))
    return total + len(text)


@workflow
async def patient(ctx: WorkflowContext) -> list[Any]:
    """Collects signals until it is cancelled, and cleans up."""
    heard: list[Any] = []
    try:
        while True:
            heard.append((await ctx.wait_for_signal("word")).payload)
    except asyncio.CancelledError:
        heard.append(await ctx.shielded(ctx.execute_activity(piece, 99)))
    return heard


@workflow
async def doomed(ctx: WorkflowContext) -> None:
    """Never ends by itself."""
    for number in range(1000):
        await ctx.execute_activity(piece, number)
        with suppress(SignalTimeoutError):
            await ctx.wait_for_signal("never", timeout=0.01 if number < 2 else "24h")


WORKFLOWS = [order, patient, doomed]
ORDERS = {f"order-{number}": number for number in range(3)}
WORDS = ["one", LONG_TEXT, {"three": 3}]


def order_result(number: int) -> int:
    """What an order comes to, whatever happens on the way."""
    return number + 10 + 3 + len(f"on {number}" + LONG_TEXT)


class Workload:
    """The recorded operations, on one database."""

    def __init__(self, folder: Path, log: Path, recorder: Recorder, durability: Durability) -> None:
        self._db = folder / DATABASE
        self._folder, self._log = folder, log
        self._durability: Durability = durability
        self._recorder = recorder
        self._told: Counter[str] = Counter()
        self._executor: Any = None

    async def run(self) -> None:
        """All of it; the database does not exist yet."""
        await self._session(self._operate)
        # The log was deleted, and is created again.
        await self._session(self._operate_later)

    async def _session(self, operate: Callable[[], Awaitable[None]]) -> None:
        hooks = Hooks(on_activity_complete=self._activity_completed)
        async with new_executor(
            "default",
            db=self._db,
            workflows=WORKFLOWS,
            durability=self._durability,
            hooks=[hooks],
        ) as self._executor:
            with on_attempts(self._attempt_begins):
                watching = asyncio.create_task(self._watch())
                await operate()
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
        # The last connection was closed: the log is in the database, and the database synced.
        self._recorder.mark("settling")
        self._recorder.mark("settled")

    async def _operate(self) -> None:
        await self._start("patient", patient)
        await self._send("patient", "word", WORDS[0])
        await self._start("doomed", doomed)
        await self._start("order-0", order, 0)
        await self._waits("order-0", "go")
        self._checkpoint("PASSIVE")
        await self._send("order-0", "go", "on 0")
        await self._start("order-1", order, 1)
        await self._send("patient", "word", WORDS[1])
        await self._result("order-0")
        await self._waits("order-1", "go")
        await self._send_from_elsewhere("order-1", "go", "on 1")
        self._checkpoint("RESTART")
        await self._result("order-1")
        await self._terminate("doomed")
        await self._start("order-2", order, 2)
        await self._send("patient", "word", WORDS[2])
        await self._waits("order-2", "go")
        self._checkpoint("TRUNCATE")
        await self._cancel("patient")
        await self._result("patient")
        await self._send("order-2", "go", "on 2")
        await self._result("order-2")

    async def _operate_later(self) -> None:
        await self._start("late", patient)
        await self._send("late", "word", WORDS[0])
        await self._terminate("late")

    # -- operations and what acknowledges them ---------------------------------------------------

    async def _start(self, id: str, of: Callable[..., Any], *input: Any) -> None:
        given = {"input": input[0]} if input else {}
        handle = await self._executor.execute(of, id=id, **given)
        self._recorder.mark("started", workflow_id=id, run_id=handle.run_id)

    async def _send(self, id: str, name: str, payload: Any) -> None:
        await self._executor.signal(id, Signal(name, payload))
        self._recorder.mark("signalled", workflow_id=id, name=name, payload=payload)

    async def _send_from_elsewhere(self, id: str, name: str, text: str) -> None:
        """By the command line in a process of its own, recorded as well."""
        settings = self._folder / ".belugawf.yaml"
        settings.write_text(f"durability: {self._durability}\n")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.powercut.workload", self._folder, self._log),
            *("-c", settings, "signal", name, id, "--text", text, "--no-resume"),
            stderr=subprocess.PIPE,
        )
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        self._recorder.mark("signalled", workflow_id=id, name=name, payload=text)

    async def _cancel(self, id: str) -> None:
        await self._executor.cancel(id)
        self._recorder.mark("cancelled", workflow_id=id)

    async def _terminate(self, id: str) -> None:
        await self._executor.terminate(id)
        self._recorder.mark("terminated", workflow_id=id)

    async def _result(self, id: str) -> None:
        result = await self._executor.handle(id).result()
        self._recorder.mark("completed", workflow_id=id, result=result)

    async def _waits(self, id: str, signal: str) -> None:
        await self._executor.wait(id, until=f"signal:{signal}")

    def _attempt_begins(self, run_id: str, activity_id: str, attempt: int) -> None:
        self._recorder.mark("begun", run_id=run_id, activity_id=activity_id, attempt=attempt)

    def _activity_completed(self, told: Mapping[str, Any]) -> None:
        self._told[told["run_id"]] += 1
        self._recorder.mark("told", run_id=told["run_id"], completions=self._told[told["run_id"]])

    async def _watch(self) -> None:
        """Whoever looks has seen something, and may count on it."""
        while True:
            for run in await self._executor.list():
                events = await self._executor.history(run.run_id)
                self._recorder.mark("seen", run_id=run.run_id, events=len(events))
            await asyncio.sleep(0.05)

    def _checkpoint(self, mode: str) -> None:
        """As SQLite does by itself every thousand pages, which would take long to write."""
        database = Database(self._db, durability=self._durability, create=False)
        try:
            self._recorder.mark("settling")
            # Whether readers or writers were in the way, and how much of how much was written.
            found = database.read.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        finally:
            database.close()
        busy, frames, written = found
        if not busy and frames == written:
            self._recorder.mark("settled")


def record_workload(folder: Path, log: Path, durability: Durability) -> None:
    """Run the workload in `folder`, which is empty, and record it to `log`."""
    with recording(folder, log) as recorder:
        asyncio.run(Workload(folder, log, recorder, durability).run())


def main() -> None:
    """One command of belugawf, recorded: FOLDER LOG ARGUMENT..."""
    from belugawf.__main__ import run

    folder, log, *arguments = sys.argv[1:]
    with recording(Path(folder), Path(log)):
        code = run(arguments)
    sys.exit(code)


if __name__ == "__main__":
    main()
