"""Whose fault is it? A run whose code is wrong is not over: it waits until the code is mended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from belugawf import ApplicationError, WorkflowContext, activity
from belugawf.model import commands as c, events as e
from belugawf.model.errors import (
    CodeError,
    NondeterminismError,
    PayloadEncodeError,
    PayloadTooLargeError,
    PayloadTypeError,
    SignalTimeoutError,
    UsageError,
    WorkflowCodeError,
)
from tests.replay.driving import Run


@activity
def charge(amount: int) -> str:
    return f"paid {amount}"


class OwnError(Exception):
    """An author's."""


class OwnTypeError(TypeError):
    """What means the same as its base."""


def recursive() -> None:
    recursive()


# The program is wrong.
WRONG: dict[str, Callable[[], BaseException]] = {
    kind.__name__: kind
    for kind in (
        *(NameError, UnboundLocalError, AttributeError, TypeError, ImportError),
        *(ModuleNotFoundError, SyntaxError, IndentationError, NotImplementedError),
        *(RecursionError, OwnTypeError),
    )
} | {
    "WorkflowCodeError": lambda: WorkflowCodeError("x"),
    "PayloadEncodeError": lambda: PayloadEncodeError("result", "an object has no JSON form"),
    "PayloadTooLargeError": lambda: PayloadTooLargeError("result", 3, 2),
    "PayloadTypeError": lambda: PayloadTypeError("x", "int", "a text"),
    "UsageError": lambda: UsageError("x"),
    "in a group": lambda: ExceptionGroup("g", [ValueError(), ExceptionGroup("h", [NameError()])]),
}

# It is the code's own word, whatever that came from.
OWN: dict[str, Callable[[], BaseException]] = {
    kind.__name__: kind
    for kind in (
        *(ValueError, KeyError, RuntimeError, OSError, AssertionError, OwnError, Exception),
        *(ApplicationError, asyncio.CancelledError),
    )
} | {
    "SignalTimeoutError": lambda: SignalTimeoutError("go", "1s"),
    "group": lambda: ExceptionGroup("g", [ValueError(), OwnError()]),
}


def raising(make: Callable[[], BaseException]) -> Callable[..., Any]:
    async def code(ctx: WorkflowContext) -> None:
        await ctx.execute_activity(charge, 5)
        raise make()

    return code


@pytest.mark.parametrize("name", WRONG)
def test_wrong_code_parks(name: str) -> None:
    """The turn cannot be taken; the error has type, message, line and traceback."""
    run = Run(raising(WRONG[name]), park=True)
    with pytest.raises(CodeError) as caught:
        run.complete(1, "paid 5")
    told = "NameError" if name == "in a group" else type(WRONG[name]()).__name__
    assert told in caught.value.message
    assert name == "in a group" or f"{__file__}:" in caught.value.message
    assert "raise make()" in (caught.value.traceback or "")


@pytest.mark.parametrize("name", WRONG)
def test_park_false_fails(name: str) -> None:
    """As its author wants it."""
    run = Run(raising(WRONG[name]), park=False)
    run.complete(1, "paid 5")
    assert isinstance(run.history[-1], e.WorkflowFailed)


@pytest.mark.parametrize("name", OWN)
def test_its_own_errors_fail(name: str) -> None:
    """What the code itself has to say ends the run."""
    run = Run(raising(OWN[name]), park=True)
    run.complete(1, "paid 5")
    assert isinstance(run.history[-1], e.WorkflowFailed)


def test_causes_are_not_looked_at() -> None:
    """An error of its own that came from a NameError, or was raised while handling one."""

    async def code(ctx: WorkflowContext, chained: bool) -> None:
        try:
            raise NameError
        except NameError as error:
            if chained:
                raise OwnError from error
            raise OwnError  # noqa: B904

    for chained in (False, True):
        assert isinstance(Run(code, chained, park=True).history[-1], e.WorkflowFailed)


def test_real_mistakes() -> None:
    """As Python itself raises them, in a task group and without."""

    async def typo(ctx: WorkflowContext) -> str:
        return recept  # type: ignore[name-defined] # noqa: F821

    async def in_a_group(ctx: WorkflowContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(typo(ctx))

    async def deep(ctx: WorkflowContext) -> None:
        recursive()

    async def result(ctx: WorkflowContext) -> Any:
        return object()

    for code in (typo, in_a_group, deep, result):
        with pytest.raises(CodeError):
            Run(code, park=True)


def test_mended_code_goes_on() -> None:
    """The history of the code that was wrong fits the code that is mended."""
    run = Run(raising(NameError), park=True)
    with pytest.raises(CodeError):
        run.complete(1, "paid 5")

    async def mended(ctx: WorkflowContext) -> str:
        return str(await ctx.execute_activity(charge, 5))

    assert [type(command) for command in run.replay(code=mended, partial=True)] == [
        c.CompleteWorkflow
    ]


def test_what_a_parked_run_has_in_flight_is_not_lost() -> None:
    """Only a run that has ended is told that what it did not wait for is lost."""

    async def code(ctx: WorkflowContext, wrong: bool) -> None:
        ctx.start_activity(charge, 5)
        await ctx.sleep(1)  # of the replayed clock: it takes no time
        raise NameError if wrong else OwnError

    for wrong, lost in ((True, 0), (False, 1)):
        run = Run(code, wrong, park=True)
        with contextlib.suppress(CodeError):
            run.fire()
        assert len(run.replayer.take_logs()) == lost


def test_code_that_went_on_after_its_own_mistake() -> None:
    """What it did instead is recorded; whoever mends it is told from where to do it again."""

    def instead(wrong: bool) -> Callable[..., Any]:
        async def code(ctx: WorkflowContext) -> None:
            with contextlib.suppress(NameError):
                if wrong:
                    raise NameError
                await ctx.execute_activity(charge, 5)
            await ctx.execute_activity(charge, 7)
            await ctx.wait_for_signal("go")

        return code

    def in_background(wrong: bool) -> Callable[..., Any]:
        async def code(ctx: WorkflowContext) -> None:
            async def pay() -> None:
                await ctx.execute_activity(charge, 7)
                if wrong:
                    raise NameError
                await ctx.execute_activity(charge, 8)

            paying = asyncio.ensure_future(pay())
            await ctx.wait_for_signal("go")
            await paying

        return code

    for code, seq, position in ((instead, 1, 2), (in_background, 2, 4)):
        run = Run(code(True), park=True)
        run.complete(seq, "paid 7")
        with pytest.raises(NondeterminismError) as caught:
            run.replay(code=code(False))
        assert f"belugawf retry w --from {position};" in str(caught.value.hint)


def test_old_histories_are_as_they_were() -> None:
    """A run that failed with a NameError, before such runs were parked, is replayed and asked."""
    run = Run(raising(NameError), park=False)
    run.complete(1, "paid 5")
    assert isinstance(run.history[-1], e.WorkflowFailed)
    run.definition.parks = True
    assert run.replay() == []


def test_wrong_code_goes_before_a_mismatch() -> None:
    """If the code raises before it comes to what is recorded, that is said."""
    run = Run(raising(ValueError), park=True)

    async def code(ctx: WorkflowContext) -> None:
        raise NameError("amount")

    run.complete(1, "paid 5")
    with pytest.raises(CodeError, match="amount"):
        run.replay(code=code)
