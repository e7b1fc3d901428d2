"""The process in which the cells of the table run: it drives as a worker does, and lives on.

It reads cells from standard input and writes what came of each to standard output, one JSON line
each. Beside each of them a witness runs, which must not notice anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

from belugawf import new_executor
from belugawf.executor import DurableExecutor, RunInfo
from belugawf.host import guard
from belugawf.host.loops import hidden_task, run_until_done
from belugawf.model.errors import BelugaError
from tests.border import cast
from tests.border.odd import ENDLESS, ODD, RAISED

# A cell is over long before.
LONGEST_S = 60


class Logged(logging.Handler):
    """All errors that are logged, as text, by the cell that they are about.

    What names no run is about the one whose code has misbehaved last in that thread. `loop_ended`:
    the cells in which something has ended the event loop.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: dict[str, list[str]] = {}
        self.loop_ended: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        named = re.match(r"((?:cell|beside)-\d+): ", message)
        cell = named[1] if named else cast.latest()
        if "does not end this process" in message:
            self.loop_ended.add(cell)
        if record.levelno >= logging.ERROR:
            self.texts.setdefault(cell, []).append(f"{message}\n{record.exc_text or ''}")


class Bench:
    """One executor, and the cells that run on it."""

    def __init__(self, executor: DurableExecutor, poll_s: float) -> None:
        self._executor = executor
        self._poll_s = poll_s
        self._numbers = itertools.count(1)
        self._first: Any = None
        self._logged = Logged()
        logging.getLogger("belugawf").addHandler(self._logged)
        logging.getLogger("belugawf.workflow").addHandler(cast.OddHandler())

    async def cells(self, place: str, rows: list[str]) -> dict[str, list[Any]]:
        """What came of each, beside each other, and what the run beside them saw."""
        ids = {row: f"cell-{next(self._numbers)}" for row in rows}
        beside = await self._executor.execute("witness", id=f"beside-{next(self._numbers)}")
        loop = asyncio.get_running_loop()
        # As tasks that no code in a cell finds, and cancels.
        self.worker_noticed()
        said = await asyncio.gather(
            *[hidden_task(loop, self._cell(place, row, ids[row])) for row in rows]
        )
        try:
            async with asyncio.timeout(LONGEST_S):
                await beside.signal("go")
                seen = await beside.result()
        except Exception as error:
            seen = type(error).__name__
        # Now, because what a turn logs may come after the commit that shows us its end.
        noticed = await asyncio.gather(
            *[hidden_task(loop, self._noticed(ids[row], place, row)) for row in rows]
        )
        return {row: [said[i] + noticed[i], seen] for i, row in enumerate(rows)}

    async def _cell(self, place: str, row: str, workflow_id: str) -> str:
        try:
            said = await self._place(place, row, workflow_id)
        except Exception as error:
            said = f"the cell did not end: {traceback.format_exception_only(error)[-1].strip()}"
        if place != "process activity" and not cast.done.get(workflow_id):
            said += ", and its code has not run"
        if place != "thread activity" and workflow_id in cast.outlasted:
            said += ", and its code was not ended"
        # What goes on in a task of its own ends the loop of any program.
        if row in RAISED and workflow_id in self._logged.loop_ended:
            said += ", and its event loop was ended"
        return said + self.worker_noticed()

    def worker_noticed(self) -> str:
        """What has come of the worker on Temporal: one that has ended is replaced by a new one."""
        worker = getattr(self._executor._driving, "worker", None)  # type: ignore[attr-defined]
        self._first = self._first or worker
        if worker is self._first and (worker is None or not worker._running.cancelling()):
            return ""
        return ", and the worker was ended"

    async def _place(self, place: str, row: str, workflow_id: str) -> str:
        if place in ("hook", "log handler"):
            cast.assigned[workflow_id] = row
        run = await self._executor.execute(place, id=workflow_id, input=row)
        said = ""
        if place == "query":
            said = await self._query(workflow_id)
        if place == "eviction":
            async with asyncio.timeout(LONGEST_S):
                while not cast.done.get(workflow_id):
                    await asyncio.sleep(self._poll_s)
        if place in ("query", "hook", "eviction"):
            await run.signal("go")
        info = await self._ended(workflow_id)
        if place in ("hook", "log handler"):  # it comes after the commit that shows us the end
            async with asyncio.timeout(LONGEST_S):
                while not cast.done.get(workflow_id):
                    await asyncio.sleep(self._poll_s)
        return said + _said_of(info)

    async def _query(self, workflow_id: str) -> str:
        try:
            answer = await self._executor.query(workflow_id, "odd")
        except BelugaError as error:
            raised = re.search(r"raised (\S+):", error.message)
            return f"{raised[1] if raised else error.code}, "
        return f"answered {answer}, "

    async def _ended(self, workflow_id: str) -> RunInfo:
        """The run, once it has ended or has a problem."""
        async with asyncio.timeout(LONGEST_S):
            while True:
                info = await self._executor.describe(workflow_id)
                if not info.open:
                    return info
                if info.problem is not None:
                    await self._executor.terminate(workflow_id)
                    return info
                await asyncio.sleep(self._poll_s)

    async def _noticed(self, workflow_id: str, place: str, row: str) -> str:
        """What else has come of it: an error in the log; a timer that nobody has asked for."""
        said = ""
        kind = RAISED.get(row)
        for text in self._logged.texts.get(workflow_id, []):
            if kind is not None and kind.encode("utf-8", "backslashreplace").decode() in text:
                said = f", logged {kind}"
            elif "a bug in belugawf" in text:
                said = ", a bug in belugawf was logged"
                sys.stderr.write(f"{place}, {row}: {text}\n")
            elif not said:
                name = re.findall(r"\b(\w+(?:Error|Exit|Interrupt))\b", text)
                said = f", logged {name[-1] if name else text[:80]}"
        for event in await self._executor.history(workflow_id):
            if getattr(event, "delay", None) is not None and event.delay.total_seconds() > 30:
                said += ", another's timer is in its history"
        return said


