"""Recorded histories, as rows of today's schema: those of the first one had texts for times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from belugawf.model import events as e
from belugawf.model.durations import MICROSECOND_NS, parse_instant


def recorded(path: Path) -> list[e.Row]:
    """The rows of a file, one line each."""
    return [_row(row) for row in json.loads(path.read_text())]


def _row(row: Sequence[Any]) -> e.Row:
    if len(row) != 7:
        return tuple(row)  # type: ignore[return-value]
    position, type_name, time, seq, name, payload, data = row
    fields = json.loads(data or "{}")
    at, started_at = _micros(fields.pop("at", None)), _micros(fields.pop("started_at", None))
    rest = json.dumps(fields, ensure_ascii=False, separators=(",", ":")) if fields else None
    applied = parse_instant(time) // MICROSECOND_NS
    return position, type_name, applied, at, started_at, seq, name, rest, payload


def _micros(text: str | None) -> int | None:
    return None if text is None else parse_instant(text) // MICROSECOND_NS
