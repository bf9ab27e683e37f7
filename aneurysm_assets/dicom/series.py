"""Reads a series directory to one table: one row per image, and one per file without an image."""

import errno
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import polars as pl

from aneurysm_assets.dicom.attributes import SLOTS
from aneurysm_assets.dicom.columns import SeriesColumns
from aneurysm_assets.dicom.fast_parser.reader import SeriesReader
from aneurysm_assets.dicom.fast_parser.walk import Walked
from aneurysm_assets.dicom.header import (
    NO_IMAGE,
    NO_REGULAR_FILE,
    ROW,
    Header,
)
from aneurysm_assets.errors import SeriesError, UnreadableFile
from aneurysm_assets.messages import names_in_brief
from aneurysm_assets.schema.columns import SERIES_KEY
from aneurysm_assets.storage.fetching import ObjectFile, list_files, open_all
from aneurysm_assets.storage.fingerprint import fingerprint_of_directory, fingerprint_of_objects
from aneurysm_assets.storage.listing import is_directory
from aneurysm_assets.storage.litter import without_litter
from aneurysm_assets.storage.object_path import Location, ObjectPath, relative_name
from aneurysm_assets.storage.read_ahead import OpenFile, ReadAhead, open_ahead
from aneurysm_assets.volumes.series_geometry import add_geometry

_ROWS = SLOTS["Rows"]
_WITHOUT_PIXELS = ("none", "unknown")

_File = str | OpenFile | ObjectFile
"""An open file or object, or the path of a file that cannot or must not be opened."""


@dataclass(frozen=True)
class SeriesTable:
    """The table of one series, and what was read for it.

    Attributes
    ----------
    frame : pl.DataFrame
        With the schema of `tables.DICOM_TAGS`, in the order of InstanceNumber (files without
        one last), path and frame.
    files : int
        Files in the directory.
    unreadable_files : int
        Files with a `read_error`.
    fast_files : int
        Files whose header was read without pydicom.
    bytes : int
        The size of all files together.
    malformed : list of str
        `file: tag: reason` for each value that is null because it is not what its tag requires,
        and each element that breaks PS3.5.
    litter : tuple of str
        Names of files that were passed over, as `storage.litter` says.
    directories : tuple of str
        Names of directories in it, which are not entered.
    fingerprint : str
        Of the files that were read: in a bucket from the listing by which they were, on a disk
        as they stand once they are.
    """

    frame: pl.DataFrame
    files: int
    unreadable_files: int
    fast_files: int
    bytes: int
    malformed: list[str]
    litter: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    fingerprint: str = ""


def read_series(directory: Location, raw_root: Location, threads: int | None = None) -> SeriesTable:
    """Read the headers of all files of a series.

    Parameters
    ----------
    directory : Location
        Its name is the SeriesInstanceUID. All its files but litter are read whatever their name;
        directories below it are not entered.
    raw_root : Location
        `dicom_path` is relative to it.
    threads : int, optional
        How many threads read ahead. The default is the default of `read_ahead.ReadAhead`, and of
        `fetching.open_all` in a bucket.

    Returns
    -------
    SeriesTable
        Every file is accounted for by at least one row.

    Raises
    ------
    SeriesError
        The directory cannot be read, or no file of it is a readable DICOM image. In a bucket
        also where the store does not give a file, or not the version that it listed.
    """
    folder = relative_name(directory, raw_root)
    if isinstance(directory, ObjectPath):
        listed = list_files(directory)
        objects = {name: listed.files[name] for name in without_litter(listed.files)}
        litter = tuple(name for name in listed.files if name not in objects)
        _require_files(directory, len(objects), litter, listed.directories)
        with closing(open_all(directory, objects, threads)) as files_of_bucket:
            opened = zip(objects, files_of_bucket, repeat(True))
            table = _read_all(directory, folder, len(objects), opened)
        fingerprint = fingerprint_of_objects(listed.files)
        return replace(
            table, litter=litter, directories=listed.directories, fingerprint=fingerprint
        )
    files, litter, directories = _files(directory)
    _require_files(directory, len(files), litter, directories)
    with closing(_read_ahead(directory, files, threads)) as opened_files:
        table = _read_all(directory, folder, len(files), opened_files)
    fingerprint = fingerprint_of_directory(directory, [name for name, _ in files])
    return replace(table, litter=litter, directories=directories, fingerprint=fingerprint)


