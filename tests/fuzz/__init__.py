"""Hostile and broken input, made from a seed: `python -m tests.fuzz --cases 2000 --seed 1`."""
