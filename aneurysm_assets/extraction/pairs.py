"""Which segmentation files a series has: an image and its vessel labels. No file is opened here."""

from pathlib import Path

from aneurysm_assets.extraction.errors import SeriesError
from aneurysm_assets.extraction.uid import is_uid

STEM_SUFFIXES = {"nii": "", "cowseg": "_cowseg"}
"""By the prefix of their columns, what follows the SeriesInstanceUID in the file's name."""

_EXTENSIONS = (".nii", ".nii.gz")
"""The first that exists is taken."""


def segmentation_files(segmentations_root: Path, series_instance_uid: str) -> list[Path]:
    """List the files that `segmentation_meta` reads for a series, to count them and their bytes.

    Parameters
    ----------
    segmentations_root : Path
        The directory of the segmentation directories.
    series_instance_uid : str
        Any series.

    Returns
    -------
    list of Path
        The image, then the vessel labels; those of the two that exist.

    Raises
    ------
    SeriesError
        Whether a file exists cannot be told.
    """
    paths = (
        existing_file(segmentations_root, series_instance_uid, suffix)
        for suffix in STEM_SUFFIXES.values()
    )
    return [path for path in paths if path is not None]


def existing_file(segmentations_root: Path, series_instance_uid: str, suffix: str) -> Path | None:
    """Return the file of a series with one of `STEM_SUFFIXES`, None where there is none.

    Raises
    ------
    SeriesError
        The key is no UID, or whether the file exists cannot be told.
    """
    if not is_uid(series_instance_uid):
        raise SeriesError(f"{series_instance_uid!r} is no DICOM UID, so no path is made of it")
    for extension in _EXTENSIONS:
        name = f"{series_instance_uid}{suffix}{extension}"
        path = segmentations_root / series_instance_uid / name
        try:
            # lstat: a link that leads nowhere is a broken file, not one that was never there.
            path.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SeriesError(f"{path}: {error.strerror or error}") from error
        return path
    return None
