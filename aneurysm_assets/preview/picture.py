"""One series to one picture on disk."""

import polars as pl

from aneurysm_assets.dicom.series import SeriesTable, read_series
from aneurysm_assets.errors import MachineError, SeriesError
from aneurysm_assets.messages import counted
from aneurysm_assets.parallel.series_map import SeriesResult
from aneurysm_assets.preview.drawing import Sheet, draw, fit, marked_points, png, thumbnail
from aneurysm_assets.preview.overlay import Labels, labels_at
from aneurysm_assets.preview.panels import Composition, Panel, compose
from aneurysm_assets.raw.fingerprints import fingerprint_of_preview
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from aneurysm_assets.raw.segmentation_files import segmentation_files
from aneurysm_assets.schema.tables import LOCALIZERS, SERIES_PREVIEW
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.atomic_files import StagedFiles
from aneurysm_assets.storage.object_path import Location
from aneurysm_assets.storage.table_files import StoredPicture, write_bytes


def write_preview(
    settings: Settings,
    localizers: LocalizersCsv,
    series_uid: str,
    *,
    staged: StagedFiles | None = None,
) -> SeriesResult:
    """Draw a series and write its picture.

    Parameters
    ----------
    settings : Settings
        Where things are.
    localizers : LocalizersCsv
        The points of all series.
    series_uid : str
        SeriesInstanceUID.
    staged : StagedFiles, optional
        Where the file waits for `batch_commit`; without it the file is put in its place.

    Raises
    ------
    SeriesError
        The series cannot be read, or no pixel of it decoded.
    OSError
        The picture cannot be written.
    """
    stem = settings.table_of_series(SERIES_PREVIEW.name, series_uid)
    # Before anything is read: what changes meanwhile makes the picture stale, never fresh.
    fingerprint = fingerprint_of_preview(settings, localizers, series_uid)
    series = read_series(settings.directory_of_series(series_uid), settings.raw, settings.threads)
    images = series.frame.filter(pl.col("read_error").is_null())
    notes: list[str] = []
    shown = compose(settings.raw, images, _points(localizers, series_uid, notes))
    panels = shown.panels
    vessels, read = _vessels(settings, series_uid, panels, notes)
    notes = [*shown.notes, *notes]
    sheet = Sheet(
        heading=series_uid,
        subheading=_described(images, series, shown),
        panels=panels,
        vessels=vessels,
        breaks=len(shown.middle),
        notes=notes,
    )
    image = draw(sheet)
    content = png(image, marked_points(sheet))
    path = stem.parent / f"{stem.name}.png"
    write_bytes(path, content, staged=staged)
    decoded = images.filter(pl.col("dicom_path").is_in(list(shown.decoded)))
    sizes = decoded.unique("dicom_path")["file_size"].to_list()
    return SeriesResult(
        table=None,
        picture=StoredPicture(
            path=path,
            size=len(content),
            thumbnail=thumbnail(image),
            description=_alternative_text(series_uid, shown),
            points=shown.points,
            points_shown=shown.points_shown,
            layout=shown.layout,
        ),
        files=len(sizes) + len(read),
        unreadable_files=series.unreadable_files,
        bytes=sum(sizes) + sum(path.stat().st_size for path in read),
        notes=tuple(notes),
        fingerprint=fingerprint,
    )


def _points(localizers: LocalizersCsv, series_uid: str, notes: list[str]) -> pl.DataFrame:
    try:
        return localizers.localizers(series_uid)
    except SeriesError as error:
        notes.append(f"no points: {error}")
        return LOCALIZERS.without_rows


def _vessels(
    settings: Settings, series_uid: str, panels: list[Panel], notes: list[str]
) -> tuple[list[Labels | None], list[Location]]:
    """Return the vessel label of each drawn pixel of each panel, and the files read for it."""
    nothing: list[Labels | None] = [None] * len(panels)
    placed = {n: panel.plane for n, panel in enumerate(panels) if panel.plane is not None}
    try:
        files = segmentation_files(settings.segmentations_root, series_uid)
        files = [path for path in files if "_cowseg" in path.name]
        if not files or not placed:
            return nothing, []
        grids = [plane.at(*fit(panels[n]).panel_grid()) for n, plane in placed.items()]
        found = labels_at(files[0], grids)
    except MachineError:
        raise  # a picture without them would stay: its input is the same when the file is given
    except SeriesError as error:
        notes.append(f"no vessel labels: {error}")
        return nothing, []
    by_panel = dict(zip(placed, found, strict=True))
    return [by_panel.get(n) for n in range(len(panels))], files


def _described(images: pl.DataFrame, series: SeriesTable, shown: Composition) -> str:
    first = images.row(0, named=True)
    parts = [
        first["Modality"] or "no modality",
        counted(images.height, "image")
        + (f" in {counted(series.files, 'file')}" if series.files == 1 else "")
        + (f" in {counted(shown.groups, 'group')}" if shown.groups > 1 else ""),
        f"{first['Rows']} x {first['Columns']}",
    ]
    if first["PixelSpacing"]:
        millimetres = [*first["PixelSpacing"], first["slice_spacing_mm"]]
        parts.append(" x ".join(f"{mm:.3g}" for mm in millimetres if mm) + " mm")
    parts.append(f"{shown.window.low:.0f} to {shown.window.high:.0f} ({shown.window.source})")
    if shown.points:
        parts.append(f"{shown.points_shown} of {shown.points} points marked")
    return "  ·  ".join(parts)


def _alternative_text(series_uid: str, shown: Composition) -> str:
    what = "three planes" if shown.layout == "planes" else "montage"
    return f"{series_uid}: {what}, {shown.points_shown} of {shown.points} points marked"
