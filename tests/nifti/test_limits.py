"""Files that would take all memory or hours are refused, each in a process of its own."""

import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from aneurysm_assets import limits
from aneurysm_assets.errors import SeriesError
from aneurysm_assets.nifti.segmentation import segmentation_meta
from aneurysm_assets.nifti.vessels import vessels_at
from tests.conftest import ROOT

MEMORY = 1 << 30
CPU_SECONDS = 8  # polars, numpy and nibabel take 1.5 to be imported

PROGRAM = """
import json, resource, sys
from pathlib import Path
memory, seconds, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
from aneurysm_assets.errors import SeriesError
from aneurysm_assets.nifti.segmentation import segmentation_meta
from aneurysm_assets.nifti.vessels import vessels_at
row = segmentation_meta(path.parent, path.parent, "1.2", {"cowseg": path})
try:
    vessels_at(path, [[-1.0, -1.0, 0.0]])
    vessel = None
except SeriesError as error:
    vessel = str(error)
print(json.dumps([row["cowseg_error"].item(), vessel]))
"""


def header(shape: tuple[int, int, int], dtype: str, voxel_mm: float = 1.0) -> bytes:
    made = nib.Nifti1Header()
    made.set_data_dtype(dtype)
    made.set_data_shape(shape)
    made.set_sform(np.diag([voxel_mm, voxel_mm, voxel_mm, 1]), 1)
    made["magic"], made["vox_offset"] = b"n+1", 352
    return made.binaryblock + bytes(4)


def sparse(path: Path, head: bytes, voxels: int) -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + voxels)
    return path


def compressed(path: Path, head: bytes, voxels: int) -> Path:
    deflate = zlib.compressobj(1, wbits=31)
    with path.open("wb") as file:
        file.write(deflate.compress(head))
        for start in range(0, voxels, 1 << 24):
            file.write(deflate.compress(bytes(min(1 << 24, voxels - start))))
        file.write(deflate.flush())
    return path


def read_in_process(path: Path) -> tuple[str | None, str | None]:
    """Return why the labels and the vessel at a point were refused, within the limits above."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(MEMORY), str(CPU_SECONDS), str(path)],
        check=True,
        capture_output=True,
        text=True,
        env={"OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    labels, vessel = json.loads(result.stdout)
    return labels, vessel


def test_a_plane_of_eight_gigabytes_is_refused(tmp_path):
    path = compressed(tmp_path / "a.nii.gz", header((32767, 32767, 1), "f8"), 1 << 24)
    labels, vessel = read_in_process(path)
    assert "too large: its voxels would take 8589410312 bytes" in labels
    assert "too large: its voxels would take 8589410312 bytes" in vessel


def test_a_terabyte_of_nothing_is_refused(tmp_path):
    path = sparse(tmp_path / "a.nii", header((32767, 32767, 1000), "u1"), 32767**2 * 1000)
    labels, _ = read_in_process(path)  # the map of the whole takes more addresses than are allowed
    assert "too large" in labels


def test_a_plane_that_memory_should_not_hold_is_refused(tmp_path):
    path = compressed(tmp_path / "a.nii.gz", header((16384, 16384, 1), "u1"), 16384**2)
    labels, vessel = read_in_process(path)
    assert labels is None
    assert "too large: a plane would take 268435456 bytes" in vessel


def test_more_voxels_near_a_point_than_can_be_searched_are_refused(tmp_path):
    path = sparse(tmp_path / "a.nii", header((8192, 8192, 1), "u1", 1e-4), 8192**2)
    labels, vessel = read_in_process(path)
    assert labels is None
    assert "its voxels are too small: 67108864 are within 5 mm of a point" in vessel


def test_a_volume_of_as_many_bytes_as_may_be_read_is_read_and_of_one_more_is_not(
    tmp_path, monkeypatch
):
    path = compressed(tmp_path / "a.nii.gz", header((10, 10, 10), "u1"), 1000)
    monkeypatch.setattr("aneurysm_assets.nifti.volume.MAX_NIFTI_BYTES", 1000)
    assert vessels_at(path, [[-1.0, -1.0, 0.0]])[0].voxel == (1, 1, 0)
    monkeypatch.setattr("aneurysm_assets.nifti.volume.MAX_NIFTI_BYTES", 999)
    with pytest.raises(SeriesError, match="would take 1000 bytes; at most 999 are read"):
        vessels_at(path, [[-1.0, -1.0, 0.0]])


def test_what_is_behind_the_voxels_of_a_compressed_file_counts_too(tmp_path, monkeypatch):
    path = compressed(tmp_path / "a.nii.gz", header((10, 10, 10), "u1"), 3000)
    monkeypatch.setattr("aneurysm_assets.nifti.volume.MAX_NIFTI_BYTES", 2999)
    row = segmentation_meta(tmp_path, tmp_path, "1.2", {"cowseg": path})
    assert "its inflated data would take 3000 bytes" in row["cowseg_error"].item()
    monkeypatch.setattr("aneurysm_assets.nifti.volume.MAX_NIFTI_BYTES", 3000)
    row = segmentation_meta(tmp_path, tmp_path, "1.2", {"cowseg": path})
    assert row["cowseg_error"].item() is None


def test_the_document_lists_every_limit_with_its_value():
    text = (ROOT / "docs" / "bad-input.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(MAX_\w+)` \| ([\d,]+) ", text, re.MULTILINE)
    values = {name: int(number.replace(",", "")) for name, number in listed}
    assert values == {
        name: value for name, value in vars(limits).items() if name.startswith("MAX_")
    }
