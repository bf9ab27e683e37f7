"""What each asset's page in the Dagster UI says above its columns: why, how to load it, what next.

What an asset is, and of a table what a row is, stands with the schema; it is the first line.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from aneurysm_assets.schema.tables import (
    DATASET_REPORT,
    DICOM_TAGS,
    LABELS,
    LOCALIZERS,
    SEGMENTATION_META,
    SERIES_PREVIEW,
    SERIES_QUALITY,
    UNIFIED_METADATA,
    VOLUMES,
)


@dataclass(frozen=True)
class Page:
    """What a newcomer asks of an asset.

    Attributes
    ----------
    why : str
        Why it exists.
    load : str
        Python that loads it, run beside the data root `data`; or a sentence where none does.
    next : str
        What to look at, or to do, then.
    """

    why: str
    load: str
    next: str

    def as_markdown(self, what: str) -> str:
        """Return the page under a first line that says what the asset is."""
        load = f"\n```python\n{self.load}\n```" if "import" in self.load else f" {self.load}"
        return f"{what}\n\n**Why:** {self.why}\n\n**Load it:**{load}\n\n**Next:** {self.next}"


_OPEN = 'import aneurysm_assets as aa\n\ndata = aa.open_dataset("data")\n'
_PARTS = 'import polars as pl\n\n{} = pl.read_parquet("data/interim/{}/*.parquet")'

PAGES: Mapping[str, Page] = {
    DICOM_TAGS.name: Page(
        "A training set needs the header of every image, and reading a million files takes hours: "
        "here that is done once, and again only for series whose files changed.",
        _PARTS.format("images", DICOM_TAGS.name),
        "`unified_metadata` has these rows with labels and points; a partition's page says what "
        "its series is.",
    ),
    LABELS.name: Page(
        "Values of train.csv become typed, and each series has its row, so that no join loses one.",
        _PARTS.format("labels", LABELS.name),
        "`unified_metadata` joins them to the images.",
    ),
    LOCALIZERS.name: Page(
        "The points of train_localizers.csv are Python literals in text; here they are numbers.",
        _PARTS.format("points", LOCALIZERS.name),
        "In `unified_metadata` each stands on its image, in mm, and with its vessel.",
    ),
    SEGMENTATION_META.name: Page(
        "A segmentation lies on its series only by its affine: this tells where, and which vessels "
        "it holds, without opening the file again.",
        _PARTS.format("segmentations", SEGMENTATION_META.name),
        "`segmentation_matches_series` in `unified_metadata` says whether it fits.",
    ),
    UNIFIED_METADATA.name: Page(
        "One table to build a training set from: header, labels, points and segmentation of each "
        "image, so that no DICOM file is opened for its header again.",
        f"{_OPEN}images = data.images().collect()",
        "Leave out by `series_quality` what your method cannot use; `volumes` has affines and "
        "files in order; `dataset_report` shows all of it on one page.",
    ),
    VOLUMES.name: Page(
        "Which images make a volume, in which order, and where it lies, is decided once: here.",
        f"{_OPEN}volumes = data.volumes()",
        "`aa.load_volume(directory)` gives one as NIfTI. Keep each `geometry_group` on one side "
        "when you divide the data.",
    ),
    SERIES_QUALITY.name: Page(
        "Real series have gaps, mixed orientations and points outside their image. Each problem is "
        "a column, so that you choose what to leave out.",
        f"{_OPEN}quality = data.quality()",
        "The checks of this asset name the series of each problem; `findings` says what was found.",
    ),
    SERIES_PREVIEW.name: Page(
        "A look tells what no number does: whether the point is on the aneurysm, and the vessels "
        "on the arteries. It decodes pixels, so it is no part of the default run.",
        "a PNG per series, `data/interim/series_preview/{SeriesInstanceUID}.png`; a partition's "
        "page shows it.",
        "Where a point looks wrong, `series_quality` says whether a check found it too.",
    ),
    DATASET_REPORT.name: Page(
        "Before training on data, one wants to see them whole: what there is, for whom, how it was "
        "imaged, and what is missing.",
        "open `data/interim/dataset_report.html` in a browser.",
        "The problems that it lists are columns of `series_quality`.",
    ),
}
"""By the name of the asset."""
