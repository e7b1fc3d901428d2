"""The default provider: durable runs in one SQLite file, driven by the processes that open it."""
