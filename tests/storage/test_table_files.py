"""Tables on disk and in a bucket: what is written comes back, nothing half-written is ever seen."""

import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aneurysm_assets.schema.tables import (
    ALL_TABLES,
    DICOM_TAGS,
    LOCALIZERS,
    SEGMENTATION_META,
    UNIFIED_METADATA,
    Table,
)
from aneurysm_assets.storage.atomic_files import remove_partials
from aneurysm_assets.storage.object_path import Location, ObjectPath, list_directory
from aneurysm_assets.storage.table_files import write_bytes, write_table
from aneurysm_assets.storage.table_names import file_names, find_table, find_tables
from aneurysm_assets.storage.table_scans import open_table, read_table, scan_tables
from deploy.servers.s3 import S3Server

AWKWARD = [
    "",
    " ",
    " lead and trail ",
    "null",
    "None",
    "NaN",
    "inf",
    "true",
    "[1]",
    "[1.0, null]",
    "0012",
    "1e5",
    "-0",
    '"',
    '""',
    '"quoted", and not',
    ",",
    ";",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "line\none",
    'end"\n"begin',
    "\n,\n",
    "#comment",
    "\\",
    "\\N",
    "'",
    "\x00",
    "\x1a",
    "\x85",
    "\u2028",
    "\ufeff",
    "\ufffd",
    "Ångström µm²",
    "日本語",
    "e\u0301",
    "\U0001f9e0",
]
BITS = {pl.Int8: 8, pl.Int32: 32, pl.Int64: 64}


def values(dtype: pl.DataType) -> st.SearchStrategy[Any]:
    """Return what may stand in a column: any value of its dtype, also none."""
    if isinstance(dtype, pl.Array):
        of_one: st.SearchStrategy[Any] = values(dtype.inner)  # type: ignore[arg-type]
        return st.none() | st.lists(of_one, min_size=dtype.size, max_size=dtype.size)
    if isinstance(dtype, pl.List):
        return st.none() | st.lists(values(dtype.inner), max_size=5)  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        # Neither null nor of nulls alone, which no table holds and polars does not tell apart.
        fields = {field.name: values(field.dtype) for field in dtype.fields}  # type: ignore[arg-type]
        return st.fixed_dictionaries(fields).filter(
            lambda row: any(v is not None for v in row.values())
        )
    if dtype == pl.Boolean:
        return st.none() | st.booleans()
    if dtype == pl.String:
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
        return st.none() | st.sampled_from(AWKWARD) | texts
    if dtype == pl.Float64:
        extremes = [-0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1 + 0.2]
        return st.none() | st.sampled_from(extremes) | st.floats()
    half = next(2 ** (bits - 1) for whole, bits in BITS.items() if dtype == whole)
    return st.none() | st.sampled_from([-half, half - 1, 0, -1]) | st.integers(-half, half - 1)


def rows_of(table: Table, max_size: int = 4) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    return st.lists(st.tuples(*(values(c.dtype) for c in table.columns)), max_size=max_size)


def frame_of(table: Table, rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=table.schema, orient="row")


def nulls(table: Table, height: int) -> pl.DataFrame:
    return frame_of(table, [(None,) * len(table.columns)] * height)


def points(*names: str) -> pl.DataFrame:
    """Return a frame of localizers with one row for each name."""
    rows = [(name, f"1.2.{i}", i + 0.5, -0.5, None, "a", None) for i, name in enumerate(names)]
    return frame_of(LOCALIZERS, rows)


def exact(frame: pl.DataFrame) -> list[str]:
    """Return the rows as text: 0.0 differs from -0.0, and NaN equals NaN."""
    return [repr(row) for row in frame.to_arrow().to_pylist()]


def names_in(directory: Location) -> set[str]:
    if isinstance(directory, ObjectPath):
        return set(list_directory(directory).files)
    return {path.name for path in directory.iterdir()}


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Return a directory of the test's own, on disk and once more in a bucket."""
    if request.param == "disk":
        return tmp_path
    bucket: ObjectPath = request.getfixturevalue("bucket")
    return bucket / "some" / "where"


@contextmanager
def no_parquet() -> Iterator[None]:
    """Let polars panic over every Parquet file."""

    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("index out of bounds")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", panic)
        patch.setattr(pl.LazyFrame, "sink_parquet", panic)
        # What polars made of a table without rows before.
        patch.setattr("aneurysm_assets.storage.table_files._without_rows", panic)
        yield


@contextmanager
def file_size_limited(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: as if the disk were full there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


EACH_TABLE = pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)
EACH_KIND = pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])

# -- the round trip ------------------------------------------------------------------------------


Frame = pl.DataFrame | pl.LazyFrame


