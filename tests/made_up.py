"""Made-up series on disk, in the data set's layout, and the stage that reads them.

A builder returns a series that has nothing wrong with it; a test spoils one thing of it. Geometry
is computed here with numpy and nibabel alone, with nothing of the package. Positions and
orientations are LPS in mm, affines RAS.
"""

import csv
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import dagster as dg
import nibabel as nib
import numpy as np
import polars as pl
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)
from pydicom.valuerep import DSfloat

from aneurysm_assets.definitions import build_defs
from aneurysm_assets.defs.assets.unified_checks import check_specs
from aneurysm_assets.raw.inventory import take_inventory
from aneurysm_assets.runs.partitions import register
from aneurysm_assets.runs.resources import SettingsResource

COLUMNS, ROWS, SLICES = 16, 12, 10
DX, DY, DZ = 0.75, 0.5, 1.25
"""From column to column, from row to row and from slice to slice, mm."""

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.96, 0.28, 0.0, -0.168, 0.576, 0.8)
"""Directions of the rows and of the columns: exact in decimals, and of unit length."""

QUALITY = dg.AssetKey("series_quality")

ORIGIN = (-40.5, 30.25, -12.125)

LOCATIONS = (
    "Left Infraclinoid Internal Carotid Artery",
    "Right Infraclinoid Internal Carotid Artery",
    "Left Supraclinoid Internal Carotid Artery",
    "Right Supraclinoid Internal Carotid Artery",
    "Left Middle Cerebral Artery",
    "Right Middle Cerebral Artery",
    "Anterior Communicating Artery",
    "Left Anterior Cerebral Artery",
    "Right Anterior Cerebral Artery",
    "Left Posterior Communicating Artery",
    "Right Posterior Communicating Artery",
    "Basilar Tip",
    "Other Posterior Circulation",
)
LABEL = {
    "Other Posterior Circulation": 1,
    "Basilar Tip": 2,
    "Left Middle Cerebral Artery": 10,
    "Anterior Communicating Artery": 13,
}
"""Some of the values in a vessel segmentation: from the data set's description."""

TIP, MIDDLE = "Basilar Tip", "Left Middle Cerebral Artery"

MACROS = {
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
}

_DECIMAL = {*MACROS, "RescaleSlope", "RescaleIntercept"}


@dataclass
class MadeUp:
    """A series as its files and its rows in the two CSVs.

    Attributes
    ----------
    uid : str
        SeriesInstanceUID.
    images : list of dict
        DICOM attributes of each image by keyword: of each file, or of each frame.
    train : dict or None
        Its row of train.csv, None for none; None as a value is an empty field.
    top_level : dict or None
        Of a multi-frame file the attributes beside its functional groups, else None.
    points : list of tuple
        SOPInstanceUID, dict of coordinates, location: its rows of train_localizers.csv.
    volumes : dict
        nibabel images, or just bytes, by what stands between UID and `.nii`: "" and "_cowseg".
    junk : dict
        Other files in its directory, by name.
    cut : dict
        How many bytes the end of a file lacks, by name.
    extension : str
        `.nii`, or `.nii.gz` for compressed volumes.
    """

    uid: str
    images: list[dict[str, Any]]
    train: dict[str, Any] | None
    top_level: dict[str, Any] | None = None
    points: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    volumes: dict[str, Any] = field(default_factory=dict)
    junk: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    extension: str = ".nii"

    def every(self, **attributes: Any) -> "MadeUp":
        """Set attributes of every image; None removes."""
        for image in self.images:
            _set(image, attributes)
        return self

    def one(self, number: int, **attributes: Any) -> "MadeUp":
        """Set attributes of one image; None removes."""
        _set(self.images[number], attributes)
        return self

    def point(self, number: int, x: float, y: float, location: str = TIP) -> "MadeUp":
        """Put a point on an image, and say in train.csv that the location has an aneurysm."""
        coordinates = {"x": x, "y": y}
        if self.top_level is not None:
            coordinates["f"] = number
        self.points.append((self.instance(number), coordinates, location))
        return self.positive(location)

    def positive(self, location: str) -> "MadeUp":
        assert self.train is not None
        self.train |= {location: 1, "Aneurysm Present": 1}
        return self

    def instance(self, number: int) -> str:
        holder = self.images[number] if self.top_level is None else self.top_level
        return str(holder["SOPInstanceUID"])


def _set(image: dict[str, Any], attributes: dict[str, Any]) -> None:
    image.update(attributes)
    for keyword in [keyword for keyword, value in image.items() if value is None]:
        del image[keyword]


def uid_of(name: str) -> str:
    return f"1.2.826.0.1.3680043.8.498.{crc32(name.encode())}"


def stack(
    uid: str,
    count: int = SLICES,
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: float = DZ,
    origin: Sequence[float] = ORIGIN,
    step: Sequence[float] | None = None,
    first: int = 1,
) -> list[dict[str, Any]]:
    """Return images one behind the other, `spacing` apart along the normal or by `step` (LPS)."""
    normal = np.cross(orientation[:3], orientation[3:])
    way = np.array(step) if step is not None else normal * spacing
    return [
        {
            "SOPInstanceUID": f"{uid}.{number}",
            "InstanceNumber": number,
            "ImagePositionPatient": list(np.array(origin) + way * (number - first)),
            "ImageOrientationPatient": list(orientation),
            "PixelSpacing": [DY, DX],
            "SliceThickness": 1.0,
            "SpacingBetweenSlices": spacing,
            "Rows": ROWS,
            "Columns": COLUMNS,
        }
        for number in range(first, first + count)
    ]


