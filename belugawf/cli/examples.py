"""What `--help` shows below the flags: examples, and where the guide says more."""

from __future__ import annotations

# Of each command: what to type, and the section of docs/guide.md.
EXAMPLES: dict[str, tuple[tuple[str, ...], str]] = {
    "run": (
        (
            "belugawf run research -i 'Q4 revenue' --id q4",
            "belugawf run shop -a item=pen -a amount=3 --wait",
            "belugawf run nightly_report --id nightly --if-exists skip --detach",
        ),
        "writing-workflows",
    ),
    "rerun": (
        ("belugawf rerun q4", "belugawf rerun order-1 -a amount=4 --id order-1-corrected"),
        "starting-a-run-anew",
    ),
    "resume": (
        ("belugawf resume", "belugawf resume q4", "belugawf resume --max-time 5m"),
        "cron",
    ),
    "signal": (
        (
            "belugawf signal approval --payload true",
            "belugawf signal approval q4 --text 'looks good' --by ada",
            "belugawf signal payment order-1 --payload true --key webhook-17",
        ),
        "signals",
    ),
    "status": (("belugawf status", "belugawf status q4"), "time-after-an-outage"),
    "waiting": (("belugawf waiting", "belugawf waiting --json"), "signals"),
    "query": (
        ("belugawf query order-1 total", "belugawf query order-1 price --args '[\"pen\", 3]'"),
        "writing-workflows",
    ),
    "list": (
        (
            "belugawf list --status failed --since 1d",
            "belugawf list --state parked",
            "belugawf list --workflow research --label team=red --all",
        ),
        "many-runs-and-old-ones",
    ),
    "history": (
        ("belugawf history q4", "belugawf history q4 --full", "belugawf history q4 --follow"),
        "determinism",
    ),
    "logs": (
        (
            "belugawf logs q4",
            "belugawf logs q4 --activity research --level warning",
            "belugawf logs q4 --follow",
        ),
        "logs",
    ),
    "result": (
        ("belugawf result q4 > report.md", "belugawf result q4 --max-wait 1h"),
        "exit-codes",
    ),
    "wait": (
        ("belugawf wait q4 --max-wait 1h", "belugawf wait q4 --for signal:approval"),
        "exit-codes",
    ),
    "retry": (
        ("belugawf retry order-1", "belugawf retry order-1 --from 12 --reason 'bank is back'"),
        "failed-runs",
    ),
    "cancel": (
        (
            "belugawf cancel q4 --reason 'wrong quarter'",
            "belugawf cancel --workflow research --label team=red --dry-run",
        ),
        "cancellation-and-cleanup",
    ),
    "terminate": (
        ("belugawf terminate q4 q5 --yes", "belugawf terminate --state parked --yes"),
        "cancellation-and-cleanup",
    ),
    "prune": (
        ("belugawf prune --older-than 30d", "belugawf prune --older-than 7d --dry-run"),
        "many-runs-and-old-ones",
    ),
    "worker": (("belugawf worker", "belugawf worker --concurrency 20 --grace 10m"), "systemd"),
    "workflows": (("belugawf workflows", "belugawf --workflows flows workflows"), "determinism"),
    "init": (("belugawf init", "belugawf init reports"), "writing-workflows"),
    "doctor": (("belugawf doctor", "belugawf --db other.db doctor"), "limits"),
}
GUIDE = "docs/guide.md"

FIRST_STEPS = f"""\b
First steps:
  belugawf init
  belugawf run greeting -i Ada
  belugawf status

\b
More:
  belugawf COMMAND --help
  {GUIDE}"""

# What people type who know other tools, or look for what has another name here.
MEANT = {
    **dict.fromkeys(("start", "exec", "execute", "launch"), "belugawf run WORKFLOW"),
    **dict.fromkeys(("continue", "drive", "tick"), "belugawf resume"),
    **dict.fromkeys(("serve", "daemon", "work"), "belugawf worker"),
    **dict.fromkeys(("ls", "ps", "runs"), "belugawf list"),
    **dict.fromkeys(("show", "info", "describe", "inspect", "get"), "belugawf status RUN"),
    **dict.fromkeys(("log", "tail"), "belugawf logs RUN --follow"),
    **dict.fromkeys(("events",), "belugawf history RUN --follow"),
    **dict.fromkeys(("output", "return"), "belugawf result RUN"),
    **dict.fromkeys(("questions", "inbox", "pending"), "belugawf waiting"),
    **dict.fromkeys(
        ("approve", "reject", "answer", "send", "reply"),
        "belugawf waiting, which shows each question with the command that answers it",
    ),
    **dict.fromkeys(("stop", "abort"), "belugawf cancel RUN"),
    **dict.fromkeys(("kill",), "belugawf terminate RUN"),
    **dict.fromkeys(("rm", "delete", "remove", "clean", "purge", "gc"), "belugawf prune"),
    **dict.fromkeys(("check", "health", "validate"), "belugawf doctor"),
    **dict.fromkeys(("new", "create"), "belugawf init"),
    **dict.fromkeys(
        ("restart", "replay", "reset", "reopen", "repeat"),
        "belugawf retry RUN, which goes on where it failed; belugawf rerun RUN starts anew",
    ),
}


def epilog(command: str) -> str:
    """The examples of a command, as click takes them."""
    examples, section = EXAMPLES[command]
    lines = "\n".join(f"  {example}" for example in examples)
    return f"\b\nExamples:\n{lines}\n\n\b\nMore:\n  {GUIDE}#{section}"
