"""The Dagster instance of a data root: its storage, its event log, and which process works on it.

What an instance records about series belongs to `runs`, an instance that hosts share to
`cluster`.
"""
