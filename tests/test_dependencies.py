"""What is depended on has a lower bound, and CI tries just that version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9-]+)>=(?P<version>[0-9.]+)(,<[0-9.]+)?")


def bounds(requirements: list[str]) -> dict[str, str]:
    """The lower bounds by name; one without fails."""
    found = {}
    for requirement in requirements:
        match = REQUIREMENT.fullmatch(requirement)
        assert match is not None, f"{requirement} has no lower bound, or more than that"
        found[match["name"].lower()] = match["version"]
    return found


def lowest() -> dict[str, str]:
    """What tests/lowest.txt pins."""
    lines = (ROOT / "tests" / "lowest.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def numbers(version: str) -> list[int]:
    """A version's numbers, without zeros at the end: 4.0 is 4.0.0."""
    parts = [int(part) for part in version.split(".")]
    while parts and not parts[-1]:
        parts.pop()
    return parts


def test_every_dependency_has_a_lower_bound() -> None:
    """Of belugawf itself and of its extras."""
    assert bounds(PROJECT["dependencies"])
    for requirements in PROJECT["optional-dependencies"].values():
        bounds([name for name in requirements if not name.startswith("belugawf[")])


def test_the_lowest_are_tried() -> None:
    """The pins are the bounds; everything that belugawf itself needs is pinned."""
    pinned = lowest()
    needed = bounds(PROJECT["dependencies"])
    tests = bounds(
        [n for n in PROJECT["optional-dependencies"]["test"] if not n.startswith("belugawf[")]
    )
    assert set(needed) <= set(pinned)
    # typer brings a command line library that is older than sqlite-utils allows.
    assert set(pinned) - set(needed) - set(tests) == {"click"}
    for name, version in {**tests, **needed}.items():
        if name in pinned:
            assert numbers(pinned[name]) == numbers(version), name
