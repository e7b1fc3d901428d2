"""Many real kills: `python -m tests.kills --kills 2000 [--seed N]`.

Every example of `workflows/`, with 1, 2 and 4 processes on its file, each killed at one step after
the other. A failure is printed with the command that repeats it; the last line sums up, and the
exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.kills.campaign import PATIENCE_S, Campaign, Case, Report, play
from tests.kills.cast import CAST, write_modules
from tests.kills.mutants import MUTANTS

TELL_EVERY_S = 30.0
REPETITIONS = 20


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--seed", help="else by chance, and printed")
    parser.add_argument("--example", choices=tuple(CAST), help="only this one")
    parser.add_argument("--processes", type=int, help="only with so many")
    parser.add_argument("--point", type=int, help="only this step: repeat one case")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds for a case")
    parser.add_argument("--mutant", choices=tuple(MUTANTS), help="break belugawf first")
    given = parser.parse_args()
    seed = given.seed or str(random.SystemRandom().randrange(2**31))
    prepare = MUTANTS[given.mutant] if given.mutant else lambda: None
    print(f"seed {seed}", flush=True)
    campaign = Campaign(
        seed,
        [given.example] if given.example else tuple(CAST),
        [given.processes] if given.processes else (1, 2, 4),
    )
    cases = campaign.next_cases()
    if given.point:
        cases = iter([Case(given.example, given.processes, given.point, seed)] * REPETITIONS)
    total, began = Report(), time.monotonic()
    told = began
    with tempfile.TemporaryDirectory(prefix="belugawf-kills-") as folder:
        modules = Path(folder) / "workflows"
        write_modules(modules)
        for number, case in enumerate(cases):
            report = play(
                case,
                modules,
                Path(folder) / str(number),
                prepare=prepare,
                patience_s=given.patience,
            )
            campaign.played(case, report)
            total.add(report)
            for failed, reason in report.failures:
                print(f"{reason}\n  again: {failed.command()}", flush=True)
            now = time.monotonic()
            if now - told > TELL_EVERY_S:
                told = now
                print(f"{now - began:.0f} s, {campaign.sweeps} sweeps: {total}", flush=True)
            if total.kills >= given.kills or now - began > given.seconds or total.failures:
                break
    print(f"{time.monotonic() - began:.0f} s, {campaign.sweeps} sweeps to their end: {total}")
    return bool(total.failures)


if __name__ == "__main__":
    sys.exit(main())
