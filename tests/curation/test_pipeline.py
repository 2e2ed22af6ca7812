from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.decisions import Decision, RecordSet
from curation.dedup.minhash import MinHashSettings
from curation.embeddings.base import Vectors
from curation.embeddings.encoders import HashingEncoder
from curation.pipeline import CurateSettings, FilterName, RecordMetadata, run_filters
from curation.selection.diversity import DiversitySettings

EMPTY_RECORDS = RecordSet((), (), ())
WORDS = MinHashSettings(threshold=0.6, shingle_length=1, num_bands=60, rows_per_band=1)


def _known(prefix: str, texts: Sequence[str], generation: int) -> RecordSet:
    return RecordSet([f"{prefix}{place}" for place in range(len(texts))], texts, [generation] * len(texts))


def _decided(
    texts: Sequence[str],
    *stages: FilterName,
    heldout: Sequence[str] = (),
    reserve: Sequence[str] = (),
    earlier: RecordSet = EMPTY_RECORDS,
    **changes: object,
) -> list[Decision]:
    chosen = CurateSettings.model_validate({"filters": stages, "encoder": "hashing", "minhash": WORDS, **changes})
    sieves = run_filters(
        _known("g", texts, 3),
        _known("o", heldout, 0),
        _known("h", reserve, 0),
        earlier,
        chosen,
        chosen.filters,
        _embed,
    )
    return [decision for made in sieves for decision in made]


def _embed(records: RecordSet) -> Vectors:
    return HashingEncoder().encode(records.texts)


def _dropped(decisions: list[Decision]) -> dict[str, str]:
    return {decision.id: decision.filter for decision in decisions if not decision.kept}


