from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pytest

from curation.mixing import MixSettings
from curation.selection.sampling import rarest_word_bin
from curation.text import words
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.artifacts.schemas import CANDIDATES, CORPUS, DECISIONS
from tasks.mix import mix
from tests.conftest import human_texts
from tests.tasks.conftest import Beginning, Said

_FIRST, _SECOND = human_texts(60, seed=51), human_texts(90, seed=52)


@pytest.fixture
def pool(begin: Callable[[str], Beginning], said: Said) -> tuple[Beginning, list[tuple[Artifact, Artifact]]]:
    """Two generations of candidates: 50 of 60 survived, then 80 of 90."""
    begun = begin("tiny")
    return begun, [
        said(begun.attempt(1), _FIRST, dropped=range(10)),
        said(begun.attempt(2), _SECOND, dropped=range(80, 90)),
    ]


def _mixed(
    pool: tuple[Beginning, list[tuple[Artifact, Artifact]]], seed: int = 0, **settings: object
) -> tuple[Artifact, list[dict]]:
    begun, said = pool
    corpus = mix(begun.attempt(2), begun.reserve, said, MixSettings.model_validate(settings), seed)
    return corpus, read_table(corpus.folder).to_pylist()


def _counts(rows: list[dict]) -> tuple[int, int, int]:
    """Records that are human, of generation 1, of generation 2."""
    return tuple(sum(row["source_generation"] == born for row in rows) for born in range(3))


def _reserve(pool: tuple[Beginning, list]) -> list[dict]:
    return read_table(pool[0].reserve.folder).to_pylist()


def test_without_candidates_the_corpus_is_the_reserve(begin: Callable[[str], Beginning]) -> None:
    begun = begin("tiny")
    rows = read_table(begun.corpus.folder).to_pylist()
    assert [row["id"] for row in rows] == read_table(begun.reserve.folder)["id"].to_pylist()
    assert read_manifest(begun.corpus.folder)["facts"] == {
        "corpus": len(rows),
        "human": len(rows),
        "human_fraction": 1.0,
        "snapshot": 1,
    }


def test_human_records_come_from_their_sources_in_the_shares_asked_for(pool: tuple[Beginning, list]) -> None:
    shares = {"letters.jsonl": 1.0}
    _, rows = _mixed(pool, policy="fixed-fraction", human_fraction=0.3, num_records=100, human_source_shares=shares)
    assert _counts(rows) == (30, 0, 70)
    with pytest.raises(ValueError, match="The mix requires 15 human records of source wiki, but only 0 are"):
        mix(
            pool[0].attempt(3),
            pool[0].reserve,
            pool[1],
            MixSettings(
                policy="fixed-fraction",
                human_fraction=0.3,
                num_records=100,
                human_source_shares={"letters.jsonl": 0.5, "wiki": 0.5},
            ),
            0,
        )


def test_replace_takes_the_newest_survivors_alone(pool: tuple[Beginning, list]) -> None:
    corpus, rows = _mixed(pool, policy="replace")
    assert [row["text"] for row in rows] == _SECOND[:80]
    assert read_manifest(corpus.folder)["facts"]["human_fraction"] == 0


def test_accumulate_takes_everything_so_far(pool: tuple[Beginning, list]) -> None:
    corpus, rows = _mixed(pool, policy="accumulate")
    human = len(_reserve(pool))
    assert _counts(rows) == (human, 50, 80)
    assert {row["text"] for row in rows if row["source_generation"] == 1} == set(_FIRST[10:])
    assert read_manifest(corpus.folder)["facts"]["human_fraction"] == human / (human + 130)


def test_accumulate_subsample_draws_as_many_as_the_reserve_from_everything(pool: tuple[Beginning, list]) -> None:
    human = len(_reserve(pool))
    _, rows = _mixed(pool, policy="accumulate-subsample")
    counts = _counts(rows)
    assert sum(counts) == human
    assert all(count > 0 for count in counts)


def test_a_subsample_has_the_size_that_was_asked_for(pool: tuple[Beginning, list]) -> None:
    assert len(_mixed(pool, policy="accumulate-subsample", num_records=77)[1]) == 77


def test_fixed_fraction_is_exact_to_the_record(pool: tuple[Beginning, list]) -> None:
    corpus, rows = _mixed(pool, policy="fixed-fraction", human_fraction=0.25, num_records=40)
    assert _counts(rows) == (10, 0, 30)
    facts = read_manifest(corpus.folder)["facts"]
    assert (facts["corpus"], facts["human"], facts["human_fraction"]) == (40, 10, 0.25)


def test_anchor_takes_every_human_record_and_the_newest_survivors(pool: tuple[Beginning, list]) -> None:
    _, rows = _mixed(pool, policy="anchor")
    assert _counts(rows) == (len(_reserve(pool)), 0, 80)


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
def test_every_record_is_in_a_corpus_once_and_with_its_text(pool: tuple[Beginning, list], settings: dict) -> None:
    corpus, rows = _mixed(pool, **settings)
    assert read_table(corpus.folder).schema.equals(CORPUS)
    texts = {row["id"]: row["text"] for row in _reserve(pool)}
    texts |= {f"g001-{place:07d}": text for place, text in enumerate(_FIRST)}
    texts |= {f"g002-{place:07d}": text for place, text in enumerate(_SECOND)}
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(texts[row["id"]] == row["text"] for row in rows)
    assert all((row["origin"] == "human") == (row["source_generation"] == 0) for row in rows)
    assert {row["weight"] for row in rows} == {1.0}


