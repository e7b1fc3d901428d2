"""Looks do not read histories: what is open is stored, and read on from there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from belugawf import RetryPolicy, WorkflowContext, activity, workflow
from belugawf.cli.live import LineView
from belugawf.local.drive.cache import pieces
from belugawf.local.drive.run import LONGEST_LOOK
from belugawf.local.executor import LocalExecutor
from belugawf.local.store import histories
from belugawf.local.view import _LATEST
from belugawf.model import events as e
from belugawf.model.history import OpenWork

LONG = 1_500


@activity
async def step(number: int) -> int:
    return number


@activity(retry=RetryPolicy(max_attempts=5, initial_delay=3600))
async def fails(text: str) -> None:
    raise ValueError(text)


@workflow
async def long(ctx: WorkflowContext, steps: int) -> list[Any]:
    """So many steps, beside a retry, a timer and a wait that go on."""
    failing = asyncio.create_task(ctx.execute_activity(fails, "no"))
    sleeping = asyncio.create_task(ctx.sleep("2h"))
    for number in range(steps):
        await ctx.execute_activity(step, number)
    answer = await ctx.wait_for_signal("go", prompt="On?")
    failing.cancel()
    sleeping.cancel()
    return [answer.payload]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[e.Event]]:
    """The events that are read from the database meanwhile."""
    read: list[e.Event] = []
    from_row = e.from_row

    def counting(row: e.Row) -> e.Event:
        read.append(from_row(row))
        return read[-1]

    with monkeypatch.context() as patched:
        patched.setattr(e, "from_row", counting)
        yield read


async def test_looks_do_not_read_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They read as many events beside a long run as beside a short one, and show the same."""
    async with LocalExecutor(tmp_path / "state.db", [long]) as executor:
        shown = {}
        for name, steps in (("short", 1), ("long", LONG)):
            await executor.execute(long, id=name, input=steps)
            await executor.wait(name, until="signal:go")
        await executor.wait("short", until="rest")
    async with LocalExecutor(tmp_path / "state.db", [long]) as executor:
        for name in ("short", "long"):
            with counted(monkeypatch) as read:
                info = await executor.describe(name)
                activities = await executor.activities(name)
                await executor.list()
                await executor.wait(name, until="waiting")
                await executor.signal(name, "other", drive=False)
            shown[name] = [(w.kind, w.name, w.attempt, w.prompt, w.error) for w in info.waiting_for]
            # Each look reads at most what was not told yet, of both runs in a list.
            assert len(read) < 8 * LONGEST_LOOK + 2 * _LATEST
            (failing,) = (a for a in activities if a.state != "completed")
            assert (failing.name, failing.state) == ("fails", "retrying")
            assert failing.error == "ValueError: no"
        assert info.history_length > 2 * LONG
        assert shown["long"] == shown["short"]
        assert [(kind, error) for kind, *_, error in shown["long"]] == [
            ("signal", None),
            ("activity", "ValueError: no"),
            ("timer", None),
        ]
        row = executor._resolve("long")
        # What is stored, and what was read on, comes to what the whole history does.
        assert (
            executor._store.open_work(row.key)[0].to_json()
            == OpenWork.of(executor._store.history(row.key)).to_json()
        )


async def test_pieces_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history with large results is read in smaller pieces, and is all there."""
    async with LocalExecutor(tmp_path / "state.db", [long]) as executor:
        await executor.execute(long, id="a", input=50)
        await executor.wait("a", until="signal:go")
        row = executor._resolve("a")
        whole = executor._store.history(row.key)
        monkeypatch.setattr(histories, "_PIECE_BYTES", 20)
        read = list(pieces(executor._store, row.key, len(whole)))
    assert [event for piece in read for event in piece] == whole
    assert len(read) > 5


@pytest.mark.parametrize(
    "edit",
    [
        "'x'",
        "'[]'",
        "'{}'",
        "json_set(open_work, '$.events', json('[9999]'))",
        "json_set(open_work, '$.events', json('[]'))",
        "json_set(open_work, '$.events', json('{\"a\": 3}'))",
        "json_set(open_work, '$.attempts.\"2\"[3]', 'soon')",
        "json_set(open_work, '$.attempts.\"2\"[3]', -5)",
        "json_set(open_work, '$.attempts.\"2\"[0]', json('{}'))",
        "json_set(open_work, '$.attempts.\"7\"', json('[]'))",
    ],
)
async def test_what_is_stored_of_it_may_be_lost(tmp_path: Path, edit: str) -> None:
    """Nonsense there is not believed: the history says what is open."""
    async with LocalExecutor(tmp_path / "state.db", [long]) as executor:
        await executor.execute(long, id="a", input=LONGEST_LOOK)
        await executor.wait("a", until="rest")
        run = executor._resolve("a").key
        with executor._store.database.write() as db:
            ((stored,),) = db.execute("SELECT open_work FROM live WHERE open_at > 0").fetchall()
            assert json.loads(stored)["attempts"]["2"]
            db.execute(f"UPDATE live SET open_work = {edit}")
        whole = OpenWork.of(executor._store.history(run))
        assert executor._store.open_work(run)[0].to_json() == whole.to_json()
        assert (await executor.describe("a")).problem is None


async def test_lines_begin_with_what_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of what happens next need no history: names of activities are known without it."""
    async with LocalExecutor(tmp_path / "state.db", [long]) as executor:
        await executor.execute(long, id="a", input=LONG)
        await executor.wait("a", until="rest")
        session: Any = SimpleNamespace()
        with counted(monkeypatch) as read:
            view = LineView(session, executor, waits=False)
            await view.add(["a"])
        assert len(read) < 3 * LONGEST_LOOK + _LATEST
        assert await view._read("a") == []
        assert view._formatters["a"].name(2) == "fails"
