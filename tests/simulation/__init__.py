"""A seeded simulator of many processes on one database: see docs/reliability.md."""