def test_a_draw_follows_its_seed(pool: tuple[Beginning, list], said: Said) -> None:
    begun, made = pool
    settings = MixSettings(policy="accumulate-subsample", num_records=60)

    def drawn(generation: int, seed: int) -> list[str]:
        return read_table(mix(begun.attempt(generation), begun.reserve, made, settings, seed).folder)["id"].to_pylist()

    assert drawn(2, 0) == drawn(2, 0)
    assert drawn(3, 1) != drawn(2, 0)


def test_more_than_there_is_cannot_be_asked_for(pool: tuple[Beginning, list]) -> None:
    with pytest.raises(ValueError, match="The mix requires 100 survivors, but only 80 are"):
        _mixed(pool, policy="fixed-fraction", human_fraction=0, num_records=100)
    assert not (pool[0].attempt(2).folder / "corpus").exists()


def test_a_corpus_of_nothing_is_refused(begin: Callable[[str], Beginning], said: Said) -> None:
    begun = begin("tiny")
    made = [said(begun.attempt(1), _FIRST[:3], dropped=range(3))]
    with pytest.raises(ValueError, match="curation left no record to learn from"):
        mix(begun.attempt(1), begun.reserve, made, MixSettings(policy="replace"), 0)
    assert not (begun.attempt(1).folder / "corpus").exists()


def test_survivors_with_rare_words_are_taken_as_often_as_people_write_them(
    pool: tuple[Beginning, list[tuple[Artifact, Artifact]]],
) -> None:
    fixed = {"policy": "fixed-fraction", "human_fraction": 0.0, "num_records": 40}
    human = [row["text"] for row in _reserve(pool)]
    counts = Counter(word for text in human for word in words(text))
    expected = Counter(rarest_word_bin(human, counts).tolist())
    _, rows = _mixed(pool, stratify_by="rarity", **fixed)
    found = Counter(rarest_word_bin([row["text"] for row in rows], counts).tolist())
    there = Counter(rarest_word_bin(_SECOND[:80], counts).tolist())
    assert len(rows) == 40
    for stratum, count in found.items():
        wanted = 40 * expected[stratum] / len(human)
        assert count >= min(there[stratum], wanted - 1)


def test_of_each_cell_of_a_grid_the_same_number_is_taken(begin: Callable[[str], Beginning]) -> None:
    begun = begin("tiny")
    made, decided = (begun.attempt(1).artifact(name, {}) for name in ("candidates", "decisions"))
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
    for artifact, content, schema in ((made, rows, CANDIDATES), (decided, lost, DECISIONS)):
        with artifact.draft() as draft:
            draft.write_part(pa.Table.from_pylist(content, schema=schema))
    _, taken = _mixed(
        (begun, [(made, decided)]),
        policy="fixed-fraction",
        human_fraction=0.0,
        num_records=16,
        stratify_by="attributes",
    )
    assert Counter(int(row["id"][-7:]) % 5 == 0 for row in taken) == {True: 8, False: 8}


def test_weights_by_origin_are_in_the_corpus(pool: tuple[Beginning, list[tuple[Artifact, Artifact]]]) -> None:
    _, rows = _mixed(pool, policy="anchor", human_repeats=2.0, synthetic_repeats=0.5)
    assert {(row["origin"], row["weight"]) for row in rows} == {("human", 2.0), ("synthetic", 0.5)}


def test_a_corpus_of_human_text_alone_weighs_nothing_against_another(begin: Callable[[str], Beginning]) -> None:
    begun = begin("tiny")
    corpus = mix(begun.attempt(0), begun.reserve, [], MixSettings(), 0)
    assert set(read_table(corpus.folder)["weight"].to_pylist()) == {1.0}


def test_shares_take_from_the_last_corpus_what_it_held(pool: tuple[Beginning, list[tuple[Artifact, Artifact]]]) -> None:
    begun, said = pool
    triples = [[0.5, 0.0, 0.5], [0.5, 0.4, 0.1]]
    chosen = MixSettings.model_validate({"policy": "mixture", "mixture_weights": triples, "num_records": 40})
    last = mix(begun.attempt(1), begun.reserve, said[:1], chosen, 0)
    rows = read_table(last.folder).to_pylist()
    assert _counts(rows) == (20, 20, 0)
    corpus = mix(begun.attempt(2), begun.reserve, said, chosen, 0, None, last)
    now = read_table(corpus.folder).to_pylist()
    assert sum(row["source_generation"] == 2 for row in now) == 20
    held = {row["id"] for row in rows}
    assert sum(row["id"] in held for row in now) >= 16
    assert len({row["id"] for row in now}) == 40
    assert corpus.parents["last"] == last.fingerprint
    other = mix(begun.attempt(3), begun.reserve, said, MixSettings(policy="replace"), 0, None, last)
    assert "last" not in other.parents