def try_frames(
    table: Table, examples: int, comes_back: Callable[[Frame, pl.DataFrame], None]
) -> None:
    """Try frames of a table: as each is given, eager or lazy, and what it holds."""

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(lazy=st.booleans(), rows=rows_of(table))
    def tried(lazy: bool, rows: list[tuple[Any, ...]]) -> None:
        frame = frame_of(table, rows)
        comes_back(frame.lazy() if lazy else frame, frame)

    tried()


@EACH_TABLE
def test_every_table_comes_back_from_parquet_as_it_went_in(table: Table, is_long: bool) -> None:
    def comes_back(given: Frame, frame: pl.DataFrame) -> None:
        with tempfile.TemporaryDirectory() as directory:
            stored = write_table(given, table, Path(directory) / "1.2.3")
            assert (stored.format, stored.rows, stored.warning) == ("parquet", frame.height, None)
            assert names_in(Path(directory)) == {"1.2.3.parquet"}
            back = read_table(table, stored.path)
        assert back.schema == table.schema
        assert exact(back) == exact(frame)

    try_frames(table, 30 if is_long else 10, comes_back)


@EACH_TABLE
def test_every_table_comes_back_from_csv_as_it_went_in(table: Table, is_long: bool) -> None:
    def comes_back(given: Frame, frame: pl.DataFrame) -> None:
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "1.2.3.parquet").mkdir()
            stored = write_table(given, table, Path(directory) / "1.2.3")
            assert (stored.format, stored.rows) == ("csv", frame.height)
            assert names_in(Path(directory)) == {"1.2.3.parquet", "1.2.3.csv"}
            back = read_table(table, stored.path)
        assert back.schema == table.schema
        assert exact(back) == exact(frame)

    try_frames(table, 30 if is_long else 10, comes_back)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@EACH_TABLE
def test_every_table_comes_back_from_a_bucket_as_it_went_in(
    bucket: ObjectPath, table: Table, suffix: str, is_long: bool
) -> None:
    def comes_back(given: Frame, frame: pl.DataFrame) -> None:
        with no_parquet() if suffix == "csv" else nullcontext():
            stored = write_table(given, table, bucket / "1.2.3")
        assert (stored.path, stored.rows) == (bucket / f"1.2.3.{suffix}", frame.height)
        assert names_in(bucket) == {".bucket", f"1.2.3.{suffix}"}
        back = read_table(table, stored.path)
        assert back.schema == table.schema
        assert exact(back) == exact(frame)

    try_frames(table, 8 if is_long else 4, comes_back)


@EACH_TABLE
def test_a_csv_that_is_read_in_several_pieces_loses_nothing(table: Table, tmp_path: Path) -> None:
    texts = ['"\n"', 'a\n1,2,"x\n', "\r\n", ",", None, "", "x" * 300, '",\n']
    columns = {}
    for position, column in enumerate(table.columns):
        if column.dtype == pl.String:
            pattern: list[Any] = texts[position % 8 :] + texts[: position % 8]
            columns[column.name] = pattern * 750
        else:
            columns[column.name] = [None] * 6000
    frame = pl.DataFrame(columns, schema=table.schema)
    (tmp_path / "t.parquet").mkdir()
    back = read_table(table, write_table(frame, table, tmp_path / "t").path)
    assert back.equals(frame)


