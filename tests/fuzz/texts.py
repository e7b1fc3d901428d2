"""What somebody might type, or leave in a file: arguments, JSON and configuration."""

from __future__ import annotations

import json
import re

from hypothesis import strategies as st

ESCAPE = "\x1b"

# Each of these has broken some program.
NASTY = (
    "",
    " ",
    "-",
    "--",
    "--help",
    "-1",
    "0",
    "1e999",
    "9" * 5000,
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    '"text"',
    '{"a": 1, "a": 2}',
    "[" * 300,
    "[" * 5000 + "]" * 5000,
    '{"a":' * 1000 + "1" + "}" * 1000,
    "../../../etc/passwd",
    "a/b",
    "..",
    ".",
    "~",
    "~nobody-of-that-name/x",
    "/dev/null",
    "/proc/self/mem",
    "line\nbreak",
    "tab\there",
    "carriage\rreturn",
    "nul\0byte",
    f"{ESCAPE}[31mred{ESCAPE}[0m",
    f"{ESCAPE}]0;title\x07",
    "\x9b31m",
    "\u202etxet",
    "\u2028",
    "\ufeff",
    "\ud800",
    "\udcff",
    "[bold red]x[/]",
    "[/]",
    "[link=file:///etc/passwd]x[/link]",
    "%s%n",
    "{0}{x}",
    "${HOME}",
    "$(touch pwned)",
    "; touch pwned",
    "' OR 1=1 --",
    "*",
    "@latest",
    "@",
    "x" * 10_000,
    "ü" * 3_000,
    "𝔘",
    "１２",
    "٣",
    "1_000",
    "10m",
    "0s",
    "-5s",
    "99999999999999d",
    "1:30",
    "a=b",
    "=b",
    "a=",
    "key=value",
)

nasty = st.sampled_from(NASTY)
any_text = st.one_of(
    nasty,
    st.text(max_size=30),
    st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=8),
    st.tuples(nasty, nasty).map("".join),
)
# What a system hands to a program: no NUL; bytes that are no text as `surrogateescape` has them.
argument = any_text.map(lambda text: re.sub("[\0\ud800-\udc7f\udd00-\udfff]", "?", text))

# -- JSON ------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@st.composite
def json_texts(draw: st.DrawFn) -> str:
    """JSON, nearly JSON, or something else."""
    if draw(st.booleans()):
        return draw(any_text)
    text = json.dumps(draw(json_values), ensure_ascii=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 2))
        text = (
            text[:at]
            + draw(
                st.sampled_from(
                    ['"', "[", "}", ",", "\\u", "NaN", "9" * 5000, "\\ud800", "e9999", "\x00", ""]
                )
            )
            + text[at + cut :]
        )
    return text


# -- configuration ---------------------------------------------------------------------------------

_BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
)
_KEYS = [
    "provider",
    "workflows",
    "db",
    "default_workflow",
    "durability",
    "defaults",
    "resume",
    "max_crashes",
    "payload_limit",
    "worker",
    "temporal",
    "redact",
    "activity_timeout",
    "retry",
    "max_attempts",
    "initial_delay",
    "backoff_coefficient",
    "max_delay",
    "jitter",
    "non_retryable",
    "max_time",
    "concurrency",
    "threads",
    "host",
    "namespace",
    "task_queue",
    "tls",
    "api_key",
    "ca",
    "cert",
    "key",
    "server_name",
]
_VALUES = [
    "default",
    "temporal",
    "full",
    "normal",
    "true",
    "false",
    "null",
    "3",
    "0",
    "-1",
    "1e400",
    ".inf",
    ".nan",
    "0x10",
    "010",
    "1:30",
    "10m",
    "2MiB",
    "!!python/object/apply:os.system",
    "[x]",
    "!!python/name:os.system",
    "!!binary",
    "x",
    "!!int",
    "[1]",
    "!!set",
    "{a}",
    "!!omap",
    "[]",
    "!!float",
    "x",
    "!!bool",
    "maybe",
    "!!timestamp",
    "5",
    "2001-01-01",
    "<<:",
    "*a",
    "&a",
    "[*a]",
    "[[[[]]]]",
    "{a:",
    "{b:",
    "c}}",
    "[a,b]",
    "[1,2]",
    "{}",
    "[]",
    "''",
    '"\\0"',
    "env:KEY",
    "env:",
    "secret-token-0815",
    "~",
    "~nobody-here/x",
    "/dev/null",
    "|",
    ">",
    "%",
]


