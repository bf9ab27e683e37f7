"""A store that stays away: waited for once, and not again by each that asks it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from aneurysm_assets.storage import circuit_breaker
from aneurysm_assets.storage.circuit_breaker import TIMEOUT_WHILE_OPEN, circuit_breaker_of
from aneurysm_assets.storage.object_path import ObjectPath
from aneurysm_assets.storage.object_store import store_of
from deploy.servers.process import answers
from deploy.servers.s3 import S3Server
from tests.bucket import forget, upload
from tests.graph import Graph

TIMEOUT = timedelta(milliseconds=300)


@pytest.fixture
def away(s3_server: S3Server, bucket: ObjectPath, monkeypatch) -> Iterator[ObjectPath]:
    """Return a name in a store that is down, and for which nobody waits long."""
    (bucket / "x").write_bytes(b"content")
    monkeypatch.setattr(circuit_breaker, "TIMEOUT", TIMEOUT)
    monkeypatch.setattr(circuit_breaker, "MAX_BACKOFF", TIMEOUT)
    forget()
    s3_server.stop()
    try:
        yield bucket / "x"
    finally:
        if not answers(s3_server.port):
            s3_server.start()
        forget()


def timeout_of_store(path: ObjectPath) -> timedelta:
    retries = store_of(path.bucket).retry_config
    assert retries is not None
    return retries["retry_timeout"]


def test_a_store_that_was_waited_for_in_vain_is_not_waited_for_again_until_it_answers(
    away: ObjectPath, s3_server: S3Server
) -> None:
    assert timeout_of_store(away) == TIMEOUT
    for _ in range(2):
        with pytest.raises(OSError, match="does not answer"):
            away.read_bytes()
        assert timeout_of_store(away) == TIMEOUT_WHILE_OPEN
    assert timeout_of_store(ObjectPath.parse(f"{away.bucket}-2")) == TIMEOUT
    s3_server.start()
    # That there is nothing by a name is an answer.
    with pytest.raises(FileNotFoundError):
        (away.parent / "nothing").read_bytes()
    assert timeout_of_store(away) == TIMEOUT
    assert away.read_bytes() == b"content"


def test_without_hope_a_store_is_not_asked_but_now_and_then(
    away: ObjectPath, s3_server: S3Server, monkeypatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "ASK_EACH_TIME_FOR", timedelta(0))
    monkeypatch.setattr(circuit_breaker, "ASK_AGAIN_AFTER", timedelta(hours=1))
    with pytest.raises(OSError, match="does not answer"):
        away.read_bytes()
    s3_server.start()
    with pytest.raises(OSError, match=r"does not answer.*not again yet") as caught:
        away.read_bytes()
    assert caught.value.filename == str(away)
    monkeypatch.setattr(circuit_breaker, "ASK_AGAIN_AFTER", timedelta(0))
    assert away.read_bytes() == b"content"
    monkeypatch.setattr(circuit_breaker, "ASK_AGAIN_AFTER", timedelta(hours=1))
    assert away.read_bytes() == b"content"


def test_what_fails_at_once_was_not_waited_for() -> None:
    circuit_breaker_of.cache_clear()
    one = circuit_breaker_of("s3://one")
    one.record_failure("a body that broke off", seconds=0.1)
    assert not one.is_open
    one.record_failure("no answer", seconds=circuit_breaker.TIMEOUT.total_seconds())
    assert one.is_open


def test_a_run_ends_though_the_store_stays_away_and_every_series_says_why(
    s3_server: S3Server, bucket: ObjectPath, data, tmp_path, monkeypatch
) -> None:
    upload(data / "raw", bucket / "raw")
    monkeypatch.setenv("ANEURYSM_RAW", f"{bucket}/raw")
    graph = Graph(tmp_path / "remote")
    monkeypatch.setattr(circuit_breaker, "TIMEOUT", TIMEOUT)
    monkeypatch.setattr(circuit_breaker, "ASK_EACH_TIME_FOR", timedelta(0))
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
