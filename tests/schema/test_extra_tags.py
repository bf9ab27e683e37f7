"""Attributes that a user asks for: which, of which dtype, and which are refused."""

import polars as pl
import pytest

from aneurysm_assets.errors import InputError
from aneurysm_assets.schema.columns import extra_columns
from aneurysm_assets.schema.extra_tags import extra_tags
from aneurysm_assets.schema.tables import LABELS, LOCALIZERS, SEGMENTATION_META, UNIFIED_METADATA


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("KVP", ("KVP",)),
        ("RepetitionTime, KVP,KVP", ("KVP", "RepetitionTime")),
        (" KVP  FlipAngle ,", ("FlipAngle", "KVP")),
    ],
)
def test_keywords_are_sorted_each_once_so_that_their_order_changes_nothing(text, names):
    assert extra_tags({"ANEURYSM_TAGS": text}) == names


@pytest.mark.parametrize("text", ["kvp", "0018,0060", "K V-P", "../x"])
def test_what_is_no_keyword_is_refused(text):
    with pytest.raises(InputError, match=r"ANEURYSM_TAGS: .* is no DICOM keyword"):
        extra_tags({"ANEURYSM_TAGS": text})


def test_nothing_is_asked_for_unless_it_is_named():
    assert extra_tags({}) == ()


@pytest.mark.parametrize(
    ("keyword", "dtype", "source"),
    [
        ("KVP", pl.Float64(), "(0018,0060)"),
        ("DistanceSourceToDetector", pl.Float64(), "(0018,1110)"),
        ("Exposure", pl.Int32(), "(0018,1152)"),
        ("ConvolutionKernel", pl.String(), "(0018,1210)"),
        ("SeriesDescription", pl.String(), "(0008,103E)"),
        ("StudyDate", pl.String(), "(0008,0020)"),
    ],
)
def test_a_column_is_typed_by_its_vr_and_says_what_it_is(keyword, dtype, source):
    (column,) = extra_columns([keyword])
    assert (column.name, column.dtype, column.source) == (keyword, dtype, source)
    assert column.description.endswith(".")
    assert column.since == f"tag {keyword}"


@pytest.mark.parametrize(
    ("keyword", "reason"),
    [
        ("NoSuchThing", "is no keyword of DICOM's dictionary"),
        ("PixelData", "cannot be a column: values of OB or OW"),
        ("PatientName", "cannot be a column: values of PN"),
        ("EchoNumbers", "cannot be a column: values of IS with multiplicity 1-n"),
        ("MediaStorageSOPClassUID", "cannot be a column"),
        *((name, "is the name of a column already") for name in ("Rows", "EchoTime", "PatientAge")),
        *((name, "is the name of a column already") for name in ("NumberOfFrames", "ImageType")),
        ("SeriesInstanceUID", "is the name of a column already"),
    ],
)
def test_what_fits_no_column_is_refused_by_name(keyword, reason):
    with pytest.raises(InputError, match=f"ANEURYSM_TAGS: {keyword} {reason}"):
        extra_columns([keyword])


def test_no_keyword_can_be_that_of_another_tables_column():
    """Else the join would give both a suffix, and take the names that users know away."""
    for table in (LABELS, LOCALIZERS, SEGMENTATION_META, UNIFIED_METADATA):
        for name in table.column_names:
            if name.isidentifier() and name[0].isupper():
                with pytest.raises(InputError):
                    extra_columns([name])
