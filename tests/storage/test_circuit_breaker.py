"""A store that stays away: waited for once, and not again by each that asks it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from aneurysm_assets.storage import circuit_breaker
from aneurysm_assets.storage.circuit_breaker import IMPATIENT, patience_with
from aneurysm_assets.storage.object_path import ObjectPath, store_of
from deploy.servers.process import answers
from deploy.servers.s3 import S3Server
from tests.bucket import forget, upload
from tests.graph import Graph

PATIENT = timedelta(milliseconds=300)


@pytest.fixture
def away(s3_server: S3Server, bucket: ObjectPath, monkeypatch) -> Iterator[ObjectPath]:
    """Return a name in a store that is down, and for which nobody waits long."""
    (bucket / "x").write_bytes(b"content")
    monkeypatch.setattr(circuit_breaker, "PATIENT", PATIENT)
    monkeypatch.setattr(circuit_breaker, "LONGEST_PAUSE", PATIENT)
    forget()
    s3_server.stop()
    try:
        yield bucket / "x"
    finally:
        if not answers(s3_server.port):
            s3_server.start()
        forget()


def patience_of_store(path: ObjectPath) -> timedelta:
    retries = store_of(path.bucket).retry_config
    assert retries is not None
    return retries["retry_timeout"]


def test_a_store_that_was_waited_for_in_vain_is_not_waited_for_again_until_it_answers(
    away: ObjectPath, s3_server: S3Server
) -> None:
    assert patience_of_store(away) == PATIENT
    for _ in range(2):
        with pytest.raises(OSError, match="does not answer"):
            away.read_bytes()
        assert patience_of_store(away) == IMPATIENT
    assert patience_of_store(ObjectPath.parse(f"{away.bucket}-2")) == PATIENT
    s3_server.start()
    # That there is nothing by a name is an answer.
    with pytest.raises(FileNotFoundError):
        (away.parent / "nothing").read_bytes()
    assert patience_of_store(away) == PATIENT
    assert away.read_bytes() == b"content"


def test_without_hope_a_store_is_not_asked_but_now_and_then(
    away: ObjectPath, s3_server: S3Server, monkeypatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "HOPE", timedelta(0))
    monkeypatch.setattr(circuit_breaker, "ASKED_AGAIN", timedelta(hours=1))
    with pytest.raises(OSError, match="does not answer"):
        away.read_bytes()
    s3_server.start()
    with pytest.raises(OSError, match=r"does not answer.*not again yet") as caught:
        away.read_bytes()
    assert caught.value.filename == str(away)
    monkeypatch.setattr(circuit_breaker, "ASKED_AGAIN", timedelta(0))
    assert away.read_bytes() == b"content"
    monkeypatch.setattr(circuit_breaker, "ASKED_AGAIN", timedelta(hours=1))
    assert away.read_bytes() == b"content"


def test_what_fails_at_once_was_not_waited_for() -> None:
    patience_with.cache_clear()
    one = patience_with("s3://one")
    one.failed("a body that broke off", seconds=0.1)
    assert not one.is_lost
    one.failed("no answer", seconds=circuit_breaker.PATIENT.total_seconds())
    assert one.is_lost


def test_a_run_ends_though_the_store_stays_away_and_every_series_says_why(
    s3_server: S3Server, bucket: ObjectPath, data, tmp_path, monkeypatch
) -> None:
    upload(data / "raw", bucket / "raw")
    monkeypatch.setenv("ANEURYSM_RAW", f"{bucket}/raw")
    graph = Graph(tmp_path / "remote")
    monkeypatch.setattr(circuit_breaker, "PATIENT", PATIENT)
    monkeypatch.setattr(circuit_breaker, "HOPE", timedelta(0))
    forget()
    s3_server.stop()
    try:
        assert not graph.run_all("dicom_tags", "segmentation_meta").success
    finally:
        s3_server.start()
        forget()
    for table in ("dicom_tags", "segmentation_meta"):
        assert graph.with_status(table, "FAILED") == list(graph.series)
    assert graph.run_all("segmentation_meta").success
