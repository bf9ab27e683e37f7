"""Which series there are: train.csv against the disk."""

import os
from pathlib import Path

import pytest

from aneurysm_assets.errors import InputError
from aneurysm_assets.raw.inventory import Inventory, take_inventory
from aneurysm_assets.schema.tables import LABELS
from aneurysm_assets.settings import Settings


class Raw:
    """A raw root with directories, and a train.csv where one is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "series").mkdir(parents=True)

    def directories(self, *names: str) -> None:
        for name in names:
            (self.root / "series" / name).mkdir()

    def train(self, *series: str) -> None:
        header = ",".join(LABELS.column_names[:-1])
        rows = [f"{name},50,Female,CTA" + ",0" * 14 for name in series]
        (self.root / "train.csv").write_text("\n".join([header, *rows, ""]))

    def inventory(self, *, unlabelled: bool = False) -> Inventory:
        return take_inventory(
            Settings(self.root, self.root, self.root / "interim", 1, unlabelled=unlabelled)
        )


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw(tmp_path / "raw")


def test_the_series_are_those_of_train_csv_that_are_on_disk_sorted(raw: Raw) -> None:
    raw.train("1.3", "1.20", "1.2", "1.9")
    raw.directories("1.20", "1.3", "1.2")
    inventory = raw.inventory()
    assert inventory.series == ("1.2", "1.20", "1.3")
    assert inventory.not_on_disk == ("1.9",)
    assert inventory.known == ("1.2", "1.20", "1.3", "1.9")
    assert inventory.unlabelled == inventory.foreign == inventory.refused == ()
    assert inventory.has_train_csv


def test_directories_without_a_row_are_listed_and_taken_only_when_asked_for(raw: Raw) -> None:
    raw.train("1.2", "1.8")
    raw.directories("1.2", "1.5", "1.4")
    left, taken = raw.inventory(), raw.inventory(unlabelled=True)
    assert left.series == ("1.2",)
    assert taken.series == ("1.2", "1.4", "1.5")
    assert left.unlabelled == taken.unlabelled == ("1.4", "1.5")
    assert left.not_on_disk == taken.not_on_disk == ("1.8",)


@pytest.mark.parametrize("unlabelled", [False, True])
def test_without_train_csv_all_directories_are_the_series(raw: Raw, unlabelled: bool) -> None:
    raw.directories("1.3", "1.2")
    inventory = raw.inventory(unlabelled=unlabelled)
    assert inventory.series == inventory.known == inventory.unlabelled == ("1.2", "1.3")
    assert inventory.not_on_disk == ()
    assert not inventory.has_train_csv


def test_what_is_no_series_directory_is_listed_and_never_taken(raw: Raw) -> None:
    raw.directories("1.2", "thumbnails", "1.2.", "1" * 65, ".cache", "1.2 (copy)")
    series = raw.root / "series"
    (series / "1.7").write_text("a file")
    (series / "1.8").symlink_to(series / "nowhere")
    (series / "1.9").symlink_to("1.9")
    (series / "1.10").symlink_to("x" * 300)
    (series / "1.11").symlink_to(series / "1.2")
    expected = {"thumbnails", "1.2.", "1" * 65, ".cache", "1.2 (copy)"} | {
        "1.7",
        "1.8",
        "1.9",
        "1.10",
    }
    inventory = raw.inventory(unlabelled=True)
    assert inventory.series == ("1.11", "1.2")
    assert inventory.foreign == tuple(sorted(expected))


def test_a_row_of_train_csv_that_names_no_series_is_refused_and_the_others_are_taken(
    raw: Raw,
) -> None:
    raw.train("1.2", "../1.3", "1.4")
    raw.directories("1.2", "1.4")
    inventory = raw.inventory()
    assert inventory.series == ("1.2", "1.4")
    ((refused),) = inventory.refused
    assert (refused.row, refused.text) == (3, "../1.3")


def test_a_repeated_row_is_one_series(raw: Raw) -> None:
    raw.train("1.2", "1.2", "1.9", "1.9")
    raw.directories("1.2")
    inventory = raw.inventory()
    assert inventory.series == ("1.2",)
    assert inventory.not_on_disk == ("1.9",)


def test_an_empty_directory_and_an_empty_train_csv_are_no_series(raw: Raw) -> None:
    assert raw.inventory().series == ()
    raw.train()
    assert raw.inventory().series == raw.inventory().not_on_disk == ()
    assert raw.inventory().has_train_csv


def test_without_the_directory_of_the_series_the_input_is_unusable(raw: Raw) -> None:
    raw.train("1.2")
    (raw.root / "series").rmdir()
    with pytest.raises(InputError) as error:
        raw.inventory()
    assert str(raw.root / "series") in str(error.value)
    assert "No such file or directory" in str(error.value)
    (raw.root / "series").write_text("")
    with pytest.raises(InputError, match="Not a directory"):
        raw.inventory()


def test_a_train_csv_that_cannot_be_used_makes_the_input_unusable(raw: Raw) -> None:
    raw.directories("1.2")
    (raw.root / "train.csv").write_text("SeriesInstanceUID,PatientAge\n1.2,50\n")
    with pytest.raises(InputError, match=r"train\.csv"):
        raw.inventory()
    (raw.root / "train.csv").unlink()
    (raw.root / "train.csv").mkdir()
    with pytest.raises(InputError, match=r"train\.csv"):
        raw.inventory()


def test_no_series_directory_is_opened(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    raw.train("1.2")
    raw.directories("1.2")
    listed = []
    scandir = os.scandir

    def recording(path: Path) -> "os._ScandirIterator[str]":
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", recording)
    raw.inventory(unlabelled=True)
    assert listed == [raw.root / "series"]
