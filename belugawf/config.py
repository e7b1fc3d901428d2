"""The configuration: flags, environment, `.belugawf.yaml`, defaults; the first that says it wins.

`KEYS` is the one list of what can be said. A file is read as a tree of nodes with their places,
never as Python objects, and everything that is wrong with it is reported at once.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from belugawf.finding import CONFIG_VARIABLE, find_file, start_directory
from belugawf.model.durations import parse_duration
from belugawf.model.errors import ConfigurationError, DurationError
from belugawf.model.policy import ActivityDefaults, RetryPolicy
from belugawf.model.values import frozen
from belugawf.trust import Trust

if TYPE_CHECKING:
    import yaml

Source: TypeAlias = Literal["flag", "environment", "file", "default"]

_KIB = 1024
_MIB = 1024 * _KIB
# A file of settings is a few lines; this much is something else under this name, and would take
# YAML's reader, at 100 KB a second, longer than anybody should wait for `status`.
_LARGEST_FILE_BYTES = 64 * _KIB
# SQLite holds at most 1,000,000,000 bytes in one value; half of it leaves room for the row.
_LARGEST_PAYLOAD_BYTES = 512 * _MIB
_SHOWN_CHARACTERS = 60
# Every key that is shown is compared with each.
_MOST_PATTERNS = 100
# More lines than a screen has help nobody.
_SHOWN_PROBLEMS = 30


@frozen(kw_only=True)
class TlsFiles:
    """PEM for TLS, as files or as their content: the authority to trust, and the client's own
    certificate and key. `server_name` is the name that the server's certificate must have, where
    that is not the host's."""

    ca: Path | bytes | None = None
    cert: Path | bytes | None = None
    key: Path | bytes | None = field(default=None, repr=False)
    server_name: str | None = None


@frozen(kw_only=True)
class TemporalSettings:
    """Where the Temporal server is. `api_key` is the key itself, and not shown in a repr."""

    host: str = "localhost:7233"
    namespace: str = "default"
    task_queue: str = "beluga-tasks"
    tls: bool | TlsFiles = False
    api_key: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class Settings:
    """What is in force. Paths are absolute, `payload_limit` is in bytes.

    `resume_max_time` is `None` for no limit, `max_crashes` 0 for no limit. `redact` are globs for
    names of keys whose values the command line masks. `source` is the file that was read, `None` if
    there is none; `sources` says for each key where its value is from.
    """

    provider: str = "default"
    workflows: Path
    db: Path
    default_workflow: str | None = None
    durability: Literal["full", "normal"] = "full"
    activity_defaults: ActivityDefaults = field(default_factory=ActivityDefaults)
    resume_max_time: timedelta | None = None
    max_crashes: int = 3
    payload_limit: int = 2 * _MIB
    worker_concurrency: int = 100
    threads: int = 64
    redact: tuple[str, ...] = ()
    temporal: TemporalSettings = field(default_factory=TemporalSettings)
    source: Path | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)


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


# -- readers: one value each; a ValueError says what was expected ---------------------------------


@frozen()
class Given:
    """A value as it was given: `text` is how it was written, `base` what paths are relative to."""

    value: Any
    text: str
    base: Path
    secret: bool = False


Reader: TypeAlias = Callable[[Given], Any]

_WHOLE_NUMBER = re.compile(r"0|[1-9]\d*", re.ASCII)
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_SIZE = re.compile(r"(\d+) ?(B|KiB|MiB|GiB)?", re.ASCII)
_SIZE_UNITS = {None: 1, "B": 1, "KiB": _KIB, "MiB": _MIB, "GiB": 1024 * _MIB}


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


def _read_durability(given: Given) -> str:
    if given.value not in ("full", "normal"):
        raise ValueError(f"expected full or normal, found {_shown(given)}")
    return str(given.value)


def _read_boolean(given: Given) -> bool:
    if not isinstance(given.value, bool):
        raise ValueError(f"expected true or false, found {_shown(given)}")
    return given.value


def _read_switch(given: Given) -> bool:
    """A boolean, also as the text of an environment variable."""
    if isinstance(given.value, str) and given.value.lower() in ("true", "1", "false", "0"):
        return given.value.lower() in ("true", "1")
    return _read_boolean(given)


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


def _whole_number(least: int, most: int) -> Reader:
    def read(given: Given) -> int:
        if not _is_number(given, _WHOLE_NUMBER) or not least <= given.value <= most:
            raise ValueError(
                f"expected a whole number from {least} to {most}, found {_shown(given)}"
            )
        return int(given.value)

    return read


