"""The kinds of hostile input. Each is a strategy and a check that raises where a promise is broken.

The checks share one template: a database with runs in every state, copied for each case.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import textwrap
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from belugawf.config import Settings, load_settings
from belugawf.model import codec
from belugawf.model.errors import BelugaError, ConfigurationError, UsageError
from tests.fuzz import texts
from tests.fuzz.commands import (
    Answer,
    TracebackFound,
    WrongResultFound,
    bounded,
    command,
)

MODULE = '''
    """Quick workflows that end in every way."""

    from dataclasses import dataclass

    from belugawf import ApplicationError, RetryPolicy, WorkflowContext, activity, workflow


    @activity
    async def work(text: str) -> str:
        return f"{text} is done"


    @activity(retry=RetryPolicy(max_attempts=2, initial_delay=0.001))
    async def refuse(text: str) -> str:
        raise ApplicationError(text)


    @workflow
    async def simple(ctx: WorkflowContext, text: str = "it") -> str:
        return await ctx.execute_activity(work, text)


    @workflow
    async def asking(ctx: WorkflowContext, text: str = "it") -> str:
        await ctx.execute_activity(work, text)
        ctx.set_progress(0.5)
        answer = await ctx.wait_for_signal("approval", timeout="24h", prompt="May it?")
        return await ctx.execute_activity(work, f"{text} {answer.payload}")


    @workflow
    async def failing(ctx: WorkflowContext, text: str = "it") -> str:
        return await ctx.execute_activity(refuse, text)


    @dataclass
    class Order:
        number: int
        items: list[str]


    @workflow
    async def typed(ctx: WorkflowContext, order: Order) -> Order:
        return order
'''

# What a terminal would obey.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Template:
    """A project whose database has runs of every kind; `place` is a folder of ours."""

    def __init__(self, place: Path) -> None:
        # Deep enough for every `..` of the hostile paths to stay inside.
        self.place = place / "a" / "b" / "c" / "d"
        self.modules = place / "modules" / "workflows"
        self.modules.mkdir(parents=True)
        (self.modules / "fuzzed.py").write_text(textwrap.dedent(MODULE))
        self.place.mkdir(parents=True)
        self._cases = 0

    @cached_property
    def files(self) -> Path:
        """A folder with `state.db`, and with the `-wal` file of a process that was killed."""
        first = self.place / "first"
        first.mkdir()
        db = first / "state.db"

        def do(*args: str) -> Answer:
            return command(["--db", str(db), "--workflows", str(self.modules), *args], cwd=first)

        do("run", "simple", "--id", "done", "-i", "a text", "--label", "k=v")
        # A reader that stays keeps the log from being written back.
        with closing(sqlite3.connect(db)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM runs").fetchall()
            do("run", "asking", "--id", "asks")
            do("run", "asking", "--id", "asks-too")
            do("run", "failing", "--id", "fails")
            do("run", "typed", "-i", '{"number": 1, "items": ["x"]}', "--id", "typed")
            do("run", "asking", "--id", "stop")
            do("cancel", "stop")
            do("run", "simple", "-d", "--id", "fresh")
            do("signal", "other", "asks-too", "--payload", '{"a": [1]}', "--no-resume")
            do("signal", "approval", "asks-too", "--payload", "true", "--no-resume", "--key", "k")
            made = self.place / "files"
            made.mkdir()
            for path in (db, db.with_name("state.db-wal")):
                shutil.copyfile(path, made / path.name)
        return made

    @cached_property
    def histories(self) -> Mapping[str, list[Any]]:
        """The histories of the template by workflow id."""
        case = self.copy()
        infos = self.run(case, "list", "--all", "--json").json
        return {
            info["workflow_id"]: self.run(case, "history", info["run_id"], "--json").json
            for info in infos
        }

    @cached_property
    def events(self) -> Mapping[str, list[Any]]:
        """The same as rows, by run id."""
        return _events(self.copy() / ".belugawf" / "state.db")

    def copy(self, *, wal: bool = True) -> Path:
        """A new folder with `.belugawf/state.db`; without `wal` all is in the one file."""
        self._cases += 1
        case = self.place / f"case-{self._cases}"
        state = case / ".belugawf"
        state.mkdir(parents=True, mode=0o700)
        for path in self.files.iterdir():
            shutil.copyfile(path, state / path.name)
        if not wal:
            with closing(sqlite3.connect(state / "state.db")) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return case

    def remove(self, case: Path) -> None:
        """The case is over."""
        shutil.rmtree(case, ignore_errors=True)

    def run(self, case: Path, *args: str, stdin: bytes = b"", **env: str) -> Answer:
        """One command in that folder, checked."""
        env = {"BELUGAWF_WORKFLOWS": str(self.modules), "BELUGAWF_TEST_BUSY_TIMEOUT": "1", **env}
        return command(args, cwd=case, env=env, stdin=stdin).check()


@dataclass(frozen=True)
class Kind:
    """One kind of input: what makes it, and what looks what becomes of it."""

    name: str
    strategy: st.SearchStrategy[Any]
    check: Callable[[Template, Any], None]
    # How many of a campaign's cases, in relation to the others.
    share: int = 1


# -- payloads --------------------------------------------------------------------------------------


@dataclass
class _Order:
    number: int
    items: list[str]
    more: dict[str, float] | None = None


_HINTS: tuple[Any, ...] = (Any, int, str, bool, float, list[int], dict[str, Any], _Order, bytes)


def check_payload(_: Template, text: str) -> None:
    """JSON is read exactly or refused with a place; what is written is read back."""
    with bounded():
        try:
            data = codec.parse_json(text)
        except UsageError as error:
            if len(error.message) > 500:
                raise WrongResultFound(f"a message of {len(error.message)} characters") from None
            return
        if json.dumps(data) != json.dumps(json.loads(text)):
            raise WrongResultFound(f"{text!r} was read as {data!r}")
        written = codec.encode(data)
        if json.dumps(codec.decode(written)) != json.dumps(data):
            raise WrongResultFound(f"{data!r} was written as {written!r}")
        for hint in _HINTS:
            _check_hint(data, hint)


def _check_hint(data: Any, hint: Any) -> None:
    shape = codec.schema(hint)
    try:
        codec.convert(data, hint)
        fits = True
    except UsageError:
        fits = False
    if shape is None:
        return
    try:
        codec.check(data, shape)
        passes = True
    except UsageError:
        passes = False
    # A process without the user's code may know less, never more.
    if fits and not passes:
        raise WrongResultFound(f"{data!r} fits {hint} and is refused by its schema")


# -- configuration ---------------------------------------------------------------------------------

_SECRET = "secret-token-0815"


def check_configuration(template: Template, case: tuple[str, str, str]) -> None:
    """A file and a variable give settings, or an error with all that is wrong; never the key."""
    text, variable, value = case
    folder = template.place / "configured"
    folder.mkdir(exist_ok=True)
    file = folder / ".belugawf.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with bounded():
        try:
            settings = load_settings(config=file, directory=folder, environ={variable: value})
        except ConfigurationError as error:
            shown = f"{error.message} {error.hint}"
            if f"api_key: {_SECRET}" in text and "api_key" in shown and _SECRET in shown:
                raise WrongResultFound(f"the key is shown: {shown}") from None
            if "\0" in shown or len(shown) > 50_000:
                raise WrongResultFound(f"a message of {len(shown)} characters") from None
            return
    if not isinstance(settings, Settings) or not settings.db.is_absolute():
        raise WrongResultFound(f"{settings!r}")
    if settings.temporal.api_key == _SECRET:
        raise WrongResultFound("a key was taken from the file")


_VARIABLES = st.sampled_from(
    ("BELUGAWF_DB", "BELUGAWF_WORKFLOWS", "BELUGAWF_PROVIDER", "TEMPORAL_TLS", "NOTHING")
)

# -- command lines ---------------------------------------------------------------------------------


def check_command_line(template: Template, case: tuple[list[str], bytes]) -> None:
    """A documented exit code, JSON where it was asked for, nothing that steers a terminal."""
    words, stdin = case
    folder = template.copy()
    try:
        answer = template.run(folder, *words, stdin=stdin)
        talk_only = "--color" in words or {"result", "query", "run"} & set(words)
        shown = answer.err if talk_only else answer.out + answer.err
        painted = "--color" in words
        if not painted and _STEERING.search(shown):
            raise WrongResultFound(f"a control character\n{answer}\n{shown!r}")
        if list(template.place.rglob("pwned")):
            raise WrongResultFound(f"something was executed\n{answer}")
        _check_histories(template, folder)
    finally:
        template.remove(folder)


def check_name(template: Template, name: str) -> None:
    """Any id is taken as it is, or refused; it is found again, and is no path."""
    folder = template.copy()
    try:
        before = {path for path in template.place.rglob("*") if folder not in path.parents}
        started = template.run(folder, "run", "simple", "-d", "--json", f"--id={name}")
        if started.code == 0:
            found = template.run(folder, "status", "--json", "--", name).json
            run_id = started.json["run_id"]
            if (found["workflow_id"], found["run_id"]) != (name, run_id):
                # The name of another run, or a word that means another.
                taken = name in template.histories or name.startswith("@")
                if not taken and found["run_id"] != run_id:
                    raise WrongResultFound(f"{name!r} was found as {found}")
        after = {path for path in template.place.rglob("*") if folder not in path.parents}
        if after != before:
            raise WrongResultFound(f"{name!r} made {after - before}")
        for args in (("status", "--", name), ("list",), ("history", "--full", "--", name)):
            answer = template.run(folder, *args)
            if _STEERING.search(answer.out + answer.err):
                raise WrongResultFound(f"a control character\n{answer.out + answer.err!r}")
    finally:
        template.remove(folder)


def _check_histories(template: Template, folder: Path) -> None:
    """The runs of the template are there, with what was recorded; they may have gone on."""
    now = _events(folder / ".belugawf" / "state.db")
    for run_id, events in template.events.items():
        if now.get(run_id, [])[: len(events)] != events:
            raise WrongResultFound(f"the history of {run_id} is another: {now.get(run_id)}")


def _events(db: Path) -> dict[str, list[Any]]:
    """The rows of all histories by run id, as SQLite itself sees them."""
    found: dict[str, list[Any]] = {}
    with closing(sqlite3.connect(db)) as connection:
        for run_id, *row in connection.execute(
            "SELECT run_id, position, type, time, seq, name, payload, data FROM events_view "
            "ORDER BY run_id, position"
        ):
            found.setdefault(run_id, []).append(row)
    return found


# -- rows edited by hand ---------------------------------------------------------------------------

# Looks, messages and driving: none may fall over what it meets.
_LOOKS: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("status", "asks"),
    ("status", "@latest", "--json"),
    ("waiting",),
    ("list", "--all"),
    ("list", "--json"),
    ("history", "asks-too", "--full"),
    ("history", "done", "--json"),
    ("result", "done"),
    ("query", "asks", "status"),
    ("signal", "approval", "asks", "--payload", "true", "--json"),
    ("cancel", "asks"),
    ("terminate", "stop"),
    ("resume",),
    ("resume", "asks-too", "--json"),
    ("doctor",),
    ("run", "simple", "--id", "new"),
)
_COLUMNS = {
    "runs": [
        "run_id",
        "workflow_id",
        "chain_id",
        "parent_run_id",
        "workflow",
        "status",
        "input",
        "result",
        "error",
        "labels",
        "created_at",
        "closed_at",
        "deadline",
        "due_at",
        "begun",
        "last_sent_at",
    ],
    "events": ["position", "type", "time", "at", "started_at", "seq", "name", "data", "payload"],
    "waits": ["seq", "signal", "since", "until", "prompt", "expected", "schema"],
    "inbox": ["kind", "name", "payload", "sender", "message_key", "sent_at"],
    "owners": ["id", "pid", "host", "boot_id", "since", "socket", "role", "workflows"],
    "live": ["owner", "owned_since", "problem", "progress"],
    "labels": ["name", "value"],
    "heartbeats": ["seq", "details", "at"],
}
_CELLS = st.one_of(
    st.none(),
    st.sampled_from(
        (
            0,
            1,
            -1,
            2,
            10**15,
            10**18,
            1.5,
            b"\xff\xfe",
            "{}",
            "[]",
            "null",
            '"x"',
            "{",
            "1",
            "2026-01-01T00:00:00.000000Z",
            "0001-01-01T00:00:00.000000Z",
            "9999-12-31T23:59:59.999999Z",
            "2026-01-01",
            "running",
            "completed",
            "failed",
            "WorkflowCompleted",
            "ActivityCompleted",
            "SignalReceived",
            "TimerFired",
            '{"type": 5, "message": [1]}',
            '{"code": 1}',
            '{"at": "x"}',
            '{"at": 5}',
            '{"attempt": "x"}',
            '{"max_attempts": "x"}',
            '{"timeout": -1}',
            '{"unknown": 1}',
            "[1]",
            "[[1]]",
            "../..",
            "[" * 2000,
        )
    ),
    texts.any_text,
)


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, str, int, Any]]:
    """Cells to be changed: table, column (or "" to delete the row), which row, the value."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        table = draw(st.sampled_from(("runs", "events", "events", "events", *_COLUMNS)))
        column = draw(st.sampled_from((*_COLUMNS[table], "")))
        made.append((table, column, draw(st.integers(0, 40)), draw(_CELLS)))
    return made


