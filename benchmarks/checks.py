"""What `series_quality` and its checks cost on as many series as the data set has.

The tables of made-up series are written straight to disk, without any raw data, and registered as
done; then the two assets and the checks run as Dagster runs them. Prints a table and a line of
JSON.

    python benchmarks/checks.py [--series 4400] [--images 230] [--keep DIR]
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from aneurysm_assets.definitions import build_defs
from aneurysm_assets.runs.partitions import complete, recorded_files, register
from aneurysm_assets.runs.resources import SettingsResource
from aneurysm_assets.schema.tables import (
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
from aneurysm_assets.settings import Settings

PREFIX = "1.2.826.0.1.3680043.8.498"
SPOILT = 5
"""Every so-many-th series has a problem, each time another: findings cost too."""


def uid_of(number: int) -> str:
    """Return a UID as long as those of the data set."""
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
        "is_scout": np.full(count, False),
        "dicom_path": [f"series/{uid}/{uid}.{n}.dcm" for n in range(count)],
        "file_size": np.full(count, 525_000),
    }
    return filled(table, DICOM_TAGS, count)


def labels_of(number: int) -> pl.DataFrame:
    """Return the `labels` of a series: every second one has an aneurysm."""
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
    """Return the `localizers` of a series: a point where it has an aneurysm."""
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
    """Return a table of the given columns, null in all others."""
    return pl.DataFrame(
        [
            pl.Series(name, columns.get(name, [None] * count), dtype=dtype)
            for name, dtype in table.schema.items()
        ]
    )


def write_tables(settings: Settings, series: int, images: int) -> None:
    """Write the four tables of every series."""
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


def record_done(instance: dg.DagsterInstance, series: Sequence[str], images: int) -> None:
    """Register the series and record their materialisations, as runs would have."""
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
    """Let `peak_mb` begin anew, where the system can do that."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def measured(step: Callable[[], object]) -> dict[str, float]:
    """Return the wall time and peak memory of a step."""
    forget_peak()
    start = time.perf_counter()
    step()
    return {"seconds": round(time.perf_counter() - start, 2), "peak_mb": round(peak_mb())}


def main() -> None:
    """Read the options, and leave nothing behind that was not asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
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
    """Measure each step once, and print what it took."""
    source = SettingsResource(data=str(data))
    settings = source.get()
    if not settings.interim.exists():
        print(f"writing the tables of {series} series", file=sys.stderr)
        write_tables(settings, series, images)
    with dg.DagsterInstance.ephemeral() as instance:
        print("recording them as done", file=sys.stderr)
        record_done(instance, sorted(map(uid_of, range(series))), images)
        job = build_defs({"settings": source}).resolve_implicit_global_asset_job_def()
        checks_alone = job.get_subset(
            asset_selection=set(),
            asset_check_selection=set(job.asset_layer.asset_graph.asset_check_keys),
        )
        steps = {
            "unified_metadata, before it": lambda: materialise(instance, job, UNIFIED_METADATA),
            "series_quality with its checks": lambda: materialise(instance, job, SERIES_QUALITY),
            "  of that, who is done": lambda: complete(instance, settings),
            "  of that, how many files each had": lambda: recorded_files(instance),
            "the checks alone": lambda: materialise(instance, checks_alone),
        }
        results = {name.strip(): measured(step) for name, step in steps.items()}
    found = pl.read_parquet(settings.interim / "series_quality.parquet")
    problems = int(found["findings"].is_not_null().sum())
    print(f"{series} series of {images} images, {problems} of them with a problem\n")
    print(f"{'':40}{'seconds':>10}{'peak MB':>10}")
    for name in steps:
        result = results[name.strip()]
        print(f"{name:40}{result['seconds']:>10.2f}{result['peak_mb']:>10.0f}")
    print()
    print(json.dumps({"series": series, "images": images, "steps": results}))


def materialise(instance: dg.DagsterInstance, job: dg.JobDefinition, *tables: Table) -> None:
    """Execute a job, of its assets only those tables where some are named."""
    result = job.execute_in_process(
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        asset_selection=[dg.AssetKey(table.name) for table in tables] or None,
        raise_on_error=False,
    )
    if not result.success:
        raise SystemExit("a step failed")


if __name__ == "__main__":
    main()
