"""Figures of several rounds: kept in a JSON file with the machine they are from, and as a table."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Figure:
    """What was measured again and again: `name` of `series`, as "W1" of "before"."""

    name: str
    series: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        spread = f" ({min(self.values):,.4g} to {max(self.values):,.4g})"
        return f"{self.median:,.4g}{spread if len(self.values) > 1 else ''}"


class Figures:
    """All of one run, in the order in which they came."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.machine = f"{os.cpu_count()} cores, {platform.system()}"
        self.versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
        self.day = time.strftime("%Y-%m-%d")
        self.notes: dict[str, str] = {}
        self._figures: dict[tuple[str, str], Figure] = {}

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures.values())

    def add(self, name: str, series: str, value: float, unit: str) -> None:
        """One more value of a figure."""
        figure = self._figures.setdefault((name, series), Figure(name, series, unit))
        figure.values.append(value)

    def note(self, series: str, text: str) -> None:
        """What has to be known about a series: versions, how durable it is."""
        self.notes[series] = text

    def by_name(self) -> dict[str, dict[str, Figure]]:
        """The series of each name."""
        names: dict[str, dict[str, Figure]] = {}
        for figure in self:
            names.setdefault(figure.name, {})[figure.series] = figure
        return names

    def write(self, path: Path) -> None:
        """Keep them, for `benchmarks.chart`."""
        figures = [vars(figure) for figure in self]
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        path.write_text(json.dumps({**kept, "figures": figures}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Figures:
        """What was kept."""
        kept = json.loads(path.read_text())
        figures = cls(kept["title"])
        for figure in kept.pop("figures"):
            figures._figures[figure["name"], figure["series"]] = Figure(**figure)
        vars(figures).update(kept)
        return figures
