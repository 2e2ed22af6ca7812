from pathlib import Path

import pyarrow as pa

from curation.splitting import IngestSettings
from storage.blocks import Block, Document
from storage.identity import human_id
from tasks.reading import Spills, keep_former_keys, read_blocks
from tasks.repeats import Found, find_repeats
from tests.conftest import human_texts

_NONE = pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})


def _found(folder: Path, former: list[str], texts: list[str], settings: IngestSettings) -> Found:
    spills = Spills.under(folder)
    keep_former_keys(spills.keys, 0, former)
    rows = [Document(text, "a", place) for place, text in enumerate(texts)]
    read_blocks(spills, settings, (1, [Block("", 0, rows, "documents")]))
    known = pa.table({"id": [human_id(text) for text in former], "text": former}) if former else _NONE
    return find_repeats(spills, 1 << 32, known, settings, folder)


def _parted(found: Found) -> tuple[list[str], dict[int, tuple[str, str]]]:
    kept, aside = [], {}
    for span in found.records.spans():
        stay, go = found.parted(span)
        kept += stay["text"].to_pylist()
        aside.update({row["place"]: (row["stage"], row["keeper"]) for row in go.to_pylist()})
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
