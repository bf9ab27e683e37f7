import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from aneurysm_assets.dicom.columns import SeriesColumns
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.dicom.series import read_series
from aneurysm_assets.errors import SeriesError
from aneurysm_assets.sample import write_load_sample
from aneurysm_assets.storage import read_ahead
from aneurysm_assets.storage.read_ahead import FIRST_READ, OpenFile, ReadAhead, open_ahead


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    raw = write_load_sample(tmp_path_factory.mktemp("load"), 1, 40)
    (directory,) = (raw / "series").iterdir()
    return directory


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def paths_of(series: Path) -> list[str]:
    return sorted(str(path) for path in series.iterdir())


@pytest.fixture
def touched(monkeypatch) -> list[str]:
    """Return the files that threads read ahead, in the order in which they did."""
    paths: list[str] = []
    touch = read_ahead._touch
    monkeypatch.setattr(read_ahead, "_touch", lambda path: (paths.append(path), touch(path)))
    return paths


@pytest.fixture
def slow(monkeypatch) -> None:
    """Let every file count as one that was waited for."""
    monkeypatch.setattr(read_ahead, "_WAITING", -1.0)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Let no file count as one that was waited for."""
    monkeypatch.setattr(read_ahead, "_WAITING", 1e9)


@pytest.mark.parametrize("threads", [0, 1, 4, 100, None])
def test_a_series_reads_the_same_with_any_number_of_threads(series, threads) -> None:
    raw = series.parent.parent
    assert_frame_equal(read_series(series, raw, threads).frame, read_series(series, raw, 0).frame)


def test_files_in_memory_are_read_without_threads(series, touched, quick) -> None:
    read_series(series, series.parent.parent)
    assert touched == []


def test_threads_begin_where_reading_waits_and_take_each_file_that_is_left_once(
    series, touched, slow
) -> None:
    paths = paths_of(series)
    with ReadAhead(paths) as reading:
        for number in range(1, 17):
            assert not reading._running
            reading.file_done()
            assert bool(reading._running) == (number == 16)
        for thread in reading._running:
            thread.join()
    assert sorted(touched) == paths[16:]


def test_with_no_threads_asked_for_none_begin_however_slow_the_files(series, touched, slow) -> None:
    read_series(series, series.parent.parent, 0)
    assert touched == []


def test_a_series_that_waits_reads_the_same(series, slow) -> None:
    raw = series.parent.parent
    assert_frame_equal(read_series(series, raw).frame, read_series(series, raw, 0).frame)


def test_all_threads_have_ended_when_a_series_is_read(series) -> None:
    before = threading.active_count()
    read_series(series, series.parent.parent, 32)
    assert threading.active_count() == before


def test_threads_end_where_the_reader_fails(series) -> None:
    before = threading.active_count()

    def fail() -> None:
        with ReadAhead(paths_of(series), 8):
            raise ValueError("the reader's")

    with pytest.raises(ValueError, match="the reader's"):
        fail()
    assert threading.active_count() == before


def test_what_is_no_regular_file_is_not_waited_for_and_what_is_gone_is_said(
    series, tmp_path
) -> None:
    mixed = tmp_path / "series" / "1.2.3"
    mixed.mkdir(parents=True)
    for path in list(series.iterdir())[:3]:
        (mixed / path.name).write_bytes(path.read_bytes())
    os.mkfifo(mixed / "fifo.dcm")
    (mixed / "link.dcm").symlink_to("nowhere")
    read = read_series(mixed, tmp_path, 4)
    assert (read.files, read.unreadable_files) == (5, 2)


def test_the_head_of_each_file_is_asked_for_before_those_ahead_of_it_are_read(
    series, monkeypatch
) -> None:
    asked: list[tuple[str, int, int]] = []
    advise = os.posix_fadvise

    def recorded(descriptor: int, offset: int, length: int, advice: int) -> None:
        if advice == os.POSIX_FADV_WILLNEED:
            asked.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), offset, length))
        advise(descriptor, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", recorded)
    paths = paths_of(series)
    for number, file in enumerate(open_ahead(paths)):
        assert isinstance(file, OpenFile)
        assert (file.path, file.size) == (paths[number], Path(paths[number]).stat().st_size)
        assert asked == [(path, 0, FIRST_READ) for path in paths[: number + 33]]
        os.close(file.descriptor)
    assert len(asked) == 40


def test_files_are_open_only_until_the_reader_has_them_or_stops_asking(series) -> None:
    before = open_files()
    files = open_ahead(paths_of(series))
    first = next(files)
    assert isinstance(first, OpenFile)
    assert open_files() == before + 33
    files.close()
    assert open_files() == before + 1
    os.close(first.descriptor)
    read_series(series, series.parent.parent)
    assert open_files() == before


def test_where_a_series_fails_in_its_middle_no_file_stays_open(series, monkeypatch) -> None:
    before = open_files()
    monkeypatch.setattr(SeriesColumns, "add", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read_series(series, series.parent.parent)
    assert open_files() == before


def test_a_file_that_cannot_be_opened_or_advised_on_is_left_to_its_reader(
    series, tmp_path, monkeypatch
) -> None:
    paths = [*paths_of(series)[:2], str(tmp_path / "gone")]
    files = list(open_ahead(paths))
    assert files[2] == paths[2]

    def refuse(*_: object) -> None:
        raise OSError("no advice")

    monkeypatch.setattr(read_ahead, "_MUCH", 1 << 40)
    monkeypatch.setattr(os, "posix_fadvise", refuse)
    files += open_ahead(paths)
    assert [isinstance(file, OpenFile) for file in files] == [True, True, False] * 2
    for file in files:
        if isinstance(file, OpenFile):
            os.close(file.descriptor)


def test_without_a_thread_to_be_had_a_series_reads_the_same(
    series, slow, no_threads_to_be_had
) -> None:
    raw = series.parent.parent
    expected = read_series(series, raw, 0).frame
    for threads in (None, 4):
        assert_frame_equal(read_series(series, raw, threads).frame, expected)


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Let no more than so many files be opened."""
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    filling = []
    while (descriptor := os.dup(0)) < highest:  # the free numbers below count too
        filling.append(descriptor)
    os.close(descriptor)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, descriptor) + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in filling:
            os.close(descriptor)


