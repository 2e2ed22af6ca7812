import random
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.decisions import FilterResult, RecordSet
from curation.dedup.exact import exact_keys
from curation.dedup.minhash import (
    SIGNATURE_FORMAT,
    MinHashSettings,
    band_hashes,
    find_near_duplicates,
    find_near_duplicates_indexed,
    signature_low16,
    signatures,
)
from curation.filters.base import FilterContext
from curation.pipeline import CurateSettings, run_filters
from storage.artifacts.artifact import Artifact, DriftError, read_manifest, read_table
from storage.artifacts.ids import text_hash
from storage.artifacts.schemas import CANDIDATES
from storage.artifacts.tombstones import add_tombstones
from storage.maintenance.erase import redact
from storage.maintenance.verify import verify
from storage.runs.fork import fork
from storage.runs.run import Run
from tasks.context import CuratedCandidates
from tasks.curation.curate import curate
from tasks.curation.dedup_index import (
    ReferenceIndexes,
    StoredIndex,
    compute_sketches,
    index_human_train,
    index_survivors,
    open_reference_indexes,
    stored_signatures,
)
from tests.conftest import human_texts
from tests.tasks.conftest import PublishCandidates, StartedRun

LOOSE = MinHashSettings(threshold=0.5, shingle_length=1, num_bands=4, rows_per_band=1)
"""So few and so short bands that every bucket is large."""


def _table(texts: Sequence[str], generation: int = 1) -> pa.Table:
    rows = [
        {
            "id": f"g{generation:03d}-{row:07d}",
            "text": text,
            "source_generation": generation,
            "text_hash": text_hash(text),
        }
        for row, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=CANDIDATES)


def _stored(root: Path, chosen: MinHashSettings, *generations: Sequence[str], part: int = 1000) -> StoredIndex:
    tables = []
    for number, texts in enumerate(generations, 1):
        attempt = root / f"runs/tiny/generation={number}/attempt=1"
        candidates, made = Artifact(attempt / "candidates", {}), Artifact(attempt / "index", {})
        table = _table(texts, number)
        with candidates.draft() as draft:
            draft.write_part(table)
        with made.draft() as draft:
            for place, start in enumerate(range(0, max(1, len(table)), part)):
                draft.write_part(compute_sketches(table.slice(start, part), chosen), place)
        tables.append((made, candidates))
    return StoredIndex(tables)


def _related(count: int, seed: int) -> list[str]:
    """Texts of one template and a few words of their own, many of them edited copies."""
    rng = random.Random(seed)
    words = [f"word{number}" for number in range(60)]
    texts: list[str] = []
    while len(texts) < count:
        own = rng.choice(texts).split()[3:] if texts and rng.random() < 0.6 else rng.sample(words, 12)
        own[rng.randrange(12)] = rng.choice(words)
        texts.append(" ".join(["dear", "sir", rng.choice(["or", "and"]), *own]))
    return texts


@pytest.mark.parametrize(
    "chosen", [LOOSE, MinHashSettings(threshold=0.6, shingle_length=2)], ids=["large buckets", "as usual"]
)
@pytest.mark.parametrize("among", [True, False])
@pytest.mark.parametrize("cuts", [[400], [0, 90, 90, 300, 400]], ids=["one table", "four tables"])
def test_decisions_beside_an_index_are_those_beside_the_texts(
    tmp_path: Path, chosen: MinHashSettings, among: bool, cuts: list[int]
) -> None:
    texts = _related(700, seed=3)
    old, new = texts[:400], texts[400:]
    tables = [old[start:stop] for start, stop in pairwise([0, *cuts] if cuts[0] else cuts)]
    past = _stored(tmp_path, chosen, *tables, part=70)
    ids = [f"g{place:03d}-{row:07d}" for place, table in enumerate(tables, 1) for row in range(len(table))]
    whole = find_near_duplicates(new, old, chosen, among_texts=among)
    records = RecordSet([f"new-{row}" for row in range(len(new))], new, [9] * len(new))
    known = RecordSet(ids, old, [int(identity[1:4]) for identity in ids])
    expected = FilterResult.from_duplicates(whole, records, known, "is near")
    near, found = find_near_duplicates_indexed(new, past.candidates, chosen, among_texts=among)
    assert FilterResult.from_duplicates(found, records, near, "is near") == expected
    assert (~expected.kept).sum() > 60


def test_records_that_share_a_band_are_found_and_their_texts_can_be_read(tmp_path: Path) -> None:
    old = ["a b c d e f g h", "a b c d p q r s", "i j k l m n o p"]
    past = _stored(tmp_path, MinHashSettings(shingle_length=1, num_bands=100, rows_per_band=1), old)
    near, found = find_near_duplicates_indexed(
        ["a b c d e f g h x"], past.candidates, MinHashSettings(shingle_length=1, num_bands=100, rows_per_band=1)
    )
    assert near.ids == ["g001-0000000", "g001-0000001"]
    assert (found.duplicate_of.tolist(), found.similarity.tolist()) == ([0], [8 / 9])
    assert near.read_texts(np.array([1])) == [old[1]]


