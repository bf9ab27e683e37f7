"""Writes the `dicom_tags` of one series.

pydicom is imported where it is used: importing it takes the process that hands out the work as
long as importing Dagster.
"""

from aneurysm_assets.messages import lines_in_brief, names_in_brief
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.raw.fingerprints import fingerprint_of_series, require_unchanged
from aneurysm_assets.schema.about import about_images
from aneurysm_assets.schema.tables import DICOM_TAGS
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import StagedFiles
from aneurysm_assets.storage.object_path import ObjectPath
from aneurysm_assets.storage.table_files import write_table

_MOST_NOTES = 5


def write_dicom_tags(
    settings: Settings, series_instance_uid: str, *, staged: StagedFiles | None = None
) -> SeriesResult:
    """Read the headers of a series' files and write its `dicom_tags`.

    Raises
    ------
    SeriesError
        The directory cannot be read, holds no readable DICOM image, or changed meanwhile.
    OSError
        The table cannot be written.
    """
    from aneurysm_assets.dicom.series import read_series  # noqa: PLC0415 - as said above

    stem = settings.table_of_series(DICOM_TAGS.name, series_instance_uid)
    directory = settings.directory_of_series(series_instance_uid)
    # In a bucket each file is asked for by the version that was listed.
    in_bucket = isinstance(directory, ObjectPath)
    before = "" if in_bucket else fingerprint_of_series(settings, series_instance_uid)
    series = read_series(directory, settings.raw, settings.threads)
    if before:
        require_unchanged(f"{directory}: its files", before, series.fingerprint)
    table = write_table(series.frame, DICOM_TAGS, stem, staged=staged)
    notes = [f"header that cannot be believed: {text}" for text in series.malformed]
    notes = lines_in_brief(notes, _MOST_NOTES, "more such headers")
    if series.litter:
        notes.append(f"passed over, as no image by its name: {names_in_brief(series.litter)}")
    if series.directories:
        named = names_in_brief(series.directories)
        notes.append(f"not entered, as only files directly in a series are its images: {named}")
    return SeriesResult(
        table=table,
        files=series.files,
        unreadable_files=series.unreadable_files,
        bytes=series.bytes,
        fast_files=series.fast_files,
        notes=(*notes, *table.warnings),
        fingerprint=series.fingerprint,
        about=about_images(series.frame),
    )
