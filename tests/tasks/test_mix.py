from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pytest

from curation.mixing import MixSettings
from curation.selection.sampling import rarest_word_bin
from curation.text import words
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.artifacts.schemas import CANDIDATES, CORPUS, DECISIONS
from tasks.context import CuratedCandidates, GenerationHistory
from tasks.mix import mix
from tests.conftest import human_texts
from tests.tasks.conftest import PublishCandidates, StartedRun

_FIRST, _SECOND = human_texts(60, seed=51), human_texts(90, seed=52)


Pools = tuple[StartedRun, list[CuratedCandidates]]


@pytest.fixture
def pools(start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates) -> Pools:
    """Two generations of candidates: 50 of 60 survived, then 80 of 90."""
    started = start_run("tiny")
    return started, [
        publish_candidates(started.attempt(1), _FIRST, dropped=range(10)),
        publish_candidates(started.attempt(2), _SECOND, dropped=range(80, 90)),
    ]


def _mix(
    pools: Pools, settings: MixSettings, generation: int = 2, seed: int = 0, last_corpus: Artifact | None = None
) -> Artifact:
    """Mix all but the last pair as earlier generations, and the last as candidates of this one."""
    started, (*earlier, curated) = pools
    ctx = started.context(generation, mix=settings, seed=seed)
    return mix(ctx, started.human, started.history(*earlier, last_corpus=last_corpus), curated)


def _mixed(pools: Pools, seed: int = 0, **settings: object) -> tuple[Artifact, list[dict]]:
    corpus = _mix(pools, MixSettings.model_validate(settings), seed=seed)
    return corpus, read_table(corpus.folder).to_pylist()


def _counts(rows: list[dict]) -> tuple[int, int, int]:
    """Records that are human, of generation 1, of generation 2."""
    return tuple(sum(row["source_generation"] == born for row in rows) for born in range(3))


def _reserve(pools: Pools) -> list[dict]:
    return read_table(pools[0].human.train.folder).to_pylist()


def test_without_candidates_the_corpus_is_the_reserve(start_run: Callable[[str], StartedRun]) -> None:
    started = start_run("tiny")
    rows = read_table(started.corpus.folder).to_pylist()
    assert [row["id"] for row in rows] == read_table(started.human.train.folder)["id"].to_pylist()
    assert read_manifest(started.corpus.folder)["facts"] == {
        "corpus": len(rows),
        "human": len(rows),
        "human_fraction": 1.0,
        "snapshot": 1,
    }


def test_human_records_come_from_their_sources_in_the_shares_asked_for(pools: Pools) -> None:
    shares = {"letters.jsonl": 1.0}
    _, rows = _mixed(pools, policy="fixed-fraction", human_fraction=0.3, num_records=100, human_source_shares=shares)
    assert _counts(rows) == (30, 0, 70)
    with pytest.raises(ValueError, match="The mix requires 15 human records of source wiki, but only 0 are"):
        _mix(
            pools,
            MixSettings(
                policy="fixed-fraction",
                human_fraction=0.3,
                num_records=100,
                human_source_shares={"letters.jsonl": 0.5, "wiki": 0.5},
            ),
            generation=3,
        )


def test_replace_takes_the_newest_survivors_alone(pools: Pools) -> None:
    corpus, rows = _mixed(pools, policy="replace")
    assert [row["text"] for row in rows] == _SECOND[:80]
    assert read_manifest(corpus.folder)["facts"]["human_fraction"] == 0


def test_accumulate_takes_everything_so_far(pools: Pools) -> None:
    corpus, rows = _mixed(pools, policy="accumulate")
    human = len(_reserve(pools))
    assert _counts(rows) == (human, 50, 80)
    assert {row["text"] for row in rows if row["source_generation"] == 1} == set(_FIRST[10:])
    assert read_manifest(corpus.folder)["facts"]["human_fraction"] == human / (human + 130)


def test_accumulate_subsample_draws_as_many_as_the_reserve_from_everything(pools: Pools) -> None:
    human = len(_reserve(pools))
    _, rows = _mixed(pools, policy="accumulate-subsample")
    counts = _counts(rows)
    assert sum(counts) == human
    assert all(count > 0 for count in counts)


def test_a_subsample_has_the_size_that_was_asked_for(pools: Pools) -> None:
    assert len(_mixed(pools, policy="accumulate-subsample", num_records=77)[1]) == 77


def test_fixed_fraction_is_exact_to_the_record(pools: Pools) -> None:
    corpus, rows = _mixed(pools, policy="fixed-fraction", human_fraction=0.25, num_records=40)
    assert _counts(rows) == (10, 0, 30)
    facts = read_manifest(corpus.folder)["facts"]
    assert (facts["corpus"], facts["human"], facts["human_fraction"]) == (40, 10, 0.25)


def test_anchor_takes_every_human_record_and_the_newest_survivors(pools: Pools) -> None:
    _, rows = _mixed(pools, policy="anchor")
    assert _counts(rows) == (len(_reserve(pools)), 0, 80)


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "replace"},
        {"policy": "accumulate"},
        {"policy": "accumulate-subsample"},
        {"policy": "fixed-fraction", "human_fraction": 0.5},
        {"policy": "anchor"},
    ],
)
def test_every_record_is_in_a_corpus_once_and_with_its_text(pools: Pools, settings: dict) -> None:
    corpus, rows = _mixed(pools, **settings)
    assert read_table(corpus.folder).schema.equals(CORPUS)
    texts = {row["id"]: row["text"] for row in _reserve(pools)}
    texts |= {f"g001-{place:07d}": text for place, text in enumerate(_FIRST)}
    texts |= {f"g002-{place:07d}": text for place, text in enumerate(_SECOND)}
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(texts[row["id"]] == row["text"] for row in rows)
    assert all((row["origin"] == "human") == (row["source_generation"] == 0) for row in rows)
    assert {row["weight"] for row in rows} == {1.0}


