"""What is masked, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from belugawf.model.redaction import MASK, Redaction

PATTERNS = ("password", "*token*", "api_key")


@pytest.mark.parametrize(
    ("data", "masked"),
    [
        ({"password": "x", "user": "ada"}, {"password": MASK, "user": "ada"}),
        ({"PassWord": 5}, {"PassWord": MASK}),
        ({"a": [{"access_token": ["x", {"b": 1}]}]}, {"a": [{"access_token": MASK}]}),
        ({"passwords": "x"}, {"passwords": "x"}),
        ([1, None, True, "text"], [1, None, True, "text"]),
        ({"note": "password=abc, user=ada"}, {"note": "password=***, user=ada"}),
    ],
)
def test_data(data: Any, masked: Any) -> None:
    """Values under matching keys are masked at any depth, whatever they are."""
    assert Redaction(PATTERNS).data(data) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password: hunter2", "password: ***"),
        ("Password = hunter2; user = ada", "Password = ***; user = ada"),
        ('{"api_token": "a\\"b", "n": 1}', '{"api_token": "***", "n": 1}'),
        ("{'api_key': 'x', 'n': 1}", "{'api_key': '***', 'n': 1}"),
        ("call(token=5)", "call(token=***)"),
        ("my-token: Bearer abc\nnext line", "my-token: ***\nnext line"),
        ('user: "password: x"', 'user: "password: ***"'),
        ("no password here", "no password here"),
        ("password:", "password:"),
        ('token="never ended', 'token="***"'),
    ],
)
def test_text(text: str, masked: str) -> None:
    """In free text too: up to the end of the value, the quotes stay."""
    assert Redaction(PATTERNS).text(text) == masked


def test_what_was_learned() -> None:
    """A text that was met under a matching key is masked wherever it stands; short ones are not."""
    redaction = Redaction(PATTERNS)
    redaction.learn([{"password": "hunter2"}, {"token": ["long-token", 5, "abc"]}])
    assert redaction.text("bad: hunter2, long-token, abc") == "bad: ***, ***, abc"
    assert redaction.data(["hunter2"]) == [MASK]


def test_the_last_are_remembered() -> None:
    """A worker meets more secrets than can be looked for: the oldest are forgotten."""
    redaction = Redaction(PATTERNS)
    for number in range(3_000):
        redaction.learn({"token": f"secret-{number:04}", "password": "hunter2"})
    assert redaction.text("secret-2999, secret-2500, hunter2") == "***, ***, ***"
    assert len(redaction._secrets) == 1_000


def test_the_longest_first() -> None:
    """Where one secret is the beginning of another, nothing of the longer one is left."""
    redaction = Redaction(PATTERNS)
    redaction.learn([{"token": "abcd"}, {"token": "abcdefgh"}])
    assert redaction.text("abcdefgh abcd") == "*** ***"


def test_nothing_to_mask() -> None:
    """Without patterns nothing is changed."""
    redaction = Redaction(())
    redaction.learn({"": "text", "password": "hunter2"})
    assert redaction.text("password: hunter2") == "password: hunter2"


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(values, st.text("abcdefgh", min_size=6, max_size=12))
def test_a_secret_never_comes_through(data: Any, secret: str) -> None:
    """Wherever an object with a secret stands, and whatever stands beside it."""
    redaction = Redaction(PATTERNS)
    whole = {"x": [data, {"my_token": secret}], "said": f"token is {secret}"}
    redaction.learn(whole)
    assert secret not in json.dumps(redaction.data(whole))
    assert secret not in redaction.text(json.dumps(whole))
    assert secret not in redaction.json_text(json.dumps(whole))


@pytest.mark.parametrize("piece", ["a", 'a:"', "token:", " ", "a.", "token=' ", '"'])
def test_long_texts(piece: str) -> None:
    """Two megabytes of anything are masked in one go: a look at each place from each takes days."""
    redaction = Redaction([*PATTERNS, "*a*a*a*a*b"])
    masked = redaction.text(piece * (2_000_000 // len(piece)) + "\npassword: x")
    assert masked.endswith("password: ***")
