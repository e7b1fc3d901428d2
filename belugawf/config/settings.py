"""The settings in force, from flags, environment, file and defaults; the first that is set wins.

Everything that is wrong with them is reported at once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from belugawf.config.keys import (
    BY_NAME,
    KEYS,
    ConfigFileError,
    ConfigProblem,
    Given,
    Key,
    Source,
    default_of,
    unknown_key,
)
from belugawf.config.trust import TRUST_VARIABLE, Trust
from belugawf.model.errors import ConfigurationError
from belugawf.model.policy import ActivityDefaults, RetryPolicy
from belugawf.model.values import frozen

_FILE_NAME = ".belugawf.yaml"
_CONFIG_VARIABLE = "BELUGAWF_CONFIG"
_PREFIX = "BELUGAWF_"
_VARIABLES = (
    *(_CONFIG_VARIABLE, TRUST_VARIABLE),
    *(name for key in KEYS for name in key.variables if name.startswith(_PREFIX)),
)
# See `host/test_hooks.py`.
_FOR_TESTS = ("BELUGAWF_TEST_", "BELUGAWF_CACHE_RUNS")


@frozen(kw_only=True)
class TlsFiles:
    """PEM for TLS, as files or as their content: the authority to trust, and the client's own
    certificate and key. `server_name` is the name that the server's certificate must have, if
    that is not the host's."""

    ca: Path | bytes | None = None
    cert: Path | bytes | None = None
    key: Path | bytes | None = field(default=None, repr=False)
    server_name: str | None = None


@frozen(kw_only=True)
class TemporalSettings:
    """Where the Temporal server is. `api_key` is the key itself, and not shown in a repr."""

    host: str = default_of("temporal.host")
    namespace: str = default_of("temporal.namespace")
    task_queue: str = default_of("temporal.task_queue")
    tls: bool | TlsFiles = default_of("temporal.tls")
    api_key: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class LoggingSettings:
    """What runs log: from which level on it is shown and kept, how many lines of each run, and for
    how long."""

    level: str = default_of("logging.level")
    keep: int = default_of("logging.keep")
    keep_for: timedelta = default_of("logging.keep_for")


@frozen(kw_only=True)
class Settings:
    """What is in force. Paths are absolute, `payload_limit` is in bytes.

    `resume_max_time` is `None` for no limit, `max_crashes` 0 for no limit. `redact` are globs for
    names of keys whose values the command line masks. `source` is the file that was read, `None` if
    there is none; `sources` has the source of each value.
    """

    provider: str = default_of("provider")
    workflows: Path
    db: Path
    default_workflow: str | None = None
    durability: Literal["full", "normal"] = default_of("durability")
    activity_defaults: ActivityDefaults = field(default_factory=ActivityDefaults)
    resume_max_time: timedelta | None = None
    max_crashes: int = default_of("max_crashes")
    payload_limit: int = default_of("payload_limit")
    worker_concurrency: int = default_of("worker.concurrency")
    threads: int = default_of("worker.threads")
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    redact: tuple[str, ...] = default_of("redact")
    temporal: TemporalSettings = field(default_factory=TemporalSettings)
    source: Path | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)


# Keys in sections whose value is a field of Settings as it is.
_FIELDS = {
    "resume.max_time": "resume_max_time",
    "worker.concurrency": "worker_concurrency",
    "worker.threads": "threads",
}


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
    start = _start_directory(directory)
    named = config or environ.get(_CONFIG_VARIABLE)
    trust = Trust(environ)
    file = _named_file(named, start) if named else _found_file(start, trust)
    layers = _Layers()
    layers.add_flags(overrides, start)
    layers.add_environment(environ, start)
    if file is not None:
        layers.add_file(file)
    settings = layers.settings(file, start if file is None else file.parent, environ)
    if not named:
        _require_trusted(settings, trust)
    return settings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence on each variable that begins as ours do, and that nothing reads."""
    unknown = [
        name
        for name in sorted(environ)
        if name.startswith(_PREFIX) and not name.startswith(_FOR_TESTS) and name not in _VARIABLES
    ]
    if not unknown:
        return []
    from difflib import get_close_matches

    sentences = []
    for name in unknown:
        words = {known.removeprefix(_PREFIX): known for known in _VARIABLES}
        near = get_close_matches(name.removeprefix(_PREFIX), words, n=1)
        advice = f"did you mean {words[near[0]]}?" if near else f"there are {', '.join(_VARIABLES)}"
        sentences.append(f"nothing reads the environment variable {name}; {advice}")
    return sentences


def temporal_settings(environ: Mapping[str, str] | None = None) -> TemporalSettings:
    """Where the environment alone says that the Temporal server is.

    Raises `ConfigurationError`.
    """
    environ = os.environ if environ is None else environ
    layers = _Layers()
    layers.add_environment(environ, Path.cwd(), section="temporal.")
    return layers.settings(None, Path.cwd(), environ).temporal


# -- finding the file ------------------------------------------------------------------------------


def _start_directory(directory: Path | None) -> Path:
    try:
        start = Path.cwd() if directory is None else Path(directory).absolute()
    except OSError as error:
        raise ConfigurationError(
            f"the working directory cannot be used: {error.strerror}",
            hint="it was removed, or is out of reach: go to another one",
        ) from None
    if not start.is_dir():
        raise ConfigurationError(
            f"there is no directory {str(directory)!r}", hint="create it, or name another one"
        )
    return start


def _named_file(named: str | Path, start: Path) -> Path:
    try:
        file = start / Path(named).expanduser()
        if stat.S_ISDIR(file.stat().st_mode):
            raise ConfigurationError(
                f"the configuration {str(file)!r} is a folder",
                hint=f"name the file in it: {file / _FILE_NAME}",
            )
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no configuration file {str(file)!r}",
            hint="create it, for example with `belugawf init`, or name another one",
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"the configuration file {str(named)!r} is out of reach: {reason}",
            hint="name another one with --config",
        ) from None
    return file


def _found_file(start: Path, trust: Trust) -> Path | None:
    """The nearest one from `start` upward. Raises `UntrustedError` if others could have put it
    there."""
    candidates = (folder / _FILE_NAME for folder in (start, *start.parents))
    found = next((file for file in candidates if _is_file(file)), None)
    if found is not None:
        trust.require_configuration(found)
    return found


def _is_file(path: Path) -> bool:
    """As `Path.is_file`; a folder that may not be looked into holds none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _require_trusted(settings: Settings, trust: Trust) -> None:
    """Refuse modules and a database that no flag and no variable names."""
    named = ("flag", "environment")
    if settings.sources["workflows"] not in named:
        trust.require_modules(settings.workflows)
    if settings.provider == "default" and settings.sources["db"] not in named:
        trust.require_database(settings.db)


