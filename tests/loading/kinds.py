"""Series of many kinds whose values are a linear function of the place of the voxel.

So whatever is loaded from them can be held against its own affine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

SERIES = "1.2.826.0.1.3680043.8.498.77"
GRADIENT = np.array([2.0, -3.0, 5.0])
AT_ORIGIN = 900.0

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def turned(
    orientation: Sequence[float], degrees: float, axis: Sequence[float]
) -> tuple[float, ...]:
    """Return cosines turned about an axis."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return tuple((np.reshape(orientation, (2, 3)) @ turn.T).ravel().tolist())


def value_at(lps: np.ndarray) -> np.ndarray:
    """Return the value that a voxel at a place is to have."""
    return lps @ GRADIENT + AT_ORIGIN


@dataclass
class Image:
    """One image: where it is, and what its header says besides."""

    position: Any
    orientation: Any = AXIAL
    spacing: Any = (0.5, 0.5)
    shape: tuple[int, int] = (6, 8)
    tags: dict[str, Any] = field(default_factory=dict)

    def stored(self, slope: float, intercept: float) -> np.ndarray:
        down, across = np.indices(self.shape)
        cosines, spacing = np.array(self.orientation or AXIAL), self.spacing or (0.5, 0.5)
        lps = (
            np.array(self.position if self.position is not None else (0.0, 0.0, 0.0))
            + np.multiply.outer(across * spacing[1], cosines[:3])
            + np.multiply.outer(down * spacing[0], cosines[3:])
        )
        return np.rint((value_at(lps) - intercept) / slope)


def stack(
    count: int = 10,
    orientation: Sequence[float] = AXIAL,
    step: float = 1.5,
    origin: Sequence[float] = (-20.0, 10.0, -30.0),
    along: Sequence[float] | None = None,
    **image: Any,
) -> list[Image]:
    """Return slices along the normal, or along another way."""
    normal = np.cross(orientation[:3], orientation[3:])
    way = normal * step if along is None else np.asarray(along)
    tags = image.pop("tags", {})
    return [
        Image(tuple((np.asarray(origin) + way * k).tolist()), orientation, tags=dict(tags), **image)
        for k in range(count)
    ]


def tagged(images: Sequence[Image], **tags: Any) -> list[Image]:
    return [Image(i.position, i.orientation, i.spacing, i.shape, i.tags | tags) for i in images]


def interleaved(*parts: Sequence[Image]) -> list[Image]:
    return [image for images in zip(*parts, strict=True) for image in images]


@dataclass
class Kind:
    """A series, and what is to be found: the slices of each volume, and why it is not regular."""

    images: list[Image]
    volumes: list[tuple[int, str | None]]
    split_by: str | None = None
    multi_frame: bool = False
    syntax: UID = ExplicitVRLittleEndian
    after: Callable[[Path], None] = lambda folder: None
    left_out: str | None = None

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        if self.multi_frame:
            _write_frames(folder, self.images, self.syntax)
        else:
            for number, image in enumerate(self.images, 1):
                _write_file(folder, number, image, self.syntax)
        self.after(folder)
        return folder


def _header(sop_class: UID, number: int, shape: tuple[int, int]) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = sop_class, f"{SERIES}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", SERIES
    data.FrameOfReferenceUID, data.Modality = "1.2.3.4", "CT"
    data.InstanceNumber = number
    data.Rows, data.Columns = shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.SliceThickness = 1.5
    return data


def _ds(values: Any) -> list[str] | None:
    return None if values is None else [f"{value:.10g}"[:16] for value in values]


def _write_file(folder: Path, number: int, image: Image, syntax: UID) -> None:
    data = _header(CTImageStorage, number, image.shape)
    geometry = {
        "ImagePositionPatient": _ds(image.position),
        "ImageOrientationPatient": _ds(image.orientation),
        "PixelSpacing": _ds(image.spacing),
    }
    for keyword, value in {**geometry, **image.tags}.items():
        if value is not None:
            setattr(data, keyword, value)
    stored = image.stored(float(data.RescaleSlope), float(data.RescaleIntercept))
    if data.PhotometricInterpretation != "MONOCHROME2":
        stored = _in_colour(data, stored)
        del data.RescaleSlope, data.RescaleIntercept
    _save(data, stored, folder / f"{number:04}.dcm", syntax)


