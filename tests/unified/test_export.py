"""The unified table in parts: read back by polars, pandas and DuckDB, whole or not there at all."""

import os
import re
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from aneurysm_assets.errors import InputError
from aneurysm_assets.schema.tables import UNIFIED_METADATA
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage.table_files import write_table
from aneurysm_assets.unified import export as module
from aneurysm_assets.unified.export import MARKER, NULL, export, partition_columns
from tests.conftest import ROOT

# What train.csv or a header may hold, and what a reader could take for something else.
VALUES = (
    *("CTA", "MRA", "MRI T2", None, "1", "01", "", "NaN", "null", "true", "2020-01-01", "a+b"),
    *("../../etc", "/etc", ".", "..", "a=b&c%41", 'é/\\:*?"', " lead", "tab\tline\n", "nul\0"),
)
PRESENT = (0, 1, None)
SCHEMA = UNIFIED_METADATA.schema


def table_of(values: tuple[str | None, ...] = VALUES, repeated: int = 3) -> pl.DataFrame:
    """Return a unified table in which the values alternate as Modality_train."""
    affine = [
        *(0.5, 0.0, 0.0, -1.0),
        *(0.0, 0.5, 0.0, -2.0),
        *(0.0, 0.0, 2.0, 3.0),
        *[0.0] * 3,
        1.0,
    ]
    rows = [
        {
            "SeriesInstanceUID": f"1.2.{row // 4}",
            "SOPInstanceUID": f"1.3.{row}",
            "InstanceNumber": row,
            "PixelSpacing": [0.5, row / 3] if row % 2 else None,
            "orientation_plane": ("axial", "coronal", None)[row % 3],
            "is_scout": (True, False, None)[row % 3],
            "Modality_train": values[row % len(values)],
            "Aneurysm Present": PRESENT[row % 3],
            "nii_affine": affine if row % 4 == 0 else None,
            "cowseg_labels": [0, row] if row % 4 == 0 else None,
        }
        for row in range(repeated * len(values))
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def store(data: Path, frame: pl.DataFrame) -> Settings:
    settings = Settings.from_environment({"ANEURYSM_DATA": str(data)})
    write_table(frame, UNIFIED_METADATA, settings.unified_table)
    return settings


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Settings:
    return store(tmp_path_factory.mktemp("stored"), table_of())


def as_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.sort("InstanceNumber").select(SCHEMA.names()).to_arrow().to_pylist()


def by_polars(directory: Path, by: list[str]) -> list[dict[str, Any]]:
    hive = {name: SCHEMA[name] for name in by}
    frame = pl.read_parquet(directory, hive_partitioning=True, hive_schema=hive)
    assert {name: frame.schema[name] for name in SCHEMA.names()} == dict(SCHEMA)
    return as_rows(frame)


def by_pandas(directory: Path, by: list[str]) -> list[dict[str, Any]]:
    schema = pl.DataFrame(schema={name: SCHEMA[name] for name in by}).to_arrow().schema
    frame = pd.read_parquet(
        directory,
        partitioning=ds.partitioning(schema, flavor="hive"),
        dtype_backend="pyarrow",  # without it whole numbers with nulls become floats
    )
    return as_rows(pl.from_arrow(pa.Table.from_pandas(frame, preserve_index=False)))


def by_duckdb(directory: Path, by: list[str]) -> list[dict[str, Any]]:
    types = {"String": "VARCHAR", "Int8": "TINYINT", "Boolean": "BOOLEAN"}
    hive = ", ".join(f"'{name}': {types[str(SCHEMA[name])]}" for name in by)
    found = duckdb.sql(
        f"FROM read_parquet('{directory}/**/*.parquet', hive_types = {{{hive}}}) "
        "ORDER BY InstanceNumber"
    )
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    return [{name: row[name] for name in SCHEMA.names()} for row in rows]


def as_lists(value: Any) -> Any:
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("read", [by_polars, by_pandas, by_duckdb])
@pytest.mark.parametrize(
    "by",
    [
        ["Modality_train"],
        ["Aneurysm Present", "Modality_train"],
        ["is_scout"],
    ],
)
def test_each_reader_gets_every_row_and_value_of_the_unified_table(
    stored, tmp_path, by, read
) -> None:
    exported = export(stored, tmp_path / "parts", by)
    frame = table_of()
    assert (exported.rows, exported.partitions) == (frame.height, frame.n_unique(by))
    rows = [{name: as_lists(v) for name, v in row.items()} for row in read(tmp_path / "parts", by)]
    assert rows == as_rows(frame)


def test_values_become_names_of_directories_and_lead_nowhere_else(stored, tmp_path) -> None:
    export(stored, tmp_path / "here" / "parts", ["Modality_train"])
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["parts"]
    names = {path.name for path in (tmp_path / "here" / "parts").iterdir()}
    assert len(names) == len(VALUES) + 1
    assert {MARKER, f"Modality_train={NULL}", "Modality_train=MRI%20T2", "Modality_train=1"} < names
    assert "Modality_train=..%2F..%2Fetc" in names


def test_rows_keep_their_order_and_row_groups_hold_many(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_BATCH_ROWS", 7)
    monkeypatch.setattr(module, "_GROUP_ROWS", 40)
    monkeypatch.setattr(module, "_ROWS_HELD", 60)
    settings = store(tmp_path / "data", table_of(("CTA", "MRA", "CTA", "CTA"), repeated=50))
    export(settings, tmp_path / "parts", ["Modality_train"])
    file = pq.ParquetFile(tmp_path / "parts" / "Modality_train=CTA" / "part-0.parquet")
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert (sum(groups), len(groups)) == (150, 4)
    assert max(groups) < 40 + 7
    numbers = file.read(["InstanceNumber"])["InstanceNumber"].to_pylist()
    assert numbers == [row for row in range(200) if row % 4 != 1]


def test_the_csv_fallback_is_exported_alike(stored, tmp_path, monkeypatch) -> None:
    def fails(*_: object) -> int:
        raise OSError("no Parquet today")

    monkeypatch.setattr("aneurysm_assets.storage.table_files._write_parquet", fails)
    values = tuple(value for value in VALUES if value != "nul\0")  # no CSV holds it
    settings = store(tmp_path / "data", table_of(values))
    assert settings.unified_table.with_suffix(".csv").is_file()
    export(settings, tmp_path / "parts", ["Modality_train"])
    assert by_polars(tmp_path / "parts", ["Modality_train"]) == as_rows(table_of(values))


def test_a_table_without_rows_is_a_directory_without_partitions(tmp_path) -> None:
    settings = store(tmp_path / "data", pl.DataFrame(schema=SCHEMA))
    exported = export(settings, tmp_path / "parts", ["Modality_train"])
    assert (exported.rows, exported.partitions) == (0, 0)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [MARKER]


# The queries of the documents.


def queries() -> dict[str, str]:
    section = (ROOT / "docs" / "command-line.md").read_text()
    section = section.partition("## The table in parts")[2]
    blocks = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    return {block.split()[1]: block for block in blocks}


@pytest.mark.parametrize("reader", ["polars", "pandas", "duckdb"])
def test_the_query_of_the_document_counts_what_the_unified_table_has(
    stored, tmp_path, monkeypatch, reader
) -> None:
    export(stored, tmp_path / "parts", ["Modality_train"])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(queries()[reader], names)
    result = names["per_plane"]
    if reader == "polars":
        result = result.rows()
    elif reader == "pandas":
        result = [(None if pd.isna(plane) else plane, n) for plane, n in result.items()]
    cta = table_of().filter(pl.col("Modality_train") == "CTA")
    assert sorted(result, key=str) == sorted(
        cta.group_by("orientation_plane").len().rows(), key=str
    )


# What is refused, and what is left as it was.


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (["Modality"], "--by 'Modality': the unified table has no such column"),
        (["PixelSpacing"], "--by 'PixelSpacing': List(Float64) cannot name a"),
        (["SliceThickness"], "--by 'SliceThickness': Float64 cannot name a directory"),
        (["cowseg_labels"], "--by 'cowseg_labels': List(Int32) cannot name a directory"),
    ],
)
def test_a_column_that_cannot_divide_the_table_is_refused_in_a_sentence(
    stored, tmp_path, by, said
) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        export(stored, tmp_path / "parts", by)
    assert list(tmp_path.iterdir()) == []


