"""What Dagster sees: the assets, their checks, the jobs, the sensor, and how the UI shows them.

How a table is computed does not belong here: an asset only calls the folder that does.
"""
