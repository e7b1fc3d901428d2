"""What a disk may hold after a power cut: the model, as docs/reliability.md states it.

A disk holds what is durable, and a list of changes that may or may not have reached it. A sync
that has ended makes durable what was pending, when it began, for that file: its data and its size;
or for that folder: the names in it. Nothing else orders anything. A power cut picks a *fate*: which
of the pending changes have arrived, in which order, and which of them in part.

Names follow POSIX: that of a new file is only there when its folder was synced, whatever was done
to the file. A write that is cut short arrives in whole sectors, and touches nothing beside it.
"""

from __future__ import annotations

import posixpath
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from tests.powercut.record import (
    Before,
    Create,
    Delete,
    Entry,
    Mark,
    State,
    SyncEnded,
    SyncStarted,
    Truncate,
    Write,
)

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Name:
    """A name in a folder: of a file (or folder, they are numbered alike), or of none any more."""

    name: str
    file: int | None

    @property
    def folder(self) -> str:
        return posixpath.dirname(self.name)


@dataclass(frozen=True, slots=True)
class Put:
    """Bytes in a file. `grown`: of a lost write, only what it has made the file grow by."""

    file: int
    offset: int
    data: bytes
    grown: bool = False

    def sectors(self) -> list[Change]:
        """The parts of it that arrive or not, each as a whole."""
        parts: list[Change] = []
        start = 0
        while start < len(self.data):
            end = start + SECTOR - (self.offset + start) % SECTOR
            parts.append(Put(self.file, self.offset + start, self.data[start:end]))
            start = end
        return parts

    def apply(self, content: bytearray) -> None:
        skipped = min(max(0, len(content) - self.offset), len(self.data)) if self.grown else 0
        start, data = self.offset + skipped, self.data[skipped:]
        content.extend(bytes(max(0, start - len(content))))
        content[start : start + len(data)] = data


@dataclass(frozen=True, slots=True)
class Cut:
    """A file's new size."""

    file: int
    size: int

    def apply(self, content: bytearray) -> None:
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


Change: TypeAlias = Name | Put | Cut
Fate: TypeAlias = Callable[[Sequence[Change], random.Random], list[Change]]


