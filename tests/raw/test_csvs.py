import csv
import hashlib
import io
import json
import math
import os
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aneurysm_assets.errors import InputError, SeriesError
from aneurysm_assets.raw.csv_rows import RefusedRow
from aneurysm_assets.raw.localizers_csv import LocalizersCsv
from aneurysm_assets.raw.train_csv import TrainCsv
from aneurysm_assets.schema.columns import LOCATIONS
from aneurysm_assets.schema.tables import LABELS, LOCALIZERS
from aneurysm_assets.storage.fingerprint import fingerprint_of_rows

TRAIN_HEADER = [name for name in LABELS.column_names if name != "train_csv_extra"]
LOCALIZER_HEADER = ["SeriesInstanceUID", "SOPInstanceUID", "coordinates", "location"]
SERIES = "1.2.826.0.1"
OTHER = "1.2.826.0.2"
SOP = "1.2.826.0.1.7"
POINT = "{'x': 258.3621186176837, 'y': 261.359900373599}"

# A function-scoped tmp_path is right here: each example overwrites the one file it reads.
same_directory = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, derandomize=True
)


def train_row(uid: str = SERIES, **changes: str) -> list[str]:
    values = dict.fromkeys(TRAIN_HEADER, "0")
    values |= {"SeriesInstanceUID": uid, "PatientAge": "57"}
    values |= {"PatientSex": "Female", "Modality": "MRI T2"}
    values |= {name.replace("_", " "): text for name, text in changes.items()}
    return list(values.values())


def localizer_row(
    coordinates: str = POINT, uid: str = SERIES, sop: str = SOP, location: str = "Basilar Tip"
) -> list[str]:
    return [uid, sop, coordinates, location]


def as_csv(*rows: list[str], **dialect: str) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, **dialect).writerows(rows)
    return stream.getvalue()


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., TrainCsv]:
    def read(*rows: list[str]) -> TrainCsv:
        path = tmp_path / "train.csv"
        path.write_text(as_csv(TRAIN_HEADER, *rows), newline="")
        return TrainCsv.read(path)

    return read


@pytest.fixture
def localizers(tmp_path: Path) -> Callable[..., LocalizersCsv]:
    def read(*rows: list[str]) -> LocalizersCsv:
        path = tmp_path / "train_localizers.csv"
        path.write_text(as_csv(LOCALIZER_HEADER, *rows), newline="", encoding="utf-8")
        return LocalizersCsv.read(path)

    return read


# --- the file as a whole ------------------------------------------------------------------------


def test_a_missing_file_is_left_to_the_caller(tmp_path):
    for read in (TrainCsv.read, LocalizersCsv.read):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "train.csv")


@pytest.mark.parametrize("kind", ["fifo", "device", "sparse"])
def test_a_file_that_would_be_read_for_ever_is_refused_at_once(tmp_path, kind) -> None:
    path = tmp_path / "train.csv"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    said = "has 1,099,511,627,776 bytes" if kind == "sparse" else "is no regular file"
    with pytest.raises(InputError, match=re.escape(f"{path}: {said}")):
        TrainCsv.read(path)


def test_a_directory_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}.*directory"):
        TrainCsv.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n \r\n\n", "empty"),
        (b"\xef\xbb\xbf", "columns missing"),
        (b"PK\x03\x04\x14\x00\x00\x00", "zero byte"),
        (b"PAR1\n\x15\x04\x15\xff\xfe", "0xff in row 2"),
        ("SeriesInstanceUID,Alter,Geschlechtä\n".encode("latin-1"), "UTF-8"),
        ("SeriesInstanceUID\n".encode("utf-16"), "UTF-8"),
        (b"\n<!DOCTYPE html>\n<html><title>Sign in</title>", "HTML"),
        (b"just a sentence\n", "found: just a sentence"),
        (b'SeriesInstanceUID,"never closed\n1,2\n', "row 1"),
    ],
)
@pytest.mark.parametrize("read", [TrainCsv.read, LocalizersCsv.read])
def test_what_is_no_csv_is_an_input_error_that_names_file_and_finding(
    tmp_path, content, says, read
):
    path = tmp_path / "some.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_all_missing_columns_are_named_and_so_is_what_was_found(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("SeriesInstanceUID,PatientAge,Basilar Tip\n")
    with pytest.raises(InputError) as caught:
        TrainCsv.read(path)
    missing, found = str(caught.value).split("; found: ")
    named = missing.split("columns missing: ")[1].split(", ")
    assert named == [
        name
        for name in TRAIN_HEADER
        if name not in ("SeriesInstanceUID", "PatientAge", "Basilar Tip")
    ]
    assert found == "SeriesInstanceUID, PatientAge, Basilar Tip"