def train_row(modality: str) -> dict[str, Any]:
    return {
        "PatientAge": 61,
        "PatientSex": "Female",
        "Modality": modality,
        **dict.fromkeys(LOCATIONS, 0),
        "Aneurysm Present": 0,
    }


def ct(name: str, count: int = SLICES, **geometry: Any) -> MadeUp:
    """Return a clean CTA without segmentation."""
    uid = uid_of(name)
    return MadeUp(uid, stack(uid, count, **geometry), train_row("CTA")).every(
        SOPClassUID=CTImageStorage,
        Modality="CT",
        PixelRepresentation=0,
        RescaleSlope=1.0,
        RescaleIntercept=-1024.0,
        RescaleType="HU",
    )


def mr(name: str, count: int = SLICES, **geometry: Any) -> MadeUp:
    """Return a clean MR series of single frames."""
    uid = uid_of(name)
    geometry = {"orientation": SAGITTAL, **geometry}
    return MadeUp(uid, stack(uid, count, **geometry), train_row("MRI T2")).every(
        SOPClassUID=MRImageStorage, Modality="MR", PixelRepresentation=0
    )


def multi_frame(name: str, count: int = SLICES, **geometry: Any) -> MadeUp:
    """Return a clean MR series that is one file, with all geometry in its functional groups."""
    uid = uid_of(name)
    frames = [
        {keyword: value for keyword, value in image.items() if keyword in MACROS}
        for image in stack(uid, count, **geometry)
    ]
    top_level = {
        "SOPClassUID": EnhancedMRImageStorage,
        "SOPInstanceUID": f"{uid}.1",
        "InstanceNumber": 1,
        "Modality": "MR",
        "PixelRepresentation": 0,
        "Rows": ROWS,
        "Columns": COLUMNS,
    }
    return MadeUp(uid, frames, train_row("MRA"), top_level)


def grid_affine(series: MadeUp) -> np.ndarray:
    """Return the affine of a clean series: voxel (column, row, slice) to RAS mm."""
    first = series.images[0]
    row, column = np.array(first["ImageOrientationPatient"]).reshape(2, 3)
    dy, dx = first["PixelSpacing"]
    lps = np.eye(4)
    lps[:3] = np.column_stack(
        [
            row * dx,
            column * dy,
            np.cross(row, column) * first["SpacingBetweenSlices"],
            first["ImagePositionPatient"],
        ]
    )
    return np.diag([-1, -1, 1, 1]) @ lps


def segmented(series: MadeUp, vessels: dict[tuple[int, int, int], int]) -> MadeUp:
    """Give a series its two volumes, on its own grid.

    Parameters
    ----------
    series : MadeUp
        A clean one.
    vessels : dict
        Label at (column, row, slice). The vessel volume is stored in the order of RAS, as its
        makers like it, so that its axes are flipped against those of the series.
    """
    shape = (COLUMNS, ROWS, len(series.images))
    labels = np.zeros(shape, "uint8")
    for voxel, label in vessels.items():
        labels[voxel] = label
    affine = grid_affine(series)
    series.volumes = {
        "": nib.Nifti1Image(np.zeros(shape, "int16"), affine),
        "_cowseg": nib.as_closest_canonical(nib.Nifti1Image(labels, affine)),
    }
    return series


def write(raw: Path, made: Iterable[MadeUp]) -> None:
    """Write series with their CSVs and volumes as `data/raw` has them."""
    made = list(made)
    for series in made:
        _write_dicom(raw / "series" / series.uid, series)
        folder = raw / "segmentations" / series.uid
        for suffix, volume in series.volumes.items():
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{series.uid}{suffix}{series.extension}"
            path.write_bytes(volume) if isinstance(volume, bytes) else nib.save(volume, path)
    rows = [{"SeriesInstanceUID": s.uid, **s.train} for s in made if s.train is not None]
    with (raw / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["SeriesInstanceUID", *train_row("")])
        writer.writeheader()
        writer.writerows(rows)
    with (raw / "train_localizers.csv").open("w", newline="") as file:
        points = csv.writer(file)
        points.writerow(["SeriesInstanceUID", "SOPInstanceUID", "coordinates", "location"])
        for series in made:
            points.writerows([series.uid, *point] for point in series.points)


def _write_dicom(folder: Path, series: MadeUp) -> None:
    folder.mkdir(parents=True)
    if series.top_level is None:
        for number, image in enumerate(series.images, start=1):
            _save(_dataset({"SeriesInstanceUID": series.uid} | image), folder / f"{number:03}.dcm")
    else:
        frames = len(series.images)
        data = _dataset({"SeriesInstanceUID": series.uid} | series.top_level, frames)
        data.SharedFunctionalGroupsSequence = Items([Dataset()])
        data.PerFrameFunctionalGroupsSequence = Items(map(_functional_groups, series.images))
        _save(data, folder / "001.dcm")
    for name, content in series.junk.items():
        (folder / name).write_bytes(content)
    for name, count in series.cut.items():
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-count])


