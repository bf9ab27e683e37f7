"""Damaged headers: the walk returns what pydicom returns, or nothing; never anything else.

`ANEURYSM_FUZZ_CASES` sets how many there are (2,000 unless it is set, 10,000 with `--long`),
`ANEURYSM_FUZZ_SEED` which.
"""

import os
import random
import struct
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from aneurysm_assets.dicom.fast_parser import elements as elements_module
from aneurysm_assets.dicom.fast_parser import reader as reader_module
from aneurysm_assets.dicom.fast_parser import template
from aneurysm_assets.dicom.fast_parser.elements import HeaderStream
from aneurysm_assets.dicom.fast_parser.reader import SeriesReader
from aneurysm_assets.dicom.fast_parser.walk import Walker
from aneurysm_assets.sample import write_load_sample, write_sample
from aneurysm_assets.storage.read_ahead import FIRST_READ
from tests.dicom_bytes import PYDICOM_FILES, as_header, by_pydicom, comparable, walk_header

SEED = int(os.environ.get("ANEURYSM_FUZZ_SEED", "4"))

PIXELS_KEPT = 64
LONGEST = 20_000

SHORT_READ = 200
"""Bytes at a time, so that reads end wherever they can end."""

LENGTHS = [0, 1, 2, 3, 4, 7, 8, 100, 255, 256, 4096, 4097, 65534, 65535]
LONG_LENGTHS = [*LENGTHS, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
VRS = ["CS", "DS", "IS", "LO", "OB", "OW", "PN", "SL", "SQ", "SS", "UI", "UL", "UN", "US", "UT"]
VRS += ["ZZ", "cs", "\0\0", " \0"]
SNIPPETS = [
    struct.pack("<HHI", 0xFFFE, 0xE000, 0),
    struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF),
    struct.pack("<HHI", 0xFFFE, 0xE00D, 0),
    struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
    struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 8),
    struct.pack("<HH2sH", 0x0020, 0x13, b"IS", 2) + b"5 ",
    struct.pack("<HH2sH", 0x0008, 0x5, b"CS", 10) + b"ISO_IR 192",
    b"\0",
    b"\\",
    b" ",
    b"\xff",
    b"1e9",
    b"\x1b$B",
]
VALUES = [
    *(
        b"",
        b" ",
        b"\0\0",
        b"1 ",
        b"-1",
        b"1.5 ",
        b"1\\2 ",
        b"1\\2\\3 ",
        b"1\\0\\0\\0\\1\\0 ",
        b"\x02\0",
    ),
    *(
        b"1.2.3\0",
        b"ISO_IR 192",
        b"ISO_IR 6",
        b"ISO_IR 144",
        b"\\ISO 2022 IR 87 ",
        b"CT",
        b"MR\\CT ",
    ),
    *(
        b"\xe4b",
        b"\xc3\xa4",
        b"text",
        b"a \\b ",
        b"1e3 ",
        b"2147483648",
        b"nan ",
        b"x" * 300,
        b"odd",
    ),
]


