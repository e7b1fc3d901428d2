"""What must hold when all processes are gone: each run at its right end, nothing twice or lost."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from belugawf.authoring.loader import Catalog
from belugawf.model import events as e
from belugawf.model.history import is_recorded_command
from belugawf.replay.replayer import Replayer
from tests.kills.cast import WORKFLOWS, Errand, Part
from tests.kills.processes import DB, WITNESSED
from tests.powercut.checks import Corrupt, Row, Snapshot, check_consistent, read_snapshot


@dataclass
class Verdict:
    """What was found: `repeated` and `lost` by their kind, anything else in `wrong`."""

    executions: int = 0
    repeated: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def complaints(self) -> list[str]:
        """All of them."""
        return [*self.repeated, *self.lost, *self.wrong]


def look(root: Path) -> Snapshot:
    """What the database holds, read by SQLite."""
    connection = sqlite3.connect(f"file:{root / DB}?mode=ro", uri=True, timeout=30)
    try:
        return read_snapshot(connection)
    finally:
        connection.close()


def unended(root: Path) -> list[str]:
    """The workflow ids of the open runs."""
    if not (root / DB).exists():
        return ["there is no database yet"]
    connection = sqlite3.connect(f"file:{root / DB}?mode=ro", uri=True, timeout=30)
    try:
        rows = connection.execute("SELECT workflow_id FROM runs WHERE status = 'running'")
        return [name for (name,) in rows]
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return ["the database is being made"]
    finally:
        connection.close()


def judge(
    root: Path, parts: Sequence[Part], acknowledged: Iterable[tuple[Part, Errand]]
) -> Verdict:
    """Look at everything that is left."""
    verdict = Verdict()
    snapshot = look(root)
    try:
        check_consistent(snapshot)
    except Corrupt as error:
        verdict.wrong.append(str(error))
        return verdict
    catalog = Catalog.from_functions(WORKFLOWS)
    for part, errand in acknowledged:
        _check_kept(snapshot, part, errand, verdict)
    for part in parts:
        _check_end(snapshot, part, verdict)
    for run_id, history in snapshot.histories.items():
        error = replay_error(catalog, history)
        if error is not None:
            verdict.wrong.append(f"{run_id} cannot be replayed: {error}")
    _check_attempts(root, snapshot, verdict)
    return verdict


def kept(root: Path, acknowledged: Iterable[tuple[Part, Errand]]) -> Verdict:
    """Only whether what was acknowledged is there, read or unread."""
    verdict, snapshot = Verdict(), look(root)
    for part, errand in acknowledged:
        _check_kept(snapshot, part, errand, verdict)
    return verdict


def _check_kept(snapshot: Snapshot, part: Part, errand: Errand, verdict: Verdict) -> None:
    row = snapshot.latest(part.run)
    if row is None:
        verdict.lost.append(f"{part.run}: its start was acknowledged, and it is not there")
        return
    history = snapshot.histories[row["run_id"]]
    if errand.kind == "signal":
        messages = [m for m in snapshot.tables["inbox"] if m["run"] == row["key"]]
        received = [
            (name, payload)
            for name, payload in (
                *((x.name, x.payload) for x in history if isinstance(x, e.SignalReceived)),
                *((m["name"], m["payload"]) for m in messages),
            )
            if (name, payload) == (errand.name, errand.payload)
        ]
        if not received:
            verdict.lost.append(f"{part.run}: an acknowledged signal is lost: {errand.args}")
        elif len(received) > 1:
            verdict.wrong.append(f"{part.run}: a signal was delivered twice: {errand.args}")
        return
    requests = [x for x in history if isinstance(x, e.CancelRequested)]
    unread = [
        m for m in snapshot.tables["inbox"] if (m["run"], m["kind"]) == (row["key"], "cancel")
    ]
    if errand.kind == "cancel" and not (requests or unread):
        verdict.lost.append(f"{part.run}: an acknowledged cancel is lost")


def _check_end(snapshot: Snapshot, part: Part, verdict: Verdict) -> None:
    rows = [row for row in snapshot.tables["runs"] if row["workflow_id"] == part.run]
    if len(rows) != 1:
        verdict.wrong.append(f"{part.run}: {len(rows)} runs")
        return
    row: Row = rows[0]
    if row["status"] != part.status:
        verdict.wrong.append(f"{part.run}: {row['status']}, and not {part.status}: {row['error']}")
    elif part.result is not None and json.loads(row["result"]) != json.loads(part.result):
        verdict.wrong.append(f"{part.run}: {row['result']}, and not {part.result}")


def replay_error(catalog: Catalog, history: list[e.Event]) -> Exception | None:
    """Why the code does not ask for what is recorded; `None` where it does."""
    started = history[0]
    assert isinstance(started, e.WorkflowStarted)
    if not any(map(is_recorded_command, history)):
        return None  # it was ended from outside before its code ever ran
    replayer = Replayer(catalog.workflow(started.name), started)
    try:
        replayer.replay(history)
    except Exception as error:
        return error
    finally:
        replayer.evict()
    return None


def _check_attempts(root: Path, snapshot: Snapshot, verdict: Verdict) -> None:
    """No attempt began that must not, none ran twice, and what is completed did run."""
    ran: Counter[tuple[str, int, int]] = Counter()
    for line in (root / WITNESSED).read_text().splitlines():
        word, run_id, seq, attempt, rest = line.split("\t")
        if word == "ran":
            ran[run_id, int(seq), int(attempt)] += 1
        elif word == "began" and rest == "its end was recorded":
            verdict.repeated.append(f"{run_id}: activity {seq} began, and {rest}")
        elif word == "began" and rest != "rightly":
            verdict.wrong.append(f"{run_id}: activity {seq}, attempt {attempt} began, and {rest}")
    verdict.executions = ran.total()
    for (run_id, seq, attempt), times in ran.items():
        if times > 1:
            verdict.wrong.append(f"{run_id}: attempt {attempt} of {seq} ran {times} times")
    attempts: Counter[tuple[str, int]] = Counter()
    for run_id, seq, _ in ran:
        attempts[run_id, seq] += 1
    for run_id, history in snapshot.histories.items():
        for event in history:
            if isinstance(event, e.ActivityCompleted) and not attempts[run_id, event.seq]:
                verdict.wrong.append(f"{run_id}: activity {event.seq} is completed and never ran")
            if isinstance(event, e.ActivityScheduled) and event.at_most_once:
                times = attempts[run_id, event.seq]
                if times > 1:
                    verdict.repeated.append(f"{run_id}: at most once, and ran {times} times")
