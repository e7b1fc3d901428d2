"""The command line: parse, call the executor, print. No file in here decides anything."""
