"""Input in a bucket gives what the same files on a disk give, and a store's fault is no file's."""

import multiprocessing
import random
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlparse

import numpy as np
import polars as pl
import pytest
from obstore.store import MemoryStore
from polars.testing import assert_frame_equal
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
)

from aneurysm_assets.cli.runner import check_input
from aneurysm_assets.dicom import series
from aneurysm_assets.dicom.series import SeriesTable, read_series
from aneurysm_assets.dicom.table import write_dicom_tags
from aneurysm_assets.errors import InputError, SeriesError, StoreError
from aneurysm_assets.nifti.segmentation import segmentation_meta
from aneurysm_assets.nifti.table import write_segmentation_meta
from aneurysm_assets.nifti.vessels import vessels_at
from aneurysm_assets.preview import decoding
from aneurysm_assets.preview.panels import compose
from aneurysm_assets.preview.picture import write_preview
from aneurysm_assets.raw.fingerprints import csv_digests, fingerprints_in_turn, take_fingerprints
from aneurysm_assets.raw.inventory import take_inventory
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from aneurysm_assets.raw.segmentation_files import find_pair, list_pairs, segmentation_files
from aneurysm_assets.raw.train_csv import TrainCsv
from aneurysm_assets.runs.resources import NullReporter
from aneurysm_assets.schema.tables import Artifact
from aneurysm_assets.settings import Settings
from aneurysm_assets.storage import fetching, object_store
from aneurysm_assets.storage.fetching import (
    ALL_THREADS,
    HEAD,
    ObjectFile,
    in_order,
    list_files,
    open_all,
)
from aneurysm_assets.storage.fingerprint import UNREADABLE
from aneurysm_assets.storage.object_path import ObjectPath, list_below
from deploy.servers.s3 import S3Server
from tests.bucket import impatient, settings_with, upload
from tests.dicom.test_walk_fuzz import mutated, seeds
from tests.dicom_bytes import dicom, element, image
from tests.dicom_files import SERIES, dataset, encode, encode_without_preamble, enhanced
from tests.graph import Graph
from tests.record import SERIES_TABLES

FUZZED = 400


@pytest.fixture(scope="module")
def sample(s3_server: S3Server, sample_data: Path) -> Iterator[tuple[Settings, Settings]]:
    """Return the sample on a disk and in a bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.variables.items():
            patch.setenv(name, value)
        raw = ObjectPath.parse(s3_server.make_bucket("sample")) / "raw"
        upload(sample_data / "raw", raw)
        local = Settings.from_environment({"ANEURYSM_DATA": str(sample_data)})
        yield local, settings_with(sample_data, raw)


@pytest.fixture
def in_memory(monkeypatch) -> ObjectPath:
    """Return a bucket in this process' own memory."""
    store = MemoryStore()
    monkeypatch.setattr(object_store, "store_of", lambda _: store)
    return ObjectPath("s3://memory")


