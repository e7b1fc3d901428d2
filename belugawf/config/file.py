"""What a configuration file says, read as a tree of nodes with their places, never as objects.

Only known keys are followed, so aliases cannot blow it up. Imported only if there is a file: it
needs YAML's reader, which is slow to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from belugawf.config.keys import (
    BY_NAME,
    ConfigProblem,
    Given,
    Key,
    keys_in,
    quoted_key,
    unknown_key,
)
from belugawf.model.errors import ConfigurationError

# A file of settings is a few lines; this much is something else under this name, and would take
# YAML's reader, at 100 KB a second, longer than anybody should wait for `status`.
_LARGEST_FILE_BYTES = 64 * 1024
_YAML = "tag:yaml.org,2002:"
_SCALARS = frozenset({_YAML + name for name in ("str", "int", "float", "bool", "null")})

Found: TypeAlias = tuple[Key, Given] | ConfigProblem


class _BadFileError(Exception):
    """The file is no configuration at all: where, and why."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(line, column, message)


def read_file(file: Path) -> Iterator[Found]:
    """What a file says, and all that is wrong with it. Raises `ConfigurationError`."""
    try:
        root = _compose(_text(file))
    except _BadFileError as bad:
        yield ConfigProblem(str(file), *bad.args)
        return
    if root is not None and not _is_null(root):
        yield from _section(file, root, "")


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {str(file)!r}: {error.strerror}",
            hint="make it readable, or name another one with --config",
        ) from error
    if len(content) > _LARGEST_FILE_BYTES:
        raise _BadFileError(1, 1, "the file is over 64 KiB, too large for a configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].split(b"\n")
        raise _BadFileError(
            len(before), len(before[-1]) + 1, "the file is not UTF-8 text"
        ) from None


def _compose(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        why = error.problem or error.context
        raise _BadFileError(*place, f"this isn't valid YAML: {why}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        raise _BadFileError(
            len(before),
            len(before[-1]) + 1,
            "this isn't valid YAML: it has no such control characters",
        ) from None
    except RecursionError:
        raise _BadFileError(1, 1, "the file is nested too deep for a configuration") from None


def _section(file: Path, node: yaml.Node, section: str) -> Iterator[Found]:
    if not isinstance(node, yaml.MappingNode):
        what = section or "the file"
        yield _problem(file, node, f"{what}: expected keys with values, found {_kind(node)}")
        return
    known = keys_in(section)
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        name = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        if name is None:
            yield _problem(file, key_node, f"expected a key, found {_kind(key_node)}")
        elif name in lines:
            first = f"it stands in line {lines[name]} already"
            yield _problem(file, key_node, f"duplicate key {quoted_key(name)}; {first}")
        elif name not in known:
            yield _problem(file, key_node, unknown_key(name, known))
        else:
            lines[name] = key_node.start_mark.line + 1
            yield from _value(file, value_node, f"{section}.{name}" if section else name)


def _value(file: Path, node: yaml.Node, name: str) -> Iterator[Found]:
    if _is_null(node):
        return  # as if the key were not there: what is left when its value is commented out
    key = BY_NAME.get(name)
    if key is None or (isinstance(node, yaml.MappingNode) and keys_in(name)):
        yield from _section(file, node, name)
        return
    try:
        value = _construct(node)
    except ValueError as error:
        yield _problem(file, node, f"{name}: {error}")
        return
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    yield key, Given(value, text, file.parent, "file", (str(file), *_place(node)))


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _problem(file: Path, node: yaml.Node, message: str) -> ConfigProblem:
    return ConfigProblem(str(file), *_place(node), message)


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == _YAML + "null")


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "a single value"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _construct(node: yaml.Node) -> Any:
    """The value of a leaf: a scalar, or a list of scalars. Raises `ValueError`."""
    if isinstance(node, yaml.MappingNode) and node.tag == _YAML + "map":
        return {}  # no leaf is a mapping: it is only told what it found
    if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
        if any(not isinstance(item, yaml.ScalarNode) for item in node.value):
            raise ValueError("expected a list of plain values, found a list of others")
        return [_construct(item) for item in node.value]
    if node.tag == _YAML + "timestamp":
        return node.value  # dates mean nothing here, and a name may look like one
    tag = node.tag.replace(_YAML, "!!")
    if node.tag not in _SCALARS:
        raise ValueError(f"the tag {tag!r} has no meaning here")
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, LookupError):
        raise ValueError(f"the value does not fit its tag {tag}") from None
