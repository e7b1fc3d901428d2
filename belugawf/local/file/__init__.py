"""The database file and what stands beside it: locks, wake-ups. Knows no runs."""
