"""A crowd on one file: `python -m tests.crowd --minutes 10 [--processes 16] [--seed N]`.

Prints what was wrong, and a line that sums up; the exit code is 1 if anything was.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.crowd.scene import Crowd
from tests.kills.mutants import MUTANTS


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.crowd", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--seed", type=int, help="else by chance, and printed")
    parser.add_argument("--mutant", choices=tuple(MUTANTS), help="break belugawf first")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    prepare = MUTANTS[given.mutant] if given.mutant else lambda: None
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="belugawf-crowd-") as folder:
        crowd = Crowd(Path(folder), given.processes, given.minutes * 60, seed, prepare)
        crowd.run()
    for complaint in crowd.complaints:
        print(complaint)
    took = time.monotonic() - began
    longest = ", ".join(f"{role} {s:.2f} s" for role, s in sorted(crowd.longest.items()))
    print(
        f"{took:.0f} s, {given.processes} processes, {crowd.commands.total():,} commands, "
        f"{len(crowd.tallies):,} runs, {crowd.signals:,} signals ({crowd.signals / took:.0f}/s): "
        f"longest call of a program {crowd.worst_call_s:.3f} s; longest command: {longest}; "
        f"{len(crowd.complaints)} complaints"
    )
    return bool(crowd.complaints)


if __name__ == "__main__":
    sys.exit(main())
