"""Screens of any width: every command that prints loses no character, and breaks no word.

What users named is looked for in what is printed, with all blanks left out on both sides; and each
word of it must stand in one line, as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from belugawf.cli import layout
from belugawf.cli.app import COMMANDS as APP_COMMANDS
from belugawf.cli.layout import cells, fit, labelled, lay_out, stacked, wrap
from belugawf.cli.live import _most_interesting
from belugawf.executor import ActivityState, Problem, Waiting
from belugawf.model import events as ev
from belugawf.model.errors import BusyError, Failure
from tests.cli.conftest import Cli
from tests.cli.fake import START, FakeExecutor, run_info, signal_wait, soon

WIDTHS = [40, 60, 80, 100, 160]
ID = "quarterly-report-2026-q4-emea-000017"
WIDE_ID = "四半期報告書-2026年第4四半期-東京"
ENDLESS_ID = "x" * 150
PROMPT = "Shall the report on 'Q4 revenue analysis' be written, and 東京 be told of it in time?"
ERROR = "the warehouse hung up while it was asked for the figures of the third quarter"
HINT = "put the old code back, or start a new run with the code as it is now"
SIGNAL = "approval-of-the-quarterly-report"
ACTIVITY = "fetch_the_figures_of_the_quarter"
LABEL = "department-of-controlling"


def runs() -> list[Any]:
    """Runs with all that can be shown of one."""
    wait = signal_wait(SIGNAL, prompt=PROMPT, expected="bool", until=soon(90_000))
    retry = Waiting(
        kind="activity",
        name=ACTIVITY,
        since=START,
        until=soon(125),
        attempt=2,
        max_attempts=5,
        state="retrying",
        error=ERROR,
        id="order-17",
    )
    problem = Problem(code="nondeterminism", message=ERROR, hint=HINT)
    failure = Failure(type="ConnectionError", message=ERROR, activity=ACTIVITY)
    return [
        run_info(ID, waiting_for=(wait, retry), labels={LABEL: "red"}, progress="3 of 7"),
        run_info(WIDE_ID, waiting_for=(wait,), problem=problem),
        run_info(ENDLESS_ID, status="failed", error=failure),
        run_info("short", status="completed", result=PROMPT),
    ]


def history() -> list[ev.Event]:
    return [
        ev.WorkflowStarted(
            position=1,
            time=START,
            name="research",
            workflow_id=ID,
            run_id="r",
            payload='{"topic":"Q4"}',
        ),
        ev.ActivityScheduled(
            position=2, time=START, seq=1, name=ACTIVITY, activity_id="order-17", payload="[]"
        ),
        ev.SignalReceived(
            position=3, time=START, at=START, name=SIGNAL, sender="ada", payload=f'"{PROMPT}"'
        ),
        ev.CancelRequested(position=4, time=START, at=START, reason=ERROR, sender="grace"),
    ]


# Each command, and what users named that must be in it.
COMMANDS: dict[tuple[str, ...], list[str]] = {
    ("list",): [ID, WIDE_ID, ENDLESS_ID, SIGNAL, ACTIVITY, "ConnectionError", "nondeterminism"],
    ("list", "-v"): [f"run-of-{ID}", f"run-of-{ENDLESS_ID}"],
    ("status",): [ID, WIDE_ID, SIGNAL, PROMPT, ERROR, HINT],
    ("status", ID): [ID, SIGNAL, PROMPT, f"{ACTIVITY} (order-17)", ERROR, f"{LABEL}=red", "3 of 7"],
    ("status", WIDE_ID): [WIDE_ID, ERROR, HINT, SIGNAL],
    ("status", ENDLESS_ID): [ENDLESS_ID, ERROR, ACTIVITY],
    ("status", "short"): ["short", PROMPT],
    ("waiting",): [ID, WIDE_ID, SIGNAL, PROMPT],
    ("history", ID): [f"{ACTIVITY} (order-17)", SIGNAL, "ada", ERROR, "grace"],
    ("history", ID, "--full"): [PROMPT, '{"topic":"Q4"}'],
    ("workflows",): ["research", "topic: str", "What research does."],
    ("resume", "--dry-run"): [ID, WIDE_ID, SIGNAL],
    ("resume", ID): [ID, SIGNAL, PROMPT, ERROR],
    ("result", ENDLESS_ID): [ENDLESS_ID, ERROR, ACTIVITY],
    ("wait", ID, "--for", "waiting"): [ID, SIGNAL],
    ("result", ID): [ID, SIGNAL],
    ("status", f"no-{ID}"): [f"no-{ID}"],
    ("signal", SIGNAL, "--payload", "true"): [ID, WIDE_ID],
    ("signal", SIGNAL, ID): [PROMPT, SIGNAL],
    ("signal", f"no-{SIGNAL}", ID, "--payload", "1"): [f"no-{SIGNAL}", ID, SIGNAL],
    ("cancel", ID, "--reason", "x"): [ID],
    ("terminate", ID): [ID],
    ("run", "-i", PROMPT, "--id", ID, "--if-exists", "skip"): [ID],
}


def packed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_is_lost_or_broken(  # FINDINGS L1, L14
    cli: Cli,
    terminal: Any,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    width: int,
) -> None:
    """What users named is there, each word in one line; no line is too wide but for such a word."""
    cli.executor = FakeExecutor(*runs())
    cli.executor.events[f"run-of-{ID}"] = history()
    cli.executor.due = [f"run-of-{ID}", f"run-of-{WIDE_ID}"]
    terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("belugawf.cli.streams.Streams.talk_is_terminal", lambda self: True)
    monkeypatch.setattr("belugawf.cli.live.LiveView", NoView)
    done = cli(*command)
    shown = done.out + done.err
    lines = shown.splitlines()
    for text in COMMANDS[command]:
        assert packed(text) in packed(shown), text
        for word in text.split(" "):
            assert any(word in line for line in lines), word
    for line in lines:
        whole = line.strip()
        is_one_word = " " not in whole.removeprefix("error: ")
        assert cells(line) <= width or is_one_word or layout._COMMAND.match(whole), line


@pytest.mark.parametrize("width", WIDTHS)
def test_help_fits(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Of every command: each word of it, and no line that is too wide but for an example."""
    for command in (None, *APP_COMMANDS):
        arguments = ["--help"] if command is None else [command, "--help"]
        monkeypatch.setenv("COLUMNS", str(width))
        lines = cli(*arguments).out.splitlines()
        monkeypatch.setenv("COLUMNS", "80")
        assert " ".join(lines).split() == cli(*arguments).out.split()
        for line in lines:
            one_word = " " not in line.strip()
            assert cells(line) <= width or one_word or line.strip().startswith("belugawf "), line


