"""What the database says of runs, and is told. Drives nothing."""
