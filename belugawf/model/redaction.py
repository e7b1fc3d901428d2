"""Masking secrets in what is shown: values under keys whose names match a pattern.

`password: hunter2` is masked as data (an object's key, at any depth) and in free text (`password:
hunter2`, `"password": "hunter2"`, `password=hunter2`). A text that was once met under such a key is
a secret from then on, and masked wherever else it stands: in a message, as a positional argument.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable
from typing import Any

MASK = "***"

# A shorter text is part of too many others to be masked wherever it stands.
_SHORTEST_SECRET = 4
# Looking for each takes time. A worker meets more of them; those that it met last are remembered.
_MOST_SECRETS = 1_000

# A key and what parts it from its value. It begins where no name goes on, so that a long text is
# looked at once; and no key that people match by a pattern is longer.
_KEY = r"(?<![\w.-])(?P<key>[\w.-]{1,100})[\"']?\s{0,20}[:=]\s{0,20}"
# A text in quotes, perhaps not ended; or all up to what may end it on its line.
_VALUE = r"\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?|[^\n,;)\]}\"'\\]+"


class Redaction:
    """What `patterns` mask: globs for names of keys, in which case does not count.

    It remembers secrets: use one for everything that one command shows. `learn` may be called on
    any thread.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        translated = "|".join(fnmatch.translate(pattern.casefold()) for pattern in patterns)
        self._key, self._value = re.compile(_KEY), re.compile(_VALUE)
        self._matches = re.compile(translated or r"(?!)").match
        self._secrets: dict[str, None] = {}

    def hides(self, key: str) -> bool:
        """Whether the value of that key is a secret."""
        return self._matches(key.casefold()) is not None

    def learn(self, data: Any) -> None:
        """Remember the texts that stand under matching keys, anywhere in JSON data."""
        left = [(data, False)]
        found = set()
        while left:
            item, secret = left.pop()
            if isinstance(item, dict):
                left += [(value, secret or self.hides(key)) for key, value in item.items()]
            elif isinstance(item, list):
                left += [(value, secret) for value in item]
            elif secret and isinstance(item, str) and len(item) >= _SHORTEST_SECRET:
                found.add(item)
        self.remember(found)

    def remember(self, secrets: Iterable[str]) -> None:
        """These texts are secrets, wherever they stand."""
        # One step each, between which other threads may learn.
        for text in secrets:
            if text == MASK:
                continue
            self._secrets.pop(text, None)
            self._secrets[text] = None
        for text in list(self._secrets)[: max(len(self._secrets) - _MOST_SECRETS, 0)]:
            self._secrets.pop(text, None)

    @property
    def secrets(self) -> list[str]:
        """The texts that are masked wherever they stand."""
        return list(self._secrets)

    def data(self, data: Any) -> Any:
        """JSON data with its secrets masked; texts inside as by `text`."""
        if isinstance(data, dict):
            return {
                self.text(key): MASK if self.hides(key) else self.data(value)
                for key, value in data.items()
            }
        if isinstance(data, list):
            return [self.data(item) for item in data]
        return self.text(data) if isinstance(data, str) else data

    def text(self, text: str) -> str:
        """Free text with its secrets masked."""
        # The longest first, as one may be the beginning of another.
        for secret in sorted((s for s in list(self._secrets) if s in text), key=len, reverse=True):
            text = text.replace(secret, MASK)
        parts, done, position = [], 0, 0
        while (key := self._key.search(text, position)) is not None:
            position = key.end()
            value = self._value.match(text, position) if self.hides(key["key"]) else None
            if value is None:
                continue
            quote = value[0][0] if value[0][0] in "\"'" else ""
            parts.append(f"{text[done:position]}{quote}{MASK}{quote}")
            done = position = value.end()
        return "".join([*parts, text[done:]]) if parts else text

    def json_text(self, text: str) -> str:
        """A JSON text with its secrets masked."""
        return json.dumps(self.data(json.loads(text)), ensure_ascii=False)
