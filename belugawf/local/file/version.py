"""What marks a database as ours, and as of today's schema."""

from __future__ import annotations

SCHEMA_VERSION = 3
# "bwfw" in ASCII: tells `file` and us whose database this is.
APPLICATION_ID = 0x62776677
