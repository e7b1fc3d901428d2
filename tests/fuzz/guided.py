"""Fuzzing guided by coverage, of what reads texts: `python -m tests.fuzz.guided TARGET [FLAGS]`.

It needs atheris (`pip install atheris`), whose libFuzzer changes bytes for as long as it is let,
and keeps those that reach code which was not reached before. `-max_total_time=60` ends it after a
minute; the bytes of a failure are in a file `crash-...`, and naming that file repeats it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["belugawf"]):
    from belugawf.model import events as e
    from belugawf.model.durations import format_duration, parse_duration
    from belugawf.model.errors import DurationError
    from belugawf.model.redaction import MASK, Redaction
    from belugawf.model.soundness import UNREADABLE, check_history
    from tests.fuzz import kinds
    from tests.histories.rows import recorded

from tests.fuzz.commands import WrongResultFound

SECRET = "correct-horse"
MAX_BYTES = 4_096
ROOT = Path(__file__).parents[2]
_STARTED = e.WorkflowStarted(
    position=1, time=0, name="w", payload="{}", workflow_id="w", run_id="r", belugawf="0"
)


def payload(text: str) -> None:
    """JSON is read exactly, or refused."""
    kinds.check_payload(_TEMPLATE, text)


def configuration(text: str) -> None:
    """A file gives settings, or an error with all that is wrong."""
    kinds.check_configuration(_TEMPLATE, (text, "NOTHING", ""))


def duration(text: str) -> None:
    """A duration is told in the words that it is read from."""
    try:
        read = parse_duration(text)
    except DurationError:
        return
    if parse_duration(format_duration(read)) != read:
        raise WrongResultFound(f"{text!r} was written as {format_duration(read)!r}")


def row(text: str) -> None:
    """A row that a hand has edited is an event, or said to be unreadable."""
    try:
        cells = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(cells, list) or len(cells) != 9:
        return
    with contextlib.suppress(*UNREADABLE):
        event = e.from_row((2, *cells[1:]))
        check_history([_STARTED, event])
        if e.from_row(e.to_row(event)) != event:
            raise WrongResultFound(f"{event} is written as {e.to_row(event)}")


def masked(text: str) -> None:
    """A secret that was met comes through no text, and what is masked stays JSON."""
    redaction = Redaction(["password", "*token*"])
    redaction.learn({"password": SECRET})
    if SECRET in redaction.text(text + SECRET + text):
        raise WrongResultFound(f"the secret came through beside {text!r}")
    data = {"a": text, "my_token": text}
    if json.loads(redaction.json_text(json.dumps(data)))["my_token"] != MASK:
        raise WrongResultFound(f"{text!r} came through")


TARGETS: dict[str, Callable[[str], None]] = {
    target.__name__: target for target in (payload, configuration, duration, row, masked)
}


def _seeds(target: str) -> list[str]:
    """What the fuzzer begins with: texts as they should be."""
    if target == "configuration":
        return [(ROOT / ".belugawf.yaml.example").read_text()[: MAX_BYTES - 1]]
    rows = [
        cells
        for path in sorted((ROOT / "tests" / "histories" / "recorded").glob("*.json"))
        for cells in recorded(path)
    ]
    if target == "row":
        return [json.dumps(cells) for cells in {cells[1]: cells for cells in rows}.values()]
    if target == "payload":
        return sorted({cells[-1] for cells in rows if cells[-1]})
    return ["1d 2h 30m 5.5s", "token: x, {'password': 'y'}"]


def main() -> None:
    """Fuzz the target that is named first; what follows is libFuzzer's."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.guided {{{','.join(TARGETS)}}} [libFuzzer's flags]")
    target = TARGETS[sys.argv[1]]

    def one(data: bytes) -> None:
        target(data.decode("utf-8", "surrogateescape"))

    corpus = _TEMPLATE.place / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(_seeds(sys.argv[1])):
        (corpus / str(number)).write_bytes(seed.encode("utf-8", "surrogateescape"))
    # A hang is 10 s, and what one text may cost is bounded too.
    flags = ["-timeout=10", "-rss_limit_mb=512", f"-max_len={MAX_BYTES}", *sys.argv[2:]]
    named = any(not word.startswith("-") for word in flags)
    atheris.Setup([sys.argv[0], *flags, *([] if named else [str(corpus)])], one)
    atheris.Fuzz()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="belugawf-guided-") as place:
        _TEMPLATE = kinds.Template(Path(place))
        main()
