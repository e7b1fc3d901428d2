"""The model of a disk: what a sync makes durable, and what a power cut may leave of the rest."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from tests.powercut.disk import (
    PLAIN_FATES,
    SECTOR,
    Disk,
    Fate,
    any_fate,
    everything,
    in_order,
    nothing,
    shuffled,
    sizes_first,
    some_sectors,
)
from tests.powercut.record import (
    Before,
    Create,
    Delete,
    Entry,
    SyncEnded,
    SyncStarted,
    Truncate,
    Write,
)

OLD, NEW = b"o" * 2 * SECTOR, b"n" * 2 * SECTOR


def disk_after(*entries: Entry) -> Disk:
    disk = Disk()
    for entry in entries:
        disk.feed(entry)
    return disk


def sync(name: str) -> list[Entry]:
    return [SyncStarted(name, True, f"sync {name}"), SyncEnded(f"sync {name}")]


def outcomes(disk: Disk, fate: Fate, name: str = "f") -> set[bytes | None]:
    """What the file may hold, over many power cuts; `None`: it is gone."""
    return {disk.after(fate, random.Random(seed)).get(name) for seed in range(300)}


def overwriting() -> list[Entry]:
    return [Before({"f": OLD}), Write("f", 0, NEW)]


def test_synced_data_stays() -> None:
    """A sync makes data durable, whatever the fate of later changes."""
    disk = disk_after(*overwriting(), *sync("f"))
    assert disk.pending == []
    assert outcomes(disk, any_fate) == {NEW}


def test_unsynced_data_may_be_lost() -> None:
    """Without one it may have arrived, or not."""
    disk = disk_after(*overwriting())
    assert outcomes(disk, nothing) == {OLD}
    assert outcomes(disk, everything) == {NEW}


def test_a_sync_covers_what_came_before_it_began() -> None:
    """A write between a sync's beginning and its end may be lost."""
    started, ended = sync("f")
    disk = disk_after(Before({"f": OLD}), started, Write("f", 0, NEW), ended)
    assert outcomes(disk, nothing) == {OLD}


def test_a_sync_that_has_not_ended_promises_nothing() -> None:
    """The power may go while the disk is writing."""
    started, _ = sync("f")
    assert outcomes(disk_after(*overwriting(), started), nothing) == {OLD}


def test_a_sync_is_of_one_file() -> None:
    """Another file's changes stay pending."""
    disk = disk_after(*overwriting(), Create("g"), *sync("g"))
    assert outcomes(disk, nothing) == {OLD}


def test_a_new_file_needs_its_folders_sync() -> None:
    """The data of a new file is lost with its name."""
    new = [Create("f"), Write("f", 0, NEW), *sync("f")]
    assert outcomes(disk_after(*new), nothing) == {None}
    assert outcomes(disk_after(*new, *sync("")), nothing) == {NEW}


def test_a_lost_folder_takes_all_with_it() -> None:
    """A file whose folder has no name cannot be found."""
    new = [Create("d", folder=True), Create("d/f"), Write("d/f", 0, NEW), *sync("d/f"), *sync("d")]
    assert outcomes(disk_after(*new), nothing, "d/f") == {None}
    assert disk_after(*new, *sync("")).after(nothing, random.Random(0)) == {"d": None, "d/f": NEW}


def test_a_deleted_file_may_come_back() -> None:
    """And a new one of its name is another file, of which either may be found."""
    replaced = [Before({"f": OLD}), Delete("f"), Create("f"), Write("f", 0, NEW), *sync("f")]
    assert outcomes(disk_after(*replaced[:2]), any_fate) == {OLD, None}
    assert outcomes(disk_after(*replaced), in_order) == {OLD, None, NEW}
    assert outcomes(disk_after(*replaced, *sync("")), any_fate) == {NEW}


def test_writes_are_torn_at_sectors() -> None:
    """Each sector is old or new as a whole, at its place in the file."""
    disk = disk_after(*overwriting())
    halves = {OLD[:SECTOR] + NEW[SECTOR:], NEW[:SECTOR] + OLD[SECTOR:]}
    assert outcomes(disk, some_sectors) == {OLD, NEW, *halves}
    shifted = disk_after(Before({"f": OLD}), Write("f", SECTOR - 1, b"nn"))
    torn = {OLD[: SECTOR - 1] + pair + OLD[SECTOR + 1 :] for pair in (b"oo", b"no", b"on", b"nn")}
    assert outcomes(shifted, some_sectors) == torn


def test_changes_may_be_reordered() -> None:
    """Of two writes to one place the earlier may be what is left."""
    disk = disk_after(*overwriting(), Write("f", 0, b"x" * 2 * SECTOR))
    assert outcomes(disk, shuffled) == {OLD, NEW, b"x" * 2 * SECTOR}
    assert NEW in outcomes(disk, some_sectors)


def test_size_and_data_arrive_apart() -> None:
    """A file may have grown while its data is lost; what was there before is left alone."""
    disk = disk_after(Before({"f": OLD}), Write("f", SECTOR, NEW))
    found = outcomes(disk, sizes_first(nothing))
    assert OLD in found
    assert OLD + bytes(SECTOR) in found
    assert {len(content or b"") for content in found} == {2 * SECTOR, 3 * SECTOR}
    assert all((content or b"").startswith(OLD) for content in found)
    assert len(found) > 3


def test_truncating_is_a_change_like_others() -> None:
    """It may be lost, and a later write arrive."""
    disk = disk_after(Before({"f": OLD}), Truncate("f", 0), Write("f", 0, NEW[:SECTOR]))
    found = outcomes(disk, any_fate)
    assert {OLD, b"", NEW[:SECTOR], NEW[:SECTOR] + OLD[SECTOR:]} <= found


@pytest.mark.parametrize("fate", PLAIN_FATES, ids=lambda fate: fate.__name__)
def test_fates_follow_their_seed(fate: Fate) -> None:
    """The same seed gives the same state."""
    disk = disk_after(*overwriting(), Create("g"), Write("g", 5, OLD), Truncate("f", 100))

    def states() -> Iterable[object]:
        return [disk.after(fate, random.Random(seed)) for seed in range(50)]

    assert states() == states()
