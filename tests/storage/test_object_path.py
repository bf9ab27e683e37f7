"""Names in a bucket, held against a real server: what is there, what is not, what may be one."""

import pickle
import threading
from pathlib import Path

import pytest

from aneurysm_assets.storage import object_store
from aneurysm_assets.storage.object_path import ObjectPath, list_directory
from deploy.servers.process import free_ports
from deploy.servers.s3 import S3Server


def test_a_url_becomes_a_name_and_says_itself_again() -> None:
    path = ObjectPath.parse("s3://bucket/some/where/")
    assert str(path) == "s3://bucket/some/where"
    assert str(path / "a.b" / "c.dcm") == "s3://bucket/some/where/a.b/c.dcm"
    assert (path / "c.dcm").name == "c.dcm"
    assert (path / "c.dcm").suffix == ".dcm"
    assert (path / "c.dcm").parent == path
    assert (path / "x" / "y").relative_to(path).as_posix() == "x/y"
    assert str(ObjectPath.parse("gs://bucket")) == "gs://bucket"
    assert pickle.loads(pickle.dumps(path)) == path


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "ftp://host/x", "bucket/x", "s3://b/x/../y"])
def test_a_url_that_leads_to_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"(of|in) a bucket"):
        ObjectPath.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:pa55word@bucket/x",
        "s3://bucket:pa55word/x",
        "s3://bucket/x?X-Amz-Signature=pa55word",
        "s3://bucket/x#pa55word",
        "s3://bucket?pa55word",
        "s3://bucket/x\npa55word",
        "ftp://key:pa55word@host/x",
    ],
)
def test_a_url_with_more_than_a_name_is_refused_and_what_may_be_secret_not_repeated(
    url: str,
) -> None:
    with pytest.raises(ValueError, match="URL of a bucket") as caught:
        ObjectPath.parse(url)
    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize("name", ["..", ".", "", "a//b", "a/../b", "/a", "a/"])
def test_no_part_of_a_name_leads_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match="is no name in a bucket"):
        ObjectPath.parse("s3://bucket/root") / name


def test_what_is_below_another_name_only_by_its_letters_is_not_below_it() -> None:
    path = ObjectPath.parse("s3://bucket/raw-old/x")
    with pytest.raises(ValueError, match="is not below"):
        path.relative_to(ObjectPath.parse("s3://bucket/raw"))


@pytest.mark.parametrize(
    "name", ["a b.dcm", "ü.dcm", "a%20b.dcm", "#1.dcm", "[1].dcm", "q?.dcm", "star*.dcm", ".hidden"]
)
def test_an_object_is_read_under_any_name_under_which_it_is_listed(
    bucket: ObjectPath, name: str
) -> None:
    (bucket / "folder" / name).write_bytes(b"content")
    listed = list_directory(bucket / "folder")
    assert list(listed.files) == [name]
    assert (bucket / "folder" / name).read_bytes() == b"content"
    assert listed.files[name] == (bucket / "folder" / name).stat()


def test_a_directory_is_its_files_and_directories_and_nothing_beside_it(bucket: ObjectPath) -> None:
    for name in ("folder/a", "folder/b/c", "folder-2/d"):
        (bucket / name).write_bytes(b"x" * len(name))
    listed = list_directory(bucket / "folder")
    assert {name: stat.st_size for name, stat in listed.files.items()} == {"a": len("folder/a")}
    assert listed.directories == ("b",)
    assert (bucket / "folder").is_dir()
    assert not (bucket / "folder").is_file()
    assert not (bucket / "fold").is_dir()


def test_more_objects_than_one_answer_holds_are_all_listed(bucket: ObjectPath) -> None:
    names = {f"{number:04}" for number in range(1_100)}
    for name in names:
        (bucket / "many" / name).write_bytes(b"")
    assert set(list_directory(bucket / "many").files) == names


