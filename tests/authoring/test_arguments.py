"""Arguments of wrong types: the error names the argument and, in a workflow, the line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NoReturn

import pytest

from belugawf import RetryPolicy, UsageError, WorkflowContext, activity, workflow
from belugawf.model import commands as c
from tests.replay.driving import Run


class Hostile:
    """Whatever is done with it raises."""

    def _raise(self, *_: Any) -> NoReturn:
        raise RuntimeError("touched")

    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = __lt__ = __hash__ = _raise  # type: ignore[assignment]


async def coroutine_function() -> None: ...


VALUES: dict[str, Any] = {
    "none": None,
    "bool": True,
    "int": 5,
    "negative": -1,
    "nan": float("nan"),
    "huge": 10**5000,
    "text": "x",
    "empty": "",
    "half": "\ud800",
    "bytes": b"x",
    "list": [1],
    "dict": {"max_attempts": 3},
    "class": int,
    "function": print,
    "async": coroutine_function,
    "hostile": Hostile(),
}
DURATIONS = {"none", "int"}
TEXTS = {"none", "text"}
CALLABLE = {"function", "async", "class"}
PROGRESS = {"int", "negative", "text", "empty", "half"}
CALLED = {"text", "function", "async", "class"}


@activity
def double(number: int, *rest: str) -> int:
    return number * 2


Call = Callable[[WorkflowContext, str, Any], Any]


def _option(ctx: WorkflowContext, name: str, value: Any) -> Any:
    return ctx.execute_activity(double, 1, **{name: value})


def _started(ctx: WorkflowContext, name: str, value: Any) -> Any:
    return ctx.start_activity(double, 1, **{name: value})


def _waiting(ctx: WorkflowContext, name: str, value: Any) -> Any:
    return ctx.wait_for_signal(**{"name": "go", name: value})


# What is called, with an argument of that name, and the values that it takes.
IN_WORKFLOWS: list[tuple[str, Call, str, set[str]]] = [
    *[
        (what, call, name, DURATIONS)
        for what, call in (("execute", _option), ("start", _started))
        for name in ("timeout", "total_timeout", "heartbeat_timeout")
    ],
    ("execute", _option, "retry", {"none"}),
    ("execute", _option, "at_most_once", {"none", "bool"}),
    ("execute", _option, "id", TEXTS),
    ("start", _started, "retry", {"none"}),
    ("start", _started, "id", TEXTS),
    ("execute", _option, "task_queue", TEXTS),
    ("start", _started, "task_queue", TEXTS),
    ("call", lambda ctx, _, v: ctx.execute_activity(v), "activity", CALLED),
    ("call", lambda ctx, _, v: ctx.execute_activity(double, v), "number", {"int", "negative"}),
    ("call", lambda ctx, _, v: ctx.execute_activity(double, 1, v), "argument 2", {"text", "empty"}),
    ("wait", _waiting, "name", {"text"}),
    ("wait", _waiting, "timeout", DURATIONS),
    ("wait", _waiting, "prompt", {"none", "text", "empty"}),
    ("wait", _waiting, "type", {"none", "class"}),
    ("signals", lambda ctx, _, v: ctx.signals(v), "name", {"text"}),
    ("signals", lambda ctx, _, v: ctx.signals("go", v), "type", {"none", "class"}),
    ("sleep", lambda ctx, _, v: ctx.sleep(v), "duration", {"int"}),
    ("sleep_until", lambda ctx, _, v: ctx.sleep_until(v), "sleep_until", set()),
    ("wait_until", lambda ctx, _, v: ctx.wait_until(v), "predicate", {"function", "class"}),
    ("wait_until", lambda ctx, _, v: ctx.wait_until(print, v), "timeout", DURATIONS),
    ("set_query", lambda ctx, _, v: ctx.set_query(v, print), "name", {"text"}),
    ("set_query", lambda ctx, _, v: ctx.set_query("q", v), "function", CALLABLE),
    ("shielded", lambda ctx, _, v: ctx.shielded(v), "shielded", set()),
    ("set", lambda ctx, _, v: ctx.set_progress(v), "progress", PROGRESS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "call", "name", "taken"), IN_WORKFLOWS, ids=[f"{x[0]}-{x[2]}" for x in IN_WORKFLOWS]
)
def test_in_workflows(what: str, call: Call, name: str, taken: set[str]) -> None:
    """A UsageError, which the code may catch; nothing is asked for. The rest is taken."""
    seen = {}

    async def code(ctx: WorkflowContext) -> None:
        for kind, value in VALUES.items():
            try:
                made = call(ctx, name, value)
            except UsageError as error:
                seen[kind] = error
            else:
                if hasattr(made, "close"):
                    made.close()
                elif hasattr(made, "cancel"):
                    made.cancel()

    run = Run(code)  # FINDINGS E7
    assert run.result is None
    assert VALUES.keys() - seen.keys() == taken
    for error in seen.values():
        assert name in error.message
        assert f"({__file__}:" in error.message
        assert "\n" not in error.message
        assert len(error.message) < 300
    wanted = [x for x in run.commands if isinstance(x, c.ScheduleActivity | c.StartWait)]
    assert len(wanted) <= (len(taken) if what == "start" else 0)


RETRY: dict[str, set[str]] = {
    "max_attempts": {"int"},
    "initial_delay": {"int"},
    "backoff_coefficient": {"int"},
    "max_delay": DURATIONS,
    "jitter": set(),
    "non_retryable": {"text"},
}
DECORATORS: list[tuple[Callable[..., Any], str, set[str]]] = [
    *[(RetryPolicy, name, taken) for name, taken in RETRY.items()],
    (activity, "name", TEXTS),
    (activity, "retry", {"none"}),
    *[(activity, name, DURATIONS) for name in ("timeout", "total_timeout", "heartbeat_timeout")],
    (activity, "at_most_once", {"bool"}),
    (activity, "isolation", set()),
    (activity, "task_queue", TEXTS),
    (workflow, "name", TEXTS),
    (workflow, "timeout", DURATIONS),
    (workflow, "park", {"bool"}),
]


@pytest.mark.parametrize(("call", "name", "taken"), DECORATORS)
def test_of_decorators_and_policies(call: Callable[..., Any], name: str, taken: set[str]) -> None:
    """When they are written: a module that has one does not import."""
    refused = {}
    for kind, value in VALUES.items():
        try:
            call(**{name: value})
        except UsageError as error:
            refused[kind] = error
    assert VALUES.keys() - refused.keys() == taken  # FINDINGS E7
    assert all(name in error.message for error in refused.values())
    assert all(error.hint for error in refused.values())


@pytest.mark.parametrize("decorator", [activity, workflow])
def test_what_is_no_function(decorator: Any) -> None:
    """Nothing but a function can be marked."""
    for kind, value in VALUES.items():
        if kind not in ("none", "function", "async"):
            with pytest.raises(UsageError, match=r"isn't a function|must be an async def"):
                decorator(value)
    with pytest.raises(UsageError, match="takes no context"):
        workflow(coroutine_function)


# -- signatures ----------------------------------------------------------------------------------


@dataclass
class Order:
    amount: int
    due: date | None = None


@activity
def pay(order: Order, currency: str = "EUR") -> None: ...


@activity
def by_name(*, order: Order) -> None: ...


@activity
def anything(*args: Any) -> None: ...


def injected(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that passes one argument itself."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function("connection", *args)

    return wrapper


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator whose wrapper takes one argument."""

    @functools.wraps(function)
    def wrapper(one: Any) -> Any:
        return function(one, 2)

    return wrapper


