"""Commands as people type them: names from outside reach no shell unquoted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

# Means the same, quoted or not, in bash, zsh and fish, and isn't an option.
_PLAIN = r"[\w./][\w.,:=@%+/-]*"


def is_plain(text: str) -> bool:
    """Whether every shell takes the text for one word that means itself, without quotes."""
    return re.fullmatch(_PLAIN, text) is not None


def quoted(text: str) -> str:
    """The text as one word, for bash, zsh, fish and `sh`.

    A backslash means something between fish's single quotes, so it stands in double ones; zsh reads
    `=ls` as the path of `ls`. What cannot be seen is written as `$'\\x0a'`, which fish and `sh`
    don't know, and can't misread.
    """
    if not text.isprintable():
        return "$'" + "".join(map(_visible, text)) + "'"
    if text.startswith("="):
        return f"'='{quoted(text[1:])}" if text[1:] else "'='"
    return shlex.quote(text).replace("\\", "'\"\\\\\"'")


def command_line(
    word: str, *names: str, flags: Sequence[str] = (), options: Sequence[str] = ()
) -> str:
    """`belugawf FLAGS WORD NAMES OPTIONS` as it must be typed.

    `names` are users' texts: if one could be taken for an option, they come after `--`.
    """
    words = [*names, *options]
    if any(name.startswith("-") for name in names):
        words = [*options, "--", *names]
    return " ".join(map(quoted, ("belugawf", *flags, word, *words)))


def _visible(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable() and character != "'":
        return character
    is_byte = "\udc80" <= character <= "\udcff"  # as Python reads arguments that are no text
    data = character.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)
