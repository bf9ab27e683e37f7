"""What a shell is offered for an option's value. Quick: only the standard library is loaded here.

A fault offers nothing; saying what is wrong belongs to the command itself.
"""

import csv
from contextlib import suppress
from pathlib import Path

from aneurysm_assets.errors import InputError
from aneurysm_assets.settings import Settings
from aneurysm_assets.uid import is_uid

_SERIES_KEY = "SeriesInstanceUID"  # columns.SERIES_KEY; that module loads polars


def series_to_take(environment: dict[str, str], begins: str) -> list[str]:
    """Return the series that `run --series` takes and that begin so, sorted.

    Parameters
    ----------
    environment : dict of str to str
        What `Settings.from_environment` reads.
    begins : str
        What is typed already.
    """
    try:
        settings = Settings.from_environment(environment)
        root, train_csv = settings.series_root, settings.train_csv
        if not isinstance(root, Path) or not isinstance(train_csv, Path):
            return []  # a shell that waits for a store is worse than one that offers nothing
        names = [path.name for path in root.iterdir()]
    except (InputError, OSError):
        return []
    series = {name for name in names if name.startswith(begins) and is_uid(name)}
    if not settings.unlabelled:
        with suppress(OSError, ValueError, csv.Error):  # no train.csv: all on disk are taken
            series &= _labelled(train_csv)
    return sorted(series)


def _labelled(train_csv: Path) -> set[str]:
    with train_csv.open(encoding="utf-8-sig", newline="") as file:
        return {str(row.get(_SERIES_KEY)).strip() for row in csv.DictReader(file)}
