"""Input in a bucket, for tests that hold it against the same input on a disk."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aneurysm_assets.location import ObjectPath
from aneurysm_assets.settings import Settings

THREADS = 8


def upload(directory: Path, to: ObjectPath) -> None:
    """Put all files below a directory under the same names."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda path: put(to / path.relative_to(directory).as_posix(), path), files))


def put(path: ObjectPath, file: Path) -> None:
    path.write_bytes(file.read_bytes())


def settings_with(data: Path, raw: ObjectPath) -> Settings:
    """Return the settings of a data root whose input is in a bucket, and its output is not."""
    return Settings(data=data, raw=raw, interim=data / "interim", workers=1, unlabelled=True)