def _number(least: float, most: float) -> Reader:
    def read(given: Given) -> float:
        if not _is_number(given, _NUMBER) or not least <= given.value <= most:
            raise ValueError(f"expected a number from {least:g} to {most:g}, found {_shown(given)}")
        return float(given.value)

    return read


def _is_number(given: Given, pattern: re.Pattern[str]) -> bool:
    """Whether it is a number and written as people write one: YAML reads 010 as 8, 1:30 as 90."""
    if isinstance(given.value, bool) or not isinstance(given.value, int | float):
        return False
    return math.isfinite(given.value) and pattern.fullmatch(given.text) is not None


def _read_size(given: Given) -> int:
    found = _SIZE.fullmatch(given.text)
    if found is None or isinstance(given.value, bool) or len(found[1]) > 12:
        raise ValueError(
            f"expected a size such as 2MiB, 500KiB or a number of bytes, found {_shown(given)}"
        )
    size = int(found[1]) * _SIZE_UNITS[found[2]]
    if not _KIB <= size <= _LARGEST_PAYLOAD_BYTES:
        raise ValueError(f"expected a size from 1KiB to 512MiB, found {_shown(given)}")
    return size


def _read_names(given: Given) -> tuple[str, ...]:
    value = given.value
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v for v in value):
        raise ValueError(
            f"expected a list of names such as [ValueError, KeyError], found {_shown(given)}"
        )
    return tuple(value)


def _read_patterns(given: Given) -> tuple[str, ...]:
    value = given.value
    if not isinstance(value, list | tuple) or not all(
        isinstance(v, str) and v.strip() and len(v) <= _SHOWN_CHARACTERS for v in value
    ):
        raise ValueError(
            f'expected a list of key names such as [password, "*token*"], found {_shown(given)}'
        )
    if len(value) > _MOST_PATTERNS:
        raise ValueError(f"expected at most {_MOST_PATTERNS} key names, found {len(value)}")
    return tuple(value)


def _read_secret(given: Given) -> str:
    return _read_text(Given(given.value, "", given.base, secret=True))


def _read_secret_reference(given: Given) -> str:
    """The `env:NAME` of a file. The key itself is refused there, and not shown."""
    value = given.value
    if not isinstance(value, str) or re.fullmatch(r"env:[A-Za-z_]\w*", value, re.ASCII) is None:
        raise ValueError(
            "a key does not belong in a file; write env:NAME and put it "
            "into the environment variable NAME"
        )
    return value.removeprefix("env:")


