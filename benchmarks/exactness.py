"""`python -m benchmarks.exactness [DOCUMENT]`: by how much voxels of loaders are off.

Series of `tests/loading/kinds.py` have voxels that are a linear function of their place, so each
loader can be held against its own affine. Needs the extra `bench`; DOCUMENT is docs/volumes.md,
whose table is renewed.
"""

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import aneurysm_assets as aa
from aneurysm_assets.schema.documentation import replace_generated
from benchmarks.volumes import write_by_dcm2niix
from tests.loading.kinds import KINDS, SERIES, Kind, colours_at, value_at

Voxels = tuple[NDArray[Any], NDArray[Any]]
"""Values (i, j, k), colour with a fourth axis, and the affine from there to LPS mm."""

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ROUNDING = 0.5
_REFUSES = "refuses"


class _NotThreeDimensionalError(Exception):
    """What a loader gave has no three axes, or no affine."""


def main() -> None:
    """Print the table, and put it into a document."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    table = _table()
    print(table)
    for name in sys.argv[1:]:
        document = Path(name)
        text = replace_generated(document.read_text(encoding="utf-8"), "loaders", table)
        document.write_text(text, encoding="utf-8")


def _table() -> str:
    loaders: dict[str, Callable[[Path], Iterable[Voxels]]] = {
        "here": _ours,
        f"SimpleITK {version('simpleitk')}": _simpleitk,
        f"dcm2niix {version('dcm2niix')}": _dcm2niix,
        f"highdicom {version('highdicom')}": _highdicom,
    }
    kinds_by_cells: dict[tuple[str, ...], list[str]] = {}
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as directory:
            folder = kind.write(Path(directory) / SERIES)
            cells = tuple(_cell(load, kind, folder) for load in loaders.values())
        kinds_by_cells.setdefault(cells, []).append(name)
    rows = [["series", *loaders], ["---", *(["---:"] * len(loaders))]]
    rows += [["; ".join(names), *cells] for cells, names in kinds_by_cells.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(load: Callable[[Path], Iterable[Voxels]], kind: Kind, folder: Path) -> str:
    """Return the greatest error of all volumes that a loader gives, or that it gives none."""
    try:
        errors = [_off_by(kind, *voxels) for voxels in load(folder)]
    except _NotThreeDimensionalError:
        return "not 3-D"
    except Exception:  # noqa: BLE001 - loaders raise anything
        return _REFUSES
    if not errors:
        return _REFUSES
    return "0.5" if max(errors) <= _ROUNDING + 0.01 else f"{max(errors):.0f}"


def _off_by(kind: Kind, values: NDArray[Any], affine_lps: NDArray[Any]) -> float:
    """Return by how much voxels differ from what is at the place where the affine has them."""
    interpretation = kind.images[0].tags.get("PhotometricInterpretation")
    indices = np.moveaxis(np.indices(values.shape[:3]), 0, -1)
    expected = value_at(nib.affines.apply_affine(affine_lps, indices))
    if interpretation is not None:
        stored = expected - kind.images[0].tags["RescaleIntercept"]
        is_grey = interpretation == "YBR_FULL_422"
        expected = np.stack([stored] * 3, axis=-1) if is_grey else colours_at(stored)
        values = values if values.ndim == 4 else values[..., None]
    return float(np.abs(values.astype(float) - expected).max())


def _ours(folder: Path) -> Iterator[Voxels]:
    for volume in aa.read_series(folder).volumes.to_dicts():
        in_colour = "in colour" in (volume["irregular_reason"] or "")
        image = aa.load_volume(folder, volume["volume_index"], allow_irregular=in_colour)
        yield _of_nifti(image.dataobj, image.affine)


def _of_nifti(values: Any, affine: NDArray[Any]) -> Voxels:  # noqa: ANN401 - as nibabel has it
    array = np.ascontiguousarray(values)
    if array.dtype.names:
        array = array.view(np.uint8).reshape(*array.shape, 3)
    return array, _TO_LPS @ affine


def _simpleitk(folder: Path) -> Iterator[Voxels]:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageSeriesReader()
    for series in reader.GetGDCMSeriesIDs(str(folder)):
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
        image = reader.Execute()
        if image.GetDimension() == 4 and image.GetSize()[3] == 1:  # a file of many frames
            image = image[..., 0]
        if image.GetDimension() != 3:
            raise _NotThreeDimensionalError
        affine = np.eye(4)
        directions = np.array(image.GetDirection()).reshape(3, 3)
        affine[:3, :3], affine[:3, 3] = directions * image.GetSpacing(), image.GetOrigin()
        array = SimpleITK.GetArrayFromImage(image)
        yield np.moveaxis(array, (0, 1, 2), (2, 1, 0)), affine


def _dcm2niix(folder: Path) -> Iterator[Voxels]:
    with tempfile.TemporaryDirectory() as written:
        write_by_dcm2niix(folder, Path(written))
        for path in sorted(Path(written).glob("*.nii")):
            image = nib.load(path)
            values, affine = _of_nifti(image.dataobj, image.affine)
            in_time = values.ndim == 4 and image.get_data_dtype().names is None
            yield from ((v, affine) for v in (np.moveaxis(values, 3, 0) if in_time else [values]))


def _highdicom(folder: Path) -> Iterator[Voxels]:
    import highdicom
    from pydicom import dcmread

    data = [dcmread(path) for path in sorted(folder.iterdir())]
    if "NumberOfFrames" in data[0]:
        volume = highdicom.imread(next(folder.iterdir())).get_volume()
    else:
        volume = highdicom.get_volume_from_series(data)
    # Its axes are slices, rows, columns.
    order = np.eye(4)[:, [2, 1, 0, 3]]
    yield np.moveaxis(volume.array, (0, 1, 2), (2, 1, 0)), volume.affine @ order


if __name__ == "__main__":
    main()
