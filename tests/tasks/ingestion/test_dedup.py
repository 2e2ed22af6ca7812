from pathlib import Path

import pyarrow as pa

from curation.dedup.minhash import MinHashSettings, find_near_duplicates
from curation.splitting import IngestSettings
from storage.artifacts.artifact import Artifact
from storage.artifacts.ids import human_id, text_hash
from storage.artifacts.schemas import HUMAN_RECORDS
from storage.readers.base import Block, Document
from tasks.ingestion.dedup import DedupResult, find_duplicates
from tasks.ingestion.read import ScratchTables, index_previous_keys, read_blocks
from tests.conftest import human_texts


def _known(folder: Path, texts: list[str], part: int) -> list[Path]:
    """Two artifacts of records that were there before, in parts of so many."""
    rows = [
        {"id": human_id(text), "text_hash": text_hash(text), "source_generation": 0, "text": text} for text in texts
    ]
    half = len(rows) // 2
    for side, some in (("human_train", rows[:half]), ("human_heldout", rows[half:])):
        with Artifact(folder / "known" / side, {}).draft() as draft:
            for number, start in enumerate(range(0, max(1, len(some)), part)):
                draft.write_part(pa.Table.from_pylist(some[start : start + part], schema=HUMAN_RECORDS), number)
    return [folder / "known" / side for side in ("human_train", "human_heldout")]


def _found(folder: Path, former: list[str], texts: list[str], settings: IngestSettings, part: int = 7) -> DedupResult:
    spills = ScratchTables.in_folder(folder)
    index_previous_keys(spills.keys, 0, former)
    rows = [Document(text, "a", place) for place, text in enumerate(texts)]
    read_blocks(spills, settings, (1, [Block("", 0, rows, "documents")]))
    return find_duplicates(spills, 1 << 32, _known(folder, former, part) if former else [], settings, folder)


def _parted(found: DedupResult) -> tuple[list[str], dict[int, tuple[str, str]]]:
    kept, aside = [], {}
    for span in found.records.spans_in_memory():
        stay, go = found.partition(span)
        kept += stay["text"].to_pylist()
        aside.update({row["row_number"]: (row["filter"], row["duplicate_of"]) for row in go.to_pylist()})
    return kept, aside


def test_the_earliest_stays_and_speaks_for_the_others(tmp_path: Path) -> None:
    texts = human_texts(40)
    later = [texts[3].upper(), texts[3], texts[5].replace(" It was", " Then it was")]
    kept, aside = _parted(_found(tmp_path, [], texts + later, IngestSettings()))
    assert sorted(kept) == sorted(texts)
    assert aside == {
        40: ("exact", human_id(texts[3])),
        41: ("exact", human_id(texts[3])),
        42: ("minhash", human_id(texts[5])),
    }


def test_what_an_earlier_snapshot_says_keeps_newcomers_out(tmp_path: Path) -> None:
    texts = human_texts(40)
    near = texts[5].replace(" It was", " Then it was")
    kept, aside = _parted(_found(tmp_path, texts[:20], [texts[3], near, *texts[20:]], IngestSettings()))
    assert sorted(kept) == sorted(texts[20:])
    assert aside == {0: ("exact", human_id(texts[3])), 1: ("minhash", human_id(texts[5]))}


def test_near_duplicates_can_be_let_in(tmp_path: Path) -> None:
    texts = human_texts(20)
    near = texts[5].replace(" It was", " Then it was")
    kept, aside = _parted(_found(tmp_path, [], [*texts, near, texts[0]], IngestSettings(repeats="exact")))
    assert sorted(kept) == sorted([*texts, near])
    assert aside == {21: ("exact", human_id(texts[0]))}


def test_earlier_records_are_met_part_by_part_as_they_are_together(tmp_path: Path) -> None:
    texts = human_texts(60)
    edited = [f"{text} It was {word} so." for text in texts[:40] for word in ("always", "never")]
    former, new, likeness = [*texts, *edited[::2]], edited[1::2], MinHashSettings(threshold=0.6)
    whole = find_near_duplicates(new, former, likeness)
    expected = {
        place: (human_id(former[keeper]), similarity)
        for place, (keeper, similarity) in enumerate(
            zip(whole.duplicate_of.tolist(), whole.similarity.tolist(), strict=True)
        )
    }
    for part in (7, 1000):
        found = _found(tmp_path / f"{part}", former, new, IngestSettings(near_duplicates=likeness), part)
        rows = [row for span in found.records.spans_in_memory() for row in found.partition(span)[1].to_pylist()]
        assert {row["row_number"]: (row["duplicate_of"], row["score"]) for row in rows} == expected


def test_where_common_shingles_are_masked_earlier_records_are_compared_whole(tmp_path: Path) -> None:
    former = [f"Dear sir or madam, I write about number {number}." for number in range(40)]
    other = "Dear sir or madam, I write about number 41."
    for share, kept in ((None, 0), (0.5, 1)):
        likeness = MinHashSettings(threshold=0.5, max_shingle_document_frequency=share)
        found = _found(tmp_path / f"{share}", former, [other], IngestSettings(near_duplicates=likeness))
        assert len(_parted(found)[0]) == kept
