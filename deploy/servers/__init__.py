"""Real servers on loopback, in a temporary directory, for the demonstration and for tests.

Nothing here is meant to hold data that matter.
"""
