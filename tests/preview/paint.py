"""Made-up series with something to see in them, and the rows that a preview is made of."""

from pathlib import Path

import numpy as np
import polars as pl
from pydicom import dcmread

from aneurysm_assets.dicom.series import read_series
from aneurysm_assets.preview.panels import Composition, compose
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from tests.made_up import MadeUp, write


def write_painted(raw: Path, series: MadeUp, volume: np.ndarray) -> None:
    """Write a series whose stored values are `volume`: columns x rows x slices."""
    write(raw, [series])
    values = volume.astype("<u2")
    folder = raw / "series" / series.uid
    if series.top_level is not None:
        _paint(folder / "001.dcm", values.transpose(2, 1, 0))
        return
    for number in range(values.shape[2]):
        _paint(folder / f"{number + 1:03}.dcm", values[:, :, number].T)


def _paint(path: Path, pixels: np.ndarray) -> None:
    data = dcmread(path)
    data.PixelData = np.ascontiguousarray(pixels).tobytes()
    data.save_as(path)


def images_of(raw: Path, uid: str) -> pl.DataFrame:
    frame = read_series(raw / "series" / uid, raw).frame
    return frame.filter(pl.col("read_error").is_null())


def composed(raw: Path, uid: str) -> Composition:
    points = LocalizersCsv.read(raw / "train_localizers.csv").localizers(uid)
    return compose(raw, images_of(raw, uid), points)
