"""`list`'s filters, as flags of a command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from belugawf.cli import options
from belugawf.model.errors import UsageError

if TYPE_CHECKING:
    from belugawf.executor import RunFilters


class Filters:
    """Which runs are meant; `asked` has those that are given. Wrong ones raise `UsageError`."""

    def __init__(
        self,
        *,
        status: options.Status = None,
        state: options.State = None,
        workflow: options.Workflow = None,
        label: options.Labels = None,
        since: options.Since = None,
        until: options.Until = None,
    ) -> None:
        if status is not None or state is not None:
            from belugawf.executor import STATES, STATUSES

            _check_word("--status", status, STATUSES)
            _check_word("--state", state, STATES)
        filters = {
            "status": status,
            "state": state,
            "workflow": workflow,
            "labels": options.pairs(label, "--label") or None,
            "since": options.duration(since, "--since"),
            "until": options.duration(until, "--until"),
        }
        given = {name: value for name, value in filters.items() if value is not None}
        self.asked = cast("RunFilters", given)


def _check_word(flag: str, word: str | None, words: Sequence[str]) -> None:
    if word is None or word in words:
        return
    import difflib

    near = difflib.get_close_matches(word, words, n=1)
    hint = f"did you mean {near[0]}?" if near else "expected one of " + ", ".join(words)
    raise UsageError(f"{flag} is {word!r}", hint=hint)
