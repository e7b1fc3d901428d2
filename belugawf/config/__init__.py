"""The configuration: its keys (`keys`), the file (`file`), and what wins (`settings`)."""

from belugawf.config.keys import KEYS, ConfigFileError
from belugawf.config.settings import (
    Settings,
    TemporalSettings,
    TlsFiles,
    load_settings,
    temporal_settings,
)

__all__ = [
    "KEYS",
    "ConfigFileError",
    "Settings",
    "TemporalSettings",
    "TlsFiles",
    "load_settings",
    "temporal_settings",
]
