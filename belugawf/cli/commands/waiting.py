"""waiting: every open wait for a signal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from belugawf.cli import options, sentences
from belugawf.cli.options import Text, option
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS
from belugawf.cli.tables import table, when

if TYPE_CHECKING:
    from belugawf.executor import DurableExecutor, OpenWait


def command(
    session: Session,
    limit: Annotated[Text, option("-n", "--limit", "N", "At most N waits; all by default.")] = None,
) -> None:
    """List every open wait for a signal.

    Longest waiting first; with the question it asks, and the command that answers it.
    """
    most = options.whole_number(limit, "--limit")

    async def find(executor: DurableExecutor) -> tuple[Sequence[OpenWait], Counter[str], int]:
        waits = await executor.waiting(limit=most)
        if most is None or len(waits) < most:
            return waits, sentences.count_waits(waits), len(waits)
        counts = await sentences.awaited_by(executor, (wait.signal for wait in waits))
        return waits, counts, (await executor.summary()).waits_total

    nothing = session.nothing_stored
    waits, counts, total = ((), Counter(), 0) if nothing else session.run(find)
    if session.json:
        session.print_json([sentences.wait_json(session, wait, counts) for wait in waits])
    elif waits:
        _print(session, waits, counts)
    if nothing:
        session.say_nothing_stored()
    elif not waits and session.talk_terminal:
        session.say(f"no run waits for a signal in {escape(session.place)}")
    elif total > len(waits):
        session.say(f"these wait longest; there are {total - len(waits):,} more")


def _print(session: Session, waits: Sequence[OpenWait], counts: Counter[str]) -> None:
    terminal = session.data_terminal
    rows = [
        (
            escape(wait.workflow_id),
            escape(wait.signal),
            when(wait.since, terminal),
            "" if wait.until is None else when(wait.until, terminal),
            escape(wait.expected or ""),
            escape(wait.prompt or ""),
            sentences.answer_open(session, wait, counts),
        )
        for wait in waits
    ]
    headers = ("RUN", "SIGNAL", "SINCE", "UNTIL", "TYPE", "PROMPT", "ANSWER")
    if not terminal:
        table(headers, rows, paint=session.paint, prose=5)
        return
    table(headers[:-1], [cells[:-1] for cells in rows], paint=session.paint, prose=5)
    # Under the table, because a command that is folded cannot be copied.
    STREAMS.write("\nanswer with:\n" + "".join(f"  {cells[-1]}\n" for cells in rows))
