"""Exit codes, and how an exception becomes one line on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from belugawf.model.errors import AmbiguousRunError, BelugaError, UsageError
from belugawf.model.shortage import shortage

if TYPE_CHECKING:
    from belugawf.executor import RunInfo

OK = 0
BUG = 1
USAGE = 2
FAILED = 3
STOPPED = 4
TIMED_OUT = 5
NOT_FINISHED = 8
REFUSED = 9
UNAVAILABLE = 12
MISMATCH = 13
NOT_LOADED = 14
INTERRUPTED = 130
TERMINATED = 143

_OUTCOMES = {
    "failed": (FAILED, "workflow_failed"),
    "cancelled": (STOPPED, "workflow_cancelled"),
    "terminated": (STOPPED, "workflow_terminated"),
    "timed_out": (TIMED_OUT, "workflow_timed_out"),
}

# typer brings its own click since 0.26 and imports the package of that name before; the error that
# all others derive from is the same step up the tree in both.
ClickError: type[Exception] = typer.BadParameter.__mro__[2]

_GLOBAL_FLAGS = (
    *("-c", "--config", "-C", "--directory", "--db", "--workflows"),
    *("--provider", "--color", "--version"),
)


# What somebody means who gives a command more words than it takes.
_BESIDES = {
    "run": "the input stands after -i, or each parameter after -a: run WORKFLOW -i VALUE",
    "signal": "what it carries stands after --payload (JSON) or --text; to several runs: --all",
    "query": "arguments stand after --args, as JSON: belugawf query RUN NAME --args '[1]'",
    "list": "one run: belugawf status RUN; those of a workflow: belugawf list --workflow NAME",
    "waiting": "one run: belugawf status RUN",
    "workflows": "runs of a workflow: belugawf list --workflow NAME",
    "worker": "it drives every run; only some: belugawf resume RUN",
    "prune": "a single run cannot be pruned; those of a workflow: --workflow NAME",
    **dict.fromkeys(
        ("status", "history", "logs", "result", "wait"),
        "one run at a time; all of them: belugawf list",
    ),
}


class CommandError(Exception):
    """A command that ends with another exit code than 0, and what it says about it.

    `extra` are further keys of the JSON line. With `printed`, people have read it already
    and the message is for `--json` alone.
    """

    def __init__(
        self,
        exit_code: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        extra: Mapping[str, Any] | None = None,
        printed: bool = False,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
        self.message = message
        self.hint = hint
        self.extra = dict(extra or {})
        self.printed = printed


def outcome_code(status: str) -> int:
    """The exit code of a run that ended as `status`; 0 for one that completed or is open."""
    return _OUTCOMES.get(status, (OK, ""))[0]


def outcome_error(info: RunInfo) -> CommandError:
    """The error of a run that ended without completing, after people have read how."""
    exit_code, code = _OUTCOMES[info.status]
    extra = {"run": info.to_json()}
    return CommandError(exit_code, code, outcome_message(info), extra=extra, printed=True)


def outcome_message(info: RunInfo) -> str:
    """One sentence on how the run ended."""
    what = f"run {info.workflow_id} {info.status.replace('_', ' ')}"
    if info.status in ("cancelled", "terminated"):
        what = f"run {info.workflow_id} was {info.status}"
    if info.error is None:
        return what
    where = f" (activity {info.error.activity})" if info.error.activity else ""
    return f"{what}: {info.error.type}: {info.error.message}{where}"


def describe_error(error: BaseException) -> CommandError | None:
    """The error as exit code, code, message and hint; `None` for a bug of ours."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, BelugaError):
        extra: dict[str, Any] = {}
        if isinstance(error, AmbiguousRunError):
            extra["candidates"] = list(error.candidates)
        return CommandError(
            error.exit_code, error.code, error.message, hint=error.hint, extra=extra
        )
    if isinstance(error, ClickError):
        return _click_error(error)
    found = shortage(error)
    return None if found is None else describe_error(found)


def _click_error(error: Any) -> CommandError:
    command = error.ctx.command_path if getattr(error, "ctx", None) else "belugawf"
    word = command.split()[-1]
    hint = f"{command} --help shows what it takes"
    if "unexpected extra argument" in str(error):
        hint = _BESIDES.get(word, hint)
    if getattr(error, "option_name", None) in _GLOBAL_FLAGS:
        hint = f"{error.option_name} stands before the command: belugawf {error.option_name} ..."
    message = str(error.format_message()).rstrip(".")
    return CommandError(USAGE, UsageError.code, message, hint=hint)


def error_line(error: CommandError, mask: Callable[[str], str] | None = None) -> str:
    """The one JSON line that `--json` prints on stderr, without its end of line.

    `mask` is applied to its sentences; the documents in it are masked already.
    """
    message, hint = error.message, error.hint
    if mask is not None:
        message, hint = mask(message), None if hint is None else mask(hint)
    return json.dumps(
        {
            "schema": "belugawf.error/1",
            "code": error.code,
            "exit_code": error.exit_code,
            "message": message,
            "hint": hint,
            **error.extra,
        }
    )