@st.composite
def yaml_texts(draw: st.DrawFn) -> str:
    """A configuration as somebody might leave it: half right, wrong, hostile."""
    if draw(st.integers(0, 9)) == 0:
        return draw(
            st.sampled_from(
                (
                    _BOMB,
                    "x: " + "[" * 5000,
                    "{" * 3000,
                    "- " * 4000,
                    "a: &a\n  <<: *a\n",
                    "&a [*a]",
                    "db: &a {x: *a}\n",
                    "redact: &a [*a]\n",
                    "!!python/object/apply:os.system ['touch pwned']",
                    "db: !!python/object/apply:os.system ['touch pwned']",
                    "--- \n---\n",
                    "%YAML 9.9\n---\na: 1\n",
                    "\ufeffprovider: default\n",
                    "? [a, b]\n: c\n",
                    "? !!binary x\n: c\n",
                    "\t\tx",
                    "x" * 100_000,
                    "temporal: {api_key: secret-token-0815}",
                    "temporal: {api_key: [secret-token-0815]}",
                    "temporal: {api_key: {env: secret-token-0815}}",
                    "temporal: {api_key: env:secret-token-0815}",
                )
            )
        )
    if draw(st.integers(0, 5)) == 0:
        return draw(any_text)
    lines = []
    for _ in range(draw(st.integers(0, 5))):
        indent = "  " * draw(st.integers(0, 2))
        value = draw(st.one_of(st.just(""), st.sampled_from(_VALUES), any_text))
        lines.append(f"{indent}{draw(st.sampled_from(_KEYS))}: {value}")
    return "\n".join(lines) + "\n"


# -- command lines ---------------------------------------------------------------------------------

_RUNS = st.one_of(
    st.sampled_from(("done", "asks", "fails", "stop", "@latest", "as", "askx", "typed")), argument
)
_WORKFLOWS = st.one_of(
    st.sampled_from(("simple", "asking", "failing", "typed", "simpel")), argument
)
_DURATIONS = st.one_of(st.sampled_from(("10ms", "0s", "1h", "5")), argument)
_FILTERS: tuple[tuple[str, st.SearchStrategy[str]], ...] = (
    ("--status", st.one_of(st.sampled_from(("running", "completed")), argument)),
    ("--state", st.one_of(st.sampled_from(("waiting", "due", "parked")), argument)),
    ("--workflow", _WORKFLOWS),
    ("--label", argument),
    ("--since", _DURATIONS),
    ("--until", _DURATIONS),
)
_SEVERAL = (("--all", None), ("--dry-run", None), ("--yes", None))

# Each command's own arguments: (flag or None, strategy of its value or None). What would wait on
# purpose is bounded: see `command_lines`.
_SHAPES: dict[str, tuple[tuple[str | None, st.SearchStrategy[str] | None], ...]] = {
    "run": (
        (None, _WORKFLOWS),
        ("-i", json_texts()),
        ("-a", argument),
        ("--input-file", argument),
        ("--id", argument),
        ("--if-exists", st.one_of(st.sampled_from(("skip", "replace", "fail")), argument)),
        ("--timeout", _DURATIONS),
        ("--max-wait", st.sampled_from(("10ms", "0s"))),
        ("-d", None),
        ("--label", argument),
    ),
    "resume": (
        (None, _RUNS),
        ("--max-time", _DURATIONS),
        ("--grace", _DURATIONS),
        ("--dry-run", None),
        ("--workflow", _WORKFLOWS),
    ),
    "signal": (
        (None, st.one_of(st.sampled_from(("approval", "aproval")), argument)),
        (None, _RUNS),
        ("--payload", json_texts()),
        ("--text", argument),
        ("--payload-file", argument),
        ("--by", argument),
        ("--key", argument),
        *_FILTERS,
        *_SEVERAL,
        ("--no-resume", None),
    ),
    "status": ((None, _RUNS),),
    "waiting": (),
    "query": (
        (None, _RUNS),
        (None, st.one_of(st.sampled_from(("status", "result")), argument)),
        ("--args", json_texts()),
    ),
    "list": (
        *_FILTERS,
        ("-n", argument),
        ("--all", None),
    ),
    "history": ((None, _RUNS), ("--full", None)),
    "logs": ((None, _RUNS), ("--activity", argument), ("--level", argument), ("-n", argument)),
    "result": ((None, _RUNS),),
    "wait": ((None, _RUNS), ("--for", argument)),
    "cancel": ((None, _RUNS), (None, _RUNS), ("--reason", argument), *_FILTERS, *_SEVERAL),
    "terminate": ((None, _RUNS), ("--reason", argument), *_FILTERS, *_SEVERAL),
    "workflows": (),
    "doctor": (),
    "init": (),
}
_GLOBAL: tuple[tuple[str, st.SearchStrategy[str]], ...] = (
    ("-c", argument),
    ("-C", argument),
    ("--db", argument),
    ("--workflows", argument),
    ("--provider", st.one_of(st.just("default"), argument.filter(lambda t: t != "temporal"))),
    ("--color", st.one_of(st.just("always"), argument)),
)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command line that could be meant, with hostile values; or hardly any at all."""
    if draw(st.integers(0, 19)) == 0:
        words = draw(st.lists(argument, max_size=4))
        return [word for word in words if word not in ("worker", "init")]
    words = []
    for flag, values in _GLOBAL:
        if draw(st.integers(0, 14)) == 0:
            words += [flag, draw(values)]
    name = draw(st.sampled_from(tuple(_SHAPES)))
    words.append(name)
    for flag, values in _SHAPES[name]:
        if not draw(st.booleans()):
            continue
        if flag is not None:
            words.append(flag)
        if values is not None:
            words.append(draw(values))
    words += draw(st.lists(st.sampled_from(("--json", "-q", "-v")), max_size=2))
    if name == "init":
        return [*words, "made"]
    if name == "wait":
        words += ["--max-wait", "10ms"]
    return words