def test_a_semicolon_file_shows_its_header_as_what_was_found(tmp_path):
    path = tmp_path / "train_localizers.csv"
    path.write_text(";".join(LOCALIZER_HEADER) + "\n")
    with pytest.raises(InputError, match="found: SeriesInstanceUID;SOPInstanceUID"):
        LocalizersCsv.read(path)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "train_localizers.csv"
    path.write_text(as_csv([*LOCALIZER_HEADER, "location"]))
    with pytest.raises(InputError, match="more than once: location"):
        LocalizersCsv.read(path)


def test_a_header_alone_is_a_file_without_series(train, localizers):
    assert train().series == ()
    assert localizers().series == ()


def test_the_digest_is_that_of_the_files_bytes(train, tmp_path):
    table = train(train_row())
    assert table.sha256 == hashlib.sha256((tmp_path / "train.csv").read_bytes()).hexdigest()


def test_the_rows_of_one_series_alone_say_of_it_what_the_whole_file_says(train, localizers):
    whole = train(train_row(), train_row(OTHER))
    points = localizers(localizer_row(), localizer_row(), localizer_row(uid=OTHER))
    for uid in (SERIES, OTHER, "1.2.3"):
        alone, point = whole.only(uid), points.only(uid)
        assert set(alone.series) | set(point.series) <= {uid}
        assert alone.labels(uid).equals(whole.labels(uid))
        assert point.localizers(uid).equals(points.localizers(uid))
        assert alone.fingerprint(uid) == whole.fingerprint(uid)
        assert point.fingerprint(uid) == points.fingerprint(uid)
        assert alone.sha256 == whole.sha256


def test_columns_are_found_by_name_in_any_order_and_others_are_kept_as_json(tmp_path):
    path = tmp_path / "train_localizers.csv"
    header = ["fold", "location", "coordinates", "SOPInstanceUID", "SeriesInstanceUID"]
    path.write_text(as_csv(header, ["3", "Basilar Tip", POINT, SOP, SERIES]))
    assert LocalizersCsv.read(path).localizers(SERIES).row(0) == (
        SERIES,
        SOP,
        258.3621186176837,
        261.359900373599,
        None,
        "Basilar Tip",
        '{"fold": "3"}',
    )


@pytest.mark.parametrize(
    "disguise",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\r\n", "\n"),
        lambda text: text.replace("\r\n", "\r"),
        lambda text: text.rstrip("\r\n"),
        lambda text: "\r\n" + text.replace("\r\n", "\r\n\r\n  \r\n"),
        lambda text: text + "," * (len(TRAIN_HEADER) - 1) + "\r\n",
        lambda text: text.replace(",", " , "),
        lambda text: "\r\n".join(
            ",".join(f' "{field}" ' for field in line.split(",")) for line in text.splitlines()
        ),
    ],
    ids=[
        "byte-order-mark",
        "LF",
        "CR",
        "no-last-newline",
        "blank-lines",
        "empty-row",
        "spaces",
        "quoted-spaces",
    ],
)
def test_a_file_in_other_clothes_is_the_same_file(tmp_path, disguise):
    path = tmp_path / "train.csv"
    text = as_csv(TRAIN_HEADER, train_row(), train_row(OTHER, Basilar_Tip="1"))
    path.write_text(disguise(text), encoding="utf-8", newline="")
    table = TrainCsv.read(path)
    assert table.series == (SERIES, OTHER)
    assert table.refused == ()
    assert table.labels(OTHER).row(0, named=True) == dict.fromkeys(TRAIN_HEADER, 0) | {
        "SeriesInstanceUID": OTHER,
        "PatientAge": 57,
        "PatientSex": "Female",
        "Modality": "MRI T2",
        "Basilar Tip": 1,
        "train_csv_extra": None,
    }