def check_rows(template: Template, case: tuple[list[tuple[str, str, int, Any]], list[int]]) -> None:
    """Rows that somebody has edited by hand: said, never a traceback; the other runs are seen."""
    changes, looks = case
    folder = template.copy(wal=False)
    if looks[0] % 2:
        # What masks answers must not fall over them either.
        (folder / ".belugawf.yaml").write_text('redact: [password, "*t*"]\n')
    try:
        _edit(folder / ".belugawf" / "state.db", changes)
        for look in looks:
            template.run(folder, *_LOOKS[look])
    finally:
        template.remove(folder)


def _edit(db: Path, changes: list[tuple[str, str, int, Any]]) -> None:
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        # Hand-made, with a tool that minds nothing.
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(
            "INSERT OR IGNORE INTO owners VALUES ('o', 1, 'host', 'boot', 1, NULL, 'worker', '[]')"
        )
        for table, column, number, value in changes:
            keys = _keys(connection, table)
            if not keys:
                continue
            where, values = keys[number % len(keys)]
            with_value = () if column == "" else (value,)
            change = f"DELETE FROM {table}" if column == "" else f"UPDATE {table} SET {column} = ?"
            try:
                connection.execute(f"{change} WHERE {where}", (*with_value, *values))
            except (sqlite3.Error, UnicodeEncodeError):
                continue  # not even a hand can write that


