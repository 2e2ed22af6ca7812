"""Stores, buckets and models that somebody else made: opening them neither reads nor changes anything outside."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST
from storage.artifacts.model_files import ADAPTER_CONFIG, BASE_MODEL_KEY, REMOVAL_NOTE
from storage.artifacts.seals import TOMBSTONES_FILE
from storage.artifacts.tombstones import SEAL_FILE, add_tombstones
from storage.export.model_card import export_model
from storage.maintenance.erase import redact
from storage.maintenance.gc import find_gc_candidates
from storage.maintenance.verify import verify
from storage.query.catalog import open_catalog
from storage.remote.mirror import fresh_copy, sync
from storage.remote.s3 import Bucket
from storage.runs.run import runs
from tasks.reporting.report import report
from tests.support.foreign import list_file

NEWEST, OLD = "runs/tiny/generation=3/attempt=1", "runs/tiny/generation=1/attempt=1"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder of the reader, outside of every store."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "key.json").write_text("a secret")
    (folder / "notes.txt").write_text("a secret")
    return folder


def _unchanged(private: Path) -> bool:
    return {path.name: path.read_text() for path in private.iterdir()} == dict.fromkeys(
        ("key.json", "notes.txt"), "a secret"
    )


def _collect(store: Path) -> None:
    for candidate in find_gc_candidates(store, keep_models=1):
        candidate.delete()


def _files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_an_export_writes_nothing_outside_of_its_folder(store: Path, tmp_path: Path) -> None:
    (store / NEWEST / ".bashrc").write_text("echo hello")
    list_file(store / NEWEST / "model", "../.bashrc")
    with pytest.raises(HeirloomError, match=r"\.\./\.bashrc.*not a path inside of the artifact"):
        export_model(store, "tiny", None, tmp_path / "home/model")
    assert not (tmp_path / "home/.bashrc").exists()
    assert any("'../.bashrc'" in error for error in verify(store).errors)


@pytest.mark.parametrize("as_path", ["absolute", "relative"])
def test_an_export_takes_no_folder_of_the_reader_along_as_a_base(
    store: Path, private: Path, tmp_path: Path, as_path: str
) -> None:
    model = store / NEWEST / "model"
    base = str(private) if as_path == "absolute" else "../" * 6 + "private"
    (model / ADAPTER_CONFIG).write_text(json.dumps({BASE_MODEL_KEY: base}))
    list_file(model, ADAPTER_CONFIG)
    assert (model / base).resolve() == private
    with pytest.raises(HeirloomError, match=r"an adapter on .*private, which is outside of the store. Pass --base"):
        export_model(store, "tiny", None, tmp_path / "out")
    assert _files_with("a secret", tmp_path) == [private / "key.json", private / "notes.txt"]
    exported = export_model(store, "tiny", None, tmp_path / "out", base_folder=private)
    assert (exported / "base/key.json").exists()


def test_an_export_takes_no_file_of_the_reader_along_as_weights(store: Path, private: Path, tmp_path: Path) -> None:
    model = store / NEWEST / "model"
    (model / "more.safetensors").symlink_to(private / "key.json")
    list_file(model, "more.safetensors")
    with pytest.raises(HeirloomError, match=r"more\.safetensors is a symbolic link"):
        export_model(store, "tiny", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_garbage_collection_deletes_nothing_outside_of_the_store(store: Path, private: Path) -> None:
    outside = "../../../../../../private/key.json"
    assert (store / OLD / "model" / outside).resolve() == private / "key.json"
    list_file(store / OLD / "model", outside)
    with pytest.raises(HeirloomError, match="not a path inside of the artifact"):
        _collect(store)
    assert _unchanged(private)


def test_a_note_of_removed_weights_names_files_of_its_model_only(store: Path, private: Path) -> None:
    model = store / OLD / "model"
    note = {"time": 0.0, "files": ["../../../../../../private/key.json", "training.parquet", "part-00000.parquet"]}
    (model / REMOVAL_NOTE).write_text(json.dumps(note))
    (model / "part-00000.parquet").unlink()
    assert any("model/part-00000.parquet is missing" in error for error in verify(store).errors)
    _collect(store)
    assert _unchanged(private)
    (model / REMOVAL_NOTE).write_text("[]")
    assert any("_removed.json is damaged" in error for error in verify(store).errors)


def test_runs_that_are_links_belong_to_no_store(store: Path, finished_store: Path) -> None:
    (store / "runs/linked").symlink_to(finished_store / "runs/tiny")
    assert [run.name for run in runs(store)] == ["tiny"]
    assert any("runs/linked is a symbolic link, and ignored" in error for error in verify(store).errors)
    for candidate in find_gc_candidates(store, keep_models=1, rejected=True):
        assert candidate.path.resolve().is_relative_to(store)


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("runs/bad name", "its name is not one of a run"),
        ("runs/\x1b[2J", "its name is not one of a run"),
        ("runs/tiny/generation=abc/attempt=1", "its name does not end in a number"),
        ("runs/tiny/generation=1/attempt=²", "its name does not end in a number"),
        ("runs/tiny/generation=1/attempt=01", "its name does not end in a number"),
        ("human/letters/snapshot=x", "its name does not end in a number"),
        ("human/letters/eval_sets/a b", "its name is not one of an eval set"),
    ],
)
def test_a_folder_with_an_odd_name_is_named_and_leaves_the_rest_usable(store: Path, folder: str, reason: str) -> None:
    (store / folder / "model").mkdir(parents=True)
    (store / folder / "run.json").write_text("{}")
    assert [run.name for run in runs(store)] == ["tiny"]
    assert open_catalog(store).execute("select count(*) from generations").fetchall() == [(4,)]
    assert any(reason in error for error in verify(store).errors)


def test_a_run_without_its_recipe_is_named(store: Path) -> None:
    (store / "runs/tiny/run.json").unlink()
    assert any("run.json is missing, so the run is in no list" in error for error in verify(store).errors)


@pytest.fixture
def foreign_bucket(bucket_url: str, two_runs_files: dict[str, bytes]) -> Bucket:
    """A bucket with a store in it, to which a stranger adds objects."""
    bucket = Bucket(bucket_url)
    for key, content in two_runs_files.items():
        bucket.put(key, content, if_match=None)
    return bucket


@pytest.fixture
def two_runs_files(finished_store: Path) -> dict[str, bytes]:
    """Every file of a store, by its path in it."""
    return {
        path.relative_to(finished_store).as_posix(): path.read_bytes()
        for path in finished_store.rglob("*")
        if path.is_file() and "/." not in str(path.relative_to(finished_store.parent))
    }


def test_a_manifest_in_a_bucket_writes_no_file_outside_of_the_mirror(foreign_bucket: Bucket, tmp_path: Path) -> None:
    sync(tmp_path / "mirror", foreign_bucket.url)
    artifact = tmp_path / "mirror" / OLD / "corpus"
    list_file(artifact, "../../../../../../planted.txt")
    foreign_bucket.put(f"{OLD}/corpus/{MANIFEST}", (artifact / MANIFEST).read_bytes(), if_match=None)
    with fresh_copy(tmp_path / "mirror") as copy:
        errors = verify(copy).errors
    assert any("not a path inside of the artifact" in error for error in errors)
    assert not list(tmp_path.rglob("planted.txt"))


@pytest.mark.parametrize("key", ["../planted/run.json", "runs/../../planted/_manifest.json", "/tmp/planted/run.json"])
def test_an_object_outside_of_the_store_is_refused_before_anything_is_written(
    foreign_bucket: Bucket, tmp_path: Path, key: str
) -> None:
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted/mine.txt").write_text("mine")
    foreign_bucket.put(key, b"{}", if_match=None)
    with pytest.raises(HeirloomError, match=r"which is not a path inside of a store\. Nothing was downloaded"):
        sync(tmp_path / "mirror", foreign_bucket.url)
    assert not (tmp_path / "mirror").exists()
    assert [path.name for path in (tmp_path / "planted").iterdir()] == ["mine.txt"]


def test_an_object_that_is_gone_removes_nothing_outside_of_the_mirror(
    foreign_bucket: Bucket, private: Path, tmp_path: Path
) -> None:
    mirror = tmp_path / "mirror"
    sync(mirror, foreign_bucket.url)
    mark = json.loads((mirror / ".mirror.json").read_text())
    mark["seen"][f"../private/{MANIFEST}"] = "an etag"
    (mirror / ".mirror.json").write_text(json.dumps(mark))
    with pytest.raises(HeirloomError, match="not a path inside of a store"):
        sync(mirror, foreign_bucket.url)
    assert _unchanged(private)


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", ".hidden", "a/b", ""])
def test_a_report_is_written_below_its_store(store: Path, name: str) -> None:
    with pytest.raises(HeirloomError, match="cannot name a report"):
        report(store, ["tiny"], name)


def test_a_report_of_a_foreign_store_runs_no_script_and_loads_nothing(store: Path) -> None:
    verdict = store / NEWEST / "verdict/part-00000.parquet"
    table = pq.read_table(verdict)
    reasons = ["<script>alert(1)</script> ![x](http://evil/a.png) [y](javascript:alert(1))"] * len(table)
    table = table.set_column(table.column_names.index("reason"), "reason", pa.array(reasons))
    table = table.set_column(table.column_names.index("action"), "action", pa.array(["stop"] * len(table)))
    pq.write_table(table, verdict)
    list_file(store / NEWEST / "verdict", "part-00000.parquet")
    page = (report(store, ["tiny"], "foreign") / "report.html").read_text()
    assert "alert(1)" in page
    assert "<script" not in page
    assert "http://evil/a.png" not in re.findall(r'(?:src|href)="([^"]*)"', page)
    assert not re.findall(r'(?:src|href)="(?!data:image/png)', page)
    assert "default-src 'none'" in page


def _lines(store: Path) -> list[str]:
    return (store / "runs/tiny/journal.jsonl").read_text().splitlines(keepends=True)


def _write_lines(store: Path, lines: list[str]) -> None:
    (store / "runs/tiny/journal.jsonl").write_text("".join(lines))


def _without_event(store: Path, event: str) -> list[str]:
    return [line for line in _lines(store) if json.loads(line)["event"] != event]


_FORGED = json.dumps({"time": 1.0, "event": "rejected", "generation": 2, "attempt": 1, "reason": "", "previous": ""})


def _edit_recipe(store: Path) -> None:
    path = store / "runs/tiny/run.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


@pytest.mark.parametrize(
    ("tamper", "error"),
    [
        (lambda store: (store / "runs/tiny/journal.jsonl").unlink(), "has lost entries"),
        (lambda store: _write_lines(store, _without_event(store, "accepted")), "no entry in .* accepts or rejects it"),
        (lambda store: _write_lines(store, _lines(store)[1:]), "does not follow the line before it"),
        (lambda store: _write_lines(store, _lines(store)[:-4]), "has lost entries"),
        (lambda store: _write_lines(store, [*_lines(store), _FORGED + "\n"]), "does not follow the line before it"),
        (lambda store: _write_lines(store, [" " + _lines(store)[0], *_lines(store)[1:]]), "does not follow"),
        (_edit_recipe, r"run\.json has been changed"),
        (lambda store: (store / "runs/tiny/run.json").unlink(), r"run\.json is missing"),
    ],
)
def test_what_was_lost_from_the_story_of_a_run_or_changed_in_it_is_named(
    store: Path, tamper: Callable[[Path], object], error: str
) -> None:
    assert verify(store).errors == ()
    tamper(store)
    assert any(re.search(error, found) for found in verify(store).errors), verify(store).errors


def test_the_loss_of_tombstones_is_named_and_no_erased_text_comes_back(store: Path) -> None:
    table = pq.read_table(store / "human/letters/snapshot=1/human_train/part-00000.parquet")
    first, second = table.slice(0, 1).to_pylist()[0], table.slice(1, 1).to_pylist()[0]
    add_tombstones(store, {first["id"]: first["text_hash"]}, "withdrawn")
    add_tombstones(store, {second["id"]: second["text_hash"]}, "withdrawn")
    assert verify(store).errors == ()
    path = store / TOMBSTONES_FILE
    before = path.read_bytes()
    for changed in (None, b"", before.splitlines(keepends=True)[1], before.replace(b"withdrawn", b"with-drawn")):
        path.unlink()
        if changed is not None:
            path.write_bytes(changed)
        with pytest.raises(HeirloomError, match="lists the texts that must not be used"):
            open_catalog(store)
        assert any("lists the texts that must not be used" in error for error in verify(store).errors)
        path.write_bytes(before)
    (store / SEAL_FILE).unlink()
    assert any("so a loss of" in error for error in verify(store).errors)


def test_the_loss_of_tombstones_and_their_seal_is_named_once_an_artifact_knows_them(store: Path) -> None:
    table = pq.read_table(store / "human/letters/snapshot=1/human_train/part-00000.parquet")
    add_tombstones(store, {"h": table["text_hash"][0].as_py()}, "withdrawn")
    redact(store, [table["text_hash"][0].as_py()])
    assert verify(store).errors == ()
    (store / SEAL_FILE).unlink()
    (store / TOMBSTONES_FILE).unlink()
    assert any("texts can come back" in error for error in verify(store).errors)