def test_spaces_behind_a_quoted_field_are_read_and_those_within_are_kept(tmp_path):
    path = tmp_path / "train_localizers.csv"
    path.write_text(f'{",".join(LOCALIZER_HEADER)}\n{SERIES},{SOP}, "{POINT}"  ,"a ""b"" ,c" \n')
    assert LocalizersCsv.read(path).localizers(SERIES)["location"].to_list() == ['a "b" ,c']


text_without_edges = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('",\n\r\t \'"'), max_size=20
).map(str.strip)


@same_directory
@given(
    location=text_without_edges,
    # csv.writer quotes a lone CR only where the line end has one, so minimal quoting needs CRLF.
    dialect=st.sampled_from(
        [(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_ALL, "\n")]
    ),
)
@example(location="one\r\ntwo\rthree\nfour", dialect=(csv.QUOTE_MINIMAL, "\r\n"))
@example(location='"" , "', dialect=(csv.QUOTE_MINIMAL, "\r\n"))
def test_any_field_that_a_csv_can_quote_is_read_back(tmp_path, location, dialect):
    path = tmp_path / "train_localizers.csv"
    text = as_csv(
        LOCALIZER_HEADER,
        localizer_row(location=location),
        localizer_row(uid="no uid"),
        quoting=dialect[0],
        lineterminator=dialect[1],
    )
    path.write_text(text, encoding="utf-8", newline="")
    table = LocalizersCsv.read(path)
    assert table.localizers(SERIES)["location"].to_list() == [location or None]
    assert [refused.row for refused in table.refused] == [
        len(io.StringIO(text, newline="").readlines())
    ]


# --- rows that name no series -------------------------------------------------------------------


@pytest.mark.parametrize(
    "uid",
    ["", "../../etc/passwd", "1.2.3/..", "1.2.3a", "1..2", "1" * 65, "\uff11.2", ".", "-1"],
)
def test_a_row_without_a_dicom_uid_is_refused_and_the_others_go_on(train, uid):
    table = train(train_row(), train_row(uid), train_row(OTHER))
    assert table.series == (SERIES, OTHER)
    assert [(refused.row, refused.text) for refused in table.refused] == [(3, uid)]
    assert "DICOM UID" in table.refused[0].reason


def test_the_number_of_a_row_is_its_first_line_in_an_editor(localizers):
    table = localizers(
        localizer_row(location="two\nlines"),
        [],
        localizer_row(uid="bad", location="three\r\nmore\r\nlines"),
        localizer_row(uid="worse"),
        localizer_row("nonsense"),
    )
    assert [refused.row for refused in table.refused] == [5, 8]
    with pytest.raises(SeriesError, match="row 9"):
        table.localizers(SERIES)


def test_control_characters_and_endless_text_come_out_short_and_printable(train, localizers):
    (refused,) = train(train_row("\x1b[2J\u202e" + "x" * 5_000)).refused
    assert refused == RefusedRow(2, refused.text, refused.reason)
    assert refused.text.startswith(r"\x1b[2J\u202exxx")
    assert refused.text.isprintable()
    assert len(refused.text) == 80
    with pytest.raises(SeriesError) as caught:
        localizers(localizer_row("\x07" * 50_000)).localizers(SERIES)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("change", [lambda row: row[:-1], lambda row: [*row, "1"]])
def test_a_row_of_the_wrong_length_fails_its_series_alone(train, localizers, change):
    labels = train(change(train_row()), train_row(OTHER))
    points = localizers(localizer_row(), change(localizer_row()), localizer_row(uid=OTHER))
    assert labels.series == points.series == (SERIES, OTHER)
    with pytest.raises(SeriesError, match=r"train\.csv row 2: has 1[79] fields .* header has 18"):
        labels.labels(SERIES)
    with pytest.raises(SeriesError, match=r"localizers\.csv row 3: has [35] fields"):
        points.localizers(SERIES)
    assert labels.labels(OTHER).height == points.localizers(OTHER).height == 1