_PRIMARY = {
    "events": ("run", "position"),
    "waits": ("run", "seq"),
    "labels": ("name", "value", "run"),
    "heartbeats": ("run", "seq"),
    "owners": ("id",),
}


def _keys(db: sqlite3.Connection, table: str) -> list[tuple[str, tuple[Any, ...]]]:
    columns = _PRIMARY.get(table, ("rowid",))
    where = " AND ".join(f"{column} IS ?" for column in columns)
    return [(where, row) for row in db.execute(f"SELECT {', '.join(columns)} FROM {table}")]


# -- damaged files ---------------------------------------------------------------------------------


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, str, int, int]]:
    """What becomes of the files: which, truncated / flipped / overwritten, where, with what."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(("state.db", "state.db-wal")))
        how = draw(st.sampled_from(("truncate", "flip", "flip", "zeros", "noise", "header")))
        made.append((name, how, draw(st.integers(0, 10**6)), draw(st.integers(0, 255))))
    return made


def check_files(
    template: Template, case: tuple[list[tuple[str, str, int, int]], list[int]]
) -> None:
    """A damaged file is said to be one, or what it still gives is what was written."""
    changes, looks = case
    folder = template.copy()
    try:
        for name, how, place, byte in changes:
            _damage(folder / ".belugawf" / name, how, place, byte)
        for look in looks:
            template.run(folder, *_LOOKS[look])
    finally:
        template.remove(folder)


def check_log(template: Template, case: tuple[str, int, int]) -> None:
    """SQLite's log has checksums: whatever is done to it, each history is a beginning of itself."""
    how, place, byte = case
    folder = template.copy()
    try:
        _damage(folder / ".belugawf" / "state.db-wal", how, place, byte)
        listed = template.run(folder, "list", "--all", "--json")
        if listed.code != 0:
            return
        for info in listed.json:
            events = template.histories.get(info["workflow_id"])
            found = template.run(folder, "history", info["run_id"], "--json").json
            if events is None or found != events[: len(found)]:
                raise WrongResultFound(f"{info['workflow_id']} has another history: {found}")
            if info["history_length"] != len(found):
                raise WrongResultFound(f"{info} does not agree with its history of {len(found)}")
    finally:
        template.remove(folder)


