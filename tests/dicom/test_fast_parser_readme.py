"""The worked example in the README of the fast parser is what the code does."""

import re
from pathlib import Path

import pytest

from aneurysm_assets.dicom import fast_parser
from aneurysm_assets.dicom.attributes import ATTRIBUTES, SLOTS
from aneurysm_assets.dicom.fast_parser import template
from aneurysm_assets.dicom.fast_parser.elements import HeaderStream, Span
from aneurysm_assets.dicom.fast_parser.reader import SeriesReader
from aneurysm_assets.dicom.fast_parser.template import Template, learn
from aneurysm_assets.dicom.fast_parser.values import Decoder, FallBackToPydicom
from aneurysm_assets.dicom.fast_parser.walk import Walked, Walker
from aneurysm_assets.dicom.pydicom_header import read_header
from aneurysm_assets.storage.read_ahead import FIRST_READ
from tests.dicom_bytes import as_header

README = (Path(fast_parser.__file__).parent / "README.md").read_text()

FOLLOWS = {getattr(template, name): name for name in ("LENGTH_16", "LENGTH_32", "END")}


def blocks(kind: str) -> list[list[str]]:
    return [text.splitlines() for text in re.findall(rf"```{kind}\n(.*?)\n```", README, re.DOTALL)]


def elements(lines: list[str]) -> dict[bytes, bytes]:
    """Return the bytes of each line by its tag."""
    encoded = [bytes.fromhex(line.partition("|")[0]) for line in lines]
    return {line[:4]: line for line in encoded}


(FILE_1,) = map(elements, blocks("hex"))
FILE_2, FILE_3, FILE_4 = (FILE_1 | elements(change) for change in blocks("change"))


def encode(file: dict[bytes, bytes]) -> bytes:
    return bytes(128) + b"".join(file.values())


def reads(data: bytes):
    return lambda length, start: data[start : start + length]


def walk(data: bytes) -> tuple[HeaderStream, list[Span], Walked]:
    spans: list[Span] = []
    stream = HeaderStream(reads(data), len(data), data[:FIRST_READ])
    return stream, spans, Walker().walk(stream, spans)


def learned_from(file: dict[bytes, bytes]) -> Template:
    found = learn(*walk(encode(file)))
    assert found is not None
    return found


def match(known: Template, file: dict[bytes, bytes]) -> Walked | None:
    data = encode(file)
    return known.match(reads(data), len(data), data, Decoder())


def as_in_readme(known: Template) -> list[str]:
    lines = []
    for step in known.steps:
        wanted = [ATTRIBUTES[step.argument].name] if step.argument >= 0 else []
        lines += [step.stretch.hex(" ").upper(), " ".join([FOLLOWS[step.follows], *wanted])]
    return lines


@pytest.fixture
def first() -> Template:
    return learned_from(FILE_1)


def test_file_1_teaches_the_template_that_the_readme_shows(first) -> None:
    assert as_in_readme(first) == blocks("template")[0]


def test_file_2_fits_and_says_what_the_walk_finds(first) -> None:
    found = match(first, FILE_2)
    assert found == walk(encode(FILE_2))[2]
    values = [found.rows[0][SLOTS[name]] for name in ("InstanceNumber", "Modality", "Rows")]
    assert values == [1200, "CT", 2]
    assert found.pixel_data == "whole"


def test_file_3_does_not_fit_and_is_joined_to_the_second_template(first) -> None:
    assert match(first, FILE_3) is None
    joined = first.joined(learned_from(FILE_3))
    assert joined is not None
    assert as_in_readme(joined) == blocks("template")[1]
    for file in (FILE_1, FILE_2, FILE_3):
        assert match(joined, file) == walk(encode(file))[2]


def test_file_4_is_left_to_pydicom(first) -> None:
    assert match(first, FILE_4) is None
    with pytest.raises(FallBackToPydicom):
        walk(encode(FILE_4))


def test_the_reader_goes_the_ways_that_the_readme_tells(tmp_path) -> None:
    reader = SeriesReader()
    for number, file in enumerate((FILE_1, FILE_2, FILE_3, FILE_4)):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(encode(file))
        found = reader.read(path)
        assert (found is None) == (file is FILE_4)
        if found is not None:
            assert as_header(found) == read_header(path)
