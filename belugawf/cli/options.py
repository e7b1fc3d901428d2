"""Parameters that several commands share, and how their texts are read.

All of them are texts, lists of texts or flags; the functions below turn them into values, so
that every mistake is reported in the same words.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from belugawf.cli import completion
from belugawf.model.durations import parse_duration
from belugawf.model.errors import UsageError
from belugawf.model.levels import LEVELS, level_number

Text: TypeAlias = str | None
Texts: TypeAlias = list[str] | None


def option(*words: str) -> Any:
    """A flag that takes a text: its spellings, what stands for the text, and its line of help."""
    *flags, metavar, line = words
    return typer.Option(*flags, metavar=metavar, help=line)


Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON; errors as JSON too.")]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("-q", "--quiet", help="Say nothing but results and errors.")
]
Verbose: TypeAlias = Annotated[
    bool, typer.Option("-v", "--verbose", help="Say more; tracebacks of our own bugs.")
]


def _run_argument(line: str, complete: completion.Complete) -> Any:
    return typer.Argument(metavar="RUN", help=line, show_default=False, autocompletion=complete)


_ONE = "A workflow id, a run id, a prefix of either (4 or more characters), or @latest."
_SEVERAL = "Workflow ids, run ids, prefixes of either (4 or more characters), or @latest."
Run: TypeAlias = Annotated[str, _run_argument(_ONE, completion.complete_run)]
OptionalRun: TypeAlias = Annotated[str | None, _run_argument(_ONE, completion.complete_run)]
# For what only an open run takes.
OptionalOpenRun: TypeAlias = Annotated[
    str | None, _run_argument(_ONE, completion.complete_open_run)
]
OptionalOpenRuns: TypeAlias = Annotated[
    list[str] | None, _run_argument(_SEVERAL, completion.complete_open_run)
]
SeveralRuns: TypeAlias = Annotated[
    list[str] | None, _run_argument(_SEVERAL, completion.complete_run)
]
Workflow: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--workflow",
        metavar="NAME",
        help="Only runs of this workflow.",
        autocompletion=completion.complete_workflow,
    ),
]
Status: TypeAlias = Annotated[
    Text,
    option(
        "--status",
        "STATUS",
        "Only runs that are: running, completed, failed, cancelled, terminated, timed_out ...",
    ),
]
State: TypeAlias = Annotated[
    Text, option("--state", "STATE", "What an open run does: working, due, waiting, parked.")
]
Labels: TypeAlias = Annotated[
    Texts, option("--label", "KEY=VALUE", "Only runs so labelled; repeat for more.")
]
Since: TypeAlias = Annotated[Text, option("--since", "DUR", "Only runs started in the last DUR.")]
Until: TypeAlias = Annotated[
    Text, option("--until", "DUR", "Only runs started longer ago than DUR.")
]
MaxWait: TypeAlias = Annotated[
    Text, option("--max-wait", "DUR", "Give up waiting after DUR (exit code 124).")
]
Grace: TypeAlias = Annotated[
    Text, option("--grace", "DUR", "Stopping, cut attempts that still run after DUR.")
]
Reason: TypeAlias = Annotated[Text, option("--reason", "TEXT", "Why; kept in the history.")]
By: TypeAlias = Annotated[Text, option("--by", "WHO", "Who asks; you, unless given.")]
Yes: TypeAlias = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


LogLevel: TypeAlias = Annotated[
    Text, option("--log-level", "LEVEL", "Show what runs log from LEVEL on: debug to critical.")
]
LogFormat: TypeAlias = Literal["text", "json"]


def yes_is_missing(what: str) -> UsageError:
    """The error of a command that would ask, away from a terminal: nothing was done."""
    return UsageError(
        f"{what}, and nobody can be asked: this is no terminal", hint="pass --yes; nothing was done"
    )


def duration(text: str | None, flag: str) -> timedelta | None:
    """The duration of a flag, `None` if it was not given. Raises `UsageError`."""
    if text is None:
        return None
    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error.message}", hint=error.hint) from None


def level(text: str | None, flag: str = "--log-level") -> int | None:
    """The number of the level of a flag, `None` if it was not given. Raises `UsageError`."""
    if text is None:
        return None
    number = level_number(text)
    if number is None:
        raise UsageError(f"{flag} is {text!r:.60}", hint=f"expected one of {', '.join(LEVELS)}")
    return number


def pairs(texts: Sequence[str] | None, flag: str) -> dict[str, str]:
    """The mapping of repeated `key=value` flags. Raises `UsageError` for one without "="."""
    found: dict[str, str] = {}
    for number, text in enumerate(texts or (), 1):
        key, equals, value = text.partition("=")
        if not equals or not key:
            # Not shown: it may be a value that lost its key.
            which = f"the value of {flag}" if number == 1 else f"value {number} of {flag}"
            raise UsageError(f"{which} isn't a key=value", hint=f"write {flag} key=value")
        if key in found:
            raise UsageError(f"{flag} gives {key!r} twice", hint="give each key once")
        found[key] = value
    return found


def only_one(given: Mapping[str, bool]) -> None:
    """Raise `UsageError` if more than one of these flags is given."""
    flags = [flag for flag, is_given in given.items() if is_given]
    if len(flags) > 1:
        raise UsageError(
            f"{' and '.join(flags)} exclude each other", hint=f"give only {flags[0]}, for example"
        )


# A payload that is written wide, with escapes and white space, takes so many times its size.
_WIDEST = 16


def read_text(source: str, flag: str, payload_limit: int) -> str:
    """The text of a file, or of stdin for "-".

    Raises `UsageError` if it cannot be read, or no payload within that limit can be that long: some
    files have no end.
    """
    most = _WIDEST * payload_limit
    try:
        if source == "-":
            data = sys.stdin.buffer.read(most + 1) if sys.stdin is not None else b""
        else:
            with Path(source).open("rb") as file:
                data = file.read(most + 1)
        if len(data) > most:
            raise UsageError(
                f"{flag} {source!r} has more than {most:,} bytes, where a payload may have "
                f"{payload_limit:,}",
                hint="store large data in a file and pass its name, or raise payload_limit",
            )
        return data.decode("utf-8")
    except OSError as error:
        raise UsageError(
            f"{flag} {source!r} cannot be read: {error.strerror}", hint="check the file's name"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{flag} {source!r} is not UTF-8 text: byte {error.start} does not fit",
            hint="save it as UTF-8",
        ) from None


def whole_number(text: str | None, flag: str) -> int | None:
    """A whole number of 1 or more, `None` if it was not given. Raises `UsageError`."""
    if text is None:
        return None
    if re.fullmatch(r"0*[1-9][0-9]{0,17}", text) is None:
        raise UsageError(f"{flag} is {text!r:.60}", hint="give a whole number of 1 or more")
    return int(text)
