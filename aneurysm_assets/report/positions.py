"""Where the aneurysm points lie: in mm from the centre of the images that they stand among."""

from dataclasses import dataclass

import polars as pl

from aneurysm_assets.schema.columns import LOCATIONS, SERIES_KEY

AXES = ("left", "posterior", "superior")
"""The directions that grow, in DICOM's order (LPS)."""

REACH_MM = 150.0
"""Points further from the centre along an axis are counted, not drawn: no head is that large."""

OTHER_LOCATION = "another location"

_GROUP = (SERIES_KEY, "image_group")
_POINT = ("localizer_x_mm", "localizer_y_mm", "localizer_z_mm")


@dataclass(frozen=True, eq=False)
class Positions:
    """The points that can be placed, and how many cannot.

    Attributes
    ----------
    frame : pl.DataFrame
        `location`, and mm from the centre: `left`, `posterior` and `superior`.
    without_place : int
        Points without a place in mm, or on images that lie all at one place.
    out_of_reach : int
        Points further than `REACH_MM` from the centre along an axis.
    """

    frame: pl.DataFrame
    without_place: int
    out_of_reach: int


def take_positions(unified: pl.LazyFrame) -> Positions:
    """Place the points relative to their images.

    The centre is halfway between the outermost image centres of the point's group: images of
    one orientation, matrix and pixel spacing. A series' own zero is the scanner's, and says
    nothing of the head.

    Parameters
    ----------
    unified : pl.LazyFrame
        The unified table.
    """
    centre = [_image_centre(axis) for axis in range(3)]
    middle = [((c.min() + c.max()) / 2).alias(f"middle_{n}") for n, c in enumerate(centre)]
    depth = pl.sum_horizontal((c.max() - c.min()) ** 2 for c in centre).sqrt().alias("depth")
    groups = unified.filter(pl.col("image_group").is_not_null()).group_by(_GROUP)
    points = unified.filter(pl.col("localizer_index").is_not_null())
    frame = (
        points.select(*_GROUP, "location", *_POINT)
        .join(groups.agg(*middle, depth), on=_GROUP, how="left")
        .select(
            pl.when(pl.col("location").is_in(LOCATIONS))
            .then("location")
            .otherwise(pl.lit(OTHER_LOCATION))
            .alias("location"),
            pl.col("depth").fill_null(0),
            *(
                (pl.col(point) - pl.col(f"middle_{n}")).alias(AXES[n])
                for n, point in enumerate(_POINT)
            ),
        )
        .collect(engine="streaming")
    )
    has_place = pl.all_horizontal(pl.col(AXES).is_finite().fill_null(value=False))
    placed = frame.filter(has_place & (pl.col("depth") > 0)).drop("depth")
    near = placed.filter(pl.all_horizontal(pl.col(AXES).abs() <= REACH_MM))
    return Positions(
        near.sort("location", *AXES), frame.height - placed.height, placed.height - near.height
    )


def _image_centre(axis: int) -> pl.Expr:
    """Return the centre of an image along an axis, mm."""

    def item(column: str, place: int) -> pl.Expr:
        return pl.col(column).list.get(place, null_on_oob=True)

    right = item("ImageOrientationPatient", axis) * item("PixelSpacing", 1)
    down = item("ImageOrientationPatient", axis + 3) * item("PixelSpacing", 0)
    across, along = (pl.col("Columns") - 1) / 2, (pl.col("Rows") - 1) / 2
    return item("ImagePositionPatient", axis) + right * across + down * along