def test_a_row_of_the_wrong_length_without_a_uid_is_refused(train):
    table = train(["so what"], train_row())
    assert [(refused.row, refused.text) for refused in table.refused] == [(2, "so what")]
    assert table.series == (SERIES,)


def test_a_row_too_short_to_hold_a_uid_is_refused(tmp_path):
    path = tmp_path / "train_localizers.csv"
    path.write_text(as_csv(LOCALIZER_HEADER[::-1], localizer_row()[::-1], ["Basilar Tip", POINT]))
    table = LocalizersCsv.read(path)
    assert table.series == (SERIES,)
    assert [(refused.row, refused.text) for refused in table.refused] == [(3, "")]


def test_coordinates_that_were_not_quoted_fail_their_series_and_give_no_half_point(tmp_path):
    path = tmp_path / "train_localizers.csv"
    path.write_text(f"{','.join(LOCALIZER_HEADER)}\n{SERIES},{SOP},{POINT},Basilar Tip\n")
    with pytest.raises(SeriesError, match="row 2: has 5 fields"):
        LocalizersCsv.read(path).localizers(SERIES)


def test_a_file_of_quotes_is_told_from_a_csv_without_endless_work(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('"' * 100_001 + "x")
    start = time.process_time()
    with pytest.raises(InputError):
        TrainCsv.read(path)
    assert time.process_time() - start < 2


def test_a_stray_quote_is_an_error_of_the_file_with_the_row_where_it_begins(tmp_path):
    path = tmp_path / "train_localizers.csv"
    text = as_csv(LOCALIZER_HEADER, localizer_row(), localizer_row(), localizer_row())
    lines = text.splitlines(keepends=True)
    lines[2] = lines[2].replace('}"', "}")
    path.write_text("".join(lines))
    with pytest.raises(InputError, match="row 3"):
        LocalizersCsv.read(path)


# --- labels -------------------------------------------------------------------------------------


def test_labels_have_the_schema_and_the_values_of_the_row(train):
    labels = train(train_row(PatientAge="57", Basilar_Tip="1", Aneurysm_Present="1")).labels(SERIES)
    assert labels.schema == LABELS.schema
    assert labels.rows(named=True) == [
        dict.fromkeys(LOCATIONS, 0)
        | {
            "SeriesInstanceUID": SERIES,
            "PatientAge": 57,
            "PatientSex": "Female",
            "Modality": "MRI T2",
            "Basilar Tip": 1,
            "Aneurysm Present": 1,
            "train_csv_extra": None,
        }
    ]


def test_a_series_without_a_row_has_nulls_but_its_name(train):
    labels = train(train_row()).labels(OTHER)
    assert labels.schema == LABELS.schema
    assert labels.row(0) == (OTHER, *[None] * 18)


def test_each_empty_field_is_null_and_the_schema_stays(train):
    row = [SERIES, *[""] * 17]
    labels = train(row).labels(SERIES)
    assert labels.schema == LABELS.schema
    assert labels.row(0) == (SERIES, *[None] * 18)


@pytest.mark.parametrize(("text", "age"), [("0", 0), ("57.0", 57), ("089", 89), ("150.00", 150)])
def test_an_age_is_any_whole_number_of_years(train, text, age):
    assert train(train_row(PatientAge=text)).labels(SERIES)["PatientAge"].item() == age


@pytest.mark.parametrize(
    "text", ["57.5", "-3", "300", "151", "nan", "inf", "1e1", "5_7", "057Y", "\u0665", "9" * 5_000]
)
def test_an_age_that_is_none_fails_its_series_with_row_column_and_text(train, text):
    table = train(train_row(OTHER), train_row(PatientAge=text))
    with pytest.raises(SeriesError) as caught:
        table.labels(SERIES)
    assert str(caught.value).startswith(f"train.csv row 3: PatientAge '{text[:79]}")
    assert len(str(caught.value)) < 200
    assert table.labels(OTHER)["PatientAge"].item() == 57


@pytest.mark.parametrize("column", [*LOCATIONS, "Aneurysm Present"])
def test_every_label_is_0_or_1_and_nothing_else(train, column):
    for text, value in {"0": 0, "1": 1, "0.0": 0, "1.0": 1}.items():
        assert train(train_row(**{column: text})).labels(SERIES)[column].item() == value
    for text in ("2", "-1", "0.5", "True", "yes", "NaN", "1.0e0"):
        with pytest.raises(SeriesError, match=f"row 2: {column} '{text}' is neither 0 nor 1"):
            train(train_row(**{column: text})).labels(SERIES)


def test_sex_and_modality_are_kept_as_they_stand(train):
    labels = train(train_row(PatientSex="O", Modality="PET, 3 Tesla")).labels(SERIES)
    assert labels["PatientSex"].item() == "O"
    assert labels["Modality"].item() == "PET, 3 Tesla"


def test_rows_that_say_the_same_count_once(train):
    table = train(train_row(), train_row(OTHER), train_row(PatientAge="57.0", Basilar_Tip="0.0"))
    assert table.series == (SERIES, OTHER)
    assert table.labels(SERIES).height == 1


def test_rows_that_conflict_fail_their_series_with_rows_and_columns(train):
    table = train(
        train_row(),
        train_row(PatientAge="58"),
        train_row(OTHER),
        train_row(Basilar_Tip="1"),
    )
    with pytest.raises(SeriesError) as caught:
        table.labels(SERIES)
    assert str(caught.value) == (
        "train.csv rows 2, 3 and 5 are of the same series and contradict one another in "
        "PatientAge, Basilar Tip"
    )
    assert table.labels(OTHER).height == 1


def test_a_value_and_a_gap_conflict_too(train):
    with pytest.raises(SeriesError, match=r"rows 2 and 3 .* in PatientSex"):
        train(train_row(), train_row(PatientSex="")).labels(SERIES)


def test_the_tables_can_be_sent_to_worker_processes(train, localizers):
    for table in (train(train_row()), localizers(localizer_row())):
        assert pickle.loads(pickle.dumps(table)) == table


# --- localizers ---------------------------------------------------------------------------------


def test_localizers_come_in_file_order_with_duplicates_kept(localizers):
    table = localizers(
        localizer_row("{'x': 2, 'y': 256, 'f': 57}"),
        localizer_row("{'x': 2, 'y': 256, 'f': 57}"),
        localizer_row(uid=OTHER),
        localizer_row("{'x': 1.5, 'y': -0.5}", location=""),
    )
    assert table.series == (SERIES, OTHER)
    frame = table.localizers(SERIES)
    assert frame.schema == LOCALIZERS.schema
    assert frame.rows() == [
        (SERIES, SOP, 2.0, 256.0, 57, "Basilar Tip", None),
        (SERIES, SOP, 2.0, 256.0, 57, "Basilar Tip", None),
        (SERIES, SOP, 1.5, -0.5, None, None, None),
    ]


def test_a_series_without_points_has_an_empty_table_with_the_schema(localizers):
    frame = localizers(localizer_row()).localizers(OTHER)
    assert frame.schema == LOCALIZERS.schema
    assert frame.is_empty()


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("{'x': 1, 'y': 2}", None),
        ("{'x': 1, 'y': 2, 'f': None}", None),
        ("{'x': 1, 'y': 2, 'f': 0}", 0),
        ("{'x': 1, 'y': 2, 'f': 57.0}", 57),
        ("{'x': 1, 'y': 2, 'f': 2147483647}", 2**31 - 1),
        ('{"y": 2,\n "f": 3, "x": 1,}', 3),
    ],
)
def test_a_frame_that_is_not_given_is_null_and_never_0(localizers, text, frame):
    table = localizers(localizer_row(text)).localizers(SERIES)
    assert table.schema == LOCALIZERS.schema
    assert table.row(0)[2:5] == (1.0, 2.0, frame)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{'x': 1, 'y': 2",
        "{'x': 1}",
        "{'y': 1, 'f': 2}",
        "{}",
        "{'x', 'y'}",
        "('x', 'y')",
        "[1, 2]",
        "12",
        "'{}'",
        "{'x': 1, 'y': 2, 'z': 3}",
        "{'x': 1, 'y': 2, 3: 4}",
        "{'X': 1, 'Y': 2}",
        "{'x': 1, 'x': 7, 'y': 2}",
        "{'x': 1, 'y': 2, 'f': 1, 'f': 2}",
        "{'x': '1', 'y': 2}",
        "{'x': True, 'y': 2}",
        "{'x': None, 'y': 2}",
        "{'x': 1j, 'y': 2}",
        "{'x': [1], 'y': 2}",
        "{'x': nan, 'y': 2}",
        "{'x': 1, 'y': inf}",
        "{'x': 1e999, 'y': 2}",
        "{'x': 1, 'y': -1e999}",
        "{'x': 1" + "0" * 400 + ", 'y': 2}",
        "{'x': 1e999 - 1e999, 'y': 2}",
        "{'x': 1, 'y': 2, 'f': -1}",
        "{'x': 1, 'y': 2, 'f': 5.5}",
        "{'x': 1, 'y': 2, 'f': 2147483648}",
        "{'x': 1, 'y': 2, 'f': True}",
        "{'x': 1, 'y': 2, 'f': 1e999}",
        "{'x': 1, 'y': 2, 'f': '3'}",
        "{'x': 1, 'y': 2, **{'f': 3}}",
        "{[]: 1, 'x': 1, 'y': 2}",
        "{'x': 1 + 1, 'y': 2}",
        "{'x': np.float64(1.0), 'y': 2}",
        "__import__('os').abort()",
        "{'x': open('/etc/passwd'), 'y': 2}",
        "{'x': 1, 'y': 2}\n; 3",
        "(" * 999,
        "-" * 999 + "1",
        "{'x':" * 190 + "1",
        "{'x': 1, 'y': 2" + " " * 1_000 + "}",
    ],
)
def test_a_bad_coordinate_literal_fails_its_series_with_row_and_text(localizers, text):
    table = localizers(localizer_row(uid=OTHER), localizer_row(), localizer_row(text))
    with pytest.raises(SeriesError) as caught:
        table.localizers(SERIES)
    message = str(caught.value)
    assert message.startswith("train_localizers.csv row 4: coordinates ")
    assert repr(text[:30])[1:-2] in message
    assert len(message) < 400
    assert table.localizers(OTHER).height == 1


