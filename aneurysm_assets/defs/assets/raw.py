"""The raw inputs as external assets, so that lineage begins at the files."""

import dagster as dg

RAW_SERIES = dg.AssetKey(["raw", "series"])
TRAIN_CSV = dg.AssetKey(["raw", "train_csv"])
TRAIN_LOCALIZERS_CSV = dg.AssetKey(["raw", "train_localizers_csv"])
RAW_SEGMENTATIONS = dg.AssetKey(["raw", "segmentations"])

raw_inputs: list[dg.AssetSpec] = [
    dg.AssetSpec(
        RAW_SERIES,
        group_name="raw",
        kinds={"dicom"},
        description="The DICOM files: `series/{SeriesInstanceUID}/*.dcm` under the raw root.",
    ),
    dg.AssetSpec(
        TRAIN_CSV,
        group_name="raw",
        kinds={"csv"},
        description="`train.csv`: one row per series, its patient, modality and 14 labels.",
    ),
    dg.AssetSpec(
        TRAIN_LOCALIZERS_CSV,
        group_name="raw",
        kinds={"csv"},
        description="`train_localizers.csv`: one row per aneurysm point.",
    ),
    dg.AssetSpec(
        RAW_SEGMENTATIONS,
        group_name="raw",
        kinds={"nifti"},
        description="The NIfTI pairs: `segmentations/{SeriesInstanceUID}/*.nii`, or flat.",
    ),
]