class Disk:
    """Reads a record entry by entry; at each moment the power may be cut."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._contents: dict[int, bytearray] = {}
        # What the running system sees: the names that are there now.
        self._seen: dict[str, int] = {}
        self._files = 0
        self._folders: set[int] = set()
        self._changes = 0
        self._pending: dict[int, Change] = {}
        # By ticket: how many changes had been made, and which of them a sync is about.
        self._syncs: dict[str, tuple[int, Callable[[Change], bool]]] = {}

    @property
    def pending(self) -> list[Change]:
        """The changes that a power cut may undo, oldest first."""
        return list(self._pending.values())

    def feed(self, entry: Entry) -> None:
        """Carry out one entry of a record."""
        match entry:
            case Before(state):
                for name, content in state.items():
                    self._names[name] = self._create(name, folder=content is None)
                    self._contents[self._names[name]] = bytearray(content or b"")
            case Create(name):
                # Two processes that see a name missing both say that they create it.
                if name not in self._seen:
                    self._change(Name(name, self._create(name, folder=entry.folder)))
            case Delete(name):
                if self._seen.pop(name, None) is not None:
                    self._change(Name(name, None))
            case Write(name, offset, data):
                self._change(Put(self._seen[name], offset, data))
            case Truncate(name, size):
                self._change(Cut(self._seen[name], size))
            case SyncStarted(name):
                self._syncs[entry.ticket] = self._changes, self._concerned(name)
            case SyncEnded(ticket):
                self._end_sync(ticket)
            case Mark():
                pass

    def _create(self, name: str, *, folder: bool) -> int:
        self._files += 1
        self._seen[name] = self._files
        if folder:
            self._folders.add(self._files)
        return self._files

    def _change(self, change: Change) -> None:
        self._changes += 1
        self._pending[self._changes] = change

    def _concerned(self, name: str) -> Callable[[Change], bool]:
        """Whether a change is one that a sync of this file or folder makes durable."""
        file = self._seen.get(name)

        def concerned(change: Change) -> bool:
            if isinstance(change, Name):
                return change.folder == name
            return change.file == file

        return concerned

    def _end_sync(self, ticket: str) -> None:
        before, concerned = self._syncs.pop(ticket)
        durable = [
            number
            for number, change in self._pending.items()
            if number <= before and concerned(change)
        ]
        changes = [self._pending.pop(number) for number in durable]
        self._apply(changes, self._names, self._contents)

    @staticmethod
    def _apply(
        changes: Sequence[Change], names: dict[str, int], contents: dict[int, bytearray]
    ) -> None:
        for change in changes:
            if isinstance(change, Name):
                if change.file is None:
                    names.pop(change.name, None)
                else:
                    names[change.name] = change.file
            else:
                change.apply(contents.setdefault(change.file, bytearray()))

    def after(self, fate: Fate, rng: random.Random) -> State:
        """What is on the disk if the power is cut now."""
        arrived = fate(self.pending, rng)
        touched = {change.file for change in arrived if not isinstance(change, Name)}
        names = dict(self._names)
        contents = {
            file: bytearray(content) if file in touched else content
            for file, content in self._contents.items()
        }
        self._apply(arrived, names, contents)
        return {
            name: None if file in self._folders else bytes(contents.get(file, b""))
            for name, file in sorted(names.items())
            if _is_reachable(name, names)
        }


def _is_reachable(name: str, names: Mapping[str, int]) -> bool:
    folder = posixpath.dirname(name)
    return not folder or (folder in names and _is_reachable(folder, names))


# -- fates ---------------------------------------------------------------------------------------


def nothing(pending: Sequence[Change], rng: random.Random) -> list[Change]:
    """Only what was synced is there."""
    return []


def everything(pending: Sequence[Change], rng: random.Random) -> list[Change]:
    """All of it had been written in time."""
    return list(pending)


def in_order(pending: Sequence[Change], rng: random.Random) -> list[Change]:
    """A disk that keeps the order: what came before some moment, and a torn part of the next."""
    cut = rng.randrange(len(pending) + 1)
    return [*pending[:cut], *_torn(pending[cut : cut + 1], rng)]


def all_but_one(pending: Sequence[Change], rng: random.Random) -> list[Change]:
    """A single change is missing, in whole or in part."""
    if not pending:
        return []
    missing = rng.randrange(len(pending))
    part = _torn(pending[missing : missing + 1], rng) if rng.random() < 0.5 else []
    return [*pending[:missing], *part, *pending[missing + 1 :]]


def some(pending: Sequence[Change], rng: random.Random) -> list[Change]:
    """Each change has arrived or not, by chance."""
    chance = rng.choice((0.1, 0.5, 0.9))
    return [change for change in pending if rng.random() < chance]


def some_sectors(pending: Sequence[Change], rng: random.Random) -> list[Change]:
    """Each sector of each change has arrived or not, by chance."""
    chance = rng.choice((0.1, 0.5, 0.9, 0.99))
    return [part for change in pending for part in _parts(change) if rng.random() < chance]


def some_files(pending: Sequence[Change], rng: random.Random) -> list[Change]:
    """One file's changes have all arrived, another's not at all; names go by themselves."""
    arrived: dict[object, bool] = {}

    def decided(change: Change) -> bool:
        key = change.name if isinstance(change, Name) else change.file
        return arrived.setdefault(key, rng.random() < 0.5)

    return [change for change in pending if decided(change)]


def shuffled(pending: Sequence[Change], rng: random.Random) -> list[Change]:
    """Some changes have arrived, in any order."""
    return rng.sample(pending, rng.randint(0, len(pending)))


def sizes_first(fate: Fate) -> Fate:
    """As another fate, but files have grown by what was lost too: to zeros, or to anything."""

    def grown(pending: Sequence[Change], rng: random.Random) -> list[Change]:
        arrived = fate(pending, rng)
        whole = set(map(id, arrived))
        filler = rng.randbytes if rng.random() < 0.5 else bytes
        holes: list[Change] = [
            replace(change, data=filler(len(change.data)), grown=True)
            for change in pending
            if isinstance(change, Put) and id(change) not in whole and rng.random() < 0.7
        ]
        return [*holes, *arrived]

    return grown


def _parts(change: Change) -> list[Change]:
    return change.sectors() if isinstance(change, Put) else [change]


def _torn(changes: Sequence[Change], rng: random.Random) -> list[Change]:
    """Some of the sectors, from the start or anywhere."""
    parts = [part for change in changes for part in _parts(change)]
    if rng.random() < 0.5:
        return parts[: rng.randrange(len(parts) + 1)]
    return [part for part in parts if rng.random() < 0.5]


PLAIN_FATES: tuple[Fate, ...] = (
    nothing,
    everything,
    in_order,
    all_but_one,
    some,
    some_sectors,
    some_files,
    shuffled,
)


def any_fate(pending: Sequence[Change], rng: random.Random) -> list[Change]:
    """One of them all."""
    fate = rng.choice(PLAIN_FATES)
    return (sizes_first(fate) if rng.random() < 0.25 else fate)(pending, rng)