def colours_at(stored: np.ndarray) -> np.ndarray:
    """Return R, G and B of stored values, each a linear function of the place too."""
    return np.stack([stored, 255 - stored, np.full_like(stored, 77)], axis=-1)


def _in_colour(data: Dataset, stored: np.ndarray) -> np.ndarray:
    """Return the samples of an image whose colours are `colours_at` of the values, YBR's grey."""
    if data.PhotometricInterpretation == "PALETTE COLOR":
        for name, table in zip(
            ("Red", "Green", "Blue"), colours_at(np.arange(256)).T.astype(np.uint8), strict=True
        ):
            setattr(data, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
            setattr(data, f"{name}PaletteColorLookupTableData", table.tobytes())
        return stored
    if data.PhotometricInterpretation == "YBR_FULL_422":
        # Two pixels after one another have one colour between them: Y, Y, Cb, Cr.
        pairs = stored.reshape(stored.shape[0], -1, 2)
        return np.concatenate([pairs, np.full_like(pairs, 128)], axis=-1)
    return np.moveaxis(colours_at(stored), -1, 0 if data.PlanarConfiguration else 2)


MACROS = {
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "InStackPositionNumber": "FrameContentSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
}
"""Where an attribute of a frame stands."""


def _write_frames(folder: Path, images: Sequence[Image], syntax: UID) -> None:
    data = _header(EnhancedMRImageStorage, 1, images[0].shape)
    data.Modality, data.NumberOfFrames = "MR", len(images)
    data.PerFrameFunctionalGroupsSequence = []
    for image in images:
        groups = Dataset()
        for macro, keyword, values in (
            ("PlanePositionSequence", "ImagePositionPatient", image.position),
            ("PlaneOrientationSequence", "ImageOrientationPatient", image.orientation),
            ("PixelMeasuresSequence", "PixelSpacing", image.spacing),
        ):
            item = Dataset()
            setattr(item, keyword, _ds(values))
            setattr(groups, macro, [item])
        for keyword, value in image.tags.items():
            macro = MACROS[keyword]
            item = groups[macro][0] if macro in groups else Dataset()
            setattr(item, keyword, value)
            setattr(groups, macro, [item])
        data.PerFrameFunctionalGroupsSequence.append(groups)
    stored = np.stack([image.stored(1.0, -1024.0) for image in images])
    _save(data, stored, folder / "frames.dcm", syntax)


def _save(data: Dataset, stored: np.ndarray, path: Path, syntax: UID) -> None:
    kind = "<i" if data.PixelRepresentation else "<u"
    values = stored.astype(f"{kind}{data.BitsAllocated // 8}")
    assert (values == stored).all()
    assert stored.max() < 1 << (data.BitsStored - data.PixelRepresentation)
    if data.PixelRepresentation and data.BitsStored < data.BitsAllocated:
        values &= (1 << data.BitsStored) - 1
    raw = values.tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OW" if data.BitsAllocated > 8 else "OB"
    if syntax == RLELossless:
        data.compress(RLELossless)
    data.file_meta.TransferSyntaxUID = syntax
    dcmwrite(path, data, enforce_file_format=True)


def _cut(folder: Path) -> None:
    path = folder / "0004.dcm"
    path.write_bytes(path.read_bytes()[:-10])


def _remove_pixels(folder: Path) -> None:
    data = dcmread(folder / "0004.dcm")
    del data.PixelData
    data.save_as(folder / "0004.dcm")


def _add_text(folder: Path) -> None:
    (folder / "0099.dcm").write_bytes(b"no DICOM file")


def _add_padding(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes() + b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0abcd")


OBLIQUE = turned(turned(AXIAL, 25, (1, 0, 0)), 33, (0.2, 0.5, 1))
TILTED = (0.0, 1.5 * np.tan(np.radians(20)), 1.5)
SCOUT = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}


def moved(images: list[Image], n: int, by: Sequence[float]) -> list[Image]:
    images[n].position = tuple((np.array(images[n].position) + by).tolist())
    return images


def without(images: list[Image], *gone: int) -> list[Image]:
    return [image for n, image in enumerate(images) if n not in gone]


def alternating(images: list[Image], **tags: Sequence[Any]) -> list[Image]:
    for n, image in enumerate(images):
        image.tags |= {name: values[n % len(values)] for name, values in tags.items()}
    return images


EIGHT_BITS = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "RescaleIntercept": 650}


