"""Many processes on one file, none of which dies: `python -m tests.crowd --minutes 10`."""
