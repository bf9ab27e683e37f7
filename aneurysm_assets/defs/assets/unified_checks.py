"""The checks of `unified_metadata` itself: what is not in it, told by the run that makes it.

What is wrong with a series is a check of `series_quality`.
"""

from collections.abc import Mapping

import dagster as dg

from aneurysm_assets.schema.tables import UNIFIED_METADATA

_KEY = dg.AssetKey(UNIFIED_METADATA.name)

LEFT_OUT, UNREADABLE, WITHOUT_IMAGE = (
    "series_left_out",
    "unreadable_files",
    "localizers_without_image",
)

_CHECKS: Mapping[str, tuple[dg.AssetCheckSeverity, str, str]] = {
    LEFT_OUT: (
        dg.AssetCheckSeverity.ERROR,
        "Series that are not done in all four tables below, so that they are not in this one.",
        "dicom_tags, labels, localizers and segmentation_meta",
    ),
    UNREADABLE: (
        dg.AssetCheckSeverity.WARN,
        "Files that cannot be read; their rows have a `read_error` and no header.",
        "reading",
    ),
    WITHOUT_IMAGE: (
        dg.AssetCheckSeverity.WARN,
        "Points that stand on no row; `localizers_without_image.parquet` has them, with a reason.",
        "train_localizers.csv",
    ),
}
"""Severity, what is looked for, and where it comes from, by the name of the check."""


def check_specs() -> list[dg.AssetCheckSpec]:
    """Return what the asset checks, as Dagster lists it."""
    return [
        dg.AssetCheckSpec(
            name, asset=_KEY, description=f"Finds: {looked_for}", metadata=_facts(name)
        )
        for name, (_, looked_for, _) in _CHECKS.items()
    ]


def check_results(found: Mapping[str, int]) -> list[dg.AssetCheckResult]:
    """Return what came of each check.

    Parameters
    ----------
    found : mapping of str to int
        How many were found, by the name of the check.
    """
    return [
        dg.AssetCheckResult(
            asset_key=_KEY,
            check_name=name,
            passed=found[name] == 0,
            severity=severity,
            description=f"Found {found[name]}: {looked_for}"
            if found[name]
            else f"Passed: there are none. Looked for: {looked_for}",
            metadata={"found": found[name], **_facts(name)},
        )
        for name, (severity, looked_for, _) in _CHECKS.items()
    ]


def _facts(name: str) -> dict[str, str]:
    severity, _, source = _CHECKS[name]
    return {"severity": severity.value, "tolerance": "none", "source": source}
