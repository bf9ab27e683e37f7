"""Bytes and files in, tables out. Nothing here, or below, imports Dagster."""
