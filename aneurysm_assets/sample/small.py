"""The small sample: `SERIES` lists what is in it, a series a line, and why.

Faults are as deliberate as the rest, and said where they are made. None makes a series fail.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, radians, sin
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from aneurysm_assets.sample.bundled import copy_series, write_stack
from aneurysm_assets.sample.csvs import Labels, Point, write_localizers, write_train
from aneurysm_assets.sample.dicom import instance_uid, save, uid, write_enhanced, write_slices
from aneurysm_assets.sample.grid import Grid
from aneurysm_assets.sample.head import CENTRE, head
from aneurysm_assets.sample.phantom import bright_vessels, vessel_labels
from aneurysm_assets.sample.place import replace_raw
from aneurysm_assets.sample.segmentation import write_segmentation

_LEFT_MCA, _RIGHT_MCA = "Left Middle Cerebral Artery", "Right Middle Cerebral Artery"
_ACOM = "Anterior Communicating Artery"
_BASILAR, _POSTERIOR = "Basilar Tip", "Other Posterior Circulation"
_LEFT_ICA = "Left Supraclinoid Internal Carotid Artery"

# An InstanceNumber that no file of the sample has.
_NOT_THERE = 999


def write_sample(directory: Path, *, with_head: bool = False) -> Path:
    """Write the small data set as `directory/raw`: about 1 MB in about a second.

    Parameters
    ----------
    directory : Path
        The data root. An earlier sample in it is replaced.
    with_head : bool
        Write `HEAD` too, for its pictures: about 10 MB more.

    Returns
    -------
    Path
        The raw root, with `series`, `segmentations`, `train.csv` and `train_localizers.csv`;
        the same, byte for byte, each time.

    Raises
    ------
    InputError
        `directory/raw` holds anything that the sample did not write, or cannot be written.
    """
    return replace_raw(directory, partial(_fill, (*SERIES, HEAD) if with_head else SERIES))


def _fill(every: Sequence["SampleSeries"], raw: Path) -> None:
    for series in every:
        if series.write is not None:
            series.write(raw, series.uid)
    write_train(
        raw / "train.csv",
        [(series.uid, series.labels) for series in every if series.labels is not None],
    )
    write_localizers(
        raw / "train_localizers.csv",
        [(series.uid, spot.point(series.uid)) for series in every for spot in series.spots],
    )


@dataclass(frozen=True)
class Spot:
    """An aneurysm point by the InstanceNumber of its file.

    Attributes
    ----------
    number : int
        InstanceNumber.
    x, y : float or int
        Pixels along columns and rows.
    location : str
        One of the 13.
    frame : int or None
        0-based frame of a multi-frame file.
    """

    number: int
    x: float
    y: float
    location: str
    frame: int | None = None

    def point(self, series: str) -> Point:
        """Return the row of train_localizers.csv."""
        instance = instance_uid(series, self.number)
        return Point(instance, self.x, self.y, self.location, self.frame)


@dataclass(frozen=True)
class SampleSeries:
    """One series of the sample.

    Attributes
    ----------
    purpose : str
        What it is there for.
    uid : str
        SeriesInstanceUID.
    write : callable or None
        Writes it, given the raw root and the UID; None for a series that is not on disk.
    labels : Labels or None
        Its row of train.csv; None for a series without.
    spots : tuple of Spot
        Its rows of train_localizers.csv.
    """

    purpose: str
    uid: str
    write: Callable[[Path, str], None] | None
    labels: Labels | None
    spots: tuple[Spot, ...] = ()


def _real_ct(raw: Path, series: str) -> None:
    """Copy the largest real CT series in pydicom: 181 elements per header, evenly spaced."""
    names = [f"dicomdirtests/98892001/CT5N/{n}" for n in (2062, 2392, 2693, 3023, 3353)]
    copy_series(raw / "series" / series, names)


def _real_mr(raw: Path, series: str) -> None:
    """Copy the largest real MR series in pydicom: projections that turn, so mixed orientations."""
    names = (4467, 4528, 4558, 4588, 4618, 4648, 4678)
    copy_series(raw / "series" / series, [f"dicomdirtests/98892003/MR700/{n}" for n in names])


def _axial(tilt: float, turn: float) -> tuple[float, float, float, float, float, float]:
    """Return an orientation near axial, from degrees: a wrong affine shows only off the axes."""
    a, b = radians(turn), radians(tilt)
    return cos(a), sin(a), 0.0, -sin(a) * cos(b), cos(a) * cos(b), sin(b)


_TOF = Grid((-20.5, -19.0, 31.0), _axial(8, 0), (0.9, 0.9), 2.0, (12, 40, 48))
_CTA = Grid((-24.0, -23.5, -12.0), _axial(10, 4), (0.8, 0.8), 1.25, (24, 56, 64))
_CTA_ANEURYSMS = {
    _RIGHT_MCA: (-12.0, -4.0, 3.0),
    _LEFT_MCA: (13.0, -4.0, 3.0),
    _ACOM: (0.0, -9.0, 5.0),
    _BASILAR: (0.0, 7.0, -1.0),
}
_PLAIN = Grid((-20.0, -20.0, 100.0), (1, 0, 0, 0, 1, 0), (1.25, 1.25), 5.0, (6, 32, 32))


def _enhanced_shared(raw: Path, series: str) -> None:
    frames = [
        Grid(_TOF.position_of(index), _TOF.orientation, _TOF.pixel_spacing, 2.0, (1, 40, 48))
        for index in range(12)
    ]
    pixels = bright_vessels(vessel_labels(_TOF))
    write_enhanced(raw / "series" / series, series, frames, pixels, shared=True)


def _enhanced_turning(raw: Path, series: str) -> None:
    """Write frames that turn about the z axis, so that each has its own orientation."""
    size, count = 32, 12
    frames = []
    for index in range(count):
        angle = radians(180 * index / count)
        # Down is against z; the centre of every frame is the origin.
        across, half = (cos(angle), sin(angle)), 0.75 * (size - 1) / 2
        corner = (-across[0] * half, -across[1] * half, half)
        orientation = (*across, 0.0, 0.0, 0.0, -1.0)
        frames.append(Grid(corner, orientation, (0.75, 0.75), 0.5, (1, size, size)))
    pixels = np.arange(count * size * size).reshape(count, size, size) % 4096
    write_enhanced(raw / "series" / series, series, frames, pixels.astype(np.int16), shared=False)


def _stack(name: str, count: int = 3, **changes: str) -> Callable[[Path, str], None]:
    def write(raw: Path, series: str) -> None:
        write_stack(raw / "series" / series, series, name, count, changes)

    return write


def _plain(raw: Path, series: str) -> None:
    pixels = bright_vessels(vessel_labels(_PLAIN))
    write_slices(raw / "series" / series, series, _PLAIN, pixels)


def _damaged(raw: Path, series: str) -> None:
    """Write six files of which three are good."""
    _plain(raw, series)
    folder = raw / "series" / series
    in_header, in_pixels, text = (folder / f"{instance_uid(series, n)}.dcm" for n in (4, 5, 6))
    content = in_header.read_bytes()
    # Within a value, where even a lenient reader has read less than the length promises.
    in_header.write_bytes(content[: content.index(uid(series, "frame of reference").encode()) + 9])
    in_pixels.write_bytes(in_pixels.read_bytes()[:-1000])
    text.write_text("No DICOM: the download page answered with this line.\n", newline="\n")


def _foreign_header(raw: Path, series: str) -> None:
    """Write a series of which the second file says that it belongs to another."""
    _plain(raw, series)
    folder = raw / "series" / series
    data = dcmread(folder / f"{instance_uid(series, 2)}.dcm")
    data.SeriesInstanceUID = uid(series, "another series")
    save(data, folder)


def _cta(raw: Path, series: str) -> None:
    labels = vessel_labels(_CTA, _CTA_ANEURYSMS)
    image = bright_vessels(labels)
    write_slices(raw / "series" / series, series, _CTA, image)
    flips = (False, True, True)
    write_segmentation(raw / "segmentations", series, _CTA, (image, labels), flips)


_SIZE, _SPACING = (64, 176, 176), (2.4, 1.15, 1.15)
_HEAD = Grid((-100.625, -88.625, -57.6), (1, 0, 0, 0, 1, 0), _SPACING[1:], _SPACING[0], _SIZE)
_HEAD_ANEURYSMS = {_RIGHT_MCA: (-23.0, -8.0, 5.0), _BASILAR: (0.0, 7.0, 2.0)}
_HEAD_RADIUS = 3.8


def _head(raw: Path, series: str) -> None:
    labels = vessel_labels(_HEAD, _HEAD_ANEURYSMS, centre=CENTRE, radius=_HEAD_RADIUS)
    image = head(_HEAD, labels)
    write_slices(raw / "series" / series, series, _HEAD, image)
    write_segmentation(raw / "segmentations", series, _HEAD, (image, labels), (False, True, False))


def _head_spot(location: str) -> Spot:
    """Return the point on the centre of an aneurysm of the head."""
    x, y, z = (
        (place - centre) / size + (count - 1) / 2
        for place, centre, size, count in zip(
            _HEAD_ANEURYSMS[location], CENTRE, reversed(_SPACING), reversed(_SIZE), strict=True
        )
    )
    return Spot(round(z) + 1, round(x, 4), round(y, 4), location)


def _series_uid(name: str) -> str:
    return uid("sample", name)


SERIES: tuple[SampleSeries, ...] = (
    SampleSeries(
        "real CT, five slices, private groups of GE; no aneurysm",
        "1.3.6.1.4.1.5962.1.1.0.0.0.1194734704.16302.0.6",
        _real_ct,
        Labels(43, "Male", "CTA"),
    ),
    SampleSeries(
        "real MR, seven projections with seven orientations; no aneurysm",
        "1.3.6.1.4.1.5962.1.1.0.0.0.1196533885.18148.0.118",
        _real_mr,
        Labels(51, "Female", "MRA"),
    ),
    SampleSeries(
        "Enhanced MR, orientation and spacing shared; points on frames 0 and 7",
        _series_uid("enhanced shared"),
        _enhanced_shared,
        Labels(66, "Female", "MRA", (_LEFT_MCA, _POSTERIOR)),
        (
            Spot(1, 23.48172664, 30.20418351, _POSTERIOR, frame=0),
            Spot(1, 37.94444671, 15.05559127, _LEFT_MCA, frame=7),
        ),
    ),
    SampleSeries(
        "Enhanced MR, all geometry in each frame's own groups",
        _series_uid("enhanced turning"),
        _enhanced_turning,
        Labels(72, "Male", "MRI T2", (_POSTERIOR,)),
        (Spot(1, 15.75, 20.0625, _POSTERIOR, frame=5),),
    ),
    SampleSeries(
        # Known problem 3: a positive series without a localizer.
        "JPEG 2000 lossless, real encapsulated pixels; positive, and no point says where",
        _series_uid("JPEG 2000"),
        _stack("MR_small_jp2klossless.dcm"),
        Labels(58, "Female", "MRI T1post", (_LEFT_ICA,)),
    ),
    SampleSeries(
        "JPEG Lossless SV1, the one bundled file: a colour screen capture without position",
        _series_uid("JPEG Lossless"),
        # In the real data the header's modality is CT or MR; the file's own is OT.
        _stack("SC_rgb_jpeg_gdcm.dcm", count=1, Modality="CT"),
        Labels(24, "Female", "CTA"),
    ),
    SampleSeries(
        "six CT files: cut within the header, cut within the pixels, no DICOM at all, three good",
        _series_uid("damaged"),
        _damaged,
        Labels(80, "Male", "CTA", (_ACOM,)),
        (Spot(3, 15.5, 8.25, _ACOM),),
    ),
    SampleSeries(
        # Known problem 3: a localizer at a location that train.csv calls negative.
        "implicit VR; its point stands where train.csv says there is no aneurysm",
        _series_uid("implicit VR"),
        _stack("MR_small_implicit.dcm"),
        Labels(35, "Female", "MRI T2"),
        (Spot(2, 30.5, 33.125, _RIGHT_MCA),),
    ),
    SampleSeries(
        "explicit VR big endian",
        _series_uid("big endian"),
        _stack("MR_small_bigendian.dcm"),
        Labels(47, "Male", "MRI T1post"),
    ),
    SampleSeries(
        "deflated: nothing after the file meta information can be read without inflating",
        _series_uid("deflated"),
        _stack("MR_small.dcm", TransferSyntaxUID=DeflatedExplicitVRLittleEndian),
        Labels(29, "Female", "MRA"),
    ),
    SampleSeries(
        "one file's header names another series",
        _series_uid("foreign header"),
        _foreign_header,
        Labels(18, "Female", "CTA"),
    ),
    SampleSeries(
        # Known problem 3: the last point's file is not there.
        "CTA with segmentation; two points on one image, one of whole numbers, one of no file",
        _series_uid("CTA"),
        _cta,
        Labels(61, "Female", "CTA", (_RIGHT_MCA, _LEFT_MCA, _ACOM, _BASILAR)),
        (
            Spot(15, 16.52173913, 22.69565217, _RIGHT_MCA),
            Spot(15, 47.75362318, 22.48913043, _LEFT_MCA),
            Spot(16, 31, 16, _ACOM),
            Spot(_NOT_THERE, 31.5, 36.25, _BASILAR),
        ),
    ),
    SampleSeries(
        "on disk, without a row in train.csv",
        _series_uid("unlabelled"),
        _plain,
        None,
    ),
    SampleSeries(
        "a row in train.csv and a point, not on disk",
        _series_uid("not on disk"),
        None,
        Labels(89, "Male", "MRA", (_BASILAR,)),
        (Spot(1, 251.25, 260.5, _BASILAR),),
    ),
)
"""The content of the sample, in the order of train.csv."""

HEAD = SampleSeries(
    "a whole head with two aneurysms, CTA with segmentation: what the pictures are looked at for",
    _series_uid("head"),
    _head,
    Labels(57, "Female", "CTA", tuple(_HEAD_ANEURYSMS)),
    tuple(map(_head_spot, _HEAD_ANEURYSMS)),
)
"""Written where pictures are to be looked at: it is larger than all the others together."""
