"""Which values become black and which white."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aneurysm_assets.preview.decoding import Row
from aneurysm_assets.volumes.plane import Pixels

VESSELS_HU = (-150.0, 550.0)
"""Centre 200, width 700: contrast-filled arteries before brain, and bone not yet blinding."""

_DARK, _BRIGHT = 1, 99.7


@dataclass(frozen=True)
class Window:
    """Values at and below `low` are black, at and above `high` white.

    Attributes
    ----------
    low, high : float
        In output units.
    source : str
        Where it is from, for the reader.
    is_inverted : bool
        Whether low values are shown white: MONOCHROME1 (PS3.3 C.7.6.3.1.2).
    """

    low: float
    high: float
    source: str
    is_inverted: bool = False

    def grey(self, pixels: Pixels) -> Pixels:
        """Return pixels as uint8; colour as it is."""
        if pixels.ndim == 3:
            return pixels
        with np.errstate(all="ignore"):
            share = np.clip((pixels - self.low) / (self.high - self.low), 0, 1)
        grey = np.rint(np.nan_to_num(share) * 255).astype(np.uint8)
        return 255 - grey if self.is_inverted else grey


def choose_window(row: Row, samples: Sequence[Pixels]) -> Window:
    """Choose a window for a series.

    Parameters
    ----------
    row : mapping
        A row of `dicom_tags`: the middle image.
    samples : sequence of ndarray
        Pixels in output units, of the middle image and others.

    Returns
    -------
    Window
        For CT the header's own if it meets the values, else one for vessels in HU; for MR, and for
        CT that says no slope and intercept, percentiles of the values.
    """
    inverted = row["PhotometricInterpretation"] == "MONOCHROME1"
    grey = [pixels.reshape(-1) for pixels in samples if pixels.ndim < 3]
    values = np.concatenate([np.zeros(0, np.float32), *grey])
    values = values[np.isfinite(values)]
    if not len(values):
        return Window(0, 255, "as stored", inverted)
    is_hounsfield = row["Modality"] == "CT" and row["RescaleIntercept"] is not None
    centre, width = row["WindowCenter"], row["WindowWidth"]
    if is_hounsfield and centre is not None and width is not None and width >= 1:
        low, high = centre - width / 2, centre + width / 2
        if low < values.max() and high > values.min():
            return Window(low, high, "HU, window of the header", inverted)
    if is_hounsfield:
        return Window(*VESSELS_HU, "HU, window for vessels", inverted)
    low = float(np.percentile(values, _DARK))
    # The background of a magnitude image, often most of it, would weigh down the bright end.
    bright = values[values > low]
    high = float(np.percentile(bright, _BRIGHT)) if len(bright) else low + 1
    return Window(low, high, f"percentiles {_DARK} and {_BRIGHT}", inverted)