def coloured(interpretation: str, **tags: Any) -> Kind:
    tags = EIGHT_BITS | {"SamplesPerPixel": 3, "PhotometricInterpretation": interpretation} | tags
    return Kind(stack(tags=tags), [(10, f"in colour (PhotometricInterpretation {interpretation})")])


KINDS: dict[str, Kind] = {
    "axial": Kind(stack(), [(10, None)]),
    "axial from above": Kind(stack()[::-1], [(10, None)]),
    "axial in no order": Kind([stack()[n] for n in (3, 9, 0, 5, 1, 8, 2, 7, 4, 6)], [(10, None)]),
    "coronal": Kind(stack(10, CORONAL), [(10, None)]),
    "sagittal": Kind(stack(10, SAGITTAL), [(10, None)]),
    "upside down": Kind(stack(10, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)), [(10, None)]),
    "oblique": Kind(stack(10, OBLIQUE), [(10, None)]),
    "oblique and far away": Kind(stack(10, OBLIQUE, origin=(400.0, 300.0, 150.0)), [(10, None)]),
    "tilted gantry": Kind(stack(along=TILTED), [(10, None)]),
    "tilted gantry, reversed": Kind(stack(along=TILTED)[::-1], [(10, None)]),
    "anisotropic": Kind(stack(spacing=(0.3, 0.7)), [(10, None)]),
    "tall": Kind(stack(shape=(9, 3)), [(10, None)]),
    "two slices": Kind(stack(2), [(2, None)]),
    "multi-frame": Kind(stack(), [(10, None)], multi_frame=True),
    "multi-frame, reversed": Kind(stack(10, OBLIQUE)[::-1], [(10, None)], multi_frame=True),
    "multi-frame, run-length": Kind(
        stack()[::-1], [(10, None)], multi_frame=True, syntax=RLELossless
    ),
    "run-length": Kind(stack(10, CORONAL), [(10, None)], syntax=RLELossless),
    "implicit VR": Kind(stack(), [(10, None)], syntax=ImplicitVRLittleEndian),
    "padding behind the pixels": Kind(stack(), [(10, None)], after=_add_padding),
    "signed": Kind(stack(tags={"PixelRepresentation": 1, "RescaleIntercept": 0}), [(10, None)]),
    "signed of 16 bits": Kind(
        stack(
            tags={
                **{"PixelRepresentation": 1, "RescaleIntercept": 0},
                **{"BitsStored": 16, "HighBit": 15},
            }
        ),
        [(10, None)],
    ),
    "8 bits": Kind(
        stack(
            shape=(5, 5),
            tags=EIGHT_BITS,
        ),
        [(10, None)],
    ),
    "fractional slope": Kind(stack(tags={"RescaleSlope": 0.5}), [(10, None)]),
    "another slope per slice": Kind(alternating(stack(), RescaleSlope=(0.5, 1)), [(10, None)]),
    "another intercept per slice": Kind(
        alternating(stack(), RescaleIntercept=(-1024, -1000)), [(10, None)]
    ),
    "4-D in passes": Kind(stack(5) + stack(5), [(5, None)] * 2, "InstanceNumber"),
    "4-D place by place": Kind(interleaved(stack(5), stack(5)), [(5, None)] * 2, "InstanceNumber"),
    "4-D in frames": Kind(stack(5) + stack(5), [(5, None)] * 2, "InstanceNumber", multi_frame=True),
    **{
        f"4-D in frames by {keyword}": Kind(
            interleaved(
                tagged(stack(5), InStackPositionNumber=1, **{keyword: values[0]}),
                tagged(stack(5)[::-1], InStackPositionNumber=2, **{keyword: values[1]}),
            ),
            [(5, None)] * 2,
            name,
            multi_frame=True,
        )
        for keyword, name, values in (
            ("TemporalPositionIndex", "TemporalPositionIdentifier", (1, 2)),
            ("EffectiveEchoTime", "EchoTime", (20.0, 90.0)),
            ("DiffusionBValue", "DiffusionBValue", (0.0, 1000.0)),
            ("NominalCardiacTriggerDelayTime", "TriggerTime", (10.0, 400.5)),
            ("FrameAcquisitionNumber", "AcquisitionNumber", (7, 9)),
        )
    },
    "4-D by temporal position": Kind(
        interleaved(
            tagged(stack(5), TemporalPositionIdentifier=1),
            tagged(stack(5)[::-1], TemporalPositionIdentifier=2),
        ),
        [(5, None)] * 2,
        "TemporalPositionIdentifier",
    ),
    "echoes": Kind(
        tagged(stack(5), EchoTime=20) + tagged(stack(5), EchoTime=90), [(5, None)] * 2, "EchoTime"
    ),
    "b-values, the last cut short": Kind(
        stack(5) + tagged(stack(3), DiffusionBValue=1000.0),
        [(5, None), (3, None)],
        "DiffusionBValue",
    ),
    "two orientations": Kind(stack(7) + stack(5, SAGITTAL), [(7, None), (5, None)]),
    "two pixel spacings": Kind(stack(7) + stack(5, spacing=(0.4, 0.4)), [(7, None), (5, None)]),
    "two matrices": Kind(stack(5) + stack(7, shape=(4, 4)), [(7, None), (5, None)]),
    "two frames of reference": Kind(
        stack(7) + tagged(stack(5), FrameOfReferenceUID="1.2.3.5"), [(7, None), (5, None)]
    ),
    "scouts": Kind(
        tagged(stack(2, CORONAL, shape=(9, 9)), **SCOUT) + stack(),
        [(10, None)],
        left_out="2 scouts",
    ),
    "a file that is none": Kind(
        stack(), [(10, None)], after=_add_text, left_out="1 file that cannot be read"
    ),
    "missing slice": Kind(
        without(stack(), 4), [(9, "1 slice missing: the largest gap is 2 times")]
    ),
    "missing slices": Kind(without(stack(), 4, 5, 7), [(7, "3 slices missing")]),
    "slice without a position": Kind(
        [Image(None) if n == 4 else image for n, image in enumerate(stack())],
        [(9, "1 slice missing")],
        left_out="1 image without a place",
    ),
    "jitter": Kind(moved(stack(), 4, (0, 0, 0.06)), [(10, "gaps between slices differ")]),
    "shifted slice": Kind(moved(stack(), 4, (2, 0, 0)), [(10, "2 mm off the line")]),
    "lying orientation": Kind(
        stack(10, AXIAL, along=(1.5, 0, 0)), [(10, "the orientation contradicts the positions")]
    ),
    "tilt of 45 degrees": Kind(
        stack(10, AXIAL, along=(0, 1.5, 1.5)), [(10, "at 45 degrees to their normal")]
    ),
    "turning orientation": Kind(
        [
            Image(image.position, turned(AXIAL, n * 0.05, (0, 0, 1)), (0.5, 0.5), (300, 300))
            for n, image in enumerate(stack(origin=(-40.0, -30.0, -10.0)))
        ],
        [(10, "orientations differ")],
    ),
    "all at one place": Kind(stack(10, along=(0, 0, 0)), [(10, "all its 10 images are at one")]),
    "one slice": Kind(stack(1), [(1, "a single slice")]),
    "one slice twice": Kind([*stack(), stack()[3]], [(11, "1 image at the place of another")]),
    "no geometry": Kind(
        [Image(None, None, None) for _ in range(5)],
        [(5, "PixelSpacing is missing; no image has both a position and an orientation")],
    ),
    "no orientation": Kind(
        [Image(image.position, None) for image in stack(5)], [(5, "no image has both a position")]
    ),
    "no pixel spacing": Kind(stack(spacing=None), [(10, "PixelSpacing is missing")]),
    "mosaics": Kind(
        stack(tags={"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}),
        [(10, "mosaics of slices")],
    ),
    "RGB": coloured("RGB", PlanarConfiguration=0),
    "RGB by planes": coloured("RGB", PlanarConfiguration=1),
    "YBR_FULL_422": coloured("YBR_FULL_422", PlanarConfiguration=0),
    "palette colour": coloured("PALETTE COLOR", SamplesPerPixel=1),
    "colour among grey": Kind(
        stack(2, tags=EIGHT_BITS | {"PhotometricInterpretation": "PALETTE COLOR"})
        + stack(3, origin=(-20.0, 10.0, -27.0), tags=EIGHT_BITS),
        [(5, "2 images in it in colour (PhotometricInterpretation PALETTE COLOR)")],
    ),
    "a file without pixels": Kind(
        stack(), [(10, "1 image of which no pixels were found")], after=_remove_pixels
    ),
    "a file cut short": Kind(stack(), [(10, "1 image with too few bytes")], after=_cut),
}
"""By name."""
