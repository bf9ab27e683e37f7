"""Whatever a header declares, reading it takes bounded memory and ends."""

import os
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

from aneurysm_assets.dicom.attributes import PER_FRAME, tag_of
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.dicom.series import read_series
from aneurysm_assets.errors import SeriesError, UnreadableFile
from aneurysm_assets.limits import MAX_FRAMES
from tests.dicom_bytes import (
    DEFLATED,
    UNDEFINED,
    dicom,
    element,
    image,
    item,
    sequence,
)
from tests.dicom_files import SERIES, dataset, encode

ZEROS = bytes(3 << 20)

HEADERS = {
    "functional groups of zeros": image(element(tag_of(PER_FRAME), "SQ", ZEROS)),
    "functional groups that turn to zeros": image(element(tag_of(PER_FRAME), "SQ", item() + ZEROS)),
    "a private sequence of zeros without end": image(
        element(0x00091001, "UN", ZEROS, UNDEFINED), sequence(0x00091002, item())
    ),
    "a modality of 600 MB": element(0x00080060, "OB", b"", 600 << 20),
}


@pytest.fixture
def series(tmp_path) -> Path:
    directory = tmp_path / "series" / SERIES
    directory.mkdir(parents=True)
    (directory / "good.dcm").write_bytes(encode(dataset()))
    return directory


USED = """
import resource, sys

def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss
"""

READ_SERIES = f"""{USED}
from pathlib import Path
from aneurysm_assets.dicom.series import read_series

series = Path(sys.argv[1])
_, kilobytes = used()
read = read_series(series, series.parent.parent)
refused = read.frame.filter(read.frame["read_error"].is_not_null())["dicom_path"]
print(read.files, read.unreadable_files, *refused)
print(used()[1] - kilobytes)
"""


def said_by_a_process(program: str, path: Path) -> list[str]:
    """Run a program with a path as its argument; return its lines.

    From a small process: what a process took before it was replaced counts as its own.
    """
    command = ["/bin/sh", "-c", '"$0" -c "$1" "$2"; exit $?', sys.executable, program, path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_cannot_be_is_unreadable_and_takes_little_memory(series, what) -> None:
    path = series / "vast.dcm"
    path.write_bytes(dicom(HEADERS[what]))
    with path.open("r+b") as file:
        file.truncate(700 << 20)
    said, kilobytes = said_by_a_process(READ_SERIES, series)
    assert said == f"2 1 series/{SERIES}/vast.dcm"
    assert int(kilobytes) < 600 << 10


@pytest.mark.parametrize(("megabytes", "is_read"), [(200, True), (600, False)])
def test_a_deflated_file_of_few_bytes_is_not_inflated_to_any_size(
    series, megabytes, is_read
) -> None:
    deflate = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS)
    body = [deflate.compress(image(pixels=bytes(megabytes << 20))), deflate.flush()]
    (series / "vast.dcm").write_bytes(dicom(*body, syntax=DEFLATED))
    del body
    tracemalloc.start()
    read = read_series(series, series.parent.parent)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (read.files, read.unreadable_files) == (2, 0 if is_read else 1)
    assert peak < 500 << 20


@pytest.mark.parametrize("changes", [{}, {"ImageType": ["ORIGINAL", "PRIMARY"]}])
@pytest.mark.parametrize(("frames", "is_read"), [(1_000, True), (1_001, False), (99_999, False)])
def test_frames_that_the_file_has_no_room_for_do_not_become_rows(
    series, frames, is_read, changes
) -> None:
    data = dataset(NumberOfFrames=str(frames), **changes)
    del data.PixelData
    (series / "good.dcm").write_bytes(encode(data))
    if is_read:
        assert read_series(series, series.parent.parent).frame.height == frames
    else:
        with pytest.raises(SeriesError, match=f"declares {frames} frames"):
            read_series(series, series.parent.parent)


