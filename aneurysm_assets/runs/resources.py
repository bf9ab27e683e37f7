"""What the assets are given: the settings, and someone to tell how it goes."""

import os
from typing import Protocol

import dagster as dg
from pydantic import Field

from aneurysm_assets import settings as variables
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.schema.tables import Artifact
from aneurysm_assets.settings import Settings


class SettingsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings of a run: the environment's, but for what is set here.

    Empty fields, the default, leave the environment variable or its default in force.
    """

    data: str = Field(default="", description="Root of raw, interim and dagster (ANEURYSM_DATA).")
    raw: str = Field(default="", description="Input, if not `<data>/raw` (ANEURYSM_RAW).")
    interim: str = Field(
        default="", description="Output, if not `<data>/interim` (ANEURYSM_INTERIM)."
    )
    workers: str = Field(
        default="", description="Processes that read series (ANEURYSM_WORKERS; all processors)."
    )
    threads: str = Field(
        default="",
        description="Threads of each process that fetch files ahead (ANEURYSM_THREADS; as needed).",
    )
    unlabelled: str = Field(
        default="", description="1 to take series without a train.csv row (ANEURYSM_UNLABELLED)."
    )

    pixel_coordinates: str = Field(
        default="",
        description="What whole x and y of a point are: centres (the default) or corners of "
        "pixels (ANEURYSM_PIXEL_COORDINATES).",
    )

    def get(self) -> Settings:
        """Return the settings in force.

        Raises
        ------
        InputError
            A value cannot be used.
        """
        given = {
            variables.DATA: self.data,
            variables.RAW: self.raw,
            variables.INTERIM: self.interim,
            variables.WORKERS: self.workers,
            variables.THREADS: self.threads,
            variables.UNLABELLED: self.unlabelled,
            variables.PIXEL_COORDINATES: self.pixel_coordinates,
        }
        return Settings.from_environment(
            {**os.environ, **{name: value for name, value in given.items() if value}}
        )


class Reporter(Protocol):
    """Someone who is told of each series, in the process of the run; the command line's part."""

    def begin(self, table: Artifact, series: int) -> None:
        """Hear that a table's batch of so many series begins."""

    def done(self, table: Artifact, series_instance_uid: str, written: SeriesResult) -> None:
        """Hear that a series is safe on disk and recorded."""

    def failed(self, table: Artifact, series_instance_uid: str, reason: str) -> None:
        """Hear that a series failed, and why."""


class NullReporter:
    """Tells nobody: Dagster's own log and events say what a user of Dagster wants to know."""

    def begin(self, table: Artifact, series: int) -> None:
        """Say nothing."""

    def done(self, table: Artifact, series_instance_uid: str, written: SeriesResult) -> None:
        """Say nothing."""

    def failed(self, table: Artifact, series_instance_uid: str, reason: str) -> None:
        """Say nothing."""
