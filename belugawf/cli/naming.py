"""What somebody meant who named no run: a workflow, a signal, or both words the wrong way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from belugawf.executor import TypedRun
from belugawf.model import checking
from belugawf.model.errors import AmbiguousRunError, BelugaError, RunNotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from belugawf.cli.session import Session
    from belugawf.executor import DurableExecutor, RunInfo


T = TypeVar("T")


async def find_run(
    session: Session, executor: DurableExecutor, text: str, *, beside: str | None = None
) -> RunInfo:
    """The run that a person named. Raises as `describe`, with what they may have meant.

    `beside` is the name that the command takes besides RUN: the two are easily swapped.
    """
    return await explained(session, executor, text, executor.describe, beside=beside)


async def explained(
    session: Session,
    executor: DurableExecutor,
    text: str,
    ask: Callable[[str], Awaitable[T]],
    *,
    beside: str | None = None,
) -> T:
    """What `ask` answers for the run that a person named; see `find_run`."""
    checking.text("RUN", text)
    try:
        return await ask(TypedRun(text))
    except RunNotFoundError as error:
        hint = await _meant(session, executor, text, beside)
        if hint is None:
            raise
        raise RunNotFoundError(error.message, hint=hint) from None


async def _meant(
    session: Session, executor: DurableExecutor, text: str, beside: str | None
) -> str | None:
    if beside is not None and await is_run(executor, beside):
        word, names = session.word, [text, beside] if session.word == "signal" else [beside, text]
        return f"RUN and NAME are swapped; did you mean: {session.command(word, *names)}"
    if await executor.list(workflow=text, limit=1):
        command = session.command("list", options=("--workflow", text))
        return f"{text!r} is a workflow; its runs: {command}"
    if await executor.waiting(signal=text, limit=1):
        return f"{text!r} is a signal; who waits for it: {session.command('waiting')}"
    return None


async def is_run(executor: DurableExecutor, text: str) -> bool:
    """Whether a person who types this names a run, or several."""
    try:
        await executor.describe(TypedRun(text))
    except AmbiguousRunError:
        return True
    except BelugaError:
        return False
    return True
