"""What the machine says of a file is no finding about what the file holds."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aneurysm_assets.dicom import series as series_module
from aneurysm_assets.dicom.table import write_dicom_tags
from aneurysm_assets.errors import SeriesError
from aneurysm_assets.settings import Settings
from tests.dicom_files import SERIES, dataset, encode
from tests.faults import Fault, FaultyCalls

FILES = 6

READ = """
import json, sys
from pathlib import Path
from aneurysm_assets.dicom.series import read_series
from aneurysm_assets.errors import SeriesError
try:
    series = read_series(Path(sys.argv[1]), Path(sys.argv[1]).parent.parent, threads=0)
    told = [series.files, series.frame["read_error"].drop_nulls().to_list()]
except SeriesError as error:
    told = str(error)
print(json.dumps(told))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "raw" / "series" / SERIES
    made.mkdir(parents=True)
    for number in range(FILES):
        (made / f"{number}.dcm").write_bytes(encode(dataset(InstanceNumber=number)))
    return made


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> FaultyCalls:
    return FaultyCalls(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("times", [1, 1000])
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        *(("read", number) for number in (errno.EIO, errno.ENOTCONN, errno.ESTALE)),
        *(("open", number) for number in (errno.EACCES, errno.ENOENT, errno.EIO, errno.ESTALE)),
    ],
    ids=lambda value: value if isinstance(value, str) else errno.errorcode[value],
)
def test_a_file_system_that_goes_away_makes_no_image_a_broken_file(
    directory, faulty, kind: str, number: int, times: int
) -> None:
    # The first opens of a series are of its directory.
    variables = faulty.variables(directory, Fault(kind, 4, number, times))
    done = subprocess.run(
        [sys.executable, "-c", READ, directory],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    if times == 1:
        assert told == [FILES, []]  # asked again, the file is given
    else:
        assert os.strerror(number) in told
        assert "nothing of its series was recorded" in told


def test_a_series_whose_files_change_while_they_are_read_fails(
    directory, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("ANEURYSM_DATA", str(tmp_path))
    settings = Settings.from_environment()
    read_all = series_module._read_all

    def read_and_change(*given):
        table = read_all(*given)
        (directory / "3.dcm").write_bytes(encode(dataset(InstanceNumber=33)) + b" ")
        return table

    with monkeypatch.context() as patch:
        patch.setattr(series_module, "_read_all", read_and_change)
        with pytest.raises(SeriesError, match="changed while they were read"):
            write_dicom_tags(settings, SERIES)
    assert not list((tmp_path / "interim").rglob("*.parquet"))
    assert write_dicom_tags(settings, SERIES).files == FILES
