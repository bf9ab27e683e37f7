"""A volume of 512 x 512 pixels per slice into memory: wall time, and peak memory in a new process.

Against SimpleITK's series reader, and dcm2niix, which writes a file. Needs the extra `bench`.
"""

import multiprocessing
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from aneurysm_assets.sample.dicom import uid, write_enhanced, write_slices
from aneurysm_assets.sample.grid import Grid
from benchmarks.measure import Line, in_turn, wall_seconds

SLICES, FEW = 300, 100
ROUNDS = 3
_AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

Load = Callable[[Path], int]
"""Loads a series; returns the bytes of the array."""


def measure(root: Path) -> Iterator[Line]:
    """Load files and frames, uncompressed and JPEG 2000, in turn with the others."""
    files, frames = _written(root / "plain", SLICES)
    few_files, few_frames = _compressed(_written(root / "compressed", FEW))
    yield _compare(f"{SLICES} files", files, "SimpleITK", _simpleitk, least_ratio=1.5)
    yield _compare(f"{SLICES} files", files, "dcm2niix, writing", _dcm2niix, least_ratio=1)
    yield _compare(f"one file of {SLICES} frames", frames, "SimpleITK", _simpleitk)
    name = f"{FEW} files of JPEG 2000"
    yield _compare(name, few_files, "SimpleITK", _simpleitk, least_ratio=1.5)
    name = f"one file of {FEW} frames of JPEG 2000"
    yield _compare(name, few_frames, "SimpleITK", _simpleitk)
    small, _ = _written(root / "small", 2)
    small_compressed, _ = _compressed(_written(root / "small compressed", 2))
    for name, folder, first in (
        (f"{SLICES} files", files, small),
        (f"one file of {SLICES} frames", frames, small),
        (f"{FEW} files of JPEG 2000", few_files, small_compressed),
        (f"one file of {FEW} frames of JPEG 2000", few_frames, small_compressed),
    ):
        yield Line(
            f"{name} into memory, peak over the array's size",
            _peak(_ours, folder, first),
            "times",
            "SimpleITK",
            _peak(_simpleitk, folder, first),
            most=1.3,
        )


def _compare(
    name: str, folder: Path, against: str, other: Load, least_ratio: float | None = None
) -> Line:
    ours, theirs = in_turn(
        lambda: wall_seconds(lambda: _ours(folder)),
        lambda: wall_seconds(lambda: other(folder)),
        ROUNDS,
    )
    return Line(
        f"{name} of 512 x 512 into memory, wall",
        ours,
        "s",
        against,
        theirs,
        least_ratio=least_ratio,
    )


def _written(root: Path, slices: int) -> tuple[Path, Path]:
    """Write one volume as files and as frames; return both directories."""
    pixels = _pixels(slices)
    grid = Grid((-120.0, -120.0, 0.0), _AXIAL, (0.5, 0.5), 0.5, pixels.shape)
    each = [replace(grid, position=grid.position_of(n)) for n in range(slices)]
    files, frames = (root / uid("volumes", kind) for kind in ("files", "frames"))
    write_slices(files, files.name, grid, pixels - 1024)
    write_enhanced(frames, frames.name, each, pixels, shared=True)
    return files, frames


def _compressed(folders: tuple[Path, Path]) -> tuple[Path, Path]:
    for folder in folders:
        for path in folder.iterdir():
            data = dcmread(path)
            data.compress(JPEG2000Lossless, generate_instance_uid=False)
            data.save_as(path)
    return folders


def _pixels(slices: int) -> NDArray[np.int16]:
    """Return waves with noise, which compress about as CT does."""
    z, y, x = np.meshgrid(
        np.linspace(0, 3, slices),
        np.linspace(0, 6, 512),
        np.linspace(0, 6, 512),
        indexing="ij",
        sparse=True,
    )
    noise = np.random.default_rng(0).normal(0, 20, (slices, 512, 512))
    waves = 1500 + 900 * np.sin(x + z) * np.cos(y)
    return (waves + noise).clip(0, 4095).astype(np.int16)


def _peak(load: Load, folder: Path, first: Path) -> float:
    """Return by how much a process grows at most while it loads, over the size of the array."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        return pool.submit(_grown, load, folder, first).result()


def _grown(load: Load, folder: Path, first: Path) -> float:
    load(first)  # what it imports is there from now on
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    before = _peak_bytes()
    size = load(folder)
    return (_peak_bytes() - before) / size


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _ours(folder: Path) -> int:
    import aneurysm_assets as aa

    return int(np.asarray(aa.load_volume(folder).dataobj).nbytes)


def _simpleitk(folder: Path) -> int:
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return int(SimpleITK.GetArrayViewFromImage(reader.Execute()).nbytes)


def _dcm2niix(folder: Path) -> int:
    with tempfile.TemporaryDirectory() as written:
        write_by_dcm2niix(folder, Path(written))
        return sum(path.stat().st_size for path in Path(written).iterdir())


def write_by_dcm2niix(folder: Path, to: Path) -> None:
    """Write the volumes of a series as uncompressed NIfTI."""
    import dcm2niix

    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-o", to, folder]
    subprocess.run(command, check=True, capture_output=True)