class NoView:
    """The live view has a terminal of its own in tests/cli/test_process.py."""

    def __init__(self, *_: object) -> None: ...

    async def add(self, runs: Sequence[str], *, new: bool = False) -> None: ...

    async def refresh(self, *, last: bool) -> None: ...

    def close(self) -> None: ...


def test_errors_are_wrapped_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be done is said in whole words, with the command in one piece."""
    hint = f"{HINT}: belugawf status {ID} --json"
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("belugawf.cli.streams.Streams.talk_is_terminal", lambda self: True)
    cli.executor.error = BusyError(ERROR, hint=hint)
    lines = cli("status").err.splitlines()
    assert lines[-1].strip() == f"belugawf status {ID} --json"
    assert all(cells(line) <= 40 for line in lines[:-1])
    assert " ".join(" ".join(lines).split()) == f"error: {ERROR} hint: {hint}"


# -- the layout itself ---------------------------------------------------------------------------

WORDS = st.text(st.sampled_from("abcé東京. -"), max_size=80)


@given(WORDS, st.integers(4, 60))
def test_wrapping_loses_nothing(text: str, width: int) -> None:
    """The lines are the text; only a word that is too wide by itself makes a line too wide."""
    lines = wrap(text, width)
    assert packed("".join(lines)) == packed(text)
    assert [word for line in lines for word in line.split()] == text.split()
    for line in lines:
        assert cells(line) <= width or len(line.split()) == 1
    indented = fit(text, width, indent=3)
    assert indented.split() == text.split()


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4), st.sampled_from(WIDTHS))
def test_tables_lose_nothing(rows: list[tuple[str, str, str]], width: int) -> None:
    """Beside each other if they fit, else below: each cell is there, and no line is too wide."""
    headers = ("ID", "NOTE", "WHERE")
    lines = lay_out(headers, rows, width, prose=1)
    if lines is None:
        for row in rows:
            words = Counter(stacked(headers, row, width).split())
            assert not Counter(" ".join(row).split()) - words
        return
    for line in lines:
        assert cells("  ".join(line)) <= width
    for number in range(3):
        column = " ".join(cell[number] for cell in lines)
        assert column.split() == " ".join([headers[number], *(row[number] for row in rows)]).split()


@given(WORDS, st.integers(0, 12), st.sampled_from(WIDTHS))
def test_values_stand_beside_or_below(value: str, label: int, width: int) -> None:
    """A value beside its label has no word that breaks there; a command is never broken."""
    text = f"{value.strip()}: belugawf status {'r' * 50}"
    shown = labelled("l" * label, "l" * label, text, width)
    assert shown.split() == [*(["l" * label] if label else []), *text.split()]
    assert any(line.endswith(f"belugawf status {'r' * 50}") for line in shown.splitlines())


# -- many activities -----------------------------------------------------------------------------


def activity(seq: int, state: str, name: str = "load") -> ActivityState:
    return ActivityState(
        seq=seq,
        activity_id=f"order-{seq}",
        name=name,
        state=state,
        attempt=1,
        max_attempts=1,
        since=START,
    )


def test_more_activities_than_lines_are_counted() -> None:  # FINDINGS L8
    """By name and state; open ones are drawn, and failed ones if there is room."""
    states = ["failed"] * 6 + ["completed"] * 194 + ["running"] * 3
    activities = [activity(seq, state) for seq, state in enumerate(states, 1)]
    shown, counted = _most_interesting(activities, 8)
    assert [a.state for a in shown] == ["failed"] * 4 + ["running"] * 3
    assert counted == {"load": Counter(states)}
    many = [activity(seq, "completed", name=f"name-{seq}") for seq in range(1, 301)]
    shown, counted = _most_interesting(many, 10)
    assert (shown, len(counted)) == ([], 5)
    assert sum(counts.total() for counts in counted.values()) == 300
    assert _most_interesting(activities[:5], 5) == (activities[:5], {})


def test_ids_of_activities_are_shown(cli: Cli, terminal: Any) -> None:  # FINDINGS L8
    """In status, history and what is said at the end; beyond a screenful they are counted."""
    waits = tuple(
        Waiting(kind="activity", name="load", since=START, state="running", id=f"order-{n}")
        for n in range(200)
    )
    cli.executor = FakeExecutor(
        run_info("few", waiting_for=waits[:3]), run_info("many", waiting_for=waits)
    )
    assert cli("status", "few").out.count("activity load (order-") == 3
    assert cli("status", "many").out.count("activity load (order-") == 200
    assert len(cli("status", "many", "--json").json["waiting_for"]) == 200
    terminal()
    shown = cli("status", "many").out
    assert shown.count("activity load (order-") == 10
    assert "activities of load: 190 more running" in shown
    assert "200 x load" in cli("list").out
    assert cli("resume", "many").err.count("\n") <= 12
