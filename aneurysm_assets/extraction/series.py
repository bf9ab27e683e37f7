"""A series directory to one table: a row an image, and a row for every file that is none."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from aneurysm_assets.extraction.ahead import ReadAhead
from aneurysm_assets.extraction.columns import SeriesColumns
from aneurysm_assets.extraction.errors import SeriesError, UnreadableFile
from aneurysm_assets.extraction.geometry import add_geometry
from aneurysm_assets.extraction.header import read_header
from aneurysm_assets.extraction.listing import is_directory
from aneurysm_assets.extraction.reader import SeriesReader
from aneurysm_assets.extraction.walk import Walked
from aneurysm_assets.extraction.wanted import ROW, SLOTS
from aneurysm_assets.tables import SERIES_KEY

_ROWS = SLOTS["Rows"]


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
    fast_files : int
        Those of them whose header was read by its bytes, without pydicom.
    bytes : int
        The size of all files together.
    malformed : list of str
        `file: tag: reason` for each value that is null because it cannot be what it must be.
    """

    frame: pl.DataFrame
    files: int
    unreadable_files: int
    fast_files: int
    bytes: int
    malformed: list[str]


def read_series(directory: Path, raw_root: Path, threads: int | None = None) -> SeriesTable:
    """Read the headers of all files of a series.

    Parameters
    ----------
    directory : Path
        Named for the SeriesInstanceUID. Files are taken whatever their name; directories below
        it are not entered.
    raw_root : Path
        `dicom_path` is relative to it.
    threads : int, optional
        How many read ahead; as many as are worth it where not given. See `ahead.ReadAhead`.

    Returns
    -------
    SeriesTable
        Every file is accounted for by at least one row.

    Raises
    ------
    SeriesError
        The directory cannot be read, or no file of it is a readable DICOM image.
    """
    columns = SeriesColumns(directory.name)
    folder = directory.relative_to(raw_root).as_posix()
    malformed: list[str] = []
    errors: list[str] = []
    fast = total = 0
    files = _files(directory)
    reader = SeriesReader(len(files))
    for name, path, is_regular in _read_ahead(directory, files, threads):
        shown = name if name.isascii() else _as_text(name)
        try:
            walked, notes, is_fast = _read(reader, path, is_regular)
            fast += is_fast
            _require_image(walked)
        except UnreadableFile as error:
            errors.append(f"{shown} {error}")
            size = _size(path)
            columns.add_unreadable(f"{folder}/{shown}", size, str(error))
        else:
            malformed += (f"{shown}: {note}" for note in notes)
            size = walked.size
            columns.add(walked.rows, f"{folder}/{shown}", size)
        total += size
    if len(errors) == len(files):
        raise SeriesError(_nothing_readable(directory, errors))
    frame = add_geometry(columns.to_frame())
    return SeriesTable(frame, len(files), len(errors), fast, total, malformed)


def _files(directory: Path) -> list[tuple[str, bool]]:
    """Return the name of each file in order, and whether it is a regular one."""
    try:
        with os.scandir(directory) as entries:
            return sorted((e.name, _is_file(e)) for e in entries if not is_directory(e))
    except OSError as error:
        raise SeriesError(f"{directory} cannot be read: {error.strerror}") from error


def _read_ahead(
    directory: Path, files: list[tuple[str, bool]], threads: int | None
) -> Iterator[tuple[str, str, bool]]:
    """Yield each file's name, path and whether it is a regular one, while others are fetched."""
    # A Path costs as much as reading.
    paths = [os.path.join(directory, name) for name, _ in files]  # noqa: PTH118
    regular = [path for path, (_, is_regular) in zip(paths, files, strict=True) if is_regular]
    with ReadAhead(regular, threads) as ahead:
        for path, (name, is_regular) in zip(paths, files, strict=True):
            yield name, path, is_regular
            if is_regular:
                ahead.passed()


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        # A link that leads to itself leads nowhere; of any other that cannot be followed, opening
        # it gives the reason.
        return not _leads_to_itself(entry.path)


def _leads_to_itself(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - as the listing has it
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _as_text(name: str) -> str:
    # A name that is not UTF-8 has surrogates in Python, which no table can hold.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0  # the row's read_error says that the file cannot be opened


def _read(reader: SeriesReader, path: str, is_regular: bool) -> tuple[Walked, list[str], bool]:
    """Return what a file holds, its malformed values, and whether pydicom was not asked."""
    if not is_regular:
        raise UnreadableFile("is no regular file, or a link to nothing")
    walked = reader.read(path)
    if walked is not None:
        return walked, [], True
    header = read_header(path)
    of_file = {"NumberOfFrames": header.number_of_frames, SERIES_KEY: header.series_instance_uid}
    rows = [[(image | of_file)[name] for name in ROW] for image in header.images]
    notes = list(dict.fromkeys(header.malformed))
    return Walked(rows, header.pixel_data, _size(path)), notes, False


def _require_image(walked: Walked) -> None:
    if walked.pixel_data == "cut":
        raise UnreadableFile("is cut short in its pixel data")
    if walked.pixel_data == "none" and walked.rows[0][_ROWS] is None:
        raise UnreadableFile("is DICOM but no image: it has neither Rows nor pixel data")


def _nothing_readable(directory: Path, errors: list[str]) -> str:
    if not errors:
        return f"{directory} has no files"
    return f"{directory} has no readable DICOM image among {len(errors)} files: {errors[0]}"
