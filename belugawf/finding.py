"""Where the configuration is: named, or found from the working directory upward."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from belugawf.model.errors import ConfigurationError
from belugawf.trust import Trust

FILE_NAME = ".belugawf.yaml"
CONFIG_VARIABLE = "BELUGAWF_CONFIG"


def start_directory(directory: Path | None) -> Path:
    """The directory to look from; `None` is the working directory. Raises `ConfigurationError`."""
    start = Path.cwd() if directory is None else Path(directory).absolute()
    if not start.is_dir():
        raise ConfigurationError(
            f"there is no directory {str(directory)!r}", hint="create it, or name another one"
        )
    return start


def find_file(config: Path | None, start: Path, environ: Mapping[str, str]) -> Path | None:
    """The file that is named, by `config` or the environment, or the nearest one from `start`
    upward; `None` if there is none.

    Raises `ConfigurationError` if the named file does not exist, `UntrustedError` if others could
    have put there what was found.
    """
    named = config or environ.get(CONFIG_VARIABLE)
    if not named:
        candidates = (folder / FILE_NAME for folder in (start, *start.parents))
        found = next((file for file in candidates if _is_file(file)), None)
        if found is not None:
            Trust(environ).require_configuration(found)
        return found
    file = start / Path(named).expanduser()
    if not _is_file(file):
        raise ConfigurationError(
            f"there is no configuration file {str(named)!r}",
            hint="create it, for example with `belugawf init`, or name another one",
        )
    return file


def _is_file(path: Path) -> bool:
    """As `Path.is_file`; a folder that may not be looked into holds none."""
    try:
        return path.is_file()
    except OSError:
        return False