# -- layers ----------------------------------------------------------------------------------------


class _Layers:
    """The values of each layer, added in order; the first one wins. Problems are kept until the
    settings are made of them."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._given: dict[str, Given] = {}
        self._problems: list[ConfigProblem] = []

    def add_flags(self, flags: Mapping[str, Any], base: Path) -> None:
        for name, value in flags.items():
            place = (name, None, None)
            if name not in BY_NAME:
                self._problems.append(ConfigProblem(*place, unknown_key(name, BY_NAME)))
            elif value is not None:
                self._add(BY_NAME[name], Given(value, str(value), base, "flag", place))

    def add_environment(self, environ: Mapping[str, str], base: Path, section: str = "") -> None:
        for key in KEYS:
            for variable in key.variables if key.name.startswith(section) else ():
                text = environ.get(variable)
                if text:
                    place = (variable, None, None)
                    self._add(key, Given(text, text, base, "environment", place))

    def add_file(self, file: Path) -> None:
        from belugawf.config.file import read_file

        for found in read_file(file):
            if isinstance(found, ConfigProblem):
                self._problems.append(found)
            else:
                self._add(*found)

    def _add(self, key: Key, given: Given) -> None:
        try:
            value = key.read(given)
        except ValueError as error:
            self._problems.append(ConfigProblem(*given.place, f"{key.name}: {error}"))
            return
        if key.name not in self._values:
            self._values[key.name] = value
            self._given[key.name] = given

    def settings(self, file: Path | None, base: Path, environ: Mapping[str, str]) -> Settings:
        """The settings, with the checks that need more than one value.

        Raises `ConfigFileError` with all problems.
        """
        values = self._values
        retry = self._section("defaults.retry")
        sources: dict[str, Source] = dict.fromkeys(BY_NAME, "default")
        sources.update({name: given.source for name, given in self._given.items()})
        settings = Settings(
            **{name: base / BY_NAME[name].default for name in ("workflows", "db")}
            | self._section("")
            | {setting: values[name] for name, setting in _FIELDS.items() if name in values},
            activity_defaults=ActivityDefaults(
                retry=RetryPolicy(**retry) if retry else None,
                timeout=values.get("defaults.activity_timeout"),
            ),
            temporal=TemporalSettings(
                **self._section("temporal")
                | {"tls": self._tls(), "api_key": self._api_key(environ)}
            ),
            logging=LoggingSettings(**self._section("logging")),
            source=file,
            sources=MappingProxyType(sources),
        )
        if self._problems:
            raise ConfigFileError(
                sorted(self._problems, key=lambda p: (p.where, p.line or 0, p.column or 0))
            )
        return settings

    def _section(self, section: str) -> dict[str, Any]:
        """The values of one section, by the last words of their keys."""
        names = [name for name in self._values if name.rpartition(".")[0] == section]
        return {name.rpartition(".")[2]: self._values[name] for name in names}

    def _tls(self) -> bool | TlsFiles:
        enabled: bool = self._values.get("temporal.tls", False)
        files = self._section("temporal.tls")
        if not files or ("temporal.tls" in self._values and not enabled):
            return enabled
        if ("cert" in files) != ("key" in files):
            alone = "cert" if "cert" in files else "key"
            self._problem(
                f"temporal.tls.{alone}", "cert and key belong together: give both or none"
            )
        return TlsFiles(**files)

    def _api_key(self, environ: Mapping[str, str]) -> str | None:
        """The key; what the file says is the name of a variable that holds it."""
        name = "temporal.api_key"
        value: str | None = self._values.get(name)
        if value is None or self._given[name].source != "file":
            return value
        secret = environ.get(value)
        if not secret and self._values.get("provider") == "temporal":
            self._problem(name, f"the environment variable {value} is not set")
        return secret or None

    def _problem(self, name: str, message: str) -> None:
        self._problems.append(ConfigProblem(*self._given[name].place, f"{name}: {message}"))
