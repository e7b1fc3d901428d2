"""The table: what comes of odd exceptions, cancellations and misbehaviours, wherever they happen.

To look up a cell, say "SystemExit" in a "hook": if the row raises, the rule of the place stands in
`WHERE_RAISED`, unless `RAISED_ELSE` names that cell; for other rows it stands in `DEEDS`, under the
place or under "else". `None`: there is no such cell, and the reason stands beside it.

`{}` stands for the exception's type. In each cell a witness runs in the same process, and completes
with what it would see alone; and the process is the same from the first cell to the last.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.border.odd import ODD, RAISED
from tests.devserver import DevServer, new_namespace

ROOT = Path(__file__).parents[2]

# What is raised fails the run, or the attempt, where a program would end too. Where a program
# would go on and log it, so does the run. In what is told of a run, it is logged, and no more.
WHERE_RAISED = {
    "workflow": "failed with {}",
    "callback": "completed, logged {}",
    "timer": "completed, logged {}",
    "done callback": "completed, logged {}",
    "condition": "failed with {}",
    "query": "{}, completed",
    "hook": "completed, logged {}",
    "log handler": "completed, logged {}",
    "log formatting": "completed",
    "log message": "completed",
    "async activity": "attempt failed: {}",
    "thread activity": "attempt failed: {}",
    "process activity": "attempt failed: {}",
    "eviction": "completed",
    "import": "{}",
}

_CALLBACKS = ("callback", "timer", "done callback")
_ENDING = ("KeyboardInterrupt", "SystemExit", "a KeyboardInterrupt that cannot be read")
RAISED_ELSE: dict[tuple[str, str], str] = {
    # They end a program from a bare callback; and so the run.
    **{(place, row): "failed with {}" for place in _CALLBACKS for row in _ENDING},
    # Python's own rule: StopIteration does not leave a coroutine.
    ("workflow", "StopIteration"): "failed with RuntimeError",
    ("condition", "StopIteration"): "failed with RuntimeError",
    ("async activity", "StopIteration"): "attempt failed: RuntimeError",
    # They say that the code is wrong: its run is parked.
    **{
        (place, row): "problem code_error"
        for place in ("workflow", "condition")
        for row in ("recursion without end", "a SyntaxError with odd fields")
    },
    # What we throw into code that takes too long is not the code's to raise.
    ("condition", "our CodeInterrupted"): "problem workflow_code",
    ("log formatting", "our CodeInterrupted"): "failed with {}",
    ("log message", "our CodeInterrupted"): "failed with {}",
}

# A loop in a hook, a log handler or an async activity holds up the process, as in any asyncio
# program; a module is imported without a limit.
_BLOCKS: dict[str, str | None] = {
    "else": "problem workflow_blocked",
    "query": "workflow_blocked, completed",
    **dict.fromkeys(("thread activity", "process activity"), "attempt failed: TimeoutError"),
    **dict.fromkeys(("hook", "log handler", "async activity", "import")),
    "eviction": "completed",
}
# Nothing comes of it.
_NOTHING: dict[str, str | None] = {
    "else": "completed",
    "query": "answered None, completed",
    **dict.fromkeys(("async activity", "thread activity", "process activity"), "attempt completed"),
    "import": "imported",
}
# Threads and processes of activities have no running loop.
_NO_LOOP = dict.fromkeys(("thread activity", "process activity"), "attempt failed: RuntimeError")
# Only what an isolated activity does to its process does it to no other.
_FOR_PROCESSES: dict[str, str | None] = {"else": None}

DEEDS: dict[str, dict[str, str | None]] = {
    "an endless loop": _BLOCKS,
    "an endless loop that swallows": _BLOCKS,
    "naps without end": _BLOCKS,
    "a coroutine in the collector": _NOTHING,
    # In a workflow these are its own tasks, beside it the loop's: none of them is the engine's.
    "cancelling all tasks": {
        **_NOTHING,
        **_NO_LOOP,
        **dict.fromkeys(("workflow", "condition", *_CALLBACKS), "failed with CancelledError"),
        **dict.fromkeys(("log formatting", "log message"), "failed with CancelledError"),
        "query": "WorkflowCodeError, completed",
        # Its own task is among them; it returns before that takes effect.
        "async activity": "attempt completed",
    },
    "stopping the loop": {
        **_NOTHING,
        **_NO_LOOP,
        **dict.fromkeys(("workflow", "condition"), "problem code_error"),
        **dict.fromkeys(_CALLBACKS, "completed, logged WorkflowCodeError"),
        "query": "WorkflowCodeError, completed",
    },
    "setting contexts": _NOTHING,
    "raising in __del__": _NOTHING,
    "hooks of Python's that raise": _NOTHING,
    # It is awaited where that can be; as an answer or a result it has no JSON form.
    "a future of another loop": {
        **_NOTHING,
        **dict.fromkeys(("workflow",), "failed with RuntimeError"),
        "query": "PayloadEncodeError, completed",
        "hook": "completed, logged RuntimeError",
        "async activity": "attempt failed: RuntimeError",
        "thread activity": "attempt failed: RuntimeError",
        "process activity": "attempt failed: RuntimeError",
    },
    "a task that raises SystemExit": {
        **_NOTHING,
        **_NO_LOOP,
        **dict.fromkeys(
            ("workflow", "log formatting", "log message", *_CALLBACKS),
            "completed, logged SystemExit",
        ),
        "query": "WorkflowCodeError, completed",
        # It is asked again after whatever has run: each time there is one more task.
        "condition": "problem workflow_blocked",
    },
    # Only where it is awaited it begins.
    "a generator that does not end": {
        **_NOTHING,
        "workflow": "problem workflow_blocked",
        "query": "PayloadEncodeError, completed",
        **dict.fromkeys(("hook", "async activity")),
    },
    "a result without a form": {
        **_NOTHING,
        "workflow": "problem code_error",
        # Whether it holds cannot be said.
        "condition": "failed with KeyboardInterrupt",
        "query": "PayloadEncodeError, completed",
        **dict.fromkeys(
            ("async activity", "thread activity", "process activity"),
            "attempt failed: PayloadEncodeError",
        ),
    },
    "os._exit": {**_FOR_PROCESSES, "process activity": "attempt failed: ProcessDied"},
    "closing its descriptors": {**_FOR_PROCESSES, "process activity": "attempt completed"},
}

# What is done to the event loop that runs: a workflow's own, or in a hook or an async activity that
# of all cells.
_TO_THE_LOOP = ("cancelling all tasks", "stopping the loop", "a task that raises SystemExit")
_BLOCKING = (
    *(row for row, deed in DEEDS.items() if deed is _BLOCKS),
    "a generator that does not end",
)

# What comes out otherwise on Temporal, by its nature; each difference stands in docs/temporal.md.
ON_TEMPORAL: dict[tuple[str, str], str] = {
    # From a worker only a text comes back to who asks, and no code of ours.
    **{("query", row): "query_failed, completed" for row in DEEDS if DEEDS[row] is _BLOCKS},
    # Each turn has a thread of its own there, also for what it logs, and no loop runs in that.
    **{("log handler", row): "completed, logged RuntimeError" for row in _TO_THE_LOOP},
}


def expected(place: str, row: str, provider: str) -> str | None:
    """What comes of that row in that place; `None`: there is no such cell."""
    if provider == "temporal" and (place, row) in ON_TEMPORAL:
        return ON_TEMPORAL[(place, row)]
    if row in RAISED:
        return RAISED_ELSE.get((place, row), WHERE_RAISED[place]).format(RAISED[row])
    deed = DEEDS[row]
    return deed.get(place, deed["else"])


def column(place: str, provider: str) -> dict[str, str]:
    """All cells of that place."""
    return {row: said for row in ODD if (said := expected(place, row, provider)) is not None}


def groups(place: str, provider: str) -> list[list[str]]:
    """The cells of that place, those together that run beside each other, and beside one witness.

    On Temporal each takes some round trips to the server. So only what is done to the process runs
    alone there, and what blocks runs apart from the rest.
    """
    rows = list(column(place, provider))
    if provider == "default":
        return [[row] for row in rows]
    if place == "process activity":
        return [rows]
    alone = [row for row in rows if row in _TO_THE_LOOP and place in ("hook", "async activity")]
    blocks = [row for row in rows if row in _BLOCKING]
    rest = [row for row in rows if row not in alone and row not in blocks]
    return [group for group in (rest, blocks, *([row] for row in alone)) if group]


class Bench:
    """The process in which the cells run, on that provider."""

    def __init__(self, provider: str, *arguments: str) -> None:
        self.provider = provider
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `close` ends it
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.border.bench", provider, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the process has ended: {self.errors()}"
        return json.loads(answer)

    def column(self, place: str) -> dict[str, str]:
        """What came of each cell, and that the run beside it has noticed nothing."""
        if place == "import":
            imported: dict[str, str] = self.ask(place=place)
            return imported
        found: dict[str, Any] = {}
        for rows in groups(place, self.provider):
            found |= self.ask(place=place, rows=rows)
        answers = {}
        for row, (answers[row], seen) in found.items():
            if seen != [[self.process.pid, 28, "default"]] * 3:
                answers[row] += f"; but the run beside it saw {seen}"
        return answers

    def close(self) -> None:
        """End it. Raises AssertionError where it ends in another way than by our wish."""
        out, _ = self.process.communicate(timeout=30)
        assert (json.loads(out), self.process.returncode) == ("left", 0), self.errors()

    def errors(self) -> str:
        """The end of what it has written to its standard error."""
        self._errors.seek(0)
        return self._errors.read()[-5_000:]


@pytest.fixture(scope="module")
def local_bench() -> Iterator[Bench]:
    bench = Bench("default")
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def temporal_bench(temporal_server: DevServer) -> Iterator[Bench]:
    bench = Bench("temporal", temporal_server.address, new_namespace(temporal_server.address))
    yield bench
    bench.close()


@pytest.fixture(params=["default", "temporal"])
def bench(request: pytest.FixtureRequest) -> Bench:
    name = "local_bench" if request.param == "default" else "temporal_bench"
    found: Bench = request.getfixturevalue(name)
    return found


@pytest.mark.parametrize("place", WHERE_RAISED)
def test_column(bench: Bench, place: str) -> None:
    """Each cell of that place comes out as the table says."""
    assert bench.column(place) == column(place, bench.provider)


def test_the_table_is_whole() -> None:
    """Every row and every place has its cells; and no exception names a cell that is not there."""
    assert RAISED.keys() | DEEDS.keys() == set(ODD)
    assert not RAISED.keys() & DEEDS.keys()
    assert all(place in WHERE_RAISED and row in RAISED for place, row in RAISED_ELSE)
    assert all(deed.keys() <= {"else", *WHERE_RAISED} for deed in DEEDS.values())
    assert all(expected(*cell, "default") is not None for cell in ON_TEMPORAL)
    assert len(ODD) >= 30
    assert sum(len(column(place, "default")) for place in WHERE_RAISED) >= 450