def _said_of(info: RunInfo) -> str:
    if info.problem is not None:
        return f"problem {info.problem.code}"
    if info.error is not None:
        return f"failed with {info.error.type}"
    if isinstance(info.result, str):
        return info.result
    return info.status


def imports(provider: str) -> dict[str, str]:
    """What a folder of modules that misbehave at import is taken for; a good one is among them."""
    with tempfile.TemporaryDirectory() as folder:
        for number, row in enumerate(ODD):
            if row in _NOT_AT_IMPORT:
                continue
            text = f"from tests.border.odd import ODD\nODD[{row!r}]()\n"
            (Path(folder) / f"odd_{number:02}.py").write_text(text)
        good = "from belugawf import workflow\n@workflow\nasync def good(ctx): return 1\n"
        (Path(folder) / "zz_good.py").write_text(good)
        executor: Any = new_executor(provider, workflows=folder, **_options(provider, folder))
        found = {row: "imported" for row in ODD if row not in _NOT_AT_IMPORT}
        for problem in executor.catalog.problems:
            row = list(ODD)[int(problem.path.stem[4:])]
            found[row] = problem.message[:40].partition(": ")[2].partition(":")[0]
        if list(executor.catalog.workflows) != ["good"]:
            found["the good one"] = "is missing"
        return found


_NOT_AT_IMPORT = {*ENDLESS, "os._exit", "closing its descriptors"}


def _options(provider: str, folder: str) -> dict[str, Any]:
    if provider == "default":
        return {"db": Path(folder) / "state.db", "cache_runs": 0}
    return {"host": sys.argv[2], "namespace": sys.argv[3], "cache_runs": 0}


async def serve(provider: str, requests: asyncio.Queue[str]) -> None:
    """Answer until standard input ends."""
    with tempfile.TemporaryDirectory() as folder:
        functions = [cast.witness, *cast.WORKFLOWS]
        executor = new_executor(
            provider, workflows=functions, hooks=[cast.HOOKS], **_options(provider, folder)
        )
        async with executor:
            bench = Bench(executor, 0.002 if provider == "default" else 0.05)
            while line := await requests.get():
                request = json.loads(line)
                if request["place"] == "import":
                    answer: Any = imports(provider)
                    if noticed := bench.worker_noticed():
                        answer["all of them"] = noticed
                else:
                    answer = await bench.cells(request["place"], request["rows"])
                print(json.dumps(answer), flush=True)


def main() -> None:
    guard.LIMIT_S, guard.LIMIT_IN_TICKS_S, guard._TICK_S = 0.2, 0.6, 0.02
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    requests: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(requests.put_nowait, line)
        loop.call_soon_threadsafe(requests.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    run_until_done(loop, hidden_task(loop, serve(sys.argv[1], requests)))
    print(json.dumps("left"), flush=True)
    with contextlib.suppress(BaseException):
        sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
