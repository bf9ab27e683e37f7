"""The metadata stage for the RSNA Intracranial Aneurysm Detection data, as Dagster assets.

Three floors, imports point down only: composition (`definitions`, `cli`), the Dagster assets
(`assets`, `partitions`, `recording`), and below them code that knows nothing of Dagster
(`extraction`, `tables`, `store`, `settings`). Nothing is imported here.
"""
