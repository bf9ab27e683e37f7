"""What every test stands on: an environment of its own, and data that are nobody's."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aneurysm_assets.sample import write_sample

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser) -> None:
    parser.addoption("--pictures", help="directory for the README's pictures, as the tests see it")


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory) -> Iterator[None]:
    """Keep the user's settings out, and the default data root away from the project's own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("ANEURYSM_", "DAGSTER_")):
                patch.delenv(name)
        patch.chdir(tmp_path_factory.mktemp("nowhere"))
        yield


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory) -> Path:
    """Return a data root that holds the sample; to be copied, never written to."""
    data = tmp_path_factory.mktemp("sample_data")
    write_sample(data)
    return data


@pytest.fixture
def data(sample_data: Path, tmp_path: Path) -> Path:
    """Return a data root of the test's own, with the sample."""
    return Path(shutil.copytree(sample_data, tmp_path / "data"))


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """Return a fresh copy of the project, as a clone has it: without data or an environment."""
    copy = tmp_path_factory.mktemp("clone") / "project"
    unwanted = shutil.ignore_patterns("data", ".*", "*.egg-info", "__pycache__", "tests", "build")
    return Path(shutil.copytree(ROOT, copy, ignore=unwanted))