def test_a_column_of_many_values_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_PARTITIONS", 5)
    settings = store(tmp_path / "data", table_of())
    with pytest.raises(InputError, match="--by SOPInstanceUID: more than 5 partitions"):
        export(settings, tmp_path / "parts", ["SOPInstanceUID"])
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize(("value", "said"), [(NULL, "takes for null"), ("é" * 99, "is too long")])
def test_a_value_that_no_directory_can_stand_for_is_refused(tmp_path, value, said) -> None:
    settings = store(tmp_path / "data", table_of(("CTA", value)))
    with pytest.raises(InputError, match=said):
        export(settings, tmp_path / "parts", ["Modality_train"])
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_without_a_unified_table_a_sentence_says_what_makes_it(tmp_path) -> None:
    settings = Settings.from_environment({"ANEURYSM_DATA": str(tmp_path)})
    with pytest.raises(InputError, match="make it with `aneurysm-assets run`"):
        export(settings, tmp_path / "parts", ["Modality_train"])


def test_a_directory_that_export_did_not_write_is_never_touched(stored, tmp_path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "thesis.txt").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="was not written by"):
            export(stored, tmp_path / "parts", ["Modality_train"], overwrite=overwrite)
    assert [path.name for path in tmp_path.rglob("*")] == ["parts", "thesis.txt"]