def _damage(path: Path, how: str, place: int, byte: int) -> None:
    content = bytearray(path.read_bytes())
    if how == "header":
        place %= 100
    if not content:
        return
    place %= len(content)
    if how == "truncate":
        content = content[:place]
    elif how in ("flip", "header"):
        content[place] ^= 1 << byte % 8
    else:
        size = min(4096, len(content) - place)
        content[place : place + size] = bytes([byte if how == "noise" else 0] * size)
    path.write_bytes(content)


_SOME_LOOKS = st.lists(st.integers(0, len(_LOOKS) - 1), min_size=2, max_size=4, unique=True)

KINDS = (
    Kind("payloads", texts.json_texts(), check_payload, share=6),
    Kind(
        "configuration",
        st.tuples(texts.yaml_texts(), _VARIABLES, texts.any_text),
        check_configuration,
        share=6,
    ),
    Kind(
        "command lines",
        st.tuples(texts.command_lines(), st.sampled_from((b"", b"\xff\xfe", b'{"a": 1}', b"{"))),
        check_command_line,
        share=3,
    ),
    Kind("names", texts.argument, check_name, share=2),
    Kind("rows", st.tuples(edits(), _SOME_LOOKS), check_rows, share=4),
    Kind("files", st.tuples(damages(), _SOME_LOOKS), check_files, share=3),
    Kind(
        "logs",
        st.tuples(
            st.sampled_from(("truncate", "flip", "zeros", "noise", "header")),
            st.integers(0, 10**6),
            st.integers(0, 255),
        ),
        check_log,
        share=2,
    ),
)

__all__ = ["KINDS", "BelugaError", "Kind", "Template", "TracebackFound"]