def _shown(given: Given) -> str:
    """What was found, for a message: never a secret, never long."""
    if given.secret:
        return "another type"
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

    `variable` is the environment variable that says it, `temporal_variable` the one by which
    Temporal's own tools are told and which counts less, `read_file` how it is read from a file
    where that differs.
    """

    name: str
    read: Reader
    default: str
    variable: str | None = None
    temporal_variable: str | None = None
    read_file: Reader | None = None

    @property
    def variables(self) -> Iterator[str]:
        """The environment variables that say it; the first one that is set counts."""
        return (name for name in (self.variable, self.temporal_variable) if name)


KEYS = (
    Key("provider", _read_text, "default", "BELUGAWF_PROVIDER"),
    Key("workflows", _read_path, "workflows", "BELUGAWF_WORKFLOWS"),
    Key("db", _read_path, ".belugawf/state.db", "BELUGAWF_DB"),
    Key("default_workflow", _read_text, "none"),
    Key("durability", _read_durability, "full"),
    Key("defaults.activity_timeout", _read_time_limit, "none"),
    Key("defaults.retry.max_attempts", _whole_number(0, 1_000_000), "3"),
    Key("defaults.retry.initial_delay", _read_duration, "1s"),
    Key("defaults.retry.backoff_coefficient", _number(1, 1000), "2.0"),
    Key("defaults.retry.max_delay", _read_duration, "100 x initial_delay"),
    Key("defaults.retry.jitter", _number(0, 1), "0.0"),
    Key("defaults.retry.non_retryable", _read_names, "[]"),
    Key("resume.max_time", _read_time_limit, "none"),
    Key("max_crashes", _whole_number(0, 1_000_000), "3"),
    Key("payload_limit", _read_size, "2MiB"),
    Key("worker.concurrency", _whole_number(1, 100_000), "100"),
    Key("worker.threads", _whole_number(1, 10_000), "64"),
    Key("redact", _read_patterns, "[]"),
    Key(
        "temporal.host",
        _read_text,
        "localhost:7233",
        "BELUGAWF_TEMPORAL_HOST",
        "TEMPORAL_ADDRESS",
    ),
    Key(
        "temporal.namespace",
        _read_text,
        "default",
        "BELUGAWF_TEMPORAL_NAMESPACE",
        "TEMPORAL_NAMESPACE",
    ),
    Key("temporal.task_queue", _read_text, "beluga-tasks", "BELUGAWF_TEMPORAL_TASK_QUEUE"),
    Key(
        "temporal.tls",
        _read_switch,
        "false",
        temporal_variable="TEMPORAL_TLS",
        read_file=_read_boolean,
    ),
    Key(
        "temporal.tls.ca",
        _read_path,
        "none",
        temporal_variable="TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    ),
    Key(
        "temporal.tls.cert",
        _read_path,
        "none",
        temporal_variable="TEMPORAL_TLS_CLIENT_CERT_PATH",
    ),
    Key(
        "temporal.tls.key",
        _read_path,
        "none",
        temporal_variable="TEMPORAL_TLS_CLIENT_KEY_PATH",
    ),
    Key(
        "temporal.tls.server_name",
        _read_text,
        "none",
        temporal_variable="TEMPORAL_TLS_SERVER_NAME",
    ),
    Key(
        "temporal.api_key",
        _read_secret,
        "none",
        "BELUGAWF_TEMPORAL_API_KEY",
        "TEMPORAL_API_KEY",
        read_file=_read_secret_reference,
    ),
)
# PEM itself in the environment, as Temporal's own tools take it: where no file is named.
_TLS_DATA = {
    "ca": "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
    "cert": "TEMPORAL_TLS_CLIENT_CERT_DATA",
    "key": "TEMPORAL_TLS_CLIENT_KEY_DATA",
}

_BY_NAME = {key.name: key for key in KEYS}
# Beside the keys themselves: "defaults", "defaults.retry", "temporal.tls" ...
_SECTIONS = {
    name.rsplit(".", depth)[0] for name in _BY_NAME for depth in range(1, name.count(".") + 1)
}


# -- loading ---------------------------------------------------------------------------------------


def load_settings(
    *,
    config: Path | None = None,
    directory: Path | None = None,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings in force.

    `config` names the file; without it, `BELUGAWF_CONFIG` does, or it is looked for from
    `directory` (default: the working directory) upward. `overrides` are the flags, by the dotted
    names of `KEYS`; `environ` is the environment (default: the process's). Relative paths in a
    file are relative to it, all others to `directory`.

    Raises `ConfigurationError`; its text has one line for each thing that is wrong. Raises
    `UntrustedError` for what was found and others could have put there.
    """
    environ = os.environ if environ is None else environ
    start = start_directory(directory)
    file = find_file(config, start, environ)
    said = _Said()
    for name, value in overrides.items():
        said.take_flag(name, value, start)
    for key in KEYS:
        for variable in key.variables:
            if environ.get(variable):
                said.take_variable(key, variable, environ[variable], start)
    if file is not None:
        _FileReader(file, said).read()
    settings = _Assembly(said, file, start if file is None else file.parent, environ).settings()
    if said.problems:
        raise ConfigFileError(_in_order(said.problems))
    if not (config or environ.get(CONFIG_VARIABLE)):
        _require_trusted(settings, Trust(environ))
    return settings


def _require_trusted(settings: Settings, trust: Trust) -> None:
    """Refuse modules and a database that no flag and no variable names."""
    named = ("flag", "environment")
    if settings.sources["workflows"] not in named:
        trust.require_modules(settings.workflows)
    if settings.provider == "default" and settings.sources["db"] not in named:
        trust.require_database(settings.db)


def temporal_settings(environ: Mapping[str, str] | None = None) -> TemporalSettings:
    """Where the environment alone says that the Temporal server is.

    Raises `ConfigurationError`.
    """
    environ = os.environ if environ is None else environ
    said = _Said()
    base = Path.cwd()
    for key in KEYS:
        if key.name.startswith("temporal."):
            for variable in key.variables:
                if environ.get(variable):
                    said.take_variable(key, variable, environ[variable], base)
    settings = _Assembly(said, None, base, environ).settings()
    if said.problems:
        raise ConfigFileError(_in_order(said.problems))
    return settings.temporal


def _in_order(problems: list[ConfigProblem]) -> list[ConfigProblem]:
    return sorted(problems, key=lambda p: (p.where, p.line or 0, p.column or 0))