def _require_files(
    directory: Location, number: int, litter: Sequence[str], directories: Sequence[str]
) -> None:
    """Refuse a directory without files that may be images, and say what is there instead."""
    if number:
        return
    others = [f"what is no image by its name: {names_in_brief(litter)}"] if litter else []
    if directories:
        others.append(f"directories, which are not entered: {names_in_brief(directories)}")
    if not others:
        raise SeriesError(f"{directory} has no files")
    raise SeriesError(
        f"{directory} has no files that could be images, only {'; and '.join(others)}: "
        "put the images themselves into it"
    )


def _read_all(
    directory: Location, folder: str, number: int, files: Iterable[tuple[str, _File, bool]]
) -> SeriesTable:
    columns = SeriesColumns(directory.name)
    malformed: list[str] = []
    errors: list[str] = []
    fast = total = 0
    reader = SeriesReader(number)
    for name, file, is_regular in files:
        shown = name if name.isascii() else _as_text(name)
        try:
            walked, notes, is_fast = _read(reader, file, is_regular)
            fast += is_fast
            _require_image(walked)
        except UnreadableFile as error:
            errors.append(f"{shown} {error}")
            size = _size(file)
            columns.add_unreadable(f"{folder}/{shown}", size, str(error))
        else:
            malformed += (f"{shown}: {note}" for note in notes)
            size = walked.size
            columns.add(walked, f"{folder}/{shown}", notes)
        total += size
    if len(errors) == number:
        raise SeriesError(
            f"{directory} has no readable DICOM image among {number} files: {errors[0]}"
        )
    frame = add_geometry(columns.to_frame())
    return SeriesTable(frame, number, len(errors), fast, total, malformed)


def _files(
    directory: Path,
) -> tuple[list[tuple[str, bool]], tuple[str, ...], tuple[str, ...]]:
    """Return each file's name in order and whether it is regular; the litter; the directories."""
    files: dict[str, bool] = {}
    directories: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if is_directory(entry):
                    directories.append(entry.name)
                else:
                    files[entry.name] = _is_file(entry)
    except OSError as error:
        raise SeriesError(f"{directory} cannot be read: {error.strerror}") from error
    kept = sorted(without_litter(files))
    litter = tuple(sorted(files.keys() - set(kept)))
    return [(name, files[name]) for name in kept], litter, tuple(sorted(directories))


def _read_ahead(
    directory: Path, files: list[tuple[str, bool]], threads: int | None
) -> Generator[tuple[str, _File, bool]]:
    """Yield each name, file and whether it is regular, while the next files are fetched."""
    # Making a Path costs as much as reading the file.
    paths = [os.path.join(directory, name) for name, _ in files]  # noqa: PTH118
    regular = [path for path, (_, is_regular) in zip(paths, files, strict=True) if is_regular]
    with ReadAhead(regular, threads) as ahead, closing(open_ahead(regular)) as opened:
        for path, (name, is_regular) in zip(paths, files, strict=True):
            if not is_regular:
                yield name, path, False
                continue
            yield name, next(opened), True
            ahead.file_done()


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        # A link to itself is no file. Any other link that cannot be followed counts as one, so that
        # opening it gives the reason.
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


def _size(file: _File) -> int:
    if not isinstance(file, str):
        return file.size
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0  # the row's read_error says that the file cannot be opened


def _read(reader: SeriesReader, file: _File, is_regular: bool) -> tuple[Walked, list[str], bool]:
    """Return what a file holds, its malformed values, and whether it was read without pydicom."""
    if not is_regular:
        raise UnreadableFile(NO_REGULAR_FILE)
    walked = reader.read_object(file) if isinstance(file, ObjectFile) else reader.read(file)
    if walked is not None:
        return walked, [], True
    if isinstance(file, ObjectFile):
        header = _read_object(file)
    else:
        header = _by_pydicom(file.path if isinstance(file, OpenFile) else file)
    of_file = {"NumberOfFrames": header.number_of_frames, SERIES_KEY: header.series_instance_uid}
    rows = [[(image | of_file)[name] for name in ROW] for image in header.images]
    notes = list(dict.fromkeys(header.malformed))
    return Walked(rows, header.pixel_data, _size(file)), notes, False


def _by_pydicom(file: Path | str | ObjectFile) -> Header:
    # With pydicom, which takes longer to import than most series to read, and which few files need.
    from aneurysm_assets.dicom.pydicom_header import read_header  # noqa: PLC0415

    return read_header(file)


def _read_object(file: ObjectFile) -> Header:
    try:
        header = _by_pydicom(file)
    except UnreadableFile:
        file.require_given()  # what the store did not give must not look like a broken file
        raise
    file.require_given()
    return header


def _require_image(walked: Walked) -> None:
    if walked.pixel_data in _WITHOUT_PIXELS and walked.rows[0][_ROWS] is None:
        raise UnreadableFile(NO_IMAGE)
