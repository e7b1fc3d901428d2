"""wait: until a run has ended, waits, or awaits a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from belugawf.cli import options, sentences
from belugawf.cli.follow import chosen_run, wait_for
from belugawf.cli.options import option
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.model.errors import UsageError

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, RunInfo


def command(
    session: Session,
    run: options.OptionalOpenRun = None,
    target: Annotated[
        str, option("--for", "WHAT", "done, waiting (for a signal), or signal:NAME.")
    ] = "done",
    max_wait: options.MaxWait = None,
) -> None:
    """Wait until a run ends, waits, or awaits a signal.

    Only looks: another process drives the run. Its exit code is the run's, once it has ended.
    """
    kind, _, awaited = target.partition(":")
    if target not in ("done", "waiting") and not (kind == "signal" and awaited):
        raise UsageError(f"--for is {target!r}", hint="expected done, waiting or signal:NAME")
    limit = options.duration(max_wait, "--max-wait")

    async def find(executor: DurableExecutor) -> RunInfo:
        info = await chosen_run(session, executor, run)
        return await wait_for(session, executor, info, target, limit)

    info = session.run(find)
    sentences.require_completed(session, info)
    if session.json:
        session.print_json(info.to_json())
    else:
        session.say(f"{escape(info.workflow_id)} {_where(info)}")


def _where(info: RunInfo) -> str:
    if not info.open:
        return info.status.replace("_", " ")
    names = [escape(wait.name) for wait in info.waiting_for if wait.kind == "signal"]
    return "waits for signal " + ", ".join(names) if names else "is running"
