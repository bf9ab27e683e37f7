"""Input in a bucket, for tests that hold it against the same input on a disk."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from aneurysm_assets.settings import Settings
from aneurysm_assets.storage import circuit_breaker, object_store
from aneurysm_assets.storage.object_path import ObjectPath

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


@contextmanager
def impatient() -> Iterator[None]:
    """Give up on a store that is down at once, and hold nothing against it after."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TIMEOUT", "TIMEOUT_WHILE_OPEN"):
            patch.setattr(circuit_breaker, name, timedelta(0))
        forget()
        yield
    forget()


def forget() -> None:
    """Close each circuit breaker, and each store."""
    circuit_breaker.circuit_breaker_of.cache_clear()
    object_store._opened.cache_clear()