class Reasons(NullReporter):
    """A reporter that keeps why series failed."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def failed(self, table: Artifact, series_instance_uid: str, reason: str) -> None:
        self.reasons.append(reason)


def put_series(
    raw: ObjectPath, directory: Path, files: dict[str, bytes]
) -> tuple[ObjectPath, Path]:
    """Put the same series into a bucket and on a disk."""
    on_disk = directory / "series" / SERIES
    on_disk.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (on_disk / name).parent.mkdir(exist_ok=True)
        (raw / "series" / SERIES / name).write_bytes(content)
        (on_disk / name).write_bytes(content)
    return raw / "series" / SERIES, on_disk


def require_same(found: SeriesTable, expected: SeriesTable) -> None:
    assert_frame_equal(found.frame, expected.frame)
    names = ("files", "unreadable_files", "fast_files", "bytes", "malformed", "litter")
    for name in (*names, "directories"):
        assert getattr(found, name) == getattr(expected, name), name


def read_both(raw: ObjectPath, directory: Path, files: dict[str, bytes]) -> SeriesTable:
    """Read a series from a bucket, and fail unless it is what it is on a disk."""
    there, here = put_series(raw, directory, files)
    found = read_series(there, raw)
    require_same(found, read_series(here, directory))
    return found


def test_directories_in_a_series_are_named_and_not_entered(bucket, tmp_path) -> None:
    files = {"a.dcm": encode(dataset()), "more/b.dcm": encode(dataset()), "DICOMDIR": b""}
    found = read_both(bucket, tmp_path, files)
    assert (found.files, found.directories, found.litter) == (1, ("more",), ("DICOMDIR",))
    (bucket / "series" / SERIES / "a.dcm").unlink()
    with pytest.raises(SeriesError) as caught:
        read_series(bucket / "series" / SERIES, bucket)
    assert "DICOMDIR; and directories, which are not entered: more: put" in str(caught.value)


def long_header(length: int, explicit: bool = True) -> bytes:
    """Return an image with a private element of some length before what is wanted."""
    private = element(0x00091010, "OB", bytes(range(256)) * (length // 256), explicit=explicit)
    return dicom(image(private))


def test_every_series_of_the_sample_is_the_same_in_every_column(sample) -> None:
    local, remote = sample
    inventory = take_inventory(remote)
    assert inventory == take_inventory(settings_with(local.data, local.raw))
    assert len(inventory.series) > 10
    failed = 0
    for uid in inventory.series:
        try:
            expected = read_series(local.directory_of_series(uid), local.raw)
        except SeriesError as error:
            failed += 1
            reason = str(error).partition(uid)[2]
            with pytest.raises(SeriesError) as caught:
                read_series(remote.directory_of_series(uid), remote.raw)
            assert str(caught.value).partition(uid)[2] == reason
        else:
            for threads in (None, 0, 3):
                found = read_series(remote.directory_of_series(uid), remote.raw, threads)
                require_same(found, expected)
    assert failed < len(inventory.series) / 4


def test_csvs_and_segmentations_of_the_sample_are_the_same(sample) -> None:
    local, remote = sample
    series = take_inventory(remote).series
    for path, read in (("train_csv", TrainCsv.read), ("localizers_csv", LocalizersCsv.read)):
        here, there = read(getattr(local, path)), read(getattr(remote, path))
        assert (here.rows, here.sha256, here.refused) == (there.rows, there.sha256, there.refused)
    assert csv_digests(remote) == csv_digests(local)
    assert len(csv_digests(remote)) == 2
    found = 0
    for uid in series:
        expected = segmentation_meta(local.segmentations_root, local.raw, uid)
        assert_frame_equal(segmentation_meta(remote.segmentations_root, remote.raw, uid), expected)
        found += expected.height
        names = [path.name for path in segmentation_files(local.segmentations_root, uid)]
        files = segmentation_files(remote.segmentations_root, uid)
        assert [path.name for path in files] == names
        points = np.random.default_rng(1).uniform(-60, 60, (20, 3))
        if files and "_cowseg" in names[-1]:
            here = segmentation_files(local.segmentations_root, uid)[-1]
            assert vessels_at(files[-1], points) == vessels_at(here, points)
    assert found
    pairs = list_pairs(remote.segmentations_root)
    assert {uid: find_pair(remote.segmentations_root, uid) for uid in pairs} == pairs


def test_a_picture_of_each_kind_of_series_is_the_same(sample, tmp_path) -> None:
    pytest.importorskip("PIL")
    local, remote = sample
    local, remote = (
        Settings(tmp_path, s.raw, tmp_path / name, workers=1)
        for s, name in ((local, "here"), (remote, "there"))
    )
    points = LocalizersCsv.read(local.localizers_csv)
    drawn = 0
    for uid in take_inventory(settings_with(tmp_path, remote.raw)).series:
        try:
            expected = write_preview(local, points, uid)
        except SeriesError:
            with pytest.raises(SeriesError):
                write_preview(remote, points, uid)
            continue
        found = write_preview(remote, points, uid)
        assert (found.files, found.bytes, found.unreadable_files) == (
            expected.files,
            expected.bytes,
            expected.unreadable_files,
        )
        assert found.picture.path.read_bytes() == expected.picture.path.read_bytes()
        drawn += 1
    assert drawn > 5


@pytest.mark.parametrize("length", [HEAD - 256, HEAD, 2 * HEAD, 1 << 20, 3 << 20])
def test_a_header_longer_than_the_first_request_is_read_to_its_end(
    bucket, tmp_path, length
) -> None:
    files = {f"{number}.dcm": long_header(length) for number in range(20)}
    found = read_both(bucket, tmp_path, files)
    assert found.unreadable_files == 0
    assert found.fast_files == 20
    assert found.frame["Rows"].null_count() == 0


def test_a_header_of_many_elements_is_read_to_its_end_by_few_requests(
    bucket, tmp_path, monkeypatch
) -> None:
    many = [element(0x00110000 | n, "LO", "some text " * 6) for n in range(0x1000, 0x3000)]
    content = dicom(image(*many))
    assert len(content) > 10 * HEAD
    requests = []
    read_range = ObjectPath.read_range
    monkeypatch.setattr(
        ObjectPath, "read_range", lambda *of: (requests.append(of[1:]), read_range(*of))[1]
    )
    found = read_both(bucket, tmp_path, {"a.dcm": content})
    assert found.frame["Rows"].to_list() == [2]
    assert len(requests) < 8


def test_pydicom_reads_a_long_header_by_few_requests(bucket, tmp_path, monkeypatch) -> None:
    data = dataset(ExplicitVRBigEndian)
    for number in range(0x1000, 0x2800):
        data.add_new(0x00110000 | number, "LO", "some text of no interest " * 2)
    content = encode(data)
    assert len(content) > 10 * HEAD
    requests = []
    read_range = ObjectPath.read_range
    monkeypatch.setattr(
        ObjectPath, "read_range", lambda *of: (requests.append(of[1:]), read_range(*of))[1]
    )
    assert read_both(bucket, tmp_path, {"a.dcm": content}).fast_files == 0
    assert len(requests) < 8


def test_what_is_jumped_over_is_not_asked_for(bucket, tmp_path, monkeypatch) -> None:
    asked = 0
    read_range = ObjectPath.read_range

    def counted(path, start, length):
        nonlocal asked
        asked += length
        return read_range(path, start, length)

    monkeypatch.setattr(ObjectPath, "read_range", counted)
    read_both(bucket, tmp_path, {"a.dcm": long_header(8 << 20)})
    assert asked < 1 << 20


def test_three_hundred_frames_are_the_same(bucket, tmp_path) -> None:
    content = encode(enhanced(frames=300))
    found = read_both(bucket, tmp_path, {"a.dcm": content})
    assert found.frame.height == 300


def test_a_file_cut_anywhere_gives_the_same_row(bucket, tmp_path) -> None:
    whole = encode(dataset())
    long = long_header(2 * HEAD)
    files = {f"{cut:06}.dcm": whole[:cut] for cut in range(0, len(whole), 61)}
    files |= {f"l{cut:06}.dcm": long[:cut] for cut in range(300, len(long), 4999)}
    files |= {"whole.dcm": whole, "notes.doc": b"scanned on a Monday\n"}
    files |= {
        f"{number}.dcm": encode(dataset(syntax))
        for number, syntax in enumerate([ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
    }
    found = read_both(bucket, tmp_path, files)
    assert 10 < found.unreadable_files < found.files == len(files)


def test_damaged_headers_say_the_same(in_memory, tmp_path, tmp_path_factory) -> None:
    rng = random.Random(6)
    some = rng.sample(seeds(tmp_path_factory.mktemp("seeds")), 20)
    files = {f"{number:04}.dcm": mutated(rng, some[number % len(some)]) for number in range(FUZZED)}
    files["whole.dcm"] = encode(dataset())
    read_both(in_memory, tmp_path, files)


def test_a_file_that_is_replaced_after_the_listing_fails_the_series(bucket, tmp_path) -> None:
    there, _ = put_series(bucket, tmp_path, {"a.dcm": encode(dataset())})
    listed = list_files(there)
    (there / "a.dcm").write_bytes(encode(dataset(Rows=64)))
    with pytest.raises(StoreError, match=r"a\.dcm cannot be read: it was changed"):
        list(open_all(there, listed.files))


@pytest.mark.parametrize(
    ("syntax", "encoded"),
    [
        (ExplicitVRLittleEndian, encode),  # read by its bytes
        (ExplicitVRBigEndian, encode),  # by pydicom
        (ExplicitVRLittleEndian, encode_without_preamble),  # by pydicom, which tries twice
    ],
)
@pytest.mark.parametrize("becomes", [None, bytes(1 << 18)])
def test_a_file_that_is_replaced_or_gone_while_it_is_read_is_no_broken_file(
    bucket, tmp_path, monkeypatch, syntax, encoded, becomes
) -> None:
    data = dataset(syntax)
    data.add_new(0x00090010, "LO", "ours")
    data.add_new(0x00091010, "OB", bytes(2 * HEAD))
    content = encoded(data)
    there, _ = put_series(bucket, tmp_path, {"a.dcm": encode(dataset()), "b.dcm": content})
    read = ObjectFile.read

    def read_after_the_change(file, length, start):
        if file.path.name == "b.dcm" and start + length > HEAD:
            if becomes is None:
                file.path.unlink(missing_ok=True)
            else:
                ObjectPath(file.path.bucket, file.path.key).write_bytes(becomes)
        return read(file, length, start)

    monkeypatch.setattr(ObjectFile, "read", read_after_the_change)
    with pytest.raises(SeriesError, match=r"b\.dcm cannot be read: (no such|it was changed)"):
        read_series(there, bucket)


def test_a_series_without_files_is_no_empty_one(bucket) -> None:
    with pytest.raises(SeriesError, match="there is nothing"):
        read_series(bucket / "series" / SERIES, bucket)


def test_wrong_credentials_fail_what_asks_and_empty_nothing(sample, monkeypatch) -> None:
    _, remote = sample
    uid = take_inventory(remote).series[0]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    require_no_answer(remote, uid, "credentials")


def test_a_store_that_is_down_fails_what_asks_and_empties_nothing(sample, s3_server) -> None:
    _, remote = sample
    uid = take_inventory(remote).series[0]
    s3_server.stop()
    try:
        with impatient():
            require_no_answer(remote, uid, "does not answer")
    finally:
        s3_server.start()
    assert read_series(remote.directory_of_series(uid), remote.raw).files


def require_no_answer(settings: Settings, uid: str, reason: str) -> None:
    for ask in (
        lambda: take_inventory(settings),
        lambda: check_input(settings),
        lambda: take_fingerprints(settings, [uid]),
        lambda: list(fingerprints_in_turn(settings, [uid])),
        lambda: TrainCsv.read(settings.train_csv),
    ):
        with pytest.raises(InputError, match=reason):
            ask()
    for ask in (
        lambda: read_series(settings.directory_of_series(uid), settings.raw),
        lambda: write_dicom_tags(settings, uid),
        lambda: write_segmentation_meta(settings, uid),
        lambda: vessels_at(settings.segmentations_root / "x.nii.gz", [[0, 0, 0]]),
    ):
        with pytest.raises(StoreError, match=reason):
            ask()


def test_fingerprints_differ_where_a_file_does_and_nowhere_else(bucket, tmp_path) -> None:
    def now() -> dict:
        return {name: of[SERIES] for name, of in take_fingerprints(settings, [SERIES]).items()}

    raw = bucket / "raw"
    settings = settings_with(tmp_path, raw)
    there, _ = put_series(raw, tmp_path, {"a.dcm": b"one", "b.dcm": b"two"})
    before = now()
    assert now() == before
    assert {len(text) for text in before.values()} == {32}
    (there / "a.dcm").write_bytes(b"six")
    changed = now()
    assert {name for name in before if before[name] != changed[name]} == {"dicom_tags"}
    (there / "a.dcm").write_bytes(b"one")
    assert now() == before
    (there / "c.dcm").write_bytes(b"")
    assert now()["dicom_tags"] != before["dicom_tags"]
    pair = settings.segmentations_root / SERIES
    (pair / f"{SERIES}_cowseg.nii.gz").write_bytes(b"1")
    assert now()["segmentation_meta"] != before["segmentation_meta"]
    (pair / "notes.txt").write_bytes(b"1")
    with_pair = now()
    (pair / f"{SERIES}_cowseg.nii.gz").write_bytes(b"2")
    assert now()["segmentation_meta"] != with_pair["segmentation_meta"]


def test_flat_segmentations_in_a_bucket_are_found_pinned_and_fingerprinted(
    bucket, tmp_path
) -> None:
    settings = settings_with(tmp_path, bucket / "raw")
    root = settings.segmentations_root
    (root / ".DS_Store").write_bytes(b"litter")
    (root / f"._{SERIES}.nii").write_bytes(b"litter")
    assert list_pairs(root) == {}
    none = take_fingerprints(settings, [SERIES])["segmentation_meta"][SERIES]
    (root / f"{SERIES}_cowseg.nii").write_bytes(b"flat")
    (root / f"{SERIES}.nii.gz").write_bytes(b"flat image")
    pair = find_pair(root, SERIES)
    assert pair == list_pairs(root)[SERIES]
    assert {prefix: path.pinned.st_size for prefix, path in pair.items()} == {
        "nii": 10,
        "cowseg": 4,
    }
    flat = take_fingerprints(settings, [SERIES])["segmentation_meta"][SERIES]
    assert flat != none
    (root / SERIES / f"{SERIES}_cowseg.nii").write_bytes(b"inside")
    pair = find_pair(root, SERIES)
    assert pair == list_pairs(root)[SERIES]
    assert [path.pinned.st_size for path in pair.values()] == [10, 6]
    assert take_fingerprints(settings, [SERIES])["segmentation_meta"][SERIES] != flat


def test_what_is_recorded_is_what_the_fingerprint_is_as_long_as_nothing_changes(
    sample, tmp_path
) -> None:
    _, remote = sample
    settings = settings_with(tmp_path, remote.raw)
    series = take_inventory(settings).series
    now = take_fingerprints(settings, series)
    for write, table in (
        (write_dicom_tags, "dicom_tags"),
        (write_segmentation_meta, "segmentation_meta"),
    ):
        for uid in series:
            try:
                written = write(settings, uid)
            except SeriesError:
                continue
            assert written.fingerprint == now[table][uid]


def test_a_directory_that_is_gone_is_unreadable(bucket, tmp_path) -> None:
    settings = settings_with(tmp_path, bucket / "raw")
    (settings.series_root / SERIES / "a.dcm").write_bytes(b"x")
    found = take_fingerprints(settings, ["1.2.3", SERIES])["dicom_tags"]
    assert found["1.2.3"] == UNREADABLE != found[SERIES]


def test_a_name_that_cannot_be_asked_for_fails_its_series_alone(
    bucket, tmp_path, s3_server
) -> None:
    settings = settings_with(tmp_path, bucket)
    put_series(bucket, tmp_path, {"a.dcm": encode(dataset())})
    (settings.series_root / "1.2.3" / "a.dcm").write_bytes(b"x")
    # No client of S3 that we have puts such a name.
    bucket_at_filer = f"http://127.0.0.1:{s3_server.filer_port}/buckets/{bucket.bucket[5:]}"
    odd = urllib.request.Request(
        f"{bucket_at_filer}/series/1.2.3/line%0Aend.dcm", data=b"x", method="PUT"
    )
    with urllib.request.urlopen(odd) as answer:
        assert answer.status == 201
    with pytest.raises(SeriesError, match=r"rename it.*1\.2\.3/line") as caught:
        read_series(settings.series_root / "1.2.3", bucket)
    assert not isinstance(caught.value, StoreError)
    assert set(take_inventory(settings).series) == {SERIES, "1.2.3"}
    found = take_fingerprints(settings, [SERIES, "1.2.3"])["dicom_tags"]
    assert found["1.2.3"] == UNREADABLE != found[SERIES]


class Listing(BaseHTTPRequestHandler):
    """A store of S3's that only lists, and has names that no store of ours takes."""

    KEYS = (
        *("raw/series/../x", "raw/series//x", "raw/series/1.2.3/a", "raw/series/1.2.4/a"),
        *("raw/series/1.2.4/b", "raw/series/readme", "raw/train.csv"),
        *("raw/segmentations/./x", "raw/segmentations/1.2.3/1.2.3.nii"),
    )

    def do_GET(self) -> None:
        asked = dict(parse_qsl(urlparse(self.path).query))
        prefix = asked.get("prefix", "")
        found: dict[str, str] = {}
        for key in sorted(self.KEYS):
            if key.startswith(prefix) and key > asked.get("start-after", ""):
                part, slash, _ = key[len(prefix) :].partition(asked.get("delimiter", "\0"))
                found[prefix + part + slash] = (
                    f"<CommonPrefixes><Prefix>{prefix}{part}/</Prefix></CommonPrefixes>"
                    if slash
                    else f"<Contents><Key>{key}</Key><Size>1</Size><ETag>a</ETag>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        body = f"<ListBucketResult>{''.join(found.values())}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""


@pytest.fixture
def listing(monkeypatch) -> Iterator[ObjectPath]:
    """Return the bucket of a store that has names that cannot be asked for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Listing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = {"ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "ALLOW_HTTP": "true"}
        for name, value in {**given, "SKIP_SIGNATURE": "true"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield ObjectPath.parse("s3://names")
        server.shutdown()


def test_names_that_cannot_be_asked_for_beside_series_are_named_and_cost_no_series(
    listing, tmp_path, monkeypatch, caplog
) -> None:
    settings = settings_with(tmp_path, listing / "raw")
    monkeypatch.setattr(TrainCsv, "read", TrainCsv.empty)
    inventory = take_inventory(settings)
    assert inventory.series == ("1.2.3", "1.2.4")
    assert inventory.foreign == ("..", "readme")
    assert set(list_pairs(settings.segmentations_root)) == {"1.2.3"}
    assert r"raw/segmentations/./" in caplog.text


def test_the_census_of_a_bucket_counts_series_and_names_what_is_none(bucket, tmp_path) -> None:
    settings = settings_with(tmp_path, bucket / "raw")
    for name in ("1.2.3/a.dcm", "1.2.4/b/c.dcm", "notes/x", "1.2.5", "readme.txt"):
        (settings.series_root / name).write_bytes(b"x")
    inventory = take_inventory(settings)
    assert inventory.series == ("1.2.3", "1.2.4")
    assert inventory.foreign == ("1.2.5", "notes", "readme.txt")
    assert not inventory.has_train_csv


def test_a_bucket_without_series_is_no_input(bucket, tmp_path) -> None:
    with pytest.raises(InputError, match="there is nothing"):
        take_inventory(settings_with(tmp_path, bucket / "raw"))


def test_results_come_in_order_and_a_fault_in_its_place() -> None:
    def fetch(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        return number

    assert list(in_order(fetch, range(6), 4)) == list(range(6))
    results = in_order(fetch, range(100), 4)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="seven"):
        next(results)


def test_no_more_is_fetched_ahead_than_asked_for() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), 5)
    for number in range(20):
        assert next(results) == number
        assert len(taken) <= number + 5
    results.close()


def test_all_readers_of_a_process_have_a_number_of_requests_under_way_together(monkeypatch) -> None:
    monkeypatch.setattr(fetching, "ALL_THREADS", 3)
    fetching._pool.cache_clear()
    most, running = 0, set[int]()
    all_run = threading.Barrier(3)

    def fetch(number: int) -> int:
        nonlocal most
        running.add(number)
        most = max(most, len(running))
        all_run.wait(60)
        running.remove(number)
        return number

    readers = [in_order(fetch, range(start, start + 6), 4) for start in (0, 10)]
    try:
        with ThreadPoolExecutor(2) as pool:
            assert [*pool.map(list, readers)] == [[*range(6)], [*range(10, 16)]]
    finally:
        fetching._pool.cache_clear()
    assert most == 3


def test_a_reader_that_gives_up_leaves_what_it_has_not_asked_for() -> None:
    asked, is_given_up = [], threading.Event()

    def fetch(number: int) -> int:
        asked.append(number)
        if number:
            is_given_up.wait(60)
        return number

    patient = in_order(fetch, range(ALL_THREADS + 100), ALL_THREADS + 50)
    assert next(patient) == 0
    patient.close()
    is_given_up.set()
    # All others are behind it: what was given up is asked for by nobody.
    assert list(in_order(lambda number: number, range(3), 3)) == [0, 1, 2]
    assert len(asked) <= ALL_THREADS + 1


def test_a_process_that_was_forked_from_a_reader_reads_too() -> None:
    assert list(in_order(abs, range(3), 2)) == [0, 1, 2]
    child = multiprocessing.get_context("fork").Process(target=_read_in_order)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def _read_in_order() -> None:
    if list(in_order(abs, range(3), 2)) != [0, 1, 2]:
        raise SystemExit(1)


def unified(graph: Graph) -> pl.DataFrame:
    assert graph.run("unified_metadata").success
    return pl.read_parquet(graph.settings.interim / "dicom_metadata_with_csv.parquet")


@pytest.fixture
def remote_graph(bucket, data, monkeypatch, tmp_path) -> tuple[Graph, Reasons]:
    """Return a graph that reads the sample from a bucket, and who hears of what fails."""
    upload(data / "raw", bucket / "raw")
    monkeypatch.setenv("ANEURYSM_RAW", f"{bucket}/raw")
    reasons = Reasons()
    return Graph(tmp_path / "remote", reporter=reasons), reasons


def test_the_unified_table_from_a_bucket_is_that_from_a_disk(remote_graph, data, monkeypatch):
    remote, _ = remote_graph
    remote.run_all(*SERIES_TABLES)
    found = unified(remote)
    monkeypatch.delenv("ANEURYSM_RAW")
    local = Graph(data)
    local.run_all(*SERIES_TABLES)
    assert_frame_equal(found, unified(local))
    assert remote.with_status("dicom_tags", "FAILED") == local.with_status("dicom_tags", "FAILED")


def test_series_that_a_store_does_not_give_are_failed_with_a_reason_and_taken_again(
    remote_graph, s3_server, monkeypatch
):
    graph, reasons = remote_graph
    read, begun = series.read_series, []

    def read_until_the_store_stops(*where):
        begun.append(where)
        if len(begun) == 4:
            s3_server.stop()
        return read(*where)

    monkeypatch.setattr(series, "read_series", read_until_the_store_stops)
    with impatient():
        try:
            result = graph.run_all("dicom_tags")
        finally:
            s3_server.start()
    assert not result.success
    failed = graph.with_status("dicom_tags", "FAILED")
    assert len(failed) >= len(graph.series) - 3
    # Those before, too, where they were not through yet.
    assert sum("does not answer" in reason for reason in reasons.reasons) >= len(graph.series) - 3
    reasons.reasons.clear()
    graph.run("dicom_tags", series=failed)
    assert not [reason for reason in reasons.reasons if "store" in reason]
    tables = (graph.settings.interim / "dicom_tags").glob("*.parquet")
    for frame in map(pl.read_parquet, tables):
        assert not frame["read_error"].drop_nulls().str.contains("store").any()


def test_points_are_not_placed_without_a_segmentation_that_the_store_does_not_give(
    remote_graph, s3_server
):
    graph, _ = remote_graph
    graph.run_all(*SERIES_TABLES)
    s3_server.stop()
    try:
        with impatient():
            result = graph.run("unified_metadata")
    finally:
        s3_server.start()
    assert not result.success
    assert not list(graph.settings.interim.glob("dicom_metadata_with_csv*"))
    assert unified(graph)["localizer_vessel"].drop_nulls().len()


def test_no_picture_is_drawn_of_what_the_store_stops_to_give(sample, tmp_path, s3_server) -> None:
    pytest.importorskip("PIL")
    local, remote = sample
    settings = settings_with(tmp_path, remote.raw)
    points = LocalizersCsv.read(local.localizers_csv)
    for uid in take_inventory(remote).series:
        series = read_series(remote.directory_of_series(uid), remote.raw).frame
        images = series.filter(pl.col("read_error").is_null())
        s3_server.stop()
        try:
            with impatient(), pytest.raises(StoreError, match="does not answer"):
                compose(settings.raw, images, points.localizers(uid))
        finally:
            s3_server.start()
        break


def test_markers_of_directories_are_no_files(bucket, tmp_path, s3_server) -> None:
    there, here = put_series(bucket, tmp_path, {"a.dcm": encode(dataset())})
    (there / "below" / "b.dcm").write_bytes(b"x")
    (here / "below").mkdir()
    require_same(read_series(there, bucket), read_series(here, tmp_path))


def test_a_large_file_that_is_gone_while_it_is_decoded_is_no_undecodable_one(
    bucket, tmp_path, monkeypatch
) -> None:
    frames = 80
    content = encode(enhanced(frames=frames, Rows=128, Columns=128))
    assert len(content) > decoding._WHOLE
    there, _ = put_series(bucket, tmp_path, {"a.dcm": content})
    rows = list(enumerate(read_series(there, bucket).frame.to_dicts()))
    here = [pixels.sum() for _, pixels in decoding.decode(tmp_path, rows)]
    assert [pixels.sum() for _, pixels in decoding.decode(bucket, rows)] == here
    opened = decoding.open_object

    def open_then_remove(path, head):
        file = opened(path, head)
        path.unlink()
        return file

    monkeypatch.setattr(decoding, "open_object", open_then_remove)
    with pytest.raises(SeriesError, match="no such object") as caught:
        list(decoding.decode(bucket, rows))
    assert not isinstance(caught.value, decoding.Undecodable)


def test_nothing_is_read_of_another_version_than_the_pinned_one(bucket) -> None:
    path = bucket / "file"
    path.write_bytes(b"one")
    pinned = path.pinned_to(path.stat())
    assert pinned == path
    assert pinned.read_bytes() == b"one"
    path.write_bytes(b"two")
    for read in (pinned.read_bytes, lambda: pinned.read_range(0, 1), pinned.open().read):
        with pytest.raises(OSError, match="changed while it was read"):
            read()
    assert path.read_bytes() == b"two"


def test_a_store_that_does_not_heed_the_version_is_found_out(bucket) -> None:
    path = bucket / "file"
    path.write_bytes(b"one")
    without_e_tag = replace(path.stat(), e_tag=None)
    assert path.pinned_to(without_e_tag).read_bytes() == b"one"
    path.write_bytes(b"three")
    with pytest.raises(OSError, match="changed while it was read"):
        path.pinned_to(without_e_tag).read_bytes()


def test_a_version_is_the_same_however_its_e_tag_is_quoted_and_its_time_rounded(bucket) -> None:
    (bucket / "file").write_bytes(b"one")
    stat = (bucket / "file").stat()
    listed = replace(stat, e_tag=stat.e_tag.strip('"'), modified=stat.modified + timedelta(hours=1))
    assert listed.is_same(stat)
    assert not replace(listed, e_tag="another").is_same(stat)
    assert replace(stat, e_tag=None, modified=stat.modified + timedelta(microseconds=9)).is_same(
        stat
    )


def test_all_that_is_below_a_name_is_listed_and_nothing_beside_it(bucket) -> None:
    for name in ("a/b/c", "a/d", "ab/e"):
        (bucket / name).write_bytes(b"x" * len(name))
    below = list_below(bucket / "a")
    assert {name: stat.st_size for name, stat in below.items()} == {"b/c": 5, "d": 3}
    assert list_below(bucket / "nothing") == {}
