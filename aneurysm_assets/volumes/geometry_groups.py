"""Which volumes lie in one space: what must not be divided between training and validation."""

from collections.abc import Hashable, Iterable

import polars as pl

from aneurysm_assets.schema.columns import SERIES_KEY

_KEY = [SERIES_KEY, "volume_index"]


def geometry_groups(images: pl.LazyFrame) -> pl.DataFrame:
    """Gather volumes that share a FrameOfReferenceUID, all their positions, or their series.

    Parameters
    ----------
    images : pl.LazyFrame
        Rows of `dicom_tags` or of the unified table, each image once.

    Returns
    -------
    pl.DataFrame
        Per volume, sorted: SeriesInstanceUID, `volume_index`, and as `geometry_group` the first
        series of its group. Positions of volumes that are all at one place tell nothing.
    """
    position = pl.col("ImagePositionPatient").list
    place = pl.struct(x=position.get(0), y=position.get(1), z=position.get(2)).hash()
    volumes = (
        images.filter(pl.col("volume_index").is_not_null())
        .select(*_KEY, "FrameOfReferenceUID", place=place)
        .group_by(_KEY)
        .agg(
            pl.col("FrameOfReferenceUID").first(),
            positions=pl.when(pl.col("place").n_unique() > 1)
            .then(pl.struct(total=pl.col("place").sum(), number=pl.len()).hash())
            .first(),
        )
        .sort(_KEY)
        .collect()
    )
    keys = (volumes[name].to_list() for name in (SERIES_KEY, "FrameOfReferenceUID", "positions"))
    groups = _connected(zip(*keys, strict=True))
    return volumes.select(*_KEY, geometry_group=volumes[SERIES_KEY].gather(groups))


def series_sharing(groups: pl.DataFrame) -> pl.DataFrame:
    """Return the series of which a volume shares its geometry with another series, and how many.

    Parameters
    ----------
    groups : pl.DataFrame
        From `geometry_groups`.

    Returns
    -------
    pl.DataFrame
        SeriesInstanceUID, `shares_with` (the first other series), `sharing` (how many others).
    """
    of_series = groups.select(SERIES_KEY, "geometry_group").unique()
    members = of_series.group_by("geometry_group").agg(pl.col(SERIES_KEY).sort().alias("members"))
    others = pl.col("members").list.set_difference(pl.concat_list(SERIES_KEY)).list.sort()
    return (
        of_series.join(members.filter(pl.col("members").list.len() > 1), on="geometry_group")
        .select(SERIES_KEY, shares_with=others.list.first(), sharing=others.list.len())
        .sort(SERIES_KEY)
    )


def _connected(rows: Iterable[tuple[Hashable, ...]]) -> list[int]:
    """Return for each row the first row that is connected to it by an equal key in a column."""
    parents: list[int] = []
    first: dict[tuple[int, Hashable], int] = {}

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for number, keys in enumerate(rows):
        parents.append(number)
        for column, key in enumerate(keys):
            if key is not None:
                one, other = root(first.setdefault((column, key), number)), root(number)
                parents[max(one, other)] = min(one, other)
    return [root(row) for row in range(len(parents))]