@pytest.mark.parametrize(
    ("is_deflated", "is_undefined", "items"),
    [
        (True, True, MAX_FRAMES + 1),
        pytest.param(True, False, MAX_FRAMES + 1, marks=pytest.mark.long),
        pytest.param(False, False, MAX_FRAMES + 1, marks=pytest.mark.long),
        (True, True, 3_000_000),
        (True, False, 3_000_000),
        (False, False, 3_000_000),
    ],
)
def test_items_without_end_and_no_number_of_frames_do_not_become_rows(
    tmp_path, is_deflated, items, is_undefined
) -> None:
    value = item() * items
    length = UNDEFINED if is_undefined else len(value)
    end = bytes.fromhex("FEFFDDE000000000") if is_undefined else b""
    body = image(element(tag_of(PER_FRAME), "SQ", value, length) + end)
    if is_deflated:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = dicom(deflate.compress(body), deflate.flush(), syntax=DEFLATED)
    else:
        content = dicom(body)
    path = tmp_path / "vast.dcm"
    path.write_bytes(content)
    before = time.process_time()
    with pytest.raises(UnreadableFile, match="cannot be"):
        read_header(path)
    assert time.process_time() - before < 15


EMPTY = element(0x00091001, "LO")
PAIRS = b"1\\" * 20_000_000

COSTLY = {
    "OB of undefined length": (image(element(0x00091001, "OB", b"", UNDEFINED)), "128 MB"),
    "UT of undefined length": (image(element(0x00091001, "UT", b"", UNDEFINED)), "128 MB"),
    "millions of empty elements": (image(EMPTY * 4_000_000), "100000 elements"),
    "millions of empty elements in a frame": (
        image(sequence(tag_of(PER_FRAME), item(EMPTY * 4_000_000))),
        "1000000 elements",
    ),
    "millions of empty elements in a group of a frame": (
        image(sequence(tag_of(PER_FRAME), item(sequence(0x00209116, item(EMPTY * 4_000_000))))),
        "1000000 elements",
    ),
    "a character set of millions of values": (element(0x00080005, "UC", PAIRS), "40000000 bytes"),
    "one in a frame": (
        image(sequence(tag_of(PER_FRAME), item(element(0x00080005, "UC", PAIRS)))),
        "40000000 bytes",
    ),
    "escape sequences": (
        element(0x00080005, "CS", b"\\ISO 2022 IR 87")
        + element(0x00080070, "UT", b"\x1b$B\x1b(B" * 10_000_000),
        "Manufacturer: has more than 1048576 bytes",
    ),
    "Rows of millions of values": (
        element(0x00280010, "UN", PAIRS),
        "Rows: has more than 1048576 bytes",
    ),
    "ImageType of millions of values": (
        element(0x00080008, "UC", PAIRS),
        "ImageType: has more than 1048576 bytes",
    ),
}
"""Headers of which each costs time or memory in its own way, and what is said of them."""

READ_HEADER = f"""{USED}
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.errors import UnreadableFile

seconds, kilobytes = used()
try:
    print(read_header(sys.argv[1]).malformed)
except UnreadableFile as error:
    print(error)
print(used()[0] - seconds, used()[1] - kilobytes)
"""


@pytest.mark.parametrize("what", COSTLY)
def test_a_header_that_is_costly_to_read_takes_little_memory_and_time_of_a_process(
    tmp_path, what
) -> None:
    content, reason = COSTLY[what]
    path = tmp_path / "costly.dcm"
    path.write_bytes(dicom(content))
    if "undefined" in what:
        os.truncate(path, 3 << 30)
    said, numbers = said_by_a_process(READ_HEADER, path)
    seconds, kilobytes = map(float, numbers.split())
    assert reason in said
    # Twice what they take, as machines differ; unbounded, they take 2 to 46 s, or gigabytes.
    assert (seconds < 4, kilobytes < 400 << 10) == (True, True), numbers