@pytest.mark.parametrize("exhausted", [MemoryError, RecursionError])
def test_a_literal_that_exhausts_the_parser_is_a_series_error(localizers, monkeypatch, exhausted):
    def evaluate(_: object) -> None:
        raise exhausted

    table = localizers(localizer_row())
    monkeypatch.setattr("ast.literal_eval", evaluate)
    with pytest.raises(SeriesError, match="row 2: coordinates"):
        table.localizers(SERIES)


@pytest.mark.parametrize("sop", ["", "../1", "1.2.x", "1" * 65])
def test_a_point_whose_file_is_no_dicom_uid_fails_its_series(localizers, sop):
    table = localizers(localizer_row(sop=sop), localizer_row(uid=OTHER))
    with pytest.raises(SeriesError, match=r"row 2: SOPInstanceUID '.*' is no DICOM UID"):
        table.localizers(SERIES)
    assert table.localizers(OTHER).height == 1


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)


@same_directory
@given(x=numbers, y=numbers, f=st.none() | st.integers(0, 2**31 - 1), order=st.randoms())
def test_any_point_that_python_writes_is_read_back_equal(localizers, x, y, f, order):
    items = [("x", x), ("y", y)] + ([] if f is None else [("f", f)])
    order.shuffle(items)
    frame = localizers(localizer_row(repr(dict(items)))).localizers(SERIES)
    assert frame.row(0)[2:5] == (x, y, f)
    assert frame.schema == LOCALIZERS.schema