def test_a_draw_follows_its_seed(pools: Pools) -> None:
    settings = MixSettings(policy="accumulate-subsample", num_records=60)

    def drawn(generation: int, seed: int) -> list[str]:
        return read_table(_mix(pools, settings, generation, seed).folder)["id"].to_pylist()

    assert drawn(2, 0) == drawn(2, 0)
    assert drawn(3, 1) != drawn(2, 0)


def test_more_than_there_is_cannot_be_asked_for(pools: Pools) -> None:
    with pytest.raises(ValueError, match="The mix requires 100 survivors, but only 80 are"):
        _mixed(pools, policy="fixed-fraction", human_fraction=0, num_records=100)
    assert not (pools[0].attempt(2).folder / "corpus").exists()


def test_a_corpus_of_nothing_is_refused(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    curated = publish_candidates(started.attempt(1), _FIRST[:3], dropped=range(3))
    with pytest.raises(ValueError, match="the corpus would be empty, since curation dropped every candidate"):
        _mix((started, [curated]), MixSettings(policy="replace"), generation=1)
    assert not (started.attempt(1).folder / "corpus").exists()


def test_survivors_with_rare_words_are_taken_as_often_as_people_write_them(
    pools: Pools,
) -> None:
    fixed = {"policy": "fixed-fraction", "human_fraction": 0.0, "num_records": 40}
    human = [row["text"] for row in _reserve(pools)]
    counts = Counter(word for text in human for word in words(text))
    expected = Counter(rarest_word_bin(human, counts).tolist())
    _, rows = _mixed(pools, stratify_by="rarity", **fixed)
    found = Counter(rarest_word_bin([row["text"] for row in rows], counts).tolist())
    there = Counter(rarest_word_bin(_SECOND[:80], counts).tolist())
    assert len(rows) == 40
    for stratum, count in found.items():
        wanted = 40 * expected[stratum] / len(human)
        assert count >= min(there[stratum], wanted - 1)


def test_of_each_cell_of_a_grid_the_same_number_is_taken(start_run: Callable[[str], StartedRun]) -> None:
    started = start_run("tiny")
    candidates, decisions = (started.attempt(1).artifact(name, {}) for name in ("candidates", "decisions"))
    rows = [
        {
            "id": f"g001-{place:07d}",
            "text": f"text {place}",
            "origin": "synthetic",
            "source_generation": 1,
            "source": "",
            "text_hash": str(place),
        }
        | {"attributes": [("tone", "odd" if place % 5 == 0 else "plain")]}
        for place in range(50)
    ]
    lost = [{"id": rows[place]["id"], "filter": "exact", "kept": False} for place in (0, 5, 6)]
    for artifact, content, schema in ((candidates, rows, CANDIDATES), (decisions, lost, DECISIONS)):
        with artifact.draft() as draft:
            draft.write_part(pa.Table.from_pylist(content, schema=schema))
    _, taken = _mixed(
        (started, [CuratedCandidates(candidates=candidates, decisions=decisions)]),
        policy="fixed-fraction",
        human_fraction=0.0,
        num_records=16,
        stratify_by="attributes",
    )
    assert Counter(int(row["id"][-7:]) % 5 == 0 for row in taken) == {True: 8, False: 8}


def test_weights_by_origin_are_in_the_corpus(pools: Pools) -> None:
    _, rows = _mixed(pools, policy="anchor", human_repeats=2.0, synthetic_repeats=0.5)
    assert {(row["origin"], row["weight"]) for row in rows} == {("human", 2.0), ("synthetic", 0.5)}


def test_a_corpus_of_human_text_alone_weighs_nothing_against_another(start_run: Callable[[str], StartedRun]) -> None:
    started = start_run("tiny")
    corpus = mix(started.context(0), started.human, GenerationHistory())
    assert set(read_table(corpus.folder)["weight"].to_pylist()) == {1.0}


def test_shares_take_from_the_last_corpus_what_it_held(pools: Pools) -> None:
    started, curated = pools
    triples = [[0.5, 0.0, 0.5], [0.5, 0.4, 0.1]]
    chosen = MixSettings.model_validate({"policy": "mixture", "mixture_weights": triples, "num_records": 40})
    last = _mix((started, curated[:1]), chosen, generation=1)
    rows = read_table(last.folder).to_pylist()
    assert _counts(rows) == (20, 20, 0)
    corpus = _mix(pools, chosen, last_corpus=last)
    now = read_table(corpus.folder).to_pylist()
    assert sum(row["source_generation"] == 2 for row in now) == 20
    held = {row["id"] for row in rows}
    assert sum(row["id"] in held for row in now) >= 16
    assert len({row["id"] for row in now}) == 40
    assert corpus.parents["previous_corpus"] == last.fingerprint
    other = _mix(pools, MixSettings(policy="replace"), generation=3, last_corpus=last)
    assert "previous_corpus" not in other.parents
