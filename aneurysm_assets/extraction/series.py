"""A series directory to one table: a row an image, and a row for every file that is none."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from aneurysm_assets.extraction.errors import SeriesError, UnreadableFile
from aneurysm_assets.extraction.geometry import add_geometry
from aneurysm_assets.extraction.header import Header, read_header
from aneurysm_assets.extraction.listing import is_directory
from aneurysm_assets.tables import DICOM_TAGS, SERIES_KEY


@dataclass(frozen=True)
class SeriesTable:
    """The table of one series, and what reading it came to.

    Attributes
    ----------
    frame : pl.DataFrame
        With the schema of `tables.DICOM_TAGS`, in the order of InstanceNumber (files without
        one last), path and frame.
    files : int
        Files in the directory.
    unreadable_files : int
        Those of them with a `read_error`.
    bytes : int
        The size of all files together.
    malformed : list of str
        `file: tag: reason` for each value that is null because it cannot be what it must be.
    """

    frame: pl.DataFrame
    files: int
    unreadable_files: int
    bytes: int
    malformed: list[str]


def read_series(directory: Path, raw_root: Path) -> SeriesTable:
    """Read the headers of all files of a series.

    Parameters
    ----------
    directory : Path
        Named for the SeriesInstanceUID. Files are taken whatever their name; directories below
        it are not entered.
    raw_root : Path
        `dicom_path` is relative to it.

    Returns
    -------
    SeriesTable
        Every file is accounted for by at least one row.

    Raises
    ------
    SeriesError
        The directory cannot be read, or no file of it is a readable DICOM image.
    """
    rows: list[dict[str, Any]] = []
    malformed: list[str] = []
    unreadable = size = 0
    files = _files(directory)
    for path in files:
        file_size = _size(path)
        size += file_size
        about: dict[str, Any] = {
            SERIES_KEY: directory.name,
            "dicom_path": _as_text(path.relative_to(raw_root).as_posix()),
            "file_size": file_size,
        }
        try:
            header = _image_header(path)
        except UnreadableFile as error:
            unreadable += 1
            rows.append(about | {"read_error": str(error)})
            continue
        rows.extend(_rows(header, about))
        name = Path(about["dicom_path"]).name
        malformed.extend(f"{name}: {note}" for note in dict.fromkeys(header.malformed))
    if unreadable == len(files):
        raise SeriesError(_nothing_readable(directory, rows))
    return SeriesTable(_frame(rows), len(files), unreadable, size, malformed)


def _files(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return sorted(Path(entry.path) for entry in entries if not is_directory(entry))
    except OSError as error:
        raise SeriesError(f"{directory} cannot be read: {error.strerror}") from error


def _as_text(name: str) -> str:
    # A name that is not UTF-8 has surrogates in Python, which no table can hold.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # the row's read_error says that the file cannot be opened


def _image_header(path: Path) -> Header:
    try:
        regular = path.is_file()
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from error
    if not regular:
        raise UnreadableFile("is no regular file, or a link to nothing")
    header = read_header(path)
    if header.pixel_data == "cut":
        raise UnreadableFile("is cut short in its pixel data")
    if header.pixel_data == "none" and header.images[0]["Rows"] is None:
        raise UnreadableFile("is DICOM but no image: it has neither Rows nor pixel data")
    return header


def _rows(header: Header, about: dict[str, Any]) -> list[dict[str, Any]]:
    own = header.series_instance_uid
    file_values = about | {
        "NumberOfFrames": header.number_of_frames,
        "header_series_instance_uid": None if own == about[SERIES_KEY] else own,
    }
    return [image | file_values for image in header.images]


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    columns = {name: [row.get(name) for row in rows] for name in DICOM_TAGS.column_names}
    frame = pl.DataFrame(columns, schema=DICOM_TAGS.schema)
    order = ("InstanceNumber", "dicom_path", "frame_index")
    return add_geometry(frame.sort(order, nulls_last=[True, True, False]))


def _nothing_readable(directory: Path, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return f"{directory} has no files"
    name, reason = Path(rows[0]["dicom_path"]).name, rows[0]["read_error"]
    return f"{directory} has no readable DICOM image among {len(rows)} files: {name} {reason}"
