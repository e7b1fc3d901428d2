"""Histories and databases that were recorded once and are kept for ever.

Today's code must replay and open each of them. `python -m tests.histories record NAME` records one
more, `... database` today's schema. None of the recorded files is ever edited or recorded anew: a
change that one of them does not survive strands runs of users.
"""