class _Said:
    """What was said so far; what is said first wins. Problems are kept, not raised."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, Source] = {}
        self.places: dict[str, tuple[str, int | None, int | None]] = {}
        self.problems: list[ConfigProblem] = []

    def take_flag(self, name: str, value: Any, base: Path) -> None:
        key = _BY_NAME.get(name)
        if key is None:
            self.problems.append(ConfigProblem(name, None, None, _unknown(name, _BY_NAME)))
        elif value is not None:
            given = Given(value, str(value), base)
            self._take(key, key.read, given, "flag", (name, None, None))

    def take_variable(self, key: Key, variable: str, text: str, base: Path) -> None:
        given = Given(text, text, base)
        self._take(key, key.read, given, "environment", (variable, None, None))

    def take_file(self, key: Key, given: Given, place: tuple[str, int, int]) -> None:
        self._take(key, key.read_file or key.read, given, "file", place)

    def _take(
        self,
        key: Key,
        read: Reader,
        given: Given,
        source: Source,
        place: tuple[str, int | None, int | None],
    ) -> None:
        try:
            value = read(given)
        except ValueError as error:
            self.problems.append(ConfigProblem(*place, f"{key.name}: {error}"))
            return
        if key.name not in self.values:
            self.values[key.name] = value
            self.sources[key.name] = source
            self.places[key.name] = place


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "...")


def _unknown(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    shown = _quoted(name)
    nearest = get_close_matches(name, list(known), n=1)
    advice = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(known)}"
    return f"unknown key {shown}; {advice}"


class _FileReader:
    """Walks the nodes of one file. Only known keys are followed, so aliases cannot blow it up."""

    def __init__(self, file: Path, said: _Said) -> None:
        self.file = file
        self.said = said

    def read(self) -> None:
        text = self._text()
        root = None if text is None else self._compose(text)
        if root is not None and not _is_null(root):
            self._section(root, "")

    def _text(self) -> str | None:
        try:
            with self.file.open("rb") as stream:
                content = stream.read(_LARGEST_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                f"cannot read {str(self.file)!r}: {error.strerror}",
                hint="make it readable, or name another one with --config",
            ) from error
        if len(content) > _LARGEST_FILE_BYTES:
            self._problem(1, 1, "the file is over 64 KiB, too large for a configuration")
            return None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line_start = content.rfind(b"\n", 0, error.start) + 1
            self._problem(
                content.count(b"\n", 0, error.start) + 1,
                error.start - line_start + 1,
                "the file is not UTF-8 text",
            )
            return None

    def _compose(self, text: str) -> yaml.Node | None:
        import yaml

        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            self._problem(*place, f"this is no YAML: {error.problem or error.context}")
        except yaml.reader.ReaderError as error:
            line_start = text.rfind("\n", 0, error.position) + 1
            self._problem(
                text.count("\n", 0, error.position) + 1,
                error.position - line_start + 1,
                "this is no YAML: it has no such control characters",
            )
        except RecursionError:
            self._problem(1, 1, "the file is nested too deep for a configuration")
        return None

    def _section(self, node: yaml.Node, section: str) -> None:
        import yaml

        if not isinstance(node, yaml.MappingNode):
            what = section or "the file"
            self._problem(*_place(node), f"{what}: expected keys with values, found {_kind(node)}")
            return
        known = _children(section)
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line, column = _place(key_node)
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if name is None:
                self._problem(line, column, f"expected a key, found {_kind(key_node)}")
            elif name in seen:
                first = f"it stands in line {seen[name]} already"
                self._problem(line, column, f"duplicate key {_quoted(name)}; {first}")
            elif name not in known:
                self._problem(line, column, _unknown(name, known))
            else:
                seen[name] = line
                self._value(value_node, f"{section}.{name}" if section else name)

    def _value(self, node: yaml.Node, name: str) -> None:
        import yaml

        if _is_null(node):
            return  # as if the key were not there: what is left when its value is commented out
        key = _BY_NAME.get(name)
        if name in _SECTIONS and (key is None or isinstance(node, yaml.MappingNode)):
            self._section(node, name)
            return
        assert key is not None
        line, column = _place(node)
        try:
            value = _construct(node)
        except ValueError as error:
            self._problem(line, column, f"{name}: {error}")
            return
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        self.said.take_file(
            key, Given(value, text, self.file.parent), (str(self.file), line, column)
        )

    def _problem(self, line: int, column: int, message: str) -> None:
        self.said.problems.append(ConfigProblem(str(self.file), line, column, message))


_YAML = "tag:yaml.org,2002:"
_SCALARS = frozenset({_YAML + name for name in ("str", "int", "float", "bool", "null")})


def _children(section: str) -> list[str]:
    prefix = f"{section}." if section else ""
    names = (name.removeprefix(prefix) for name in _BY_NAME if name.startswith(prefix))
    return list(dict.fromkeys(name.split(".")[0] for name in names))


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == _YAML + "null")


def _kind(node: yaml.Node) -> str:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return "a single value"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _construct(node: yaml.Node) -> Any:
    """The value of a leaf: a scalar, or a list of scalars. Raises `ValueError`."""
    import yaml

    if isinstance(node, yaml.MappingNode) and node.tag == _YAML + "map":
        return {}  # no leaf is a mapping: it is only told what it found
    if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
        if any(not isinstance(item, yaml.ScalarNode) for item in node.value):
            raise ValueError("expected a list of plain values, found a list of others")
        return [_construct(item) for item in node.value]
    if node.tag == _YAML + "timestamp":
        return node.value  # dates mean nothing here, and a name may look like one
    if node.tag not in _SCALARS:
        raise ValueError(f"the tag {node.tag.replace(_YAML, '!!')!r} has no meaning here")
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, LookupError):
        raise ValueError(
            f"the value does not fit its tag {node.tag.replace(_YAML, '!!')}"
        ) from None


class _Assembly:
    """Settings from what was said, with the checks that need more than one value."""

    def __init__(
        self, said: _Said, file: Path | None, base: Path, environ: Mapping[str, str]
    ) -> None:
        self.said = said
        self.file = file
        self.base = base
        self.environ = environ

    def settings(self) -> Settings:
        said = self.said.values
        provider = said.get("provider", "default")
        return Settings(
            provider=provider,
            workflows=said.get("workflows", self.base / "workflows"),
            db=said.get("db", self.base / ".belugawf" / "state.db"),
            activity_defaults=ActivityDefaults(
                retry=self._retry(), timeout=said.get("defaults.activity_timeout")
            ),
            temporal=TemporalSettings(
                **_part(said, "temporal", "host", "namespace", "task_queue"),
                tls=self._tls(),
                api_key=self._api_key(needed=provider == "temporal"),
            ),
            source=self.file,
            sources=MappingProxyType(
                {key.name: self.said.sources.get(key.name, "default") for key in KEYS}
            ),
            **{
                field_name: said[key_name]
                for key_name, field_name in _FIELDS.items()
                if key_name in said
            },
        )

    def _retry(self) -> RetryPolicy | None:
        said = _part(self.said.values, "defaults.retry", *_children("defaults.retry"))
        return RetryPolicy(**said) if said else None

    def _tls(self) -> bool | TlsFiles:
        files = _part(self.said.values, "temporal.tls", "ca", "cert", "key", "server_name")
        for name, variable in _TLS_DATA.items():
            if name not in files and self.environ.get(variable):
                files[name] = self.environ[variable].encode()
                self.said.places.setdefault(f"temporal.tls.{name}", (variable, None, None))
        if not files or self.said.values.get("temporal.tls") is False:
            return bool(self.said.values.get("temporal.tls", False))
        if ("cert" in files) != ("key" in files):
            alone = "cert" if "cert" in files else "key"
            self._problem(
                f"temporal.tls.{alone}", "cert and key belong together: give both or none"
            )
        return TlsFiles(**files)

    def _api_key(self, *, needed: bool) -> str | None:
        value: str | None = self.said.values.get("temporal.api_key")
        if value is None or self.said.sources["temporal.api_key"] != "file":
            return value
        secret = self.environ.get(value)
        if needed and not secret:
            self._problem("temporal.api_key", f"the environment variable {value} is not set")
        return secret or None

    def _problem(self, name: str, message: str) -> None:
        self.said.problems.append(ConfigProblem(*self.said.places[name], f"{name}: {message}"))


# Keys whose value is a field of Settings as it is.
_FIELDS = {
    "default_workflow": "default_workflow",
    "durability": "durability",
    "resume.max_time": "resume_max_time",
    "max_crashes": "max_crashes",
    "payload_limit": "payload_limit",
    "worker.concurrency": "worker_concurrency",
    "worker.threads": "threads",
    "redact": "redact",
}


def _part(said: Mapping[str, Any], section: str, *names: str) -> dict[str, Any]:
    """What was said in one section, by the last words of its keys."""
    pairs: Iterator[tuple[str, str]] = ((name, f"{section}.{name}") for name in names)
    return {name: said[dotted] for name, dotted in pairs if dotted in said}
