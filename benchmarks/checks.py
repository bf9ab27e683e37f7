"""What `series_quality` and its checks cost on as many series as the data set has.

The tables of made-up series are written straight to disk, without any raw data, and registered as
done; then the two assets and the checks run as Dagster runs them. Prints a table and a line of JSON.

    python benchmarks/checks.py [--series 4400] [--images 230] [--keep DIR]
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from aneurysm_assets.definitions import build_defs
from aneurysm_assets.partitions import recorded_files, register
from aneurysm_assets.resources import SettingsResource
from aneurysm_assets.settings import Settings
from aneurysm_assets.tables import (
    DICOM_TAGS,
    LABELS,
    LOCALIZERS,
    LOCATIONS,
    SEGMENTATION_META,
    SERIES_KEY,
    SERIES_QUALITY,
    SERIES_TABLES,
    UNIFIED_METADATA,
    Table,
)

PREFIX = "1.2.826.0.1.3680043.8.498"
SPOILT = 5
"""Every so-many-th series has a problem, each time another: findings cost too."""


def uid_of(number: int) -> str:
    return f"{PREFIX}.{10**38 + number * 7919}"


def images_of(number: int, count: int) -> pl.DataFrame:
    """Return the `dicom_tags` of a CT: straight axial slices of 0.5 mm, or one thing else."""
    uid = uid_of(number)
    z = np.arange(count) * 0.5 - 100
    y = np.full(count, -120.0)
    spoilt = number // SPOILT % 6 if number % SPOILT == 0 else None
    if spoilt == 0:
        z[count // 2 :] += 0.5
    elif spoilt == 1:
        y += np.arange(count) * 0.09
    elif spoilt == 2:
        z[:] = 0
    table: dict[str, Any] = {
        SERIES_KEY: [uid] * count,
        "SOPInstanceUID": [f"{uid}.{n}" for n in range(count)],
        "InstanceNumber": np.arange(1, count + 1),
        "Modality": ["CT"] * count,
        "Rows": np.full(count, 512),
        "Columns": np.full(count, 512),
        "BitsStored": np.full(count, 12),
        "PixelRepresentation": np.full(count, 0),
        "RescaleSlope": np.full(count, 1.0),
        "RescaleIntercept": np.full(count, -1024.0),
        "SliceThickness": [None if spoilt == 3 else 0.75] * count,
        "SpacingBetweenSlices": np.full(count, 18.0 if spoilt == 4 else 0.5),
        "ImagePositionPatient": np.column_stack([np.full(count, -110.0), y, z]),
        "ImageOrientationPatient": np.tile([1.0, 0, 0, 0, 1, 0], (count, 1)),
        "PixelSpacing": np.tile([0.4, 0.4], (count, 1)),
        "slice_position_mm": z,
        "slice_index": np.arange(count),
        "slice_spacing_mm": np.full(count, 0.5),
        "orientation_plane": ["axial"] * count,
        "is_localizer_image": np.full(count, False),
        "dicom_path": [f"series/{uid}/{uid}.{n}.dcm" for n in range(count)],
        "file_size": np.full(count, 525_000),
    }
    return filled(table, DICOM_TAGS, count)


def labels_of(number: int) -> pl.DataFrame:
    positive = number % 2
    row: dict[str, Any] = {
        SERIES_KEY: [uid_of(number)],
        "PatientAge": [60],
        "PatientSex": ["Female"],
        "Modality": ["MRA" if number % SPOILT == 0 and number // SPOILT % 6 == 5 else "CTA"],
        "Aneurysm Present": [positive],
        **{name: [positive if place == 0 else 0] for place, name in enumerate(LOCATIONS)},
    }
    return filled(row, LABELS, 1)


def points_of(number: int, images: int) -> pl.DataFrame:
    if number % 2 == 0:
        return LOCALIZERS.schema.to_frame()
    uid = uid_of(number)
    point = {
        SERIES_KEY: [uid],
        "SOPInstanceUID": [f"{uid}.{images // 2}"],
        "x": [200.5],
        "y": [220.25],
        "location": [LOCATIONS[0]],
    }
    return filled(point, LOCALIZERS, 1)


def filled(columns: dict[str, Any], table: Table, count: int) -> pl.DataFrame:
    return pl.DataFrame(
        [
            pl.Series(name, columns.get(name, [None] * count), dtype=dtype)
            for name, dtype in table.schema.items()
        ]
    )


def write_tables(settings: Settings, series: int, images: int) -> None:
    for table in SERIES_TABLES:
        (settings.interim / table.name).mkdir(parents=True)
    makers: dict[str, Callable[[int], pl.DataFrame]] = {
        DICOM_TAGS.name: lambda number: images_of(number, images),
        LABELS.name: labels_of,
        LOCALIZERS.name: lambda number: points_of(number, images),
        SEGMENTATION_META.name: lambda _: SEGMENTATION_META.schema.to_frame(),
    }
    for number in range(series):
        for name, make in makers.items():
            # Not store.write_table: it flushes each file, for minutes, which nobody measures here.
            make(number).write_parquet(settings.interim / name / f"{uid_of(number)}.parquet")


def record_done(instance: dg.DagsterInstance, series: Iterable[str], images: int) -> None:
    register(instance, series)
    for table in SERIES_TABLES:
        for uid in series:
            instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    table.name, partition=uid, metadata={"files": images, "rows": images}
                )
            )


def peak_mb() -> float:
    """Return the most memory that this process has held since `forget_peak`."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def measured(step: Callable[[], Any]) -> dict[str, float]:
    forget_peak()
    start = time.perf_counter()
    result = step()
    seconds = time.perf_counter() - start
    if isinstance(result, dg.ExecuteInProcessResult) and not result.success:
        raise SystemExit("a step failed")
    return {"seconds": round(seconds, 2), "peak_mb": round(peak_mb())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=4_400)
    parser.add_argument("--images", type=int, default=230)
    parser.add_argument("--keep", type=Path, help="reuse the tables there, or leave them there")
    options = parser.parse_args()
    data = options.keep or Path(tempfile.mkdtemp(prefix="checks-"))
    try:
        report(data, options.series, options.images)
    finally:
        if options.keep is None:
            shutil.rmtree(data)


