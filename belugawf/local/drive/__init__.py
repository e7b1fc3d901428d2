"""Drives runs: a tick looks, decides, commits, acts."""
