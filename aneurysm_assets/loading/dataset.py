"""A data root as a user of its tables sees it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from aneurysm_assets.errors import InputError
from aneurysm_assets.parallel.forks import require_usable_polars
from aneurysm_assets.schema.tables import SERIES_QUALITY, UNIFIED_METADATA, VOLUMES, Table
from aneurysm_assets.settings import DATA, INTERIM, RAW, Settings
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.storage.table_names import find_table
from aneurysm_assets.storage.table_scans import holds_asked_tags, read_table, scan_tables

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from numpy.typing import DTypeLike


@dataclass(frozen=True)
class Dataset:
    """The tables and volumes of a data root; made by `open_dataset`.

    Attributes
    ----------
    settings : Settings
        Where things are.
    """

    settings: Settings

    def images(self) -> pl.LazyFrame:
        """Return the unified table: one row per image, and per further point on it.

        On a disk also with the attributes that `run --tag` asked for.

        Raises
        ------
        InputError
            It was not made yet.
        """
        path = _file(UNIFIED_METADATA, self.settings.unified_table)
        if isinstance(path, Path) and holds_asked_tags(path):
            return pl.scan_parquet(path, glob=False, hive_partitioning=False)
        return scan_tables(UNIFIED_METADATA, [path])

    def volumes(self) -> pl.DataFrame:
        """Return the table `volumes`: one row per volume.

        Raises
        ------
        InputError
            It was not made yet.
        """
        return read_table(VOLUMES, _file(VOLUMES, self.settings.volumes_table))

    def quality(self) -> pl.DataFrame:
        """Return the table `series_quality`: one row per series.

        Raises
        ------
        InputError
            It was not made yet.
        """
        return read_table(SERIES_QUALITY, _file(SERIES_QUALITY, self.settings.quality_table))

    def load_volume(
        self,
        series_instance_uid: str,
        index: int = 0,
        dtype: "DTypeLike | None" = None,
        *,
        rescale: bool = True,
        allow_irregular: bool = False,
        threads: int | None = None,
    ) -> "Nifti1Image":
        """Load a volume of a series from its files; all but the first parameter as `load_volume`.

        Parameters
        ----------
        series_instance_uid : str
            The name of its directory.
        index : int
            `volume_index`; 0 is the largest.
        dtype : dtype, optional
            Of the array.
        rescale : bool
            Whether slope and intercept are applied.
        allow_irregular : bool
            Whether a volume is loaded that no affine is right for.
        threads : int, optional
            How many files or frames are read and decoded at the same time.

        Raises
        ------
        SeriesError
            As `load_volume`, or the UID is none.
        """
        require_usable_polars()  # importing it is enough to wait for ever
        from aneurysm_assets.loading.volume import load_volume  # noqa: PLC0415 - tables need less

        return load_volume(
            self.settings.directory_of_series(series_instance_uid),
            index,
            dtype,
            rescale=rescale,
            allow_irregular=allow_irregular,
            threads=threads,
        )


def open_dataset(
    root: str | Path, *, raw: str | Path | None = None, interim: str | Path | None = None
) -> Dataset:
    """Open a data root.

    Parameters
    ----------
    root : str or Path
        The data root.
    raw, interim : str or Path, optional
        Where its input and its tables are, also URLs; the default is what the data root remembers,
        else `raw` and `interim` below it. The environment is not asked.

    Raises
    ------
    InputError
        There is no such directory, or a URL cannot be used.
    """
    given = {DATA: root, RAW: raw, INTERIM: interim}
    settings = Settings.from_environment({k: str(v) for k, v in given.items() if v is not None})
    if not settings.data.is_dir():
        raise InputError(f"there is no data root at {settings.data}")
    return Dataset(settings)


def _file(table: Table, stem: Location) -> Location:
    require_usable_polars()
    found = find_table(stem)
    if found is None:
        raise InputError(f"there is no {table.name} at {stem} yet: run `aneurysm-assets run`")
    return found