PIECES = """
    { } ( ) [ ] ' " : , - + * 1 0 e9 e999 . x y f 'x': 'y': 'f': nan None True lambda # \\ f'{1}'
    b'' 0x 1_0 j ; if else await :=
"""
pieces = st.sampled_from([*PIECES.split(), " ", "\t", "\n"])


@settings(same_directory, max_examples=400)
@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    | st.lists(pieces).map("".join)
)
@example(text="-" * 990 + "1")
@example(text="{'x':1,'y':" + "+" * 900 + "1}")
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_any_text_as_coordinates_gives_finite_numbers_or_a_series_error(localizers, text):
    table = localizers(localizer_row(text))
    try:
        frame = table.localizers(SERIES)
    except SeriesError as error:
        assert "row 2" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert all(math.isfinite(value) for value in frame.row(0)[2:4])


def test_one_reading_of_the_file_serves_every_series(localizers, tmp_path):
    table = localizers(localizer_row(), localizer_row(uid=OTHER))
    (tmp_path / "train_localizers.csv").unlink()
    points = pl.concat([table.localizers(uid) for uid in table.series])
    assert points["SeriesInstanceUID"].to_list() == [SERIES, OTHER]


# --- further columns ------------------------------------------------------------------------------


def further(tmp_path: Path, *values: str) -> TrainCsv:
    path = tmp_path / "train.csv"
    rows = [[*train_row(), value, ""] for value in values]
    path.write_text(as_csv([*TRAIN_HEADER, "scanner", ""], *rows), newline="")
    return TrainCsv.read(path)


