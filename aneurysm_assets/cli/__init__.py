"""The command line: its commands, what a person sees of a run, and the log that a run leaves.

What a run does to Dagster or to files belongs to the folders below; nothing imports this one.
"""