def test_the_csv_fallback_has_lists_as_json_and_one_header_line(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").mkdir()
    affine = [1.0, 0.0, 0.0, -2.5, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0, 0, 0, 1]
    frame = nulls(SEGMENTATION_META, 1).with_columns(
        nii_shape=pl.Series([[4, 5, 6]], dtype=pl.List(pl.Int32)),
        nii_affine=pl.Series([affine], dtype=pl.List(pl.Float64)),
    )
    stored = write_table(frame, SEGMENTATION_META, tmp_path / "t")
    header, row = stored.path.read_text().splitlines()
    assert header == ",".join(f'"{name}"' for name in SEGMENTATION_META.column_names)
    assert '"[4, 5, 6]"' in row
    assert '"[1.0, 0.0, 0.0, -2.5, 0.0, 1.0, 0.0, 0.0, ' in row


@EACH_KIND
def test_names_that_look_like_patterns_or_partitions_are_names(place: Location, lazy: bool) -> None:
    frame = points("a", "b")
    directory = place / "x=1" / "a[bc]*?{d}" / "%20 é"
    stored = write_table(frame.lazy() if lazy else frame, LOCALIZERS, directory / "1.2[3]")
    assert stored.path == directory / "1.2[3].parquet"
    assert read_table(LOCALIZERS, stored.path).equals(frame)
    with no_parquet():
        stored = write_table(frame.lazy() if lazy else frame, LOCALIZERS, directory / "csv")
    assert stored.path == directory / "csv.csv"
    assert read_table(LOCALIZERS, stored.path).equals(frame)


def test_the_last_component_of_a_uid_is_not_taken_for_a_suffix(place: Location) -> None:
    for stem in ("1.2.3", "1.2.4", "1.2"):
        write_table(points(stem), LOCALIZERS, place / stem)
    assert names_in(place) == {"1.2.3.parquet", "1.2.4.parquet", "1.2.parquet"}


@pytest.mark.parametrize(
    "frame",
    [
        points("a").drop("location"),
        points("a").with_columns(extra=1),
        points("a").with_columns(pl.col("x").cast(pl.Float32)),
        points("a").with_columns(pl.col("frame_index").cast(pl.Null)),
        points("a").select(*reversed(LOCALIZERS.column_names)),
    ],
    ids=["a column less", "a column more", "another dtype", "a null column", "another order"],
)
@EACH_KIND
def test_a_frame_with_another_schema_is_refused_and_nothing_touched(
    place: Location, frame: pl.DataFrame, lazy: bool
) -> None:
    write_table(points("old"), LOCALIZERS, place / "t")
    with pytest.raises(TypeError, match="schema of localizers"):
        write_table(frame.lazy() if lazy else frame, LOCALIZERS, place / "t")
    assert names_in(place) == {"t.parquet"}
    assert read_table(LOCALIZERS, place / "t.parquet").equals(points("old"))


# -- Parquet, or CSV, and exactly one of them ----------------------------------------------------


def test_the_fallback_says_why(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").mkdir()
    stored = write_table(points("a"), LOCALIZERS, tmp_path / "t")
    assert stored.path == tmp_path / "t.csv"
    assert stored.warning is not None
    assert stored.warning.startswith("Parquet could not be written (IsADirectoryError: ")
    assert str(tmp_path / "t.parquet") in stored.warning
    assert "\n" not in stored.warning


@EACH_KIND
def test_where_only_the_csv_fits_it_replaces_the_older_parquet(tmp_path: Path, lazy: bool) -> None:
    stem = tmp_path / "t"
    write_table(nulls(DICOM_TAGS, 1), DICOM_TAGS, stem)
    new = nulls(DICOM_TAGS, 3)
    with file_size_limited(4096):
        stored = write_table(new.lazy() if lazy else new, DICOM_TAGS, stem)
    assert (stored.format, stored.rows) == ("csv", 3)
    assert names_in(tmp_path) == {"t.csv"}
    assert read_table(DICOM_TAGS, stored.path).equals(new)


@EACH_KIND
def test_a_later_parquet_replaces_the_csv(tmp_path: Path, lazy: bool) -> None:
    blocking = tmp_path / "t.parquet"
    blocking.mkdir()
    write_table(points("old"), LOCALIZERS, tmp_path / "t")
    blocking.rmdir()
    new = points("new")
    stored = write_table(new.lazy() if lazy else new, LOCALIZERS, tmp_path / "t")
    assert (stored.format, stored.warning) == ("parquet", None)
    assert names_in(tmp_path) == {"t.parquet"}
    assert read_table(LOCALIZERS, stored.path).equals(new)


@EACH_KIND
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_once_is_tried_again(
    tmp_path: Path, monkeypatch, lazy: bool, number: int
) -> None:
    new = points("new")
    with monkeypatch.context() as patch:
        refuse_parquet(patch, number, times=1)
        stored = write_table(new.lazy() if lazy else new, LOCALIZERS, tmp_path / "t")
    assert (stored.format, stored.warning) == ("parquet", None)
    assert names_in(tmp_path) == {"t.parquet"}


@EACH_KIND
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_makes_no_csv_and_leaves_the_table_that_is_there(
    tmp_path: Path, monkeypatch, lazy: bool, number: int
) -> None:
    write_table(points("old"), LOCALIZERS, tmp_path / "t")
    new = points("new")
    with monkeypatch.context() as patch:
        refuse_parquet(patch, number, times=2)
        with pytest.raises(OSError, match=os.strerror(number)) as refused:
            write_table(new.lazy() if lazy else new, LOCALIZERS, tmp_path / "t")
    assert refused.value.errno == number
    assert names_in(tmp_path) == {"t.parquet"}
    assert read_table(LOCALIZERS, tmp_path / "t.parquet").equals(points("old"))


def refuse_parquet(patch: pytest.MonkeyPatch, number: int, times: int) -> None:
    """Let polars say so often, in its own words, that the system refuses."""
    left = [times]
    text = f"parquet: File out of specification: {os.strerror(number)} (os error {number})"

    def refusing(write: Any) -> Any:
        def written(*given: Any, **options: Any) -> Any:
            if left[0]:
                left[0] -= 1
                raise pl.exceptions.ComputeError(text)
            return write(*given, **options)

        return written

    patch.setattr(pl.DataFrame, "write_parquet", refusing(pl.DataFrame.write_parquet))
    patch.setattr(pl.LazyFrame, "sink_parquet", refusing(pl.LazyFrame.sink_parquet))


def test_a_panic_inside_polars_is_answered_with_csv_too(place: Location) -> None:
    write_table(points("old"), LOCALIZERS, place / "t")
    with no_parquet():
        stored = write_table(points("a"), LOCALIZERS, place / "t")
    assert stored.format == "csv"
    assert "index out of bounds" in (stored.warning or "")
    assert names_in(place) == {"t.csv"}
    write_table(points("new"), LOCALIZERS, place / "t")
    assert names_in(place) == {"t.parquet"}


# -- failure leaves what was there, and nothing else ---------------------------------------------


@EACH_KIND
@pytest.mark.parametrize("limit", [16, 0])
def test_when_neither_can_be_written_the_old_table_stays_and_nothing_partial(
    tmp_path: Path, lazy: bool, limit: int
) -> None:
    write_table(points("old"), LOCALIZERS, tmp_path / "t")
    new = points("new", "newer")
    with file_size_limited(limit), pytest.raises(OSError, match="File too large"):
        write_table(new.lazy() if lazy else new, LOCALIZERS, tmp_path / "t")
    assert names_in(tmp_path) == {"t.parquet"}
    assert read_table(LOCALIZERS, tmp_path / "t.parquet").equals(points("old"))


@EACH_KIND
def test_directories_in_place_of_both_files_leave_nothing_partial(
    tmp_path: Path, lazy: bool
) -> None:
    (tmp_path / "t.parquet").mkdir()
    (tmp_path / "t.csv").mkdir()
    frame = points("a")
    with pytest.raises(IsADirectoryError):
        write_table(frame.lazy() if lazy else frame, LOCALIZERS, tmp_path / "t")
    assert names_in(tmp_path) == {"t.parquet", "t.csv"}
    assert find_table(tmp_path / "t") is None


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "interim").write_text("")
    with pytest.raises(OSError, match="interim"):
        write_table(points("a"), LOCALIZERS, tmp_path / "interim" / "t")


def test_a_lazy_frame_that_fails_while_it_is_streamed_leaves_the_old_table(place: Location) -> None:
    write_table(points("old"), LOCALIZERS, place / "t")
    write_table(points("whole"), LOCALIZERS, place / "whole")
    write_bytes(place / "broken.parquet", b"PAR1 is no table")
    broken = scan_tables(LOCALIZERS, [place / "whole.parquet", place / "broken.parquet"])
    with pytest.raises(pl.exceptions.PolarsError):
        write_table(broken, LOCALIZERS, place / "t")
    assert names_in(place) == {"t.parquet", "whole.parquet", "broken.parquet"}
    assert read_table(LOCALIZERS, place / "t.parquet").equals(points("old"))


def test_an_interrupt_in_the_middle_of_writing_leaves_nothing_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(points("old"), LOCALIZERS, tmp_path / "t")
    seen: list[set[str]] = []

    def interrupt(_: int) -> None:
        seen.append(names_in(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_table(points("new"), LOCALIZERS, tmp_path / "t")
    assert len(seen[0]) == 2
    assert names_in(tmp_path) == {"t.parquet"}
    assert read_table(LOCALIZERS, tmp_path / "t.parquet").equals(points("old"))


def test_a_table_is_flushed_before_it_takes_its_place_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    flush, replace = os.fsync, Path.replace

    def recording_flush(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        (path,) = (p for p in (tmp_path, *tmp_path.iterdir()) if p.stat().st_ino == inode)
        steps.append(f"flush {path.suffix or 'the directory'}")
        flush(descriptor)

    def recording_replace(path: Path, target: Path) -> Path:
        steps.append(f"rename {path.suffix} to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", recording_flush)
    monkeypatch.setattr(Path, "replace", recording_replace)
    write_table(points("a"), LOCALIZERS, tmp_path / "t")
    assert steps == ["flush .partial", "rename .partial to t.parquet", "flush the directory"]


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from aneurysm_assets.storage import table_files
from aneurysm_assets.schema.tables import LOCALIZERS

def stop(descriptor):
    print("written beside", flush=True)
    signal.pause()

os.fsync = stop
table_files.write_table(LOCALIZERS.schema.to_frame(), LOCALIZERS, Path(sys.argv[1]))
"""


def test_what_a_killed_process_left_is_removed_once_it_is_dead_and_not_before(
    tmp_path: Path,
) -> None:
    write_table(points("old"), LOCALIZERS, tmp_path / "t")
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path / "t")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"written beside\n"
            (partial,) = names_in(tmp_path) - {"t.parquet"}
            assert remove_partials(tmp_path) == 0
            assert names_in(tmp_path) == {"t.parquet", partial}
            assert find_tables(tmp_path) == {"t": tmp_path / "t.parquet"}
            assert find_table(tmp_path / "t") == tmp_path / "t.parquet"
        finally:
            process.send_signal(signal.SIGKILL)
    assert remove_partials(tmp_path) == 1
    assert names_in(tmp_path) == {"t.parquet"}
    assert read_table(LOCALIZERS, tmp_path / "t.parquet").equals(points("old"))


# -- in a bucket ---------------------------------------------------------------------------------

KILLED_WHILE_PUTTING = """
import io, signal, sys
from aneurysm_assets.storage.object_path import ObjectPath

class Stopping(io.BytesIO):
    def read(self, size=-1):
        if self.tell() > 12 << 20:
            print("a part is there", flush=True)
            signal.pause()
        return super().read(size)

ObjectPath.parse(sys.argv[1]).put(Stopping(bytes(64 << 20)))
"""


def test_of_what_a_killed_process_was_putting_nothing_is_there(bucket: ObjectPath) -> None:
    write_table(points("old"), LOCALIZERS, bucket / "t")
    before = names_in(bucket)
    command = [sys.executable, "-c", KILLED_WHILE_PUTTING, str(bucket / "t.parquet")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"a part is there\n"
        finally:
            process.send_signal(signal.SIGKILL)
    assert names_in(bucket) == before
    assert read_table(LOCALIZERS, bucket / "t.parquet").equals(points("old"))
    assert remove_partials(bucket) == 0


def test_a_table_is_written_once_a_store_that_is_down_is_back(
    s3_server: S3Server, bucket: ObjectPath
) -> None:
    s3_server.stop()
    back = threading.Timer(2, s3_server.start)
    back.start()
    try:
        stored = write_table(points("a"), LOCALIZERS, bucket / "t")
        assert (stored.format, stored.warning) == ("parquet", None)
    finally:
        back.join()
    assert read_table(LOCALIZERS, bucket / "t.parquet").equals(points("a"))


@EACH_KIND
def test_a_store_that_refuses_is_an_error_and_no_reason_for_csv(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch, lazy: bool
) -> None:
    write_table(points("old"), LOCALIZERS, bucket / "t")
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", "pa55word")
        frame = points("new")
        with pytest.raises(PermissionError, match="credentials") as caught:
            write_table(frame.lazy() if lazy else frame, LOCALIZERS, bucket / "t")
    assert "pa55word" not in str(caught.value)
    assert names_in(bucket) == {".bucket", "t.parquet"}
    assert read_table(LOCALIZERS, bucket / "t.parquet").equals(points("old"))


def test_a_store_that_fails_for_a_moment_makes_no_table_csv(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ObjectPath.put

    def only_csv(path: ObjectPath, content: Any) -> None:
        if path.suffix == ".parquet":
            raise OSError(errno.EIO, "the store does not answer as it should", str(path))
        put(path, content)

    monkeypatch.setattr(ObjectPath, "put", only_csv)
    with pytest.raises(OSError, match="does not answer"):
        write_table(points("a"), LOCALIZERS, bucket / "t")
    assert names_in(bucket) == {".bucket"}


def many(bucket: ObjectPath, count: int) -> tuple[list[ObjectPath], pl.DataFrame]:
    frames = [points(*(f"{i}/{row}" for row in range(i % 3))) for i in range(count)]
    paths = []
    for i, frame in enumerate(frames):
        with no_parquet() if i % 50 == 7 else nullcontext():
            stored = write_table(frame, LOCALIZERS, bucket / "many" / f"{i}")
        assert isinstance(stored.path, ObjectPath)
        paths.append(stored.path)
    return paths, pl.concat(frames)


def test_many_objects_are_scanned_in_the_order_given_whatever_is_asked_of_them(
    bucket: ObjectPath,
) -> None:
    paths, whole = many(bucket, 300)
    scan = scan_tables(LOCALIZERS, paths)
    assert scan.collect().equals(whole)
    assert scan.head(7).collect().equals(whole.head(7))
    assert scan.slice(40, 90).collect().equals(whole.slice(40, 90))
    assert scan.select(pl.len()).collect().item() == whole.height
    some = pl.col("x") > 0.6
    assert (
        scan.filter(some).select("location").collect().equals(whole.filter(some).select("location"))
    )
    assert scan.head(100).filter(some).collect().equals(whole.head(100).filter(some))
    assert scan_tables(LOCALIZERS, paths[::-1]).collect().height == whole.height


def test_many_objects_are_asked_for_at_the_same_time(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, whole = many(bucket, 64)
    meeting, read = threading.Barrier(16, timeout=60), ObjectPath.read_bytes

    def met(path: ObjectPath) -> bytes:
        meeting.wait()
        return read(path)

    monkeypatch.setattr(ObjectPath, "read_bytes", met)
    assert scan_tables(LOCALIZERS, paths).collect().equals(whole)


@pytest.mark.parametrize("count", [1, 200])
def test_an_object_that_is_gone_is_an_error_and_never_a_shorter_table(
    bucket: ObjectPath, count: int
) -> None:
    paths, _ = many(bucket, count)
    paths[-1].unlink()
    with pytest.raises(FileNotFoundError, match="no such object"):
        scan_tables(LOCALIZERS, paths).collect()
    with pytest.raises(FileNotFoundError, match="no such object"):
        write_table(scan_tables(LOCALIZERS, paths), LOCALIZERS, bucket / "all")
    assert names_in(bucket) == {".bucket"}


def test_a_table_that_is_replaced_while_it_is_read_stays_the_one_opened(place: Location) -> None:
    path = write_table(points("old"), LOCALIZERS, place / "t").path
    with open_table(path) as opened:
        write_table(points("new", "newer"), LOCALIZERS, place / "t")
        assert pl.read_parquet(opened).equals(points("old"))
    assert read_table(LOCALIZERS, path).equals(points("new", "newer"))


def test_paths_and_objects_are_not_scanned_as_one(bucket: ObjectPath, tmp_path: Path) -> None:
    paths = [write_table(points("a"), LOCALIZERS, where / "t").path for where in (bucket, tmp_path)]
    with pytest.raises(ValueError, match="scan them apart"):
        scan_tables(LOCALIZERS, paths)


@pytest.mark.parametrize("newer", ["parquet", "csv"])
def test_of_two_objects_the_newer_is_the_table(bucket: ObjectPath, newer: str) -> None:
    older = "csv" if newer == "parquet" else "parquet"
    (bucket / "d" / f"1.2.3.{older}").write_bytes(b"")
    first = (bucket / "d" / f"1.2.3.{older}").stat().modified
    while True:  # the store's clock has seconds
        (bucket / "d" / f"1.2.3.{newer}").write_bytes(b"")
        if (bucket / "d" / f"1.2.3.{newer}").stat().modified > first:
            break
    assert find_table(bucket / "d" / "1.2.3") == bucket / "d" / f"1.2.3.{newer}"
    assert find_tables(bucket / "d") == {"1.2.3": bucket / "d" / f"1.2.3.{newer}"}


def test_where_the_store_does_not_tell_no_table_is_taken_to_be_missing(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(points("a"), LOCALIZERS, bucket / "d" / "t")
    for ask in (find_tables, file_names, lambda directory: find_table(directory / "t")):
        assert ask(bucket / "d")
        assert not ask(bucket / "missing")
        with monkeypatch.context() as wrong:
            wrong.setenv("AWS_SECRET_ACCESS_KEY", "pa55word")
            with pytest.raises(PermissionError):
                ask(bucket / "d")
        with pytest.raises(OSError, match="no such bucket"):
            ask(ObjectPath.parse(f"{bucket}-nowhere"))


# -- finding and scanning ------------------------------------------------------------------------


@pytest.mark.parametrize("newer", ["parquet", "csv"])
def test_of_both_suffixes_the_newer_is_the_table(tmp_path: Path, newer: str) -> None:
    for suffix in ("parquet", "csv"):
        path = tmp_path / f"1.2.3.{suffix}"
        path.touch()
        # Seconds as of today, a nanosecond apart: a float would not tell them apart.
        os.utime(path, ns=(0, 1_790_000_000_000_000_000 + (suffix == newer)))
    assert find_table(tmp_path / "1.2.3") == tmp_path / f"1.2.3.{newer}"
    assert find_tables(tmp_path) == {"1.2.3": tmp_path / f"1.2.3.{newer}"}


def test_tables_are_found_among_what_is_none(place: Location) -> None:
    files = ("1.2.parquet", "1.3.csv", ".hidden.parquet", "1.4.txt", "1.5", "parquet", "1.7.csv")
    for name in (*files, "1.6.parquet/x", "1.7.parquet/x"):
        write_bytes(place / name, b"")
    expected = {"1.2": "1.2.parquet", "1.3": "1.3.csv", "1.7": "1.7.csv"}
    assert find_tables(place) == {stem: place / name for stem, name in expected.items()}
    for stem in ("1.2", "1.3", "1.4", "1.5", "1.6", "1.7"):
        assert find_table(place / stem) == find_tables(place).get(stem)
    assert set(file_names(place)) == set(files)


def test_a_directory_that_is_not_there_has_no_tables(place: Location) -> None:
    write_bytes(place / "missing-not" / "t.parquet", b"")
    assert find_tables(place / "missing") == {}
    assert find_table(place / "missing" / "t") is None
    assert file_names(place / "missing") == []


def written(
    directory: Location, name: str, frame: pl.DataFrame, table: Table, suffix: str
) -> Location:
    with no_parquet() if suffix == "csv" else nullcontext():
        stored = write_table(frame, table, directory / name)
    assert stored.format == suffix
    return stored.path


@pytest.mark.parametrize("reverse", [False, True])
def test_mixed_files_are_scanned_as_one_in_the_order_given(place: Location, reverse: bool) -> None:
    suffixes = ["csv", "parquet", "parquet", "csv", "csv", "parquet", "csv"]
    frames = [points(*(f"{i}/{row}" for row in range(i % 4))) for i in range(len(suffixes))]
    paths = [
        written(place, str(i), frame, LOCALIZERS, suffix)
        for i, (frame, suffix) in enumerate(zip(frames, suffixes, strict=True))
    ]
    if reverse:
        paths.reverse()
        frames.reverse()
    scan = scan_tables(LOCALIZERS, paths)
    assert scan.collect_schema() == LOCALIZERS.schema
    assert scan.collect().equals(pl.concat(frames))
    stored = write_table(scan, LOCALIZERS, place / "all")
    assert read_table(LOCALIZERS, stored.path).equals(pl.concat(frames))


@EACH_TABLE
@pytest.mark.parametrize("suffixes", [["parquet", "parquet"], ["csv", "csv"], ["csv", "parquet"]])
@pytest.mark.parametrize("height", [0, 2])
def test_a_first_file_without_a_single_value_does_not_break_a_scan(
    place: Location, table: Table, suffixes: list[str], height: int
) -> None:
    def some_value(dtype: pl.DataType) -> Any:
        if isinstance(dtype, pl.Array):
            return [some_value(dtype.inner)] * dtype.size  # type: ignore[arg-type]
        if isinstance(dtype, pl.List):
            return [some_value(dtype.inner)]  # type: ignore[arg-type]
        if dtype == pl.Boolean:
            return True
        return "text" if dtype == pl.String else 1

    full = frame_of(table, [tuple(some_value(c.dtype) for c in table.columns)])
    frames = [nulls(table, height), full]
    paths = [
        written(place, str(i), frame, table, suffix)
        for i, (frame, suffix) in enumerate(zip(frames, suffixes, strict=True))
    ]
    back = scan_tables(table, paths).collect()
    assert back.schema == table.schema
    assert exact(back) == exact(pl.concat(frames))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    "other",
    [
        points("a").drop("location"),
        points("a").with_columns(extra=1),
        points("a").rename({"x": "z"}),
        points("a").with_columns(x=pl.lit("text")),
    ],
    ids=["a column less", "a column more", "another name", "another dtype"],
)
def test_a_file_with_another_schema_is_an_error_and_not_another_table(
    place: Location, suffix: str, other: pl.DataFrame
) -> None:
    content = io.BytesIO()
    getattr(other, f"write_{suffix}")(content)
    write_bytes(place / f"t.{suffix}", content.getvalue())
    with pytest.raises(pl.exceptions.PolarsError):
        read_table(LOCALIZERS, place / f"t.{suffix}")
    right = write_table(points("a"), LOCALIZERS, place / "right").path
    with pytest.raises(pl.exceptions.PolarsError):
        scan_tables(LOCALIZERS, [right, place / f"t.{suffix}"]).collect()


@EACH_TABLE
def test_a_scan_of_no_files_has_the_schema_and_no_rows(table: Table) -> None:
    assert scan_tables(table, []).collect().equals(table.schema.to_frame())


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("table", [DICOM_TAGS, UNIFIED_METADATA], ids=lambda table: table.name)
def test_files_with_a_former_column_name_are_read_among_those_of_today(
    table: Table, suffix: str, place: Location
) -> None:
    def frame(value: bool) -> pl.DataFrame:
        return pl.DataFrame(
            {name: [value if name == "is_scout" else None, None] for name in table.schema},
            schema=table.schema,
        )

    former = {column.name: column.former_name for column in table.columns if column.former_name}
    assert former == {"is_scout": "is_localizer_image"}
    paths = []
    for number, is_old in enumerate([False, True, True, False]):
        written = frame(is_old).rename(former) if is_old else frame(is_old)
        buffer = io.BytesIO()
        if suffix == "parquet":
            written.write_parquet(buffer)
        else:
            arrays = [name for name, dtype in table.schema.items() if dtype.is_nested()]
            written.with_columns(pl.lit(None).alias(name) for name in arrays).write_csv(buffer)
        paths.append(place / f"{number}.{suffix}")
        write_bytes(paths[-1], buffer.getvalue())
    found = scan_tables(table, paths).collect()
    assert found.schema == table.schema
    assert found["is_scout"].to_list() == [False, None, True, None, True, None, False, None]
    assert read_table(table, paths[1])["is_scout"].to_list() == [True, None]


def as_arrays(table: Table, rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Return rows as former versions had them: vectors as arrays, a matrix of two dimensions."""
    former = {
        column.name: pl.Array(pl.Float64, (4, 4))
        if column.name.endswith("_affine")
        else column.dtype
        for column in table.columns
    }
    as_matrix = [dtype == pl.Array(pl.Float64, (4, 4)) for dtype in former.values()]
    shaped = [
        tuple(
            [value[i : i + 4] for i in range(0, 16, 4)] if is_matrix and value else value
            for value, is_matrix in zip(row, as_matrix, strict=True)
        )
        for row in rows
    ]
    return pl.DataFrame(shaped, schema=former, orient="row")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    "table", [DICOM_TAGS, SEGMENTATION_META, UNIFIED_METADATA], ids=lambda table: table.name
)
def test_former_files_with_arrays_are_read_among_those_of_today(
    table: Table, suffix: str, place: Location
) -> None:
    def cell(dtype: pl.DataType, seed: float) -> Any:
        if isinstance(dtype, pl.Array):
            return [None if (seed + i) % 7 == 0 else seed + i for i in range(dtype.size)]
        return [seed] if isinstance(dtype, pl.List) else None

    filled = tuple(cell(column.dtype, 1 + i) for i, column in enumerate(table.columns))
    rows = [filled, (None,) * len(filled), filled]
    buffer = io.BytesIO()
    former = as_arrays(table, rows)
    if suffix == "parquet":
        former.write_parquet(buffer)
    else:
        to_json = [
            pl.Series(name, [None if v is None else json.dumps(v) for v in values], pl.String)
            for name, dtype in former.schema.items()
            if dtype.is_nested()
            for values in [former[name].to_arrow().to_pylist()]
        ]
        former.with_columns(to_json).write_csv(buffer)
    write_bytes(place / f"former.{suffix}", buffer.getvalue())
    today = write_table(frame_of(table, rows), table, place / "today").path
    paths = [today, place / f"former.{suffix}", today]
    found = scan_tables(table, paths).collect()
    assert found.schema == table.schema
    assert exact(found) == exact(frame_of(table, rows * 3))
    assert exact(read_table(table, paths[1])) == exact(frame_of(table, rows))


def test_a_former_array_of_another_length_is_an_error(tmp_path: Path) -> None:
    wrong = nulls(DICOM_TAGS, 1).cast({"PixelSpacing": pl.Array(pl.Float64, 3)})
    wrong.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(pl.exceptions.SchemaError, match="PixelSpacing"):
        read_table(DICOM_TAGS, tmp_path / "t.parquet")


# -- what a file says of itself --------------------------------------------------------------------


@EACH_TABLE
def test_no_file_has_a_type_that_common_readers_do_not_know(table: Table, place: Location) -> None:
    path = write_table(nulls(table, 2), table, place / "t").path
    with open_table(path) as file:
        schema = pq.read_schema(file)
    inner = [field.type.value_type if is_list(field.type) else field.type for field in schema]
    structs = [each for each in inner if isinstance(each, pa.StructType)]
    inner = [each for each in inner if each not in structs]
    inner += [each.field(n).type for each in structs for n in range(each.num_fields)]
    names = {"large_string", "string", "double", "int8", "int32", "int64", "bool"}
    assert {str(each) for each in inner} <= names
    assert not any(map(pa.types.is_fixed_size_list, schema.types))


def is_list(dtype: pa.DataType) -> bool:
    return pa.types.is_large_list(dtype) or pa.types.is_list(dtype)


@EACH_KIND
def test_a_table_of_the_data_set_says_what_it_is_and_what_each_column_is(
    place: Location, lazy: bool
) -> None:
    frame = nulls(UNIFIED_METADATA, 2)
    stored = write_table(
        frame.lazy() if lazy else frame, UNIFIED_METADATA, place / "t", metadata={"why": "a test"}
    )
    with open_table(stored.path) as file:
        parquet = pq.ParquetFile(file)
        of_file, schema = parquet.metadata.metadata, parquet.schema_arrow
    assert of_file[b"why"] == b"a test"
    assert of_file[b"aneurysm_assets.version"] == version("aneurysm-assets").encode()
    for column in UNIFIED_METADATA.columns:
        told = schema.field(column.name).metadata
        assert told.pop(b"description").decode() == column.description
        assert told.pop(b"source").decode() == column.source
        assert told.pop(b"unit", b"").decode() == column.unit
    assert read_table(UNIFIED_METADATA, stored.path).equals(frame)


def test_a_table_of_a_series_says_its_version_and_is_small(tmp_path: Path) -> None:
    stored = write_table(points("a"), LOCALIZERS, tmp_path / "t")
    assert pq.read_schema(stored.path).field("x").metadata is None
    assert pq.read_metadata(stored.path).metadata[b"aneurysm_assets.version"]
    assert stored.path.stat().st_size < 5_000  # type: ignore[union-attr]