def test_further_columns_come_along_by_their_names_and_change_the_fingerprint(tmp_path) -> None:
    one, other = further(tmp_path, "A"), further(tmp_path, "B")
    assert one.labels(SERIES)["train_csv_extra"].to_list() == ['{"scanner": "A"}']
    assert one.fingerprint(SERIES) != other.fingerprint(SERIES)
    assert one.extra_note("train_csv_extra").endswith("kept in train_csv_extra: scanner")
    assert further(tmp_path, "").labels(SERIES)["train_csv_extra"].to_list() == [
        '{"scanner": null}'
    ]


def test_rows_that_differ_in_a_further_column_contradict(tmp_path) -> None:
    with pytest.raises(SeriesError, match="contradict one another in further columns"):
        further(tmp_path, "A", "B").labels(SERIES)


def test_without_further_columns_nothing_is_said(train) -> None:
    csv_file = train(train_row())
    assert csv_file.labels(SERIES)["train_csv_extra"].to_list() == [None]
    assert csv_file.extra_note("train_csv_extra") == ""


def test_further_columns_that_share_a_name_or_have_none_keep_every_value(tmp_path) -> None:
    path = tmp_path / "train.csv"
    header = [*TRAIN_HEADER, "a", "a", "a (column 20)", ""]
    path.write_text(as_csv(header, [*train_row(), "1", "2", "3", "4"]), newline="")
    extra = TrainCsv.read(path).labels(SERIES)["train_csv_extra"].item()
    assert list(json.loads(extra).values()) == ["1", "2", "3", "4"]


def test_further_columns_of_the_localizers_come_along_with_their_point(tmp_path) -> None:
    path = tmp_path / "train_localizers.csv"
    row = [SERIES, "1.2.3", "{'x': 1, 'y': 2}", "Other Posterior Circulation"]
    path.write_text(as_csv([*LOCALIZER_HEADER, "reader"], [*row, "é"]), newline="")
    points = LocalizersCsv.read(path).localizers(SERIES)
    assert points["train_localizers_csv_extra"].to_list() == ['{"reader": "é"}']


def test_the_fingerprint_of_a_row_without_further_columns_is_of_its_values_alone(train) -> None:
    csv_file = train(train_row())
    rows = [("", *row.values) for row in csv_file.rows[SERIES]]
    assert csv_file.fingerprint(SERIES) == fingerprint_of_rows(rows)