def test_an_export_is_replaced_only_when_told_and_only_where_all_in_it_is_ours(
    stored, tmp_path
) -> None:
    parts = tmp_path / "parts"
    export(stored, parts, ["Modality_train"])
    with pytest.raises(InputError, match="--overwrite replaces it"):
        export(stored, parts, ["orientation_plane"])
    export(stored, parts, ["orientation_plane"], overwrite=True)
    assert {path.name.partition("=")[0] for path in parts.iterdir()} == {
        MARKER,
        "orientation_plane",
    }
    (parts / "orientation_plane=axial" / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match=r"thesis\.txt was not written by"):
        export(stored, parts, ["Modality_train"], overwrite=True)
    assert (parts / "orientation_plane=axial" / "thesis.txt").read_text() == "years"
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


@pytest.mark.parametrize("fault", ["take", "rename"])
def test_an_export_that_fails_leaves_what_was_there_and_nothing_else(
    stored, tmp_path, monkeypatch, fault
) -> None:
    parts = tmp_path / "parts"
    export(stored, parts, ["orientation_plane"])
    before = by_polars(parts, ["orientation_plane"])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if fault == "take":
        monkeypatch.setattr(module.pq.ParquetWriter, "write_table", full)
    else:
        rename = Path.rename
        monkeypatch.setattr(
            Path,
            "rename",
            lambda self, to: full() if ".partial-" in self.name else rename(self, to),
        )
    with pytest.raises(OSError, match="No space"):
        export(stored, parts, ["Modality_train"], overwrite=True)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]
    assert by_polars(parts, ["orientation_plane"]) == before


def test_what_a_killed_export_left_is_removed_by_the_next_and_nothing_else(
    stored, tmp_path
) -> None:
    parts, host = tmp_path / "parts", module.this_host()
    dead = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(dead, 0)
    left = [f"parts.partial-{host}-{dead}", f"parts.replaced-{host}-{dead}"]
    others = [f"parts.partial-elsewhere-{dead}", f"parts.partial-{host}-{os.getppid()}"]
    for name in (*left, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / MARKER).touch()
    export(stored, parts, ["Modality_train"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["parts", *others])


def test_a_run_that_replaces_the_table_meanwhile_changes_nothing(tmp_path, monkeypatch) -> None:
    settings = store(tmp_path / "data", table_of())
    write = module._write

    def replaced_then(*arguments: Any) -> int:
        store(tmp_path / "data", table_of(("other",)))
        return write(*arguments)

    monkeypatch.setattr(module, "_write", replaced_then)
    export(settings, tmp_path / "parts", ["Modality_train"])
    assert by_polars(tmp_path / "parts", ["Modality_train"]) == as_rows(table_of())


def test_an_empty_directory_is_filled_and_a_link_is_followed(stored, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "parts").symlink_to(tmp_path / "elsewhere")
    export(stored, tmp_path / "parts", ["Modality_train"])
    assert (tmp_path / "parts").is_symlink()
    assert (tmp_path / "elsewhere" / MARKER).is_file()


def test_the_columns_offered_are_scalars_and_no_measurements() -> None:
    offered = set(partition_columns())
    assert {"Modality_train", "PatientSex", "Aneurysm Present", "is_scout"} <= offered
    assert not {"PixelSpacing", "SliceThickness", "nii_affine", "cowseg_labels"} & offered


def test_a_table_of_a_former_version_is_exported_with_lists(tmp_path: Path) -> None:
    settings = Settings.from_environment({"ANEURYSM_DATA": str(tmp_path)})
    settings.interim.mkdir()
    today = table_of(("CTA", None))
    arrays = {c.name: c.dtype for c in UNIFIED_METADATA.columns if isinstance(c.dtype, pl.Array)}
    matrices = [
        v and [v[i : i + 4] for i in range(0, 16, 4)] for v in today["nii_affine"].to_list()
    ]
    former = today.cast(arrays).with_columns(
        pl.Series("nii_affine", matrices, dtype=pl.Array(pl.Float64, (4, 4)))
    )
    former.write_parquet(f"{settings.unified_table}.parquet")
    assert pl.read_parquet_schema(f"{settings.unified_table}.parquet")["PixelSpacing"] == pl.Array
    export(settings, tmp_path / "parts", ["Modality_train"])
    assert by_polars(tmp_path / "parts", ["Modality_train"]) == as_rows(today)


def test_an_export_keeps_what_the_table_says_of_itself(tmp_path: Path) -> None:
    settings = Settings.from_environment({"ANEURYSM_DATA": str(tmp_path)})
    write_table(
        table_of(("CTA",)), UNIFIED_METADATA, settings.unified_table, metadata={"why": "a test"}
    )
    export(settings, tmp_path / "parts", ["Modality_train"])
    (path,) = (tmp_path / "parts").rglob("*.parquet")
    schema = pq.read_schema(path)
    assert schema.field("PixelSpacing").metadata[b"unit"] == b"mm"
    assert schema.metadata[b"why"] == b"a test"