class Seed:
    """A real header, with the places of its elements, for mutations that hit something."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        size = path.stat().st_size
        spans = []
        try:
            read = partial(os.pread, descriptor)
            stream = HeaderStream(read, size, read(8192, 0))
            Walker().walk(stream, spans)
        finally:
            os.close(descriptor)
        self.name = path.name
        self.end = spans[-1][2]
        self.spans = spans
        self.data = path.read_bytes()[: self.end + PIXELS_KEPT]


def seeds(directory: Path) -> list[Seed]:
    """Return a header of each kind there is."""
    files = [
        path
        for root in (
            PYDICOM_FILES,
            write_sample(directory / "small") / "series",
            write_load_sample(directory / "load", 4, 1) / "series",
        )
        for path in sorted(root.rglob("*"))
        if path.is_file() and walk_header(path) is not None
    ]
    found = [seed for seed in map(Seed, files) if seed.end < LONGEST]
    return list({seed.data: seed for seed in found}.values())


def mutated(rng: random.Random, seed: Seed) -> bytes:
    data = bytearray(seed.data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        rng.choice(MUTATIONS)(rng, seed, data)
    return bytes(data)


def some_place(rng, seed, data):
    """Return a place in the header, most often near the beginning of an element."""
    if rng.random() < 0.3:
        return rng.randrange(128, max(len(data), 129))
    _, start, value, _ = rng.choice(seed.spans)
    return min(start + rng.randrange(value - start + 3), len(data) - 1)


def change_byte(rng, seed, data):
    at = some_place(rng, seed, data)
    data[at : at + 1] = bytes([rng.randrange(256)])


def flip_bit(rng, seed, data):
    at = some_place(rng, seed, data)
    if at < len(data):
        data[at] ^= 1 << rng.randrange(8)


def insert(rng, seed, data):
    at = some_place(rng, seed, data)
    data[at:at] = rng.choice(SNIPPETS)


def overwrite(rng, seed, data):
    at, snippet = some_place(rng, seed, data), rng.choice(SNIPPETS)
    data[at : at + len(snippet)] = snippet


def delete(rng, seed, data):
    at = some_place(rng, seed, data)
    del data[at : at + rng.choice((1, 1, 2, 2, 4, 8, 12, 100))]


def truncate(rng, seed, data):
    del data[some_place(rng, seed, data) :]


def change_vr(rng, seed, data):
    _, start, _, _ = rng.choice(seed.spans)
    data[start + 4 : start + 6] = rng.choice(VRS).encode()


def change_length(rng, seed, data):
    _, start, value, _ = rng.choice(seed.spans)
    if value - start == 12:
        data[value - 4 : value] = struct.pack("<I", rng.choice(LONG_LENGTHS))
    else:
        data[value - 2 : value] = struct.pack("<H", rng.choice(LENGTHS))


def change_value(rng, seed, data):
    _, _, value, end = rng.choice(seed.spans)
    if 0 < end - value < 1000:
        alphabet = rng.choice((b"0123456789.+-eE\\ \0", b"ABC ^\\\0\xe4", bytes(range(256))))
        data[value:end] = bytes(rng.choice(alphabet) for _ in range(end - value))


def replace_value(rng, seed, data):
    """Give an element another value, and the length of that."""
    _, start, value, end = rng.choice(seed.spans[:-1] or seed.spans)
    new = rng.choice(VALUES)
    if value - start == 12:
        new = struct.pack("<I", len(new)) + new
        data[value - 4 : end] = new
    else:
        data[value - 2 : end] = struct.pack("<H", len(new)) + new


def change_digit(rng, seed, data):
    """Change a character of a value to another of its kind: most such files are as good."""
    _, _, value, end = rng.choice(seed.spans[:-1] or seed.spans)
    if value < end <= len(data):
        at = rng.randrange(value, end)
        data[at] = rng.choice(b"0123456789" if chr(data[at]).isdigit() else b"ABC. -+")


def empty(rng, seed, data):
    """Leave an element without a value, and its length right."""
    _, start, value, end = rng.choice(seed.spans)
    width = 4 if value - start == 12 else 2
    data[value - width : end] = bytes(width)


def repeat(rng, seed, data):
    _, start, _, end = rng.choice(seed.spans[:-1] or seed.spans)
    data[end:end] = data[start:end]


def swap(rng, seed, data):
    (_, start, _, end), (_, other, _, other_end) = sorted(rng.sample(seed.spans, 2))
    if end <= other < other_end:
        data[start:other_end] = data[other:other_end] + data[end:other] + data[start:end]


def take_over(rng, seed, data):
    """Put another element's tag, with its VR or without, in an element's place."""
    (_, start, _, _), (_, other, _, _) = rng.sample(seed.spans, 2)
    width = rng.choice((4, 6))
    data[start : start + width] = data[other : other + width]


MUTATIONS = [
    change_byte,
    flip_bit,
    insert,
    overwrite,
    delete,
    truncate,
    change_vr,
    change_length,
    change_length,
    change_value,
    change_value,
    replace_value,
    replace_value,
    replace_value,
    change_digit,
    change_digit,
    change_digit,
    change_digit,
    empty,
    repeat,
    swap,
    take_over,
]


@pytest.fixture(scope="module")
def real_headers(tmp_path_factory):
    return seeds(tmp_path_factory.mktemp("seeds"))


@pytest.mark.parametrize("first_read", [SHORT_READ, FIRST_READ])
def test_damaged_headers(real_headers, tmp_path, monkeypatch, is_long, first_read):
    for module in (template, reader_module, elements_module):
        monkeypatch.setattr(module, "FIRST_READ", first_read)
    rng = random.Random(SEED + first_read)
    cases = int(os.environ.get("ANEURYSM_FUZZ_CASES", "10000" if is_long else "2000")) // 2
    path, whole = tmp_path / "damaged.dcm", tmp_path / "whole.dcm"
    told = Counter()
    assert len(real_headers) > 60
    for seed in real_headers:
        reader = SeriesReader()
        for data in (seed.data, seed.data):
            whole.write_bytes(data)
            taught = reader.read(whole)
            assert taught is None or comparable(as_header(taught)) == by_pydicom(whole)
            assert taught is not None or first_read == SHORT_READ
        for _ in range(-(-cases // len(real_headers))):
            data = mutated(rng, seed)
            path.write_bytes(data)
            begin = time.monotonic()
            found = [walk_header(path), (read := reader.read(path)) and as_header(read)]
            assert time.monotonic() - begin < 60  # else it hangs
            expected = by_pydicom(path) if any(found) else None
            for header in found:
                if header is not None and comparable(header) != expected:
                    (Path(os.environ.get("TMPDIR", "/tmp")) / "fuzz.dcm").write_bytes(data)
                    pytest.fail(f"{seed.name}: {header} and not {expected}")
            told[tuple(header is not None for header in found)] += 1
    count = sum(told.values())
    print(f"reads of {first_read}: {count} cases of {len(real_headers)} headers: {dict(told)}")
    # A template matches exactly what the walk reads, and the other way round.
    assert told[True, False] == told[False, True] == 0
    assert told[True, True] > cases / 10