def report(data: Path, series: int, images: int) -> None:
    resource_ = SettingsResource(data=str(data))
    settings = resource_.get()
    (data / "dagster").mkdir(parents=True, exist_ok=True)
    if not settings.interim.exists():
        print(f"writing the tables of {series} series", file=sys.stderr)
        write_tables(settings, series, images)
    with dg.DagsterInstance.ephemeral(tempdir=str(data / "dagster")) as instance:
        print("recording them as done", file=sys.stderr)
        record_done(instance, sorted(map(uid_of, range(series))), images)
        job = build_defs({"settings": resource_}).resolve_implicit_global_asset_job_def()
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

        def execute(job: dg.JobDefinition, **what: Any) -> dg.ExecuteInProcessResult:
            return job.execute_in_process(
                instance=instance, run_config=quiet, raise_on_error=False, **what
            )

        quality = dg.AssetKey(SERIES_QUALITY.name)
        checks = {spec.key for spec in build_defs().resolve_all_asset_check_specs()} if False else None
        alone = job.get_subset(
            asset_selection=set(),
            asset_check_selection={key for key in job.asset_layer.asset_graph.asset_check_keys},
        )
        steps: dict[str, Callable[[], Any]] = {
            "unified_metadata (before it)": lambda: execute(
                job, asset_selection=[dg.AssetKey(UNIFIED_METADATA.name)]
            ),
            "series_quality with its checks": lambda: execute(job, asset_selection=[quality]),
            "of that: reading the record of files": lambda: recorded_files(instance),
            "the checks alone": lambda: execute(alone),
        }
        results = {name: measured(step) for name, step in steps.items()}
    found = pl.read_parquet(settings.interim / "series_quality.parquet")
    print(f"{series} series of {images} images, {int(found['findings'].is_not_null().sum())} with a problem\n")
    print(f"{'':40}{'seconds':>10}{'peak MB':>10}")
    for name, result in results.items():
        print(f"{name:40}{result['seconds']:>10.2f}{result['peak_mb']:>10.0f}")
    print()
    print(json.dumps({"series": series, "images": images, "steps": results}))


if __name__ == "__main__":
    main()
