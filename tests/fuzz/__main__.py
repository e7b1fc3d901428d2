"""The long form: `python -m tests.fuzz --cases N [--seed S] [--kind NAME]`."""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.campaign import campaign
from tests.fuzz.kinds import KINDS


def main() -> int:
    """Run a campaign, print its failures and one line that sums up; 1 if there was any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="how many, all kinds together")
    parser.add_argument("--seed", type=int, help="fixes the choices")
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], help="only this kind")
    given = parser.parse_args()
    seed = random.randrange(2**32) if given.seed is None else given.seed
    kinds = [kind for kind in KINDS if given.kind in (None, kind.name)]
    faulthandler.enable()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="belugawf-fuzz-") as place:
        tally = campaign(kinds, cases=given.cases, seed=seed, place=Path(place))
    for finding in tally.findings:
        print(f"\n{finding}\n")
    print(f"{tally}, seed {seed}, {time.monotonic() - began:.0f} s")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
