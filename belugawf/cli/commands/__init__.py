"""A file for each command, imported when it is called: its function `command`."""
