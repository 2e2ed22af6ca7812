from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.decisions import EMPTY_RECORDS, RecordSet
from curation.dedup.minhash import MinHashSettings
from curation.embeddings.base import Vectors
from curation.embeddings.encoders import HashingEncoder
from curation.filters.base import FilterContext, RecordMetadata
from curation.pipeline import CurateSettings, run_filters
from curation.selection.diversity import DiversitySettings

WORDS = MinHashSettings(threshold=0.6, shingle_length=1, num_bands=60, rows_per_band=1)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One row of a decision table."""

    id: str
    filter: str
    kept: bool
    reason: str
    score: float | None
    duplicate_of: str | None
    duplicate_of_generation: int | None
    estimated_jaccard: float | None


def _records(prefix: str, texts: Sequence[str], generation: int) -> RecordSet:
    return RecordSet([f"{prefix}{row}" for row in range(len(texts))], texts, [generation] * len(texts))


def _rows(tables: Sequence[pa.Table]) -> list[Decision]:
    return [Decision(**row) for table in tables for row in table.to_pylist()]


def _run(records: RecordSet, settings: CurateSettings, **context: Any) -> list[Decision]:
    return _rows([*run_filters(settings.build_filters(), records, FilterContext(**{"embed": _embed} | context))])


def _decided(
    texts: Sequence[str],
    *filters: str,
    heldout: Sequence[str] = (),
    human: Sequence[str] = (),
    survivors: RecordSet = EMPTY_RECORDS,
    **changes: object,
) -> list[Decision]:
    chosen = CurateSettings.model_validate({"filters": filters, "encoder": "hashing", "minhash": WORDS, **changes})
    protected, human_train = _records("o", heldout, 0), _records("h", human, 0)
    return _run(_records("g", texts, 3), chosen, protected=protected, human_train=human_train, survivors=survivors)


def _embed(records: RecordSet) -> Vectors:
    return HashingEncoder().encode(records.text_list)


def _dropped(decisions: list[Decision]) -> dict[str, str]:
    return {decision.id: decision.filter for decision in decisions if not decision.kept}


def test_each_filter_drops_its_own_and_the_next_does_not_see_it() -> None:
    texts = [
        "?!",
        "the quiet garden sleeps under deep snow",
        " the quiet garden sleeps under deep snow  ",
        "held out words no model may repeat",
        "a human wrote these seven words here",
        "the quiet garden sleeps under deep ice",
    ]
    decisions = _decided(
        texts,
        *("empty", "exact", "decontamination", "human_overlap", "minhash"),
        heldout=["held out words no model may say"],
        human=["a human wrote these seven words once"],
    )
    looked_at = Counter(decision.filter for decision in decisions)
    assert looked_at == {"empty": 6, "exact": 5, "decontamination": 4, "human_overlap": 3, "minhash": 2}
    assert _dropped(decisions) == {
        "g0": "empty",
        "g2": "exact",
        "g3": "decontamination",
        "g4": "human_overlap",
        "g5": "minhash",
    }
    assert [decision.filter for decision in decisions if decision.id == "g1"] == list(looked_at)
    assert {decision.id: decision.duplicate_of for decision in decisions if not decision.kept} == {
        "g0": None,
        "g2": "g1",
        "g3": "o0",
        "g4": "h0",
        "g5": "g1",
    }


_SENTENCES = st.lists(st.sampled_from(["ant", "bee", "cat", "dog", "elk", "!"]), max_size=5).map(" ".join)
_FILTERS: tuple[str, ...] = (
    "empty",
    "exact",
    "decontamination",
    "human_overlap",
    "minhash",
    "semantic",
    "diversity",
)


@given(
    st.lists(_SENTENCES, max_size=12),
    st.lists(_SENTENCES, max_size=4),
    st.lists(_SENTENCES, max_size=4),
    st.lists(st.sampled_from(_FILTERS), unique=True),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_there_is_one_decision_for_every_record_and_filter_that_it_reached(
    texts: list[str], heldout: list[str], reserve: list[str], filters: list[str]
) -> None:
    before = _records("e", ["ant bee cat"], 1)
    decisions = _decided(texts, *filters, heldout=heldout, human=reserve, survivors=before)
    records = [f"g{place}" for place in range(len(texts))]
    for name in filters:
        made = [decision for decision in decisions if decision.filter == name]
        assert [decision.id for decision in made] == records
        records = [decision.id for decision in made if decision.kept]
    assert len(decisions) == sum(1 for decision in decisions if decision.filter in filters)
    generations = {"g": 3, "e": 1, "o": 0, "h": 0}
    for decision in decisions:
        assert bool(decision.reason) != decision.kept
        if decision.duplicate_of is not None:
            assert not decision.kept
            assert decision.duplicate_of_generation == generations[decision.duplicate_of[0]]
        assert decision.duplicate_of != decision.id


def test_a_representative_of_an_earlier_generation_is_named_with_it() -> None:
    before = RecordSet(["e0", "e1"], ["nothing like it", " the old river"], [1, 2])
    exact, near = (
        _decided(["the old river"], "exact", survivors=before),
        _decided(["old river"], "minhash", survivors=before),
    )
    assert (exact[0].duplicate_of, exact[0].duplicate_of_generation, exact[0].score) == ("e1", 2, 1.0)
    assert (near[0].duplicate_of, near[0].duplicate_of_generation, near[0].score) == ("e1", 2, 2 / 3)
    assert near[0].estimated_jaccard == pytest.approx(2 / 3, abs=4 * 0.061)


def test_a_dropped_record_does_not_cause_another_to_be_dropped() -> None:
    # b repeats a human record; c is near b alone, so it stays.
    decisions = _decided(
        ["b c d e", "c d e f"],
        "human_overlap",
        "minhash",
        human=["a b c d e"],
        decontamination={"jaccard_threshold": 0.7},
    )
    assert _dropped(decisions) == {"g0": "human_overlap"}


def test_candidates_are_not_compared_with_each_other_by_human_overlap_and_decontamination() -> None:
    same = ["the old river runs", "the old river runs"]
    for name in ("human_overlap", "decontamination"):
        decisions = _decided(same, name, human=["something else"], heldout=["something else"])
        assert _dropped(decisions) == {}
        assert [decision.score for decision in decisions] == [None, None]


@pytest.mark.parametrize("name", ["human_overlap", "decontamination"])
def test_a_copy_goes_even_where_another_candidate_is_nearer_to_it(name: str) -> None:
    human = ["one two three four five six seven"]
    texts = [f"{human[0]} nine ten eleven twelve", f"{human[0]} nine ten eleven"]
    decisions = _decided(texts, name, human=human, heldout=human, decontamination={"jaccard_threshold": 0.65})
    assert [decision.score for decision in decisions] == [7 / 11, 7 / 10]
    assert _dropped(decisions) == {"g1": name}
    assert decisions[1].duplicate_of in ("h0", "o0")


def test_a_protected_passage_quoted_inside_a_long_text_is_contamination() -> None:
    passage = "of all the letters that came home that winter only seven were ever answered"
    around = " ".join(f"word{number}" for number in range(90))
    texts = [f"{around} {passage} {around}", "so it went on and on"]
    decisions = _decided(texts, "decontamination", heldout=["nothing of the kind", passage])
    (dropped, kept) = decisions
    assert (dropped.kept, dropped.reason, dropped.duplicate_of) == (False, "quotes a protected record", "o1")
    assert (dropped.score, dropped.estimated_jaccard) == (14.0, None)
    assert kept.kept
    assert _dropped(_decided(texts, "decontamination", heldout=[passage], decontamination={"ngram_length": 15})) == {
        "g0": "decontamination"
    }
    assert (
        _dropped(
            _decided(texts, "decontamination", heldout=[f"{passage} at all"], decontamination={"ngram_length": 16})
        )
        == {}
    )


def test_human_overlap_has_its_own_threshold() -> None:
    human, candidates = ["a b c d e f g h i j"], ["a b c d e f g"]
    assert _dropped(_decided(candidates, "human_overlap", human=human, decontamination={"jaccard_threshold": 0.7})) == {
        "g0": "human_overlap"
    }
    assert (
        _dropped(_decided(candidates, "human_overlap", human=human, decontamination={"jaccard_threshold": 0.71})) == {}
    )


def test_held_out_and_human_training_records_are_not_mixed_up() -> None:
    assert _dropped(_decided(["a b c d"], "decontamination", human=["a b c d"])) == {}
    assert _dropped(_decided(["a b c d"], "human_overlap", heldout=["a b c d"])) == {}


def test_semantic_duplicates_are_dropped_by_their_vectors() -> None:
    texts = ["The old river runs east", "the old river runs east!", "Quantum fields commute"]
    decisions = _decided(texts, "semantic", semantic={"threshold": 0.9})
    first, other, _ = HashingEncoder().encode(texts)
    assert _dropped(decisions) == {"g1": "semantic"}
    assert decisions[1].duplicate_of == "g0"
    assert decisions[1].score == pytest.approx(float(first @ other), abs=1e-6)


def test_vectors_stay_with_their_records_after_a_drop() -> None:
    texts = ["aaaa", "aaaa", "bbbb", "cccc", "bbbb"]
    decisions = _decided(texts, "semantic", "diversity", semantic={"threshold": 0.99})
    assert _dropped(decisions) == {"g1": "semantic", "g4": "semantic"}
    alone = _decided(["aaaa", "bbbb", "cccc"], "diversity")
    gains = [decision.score for decision in decisions if decision.filter == "diversity"]
    assert gains == [decision.score for decision in alone]


@pytest.mark.parametrize(("fraction", "kept"), [(0.5, 5), (0.25, 2), (1.0, 10)])
def test_diversity_keeps_its_share_and_stores_what_each_added(fraction: float, kept: int) -> None:
    texts = [
        f"{word} {word} {word}" for word in ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"]
    ]
    decisions = _decided(texts, "diversity", diversity=DiversitySettings(keep_fraction=fraction))
    assert sum(decision.kept for decision in decisions) == kept
    assert all((decision.score is not None) == decision.kept for decision in decisions)
    assert all(decision.kept or decision.reason == "others already cover it" for decision in decisions)


def test_diversity_uses_sources_and_quality_where_the_settings_say_so() -> None:
    records = _records("g", ["ant", "bee bee", "cat cat cat", "dog dog dog dog"], 1)
    metadata = RecordMetadata(["x", "x", "y", "y"], np.array([-1.0, -2, -3, -4]))

    def kept(**changes: object) -> set[str]:
        chosen = CurateSettings.model_validate(
            {"filters": ["diversity"], "diversity": {"keep_fraction": 0.5, **changes}}
        )
        decisions = _run(records, chosen, describe=lambda _: metadata)
        return {decision.id for decision in decisions if decision.kept}

    assert kept(diversity_weight=0) == {"g0", "g1"}
    assert kept(diversity_weight=0, strata="source") == {"g0", "g2"}
    assert kept(diversity_weight=0, quality="words") == {"g2", "g3"}
    assert kept(diversity_weight=0, quality="words", strata="source") == {"g1", "g3"}


def test_how_vectors_are_made_is_decided_only_where_some_are() -> None:
    before = {"embedding": {"backend": "torch", "precision": "bfloat16"}}
    assert CurateSettings().resolve_auto(before).embedding.precision == "bfloat16"
    assert CurateSettings().resolve_auto().embedding.precision != "auto"
    without = CurateSettings(filters=("exact", "minhash"))
    assert without.resolve_auto(before) == without


@pytest.mark.parametrize(("filters", "times"), [(("empty", "exact", "minhash"), 0), (("semantic", "diversity"), 1)])
def test_records_are_embedded_once_and_only_if_a_filter_needs_it(filters: tuple[str, ...], times: int) -> None:
    embedded: list[RecordSet] = []

    def embed(records: RecordSet) -> Vectors:
        embedded.append(records)
        return _embed(records)

    records = _records("g", ["one text", "two texts"], 1)
    assert len(_run(records, CurateSettings(filters=filters), embed=embed)) == 2 * len(filters)
    assert embedded == [records] * times


def test_no_filters_make_no_decisions_and_no_candidates_pass_every_filter() -> None:
    assert _decided(["a", "a"]) == []
    assert _decided([], *_FILTERS, human=["a b c"], heldout=["d e f"]) == []


def test_only_records_that_are_still_there_are_embedded() -> None:
    embedded: list[Sequence[str]] = []

    def embed(records: RecordSet) -> Vectors:
        embedded.append(records.text_list)
        return _embed(records)

    records = _records("g", ["same words", "same words", "other things"], 1)
    _run(records, CurateSettings(filters=("exact", "semantic", "diversity")), embed=embed)
    assert embedded == [["same words", "other things"]]


def test_a_resumed_pipeline_decides_as_a_whole_one() -> None:
    texts = ["aaaa", "aaaa", "bbbb", "cccc", "bbbb", "!"]
    filters = ("empty", "exact", "minhash", "diversity")
    whole = _decided(texts, *filters)
    for passed in range(5):
        before = [decision for decision in whole if decision.filter in filters[:passed]]
        records = _records("g", texts, 3).exclude(_dropped(before))
        chosen = CurateSettings(filters=filters, minhash=WORDS)
        after = run_filters(chosen.build_filters()[passed:], records, FilterContext(embed=_embed))
        assert before + _rows([*after]) == whole


@pytest.mark.parametrize(
    "wrong",
    [
        {"filters": ["fuzzy"]},
        {"decontamination": {"jaccard_threshold": 0}},
        {"decontamination": {"jaccard_threshold": 1.5}},
        {"threshold": 0.5},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CurateSettings.model_validate(wrong)


def test_filters_of_single_texts_store_the_reason_and_the_score() -> None:
    decisions = _decided(["one two three four", "one"], "quality", quality={"words": {"min": 2, "max": 9}})
    assert [(one.kept, one.reason, one.score) for one in decisions] == [
        (True, "", None),
        (False, "words below 2", 1.0),
    ]


def test_log_probabilities_are_looked_up_by_id() -> None:
    chosen = CurateSettings.model_validate({"filters": ["perplexity"], "perplexity": {"quantiles": (0.5, 1)}})
    mean_logprobs = {"g2": -1.0, "g0": -5.0}

    def describe(records: RecordSet) -> RecordMetadata:
        ids = records.ids.to_pylist()
        return RecordMetadata([""] * len(ids), np.array([mean_logprobs.get(each, np.nan) for each in ids]))

    decisions = _run(_records("g", ["a", "b", "c"], 1), chosen, describe=describe)
    assert [(row.id, row.kept, row.score) for row in decisions] == [
        ("g0", True, 5.0),
        ("g1", True, None),
        ("g2", False, 1.0),
    ]


def test_embeddings_are_compared_with_references_where_there_are_some() -> None:
    references = _records("o", ["nothing of it", "the old river runs"], 0)
    records = _records("g", ["the old river runs", "fields of barley"], 1)
    decisions = _run(records, CurateSettings(filters=("semantic",), encoder="hashing"), references=references)
    assert [(row.kept, row.duplicate_of) for row in decisions] == [(False, "o1"), (True, None)]


def _completions(
    texts: Sequence[str], prompt_ids: Sequence[int], objective: str, then: Sequence[str] = ()
) -> list[Decision]:
    chosen = CurateSettings.model_validate(
        {"filters": ["best_of", *then], "encoder": "hashing", "best_of": {"objective": objective}}
    )
    by_id = dict(zip([f"g{row}" for row in range(len(texts))], prompt_ids, strict=True))

    def describe(records: RecordSet) -> RecordMetadata:
        ids = records.ids.to_pylist()
        return RecordMetadata((), np.zeros(0), ["?"] * len(ids), [by_id[each] for each in ids])

    known = _embed(_records("h", ["the quiet garden sleeps"], 0))
    return _run(_records("g", texts, 3), chosen, describe=describe, embed_known=lambda: known)


def test_the_best_completion_of_each_prompt_is_kept_and_the_others_name_it() -> None:
    made = _completions(["a b", "a b c", "a", "x"], [0, 0, 1, 1], "length")
    assert [(one.id, one.kept, one.duplicate_of, one.score) for one in made] == [
        ("g0", False, "g1", 2),
        ("g1", True, None, 3),
        ("g2", True, None, 1),
        ("g3", False, "g2", 1),
    ]
    assert made[0].reason == "another answer is better"


def test_the_completion_farthest_from_known_texts_is_kept_and_reaches_the_next_filter() -> None:
    texts = ["the quiet garden sleeps", "old ships crossed oceans", "old ships crossed oceans"]
    made = _completions(texts, [0, 0, 1], "distance", then=("exact",))
    assert [(one.filter, one.id) for one in made if one.kept] == [("best_of", "g1"), ("best_of", "g2"), ("exact", "g1")]
    assert made[0].score == pytest.approx(0, abs=1e-6)


def test_only_a_best_of_by_distance_needs_an_encoder() -> None:
    by_diversity = CurateSettings(filters=("best_of",))
    by_distance = CurateSettings.model_validate({"filters": ["best_of"], "best_of": {"objective": "distance"}})
    assert [each.needs for each in by_diversity.build_filters()] == [{"metadata"}]
    assert [each.needs for each in by_distance.build_filters()] == [{"metadata", "embeddings"}]


_ODD = {
    "nothing": "",
    "signs": "?! \u2026 ---",
    "one word": "word",
    "control": "\x00\x1f\x7f\ufeff\u200b",
    "surrogates": "\ud800 and \udfff\udc00",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f389\U0001f389",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u0645\u0631\u062d\u0628\u0627 \u202eabc",
    "mixed": "\u65e5\u672c\u8a9e and English, \u0939\u093f\u0928\u094d\u0926\u0940, \u0e44\u0e17\u0e22",
    "marks": "e" + "\u0301" * 500,
    "one long word": "x" * 100_000,
}


@pytest.mark.parametrize(
    "name", ["empty", "exact", "quality", "decontamination", "human_overlap", "minhash", "semantic", "diversity"]
)
def test_an_odd_text_is_judged_like_any_other(name: str) -> None:
    texts = [*_ODD.values(), *_ODD.values(), "an ordinary text of a few words"]
    decisions = _decided(texts, name, heldout=texts[:3], human=[*_ODD.values()])
    assert [decision.id for decision in decisions] == [f"g{place}" for place in range(len(texts))]
    dropped = {place for place, decision in enumerate(decisions) if not decision.kept}
    odd = len(_ODD)
    if name == "exact":
        assert dropped == set(range(odd, 2 * odd))
    if name == "empty":
        wordless = {place for place, name in enumerate(_ODD) if name in ("nothing", "signs", "control", "emoji")}
        assert dropped == wordless | {place + odd for place in wordless}
    if name in ("minhash", "human_overlap"):
        # A text without a word or a symbol is like no other.
        assert {place % odd for place in dropped} == {1, 2, 4, 5, 6, 7, 8, 9}
        assert name == "human_overlap" or min(dropped) >= odd
    if name != "diversity":
        assert 2 * odd not in dropped


@pytest.mark.slow
@pytest.mark.parametrize("name", ["empty", "exact", "quality", "minhash"])
def test_ten_megabytes_in_one_text_are_judged_like_any_other(name: str) -> None:
    huge = "the quick brown fox jumps over the lazy dog and runs away\n" * 180_000
    assert len(huge) > 10_000_000
    kept = [decision.kept for decision in _decided([huge, "a few words of the river"], name)]
    assert kept == [name != "quality", True]