def test_what_is_not_there_is_said_as_a_file_system_says_it(bucket: ObjectPath) -> None:
    nothing = bucket / "nothing"
    for ask in (
        nothing.stat,
        nothing.read_bytes,
        nothing.open,
        nothing.unlink,
        lambda: list_directory(nothing),
        lambda: nothing.read_range(0, 8),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            ask()
        assert caught.value.filename == str(nothing)
        assert caught.value.strerror
    nothing.unlink(missing_ok=True)


def test_a_bucket_that_is_not_there_is_not_taken_for_an_empty_one(bucket: ObjectPath) -> None:
    nowhere = ObjectPath.parse(f"{bucket}-nowhere")
    for ask in (lambda: list_directory(nowhere), (nowhere / "x").read_bytes):
        with pytest.raises(OSError, match="there is no such bucket") as caught:
            ask()
        assert not isinstance(caught.value, FileNotFoundError)


def test_wrong_credentials_are_said_and_not_taken_for_an_empty_bucket(
    bucket: ObjectPath, monkeypatch
) -> None:
    (bucket / "x").write_bytes(b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    for ask in (lambda: list_directory(bucket), (bucket / "x").read_bytes, (bucket / "x").is_file):
        with pytest.raises(PermissionError, match="credentials"):
            ask()


def test_a_stream_gives_every_byte_from_any_place(bucket: ObjectPath) -> None:
    content = bytes(range(256)) * 1_000
    (bucket / "file").write_bytes(content)
    with (bucket / "file").open() as file:
        assert file.read() == content
        file.seek(-10, 2)
        assert file.read(100) == content[-10:]
        file.seek(100_000)
        assert file.read(300) == content[100_000:100_300]
        file.seek(len(content) + 5)
        assert file.read(1) == b""


def test_a_stream_never_joins_two_versions_of_an_object(bucket: ObjectPath) -> None:
    (bucket / "file").write_bytes(b"a" * 200_000)
    with (bucket / "file").open() as file:
        assert file.read(10) == b"a" * 10
        (bucket / "file").write_bytes(b"b" * 200_000)
        with pytest.raises(OSError, match="changed while it was read"):
            file.read()


def test_a_store_that_is_down_for_a_while_is_waited_for(
    s3_server: S3Server, bucket: ObjectPath
) -> None:
    (bucket / "file").write_bytes(b"content")
    s3_server.stop()
    back = threading.Timer(2, s3_server.start)
    back.start()
    try:
        assert (bucket / "file").read_bytes() == b"content"
    finally:
        back.join()


def test_a_file_larger_than_one_request_may_be_arrives_whole(
    bucket: ObjectPath, tmp_path: Path
) -> None:
    content = b"0123456789abcdef" * (1 << 20)
    (tmp_path / "large").write_bytes(content)
    (bucket / "large").upload(tmp_path / "large")
    assert (bucket / "large").stat().st_size == len(content)
    assert (bucket / "large").read_bytes() == content


def test_an_object_stays_as_it_was_where_what_was_to_replace_it_cannot_be_read(
    bucket: ObjectPath, tmp_path: Path
) -> None:
    (bucket / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="missing"):
        (bucket / "file").upload(tmp_path / "missing")
    assert (bucket / "file").read_bytes() == b"old"


@pytest.mark.parametrize("answers", ["disabled", "nobody"])
def test_without_credentials_it_is_said_so_and_no_store_asked(
    bucket: ObjectPath, monkeypatch, answers: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    if answers == "disabled":
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    else:
        (port,) = free_ports(1)
        monkeypatch.setattr(object_store, "METADATA_SERVICE", ("127.0.0.1", port))
    for ask in (bucket.is_dir, (bucket / "x").read_bytes):
        with pytest.raises(PermissionError, match=r"no credentials: set AWS_ACCESS_KEY_ID"):
            ask()


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_of_the_credentials_is_none(bucket: ObjectPath, monkeypatch, missing: str) -> None:
    monkeypatch.delenv(missing)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(PermissionError, match="no credentials"):
        (bucket / "x").read_bytes()


def test_a_bucket_that_is_open_to_all_needs_no_credentials(bucket: ObjectPath, monkeypatch) -> None:
    (bucket / "x").write_bytes(b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    # This one is not open, and that is what it answers.
    with pytest.raises(PermissionError, match="refuses access"):
        (bucket / "x").read_bytes()
