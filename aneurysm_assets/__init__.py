"""The metadata stage for the RSNA Intracranial Aneurysm Detection data, as Dagster assets.

Each folder says in its own docstring what belongs in it; docs/architecture.md has them all, in the
order in which imports run down. Nothing is imported here.
"""
