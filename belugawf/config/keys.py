"""The one list of keys: what can be configured, how each value is read, and what sets it.

A reader turns one value as it was given into the value in force. It raises `ValueError`, which says
what was expected and what was found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from belugawf.model.durations import parse_duration
from belugawf.model.errors import ConfigurationError, DurationError
from belugawf.model.levels import LEVELS, level_number
from belugawf.model.values import frozen

Source: TypeAlias = Literal["flag", "environment", "file", "default"]
# A file, a variable or a flag; line and column count from 1.
Place: TypeAlias = tuple[str, int | None, int | None]

KIB = 1024
MIB = 1024 * KIB
# SQLite holds at most 1,000,000,000 bytes in one value; half of it leaves room for the row.
_LARGEST_PAYLOAD_BYTES = 512 * MIB
_SHOWN_CHARACTERS = 60
# Every key that is shown is compared with each.
_MOST_GLOBS = 100
# More lines than a screen has help nobody.
_SHOWN_PROBLEMS = 30


@frozen()
class ConfigProblem:
    """One thing that is wrong: `where` is a file, a variable or a flag; places count from 1."""

    where: str
    line: int | None
    column: int | None
    message: str

    def __str__(self) -> str:
        place = "" if self.line is None else f":{self.line}:{self.column}"
        return f"{self.where}{place}: {self.message}"


class ConfigFileError(ConfigurationError):
    """Everything that is wrong with the configuration, a line for each of the first `problems`."""

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        shown = [str(problem) for problem in self.problems[:_SHOWN_PROBLEMS]]
        if len(self.problems) > len(shown):
            shown.append(f"and {len(self.problems) - len(shown)} more")
        super().__init__(
            "\n".join(shown),
            hint="every key is explained in docs/configuration.md and .belugawf.yaml.example",
        )


# -- readers ---------------------------------------------------------------------------------------


@frozen()
class Given:
    """A value as it was given: `text` is how it was written, `base` what paths are relative to."""

    value: Any
    text: str
    base: Path
    source: Source
    place: Place


Reader: TypeAlias = Callable[[Given], Any]

_SIZE = r"(?a)(\d+) ?(B|KiB|MiB|GiB)?"
_SIZE_UNITS = {None: 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": 1024 * MIB}


def _read_text(given: Given) -> str:
    if not isinstance(given.value, str):
        advice = "" if isinstance(given.value, dict | list) else "; put it in quotes"
        raise ValueError(f"expected a text, found {_shown(given)}{advice}")
    if not given.value.strip():
        raise ValueError("expected a text, found an empty one")
    return given.value


def _read_path(given: Given) -> Path:
    path = given.value if isinstance(given.value, Path) else Path(_read_text(given))
    if "\0" in str(path):
        raise ValueError("expected a path, found one with a NUL character")
    try:
        return given.base / path.expanduser()
    except RuntimeError:
        raise ValueError(f"expected a path, found {_shown(given)} of a user unknown here") from None


def _read_pem(given: Given) -> Path | bytes:
    """The path of a file; a variable of Temporal's tools may hold its content instead."""
    is_content = given.source == "environment" and given.place[0].endswith("_DATA")
    return given.text.encode() if is_content else _read_path(given)


def _read_durability(given: Given) -> str:
    if given.value not in ("full", "normal"):
        raise ValueError(f"expected full or normal, found {_shown(given)}")
    return str(given.value)


def _read_level(given: Given) -> str:
    if not isinstance(given.value, str) or level_number(given.value) is None:
        raise ValueError(f"expected one of {', '.join(LEVELS)}, found {_shown(given)}")
    return given.value.lower()


