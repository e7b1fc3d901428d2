"""What is run while processes die: the examples of `workflows/`, and two workflows of our own.

A part says how its run is started, what callers send to it, and how it must end.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.kills.forks import KINDS, forks
from tests.kills.ledger import ledger
from workflows.greeting import greeting
from workflows.nightly_report import nightly_report
from workflows.onboarding import onboarding
from workflows.research import report, research, research_report

# The same functions as in the copies that are run, for the replay of what these have recorded.
WORKFLOWS = (greeting, nightly_report, onboarding, research_report, ledger, forks)
EXAMPLES = Path(__file__).parents[2] / "workflows"

ENTRIES = 3


@dataclass(frozen=True)
class Errand:
    """What a caller wants to hear acknowledged: the arguments of a command, and its kind."""

    kind: str
    args: tuple[str, ...]
    name: str | None = None
    payload: str | None = None


@dataclass(frozen=True)
class Part:
    """One run: its start, its messages, and its right end (`result` as JSON).

    Whoever dies at some moment does so until `latest_moment_s`, while there is something to do.
    """

    run: str
    start: Errand
    messages: tuple[Errand, ...]
    status: str
    result: str | None
    latest_moment_s: float = 0.15


def write_modules(folder: Path) -> None:
    """Put copies of all workflow modules into a new folder; they rest for less long."""
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    research = folder / "research.py"
    text = research.read_text()
    assert text.count("time.sleep(0.5)") == 1
    research.write_text(text.replace("time.sleep(0.5)", "time.sleep(0.01)"))
    for name in ("ledger.py", "forks.py"):
        shutil.copy(Path(__file__).with_name(name), folder)


def _start(workflow: str, run: str, *arguments: str) -> Errand:
    return Errand("start", ("run", workflow, "--id", run, "--if-exists", "skip", *arguments))


def _signal(run: str, name: str, payload: str) -> Errand:
    key = f"{run}-{name}-{payload}"
    return Errand(
        "signal", ("signal", name, run, "--payload", payload, "--key", key), name, payload
    )


def _greeting(run: str) -> Part:
    return Part(run, _start("greeting", run, "-i", "Ada"), (), "completed", '"Hello, Ada!"')


def _nightly_report(run: str) -> Part:
    start = _start("nightly_report", run, "-a", "pause=0.2s", "-a", "retry_delay=0.02s")
    figures = {
        source: 1000 + hashlib.sha256(source.encode()).digest()[0]
        for source in ("shop", "warehouse", "partner")
    }
    lines = [f"{source}: {figure}" for source, figure in figures.items()]
    lines.append(f"total: {sum(figures.values())}")
    lines.append("missing: archive (the archive is switched off)")
    return Part(run, start, (), "completed", json.dumps("\n".join(lines)))


def _onboarding(run: str, *arguments: str) -> Errand:
    return _start("onboarding", run, "-a", "person=Ada", *arguments)


def _answered(run: str) -> Part:
    messages = (_signal(run, "contract", '"signed"'), _signal(run, "laptop", '"silver"'))
    result = '"Ada is on board: ada@example.org, laptop-silver-for-ada."'
    return Part(run, _onboarding(run), messages, "completed", result)


def _unanswered(run: str) -> Part:
    start = _onboarding(run, "-a", "remind_every=0.1s", "-a", "reminders=1")
    return Part(run, start, (), "completed", '"Ada did not answer; the account is closed."')


def _called_off(run: str) -> Part:
    return Part(run, _onboarding(run), (Errand("cancel", ("cancel", run)),), "cancelled", None)


def _approved(run: str) -> Part:
    text = report(research("Q4"))
    messages = (_signal(run, "approval", "true"),)
    return Part(run, _start("research", run, "-i", "Q4"), messages, "completed", json.dumps(text))


def _rejected(run: str) -> Part:
    messages = (_signal(run, "approval", "false"),)
    result = '"Workflow rejected by reviewer."'
    return Part(run, _start("research", run, "-i", "Q4"), messages, "completed", result)


def _ledger(run: str) -> Part:
    messages = tuple(_signal(run, "entry", str(number)) for number in range(ENTRIES))
    start = _start("ledger", run, "-i", str(ENTRIES))
    return Part(run, start, messages, "completed", json.dumps([*range(ENTRIES)]))


def _forks(kind: str) -> Callable[[str], Part]:
    def part(run: str) -> Part:
        start = _start("forks", run, "-i", kind)
        # An interpreter has to start before the activity can fork.
        return Part(run, start, (), "completed", json.dumps(kind), latest_moment_s=1.0)

    return part


CAST: dict[str, Callable[[str], Part]] = {
    "greeting": _greeting,
    "nightly_report": _nightly_report,
    "onboarding-answered": _answered,
    "onboarding-unanswered": _unanswered,
    "onboarding-cancelled": _called_off,
    "research-approved": _approved,
    "research-rejected": _rejected,
    "ledger": _ledger,
    **{f"forks-{kind}": _forks(kind) for kind in KINDS},
}
