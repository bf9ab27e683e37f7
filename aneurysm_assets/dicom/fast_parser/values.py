"""Decodes the bytes of one value (PS3.5 section 6.2) to what its column holds.

Each rule accepts only what pydicom is sure to read alike. Anything else raises
`FallBackToPydicom`: pydicom decides what the value is, or why it is malformed.
"""

from collections.abc import Callable, Sequence
from math import isfinite
from struct import Struct

import polars as pl

from aneurysm_assets.dicom.attributes import ATTRIBUTES, Attribute, Value

MAX_LENGTH = 4096
"""Bytes of the longest value that is decoded; no attribute but a sequence comes near."""

_REMEMBERED = 4096
"""Values remembered per attribute: a series has fewer, or nearly all of them differ."""

ASCII, LATIN_1, UTF_8 = "ascii", "latin-1", "utf-8"

_DOUBLE = Struct("<d").unpack

Decode = Callable[[bytes, str], Value]
"""Returns a value from its bytes and the encoding of text, None where it is empty."""


class FallBackToPydicom(Exception):  # noqa: N818 - no error: the other reader is asked
    """The bytes hold something that only pydicom can judge."""


def encoding_of(specific_character_set: bytes) -> str:
    """Return how text is encoded, by the bytes of (0008,0005) (PS3.3 C.12.1.1.2).

    Returns
    -------
    str
        `ascii` for sets, and combinations of sets, of which only the part that all sets have in
        common is read here.

    Raises
    ------
    FallBackToPydicom
        A character set is not one of the standard.
    """
    terms = specific_character_set.rstrip(b" \0").split(b"\\")
    if not _CHARACTER_SETS.issuperset(terms):
        raise FallBackToPydicom(f"character set {specific_character_set!r}")
    return _ENCODINGS.get(terms[0], ASCII) if len(terms) == 1 else ASCII


# pydicom reads the default repertoire, ISO_IR 6, as Latin-1 too.
_ENCODINGS = {b"": LATIN_1, b"ISO_IR 6": LATIN_1, b"ISO_IR 100": LATIN_1, b"ISO_IR 192": UTF_8}

_CHARACTER_SETS = frozenset(_ENCODINGS) | {
    *(f"ISO_IR {n}".encode() for n in (13, 101, 109, 110, 126, 127, 138, 144, 148, 166)),
    *(f"ISO 2022 IR {n}".encode() for n in (6, 13, 58, 87, 100, 101, 109, 110, 126, 127, 138)),
    *(f"ISO 2022 IR {n}".encode() for n in (144, 148, 149, 159, 166)),
    b"GB18030",
    b"GBK",
}
"""The defined terms. Without an escape sequence, ASCII is the same in all of them."""


def decoder_of(attribute: Attribute) -> Decode:
    """Return the function that decodes an attribute's value.

    Raises
    ------
    ValueError
        There is no rule for this value representation and dtype.
    """
    dtype = attribute.dtype
    if isinstance(dtype, pl.String) and attribute.vr in _TEXTS:
        return _TEXTS[attribute.vr]
    if attribute.vr == "DS" and isinstance(dtype, pl.Array):
        return _decimals(dtype.size)
    if attribute.vr == "DS" and isinstance(dtype, pl.Float64):
        return _first_decimal if attribute.first else _decimal
    if attribute.vr == "FD" and isinstance(dtype, pl.Float64):
        return _double
    if isinstance(dtype, pl.Int32) and attribute.vr in _INTEGERS:
        return _INTEGERS[attribute.vr]
    raise ValueError(f"no rule for {attribute.name}: {attribute.vr} as {dtype}")


def _code(raw: bytes, _: str) -> str | None:
    """AS, CS, DA, DT, TM: the default repertoire; several values stay joined by the backslash."""
    return raw.rstrip(b" \0").decode(LATIN_1) or None


def _text(raw: bytes, encoding: str) -> str | None:
    """LO and SH: text in the specific character set; trailing spaces of a value mean nothing."""
    if b"\x1b" in raw:
        raise FallBackToPydicom("an escape sequence (PS3.5 6.1.2.5)")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        raise FallBackToPydicom("text outside its character set") from None
    if "\\" in text:
        return "\\".join(part.rstrip("\0 ") for part in text.split("\\"))
    return text.rstrip("\0 ") or None


def _uid(raw: bytes, _: str) -> str | None:
    """UI (PS3.5 9.1), padded with one NUL; some files pad with spaces."""
    raw = raw.rstrip(b"\0 ")
    if raw.translate(None, b"0123456789."):
        raise FallBackToPydicom("no single UID")
    return raw.decode(ASCII) or None


