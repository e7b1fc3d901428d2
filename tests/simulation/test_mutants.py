"""The simulator finds broken rules, by the check that is meant to."""

from __future__ import annotations

import re

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.observer import Violation
from tests.simulation.scenario import simulate
from tests.simulation.storage import Storage

# The slowest to be found take some hundred.
MOST_SEEDS = 3000


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_rule_is_found(mutant: Mutant) -> None:
    """Within a bounded number of seeds, in the words of the check."""
    with Storage() as storage, mutant.applied():
        for seed in range(MOST_SEEDS):
            try:
                simulate(seed, storage, mutant.faults)
            except Violation as violation:
                assert re.search(mutant.caught_by, str(violation)), f"seed {seed}: {violation}"
                return
    pytest.fail(f"not found in {MOST_SEEDS} seeds")
