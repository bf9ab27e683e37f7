"""Which series there are: the rows of train.csv held against the directories on disk."""

from dataclasses import dataclass

from aneurysm_assets.errors import InputError
from aneurysm_assets.raw.csv_rows import RefusedRow
from aneurysm_assets.raw.train_csv import TrainCsv
from aneurysm_assets.settings import Settings, series_root_unreadable
from aneurysm_assets.storage.listing import entries_of
from aneurysm_assets.uid import is_uid


@dataclass(frozen=True)
class Inventory:
    """What is to be read, and what is not there.

    Attributes
    ----------
    series : tuple of str
        The SeriesInstanceUIDs to take, sorted: those of train.csv whose directory is on disk, and
        with `unlabelled` (or without a train.csv) the other directories too.
    not_on_disk : tuple of str
        Rows of train.csv without a directory, sorted.
    unlabelled : tuple of str
        Directories without a row, sorted, taken or not.
    refused : tuple of RefusedRow
        Rows of train.csv whose SeriesInstanceUID is no UID.
    foreign : tuple of str
        Names in the directory of the series that are no series.
    has_train_csv : bool
        Whether there is one.
    """

    series: tuple[str, ...]
    not_on_disk: tuple[str, ...]
    unlabelled: tuple[str, ...]
    refused: tuple[RefusedRow, ...]
    foreign: tuple[str, ...]
    has_train_csv: bool

    @property
    def known(self) -> tuple[str, ...]:
        """The series to take and those not on disk, sorted."""
        return tuple(sorted({*self.series, *self.not_on_disk}))


def take_inventory(settings: Settings) -> Inventory:
    """Compare train.csv with the directories on disk.

    Returns
    -------
    Inventory
        From one read of the CSV and one listing; no directory of a series is opened.

    Raises
    ------
    InputError
        The directory of the series is not there or not readable, or train.csv cannot be used.
    """
    directories, foreign = _directories(settings)
    try:
        train = TrainCsv.read(settings.train_csv)
    except FileNotFoundError:
        return Inventory(
            series=tuple(sorted(directories)),
            not_on_disk=(),
            unlabelled=tuple(sorted(directories)),
            refused=(),
            foreign=foreign,
            has_train_csv=False,
        )
    labelled = set(train.series)
    unlabelled = directories - labelled
    return Inventory(
        series=tuple(sorted(directories if settings.unlabelled else directories & labelled)),
        not_on_disk=tuple(sorted(labelled - directories)),
        unlabelled=tuple(sorted(unlabelled)),
        refused=train.refused,
        foreign=foreign,
        has_train_csv=True,
    )


def _directories(settings: Settings) -> tuple[set[str], tuple[str, ...]]:
    try:
        found = entries_of(settings.series_root)
    except OSError as error:
        raise InputError(series_root_unreadable(settings, error.strerror)) from error
    series = {name for name, is_directory in found.items() if is_directory and is_uid(name)}
    return series, tuple(sorted(found.keys() - series))
