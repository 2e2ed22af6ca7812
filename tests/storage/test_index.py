from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasketch import MinHash

from curation.minhash import SIGNATURE_FORMAT, MinHashSettings, band_hashes, signatures
from storage.artifact import AbsentError, DriftError
from storage.index import candidate_pairs, read_signatures, write_index

SETTINGS = MinHashSettings(shingle_length=2)
MADE = {
    "format": SIGNATURE_FORMAT,
    **SETTINGS.model_dump(mode="json", include={"shingle_unit", "shingle_length", "bands", "rows"}),
}
OLD = [
    "the old river runs slowly to the sea",
    "",
    "a quiet garden behind the northern wall",
    "letters from the harbour",
]
NEW = ["a quiet garden behind the northern wall", "nothing like it at all", "the old river runs slowly to the sea", "!"]


def _written(folder: Path, texts: list[str], made: dict[str, object] = MADE) -> Path:
    found = signatures(texts, SETTINGS)
    write_index(folder, [f"id-{row}" for row in range(len(texts))], found, band_hashes(found, SETTINGS), made)
    return folder


def test_rows_that_share_a_band_are_found_in_every_old_table(tmp_path: Path) -> None:
    new, first, second = (_written(tmp_path / name, texts) for name, texts in (("n", NEW), ("a", OLD), ("b", NEW)))
    found = candidate_pairs(new, [first, second])
    assert found.to_pylist() == [
        {"new": 0, "folder": 0, "old": 2},
        {"new": 0, "folder": 1, "old": 0},
        {"new": 1, "folder": 1, "old": 1},
        {"new": 2, "folder": 0, "old": 0},
        {"new": 2, "folder": 1, "old": 2},
    ]


def test_of_a_bucket_the_first_sixteen_old_rows_are_named(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    hashes = 4 * dice.integers(0, 15, (2, 300, 4), dtype=np.uint64) + np.arange(4, dtype=np.uint64)
    for name, found in zip("on", hashes, strict=True):
        write_index(tmp_path / name, [str(row) for row in range(300)], np.zeros((300, 4), np.uint32), found, MADE)
    expected = set()
    for value in range(1, 60):
        old, fresh = (np.flatnonzero((found == value).any(1)) for found in hashes)
        expected |= {(int(row), int(other)) for row in fresh for other in old[:16]}
    pairs = candidate_pairs(tmp_path / "n", [tmp_path / "o"], memory_limit="200MB")
    assert set(zip(pairs["new"].to_pylist(), pairs["old"].to_pylist(), strict=True)) == expected
    assert len(pairs) == len(expected)


def test_signatures_come_back_and_open_as_datasketchs(tmp_path: Path) -> None:
    ids, found = read_signatures(_written(tmp_path / "a", OLD))
    assert ids == ["id-0", "id-1", "id-2", "id-3"]
    assert found.tolist() == signatures(OLD, SETTINGS).tolist()
    opened = [MinHash(num_perm=125, seed=1, hashvalues=row, scheme="affine32") for row in found]
    assert opened[0].jaccard(opened[0]) == 1.0
    assert opened[1].is_empty()


def test_files_are_plain(tmp_path: Path) -> None:
    folder = _written(tmp_path / "a", OLD)
    for name in ("bands.parquet", "signatures.parquet"):
        group = pq.read_metadata(folder / name).row_group(0)
        for place in range(group.num_columns):
            assert group.column(place).compression == "UNCOMPRESSED"
            assert not group.column(place).has_dictionary_page
    bands = pq.read_table(folder / "bands.parquet")
    assert len(bands) == 3 * 25
    assert bands["hash"].to_pylist() == sorted(bands["hash"].to_pylist())
    assert not list(folder.glob(".*"))


def test_an_empty_table_has_an_index_too(tmp_path: Path) -> None:
    none, old = _written(tmp_path / "none", []), _written(tmp_path / "a", OLD)
    assert candidate_pairs(none, [old]).num_rows == candidate_pairs(old, [none]).num_rows == 0
    assert candidate_pairs(old, []).column_names == ["new", "folder", "old"]
    assert read_signatures(none)[0] == []


def test_indexes_of_different_settings_are_not_compared(tmp_path: Path) -> None:
    new, old = _written(tmp_path / "n", NEW), _written(tmp_path / "a", OLD, {**MADE, "shingle_length": 5})
    with pytest.raises(DriftError, match=r"made_with\.shingle_length was 5, is now 2"):
        candidate_pairs(new, [old])


def test_an_index_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    new = _written(tmp_path / "n", NEW)
    with pytest.raises(AbsentError, match="write the index first"):
        candidate_pairs(new, [tmp_path / "gone"])
    with pytest.raises(AbsentError, match="write the index first"):
        read_signatures(tmp_path / "gone")
    pq.write_table(pq.read_table(new / "bands.parquet").replace_schema_metadata(None), new / "bands.parquet")
    with pytest.raises(AbsentError, match="does not say what it was made with"):
        candidate_pairs(new, [])
