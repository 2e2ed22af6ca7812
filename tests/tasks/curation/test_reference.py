"""The corpus that another is compared with: the same result by sketches as by texts, and no files left over."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.dedup.minhash import MinHashSettings
from curation.pipeline import CurateSettings
from storage.readers.base import Columns
from tasks.curation import reference as against
from tasks.curation.reference import load_reference, read_texts
from tasks.curation.standalone import curate_corpus
from tests.conftest import human_texts

_SETTINGS = CurateSettings(filters=("exact", "human_overlap", "minhash"), minhash=MinHashSettings(threshold=0.6))


def _written(path: Path, texts: list[object]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.mark.slow
def test_decisions_beside_sketches_are_those_beside_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = human_texts(60)
    edited = [f"{text} It was {word} so." for text in texts[:40] for word in ("always", "never")]
    new = _written(tmp_path / "new.jsonl", [*edited[1::2], *texts[5:9], *human_texts(30, seed=4)])
    old = [_written(tmp_path / "old.jsonl", [*texts, "!", 7, ""]), _written(tmp_path / "older.jsonl", edited[::2])]
    # A semantic filter reads all reference texts, so they are kept in memory.
    meaning = {"filters": (*_SETTINGS.filters, "semantic"), "encoder": "hashing"}
    whole = curate_corpus(new, old, Columns("text"), tmp_path / "whole", _SETTINGS.model_copy(update=meaning))
    expected = [
        row for row in pq.read_table(tmp_path / "whole/decisions.parquet").to_pylist() if row["filter"] != "semantic"
    ]
    for part in (7, 65_536):
        monkeypatch.setattr(against, "_PART_ROWS", part)
        facts = curate_corpus(new, old, Columns("text"), tmp_path / f"parts-{part}", _SETTINGS)
        assert pq.read_table(tmp_path / f"parts-{part}/decisions.parquet").to_pylist() == expected
        assert facts["examples"] == [pair for pair in whole["examples"] if pair["filter"] != "semantic"]
        assert not [*tmp_path.glob(".*")]
    assert len({row["filter"] for row in expected if not row["kept"]}) == 2


def test_dedup_filters_keep_no_reference_text_in_memory(tmp_path: Path) -> None:
    old, folder = _written(tmp_path / "old.jsonl", list(human_texts(20))), tmp_path / "sketches"
    masked = _SETTINGS.model_copy(update={"minhash": MinHashSettings(max_shingle_document_frequency=0.5)})
    held = {}
    for name, settings in (("sketched", _SETTINGS), ("masked", masked), ("idle", CurateSettings(filters=("quality",)))):
        with load_reference([old], Columns("text"), settings, folder, hash_only=False) as found:
            held[name] = (len(found.records), found.index is not None, found.content_hash)
        assert not folder.exists()
    with load_reference([old], Columns("text"), _SETTINGS, folder, hash_only=True) as found:
        digest = found.content_hash
        assert not folder.exists()
    assert held == {"sketched": (0, True, digest), "masked": (20, False, digest), "idle": (0, False, digest)}


def test_what_cannot_be_read_is_named_and_does_not_count(tmp_path: Path) -> None:
    content = hashlib.sha256()
    found = list(read_texts([_written(tmp_path / "some.jsonl", ["one text", 7])], Columns("text"), content))
    assert [(one.id, one.text, one.reason) for one in found] == [
        (f"{tmp_path}/some.jsonl#0", "one text", ""),
        (f"{tmp_path}/some.jsonl#1", "", "no text in column text"),
    ]
    assert content.hexdigest() == hashlib.sha256(b"8\0one text").hexdigest()
