"""Reading and writing runs in the database. Drives nothing."""
