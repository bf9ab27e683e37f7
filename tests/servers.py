"""What tests that start real servers share: where those may write, and what if one is missing."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.servers.process import MissingProgram


@contextmanager
def skipped_where_missing() -> Iterator[None]:
    """Skip the test where a server's program is not installed; in CI that is a failure."""
    try:
        yield
    except MissingProgram as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@contextmanager
def passable_directory() -> Iterator[Path]:
    """Yield a directory that another account can pass through, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="servers-") as made:
        Path(made).chmod(0o711)
        yield Path(made)
