from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.artifacts.artifact import Artifact, ArtifactMissingError, read_manifest
from storage.artifacts.schemas import CANDIDATES, index_schema
from storage.artifacts.tombstones import add_tombstones
from storage.index.sketch_index import SketchIndex

BANDS = 4


def _written(root: Path, number: int, hashes: np.ndarray, texts: Sequence[str] = ()) -> tuple[Path, Path]:
    """An index of rows `g<number>-<row>` with exact keys (number, row), in parts of 7, and texts in another order."""
    attempt = root / f"runs/tiny/generation={number}/attempt=1"
    made, candidates = Artifact(attempt / "index", {}), Artifact(attempt / "candidates", {})
    count = len(hashes)
    ids, digests = [f"g{number}-{row}" for row in range(count)], [f"{number:016x}{row:016x}" for row in range(count)]
    signatures = pa.array([bytes([number, row % 256]) for row in range(count)], pa.binary(2))
    keys = (np.full(count, number, np.uint64), np.arange(count, dtype=np.uint64))
    table = pa.table([ids, digests, [number] * count, *keys, signatures, *hashes.T], schema=index_schema(1, BANDS))
    with made.draft() as draft:
        for place, start in enumerate(range(0, max(1, count), 7)):
            draft.write_part(table.slice(start, 7), place)
    rows = [
        {"id": identity, "text": text, "text_hash": digest}
        for identity, text, digest in zip(ids, texts or ids, digests, strict=True)
    ]
    with candidates.draft() as draft:
        draft.write_part(pa.Table.from_pylist(rows[::-1], schema=CANDIDATES))
    return made.folder, candidates.folder


def _random_hashes(rows: int, sides: int, seed: int = 0) -> np.ndarray:
    """Hashes of which many are alike, and each belongs to one band; none is 0."""
    return BANDS * np.random.default_rng(seed).integers(1, sides, (rows, BANDS), dtype=np.uint64) + np.arange(
        BANDS, dtype=np.uint64
    )


def _alike(rows: int) -> np.ndarray:
    return np.tile(np.arange(1, BANDS + 1, dtype=np.uint64), (rows, 1))


def test_records_that_share_a_band_are_found_in_every_table(tmp_path: Path) -> None:
    old = [_random_hashes(60, 90, seed) for seed in (1, 2)]
    found = SketchIndex([_written(tmp_path, number, hashes) for number, hashes in enumerate(old, 1)])
    new = _random_hashes(20, 90, seed=3)
    expected = [
        f"g{number}-{row}"
        for number, hashes in enumerate(old, 1)
        for row in range(60)
        if set(hashes[row].tolist()) & set(new.ravel().tolist())
    ]
    places = found.candidate_matches(new)
    assert found.select(places, ["id"])["id"].to_pylist() == expected
    assert 10 < len(expected) < 110
    assert found.texts(places) == expected


def test_of_a_bucket_the_first_sixteen_of_all_tables_are_met_and_the_last(tmp_path: Path) -> None:
    tables = [_written(tmp_path, number, _alike(rows)) for number, rows in ((1, 10), (2, 30))]
    found = SketchIndex(tables, memory_limit="100MB")
    met = found.select(found.candidate_matches(_alike(3)), ["id"])["id"].to_pylist()
    assert met == [*(f"g1-{row}" for row in range(10)), *(f"g2-{row}" for row in range(6)), "g2-29"]


def test_a_hash_counts_in_its_band_alone_and_nothing_is_no_hash(tmp_path: Path) -> None:
    found = SketchIndex([_written(tmp_path, 1, np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.uint64))])
    assert found.candidate_matches(np.array([[2, 3, 4, 1], [0, 0, 0, 0]], np.uint64)).tolist() == []
    assert found.candidate_matches(np.array([[9, 9, 9, 4]], np.uint64)).tolist() == [0]


def test_the_same_keys_are_found_in_order_of_their_tables(tmp_path: Path) -> None:
    found = SketchIndex([_written(tmp_path, number, _random_hashes(20, 9)) for number in (1, 2)])
    places = found.exact_matches(np.array([[2, 3], [1, 19], [9, 9], [1, 0], [3, 2]], np.uint64))
    assert found.select(places, ["source_generation", "low"]).to_pylist() == [
        {"source_generation": 1, "low": 0},
        {"source_generation": 1, "low": 19},
        {"source_generation": 2, "low": 3},
    ]


def test_erased_records_are_not_found_and_do_not_fill_a_bucket(tmp_path: Path) -> None:
    tables = [_written(tmp_path, 1, _alike(18))]
    add_tombstones(tmp_path, {f"g1-{row}": f"{1:016x}{row:016x}" for row in (0, 3, 17)}, "")
    found = SketchIndex(tables)
    met = found.select(found.candidate_matches(_alike(1)), ["id"])["id"].to_pylist()
    assert met == [f"g1-{row}" for row in range(18) if row not in (0, 3, 17)]
    assert found.exact_matches(np.array([[1, 3]], np.uint64)).tolist() == []


def test_hashes_are_not_packed_and_what_can_be_is(tmp_path: Path) -> None:
    folder, _ = _written(tmp_path, 1, _random_hashes(7, 9))
    group = pq.read_metadata(folder / "part-00000.parquet").row_group(0)
    packed = {group.column(place).path_in_schema: group.column(place).compression for place in range(group.num_columns)}
    assert {name for name, how in packed.items() if how == "ZSTD"} == {"id", "text_hash", "source_generation"}
    assert {packed[name] for name in ("signature", "high", "band_0")} == {"UNCOMPRESSED"}


def test_without_index_or_rows_nothing_matches(tmp_path: Path) -> None:
    none = SketchIndex([])
    assert (
        none.candidate_matches(_random_hashes(3, 9)).tolist()
        == none.exact_matches(np.ones((1, 2), np.uint64)).tolist()
        == []
    )
    assert none.select(none.candidate_matches(_random_hashes(3, 9)), ["id", "source_generation"]).column_names == [
        "id",
        "source_generation",
    ]
    assert none.texts(none.candidate_matches(_random_hashes(3, 9))) == []
    empty = SketchIndex([_written(tmp_path, 1, _random_hashes(0, 9)), _written(tmp_path, 2, _random_hashes(9, 9))])
    assert len(empty.candidate_matches(_random_hashes(0, 9))) == 0
    assert len(empty.candidate_matches(_random_hashes(9, 9))) == 9


def test_an_index_that_is_not_whole_or_names_what_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match="there is no finished artifact"):
        SketchIndex([(tmp_path / "gone", tmp_path)])
    made, candidates = _written(tmp_path, 1, _random_hashes(9, 9))
    _, others = _written(tmp_path, 2, _random_hashes(3, 9))
    with pytest.raises(ArtifactMissingError, match="lacks records that its index contains"):
        SketchIndex([(made, others)]).texts(np.array([0], np.int64))
    (made / "part-00001.parquet").unlink()
    with pytest.raises(ArtifactMissingError, match="is missing part-00001"):
        SketchIndex([(made, candidates)])
    assert read_manifest(candidates)["rows"] == 9