def test_each_sieve_drops_its_own_and_the_next_does_not_see_it() -> None:
    texts = [
        "?!",
        "the quiet garden sleeps under deep snow",
        "The quiet garden sleeps under DEEP snow",
        "held out words nobody may ever repeat",
        "a human wrote these seven words here",
        "the quiet garden sleeps under deep ice",
    ]
    decisions = _decided(
        texts,
        *("empty", "exact", "decontamination", "human_overlap", "minhash"),
        heldout=["held out words nobody may ever say"],
        reserve=["a human wrote these seven words once"],
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
_STAGES: tuple[FilterName, ...] = (
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
    st.lists(st.sampled_from(_STAGES), unique=True),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_there_is_one_decision_for_every_record_and_sieve_that_looked(
    texts: list[str], heldout: list[str], reserve: list[str], stages: list[FilterName]
) -> None:
    before = _known("e", ["ant bee cat"], 1)
    decisions = _decided(texts, *stages, heldout=heldout, reserve=reserve, earlier=before)
    records = [f"g{place}" for place in range(len(texts))]
    for stage in stages:
        made = [decision for decision in decisions if decision.filter == stage]
        assert [decision.id for decision in made] == records
        records = [decision.id for decision in made if decision.kept]
    assert len(decisions) == sum(1 for decision in decisions if decision.filter in stages)
    generations = {"g": 3, "e": 1, "o": 0, "h": 0}
    for decision in decisions:
        assert bool(decision.reason) != decision.kept
        if decision.duplicate_of is not None:
            assert not decision.kept
            assert decision.duplicate_of_generation == generations[decision.duplicate_of[0]]
        assert decision.duplicate_of != decision.id


def test_a_keeper_of_an_earlier_generation_is_named_with_it() -> None:
    before = RecordSet(["e0", "e1"], ["nothing like it", "the OLD river"], [1, 2])
    exact, near = (
        _decided(["the old river"], "exact", earlier=before),
        _decided(["old river"], "minhash", earlier=before),
    )
    assert (exact[0].duplicate_of, exact[0].duplicate_of_generation, exact[0].score) == ("e1", 2, 1.0)
    assert (near[0].duplicate_of, near[0].duplicate_of_generation, near[0].score) == ("e1", 2, 2 / 3)
    assert near[0].estimated_jaccard == pytest.approx(2 / 3, abs=4 * 0.061)


def test_a_record_dropped_once_keeps_nobody_else_away() -> None:
    # b repeats a human record; c is near b alone, so it stays.
    decisions = _decided(
        ["b c d e", "c d e f"], "human_overlap", "minhash", reserve=["a b c d e"], overlap_threshold=0.7
    )
    assert _dropped(decisions) == {"g0": "human_overlap"}


def test_candidates_among_themselves_are_neither_copying_nor_contamination() -> None:
    same = ["the old river runs", "the old river runs"]
    for stage in ("human_overlap", "decontamination"):
        decisions = _decided(same, stage, reserve=["something else"], heldout=["something else"])
        assert _dropped(decisions) == {}
        assert [decision.score for decision in decisions] == [None, None]


@pytest.mark.parametrize("stage", ["human_overlap", "decontamination"])
def test_a_copy_goes_even_where_another_candidate_is_nearer_to_it(stage: FilterName) -> None:
    human = ["one two three four five six seven"]
    texts = [f"{human[0]} nine ten eleven twelve", f"{human[0]} nine ten eleven"]
    decisions = _decided(texts, stage, reserve=human, heldout=human, overlap_threshold=0.65)
    assert [decision.score for decision in decisions] == [7 / 11, 7 / 10]
    assert _dropped(decisions) == {"g1": stage}
    assert decisions[1].duplicate_of in ("h0", "o0")


def test_a_withheld_passage_quoted_inside_a_long_text_is_contamination() -> None:
    passage = "of all the letters that came home that winter only seven were ever answered"
    around = " ".join(f"word{number}" for number in range(90))
    texts = [f"{around} {passage} {around}", "so it went on and on"]
    decisions = _decided(texts, "decontamination", heldout=["nothing of the kind", passage])
    (dropped, kept) = decisions
    assert (dropped.kept, dropped.reason, dropped.duplicate_of) == (False, "quotes a withheld record", "o1")
    assert (dropped.score, dropped.estimated_jaccard) == (14.0, None)
    assert kept.kept
    assert _dropped(_decided(texts, "decontamination", heldout=[passage], shared_words=15)) == {"g0": "decontamination"}
    assert _dropped(_decided(texts, "decontamination", heldout=[f"{passage} at all"], shared_words=16)) == {}


def test_copying_has_its_own_threshold() -> None:
    human, said = ["a b c d e f g h i j"], ["a b c d e f g"]
    assert _dropped(_decided(said, "human_overlap", reserve=human, overlap_threshold=0.7)) == {"g0": "human_overlap"}
    assert _dropped(_decided(said, "human_overlap", reserve=human, overlap_threshold=0.71)) == {}


def test_the_held_out_set_and_the_reserve_are_not_mixed_up() -> None:
    assert _dropped(_decided(["a b c d"], "decontamination", reserve=["a b c d"])) == {}
    assert _dropped(_decided(["a b c d"], "human_overlap", heldout=["a b c d"])) == {}


def test_semantic_duplicates_go_by_their_vectors() -> None:
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
def test_diversity_keeps_its_share_and_says_what_each_added(fraction: float, kept: int) -> None:
    texts = [
        f"{word} {word} {word}" for word in ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"]
    ]
    decisions = _decided(texts, "diversity", diversity=DiversitySettings(keep_fraction=fraction))
    assert sum(decision.kept for decision in decisions) == kept
    assert all((decision.score is not None) == decision.kept for decision in decisions)
    assert all(decision.kept or decision.reason == "others already cover it" for decision in decisions)


def test_diversity_goes_by_sources_and_quality_where_it_is_asked_to() -> None:
    texts = _known("g", ["ant", "bee bee", "cat cat cat", "dog dog dog dog"], 1)
    traits = RecordMetadata(["x", "x", "y", "y"], np.array([-1.0, -2, -3, -4]))

    def kept(**changes: object) -> set[str]:
        chosen = CurateSettings.model_validate({"diversity": {"keep_fraction": 0.5, **changes}})
        (made,) = run_filters(
            texts, EMPTY_RECORDS, EMPTY_RECORDS, EMPTY_RECORDS, chosen, ("diversity",), _embed, lambda _: traits
        )
        return {decision.id for decision in made if decision.kept}

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


@pytest.mark.parametrize(("stages", "times"), [(("empty", "exact", "minhash"), 0), (("semantic", "diversity"), 1)])
def test_vectors_are_asked_for_once_and_only_if_a_sieve_needs_them(stages: tuple[FilterName, ...], times: int) -> None:
    asked: list[RecordSet] = []

    def embed(records: RecordSet) -> Vectors:
        asked.append(records)
        return _embed(records)

    texts = _known("g", ["one text", "two texts"], 1)
    made = list(run_filters(texts, EMPTY_RECORDS, EMPTY_RECORDS, EMPTY_RECORDS, CurateSettings(), stages, embed))
    assert len(made) == len(stages)
    assert asked == [texts] * times


def test_no_sieves_make_no_decisions_and_no_candidates_pass_every_sieve() -> None:
    assert _decided(["a", "a"]) == []
    assert _decided([], *_STAGES, reserve=["a b c"], heldout=["d e f"]) == []


def test_stays_of_a_sieve_are_taken_in_order() -> None:
    known = _known("g", ["a", "b", "c"], 2)
    assert known.take(np.array([2, 0])) == RecordSet(["g2", "g0"], ["c", "a"], [2, 2])


def test_texts_are_encoded_only_where_they_are_still_there() -> None:
    seen: list[Sequence[str]] = []

    def embed(records: RecordSet) -> Vectors:
        seen.append(records.texts)
        return _embed(records)

    texts = _known("g", ["same words", "same words", "other things"], 1)
    list(
        run_filters(
            texts,
            EMPTY_RECORDS,
            EMPTY_RECORDS,
            EMPTY_RECORDS,
            CurateSettings(),
            ("exact", "semantic", "diversity"),
            embed,
        )
    )
    assert seen == [["same words", "other things"]]


def test_sieves_that_were_passed_before_are_not_passed_again() -> None:
    texts = ["aaaa", "aaaa", "bbbb", "cccc", "bbbb", "!"]
    whole = _decided(texts, "empty", "exact", "minhash", "diversity")
    for passed in range(5):
        stages: tuple[FilterName, ...] = ("empty", "exact", "minhash", "diversity")
        before = [decision for decision in whole if decision.filter in stages[:passed]]
        records = _known("g", texts, 3).exclude(_dropped(before))
        chosen = CurateSettings(filters=stages, minhash=WORDS)
        after = run_filters(records, EMPTY_RECORDS, EMPTY_RECORDS, EMPTY_RECORDS, chosen, stages[passed:], _embed)
        assert before + [decision for made in after for decision in made] == whole


@pytest.mark.parametrize(
    "wrong", [{"filters": ["fuzzy"]}, {"overlap_threshold": 0}, {"overlap_threshold": 1.5}, {"threshold": 0.5}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CurateSettings.model_validate(wrong)


def test_sieves_that_look_at_a_text_by_itself_say_why_and_by_which_number() -> None:
    decisions = _decided(["one two three four", "one"], "quality", quality={"words": (2, 9)})
    assert [(one.kept, one.reason, one.score) for one in decisions] == [
        (True, "", None),
        (False, "words below 2", 1.0),
    ]


def test_surprise_is_looked_up_by_id() -> None:
    chosen = CurateSettings.model_validate({"filters": ["perplexity"], "perplexity": {"quantiles": (0.5, 1)}})
    texts = _known("g", ["a", "b", "c"], 1)
    said = {"g2": -1.0, "g0": -5.0}

    def describe(records: RecordSet) -> RecordMetadata:
        return RecordMetadata(
            [""] * len(records.ids), np.array([said.get(identity, np.nan) for identity in records.ids])
        )

    (made,) = run_filters(texts, EMPTY_RECORDS, EMPTY_RECORDS, EMPTY_RECORDS, chosen, chosen.filters, _embed, describe)
    assert [(one.id, one.kept, one.score) for one in made] == [
        ("g0", True, 5.0),
        ("g1", True, None),
        ("g2", False, 1.0),
    ]


def test_meaning_is_held_against_others_where_there_are_some() -> None:
    chosen = CurateSettings(filters=("semantic",), encoder="hashing")
    others = _known("o", ["nothing of it", "the old river runs"], 0)
    texts = _known("g", ["the old river runs", "fields of barley"], 1)
    (made,) = run_filters(
        texts, EMPTY_RECORDS, EMPTY_RECORDS, EMPTY_RECORDS, chosen, chosen.filters, _embed, semantic_reference=others
    )
    assert [(one.kept, one.duplicate_of) for one in made] == [(False, "o1"), (True, None)]


def _answers(texts: Sequence[str], askings: Sequence[int], objective: str, **more: object) -> list[Decision]:
    chosen = CurateSettings.model_validate(
        {"filters": ["best_of", *more.pop("then", ())], "encoder": "hashing", "best_of": {"objective": objective}}  # type: ignore[misc]
    )
    rows = dict(zip([f"g{place}" for place in range(len(texts))], askings, strict=True))

    def describe(records: RecordSet) -> RecordMetadata:
        return RecordMetadata((), np.zeros(0), ["?"] * len(records.ids), [rows[identity] for identity in records.ids])

    exist = _embed(_known("h", ["the quiet garden sleeps"], 0))
    sieves = run_filters(
        *(_known("g", texts, 3), EMPTY_RECORDS, EMPTY_RECORDS, EMPTY_RECORDS, chosen, chosen.filters, _embed, describe),
        load_reference_vectors=lambda: exist,
    )
    return [decision for made in sieves for decision in made]


def test_the_best_answer_to_each_prompt_stays_and_the_others_name_it() -> None:
    made = _answers(["a b", "a b c", "a", "x"], [0, 0, 1, 1], "length")
    assert [(one.id, one.kept, one.duplicate_of, one.score) for one in made] == [
        ("g0", False, "g1", 2),
        ("g1", True, None, 3),
        ("g2", True, None, 1),
        ("g3", False, "g2", 1),
    ]
    assert made[0].reason == "another answer is better"


def test_the_answer_that_is_farthest_from_what_exists_stays_and_goes_on_to_the_next_sieve() -> None:
    texts = ["the quiet garden sleeps", "old ships crossed oceans", "old ships crossed oceans"]
    made = _answers(texts, [0, 0, 1], "distance", then=("exact",))
    assert [(one.filter, one.id) for one in made if one.kept] == [("best_of", "g1"), ("best_of", "g2"), ("exact", "g1")]
    assert made[0].score == pytest.approx(0, abs=1e-6)


def test_only_a_best_of_by_distance_needs_an_encoder() -> None:
    assert not CurateSettings(filters=("best_of",)).needs_embeddings
    assert CurateSettings.model_validate(
        {"filters": ["best_of"], "best_of": {"objective": "distance"}}
    ).needs_embeddings


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
    "stage", ["empty", "exact", "quality", "decontamination", "human_overlap", "minhash", "semantic", "diversity"]
)
def test_an_odd_text_is_judged_like_any_other(stage: FilterName) -> None:
    texts = [*_ODD.values(), *_ODD.values(), "an ordinary text of a few words"]
    decisions = _decided(texts, stage, heldout=texts[:3], reserve=[*_ODD.values()])
    assert [decision.id for decision in decisions] == [f"g{place}" for place in range(len(texts))]
    dropped = {place for place, decision in enumerate(decisions) if not decision.kept}
    odd = len(_ODD)
    if stage == "exact":
        assert dropped == set(range(odd, 2 * odd))
    if stage == "empty":
        wordless = {place for place, name in enumerate(_ODD) if name in ("nothing", "signs", "control", "emoji")}
        assert dropped == wordless | {place + odd for place in wordless}
    if stage in ("minhash", "human_overlap"):
        # A text without a word is like no other.
        assert {place % odd for place in dropped} == {2, 4, 6, 7, 8, 9}
        assert stage == "human_overlap" or min(dropped) >= odd
    if stage != "diversity":
        assert 2 * odd not in dropped


@pytest.mark.parametrize("stage", ["empty", "exact", "quality", "minhash"])
def test_ten_megabytes_in_one_text_are_judged_like_any_other(stage: FilterName) -> None:
    huge = "the quick brown fox jumps over the lazy dog and runs away\n" * 180_000
    assert len(huge) > 10_000_000
    kept = [decision.kept for decision in _decided([huge, "a few words of the river"], stage)]
    assert kept == [stage != "quality", True]
