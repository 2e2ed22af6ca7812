"""A store on object storage, against a real server of the S3 protocol."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.support.bucket_server import losing
from storage.artifacts.artifact import MANIFEST, Artifact, ArtifactMissingError, read_manifest, read_table
from storage.remote.mirror import _SMALL, ConflictError, fetch, mirror_path, publish, remove, sync, upload, write_small
from storage.remote.s3 import Bucket, _client
from storage.runs.run import BusyError, Run

_TABLE = pa.table({"id": ["a", "b"], "text": ["one", "two"]})


def _published(root: Path, name: str = "corpus", table: pa.Table = _TABLE) -> Artifact:
    artifact = Artifact(root / "runs" / "tiny" / name, {"made": "here"})
    with artifact.draft() as draft:
        draft.write_part(table)
    return artifact


def _attached(folder: Path, url: str) -> Path:
    sync(folder, url)
    return folder


def test_the_manifest_is_among_the_small_files() -> None:
    assert MANIFEST in _SMALL


def test_a_store_in_the_cloud_has_a_folder_of_its_own_at_hand() -> None:
    assert mirror_path("s3://shelf/stores/a/").parts[-3:] == ("shelf", "stores", "a")


def test_what_is_published_here_is_read_elsewhere(bucket_url: str, tmp_path: Path) -> None:
    _published(_attached(tmp_path / "here", bucket_url))
    there = _attached(tmp_path / "there", bucket_url)
    folder = there / "runs" / "tiny" / "corpus"
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST]
    assert read_table(folder).equals(_TABLE)
    assert Artifact(folder, {"made": "here"}).exists()
    assert Artifact(folder, {"made": "here"}).ensure_local() == folder


def test_the_files_are_there_before_the_manifest(bucket_url: str, tmp_path: Path) -> None:
    here = _attached(tmp_path / "here", bucket_url)
    draft = tmp_path / "draft"
    draft.mkdir()
    (draft / MANIFEST).write_text(json.dumps({"files": {"part-00000.parquet": {}, "absent.parquet": {}}}))
    (draft / "part-00000.parquet").write_bytes(b"some")
    with pytest.raises((OSError, ValueError)):
        publish(draft, here / "runs" / "tiny" / "corpus")
    assert list(Bucket(bucket_url).list_etags()) == ["runs/tiny/corpus/part-00000.parquet"]
    elsewhere = _attached(tmp_path / "elsewhere", bucket_url)
    assert not Artifact(elsewhere / "runs" / "tiny" / "corpus", {}).exists()


def test_a_commit_whose_answer_was_lost_is_a_commit(
    bucket_url: str, s3_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = _attached(tmp_path / "here", bucket_url)
    with losing(s3_address, MANIFEST) as (proxy_url, lost):
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy_url)
        _client.cache_clear()
        artifact = _published(here)
        assert len(lost) == 1
    _client.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    assert artifact.exists()
    assert read_table(_attached(tmp_path / "there", bucket_url) / "runs" / "tiny" / "corpus").equals(_TABLE)


def test_nothing_is_published_twice(bucket_url: str, tmp_path: Path) -> None:
    here, there = (_attached(tmp_path / name, bucket_url) for name in ("here", "there"))
    _published(here)
    with pytest.raises(ConflictError, match="published by another process"):
        _published(there, table=pa.table({"id": ["c"], "text": ["three"]}))
    assert not (there / "runs" / "tiny" / "corpus").exists()
    assert read_table(_attached(there, bucket_url) / "runs" / "tiny" / "corpus").equals(_TABLE)


def test_a_damaged_object_is_named_and_not_kept(bucket_url: str, tmp_path: Path) -> None:
    _published(_attached(tmp_path / "here", bucket_url))
    Bucket(bucket_url).put("runs/tiny/corpus/part-00000.parquet", b"flipped", if_match=None)
    folder = _attached(tmp_path / "there", bucket_url) / "runs" / "tiny" / "corpus"
    with pytest.raises(ValueError, match=r"part-00000\.parquet is damaged"):
        read_table(folder)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST]


def test_a_vanished_object_is_an_error_and_not_an_empty_table(bucket_url: str, tmp_path: Path) -> None:
    _published(_attached(tmp_path / "here", bucket_url))
    Bucket(bucket_url).delete(["runs/tiny/corpus/part-00000.parquet"])
    folder = _attached(tmp_path / "there", bucket_url) / "runs" / "tiny" / "corpus"
    with pytest.raises(ValueError, match="could not read"):
        read_table(folder)


def test_what_was_removed_elsewhere_goes_here_too(bucket_url: str, tmp_path: Path) -> None:
    here, there = (_attached(tmp_path / name, bucket_url) for name in ("here", "there"))
    artifact = _published(here)
    sync(there, bucket_url)
    remove(artifact.folder)
    assert Bucket(bucket_url).list_etags() == {}
    sync(there, bucket_url)
    with pytest.raises(ArtifactMissingError):
        read_manifest(there / "runs" / "tiny" / "corpus")


def test_a_journal_is_one_for_all_machines(bucket_url: str, tmp_path: Path) -> None:
    here, there = (Run(_attached(tmp_path / name, bucket_url), "tiny") for name in ("here", "there"))
    here.initialize({"a": 1}, set(), {})
    here.append("accepted", 0, 1)
    sync(there.root, bucket_url)
    assert there.recipe() == {"a": 1}
    here.append("accepted", 1, 1)
    there.append("accepted", 2, 1)
    sync(here.root, bucket_url)
    generations = [[entry["generation"] for entry in run.journal()[1:]] for run in (here, there)]
    assert generations == [[0, 1, 2], [0, 1, 2]]


def test_a_run_in_a_bucket_has_one_writer_on_all_machines(bucket_url: str, tmp_path: Path) -> None:
    here, there = (Run(_attached(tmp_path / name, bucket_url), "tiny") for name in ("here", "there"))
    with here.lock(), pytest.raises(BusyError, match="is being written by process"), there.lock():
        pass
    with there.lock():
        pass


def test_reports_are_copied(bucket_url: str, tmp_path: Path) -> None:
    here = _attached(tmp_path / "here", bucket_url)
    (here / "reports" / "demo").mkdir(parents=True)
    (here / "reports" / "demo" / "report.md").write_text("report")
    upload(here / "reports" / "demo")
    assert list(Bucket(bucket_url).list_etags()) == ["reports/demo/report.md"]


def test_a_folder_that_is_a_store_of_its_own_becomes_no_mirror(bucket_url: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match="is not empty and mirrors nothing"):
        sync(tmp_path, bucket_url)
    mirror = _attached(tmp_path / "mirror", bucket_url)
    with pytest.raises(ValueError, match=r"mirrors s3://.*, not s3://other"):
        sync(mirror, "s3://other/place")


def test_a_folder_that_mirrors_nothing_is_left_alone(tmp_path: Path) -> None:
    artifact = _published(tmp_path)
    fetch(artifact.folder, {"absent": {"sha256": ""}})
    write_small(tmp_path / "note", b"text")
    upload(tmp_path)
    assert (tmp_path / "note").read_bytes() == b"text"
    remove(artifact.folder)
    assert not artifact.folder.exists()
    shutil.rmtree(tmp_path / "runs")
