"""Pixels of DICOM images: only those that are asked for, a file or a frame at a time."""

import io
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from aneurysm_assets.errors import SeriesError
from aneurysm_assets.limits import MAX_IMAGE_PIXELS
from aneurysm_assets.messages import one_line
from aneurysm_assets.optional_dependencies import how_to_install, missing_packages
from aneurysm_assets.storage.fetching import ObjectFile, in_order, open_object
from aneurysm_assets.storage.object_path import Location, ObjectPath
from aneurysm_assets.volumes.plane import Pixels

_AHEAD = 8
"""Files of a bucket that are fetched at the same time."""

_WHOLE = 2 << 20
"""Bytes of a file that are fetched at once; of a larger one the rest as it is decoded."""

_UNDEFINED = 0xFFFFFFFF

_HEADER = [
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    *(
        f"{segmented}{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    ),
]
"""What pixels are shown by."""

Row = Mapping[str, Any]
"""A row of `dicom_tags` by column."""


class Undecodable(SeriesError):  # noqa: N818 - as `UnreadableFile`
    """The pixels of one file cannot be had; the text says of which, and why."""


class NoDecoder(SeriesError):  # noqa: N818
    """Pixels are encoded in a way that nothing installed decodes."""


def decode(
    raw: Location, rows: Iterable[tuple[int, Row]]
) -> Iterator[tuple[int, Pixels | Undecodable]]:
    """Decode images in the order of their files, one in memory at a time.

    Parameters
    ----------
    raw : Location
        `dicom_path` is relative to it.
    rows : iterable of tuple
        The images, each with a number to know it by.

    Yields
    ------
    tuple of int and ndarray or Undecodable
        Grey in output units (slope and intercept applied where there are), as float32; colour as
        RGB, uint8.

    Raises
    ------
    NoDecoder
        A decoder is not installed; the text says what to install.
    SeriesError
        The files are in a bucket, and the store does not give one.
    """

    def of_file(row: tuple[int, Row]) -> str:
        return str(row[1]["dicom_path"])

    by_file = {
        path: sorted(group, key=lambda row: row[1]["frame_index"] or 0)
        for path, group in groupby(sorted(rows, key=of_file), key=of_file)
    }
    with closing(_opened(raw, by_file)) as files:
        for file, frames in zip(files, by_file.values(), strict=True):
            yield from _decode_file(file, frames)


def _opened(raw: Location, paths: Iterable[str]) -> Generator[Path | ObjectFile]:
    """Yield each file; in a bucket the next are fetched meanwhile, whole where they are small."""
    if isinstance(raw, ObjectPath):
        yield from in_order(partial(open_object, head=_WHOLE), map(raw.__truediv__, paths), _AHEAD)
    else:
        yield from map(raw.__truediv__, paths)


def _decode_file(
    file: Path | ObjectFile, frames: list[tuple[int, Row]]
) -> Iterator[tuple[int, Pixels | Undecodable]]:
    remaining = list(frames)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for stored in stored_values(file, frames):
                number, row = remaining.pop(0)
                yield number, _in_output_units(stored, row)
    except NoDecoder:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything; the reason is recorded
        if isinstance(file, ObjectFile):
            file.require_given()
        reason = one_line(error) or type(error).__name__
        name = frames[0][1]["dicom_path"]
        syntax = syntax_name(frames[0][1]["TransferSyntaxUID"])
        failed = Undecodable(f"{name}: pixels cannot be decoded ({syntax}): {reason}")
        yield from ((number, failed) for number, _ in remaining)


def stored_values(file: Path | ObjectFile, frames: Sequence[tuple[int, Row]]) -> Iterator[Pixels]:
    """Yield the stored values of frames of one file, in their order.

    Parameters
    ----------
    file : Path or ObjectFile
        The file.
    frames : sequence of tuple
        The rows of its images that are wanted, each with a number, in the order of their frames.

    Yields
    ------
    ndarray
        Grey as rows x columns of stored values without what is in their unused bits; colour as RGB.

    Raises
    ------
    NoDecoder
        A decoder is not installed; the text says what to install.
    Exception
        Whatever a decoder raises; ValueError where the pixel data is short.
    """
    declared = UID(frames[0][1]["TransferSyntaxUID"] or "")
    _require_decoder(file, declared)
    indices = [row["frame_index"] or 0 for _, row in frames]
    stream = file.stream() if isinstance(file, ObjectFile) else file.open("rb", buffering=0)
    found: Generator[Pixels]
    with closing(io.BufferedReader(stream)) as source:
        if declared == DeflatedExplicitVRLittleEndian:
            # pydicom seeks in the file for pixels, which a deflated one does not allow.
            header = dcmread(source)
            _require_few_pixels(header)
            found = (pixels for pixels in iter_pixels(header, indices=indices))
        else:
            header = dcmread(source, force=True, stop_before_pixels=True, specific_tags=_HEADER)
            _require_few_pixels(header)
            syntax = declared or _syntax_as_read(header)
            whole = _whole_frames(source, header, syntax, indices)
            found = _any_decoder(source, syntax, whole)
        with closing(found):  # before its source is
            for stored in found:
                yield _as_shown(stored, header, declared)
        if declared != DeflatedExplicitVRLittleEndian and len(whole) < len(indices):
            raise ValueError("the pixel data is shorter than Rows, Columns and frames need")


def _require_few_pixels(header: Dataset) -> None:
    """Refuse an image of a few bytes that would take all memory once it is decoded."""
    rows, columns = header.get("Rows") or 0, header.get("Columns") or 0
    if rows * columns > MAX_IMAGE_PIXELS:
        raise ValueError(
            f"{rows} x {columns} pixels, and an image of at most {MAX_IMAGE_PIXELS:,} is decoded"
        )


def _require_decoder(file: Path | ObjectFile, syntax: UID) -> None:
    """Raise an error that names what helps, where nothing installed decodes a syntax."""
    if not syntax or not syntax.is_transfer_syntax or not syntax.is_encapsulated:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ValueError(
            "pydicom decodes it with no package; convert the file to Explicit VR Little Endian"
        ) from error
    if decoder.is_available:
        return
    missing = missing_packages("preview")
    what = (
        f"needs a decoder that is not installed ({', '.join(missing)}): {how_to_install('preview')}"
        if missing
        else f"needs one of: {'; '.join(decoder.missing_dependencies)}"
    )
    raise NoDecoder(f"{file}: encoded as {syntax_name(syntax)}, which {what}")


def _syntax_as_read(header: Dataset) -> UID:
    """Return the syntax that pydicom found a data set in that declares none."""
    is_implicit, is_little_endian = header.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _whole_frames(source: BinaryIO, header: Dataset, syntax: UID, indices: list[int]) -> list[int]:
    """Return the frames that lie within the pixel data; of what follows it none is a pixel.

    Raises
    ------
    ValueError
        Pixels are encapsulated although the syntax is a native one.
    """
    if syntax.is_encapsulated:
        return indices
    order = "little" if syntax.is_little_endian else "big"
    # `dcmread` has stopped at the element: tag, VR and two bytes where explicit, length.
    element = source.read(8 if syntax.is_implicit_VR else 12)
    length = int.from_bytes(element[-4:], order)  # type: ignore[arg-type]
    if length == _UNDEFINED:
        raise ValueError("the pixels are encapsulated, and no transfer syntax says how")
    bits = header.Rows * header.Columns * header.get("SamplesPerPixel", 1) * header.BitsAllocated
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        bits = bits * 2 // 3
    return [index for index in indices if (index + 1) * bits <= 8 * length]


def _any_decoder(source: BinaryIO, syntax: UID, indices: list[int]) -> Generator[Pixels]:
    """Decode with pydicom's choice, and what that fails on with each other decoder."""
    plugins = get_decoder(syntax).available_plugins if syntax.is_encapsulated else ()
    done = 0
    for plugin in ("", *plugins[1:]):
        if done == len(indices):
            return
        source.seek(0)
        try:
            for pixels in iter_pixels(
                source,
                indices=indices[done:],
                decoding_plugin=plugin,
                transfer_syntax_uid=syntax,
            ):
                yield pixels
                done += 1
        except Exception:  # decoders raise anything; the last one's reason is told
            if plugin == (plugins[-1] if len(plugins) > 1 else ""):
                raise


def _as_shown(stored: Pixels, header: Dataset, syntax: UID) -> Pixels:
    """Return stored values without what is in their unused bits, palette colour as RGB."""
    if stored.ndim == 2 and (not syntax or not syntax.is_encapsulated or syntax == RLELossless):
        stored = stored_bits(stored, header)
    if header.get("PhotometricInterpretation") != "PALETTE COLOR":
        return stored
    coloured: Pixels = apply_color_lut(stored, header)[..., :3]
    return (coloured >> 8).astype(np.uint8) if coloured.dtype.itemsize > 1 else coloured


def stored_bits(stored: Pixels, header: Dataset | Row) -> Pixels:
    """Return the bits that are the value (PS3.5 8.1.1): overlays may lie in the others."""
    allocated, bits = header.get("BitsAllocated"), header.get("BitsStored")
    if stored.dtype.kind not in "iu" or not bits or not allocated or bits >= allocated:
        return stored
    high = header.get("HighBit")
    if high is None or not bits - 1 <= high < allocated:
        high = bits - 1
    # Up until the highest bit is the type's, then down: unsigned fills with 0, signed with it.
    up = max(8 * stored.dtype.itemsize - 1 - high, 0)
    shown: Pixels = (stored << up) >> (8 * stored.dtype.itemsize - bits)
    return shown


def syntax_name(syntax: str | None) -> str:
    """Return how a transfer syntax is told to the user: its name and its UID."""
    return f"{UID(syntax).name}, {syntax}" if syntax else "without a transfer syntax"


def _in_output_units(stored: Pixels, row: Row) -> Pixels:
    if stored.ndim == 3:
        deep = stored.dtype.itemsize > 1
        return (stored >> max((row["BitsStored"] or 16) - 8, 0) if deep else stored).astype(
            np.uint8
        )
    slope, intercept = row["RescaleSlope"], row["RescaleIntercept"]
    values = stored.astype(np.float32)
    if slope:
        values *= np.float32(slope)
    if intercept:
        values += np.float32(intercept)
    return values
