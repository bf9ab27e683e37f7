"""What every test stands on: an environment of its own, and data that are nobody's."""

import os
import shutil
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from aneurysm_assets.instance.event_log import BATCH_SIZE_VARIABLE
from aneurysm_assets.sample import write_sample
from aneurysm_assets.storage.object_path import ObjectPath
from deploy.servers.s3 import S3Server
from tests.servers import skipped_where_missing

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser) -> None:
    parser.addoption("--pictures", help="directory for the README's pictures, as the tests see it")
    parser.addoption("--long", action="store_true", help="try what chance decides far more often")


def pytest_collection_modifyitems(config, items) -> None:
    """Leave out what is thorough rather than necessary: each promise has a test without `long`."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="thorough: make test-long"))


@pytest.fixture(scope="session")
def is_long(request) -> bool:
    """Whether what chance decides, or a step through many moments, is to be tried thoroughly."""
    return bool(request.config.getoption("--long"))


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


_buckets = count()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> Iterator[S3Server]:
    """Return a running object store that the environment leads to only in tests with a `bucket`."""
    with skipped_where_missing(), S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch) -> ObjectPath:
    """Return a new bucket, to which the environment leads."""
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    return ObjectPath.parse(s3_server.make_bucket(f"bucket-{next(_buckets)}"))


@pytest.fixture
def series_of_three_batches(monkeypatch) -> list[str]:
    """Return series whose events fill two batches and begin a third.

    The batches are small, because stock storage takes long over batches of the usual size.
    """
    monkeypatch.setenv(BATCH_SIZE_VARIABLE, "40")
    return [f"1.2.{number}" for number in range(90)]


@pytest.fixture
def no_threads_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system give no thread more, as where a container limits its processes."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
