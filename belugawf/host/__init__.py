"""The process that runs user code: its clock, threads and children, and what it refuses."""