@pytest.mark.parametrize("number", [2, 5, 20])
def test_with_few_files_to_be_opened_at_once_a_series_reads_the_same(series, number) -> None:
    raw = series.parent.parent
    expected = read_series(series, raw, 0).frame
    with descriptors_left(number):
        found = read_series(series, raw, 0)
    assert found.unreadable_files == 0
    assert_frame_equal(found.frame, expected)


def test_where_no_file_can_be_opened_the_series_fails_and_no_file_is_called_broken(series) -> None:
    file = next(series.iterdir())
    with descriptors_left(0), pytest.raises(SeriesError, match="Too many open files") as raised:
        read_header(file)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("wall", "cpu", "begins"),
    [
        (2e-3, 0.1e-3, True),  # waits for files
        (2e-3, 1.9e-3, False),  # works, as pydicom does
        (0.1e-3, 0.1e-3, False),  # finds files in memory
    ],
)
def test_threads_begin_where_a_reader_waits_and_not_where_it_works(
    series, monkeypatch, wall, cpu, begins
) -> None:
    clocks = {"perf_counter": 10.0, "thread_time": 3.0}
    monkeypatch.setattr(read_ahead, "perf_counter", lambda: clocks["perf_counter"])
    monkeypatch.setattr(read_ahead, "thread_time", lambda: clocks["thread_time"])
    with ReadAhead(paths_of(series)) as reading:
        for _ in range(16):
            clocks["perf_counter"] += wall
            clocks["thread_time"] += cpu
            reading.file_done()
        assert bool(reading._running) == begins


def test_a_file_that_cannot_be_looked_at_leaves_none_open(series, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no seeking here")

    before = open_files()
    monkeypatch.setattr(os, "lseek", fail)
    with pytest.raises(OSError, match="no seeking"):
        read_ahead.open_head(next(series.iterdir()))
    assert open_files() == before
