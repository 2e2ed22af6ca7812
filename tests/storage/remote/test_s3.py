"""The operations of a bucket, against a real server of the S3 protocol."""

from pathlib import Path

import pytest

from benchmarks.support.bucket_server import losing
from storage.remote.s3 import Bucket, BucketError, _client


def test_a_url_is_a_bucket_and_a_prefix() -> None:
    assert (Bucket("s3://shelf/a/b/").name, Bucket("s3://shelf/a/b/").prefix) == ("shelf", "a/b/")
    assert (Bucket("s3://shelf").name, Bucket("s3://shelf").prefix) == ("shelf", "")


def test_what_is_written_is_read_with_a_tag_that_changes(bucket_url: str) -> None:
    bucket = Bucket(bucket_url)
    assert bucket.read("a") is None
    first = bucket.put("a", b"one")
    assert (there := bucket.read("a")) is not None
    assert (there.content, there.etag) == (b"one", first)
    assert there.age_seconds >= 0
    second = bucket.put("a", b"two", if_match=first)
    assert second not in (None, first)
    assert bucket.list_etags() == {"a": second}


def test_a_conditional_write_happens_once(bucket_url: str) -> None:
    bucket = Bucket(bucket_url)
    first = bucket.put("a", b"mine")
    assert bucket.put("a", b"theirs") is None
    assert bucket.put("a", b"theirs", if_match='"another"') is None
    assert bucket.put("gone", b"theirs", if_match=first) is None
    assert bucket.read("a").content == b"mine"  # type: ignore[union-attr]
    assert bucket.put("a", b"whatever", if_match=None)
    assert bucket.read("a").content == b"whatever"  # type: ignore[union-attr]


def test_a_write_whose_answer_was_lost_knows_itself(
    bucket_url: str, s3_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with losing(s3_address, "/a") as (proxy_url, lost):
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy_url)
        _client.cache_clear()
        tag = Bucket(bucket_url).put("a", b"mine")
        assert lost == ["/" + bucket_url.removeprefix("s3://") + "/a"]
        assert tag
        assert Bucket(bucket_url).read("a").content == b"mine"  # type: ignore[union-attr]
    _client.cache_clear()


def test_files_go_there_and_come_back(bucket_url: str, tmp_path: Path) -> None:
    bucket = Bucket(bucket_url)
    (tmp_path / "there").write_bytes(bytes(range(256)) * 50_000)
    bucket.upload(tmp_path / "there", "deep/down/file")
    bucket.fetch("deep/down/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()
    bucket.delete(["deep/down/file", "never/there"])
    assert bucket.list_etags() == {}
    with pytest.raises(BucketError, match=r"could not read s3://.*/deep/down/file"):
        bucket.fetch("deep/down/file", tmp_path / "again")


def test_a_missing_bucket_is_an_error_that_names_it(s3_address: str) -> None:
    assert s3_address
    with pytest.raises(BucketError, match="could not list s3://no-such-bucket-of-ours/x/"):
        Bucket("s3://no-such-bucket-of-ours/x").list_etags()
