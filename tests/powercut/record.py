"""The record of a workload: what it asked of the disk and what it was told, in order.

Several threads and processes append to one file. Each entry is one `write` on a descriptor opened
for appending, so entries are never mixed, and SQLite's own locks order those that depend on each
other. An operation is recorded before it is carried out, the end of a sync after it has returned.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Create:
    """A file or folder that did not exist gets a name, relative to the recorded folder."""

    name: str
    folder: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    name: str


@dataclass(frozen=True, slots=True)
class Write:
    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class SyncStarted:
    """A sync of a file, or of a folder: "" is the recorded one itself.

    `full`: the drive is asked to empty its cache, which macOS does only where it is told to.
    `ticket` is the same in the SyncEnded.
    """

    name: str
    full: bool
    ticket: str


@dataclass(frozen=True, slots=True)
class SyncEnded:
    ticket: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that the workload was told: from here on it may count on it.

    The kind "settled" says that the marks before the last "settling" outlive a power cut, whatever
    `durability` is.
    """

    kind: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Before:
    """First in the record of a second life: what the disk held when it began, all of it durable."""

    state: State


# What is on a disk: contents by name; `None`: a folder.
State: TypeAlias = Mapping[str, bytes | None]
Entry: TypeAlias = Before | Create | Delete | Write | Truncate | SyncStarted | SyncEnded | Mark


class Recorder:
    """Appends entries to the file of a record."""

    def __init__(self, log: Path) -> None:
        self._descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, entry: Entry) -> None:
        """Append an entry. Raises OSError."""
        data = pickle.dumps(entry)
        if os.write(self._descriptor, data) != len(data):
            raise OSError("the record could not be written")

    def mark(self, kind: str, **facts: Any) -> None:
        """Record what the workload was told."""
        self.add(Mark(kind, facts))

    def close(self) -> None:
        os.close(self._descriptor)


def read_record(log: Path) -> list[Entry]:
    """All entries of a record, in order."""
    entries: list[Entry] = []
    with log.open("rb") as file:
        while file.peek(1):
            entries.append(pickle.load(file))
    return entries


def write_record(entries: Sequence[Entry], log: Path) -> None:
    """The opposite of `read_record`."""
    log.write_bytes(b"".join(map(pickle.dumps, entries)))


def without_syncs(
    entries: Sequence[Entry], ignored: Callable[[SyncStarted], bool] = lambda _: True
) -> list[Entry]:
    """The record on a disk that ignores some syncs, or all."""
    syncs = [entry for entry in entries if isinstance(entry, SyncStarted) and ignored(entry)]
    tickets = {sync.ticket for sync in syncs}
    return [
        entry
        for entry in entries
        if not isinstance(entry, SyncEnded) or entry.ticket not in tickets
    ]
