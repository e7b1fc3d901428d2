"""The configuration: its keys (`keys`), the file (`file`), and what wins (`settings`)."""

from belugawf.config.keys import KEYS as KEYS, ConfigFileError as ConfigFileError
from belugawf.config.settings import (
    LoggingSettings as LoggingSettings,
    Settings as Settings,
    TemporalSettings as TemporalSettings,
    TlsFiles as TlsFiles,
    load_settings as load_settings,
    temporal_settings as temporal_settings,
    unknown_variables as unknown_variables,
)
