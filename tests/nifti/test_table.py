"""The `segmentation_meta` of one series, on disk."""

from pathlib import Path

import pytest

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.nifti import table
from aneurysm_assets.nifti.table import write_segmentation_meta
from aneurysm_assets.settings import Settings
from tests.made_up import ct, segmented, uid_of, write


def test_a_segmentation_that_changes_while_it_is_read_fails_its_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "raw", [segmented(ct("first", 3), {(4, 4, 1): 7})])
    monkeypatch.setenv("ANEURYSM_DATA", str(tmp_path))
    settings = Settings.from_environment()
    uid = uid_of("first")
    read = table._row_of_pair

    def read_and_change(*given):
        frame = read(*given)
        with (settings.segmentations_root / uid / f"{uid}_cowseg.nii").open("ab") as file:
            file.write(b" ")
        return frame

    with monkeypatch.context() as patch:
        patch.setattr(table, "_row_of_pair", read_and_change)
        with pytest.raises(SeriesError, match="changed while they were read"):
            write_segmentation_meta(settings, uid)
    assert not list((tmp_path / "interim").rglob("*.parquet"))
    assert write_segmentation_meta(settings, uid).files
