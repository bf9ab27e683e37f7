"""What a run came to, as it is counted while it goes on; how that is told belongs to `terminal`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aneurysm_assets.raw.inventory import Inventory


@dataclass(frozen=True)
class Problem:
    """A series that failed in one table, or with no series what else went wrong."""

    table: str
    series_instance_uid: str | None
    reason: str

    def __str__(self) -> str:
        """Return what failed and why, in a line."""
        of = f" {self.series_instance_uid}" if self.series_instance_uid else ""
        return f"failed: {self.table}{of}: {self.reason}"


@dataclass
class Summary:
    """What a run came to.

    Attributes
    ----------
    inventory : Inventory
        Which series there are.
    materialized : int
        Series that are materialized in all four tables now, and that this run took in some.
    skipped : int
        Series asked for that were materialized in all four tables before.
    failed : int
        Series that failed, and so are not materialized in all four.
    in_progress : int
        Series left to another live run of Dagster.
    problems : list of Problem
        Failed series, and failures that are no series' own.
    left : int
        Series that are neither: a run of them was canceled, or ended before it came to them.
    kept : int
        Series that were read before, and whose directory is gone.
    not_on_disk : int
        Rows of train.csv whose series was never on disk.
    changed : int
        Series taken again in at least one table as their input had changed.
    live_runs : list of str
        The ids of those runs.
    vanished : list of str
        Series that were read, and whose directory is gone since.
    interrupted_runs : int
        Earlier runs found killed, whose rest this run took.
    headers, fast_headers : int
        DICOM files that this run read, and those of them that it read by their bytes; of the
        others pydicom was asked.
    table : str or None
        Path of the unified table, None where there is none.
    combined : mapping of str to object
        The metadata of its latest materialization.
    quality : mapping of str to object
        That of `series_quality`: how many series have which problems.
    """

    inventory: Inventory
    materialized: int = 0
    skipped: int = 0
    failed: int = 0
    in_progress: int = 0
    left: int = 0
    kept: int = 0
    not_on_disk: int = 0
    changed: int = 0
    problems: list[Problem] = field(default_factory=list)
    live_runs: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    interrupted_runs: int = 0
    headers: int = 0
    fast_headers: int = 0
    table: str | None = None
    combined: Mapping[str, Any] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)

    @property
    def series(self) -> int:
        """How many series were asked about; each is counted in one of the numbers."""
        done = self.materialized + self.skipped + self.kept
        return done + self.failed + self.in_progress + self.left + self.not_on_disk

    @property
    def failed_series(self) -> dict[str, list[Problem]]:
        """The problems of each failed series."""
        failed: dict[str, list[Problem]] = {}
        for problem in self.problems:
            if problem.series_instance_uid is not None:
                failed.setdefault(problem.series_instance_uid, []).append(problem)
        return failed
