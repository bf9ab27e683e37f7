"""What the Dagster UI shows beside every asset: where to read on, and where its code is.

What an asset is and makes, its group, kinds and columns, stands with the asset; what its page says
of it in `pages`.
Owners are left to whoever runs this. No asset has a freshness policy: the data set is released, not
streamed, an old table can be right, and whether it is up to date is what a check tells.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg

from aneurysm_assets.defs.assets import raw
from aneurysm_assets.defs.pages import PAGES
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

_DATA_SET = "https://www.kaggle.com/competitions/rsna-intracranial-aneurysm-detection/data"
_PART_3 = "https://dicom.nema.org/medical/dicom/current/output/chtml/part03"
_MODULES = f"{_PART_3}/PS3.3.html"
_PIXEL_TO_PATIENT = f"{_PART_3}/sect_C.7.6.2.html"
_KEYWORDS = "https://dicom.nema.org/medical/dicom/current/output/chtml/part06/chapter_6.html"
_NIFTI = "https://nifti.nimh.nih.gov/nifti-1"

DOCS: Mapping[dg.AssetKey, Mapping[str, str]] = {
    raw.RAW_SERIES: {"data set": _DATA_SET, "DICOM modules": _MODULES},
    raw.TRAIN_CSV: {"data set": _DATA_SET},
    raw.TRAIN_LOCALIZERS_CSV: {"data set": _DATA_SET},
    raw.RAW_SEGMENTATIONS: {"data set": _DATA_SET, "NIfTI-1": _NIFTI},
    dg.AssetKey(DICOM_TAGS.name): {"DICOM keywords": _KEYWORDS, "DICOM modules": _MODULES},
    dg.AssetKey(LABELS.name): {"data set": _DATA_SET},
    dg.AssetKey(LOCALIZERS.name): {"data set": _DATA_SET, "pixel to patient": _PIXEL_TO_PATIENT},
    dg.AssetKey(SEGMENTATION_META.name): {
        "NIfTI-1": _NIFTI,
        "axes and affines": "https://nipy.org/nibabel/coordinate_systems.html",
    },
    dg.AssetKey(UNIFIED_METADATA.name): {
        "data set": _DATA_SET,
        "DICOM keywords": _KEYWORDS,
        "reading Parquet": "https://docs.pola.rs/user-guide/io/parquet/",
    },
    dg.AssetKey(VOLUMES.name): {
        "pixel to patient": _PIXEL_TO_PATIENT,
        "affines": "https://nipy.org/nibabel/coordinate_systems.html",
    },
    dg.AssetKey(SERIES_QUALITY.name): {
        "DICOM modules": _MODULES,
        "geometry checks": "https://github.com/ImagingDataCommons/idc-index-data",
    },
    dg.AssetKey(DATASET_REPORT.name): {"data set": _DATA_SET},
    dg.AssetKey(SERIES_PREVIEW.name): {"window": f"{_PART_3}/sect_C.11.2.html"},
}
"""Where to read on, by asset: a name and an address each."""


def presented(
    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec],
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Return assets with their pages, and links to documents and code.

    The places in the code are those of the files that are running, found when this is called.
    """
    with warnings.catch_warnings():
        # "In beta" since long; users need not read it at each start.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [
            _presented(a) if isinstance(a, dg.AssetSpec) else a.map_asset_specs(_presented)
            for a in dg.with_source_code_references(assets)
            if isinstance(a, dg.AssetSpec | dg.AssetsDefinition)
        ]


def _presented(spec: dg.AssetSpec) -> dg.AssetSpec:
    links = {
        f"docs/{name}": dg.MetadataValue.url(url) for name, url in DOCS.get(spec.key, {}).items()
    }
    page = PAGES.get(spec.key.to_user_string())
    if page is not None:
        spec = spec.replace_attributes(description=page.as_markdown(spec.description or ""))
    return spec.merge_attributes(metadata={**_declared_in(spec), **links})


def _declared_in(spec: dg.AssetSpec) -> dict[str, dg.CodeReferencesMetadataValue]:
    """Return where an external asset is declared: it has no function that Dagster could find."""
    if "dagster/code_references" in spec.metadata:
        return {}
    here = dg.LocalFileCodeReference(file_path=str(Path(raw.__file__).resolve()))
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[here])}
