import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heirloom.errors import HeirloomError
from storage.artifacts.artifact import (
    FORMAT,
    MANIFEST,
    Artifact,
    ArtifactMissingError,
    DriftError,
    differences,
    iter_tables,
    part_paths,
    read_manifest,
    read_table,
    write_parquet,
)
from tests.support.foreign import list_file
from tests.support.paths import ROOT


def _table(*numbers: int) -> pa.Table:
    return pa.table({"number": list(numbers), "text": [f"text {number}" for number in numbers]})


def _published(folder: Path, *tables: pa.Table, **settings: object) -> Artifact:
    artifact = Artifact(folder, settings)
    with artifact.draft() as draft:
        for number, table in enumerate(tables or [_table(1, 2)]):
            draft.write_part(table, number)
    return artifact


def _interrupted(artifact: Artifact, *tables: pa.Table) -> None:
    """Write these parts and half of the next one, and stop."""
    with artifact.draft() as draft:
        for number, table in enumerate(tables):
            draft.write_part(table, number)
        (draft.folder / f".part-{len(tables):05d}.parquet.tmp").write_bytes(b"cut off")
        raise KeyboardInterrupt


def _edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_artifact_is_absent_until_its_draft_ends(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "corpus", {"seed": 1})
    assert not artifact.exists()
    with artifact.draft() as draft:
        draft.write_part(_table(1, 2, 3))
        assert not artifact.exists()
        assert not artifact.folder.exists()
        with pytest.raises(ArtifactMissingError, match="no finished artifact"):
            read_table(artifact.folder)
    assert artifact.exists()
    assert read_table(artifact.folder).equals(_table(1, 2, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_fault_inside_a_draft_leaves_nothing_visible(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "corpus", {})
    with pytest.raises(KeyboardInterrupt):
        _interrupted(artifact, _table(1))
    assert not artifact.exists()
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_an_interrupted_draft_goes_on_behind_its_last_whole_part(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "candidates", {"seed": 1})
    with pytest.raises(KeyboardInterrupt):
        _interrupted(artifact, _table(1, 2), _table(3))
    with artifact.draft() as draft:
        assert draft.num_parts() == 2
        assert draft.rows == 3
        draft.write_part(_table(4, 5), 2)
        assert draft.rows == 5
    assert read_table(artifact.folder)["number"].to_pylist() == [1, 2, 3, 4, 5]
    assert read_manifest(artifact.folder)["rows"] == 5
    assert sorted(_contents(artifact.folder)) == [MANIFEST, *(f"part-0000{number}.parquet" for number in range(3))]


@pytest.mark.processes
def test_a_process_that_is_killed_leaves_its_whole_parts_to_build_on(tmp_path: Path) -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import pyarrow as pa
from storage.artifacts.artifact import Artifact
with Artifact(Path({str(tmp_path / "candidates")!r}), {{"seed": 1}}).draft() as draft:
    draft.write_part(pa.table({{"number": [1, 2]}}))
    os.kill(os.getpid(), 9)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    artifact = Artifact(tmp_path / "candidates", {"seed": 1})
    assert ended.returncode == -9
    assert not artifact.exists()
    with artifact.draft() as draft:
        assert draft.num_parts() == 1


def test_a_draft_of_something_else_is_not_built_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _interrupted(Artifact(tmp_path / "candidates", {"seed": 1}), _table(1))
    with Artifact(tmp_path / "candidates", {"seed": 2}).draft() as draft:
        assert draft.num_parts() == 0
        draft.write_part(_table(9), 0)
    assert read_table(tmp_path / "candidates")["number"].to_pylist() == [9]


def test_drift_names_the_changed_field_with_both_values(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    before = Artifact(folder, {"mix": {"policy": "anchor", "num_records": None}, "seed": 1}, {"human_train": "aaaa"})
    with before.draft() as draft:
        draft.write_part(_table(1))
    now = Artifact(folder, {"mix": {"policy": "replace", "num_records": None}, "seed": 1}, {"human_train": "bbbb"})
    with pytest.raises(DriftError) as drift:
        now.exists()
    assert str(drift.value) == (
        f'{folder} was made differently: settings.mix.policy was "anchor", is now "replace"; '
        'parents.human_train was "aaaa", is now "bbbb"'
    )


def test_a_field_that_came_or_went_is_drift_too(tmp_path: Path) -> None:
    folder = _published(tmp_path / "corpus", seed=1).folder
    with pytest.raises(DriftError, match=r"settings\.seed was 1, is now null"):
        Artifact(folder, {}).exists()
    with pytest.raises(DriftError, match=r"settings\.draws was null, is now 3"):
        Artifact(folder, {"seed": 1, "draws": 3}).exists()


def test_differences_are_one_sentence_a_field() -> None:
    before = {"a": 1, "b": {"c": [1, 2], "d": "x"}, "same": None}
    now = {"a": 1, "b": {"c": [1, 3], "d": "x", "e": True}, "same": None}
    assert differences(before, now, "") == ["b.c was [1, 2], is now [1, 3]", "b.e was null, is now true"]
    assert differences(before, before, "settings") == []


def test_a_fingerprint_follows_name_settings_and_parents_alone(tmp_path: Path) -> None:
    one = Artifact(tmp_path / "corpus", {"seed": 1}, {"human_train": "a"})
    assert one.fingerprint == Artifact(tmp_path / "elsewhere" / "corpus", {"seed": 1}, {"human_train": "a"}).fingerprint
    others = [
        Artifact(tmp_path / "model", {"seed": 1}, {"human_train": "a"}),
        Artifact(tmp_path / "corpus", {"seed": 2}, {"human_train": "a"}),
        Artifact(tmp_path / "corpus", {"seed": 1}, {"human_train": "b"}),
        Artifact(tmp_path / "corpus", {"seed": 1}, {"human_heldout": "a"}),
        Artifact(tmp_path / "corpus", {"seed": 1, "human_train": "a"}),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 6


@pytest.mark.processes
def test_a_fingerprint_is_the_same_in_every_process_and_key_order(tmp_path: Path) -> None:
    settings = {"seed": 1, "mix": {"policy": "anchor", "num_records": None}, "temperatures": [1.0, 0.7], "name": "é"}
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from storage.artifacts.artifact import Artifact
settings = {settings!r}
turned = {{key: settings[key] for key in reversed(settings)}}
turned["mix"] = {{key: settings["mix"][key] for key in reversed(settings["mix"])}}
print(Artifact(Path("corpus"), turned, {{"b": "2", "a": "1"}}).fingerprint)
"""
    fingerprint = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    ).stdout.strip()
    assert fingerprint == Artifact(tmp_path / "corpus", settings, {"a": "1", "b": "2"}).fingerprint
    assert len(fingerprint) == 16


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    artifact = _published(tmp_path / "corpus")
    _edit_manifest(artifact.folder, format=FORMAT + 1)
    for reading in (artifact.exists, lambda: read_table(artifact.folder), lambda: read_manifest(artifact.folder)):
        with pytest.raises(ArtifactMissingError, match=f"has format {FORMAT + 1}, this Heirloom reads format {FORMAT}"):
            reading()


def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    artifact = _published(tmp_path / "corpus")
    (artifact.folder / MANIFEST).write_text('{"format": 2, "na')
    with pytest.raises(ArtifactMissingError, match="cannot be read"):
        artifact.exists()


def test_a_lost_part_is_named(tmp_path: Path) -> None:
    artifact = _published(tmp_path / "corpus", _table(1), _table(2), _table(3))
    (artifact.folder / "part-00001.parquet").unlink()
    with pytest.raises(ArtifactMissingError, match=r"is missing part-00001\.parquet"):
        read_table(artifact.folder)


def test_a_file_that_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    artifact = _published(tmp_path / "corpus", _table(1))
    write_parquet(_table(2), artifact.folder / "part-00001.parquet")
    assert read_table(artifact.folder)["number"].to_pylist() == [1]
    assert part_paths(artifact.folder) == [artifact.folder / "part-00000.parquet"]


def test_parts_are_read_in_order_and_columns_as_asked(tmp_path: Path) -> None:
    artifact = _published(tmp_path / "corpus", *(_table(number) for number in range(12)))
    assert read_table(artifact.folder)["number"].to_pylist() == list(range(12))
    assert read_table(artifact.folder, ["text"]).column_names == ["text"]


def test_the_manifest_records_inputs_settings_files_and_facts(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "model", {"seed": 1}, {"corpus": "abcd"})
    with artifact.draft() as draft:
        draft.write_part(_table(1, 2))
        (draft.folder / "weights").mkdir()
        (draft.folder / "weights" / "model.bin").write_bytes(b"12345")
        draft.facts = {"tokens": 5}
    manifest = read_manifest(artifact.folder)
    assert manifest["files"]["weights/model.bin"] == {"bytes": 5, "sha256": hashlib.sha256(b"12345").hexdigest()}
    assert sorted(manifest["files"]) == ["part-00000.parquet", "weights/model.bin"]
    recorded = {key: manifest[key] for key in ("format", "name", "fingerprint", "settings", "parents", "rows", "facts")}
    assert recorded == {
        "format": FORMAT,
        "name": "model",
        "fingerprint": artifact.fingerprint,
        "settings": {"seed": 1},
        "parents": {"corpus": "abcd"},
        "rows": 2,
        "facts": {"tokens": 5},
    }
    assert manifest["started"] <= manifest["finished"]
    assert manifest["provenance"]["versions"]["python"]


def test_a_second_publish_never_overwrites_the_first(tmp_path: Path) -> None:
    artifact = _published(tmp_path / "corpus", _table(1))
    before = _contents(artifact.folder)
    with pytest.raises(OSError, match="not empty"), artifact.draft() as draft:
        draft.write_part(_table(2))
    assert _contents(artifact.folder) == before


def test_a_twin_is_adopted_with_its_files_rows_and_facts(tmp_path: Path) -> None:
    first = Artifact(tmp_path / "one" / "model", {"seed": 1})
    with first.draft() as draft:
        draft.write_part(_table(1, 2))
        (draft.folder / "deep").mkdir()
        (draft.folder / "deep" / "weights").write_bytes(b"abc")
        draft.facts = {"tokens": 7}
    second = Artifact(tmp_path / "two" / "model", {"seed": 1})
    second.copy_from(first.folder)
    assert second.exists()
    one, other = _contents(first.folder), _contents(second.folder)
    assert {name: content for name, content in one.items() if name != MANIFEST} == {
        name: content for name, content in other.items() if name != MANIFEST
    }
    manifest = read_manifest(second.folder)
    assert (manifest["rows"], manifest["facts"]["tokens"]) == (2, 7)
    assert manifest["facts"]["copied_from"] == read_manifest(first.folder)["provenance"]["command"]


def test_an_adopted_model_lives_on_when_its_twin_is_removed(tmp_path: Path) -> None:
    first = _published(tmp_path / "one" / "model", _table(1))
    second = Artifact(tmp_path / "two" / "model", {})
    second.copy_from(first.folder)
    (first.folder / "part-00000.parquet").write_bytes(b"")
    assert read_table(second.folder)["number"].to_pylist() == [1]


def test_what_was_made_differently_or_is_not_there_is_not_adopted(tmp_path: Path) -> None:
    other = _published(tmp_path / "one" / "model", seed=2)
    mine = Artifact(tmp_path / "two" / "model", {"seed": 1})
    with pytest.raises(DriftError, match=r"settings\.seed was 2, is now 1"):
        mine.copy_from(other.folder)
    with pytest.raises(ArtifactMissingError):
        mine.copy_from(tmp_path / "nowhere")
    assert not mine.exists()


def test_long_tables_are_written_in_row_groups(tmp_path: Path) -> None:
    write_parquet(pa.table({"number": range(40_000)}), tmp_path / "long.parquet")
    written = pq.read_metadata(tmp_path / "long.parquet")
    assert [written.row_group(group).num_rows for group in range(written.num_row_groups)] == [16_384, 16_384, 7_232]


@pytest.mark.parametrize("name", ["../.bashrc", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\b", "..", "", "a\0b"])
def test_a_manifest_that_lists_a_file_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    artifact = _published(tmp_path / "corpus")
    list_file(artifact.folder, name)
    with pytest.raises(ArtifactMissingError, match="not a path inside of the artifact"):
        read_manifest(artifact.folder)


def test_an_artifact_with_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    artifact = _published(tmp_path / "corpus")
    (tmp_path / "private.txt").write_text("a secret")
    (artifact.folder / "weights.bin").symlink_to(tmp_path / "private.txt")
    read_manifest(artifact.folder)
    list_file(artifact.folder, "weights.bin")
    with pytest.raises(ArtifactMissingError, match=r"weights\.bin is a symbolic link"):
        read_manifest(artifact.folder)
    linked = artifact.folder.with_name("linked")
    linked.symlink_to(artifact.folder)
    (artifact.folder / "weights.bin").unlink()
    with pytest.raises(ArtifactMissingError, match="linked is a symbolic link"):
        read_manifest(linked)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "cannot be read"),
        ("null", "cannot be read"),
        ('{"format": "x"}', "cannot be read"),
        ('{"format": 1e999}', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (json.dumps({"format": FORMAT}), "is damaged at name: Field required"),
    ],
)
def test_a_manifest_that_is_no_manifest_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    artifact = _published(tmp_path / "corpus")
    (artifact.folder / MANIFEST).write_text(content)
    with pytest.raises(ArtifactMissingError, match=message):
        read_manifest(artifact.folder)


def test_parts_are_read_one_by_one(tmp_path: Path) -> None:
    artifact = _published(tmp_path / "corpus", _table(1, 2), _table(3))
    assert pa.concat_tables(iter_tables(artifact.folder)).equals(read_table(artifact.folder))
    part_paths(artifact.folder)[1].write_bytes(b"damaged")
    parts = iter_tables(artifact.folder)
    assert next(parts).num_rows == 2
    with pytest.raises(HeirloomError, match="part-00001"):
        next(parts)
