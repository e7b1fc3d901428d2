"""A workflow for each place where user code runs: it does there what its input names in `ODD`."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import inspect
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

from belugawf import ActivityError, Hooks, WorkflowContext, activity, workflow
from tests.border.odd import ENDLESS, ODD, variable

# What has been done where, by workflow id: so that a cell knows that it has happened.
done: dict[str, int] = {}
# Whose endless loop has come to its own end: nobody has ended it.
outlasted: set[str] = set()
# What a hook or a log handler shall do, by workflow id.
assigned: dict[str, str] = {}


_thread = threading.local()


def latest() -> str:
    """The workflow id for which code of this thread has misbehaved last."""
    return getattr(_thread, "workflow_id", "")


def misbehave(row: str, workflow_id: str) -> Any:
    _thread.workflow_id = workflow_id
    done[workflow_id] = done.get(workflow_id, 0) + 1
    value = ODD[row]()
    if row in ENDLESS:
        outlasted.add(workflow_id)
    return value


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


@workflow(name="workflow")
async def in_workflow(ctx: WorkflowContext, row: str) -> Any:
    return await _awaited(misbehave(row, ctx.info.workflow_id))


@workflow(name="callback")
async def in_callback(ctx: WorkflowContext, row: str) -> None:
    asyncio.get_running_loop().call_soon(misbehave, row, ctx.info.workflow_id)
    await asyncio.sleep(0.001)


@workflow(name="timer")
async def in_timer(ctx: WorkflowContext, row: str) -> None:
    asyncio.get_running_loop().call_later(0.001, misbehave, row, ctx.info.workflow_id)
    await asyncio.sleep(0.01)


@workflow(name="done callback")
async def in_done_callback(ctx: WorkflowContext, row: str) -> None:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: misbehave(row, ctx.info.workflow_id))
    future.set_result(None)
    await asyncio.sleep(0.001)


@workflow(name="condition")
async def in_condition(ctx: WorkflowContext, row: str) -> None:
    asked = 0

    def holds() -> Any:
        nonlocal asked
        asked += 1
        return asked > 1 and misbehave(row, ctx.info.workflow_id)

    with contextlib.suppress(TimeoutError):  # for what returns nothing
        await ctx.wait_until(holds, timeout=0.02)


@workflow(name="query")
async def in_query(ctx: WorkflowContext, row: str) -> None:
    ctx.set_query("odd", lambda: misbehave(row, ctx.info.workflow_id))
    await ctx.wait_for_signal("go")


@workflow(name="hook")
async def in_hook(ctx: WorkflowContext, row: str) -> None:
    await ctx.wait_for_signal("go")


@workflow(name="log handler")
async def in_log_handler(ctx: WorkflowContext, row: str) -> None:
    ctx.logger.warning("odd")
    await asyncio.sleep(0.001)


class _Formatted:
    def __init__(self, row: str, workflow_id: str) -> None:
        self.row, self.workflow_id = row, workflow_id

    def __str__(self) -> Any:
        return misbehave(self.row, self.workflow_id) or ""


@workflow(name="log formatting")
async def in_log_formatting(ctx: WorkflowContext, row: str) -> None:
    ctx.logger.warning("formatted: %s", _Formatted(row, ctx.info.workflow_id))
    await asyncio.sleep(0.001)


@workflow(name="log message")
async def in_log_message(ctx: WorkflowContext, row: str) -> None:
    ctx.logger.warning(_Formatted(row, ctx.info.workflow_id))
    await asyncio.sleep(0.001)


@activity(name="odd_async")
async def odd_async(row: str) -> Any:
    return await _awaited(misbehave(row, activity.info().workflow_id))


@activity(name="odd_thread", timeout=5)
def odd_thread(row: str) -> Any:
    return misbehave(row, activity.info().workflow_id)


@activity(name="odd_long_thread", timeout=0.3)
def odd_long_thread(row: str) -> Any:
    return misbehave(row, activity.info().workflow_id)


@activity(name="odd_process", isolation="process", timeout=5)
def odd_process(row: str) -> Any:
    return misbehave(row, activity.info().workflow_id)


@activity(name="odd_long_process", isolation="process", timeout=0.3)
def odd_long_process(row: str) -> Any:
    return misbehave(row, activity.info().workflow_id)


def _is_long(row: str) -> bool:
    """Whether it only ends by its limit."""
    return row.startswith(("an endless loop", "naps"))


async def _said_of(ctx: WorkflowContext, function: Any, row: str) -> str:
    try:
        await ctx.execute_activity(function, row)
    except ActivityError as error:
        return f"attempt failed: {error.cause.type}"
    return "attempt completed"


@workflow(name="async activity")
async def in_async_activity(ctx: WorkflowContext, row: str) -> str:
    return await _said_of(ctx, odd_async, row)


@workflow(name="thread activity")
async def in_thread_activity(ctx: WorkflowContext, row: str) -> str:
    return await _said_of(ctx, odd_long_thread if _is_long(row) else odd_thread, row)


@workflow(name="process activity")
async def in_process_activity(ctx: WorkflowContext, row: str) -> str:
    return await _said_of(ctx, odd_long_process if _is_long(row) else odd_process, row)


@workflow(name="eviction")
async def in_eviction(ctx: WorkflowContext, row: str) -> None:
    try:
        await ctx.wait_for_signal("go")
    except BaseException:
        await _awaited(misbehave(row, ctx.info.workflow_id))
        raise


WORKFLOWS = [
    *(in_workflow, in_callback, in_timer, in_done_callback, in_condition, in_query, in_hook),
    *(in_log_handler, in_log_formatting, in_log_message),
    *(in_async_activity, in_thread_activity, in_process_activity, in_eviction),
]


# -- who must not notice anything ----------------------------------------------------------------


def _around() -> list[Any]:
    return [os.getpid(), decimal.getcontext().prec, variable.get()]


@activity(name="see_async")
async def see_async() -> list[Any]:
    await asyncio.sleep(0)
    return _around()


@activity(name="see_thread")
def see_thread() -> list[Any]:
    return _around()


@workflow(name="witness")
async def witness(ctx: WorkflowContext) -> list[Any]:
    """A run beside the one that misbehaves: in memory, or let go, while it does."""
    await ctx.wait_for_signal("go")
    await ctx.sleep(0.001)
    return [
        _around(),
        await ctx.execute_activity(see_async),
        await ctx.execute_activity(see_thread),
    ]


# -- hooks and log handlers ----------------------------------------------------------------------


def _hook(event: Mapping[str, Any]) -> Any:
    row = assigned.get(event["workflow_id"])
    return None if row is None else misbehave(row, event["workflow_id"])


HOOKS = Hooks(on_signal=_hook)


class OddHandler(logging.Handler):
    """A log handler that lets out whatever its code raises."""

    def handle(self, record: logging.LogRecord) -> Any:
        workflow_id = getattr(record, "workflow_id", "")
        row = assigned.get(workflow_id)
        return None if row is None else misbehave(row, workflow_id)
