"""Series that nobody has: what would be read of them, as wide and as varied as real rows.

Which of them are there, with what fingerprint, and which cannot be read, is a file, so that the
processes of a simulation agree on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from aneurysm_assets.schema.tables import (
    DICOM_TAGS,
    LABELS,
    LOCALIZERS,
    SEGMENTATION_META,
    SERIES_KEY,
    Table,
)
from aneurysm_assets.storage.table_files import write_bytes
from benchmarks.many_partitions import made_up_uid
from benchmarks.shards import Read, as_parquet

_ROOT = "1.2.826.0.1.3680043.8.498."
_SIDE_MM = 0.48828125


@dataclass(frozen=True)
class Archive:
    """Made-up series in a file below a data root.

    Attributes
    ----------
    root : Path
        The data root.
    """

    root: Path

    @property
    def path(self) -> Path:
        """SeriesInstanceUID, `fingerprint` and `broken`, a row a series."""
        return self.root / "archive.parquet"

    def make(self, series: int, broken_every: int) -> None:
        """Have so many series, of which some cannot be read."""
        numbers = pl.int_range(series, eager=True)
        uids = pl.Series(SERIES_KEY, sorted(made_up_uid(number) for number in numbers))
        self._write(
            pl.DataFrame(
                {
                    SERIES_KEY: uids,
                    "broken": (numbers + 1) % broken_every == 0,
                }
            ).with_columns(fingerprint=_digits(pl.col(SERIES_KEY), 1))
        )

    def change(self, every: int) -> list[str]:
        """Let one in so many series have other files than before; return which."""
        frame = pl.read_parquet(self.path)
        is_changed = (pl.int_range(pl.len()) + every // 2) % every == 0
        new = pl.when(is_changed).then(pl.col("fingerprint").str.reverse())
        self._write(frame.with_columns(fingerprint=new.otherwise(pl.col("fingerprint"))))
        return frame.filter(is_changed)[SERIES_KEY].to_list()

    def mend(self) -> None:
        """Let every series be readable."""
        self._write(pl.read_parquet(self.path).with_columns(broken=pl.lit(value=False)))

    def now(self) -> pl.LazyFrame:
        """Return SeriesInstanceUID and `fingerprint` of all."""
        return pl.scan_parquet(self.path).select(SERIES_KEY, "fingerprint")

    def broken(self) -> list[str]:
        """Return the series that cannot be read."""
        return pl.read_parquet(self.path).filter("broken")[SERIES_KEY].to_list()

    def reader(self, table: Table, images: int) -> Read:
        """Return what reads one of the four tables of some series, with so many images each.

        Where there is a directory `reads`, what is read is told in a file a table there.
        """
        told = self.root / "reads" / table.name
        broken = set(self.broken()) if table is DICOM_TAGS else set()
        rows: dict[str, Callable[[Sequence[str]], pl.DataFrame]] = {
            DICOM_TAGS.name: partial(_images, images=images),
            LABELS.name: _labels,
            LOCALIZERS.name: partial(_points, images=images),
            SEGMENTATION_META.name: _no_segmentations,
        }
        rows_of = rows[table.name]

        def read(series: Sequence[str]) -> tuple[pl.DataFrame, dict[str, str]]:
            if told.parent.is_dir():
                with told.open("a") as file:
                    file.writelines(f"{uid}\n" for uid in series)
            readable = [uid for uid in series if uid not in broken]
            failed = {uid: "made up to be unreadable" for uid in series if uid in broken}
            return rows_of(readable), failed

        return read

    def _write(self, frame: pl.DataFrame) -> None:
        write_bytes(self.path, as_parquet(frame))


def _images(series: Sequence[str], images: int) -> pl.DataFrame:
    one = pl.DataFrame({SERIES_KEY: series}, schema={SERIES_KEY: pl.String}).with_columns(
        spacing=0.3 + pl.col(SERIES_KEY).hash(7) % 700 / 1000
    )
    frame = one.select(pl.all().repeat_by(images).explode(empty_as_null=False)).with_columns(
        slice_index=(pl.int_range(pl.len()) % images).cast(pl.Int32)
    )
    uid, number = pl.col(SERIES_KEY), pl.col("slice_index")
    position = number * pl.col("spacing")
    aside = (uid.hash(8) % 250_000) / 1000 - 250
    frame = frame.with_columns(
        SOPInstanceUID=_instance(uid, number),
        InstanceNumber=number + 1,
        FrameOfReferenceUID=_ROOT + _digits(uid, 2),
        StudyInstanceUID=_ROOT + _digits(uid, 3),
        PatientID=_ROOT + _digits(uid, 4),
        ImagePositionPatient=_array(aside, aside + 20, position - 75),
        ImageOrientationPatient=_array(*map(pl.lit, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))),
        PixelSpacing=_array(pl.lit(_SIDE_MM), pl.lit(_SIDE_MM)),
        SliceThickness=pl.col("spacing"),
        slice_position_mm=position,
        slice_spacing_mm=pl.col("spacing"),
        file_size=525_000 + pl.struct(uid, number).hash(9) % 4_000,
        dicom_path=pl.concat_str(
            pl.lit("series/"), uid, pl.lit("/"), _instance(uid, number), pl.lit(".dcm")
        ),
        **{name: pl.lit(value) for name, value in _CONSTANT.items()},
    )
    return _with_schema(frame, DICOM_TAGS)


_CONSTANT = {
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "Rows": 512,
    "Columns": 512,
    "SamplesPerPixel": 1,
    "PixelRepresentation": 0,
    "RescaleIntercept": -1024.0,
    "RescaleSlope": 1.0,
    "RescaleType": "HU",
    "Modality": "CT",
    "PhotometricInterpretation": "MONOCHROME2",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "TransferSyntaxUID": "1.2.840.10008.1.2.1",
    "geometry_source": "top_level",
    "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
    "Manufacturer": "Nobody",
    "WindowCenter": 40.0,
    "WindowWidth": 400.0,
    "orientation_plane": "axial",
    "is_scout": False,
}


def _labels(series: Sequence[str]) -> pl.DataFrame:
    frame = pl.DataFrame({SERIES_KEY: series}, schema={SERIES_KEY: pl.String})
    flags = [name for name, dtype in LABELS.schema.items() if dtype == pl.Int8]
    return _with_schema(
        frame.with_columns(
            PatientAge=18 + pl.col(SERIES_KEY).hash(10) % 72,
            PatientSex=pl.lit("Female"),
            Modality=pl.lit("CTA"),
            **{
                name: (pl.col(SERIES_KEY).hash(11 + place) % 20 == 0).cast(pl.Int8)
                for place, name in enumerate(flags)
            },
        ),
        LABELS,
    )


def _points(series: Sequence[str], images: int) -> pl.DataFrame:
    """Return a point on the middle image of every other series, about as many as real ones."""
    frame = pl.DataFrame({SERIES_KEY: series}, schema={SERIES_KEY: pl.String})
    uid = pl.col(SERIES_KEY)
    frame = frame.filter(uid.hash(40) % 2 == 0).with_columns(
        SOPInstanceUID=_instance(uid, pl.lit(images // 2, dtype=pl.Int32)),
        x=uid.hash(41) % 512_000 / 1000,
        y=uid.hash(42) % 512_000 / 1000,
        location=pl.lit("Basilar Tip"),
    )
    return _with_schema(frame, LOCALIZERS)


def _no_segmentations(_: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame(schema=SEGMENTATION_META.schema)


def _instance(uid: pl.Expr, number: pl.Expr) -> pl.Expr:
    both = pl.concat_str(uid, pl.lit("/"), number.cast(pl.String))
    return _ROOT + _digits(both, 5) + _digits(both, 6).str.slice(0, 6)


def _digits(text: pl.Expr, seed: int) -> pl.Expr:
    """Return 32 digits that follow from a text and say nothing else."""
    one, two = (text.hash(seed * 100 + part).cast(pl.String).str.zfill(20) for part in (1, 2))
    return (one + two).str.slice(4, 32)


def _array(*values: pl.Expr) -> pl.Expr:
    return pl.concat_list(*(value.cast(pl.Float64) for value in values)).list.to_array(len(values))


def _with_schema(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    missing = {
        name: pl.lit(None, dtype=dtype)
        for name, dtype in table.schema.items()
        if name not in frame.columns
    }
    return frame.with_columns(**missing).select(table.column_names).cast(table.schema)