def _numbers(raw: bytes) -> tuple[float, ...]:
    """DS: decimal numbers with spaces before and after, joined by the backslash; () where empty."""
    raw = raw.rstrip(b" \0")
    if not raw:
        return ()
    if raw.translate(None, b"0123456789.+-Ee\\ "):
        raise FallBackToPydicom("a decimal string outside its repertoire")
    try:
        numbers = tuple(map(float, raw.split(b"\\")))
    except ValueError:
        raise FallBackToPydicom("no decimal number") from None
    if not all(map(isfinite, numbers)):
        raise FallBackToPydicom("a number too large for a float")
    return numbers


def _decimals(count: int) -> Decode:
    def decode(raw: bytes, _: str) -> Value:
        numbers = _numbers(raw)
        if numbers and len(numbers) != count:
            raise FallBackToPydicom(f"{len(numbers)} numbers instead of {count}")
        return numbers or None

    return decode


def _decimal(raw: bytes, _: str) -> float | None:
    numbers = _numbers(raw)
    if len(numbers) > 1:
        raise FallBackToPydicom("several numbers instead of one")
    return numbers[0] if numbers else None


def _first_decimal(raw: bytes, _: str) -> float | None:
    numbers = _numbers(raw)
    return numbers[0] if numbers else None


def _double(raw: bytes, _: str) -> float | None:
    """FD: a floating point number of 64 bits, little endian."""
    if not raw:
        return None
    if len(raw) != 8:
        raise FallBackToPydicom("no single 64 bit number")
    (number,) = _DOUBLE(raw)
    if not isfinite(number):
        raise FallBackToPydicom("no finite number")
    return float(number)


def _integer_string(raw: bytes, _: str) -> int | None:
    """IS: a whole number of 32 bits as text."""
    raw = raw.rstrip(b" \0")
    if not raw:
        return None
    if len(raw) > 16 or raw.translate(None, b"0123456789+- "):
        raise FallBackToPydicom("an integer string outside its repertoire")
    try:
        number = int(raw)
    except ValueError:
        raise FallBackToPydicom("no whole number") from None
    if not -(2**31) <= number < 2**31:
        raise FallBackToPydicom("more than 32 bits")
    return number


def _unsigned_long(raw: bytes, _: str) -> int | None:
    """UL: 32 bits, little endian, of which a column holds 31."""
    if not raw:
        return None
    number = int.from_bytes(raw, "little")
    if len(raw) != 4 or number >= 2**31:
        raise FallBackToPydicom("no single number of 31 bits")
    return number


def _unsigned_short(raw: bytes, _: str) -> int | None:
    """US: 16 bits, little endian."""
    if len(raw) == 2:
        return raw[0] | raw[1] << 8
    if raw:
        raise FallBackToPydicom("no single 16 bit number")
    return None


_TEXTS: dict[str, Decode] = {
    **dict.fromkeys(("AS", "CS", "DA", "DT", "TM"), _code),
    **dict.fromkeys(("LO", "SH"), _text),
    "UI": _uid,
}
_INTEGERS: dict[str, Decode] = {
    "IS": _integer_string,
    "UL": _unsigned_long,
    "US": _unsigned_short,
}


class Decoder:
    """Decodes the values of the files of a series, each different value once.

    Parameters
    ----------
    attributes : sequence of Attribute
        What is at each slot: `ATTRIBUTES`, or `IN_GROUPS`.
    """

    def __init__(self, attributes: Sequence[Attribute] = ATTRIBUTES) -> None:
        self._attributes = attributes
        self._decoders = tuple(map(decoder_of, attributes))
        self._seen: tuple[dict[bytes, Value], ...] = tuple({} for _ in attributes)

    def decode(self, slot: int, raw: bytes, encoding: str) -> Value:
        """Return the value of the attribute at a slot, None where it is empty.

        Raises
        ------
        FallBackToPydicom
            The bytes are not what the attribute's VR, dtype and rule allow.
        """
        seen = self._seen[slot]
        if raw in seen:
            return seen[raw]
        value = self._decoders[slot](raw, encoding)
        if not self._attributes[slot].allows(value):
            raise FallBackToPydicom(f"{self._attributes[slot].name} is {value}, which cannot be")
        # Beyond ASCII the same bytes are different text in different character sets.
        if raw.isascii():
            if len(seen) >= _REMEMBERED:
                seen.clear()
            seen[raw] = value
        return value