def _dataset(attributes: dict[str, Any], frames: int | None = None) -> Dataset:
    data = Dataset()
    usual = {
        "PatientID": "somebody",
        "StudyInstanceUID": "1.2.3.4",
        "FrameOfReferenceUID": "1.2.3.5",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
    }
    for keyword, value in (usual | attributes).items():
        setattr(data, keyword, _decimal(value) if keyword in _DECIMAL else value)
    if frames is not None:
        data.NumberOfFrames = frames
    data.PixelData = bytes(2 * data.Rows * data.Columns * (frames or 1))
    data["PixelData"].VR = "OW"
    return data


def _functional_groups(frame: dict[str, Any]) -> Dataset:
    groups = Dataset()
    for keyword, value in frame.items():
        if MACROS[keyword] not in groups:
            setattr(groups, MACROS[keyword], Items([Dataset()]))
        setattr(groups[MACROS[keyword]].value[0], keyword, _decimal(value))
    return groups


def _decimal(value: Any) -> Any:
    """Return numbers as a decimal string holds them: in at most 16 characters."""
    if isinstance(value, list):
        return [DSfloat(float(item), auto_format=True) for item in value]
    return DSfloat(float(value), auto_format=True)


def _save(data: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", "1.2.3")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("1.2.3.6")
    data.file_meta = meta
    data.save_as(path, enforce_file_format=True)


class Stage:
    """The assets and checks over one data root, and an instance that ends with the test."""

    def __init__(self, data: Path, made: Iterable[MadeUp], **settings: str) -> None:
        write(data / "raw", deepcopy(list(made)))
        resource = SettingsResource(data=str(data), **{"workers": "1", **settings})
        self.settings = resource.get()
        self.instance = dg.DagsterInstance.ephemeral()
        self._job = build_defs({"settings": resource}).resolve_implicit_global_asset_job_def()
        register(self.instance, take_inventory(self.settings).series)

    def read(self, *series: str) -> dg.ExecuteInProcessResult:
        """Materialize the four tables of the series, of all where none is named."""
        tables = ("dicom_tags", "labels", "localizers", "segmentation_meta")
        chosen = list(series or self.instance.get_dynamic_partitions("series"))
        return self._execute(tables, {name: {"config": {"series": chosen}} for name in tables})

    def sum_up(
        self, *assets: str, checks: Iterable[str] | None = None
    ) -> dg.ExecuteInProcessResult:
        """Materialize the unified table and `series_quality`, with its checks in the same run.

        All checks, or those named: each costs two events.
        """
        return self._execute(assets or ("unified_metadata", "series_quality"), {}, checks)

    def check(self, *names: str) -> dg.ExecuteInProcessResult:
        """Execute checks alone, as the button beside a check does."""
        return self._execute((), {}, names)

    def _execute(
        self,
        assets: Sequence[str],
        ops: dict[str, Any],
        checks: Iterable[str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        # What the table checks itself cannot be left out where it is made.
        of_table = {spec.key for spec in check_specs() if spec.asset_key.path[-1] in assets}
        job = self._job.get_subset(
            asset_selection={dg.AssetKey(name) for name in assets},
            asset_check_selection=None
            if checks is None
            else of_table | {dg.AssetCheckKey(QUALITY, name) for name in checks},
        )
        return job.execute_in_process(
            instance=self.instance,
            run_config={"ops": ops, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def unified(self) -> pl.DataFrame:
        return pl.read_parquet(self.settings.interim / "dicom_metadata_with_csv.parquet")

    def quality(self) -> pl.DataFrame:
        return pl.read_parquet(self.settings.interim / "series_quality.parquet")

    def evaluations(self) -> dict[str, dg.AssetCheckEvaluation]:
        """Return the latest result of each check of `series_quality`, as the UI has it."""
        found: dict[str, dg.AssetCheckEvaluation] = {}
        for run in reversed(self.instance.get_run_ids()):
            for entry in self.instance.all_logs(run, dg.DagsterEventType.ASSET_CHECK_EVALUATION):
                evaluation = entry.dagster_event.event_specific_data
                if evaluation.asset_key == QUALITY:
                    found[evaluation.check_name] = evaluation
        return found

    def warnings(self, result: dg.ExecuteInProcessResult) -> list[str]:
        entries = self.instance.all_logs(result.run_id)
        return [entry.user_message for entry in entries if entry.level == logging.WARNING]


def named_by(evaluations: dict[str, dg.AssetCheckEvaluation]) -> dict[str, dict[str, str]]:
    """Return the findings by series and check, as the checks' metadata tell them."""
    named: dict[str, dict[str, str]] = defaultdict(dict)
    for check, evaluation in evaluations.items():
        table = evaluation.metadata.get("series")
        for record in table.records if table is not None else ():
            named[str(record.data["series"])][check] = str(record.data["finding"])
    return named
