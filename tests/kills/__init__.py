"""Real processes, killed at every commit and effect: `python -m tests.kills --kills 2000`."""
