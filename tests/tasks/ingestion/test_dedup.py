from pathlib import Path

import pyarrow as pa

from curation.dedup.minhash import MinHashSettings, find_near_duplicates
from curation.splitting import DedupSettings, IngestSettings
from storage.artifacts.artifact import Artifact
from storage.artifacts.ids import human_id, text_hash
from storage.artifacts.schemas import HUMAN_RECORDS
from storage.readers.base import Block, Document
from tasks.ingestion.dedup import DedupResult, find_duplicates
from tasks.ingestion.read import BlockBatch, ScratchTables, index_previous_keys, read_blocks
from tests.conftest import human_texts


def _publish_previous(folder: Path, texts: list[str], part_rows: int) -> list[Path]:
    """Publish the two splits of a previous snapshot, in parts of `part_rows` records."""
    rows = [
        {"id": human_id(text), "text_hash": text_hash(text), "source_generation": 0, "text": text} for text in texts
    ]
    half = len(rows) // 2
    for split, split_rows in (("human_train", rows[:half]), ("human_heldout", rows[half:])):
        with Artifact(folder / "previous" / split, {}).draft() as draft:
            for number, start in enumerate(range(0, max(1, len(split_rows)), part_rows)):
                part = pa.Table.from_pylist(split_rows[start : start + part_rows], schema=HUMAN_RECORDS)
                draft.write_part(part, number)
    return [folder / "previous" / split for split in ("human_train", "human_heldout")]


def _find_duplicates(
    folder: Path, previous: list[str], texts: list[str], settings: DedupSettings, part_rows: int = 7
) -> DedupResult:
    tables = ScratchTables.in_folder(folder)
    index_previous_keys(tables.keys, 0, previous)
    documents = [Document(text, "a", row) for row, text in enumerate(texts)]
    read_blocks(tables, IngestSettings(), BlockBatch(number=1, blocks=[Block("", 0, documents, "documents")]))
    snapshot = _publish_previous(folder, previous, part_rows) if previous else []
    return find_duplicates(tables, 1 << 32, snapshot, settings, folder)


def _kept_and_rejected(result: DedupResult) -> tuple[list[str], list[dict[str, object]]]:
    kept, rejected = [], []
    for partitions in result.records.spans_in_memory():
        partition = result.remove_duplicates(partitions)
        kept += partition.kept["text"].to_pylist()
        rejected += partition.rejected.to_pylist()
    return kept, rejected


def _filter_and_original(rejected: list[dict[str, object]]) -> dict[object, tuple[object, object]]:
    return {row["row_number"]: (row["filter"], row["duplicate_of"]) for row in rejected}


def test_the_earliest_of_several_duplicates_is_kept(tmp_path: Path) -> None:
    texts = human_texts(40)
    duplicates = [f"{texts[3]} \n", texts[3], texts[5].replace(" It was", " Then it was")]
    kept, rejected = _kept_and_rejected(_find_duplicates(tmp_path, [], texts + duplicates, DedupSettings()))
    assert sorted(kept) == sorted(texts)
    assert _filter_and_original(rejected) == {
        40: ("exact", human_id(texts[3])),
        41: ("exact", human_id(texts[3])),
        42: ("minhash", human_id(texts[5])),
    }


def test_a_duplicate_of_the_previous_snapshot_is_rejected(tmp_path: Path) -> None:
    texts = human_texts(40)
    near = texts[5].replace(" It was", " Then it was")
    result = _find_duplicates(tmp_path, texts[:20], [texts[3], near, *texts[20:]], DedupSettings())
    kept, rejected = _kept_and_rejected(result)
    assert sorted(kept) == sorted(texts[20:])
    assert _filter_and_original(rejected) == {0: ("exact", human_id(texts[3])), 1: ("minhash", human_id(texts[5]))}


def test_the_exact_method_keeps_near_duplicates(tmp_path: Path) -> None:
    texts = human_texts(20)
    near = texts[5].replace(" It was", " Then it was")
    result = _find_duplicates(tmp_path, [], [*texts, near, texts[0]], DedupSettings(method="exact"))
    kept, rejected = _kept_and_rejected(result)
    assert sorted(kept) == sorted([*texts, near])
    assert _filter_and_original(rejected) == {21: ("exact", human_id(texts[0]))}


def test_a_previous_snapshot_in_many_parts_gives_the_same_duplicates_as_one_in_memory(tmp_path: Path) -> None:
    texts = human_texts(60)
    edited = [f"{text} It was {word} so." for text in texts[:40] for word in ("always", "never")]
    previous, new, minhash = [*texts, *edited[::2]], edited[1::2], MinHashSettings(threshold=0.6)
    matches = find_near_duplicates(new, previous, minhash)
    expected = {
        row: (human_id(previous[original]), similarity)
        for row, (original, similarity) in enumerate(
            zip(matches.duplicate_of.tolist(), matches.similarity.tolist(), strict=True)
        )
    }
    for part_rows in (7, 1000):
        result = _find_duplicates(tmp_path / f"{part_rows}", previous, new, DedupSettings(minhash=minhash), part_rows)
        _, rejected = _kept_and_rejected(result)
        assert {row["row_number"]: (row["duplicate_of"], row["score"]) for row in rejected} == expected


def test_document_frequency_of_shingles_counts_previous_texts(tmp_path: Path) -> None:
    previous = [f"Dear sir or madam, I write about number {number}." for number in range(40)]
    new = "Dear sir or madam, I write about number 41."
    for max_frequency, num_kept in ((None, 0), (0.5, 1)):
        minhash = MinHashSettings(threshold=0.5, max_shingle_document_frequency=max_frequency)
        result = _find_duplicates(tmp_path / f"{max_frequency}", previous, [new], DedupSettings(minhash=minhash))
        assert len(_kept_and_rejected(result)[0]) == num_kept