def test_of_a_bucket_of_many_the_first_sixteen_and_the_last_are_met(tmp_path: Path) -> None:
    past = _stored(tmp_path, MinHashSettings(), ["the same words"] * 40, ["the same words"] * 3)
    hashes = band_hashes(signatures(["the same words"], MinHashSettings()), MinHashSettings())
    assert past.candidates(hashes).ids == [*(f"g001-{row:07d}" for row in range(16)), "g002-0000002"]


_WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=6).map(" ".join)


@pytest.mark.slow
@given(st.lists(st.lists(_WORDS, max_size=5), max_size=3), st.lists(_WORDS, min_size=1, max_size=5))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_every_dedup_filter_decides_the_same_with_an_index_and_without(
    tmp_path_factory: pytest.TempPathFactory, generations: list[list[str]], texts: list[str]
) -> None:
    likeness = MinHashSettings(threshold=0.5, shingle_length=1, num_bands=12, rows_per_band=1)
    chosen = CurateSettings(filters=("exact", "human_overlap", "minhash"), minhash=likeness)
    index = _stored(tmp_path_factory.mktemp("store"), likeness, *generations)
    rows = [
        (f"g{generation:03d}-{row:07d}", text, generation)
        for generation, known_texts in enumerate(generations, 1)
        for row, text in enumerate(known_texts)
    ]
    known = RecordSet([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    records = RecordSet([f"new-{row}" for row in range(len(texts))], texts, [9] * len(texts))
    by_texts = FilterContext(human_train=known, survivors=known)
    by_index = FilterContext(human_index=index, survivor_index=index)
    decisions = list(run_filters(chosen.build_filters(), records, by_texts))
    assert list(run_filters(chosen.build_filters(), records, by_index)) == decisions
    words = {
        identity: set(text.split())
        for identity, text in zip(
            [*records.ids.to_pylist(), *known.ids.to_pylist()], [*texts, *known.text_list], strict=True
        )
    }
    for row in pa.concat_tables(decisions).to_pylist():
        if not row["kept"] and row["filter"] != "exact":
            one, other = words[row["id"]], words[row["duplicate_of"]]
            assert row["score"] == len(one & other) / len(one | other) >= 0.5


def test_stored_signatures_open_as_datasketchs_and_are_found_by_its_index() -> None:
    texts = [*_related(40, seed=1), "!?"]
    stored = compute_sketches(_table(texts), LOOSE.model_copy(update={"num_bands": 60}))["signature"]
    values = stored_signatures(pa.chunked_array([stored.combine_chunks()]))
    assert values.tolist() == signature_low16(signatures(texts, LOOSE.model_copy(update={"num_bands": 60}))).tolist()
    opened = [MinHash(num_perm=60, seed=1, hashvalues=row, scheme="affine32") for row in values]
    index = MinHashLSH(num_perm=60, params=(30, 2))
    for row, one in enumerate(opened):
        index.insert(row, one)
    for row, one in enumerate(opened[:-1]):
        similar = [other for other in range(40) if one.jaccard(opened[other]) >= 0.9]
        assert row in similar
        assert {*similar} <= {*index.query(one)}


def test_a_sketch_takes_less_than_five_hundred_bytes(tmp_path: Path) -> None:
    texts = [f"{number} {text}" for number in range(40) for text in human_texts(60)]
    _stored(tmp_path, MinHashSettings(), texts, part=10_000)
    (part,) = (tmp_path / "runs/tiny/generation=1/attempt=1/index").glob("*.parquet")
    assert part.stat().st_size < 500 * len(texts)


_NEW = human_texts(30, seed=50)
_STAGES = CurateSettings(filters=("exact", "human_overlap", "minhash"), encoder="hashing")


Curated = Callable[..., CuratedCandidates]


@pytest.fixture
def curated(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> tuple[StartedRun, Curated]:
    """A generation 0, and a way to curate texts as a later one."""
    started = start_run("tiny")

    def made(
        generation: int,
        texts: Sequence[str],
        earlier: Sequence[CuratedCandidates] = (),
        chosen: CurateSettings = _STAGES,
    ) -> CuratedCandidates:
        by_hand = publish_candidates(started.attempt(generation), texts)
        shutil.rmtree(by_hand.decisions.folder)
        ctx = started.context(generation, curate=chosen)
        decisions = curate(ctx, started.human, started.history(*earlier), by_hand.candidates)
        return CuratedCandidates(candidates=by_hand.candidates, decisions=decisions)

    return started, made


def test_a_generation_leaves_an_index_of_what_survived(curated: tuple[StartedRun, Curated]) -> None:
    started, made = curated
    decisions = made(1, [*_NEW, _NEW[0]]).decisions
    stored = read_table(started.attempt(1).folder / "index")
    assert len(stored) == 30
    assert stored["id"].to_pylist() == [f"g001-{place:07d}" for place in range(30)]
    assert np.column_stack((stored["high"], stored["low"])).tolist() == exact_keys(_NEW).tolist()
    manifest = read_manifest(started.attempt(1).folder / "index")
    assert manifest["parents"] == {"decisions": decisions.fingerprint}
    assert manifest["settings"] == {
        "format": SIGNATURE_FORMAT,
        "normalization": "text",
        "shingle_unit": "words",
        "shingle_length": 3,
        "num_bands": 25,
        "rows_per_band": 5,
    }
    assert (
        len(read_table(started.attempt(1).folder / "human_train_index"))
        == read_manifest(started.human.train.folder)["rows"]
    )


def test_the_reserve_is_sketched_once_a_run(curated: tuple[StartedRun, Curated]) -> None:
    started, made = curated
    first = made(1, _NEW[:4])
    reserve = index_human_train(started.attempt(1), started.human.train, _STAGES.minhash, [])
    assert index_human_train(started.attempt(2), started.human.train, _STAGES.minhash, [first]) == reserve
    made(2, _NEW[4:8], [first])
    assert not (started.attempt(2).folder / "human_train_index").exists()


def test_of_a_store_without_an_index_one_is_made_when_it_is_asked_for(
    curated: tuple[StartedRun, Curated], publish_candidates: PublishCandidates
) -> None:
    started, made = curated
    earlier = publish_candidates(started.attempt(1), _NEW[:6], dropped=[2])
    decisions = read_table(made(2, [_NEW[0], _NEW[2], _NEW[7]], [earlier]).decisions.folder).to_pylist()
    assert read_manifest(started.attempt(1).folder / "index")["rows"] == 5
    dropped = {row["id"]: (row["duplicate_of"], row["duplicate_of_generation"]) for row in decisions if not row["kept"]}
    assert dropped == {"g002-0000000": ("g001-0000000", 1)}


def test_a_lost_index_is_made_again_as_it_was(curated: tuple[StartedRun, Curated]) -> None:
    started, made = curated
    candidates = made(1, _NEW).candidates
    (part,) = (started.attempt(1).folder / "index").glob("*.parquet")
    content = part.read_bytes()
    shutil.rmtree(part.parent)
    curate(started.context(1, curate=_STAGES), started.human, started.history(), candidates)
    assert part.read_bytes() == content


def test_an_index_made_with_other_settings_is_refused(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    curated = publish_candidates(started.attempt(1), _NEW[:6])
    index_survivors(curated, MinHashSettings())
    with pytest.raises(DriftError, match=r"settings\.shingle_length was 3, is now 2"):
        index_survivors(curated, MinHashSettings(shingle_length=2))


def test_a_fork_may_sketch_otherwise(finished_store: Path, tmp_path: Path) -> None:
    source = Run(shutil.copytree(finished_store, tmp_path / "store"), "tiny")
    made = fork(source, 1, "other", source.recipe())
    assert not [*made.folder.glob("generation=*/attempt=*/*index")]
    assert [*source.folder.glob("generation=1/attempt=1/index")]


def test_an_erased_record_drops_no_later_duplicate(curated: tuple[StartedRun, Curated]) -> None:
    started, made = curated
    first = made(1, _NEW[:6])
    human = read_table(started.human.train.folder, ["id", "text", "text_hash"]).slice(0, 2).to_pylist()
    add_tombstones(started.run.root, {"g001-0000000": text_hash(_NEW[0]), human[0]["id"]: human[0]["text_hash"]}, "")
    assert "g001-0000000" not in read_table(started.attempt(1).folder / "index", ["id"])["id"].to_pylist()
    texts = [_NEW[0], _NEW[1], f"{_NEW[0]} Indeed.", *(f"{one['text']} Indeed." for one in human)]
    decisions = read_table(made(2, texts, [first]).decisions.folder).to_pylist()
    assert {row["duplicate_of"] for row in decisions if row["duplicate_of"]} == {"g001-0000001", human[1]["id"]}


def test_rewriting_takes_the_sketch_out_too(curated: tuple[StartedRun, Curated]) -> None:
    started, made = curated
    made(1, _NEW[:6])
    human = read_table(started.human.train.folder, ["text_hash"])["text_hash"][0].as_py()
    redact(started.run.root, [text_hash(_NEW[0]), human])
    for name, gone in (("index", text_hash(_NEW[0])), ("human_train_index", human)):
        stored = pq.read_table(started.attempt(1).folder / name)
        assert gone not in stored["text_hash"].to_pylist()
        assert read_manifest(started.attempt(1).folder / name)["rows"] == len(stored)
    assert not [fault for fault in verify(started.run.root).errors if "index" in fault]


def test_where_common_shingles_are_masked_texts_are_compared_themselves(
    curated: tuple[StartedRun, Curated], publish_candidates: PublishCandidates
) -> None:
    started, made = curated
    masked = _STAGES.model_copy(update={"minhash": MinHashSettings(max_shingle_document_frequency=0.5)})
    earlier = publish_candidates(started.attempt(1), _NEW[:6])
    assert open_reference_indexes(started.attempt(2), started.human.train, [earlier], masked) == ReferenceIndexes()
    dropped = read_table(made(2, [_NEW[0], _NEW[7]], [earlier], masked).decisions.folder).to_pylist()
    assert [row["duplicate_of"] for row in dropped if not row["kept"]] == ["g001-0000000"]
    assert not [*started.run.folder.rglob("*index")]