def _read_boolean(given: Given) -> bool:
    value = given.value
    if isinstance(value, str) and given.source != "file":
        value = {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {_shown(given)}")
    return value


def _read_duration(given: Given) -> timedelta:
    value = given.value
    if isinstance(value, int | float) and not isinstance(value, bool):
        read_as = "" if given.text == str(value) else f", which YAML reads as the number {value}"
        raise ValueError(
            f"expected a duration with units such as 90s, 10m or 2h30m, found {given.text}{read_as}"
        )
    if not isinstance(value, str | timedelta):
        raise ValueError(f"expected a duration such as 10m, found {_shown(given)}")
    try:
        return parse_duration(value)
    except DurationError as error:
        raise ValueError(
            f"{error.message}; write it with units: 90s, 10m, 2h30m"
            if len(given.text) <= _SHOWN_CHARACTERS
            else f"expected a duration such as 10m, found {_shown(given)}"
        ) from None


def _read_time_limit(given: Given) -> timedelta:
    duration = _read_duration(given)
    if not duration:
        raise ValueError(f"expected a duration of more than nothing, found {_shown(given)}")
    return duration


_WRITTEN = {
    int: ("a whole number", r"0|[1-9][0-9]*"),
    float: ("a number", r"[0-9]+(\.[0-9]+)?"),
}


def _number(kind: type[float], least: int, most: int) -> Reader:
    """A reader of numbers, written as people write them: YAML reads 010 as 8, 1:30 as 90."""
    what, written = _WRITTEN[kind]

    def read(given: Given) -> float:
        is_number = type(given.value) in (int, float) and re.fullmatch(written, given.text)
        if not is_number or not least <= given.value <= most:
            raise ValueError(f"expected {what} from {least} to {most}, found {_shown(given)}")
        return kind(given.value)

    return read


def _read_size(given: Given) -> int:
    found = re.fullmatch(_SIZE, given.text)
    if found is None or isinstance(given.value, bool) or len(found[1]) > 12:
        raise ValueError(
            f"expected a size such as 2MiB, 500KiB or a number of bytes, found {_shown(given)}"
        )
    size = int(found[1]) * _SIZE_UNITS[found[2]]
    if not KIB <= size <= _LARGEST_PAYLOAD_BYTES:
        raise ValueError(f"expected a size from 1KiB to 512MiB, found {_shown(given)}")
    return size


def _list_of(names: str, is_name: Callable[[str], bool]) -> Reader:
    def read(given: Given) -> tuple[str, ...]:
        value = given.value
        if not isinstance(value, list | tuple) or not all(
            isinstance(name, str) and is_name(name) for name in value
        ):
            raise ValueError(f"expected a list of {names}, found {_shown(given)}")
        return tuple(value)

    return read


_read_globs = _list_of(
    'key names such as [password, "*token*"]',
    lambda name: bool(name.strip()) and len(name) <= _SHOWN_CHARACTERS,
)


def _read_redact(given: Given) -> Any:
    globs = _read_globs(given)
    if len(globs) > _MOST_GLOBS:
        raise ValueError(f"expected at most {_MOST_GLOBS} key names, found {len(globs)}")
    return globs


def _read_api_key(given: Given) -> str:
    """The key itself; from a file, the NAME of `env:NAME`. No message shows what was given."""
    value = given.value
    if given.source == "file":
        if not isinstance(value, str) or re.fullmatch(r"env:[A-Za-z_]\w*", value, re.ASCII) is None:
            raise ValueError(
                "a key does not belong in a file; write env:NAME and put it "
                "into the environment variable NAME"
            )
        return value.removeprefix("env:")
    if not isinstance(value, str):
        raise ValueError("expected a text, found another type")
    return _read_text(given)


def _shown(given: Given) -> str:
    """What was found, for a message: never long."""
    if isinstance(given.value, dict):
        return "a mapping"
    if isinstance(given.value, list | tuple):
        return "a list"
    if given.value is None:
        return "nothing"
    shown = repr(given.value) if isinstance(given.value, str) else given.text
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "..."


# -- the keys --------------------------------------------------------------------------------------


@frozen()
class Key:
    """One key: its dotted name, how its value is read, its default for people.

    `variables` are the environment variables that set it; the first one that is set counts. Those
    without `BELUGAWF_` are read by Temporal's own tools.
    """

    name: str
    read: Reader
    default: str
    variables: tuple[str, ...] = ()


KEYS = (
    Key("provider", _read_text, "default", ("BELUGAWF_PROVIDER",)),
    Key("workflows", _read_path, "workflows", ("BELUGAWF_WORKFLOWS",)),
    Key("db", _read_path, ".belugawf/state.db", ("BELUGAWF_DB",)),
    Key("default_workflow", _read_text, "none"),
    Key("durability", _read_durability, "full"),
    Key("defaults.activity_timeout", _read_time_limit, "none"),
    Key("defaults.retry.max_attempts", _number(int, 0, 1_000_000), "3"),
    Key("defaults.retry.initial_delay", _read_duration, "1s"),
    Key("defaults.retry.backoff_coefficient", _number(float, 1, 1000), "2.0"),
    Key("defaults.retry.max_delay", _read_duration, "100 x initial_delay"),
    Key("defaults.retry.jitter", _number(float, 0, 1), "0.0"),
    Key(
        "defaults.retry.non_retryable",
        _list_of("names such as [ValueError, KeyError]", bool),
        "[]",
    ),
    Key("resume.max_time", _read_time_limit, "none"),
    Key("max_crashes", _number(int, 0, 1_000_000), "3"),
    Key("payload_limit", _read_size, "2MiB"),
    Key("worker.concurrency", _number(int, 1, 100_000), "100"),
    Key("worker.threads", _number(int, 1, 10_000), "64"),
    Key("logging.level", _read_level, "info", ("BELUGAWF_LOG_LEVEL",)),
    Key("logging.keep", _number(int, 0, 1_000_000), "1000"),
    Key("logging.keep_for", _read_time_limit, "30d"),
    Key("redact", _read_redact, "[]"),
    Key(
        "temporal.host",
        _read_text,
        "localhost:7233",
        ("BELUGAWF_TEMPORAL_HOST", "TEMPORAL_ADDRESS"),
    ),
    Key(
        "temporal.namespace",
        _read_text,
        "default",
        ("BELUGAWF_TEMPORAL_NAMESPACE", "TEMPORAL_NAMESPACE"),
    ),
    Key("temporal.task_queue", _read_text, "beluga-tasks", ("BELUGAWF_TEMPORAL_TASK_QUEUE",)),
    Key("temporal.tls", _read_boolean, "false", ("TEMPORAL_TLS",)),
    Key(
        "temporal.tls.ca",
        _read_pem,
        "none",
        ("TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_TLS_SERVER_CA_CERT_DATA"),
    ),
    Key(
        "temporal.tls.cert",
        _read_pem,
        "none",
        ("TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_CERT_DATA"),
    ),
    Key(
        "temporal.tls.key",
        _read_pem,
        "none",
        ("TEMPORAL_TLS_CLIENT_KEY_PATH", "TEMPORAL_TLS_CLIENT_KEY_DATA"),
    ),
    Key("temporal.tls.server_name", _read_text, "none", ("TEMPORAL_TLS_SERVER_NAME",)),
    Key(
        "temporal.api_key",
        _read_api_key,
        "none",
        ("BELUGAWF_TEMPORAL_API_KEY", "TEMPORAL_API_KEY"),
    ),
)
BY_NAME = {key.name: key for key in KEYS}


def default_of(name: str) -> Any:
    """A key's default as the value that is in force."""
    key = BY_NAME[name]
    try:
        value = json.loads(key.default)
    except ValueError:
        value = key.default
    return key.read(Given(value, key.default, Path(), "default", (name, None, None)))


def keys_in(section: str) -> list[str]:
    """The names that may stand in a section of the file (`""`: in the file itself)."""
    prefix = f"{section}." if section else ""
    names = (name.removeprefix(prefix) for name in BY_NAME if name.startswith(prefix))
    return list(dict.fromkeys(name.split(".")[0] for name in names))


def unknown_key(name: str, known: Iterable[str]) -> str:
    """What to say of a key that does not exist, with the nearest one that does."""
    from difflib import get_close_matches

    shown = quoted_key(name)
    nearest = get_close_matches(name, list(known), n=1)
    advice = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(known)}"
    return f"unknown key {shown}; {advice}"


def quoted_key(name: str) -> str:
    """A key's name, cut if it is long."""
    return repr(name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "...")
