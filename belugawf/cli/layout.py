"""Fitting text to a terminal: nothing is cut, and no word is broken that need not be.

A word that is wider than the terminal is left whole, and so is a command that is to be copied: the
terminal folds them, and gives them back in one piece.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

_FALLBACK_COLUMNS = 80
_GAP = 2
# From here on a column of prose may be folded beside the others.
_WIDE = 100
_LEAST_PROSE = 20

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WORD = re.compile(r"[^ ]+ *| +")
# A command stands at the end, after a colon or alone.
_COMMAND = re.compile(r"(?:^|(?<=: ))(?:belugawf|chmod|kill|pip|sqlite3) .+$")


def columns(stream: TextIO | None) -> int:
    """How wide the terminal is; `COLUMNS` decides first, as for other programs."""
    with suppress(KeyError, ValueError):
        if int(os.environ["COLUMNS"]) > 0:
            return int(os.environ["COLUMNS"])
    with suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(stream.fileno()).columns or _FALLBACK_COLUMNS  # type: ignore[union-attr]
    return _FALLBACK_COLUMNS


def cells(text: str) -> int:
    """How many cells of a terminal the text takes."""
    text = _COLOUR.sub("", text) if "\x1b" in text else text
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def wrap(text: str, width: int) -> list[str]:
    """The text in lines that are no wider than `width`, except for a single word or a command.

    Joined, they are the text again; only blanks that do not fit at the end of a line are left out.
    """
    if cells(text) <= width:
        return [text]
    command = _COMMAND.search(text)
    if command is not None:
        return [*(wrap(text[: command.start()], width) if command.start() else []), command[0]]
    lines = [""]
    for word in _WORD.findall(text):
        if lines[-1] and cells(lines[-1] + word.rstrip(" ")) > width:
            lines.append("")
        lines[-1] += word
    return [line if cells(line) <= width else line.rstrip(" ") for line in lines]


def fit(text: str, width: int, *, indent: int = 2) -> str:
    """Each line of the text wrapped; what continues a line is indented, under where it begins."""
    shown: list[str] = []
    for line in text.split("\n"):
        blank = len(line) - len(line.lstrip(" "))
        first, *rest = wrap(line, width)
        if rest:
            under = " " * (blank + indent)
            again = line[len(first) :].lstrip(" ") if line.startswith(first) else ""
            rest = [under + part for part in wrap(again, width - len(under))]
        shown += [first, *rest]
    return "\n".join(shown)


def labelled(label: str, shown: str, value: str, width: int) -> str:
    """A value beside its label, or below it if it would break there; `shown` is the label as it is
    drawn. A command at its end goes below if it is too wide."""
    beside = len(label) + _GAP
    lines = wrap(value, width - beside)
    folds = [line for line in lines if cells(line) > width - beside]
    if not folds or (folds == lines[1:][-1:] and _COMMAND.match(folds[0])):
        blanks = [" " * (_GAP if line in folds else beside) for line in lines]
        return f"{shown}{' ' * _GAP}{lines[0]}" + "".join(
            f"\n{blank}{line}" for blank, line in zip(blanks[1:], lines[1:], strict=True)
        )
    below = [" " * _GAP + line for line in wrap(value, width - _GAP)]
    return "\n".join([shown.rstrip(), *below] if label.strip() else below)


def lay_out(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, prose: int
) -> list[list[str]] | None:
    """The cells of each line of a table, padded, headers first; `None` if it does not fit.

    Column `prose` may be folded if the terminal is wide.
    """
    widths = [max(cells(row[number]) for row in [headers, *rows]) for number in range(len(headers))]
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    if excess > 0:
        widths[prose] -= excess
        if width < _WIDE or widths[prose] < max(_LEAST_PROSE, cells(headers[prose])):
            return None
    lines: list[list[str]] = []
    for row in [headers, *rows]:
        folded = wrap(row[prose], widths[prose])
        if any(cells(line) > widths[prose] for line in folded):
            return None
        for number, part in enumerate(folded):
            line = list(row) if number == 0 else [""] * len(row)
            line[prose] = part
            lines.append([_padded(cell, size) for cell, size in zip(line, widths, strict=True)])
    return lines


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cells(cell))


def stacked(headers: Sequence[str], row: Sequence[str], width: int) -> str:
    """One row by itself: its first cell, and below it the others with their headers."""
    indent = " " * _GAP
    lines = [row[0]]
    packed = ""
    for header, cell in zip(headers[1:], row[1:], strict=True):
        if not cell:
            continue
        part = f"{header.lower()}: {cell}"
        if packed and cells(packed + indent + part) > width - _GAP:
            lines.append(fit(indent + packed, width))
            packed = ""
        packed += indent + part if packed else part
    return "\n".join([*lines, fit(indent + packed, width)] if packed else lines)
