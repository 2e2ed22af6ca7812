import json
import random
import re
import shutil
from pathlib import Path

import pytest

from storage.artifacts.artifact import FORMAT, MANIFEST
from storage.artifacts.model_files import remove_weights
from storage.artifacts.seals import TOMBSTONES_FILE
from storage.files import manifest_digest
from storage.maintenance.verify import verify
from storage.runs.run import Run

ATTEMPT = "runs/tiny/generation=2/attempt=1"


def _fault(store: Path) -> str:
    """The one fault of a store."""
    (fault,) = verify(store).errors
    return fault


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_store_as_it_was_written_has_no_fault_and_is_counted(store: Path) -> None:
    reported: list[tuple[int, int]] = []
    found = verify(store, on_progress=lambda done, of: reported.append((done, of)))
    assert found.errors == ()
    assert found.artifacts == len(list(store.rglob(MANIFEST))) == reported[-1][0] == reported[-1][1]
    assert found.bytes == sum(
        listed["bytes"] for path in store.rglob(MANIFEST) for listed in json.loads(path.read_text())["files"].values()
    )
    assert verify(store, ["tiny"]).artifacts == found.artifacts - 3


def test_a_missing_store_or_run_is_an_error(store: Path) -> None:
    with pytest.raises(ValueError, match="There is no store"):
        verify(store / "nowhere")
    with pytest.raises(ValueError, match="There is no run ghost"):
        verify(store, ["ghost"])


def test_any_flipped_bit_of_any_file_of_an_artifact_is_a_fault(store: Path) -> None:
    rng = random.Random(0)
    files = sorted(
        path
        for path in store.rglob("*")
        if path.is_file() and path.parents[1].name.startswith(("attempt=", "snapshot="))
    )
    assert len(files) > 50
    for path in rng.sample(files, 25):
        before = path.read_bytes()
        content = bytearray(before)
        place = rng.randrange(len(content))
        content[place] ^= 1 << rng.randrange(7)
        path.write_bytes(content)
        # White space between the values of a manifest has no meaning.
        if path.name != MANIFEST or not before[place : place + 1].isspace():
            assert any(path.parent.name in fault for fault in verify(store).errors), (path, place)
        path.write_bytes(before)
    assert verify(store).errors == ()


def test_a_vanished_part_is_named_with_what_to_do(store: Path) -> None:
    (store / ATTEMPT / "corpus/part-00000.parquet").unlink()
    assert "corpus/part-00000.parquet is missing; restore it" in _fault(store)
    assert "let heirloom run tiny create it again" in _fault(store)


def test_damaged_human_text_can_be_created_again_by_ingest(store: Path) -> None:
    (store / "human/letters/snapshot=1/human_heldout/part-00000.parquet").unlink()
    assert "let heirloom ingest with the same documents create it again" in _fault(store)


def test_a_truncated_file_is_distinguished_from_a_changed_one(store: Path) -> None:
    path = store / ATTEMPT / "eval_samples/part-00000.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    assert f"is truncated: 100 of {len(content):,} bytes" in _fault(store)
    path.write_bytes(content[:-1] + b"X")
    assert "has other content than was written" in _fault(store)


def test_a_stray_file_is_named(store: Path) -> None:
    (store / ATTEMPT / "corpus/part-00009.parquet").write_bytes(b"stray")
    assert "part-00009.parquet is not in the manifest" in _fault(store)


def test_a_changed_manifest_is_named_whatever_was_changed_in_it(store: Path) -> None:
    _edit(store / ATTEMPT / "verdict" / MANIFEST, facts={"action": "go", "reasons": ["forged"]})
    assert "the manifest at" in _fault(store)
    assert "has been changed since it was written" in _fault(store)


def test_a_manifest_without_a_seal_has_been_changed(store: Path) -> None:
    path = store / ATTEMPT / "verdict" / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["manifest_digest"]
    path.write_text(json.dumps(manifest))
    assert "has been changed since it was written" in _fault(store)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"settings": {"limits": []}}, "does not have the fingerprint"),
        ({"rows": 99}, "rows, and its manifest lists 99"),
    ],
)
def test_a_manifest_with_a_recomputed_digest_must_still_match_its_fingerprint_and_rows(
    change: dict[str, object], fault: str, store: Path
) -> None:
    path = store / ATTEMPT / "verdict" / MANIFEST
    manifest = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({**manifest, "manifest_digest": manifest_digest(manifest)}))
    assert fault in _fault(store)


def test_an_unreadable_a_lost_and_a_newer_manifest_are_each_named(store: Path) -> None:
    path = store / ATTEMPT / "verdict" / MANIFEST
    before = path.read_text()
    path.write_text(before[:50])
    assert "cannot be read" in _fault(store)
    path.write_text("[]")
    assert "cannot be read" in _fault(store)
    path.unlink()
    assert "there is no finished artifact at" in _fault(store)
    path.write_text(json.dumps({**json.loads(before), "format": FORMAT + 1}))
    assert "upgrade Heirloom" in _fault(store)


def test_a_missing_parent_is_named_once_with_its_children(store: Path) -> None:
    shutil.rmtree(store / ATTEMPT / "candidates")
    assert "candidates " in _fault(store)
    assert "is missing or changed" in _fault(store)


def test_human_text_that_is_gone_is_missed(store: Path) -> None:
    shutil.rmtree(store / "human")
    faults = verify(store, ["tiny"]).errors
    assert sorted(fault.split()[0] for fault in faults) == ["human_heldout", "human_train"]


def test_an_accepted_generation_without_its_verdict_is_named(store: Path) -> None:
    shutil.rmtree(store / "runs/tiny/generation=3/attempt=1/verdict")
    assert "its generation is accepted in the journal" in _fault(store)


def test_a_torn_line_of_the_journal_is_named_but_not_the_last_one_of_a_live_run(store: Path) -> None:
    run = Run(store, "tiny")
    with (run.folder / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "acc')
    with run.lock():
        assert verify(store).errors == ()
    assert "is no entry, and ignored" in _fault(store)


def test_drafts_are_no_fault(store: Path) -> None:
    draft = store / ATTEMPT / ".corpus.draft"
    draft.mkdir()
    (draft / "part-00000.parquet").write_bytes(b"half")
    assert verify(store).errors == ()


def test_weights_that_were_removed_on_purpose_are_no_fault(store: Path) -> None:
    remove_weights(store / ATTEMPT / "model")
    found = verify(store)
    assert found.errors == ()
    assert found.without_weights == 1
    (store / ATTEMPT / "model/part-00000.parquet").unlink()
    assert "model/part-00000.parquet is missing" in _fault(store)


def test_a_recipe_and_tombstones_that_cannot_be_read_are_named(store: Path) -> None:
    (store / "runs/tiny/run.json").write_text("{")
    assert re.search(r"Cannot read .*run\.json", _fault(store))
    (store / TOMBSTONES_FILE).write_text("{")
    assert any(TOMBSTONES_FILE in fault for fault in verify(store).errors)