@activity
@injected
def load(connection: Any, key: int) -> None: ...


@activity
@counted
def add(one: int, other: int) -> None: ...


@injected
@activity
def outside(connection: Any, key: int) -> None: ...


def asked(function: Any, *args: Any) -> str:
    """What was asked for, or the error's message without the place."""

    async def code(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(function, *args)

    run = Run(code)
    if isinstance(run.commands[0], c.ScheduleActivity):
        return run.commands[0].arguments
    message: str = run.error.message
    assert f" ({__file__}:" in message
    return message.split(" (/")[0]


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (pay, (), "activity 'pay' takes 1 to 2 arguments (order, currency), and gets 0"),
        (pay, (1, 2, 3), "activity 'pay' takes 1 to 2 arguments (order, currency), and gets 3"),
        (double, (), "activity 'double' takes 1 or more arguments (number), and gets 0"),
        (by_name, (), "activity 'by_name' needs 'order' by name, and is called by position"),
        (add, (1, 2), "activity 'add' takes 1 argument (one, other), and gets 2"),
        (double, ([1, 2],), "double: number: expected int, found a list"),
        (pay, (Order("1"),), "pay: order.amount: expected int, found a text"),
        (double, ("1",), "double: number: expected int, found a text"),
        (double, (1, 2), "double: argument 2: expected str, found a number"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(function: Any, args: Any, message: str) -> None:
    """Found where the activity is asked for, and not in an attempt."""
    assert asked(function, *args) == message  # FINDINGS A11


@pytest.mark.parametrize(
    ("function", "args", "text"),
    [
        (pay, (Order(1),), '[{"amount":1,"due":null}]'),
        (pay, ({"amount": 1}, "USD"), '[{"amount":1},"USD"]'),
        (double, (1, "a", "b"), '[1,"a","b"]'),
        (anything, (1, "x", None), '[1,"x",null]'),
        (load, ("a",), '["a"]'),
        (add, (1,), "[1]"),
        (outside, (7,), "[7]"),
        (print, (1, 2, 3), "[1,2,3]"),
        ("by_name", (1, 2), "[1,2]"),
    ],
)
def test_arguments_that_fit(function: Any, args: Any, text: str) -> None:
    """What the function itself takes; a decorator may take more or less than what it wraps."""
    assert asked(function, *args) == text


# -- ids -----------------------------------------------------------------------------------------


def ids(code: Callable[[WorkflowContext], Any]) -> list[str]:
    """Those of the activities that the code has asked for."""
    run = Run(code)
    return [x.activity_id for x in run.commands if isinstance(x, c.ScheduleActivity)]


def test_an_id_is_given_once() -> None:
    """A second use is refused at its line."""

    async def code(ctx: WorkflowContext) -> str:
        ctx.start_activity(double, 1, id="a")
        try:
            await ctx.execute_activity(double, 2, id="a")
        except UsageError as error:
            return str(error)
        return "taken"

    run = Run(code)  # FINDINGS E9
    assert run.result.startswith(f"this run has an activity with id 'a' already ({__file__}:")


def test_ids_never_collide() -> None:
    """Not with the numbers that those without one get, before or after."""

    async def code(ctx: WorkflowContext) -> None:
        given: list[str | None] = ["3", None, None, "2", "4", "06", "7", "2#2", None, None]
        for id in given:
            ctx.start_activity(double, 1, id=id)
        await ctx.sleep(1)

    found = ids(code)  # FINDINGS E9
    assert found == ["3", "3#2", "4", "2", "4#2", "06", "7", "2#2", "10", "11"]
    assert len(set(found)) == len(found)


def test_moments_of_another_type() -> None:
    """A date and a moment without a zone are no moments."""

    async def code(ctx: WorkflowContext) -> int:
        refused = 0
        for when in (date(2030, 1, 1), datetime(2030, 1, 1), "2030-01-01"):
            try:
                await ctx.sleep_until(when)  # type: ignore[arg-type]
            except UsageError:
                refused += 1
        return refused

    assert Run(code).result == 3
