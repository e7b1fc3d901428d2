"""The sans-IO core: a deterministic asyncio loop, and the replayer on it. No I/O."""
